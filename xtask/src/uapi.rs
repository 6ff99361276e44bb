//! `cargo xtask uapi`: the kernel's constants, taken from its headers.
//!
//! bindgen reads `linux/bpf.h` and `linux/btf.h` as libbpf-sys ships them; what it finds becomes
//! plain `u32` constants for the plan crate and `#define`s for the fixtures, so that nobody
//! types a number by hand and fixtures need no system headers.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::repo;

const RUST_FILE: &str = "plan/src/uapi.rs";
const C_FILE: &str = "fixtures/include/bpfplan_uapi.h";

/// bindgen looks here for libclang before it looks anywhere else.
const LIBCLANG_PATH: &str = "LIBCLANG_PATH";

/// One constant; `group` is the C type that it belongs to.
struct Constant {
    name: String,
    group: String,
    value: u32,
}

/// Generates both files, or with `check` compares them.
pub(crate) fn run(check: bool) -> Result<()> {
    if std::env::var_os(LIBCLANG_PATH).is_none() {
        return match libclang_dir() {
            Some(dir) => run_again_with(&dir, check),
            None if check => {
                println!("{RUST_FILE}: skipped: no libclang in /usr/lib/llvm-*/lib");
                Ok(())
            }
            None => bail!("no libclang in /usr/lib/llvm-*/lib: apt-get install libclang1-22"),
        };
    }
    let constants = parse(&bindings()?)?;
    repo::write_or_check(RUST_FILE, &rust_file(&constants)?, check)?;
    repo::write_or_check(C_FILE, &c_file(&constants)?, check)
}

/// The newest `/usr/lib/llvm-<n>/lib` that has a libclang.
fn libclang_dir() -> Option<PathBuf> {
    let version = |name: &str| name.strip_prefix("llvm-")?.parse::<u32>().ok();
    let mut dirs: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib")
        .ok()?
        .flatten()
        .filter_map(|entry| {
            Some((
                version(entry.file_name().to_str()?)?,
                entry.path().join("lib"),
            ))
        })
        .filter(|(_, dir)| has_libclang(dir))
        .collect();
    dirs.sort();
    dirs.pop().map(|(_, dir)| dir)
}

fn has_libclang(dir: &std::path::Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libclang.so") || name.starts_with("libclang-") && name.contains(".so")
    })
}

/// An environment variable of the own process cannot be set without `unsafe`; a child's can.
fn run_again_with(libclang: &std::path::Path, check: bool) -> Result<()> {
    let mut command = Command::new(std::env::current_exe().context("cannot find myself")?);
    command
        .arg("uapi")
        .args(check.then_some("--check"))
        .env(LIBCLANG_PATH, libclang);
    if command
        .status()
        .context("cannot start cargo xtask uapi")?
        .success()
    {
        return Ok(());
    }
    bail!(
        "generating with the libclang in {} failed",
        libclang.display()
    )
}

/// What bindgen makes of the headers: Rust source.
fn bindings() -> Result<String> {
    let include = repo::package_dir("libbpf-sys")?.join("libbpf/include/uapi");
    let include = include
        .to_str()
        .context("the path of libbpf-sys is not UTF-8")?;
    let bindings = bindgen::Builder::default()
        .header_contents("uapi.h", "#include <linux/bpf.h>\n#include <linux/btf.h>\n")
        .clang_arg(format!("-I{include}"))
        .allowlist_type("bpf_map_type|bpf_cmd|btf_func_linkage|bpf_func_id")
        // An anonymous enum comes whole as soon as one of its constants is named.
        .allowlist_var("BPF_F_NO_PREALLOC|BPF_ANY|BPF_OBJ_NAME_LEN|BTF_.*")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(false)
        .formatter(bindgen::Formatter::Rustfmt)
        .generate()
        .context("bindgen cannot read the kernel headers")?;
    Ok(bindings.to_string())
}

/// The constants in bindgen's output; a constant that is not a `u32` is an error.
fn parse(source: &str) -> Result<Vec<Constant>> {
    let mut constants = Vec::new();
    for line in source.lines() {
        let Some(rest) = line.trim().strip_prefix("pub const ") else {
            continue;
        };
        let parts = rest.trim_end_matches(';').split_once(": ");
        let (name, (group, value)) = parts
            .and_then(|(name, rest)| Some((name, rest.split_once(" = ")?)))
            .with_context(|| format!("cannot read bindgen's line `{line}`"))?;
        let value = value
            .parse()
            .with_context(|| format!("{name} is {value}, which is no unsigned 32-bit number"))?;
        constants.push(Constant {
            name: name.to_owned(),
            group: group.to_owned(),
            value,
        });
    }
    if constants.is_empty() {
        bail!("bindgen found no constants");
    }
    Ok(constants)
}

/// Whether the plan crate needs it. Helper numbers are for fixtures only, and the aliases that
/// the kernel calls deprecated have the same numbers as the names that stay.
fn is_for_plan(constant: &Constant) -> bool {
    constant.group != "bpf_func_id"
        && !constant.name.starts_with("__")
        && !constant.name.ends_with("_DEPRECATED")
}

fn rust_file(constants: &[Constant]) -> Result<String> {
    let mut text = String::from(
        "//! Constants of the kernel's `linux/bpf.h` and `linux/btf.h`, under the kernel's names.\n\
         //!\n\
         //! Generated by `cargo xtask uapi` from the headers in libbpf-sys; do not edit.\n\n",
    );
    for constant in constants.iter().filter(|constant| is_for_plan(constant)) {
        writeln!(
            text,
            "pub const {}: u32 = {};",
            constant.name, constant.value
        )?;
    }
    text.push_str(
        "\n/// `enum bpf_map_type`: number and name of every type, without `BPF_MAP_TYPE_UNSPEC`.\n",
    );
    let types: Vec<&Constant> = constants
        .iter()
        .filter(|constant| is_for_plan(constant))
        .filter(|constant| constant.group == "bpf_map_type" && constant.value != 0)
        .collect();
    table(&mut text, "MAP_TYPES", &types)?;
    text.push_str("\n/// The flags of `BPF_MAP_CREATE`: bit and name.\n");
    let flags = constants
        .iter()
        .find(|constant| constant.name == "BPF_F_NO_PREALLOC")
        .context("the headers have no BPF_F_NO_PREALLOC")?;
    let flags: Vec<&Constant> = constants
        .iter()
        .filter(|constant| constant.group == flags.group)
        .collect();
    table(&mut text, "MAP_FLAGS", &flags)?;
    Ok(text)
}

fn table(text: &mut String, name: &str, constants: &[&Constant]) -> Result<()> {
    writeln!(text, "pub const {name}: &[(u32, &str)] = &[")?;
    for constant in constants {
        writeln!(text, "    ({}, \"{}\"),", constant.value, constant.name)?;
    }
    text.push_str("];\n");
    Ok(())
}

fn c_file(constants: &[Constant]) -> Result<String> {
    let mut text = String::from(
        "// Constants of the kernel's linux/bpf.h, under the kernel's names.\n\
         // Generated by `cargo xtask uapi` from the headers in libbpf-sys; do not edit.\n\
         #pragma once\n\n",
    );
    for constant in constants
        .iter()
        .filter(|constant| !constant.name.starts_with("__"))
    {
        if constant.name.starts_with("BPF_") && constant.group != "bpf_cmd" {
            writeln!(text, "#define {} {}", constant.name, constant.value)?;
        }
    }
    Ok(text)
}
