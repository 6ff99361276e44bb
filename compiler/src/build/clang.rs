//! Compiling a BPF source with clang.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpfplan_plan::{Diagnostic, Endianness};

use super::{BuildError, Builder, Inputs, dependencies};
use crate::codes;

/// Names that `bpf_tracing.h` of libbpf has for architectures, by the names that cargo has.
const ARCHITECTURES: [(&str, &str); 11] = [
    ("aarch64", "arm64"),
    ("arm", "arm"),
    ("loongarch64", "loongarch"),
    ("mips", "mips"),
    ("mips64", "mips"),
    ("powerpc", "powerpc"),
    ("powerpc64", "powerpc"),
    ("riscv64", "riscv"),
    ("s390x", "s390"),
    ("x86", "x86"),
    ("x86_64", "x86"),
];

/// Compiles the source to `object`; what clang said.
pub(super) fn compile(
    builder: &Builder,
    object: &Path,
    inputs: &mut Inputs,
) -> Result<String, BuildError> {
    let source = &builder.input;
    fs::File::open(source).map_err(|error| BuildError::file("cannot be read", source, &error))?;
    let clang = find(builder.clang.as_deref())?;
    // An upgrade of clang makes another object.
    inputs
        .files
        .extend(clang.is_absolute().then(|| clang.clone()));
    let list = object.with_extension("d");
    let mut command = Command::new(&clang);
    command.args(["-target", target(), "-g", "-O2", "-Wall"]);
    command.arg("-fno-color-diagnostics");
    if let Ok(here) = env::current_dir() {
        // Places in the plan are the same wherever the package lies.
        let mut map = OsStr::new("-ffile-prefix-map=").to_owned();
        map.push(here);
        map.push("=.");
        command.arg(map);
    }
    command.args(architecture().map(|name| format!("-D__TARGET_ARCH_{name}")));
    if let Some(vmlinux) = &builder.vmlinux_h {
        fs::File::open(vmlinux)
            .map_err(|error| BuildError::file("cannot be read", vmlinux, &error))?;
        let directory = match vmlinux.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        command.arg("-I").arg(directory);
    }
    for directory in &builder.include {
        command.arg("-I").arg(directory);
    }
    // libbpf-sys tells packages that depend on it where libbpf's headers are.
    inputs.variables.push("DEP_BPF_INCLUDE");
    if let Some(directory) = env::var_os("DEP_BPF_INCLUDE") {
        command.arg("-I").arg(directory);
    }
    // Debian has the headers of an architecture, such as asm/types.h, where only its own compiler
    // looks.
    let own = Path::new("/usr/include").join(format!("{}-linux-gnu", target_architecture()));
    if own.is_dir() {
        command.arg("-idirafter").arg(own);
    }
    command.args(&builder.clang_args);
    command.arg("-MD").arg("-MF").arg(&list);
    command.arg("-c").arg(source).arg("-o").arg(object);
    let output = command.output().map_err(|error| not_run(&clang, &error))?;
    if let Ok(text) = fs::read(&list) {
        let files = dependencies::parse(&String::from_utf8_lossy(&text));
        inputs.files.extend(files);
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Ok(said);
    }
    let mut diagnostic = Diagnostic::error(
        codes::CLANG_FAILED,
        format!("{} does not compile it: {}", clang.display(), output.status),
    );
    diagnostic.object = Some(source.to_string_lossy().into_owned());
    if said.contains("vmlinux.h' file not found") {
        diagnostic.help = Some(
            "make it with `bpftool btf dump file /sys/kernel/btf/vmlinux format c`, and say where \
             it is with Builder::vmlinux_h"
                .to_owned(),
        );
    } else if said.contains("' file not found") {
        diagnostic.help = Some("say where headers are with Builder::include".to_owned());
    }
    Err(BuildError::new(vec![diagnostic]).after(said))
}

/// The clang to use.
fn find(asked: Option<&Path>) -> Result<PathBuf, BuildError> {
    if let Some(path) = asked {
        return Ok(path.to_owned());
    }
    if let Some(path) = env::var_os("CLANG").filter(|path| !path.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = env::split_paths(&path).collect();
    search(&directories).ok_or_else(|| no_clang("there is no clang on PATH"))
}

/// `clang`, else the `clang-N` with the highest number, in the directories of `PATH`.
fn search(directories: &[PathBuf]) -> Option<PathBuf> {
    let plain = directories.iter().map(|directory| directory.join("clang"));
    if let Some(found) = plain.into_iter().find(|path| is_program(path)) {
        return Some(found);
    }
    let mut newest: Option<(u32, PathBuf)> = None;
    for entry in directories
        .iter()
        .filter_map(|path| fs::read_dir(path).ok())
        .flatten()
    {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix("clang-"));
        let Some(version) = version.and_then(|version| version.parse().ok()) else {
            continue;
        };
        let newer = newest.as_ref().is_none_or(|(best, _)| version > *best);
        if newer && is_program(&entry.path()) {
            newest = Some((version, entry.path()));
        }
    }
    newest.map(|(_, path)| path)
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn not_run(clang: &Path, error: &io::Error) -> BuildError {
    no_clang(&format!("{} cannot be run: {error}", clang.display()))
}

fn no_clang(message: &str) -> BuildError {
    BuildError::new(vec![Diagnostic::error(codes::NO_CLANG, message).help(
        "install clang 14 or newer, or say where it is with the environment variable CLANG or \
         Builder::clang",
    )])
}

/// The byte order of the target that cargo builds for.
pub(super) fn target_byte_order() -> Endianness {
    match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("little") => Endianness::Little,
        Ok("big") => Endianness::Big,
        _ => Endianness::NATIVE,
    }
}

fn target() -> &'static str {
    match target_byte_order() {
        Endianness::Little => "bpfel",
        Endianness::Big => "bpfeb",
    }
}

fn target_architecture() -> String {
    env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_else(|_| env::consts::ARCH.to_owned())
}

fn architecture() -> Option<&'static str> {
    let name = target_architecture();
    let known = ARCHITECTURES.iter().find(|(cargo, _)| *cargo == name);
    known.map(|(_, libbpf)| *libbpf)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::search;

    fn program(directory: &Path, name: &str) {
        let path = directory.join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_newest_clang_is_found() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let directories = [one.path().to_owned(), two.path().to_owned()];
        assert_eq!(search(&directories), None);
        program(one.path(), "clang-9");
        program(two.path(), "clang-19");
        program(two.path(), "clang-cpp-22");
        fs::write(two.path().join("clang-23"), "").unwrap();
        assert_eq!(search(&directories), Some(two.path().join("clang-19")));
        program(two.path(), "clang");
        assert_eq!(search(&directories), Some(two.path().join("clang")));
    }
}
