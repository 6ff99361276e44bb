//! Generates a module for every fixture that plans and is of this machine's byte order.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use bpfplan_compiler::bindings::{BindingsOptions, Embed, generate};
use bpfplan_compiler::{Options, compile};
use bpfplan_plan::{Endianness, Object, Plan};

#[allow(
    clippy::indexing_slicing,
    reason = "a build that fails is a test that fails"
)]
mod zoo;

fn main() -> Result<(), Box<dyn Error>> {
    let objects = Path::new("../fixtures/obj");
    println!("cargo::rerun-if-changed={}", objects.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => Endianness::Big,
        _ => Endianness::Little,
    };
    let mut paths: Vec<PathBuf> = fs::read_dir(objects)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    let mut modules = Modules {
        out,
        text: String::new(),
    };
    for path in paths {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(stem) = file.strip_suffix(".bpf.o") else {
            continue;
        };
        let Ok(compiled) = compile(&fs::read(&path)?, &file, &Options { hash: false }) else {
            continue;
        };
        if compiled.plan.object.endianness == target {
            modules.add(&stem.replace('.', "_"), &compiled.plan, None)?;
        }
    }
    let base = fs::read(objects.join("types_array.bpf.o"))?;
    let base = compile(&base, "types_array.bpf.o", &Options { hash: false })
        .map_err(|problems| format!("{problems:?}"))?
        .plan;
    let base = Plan {
        object: Object {
            endianness: target,
            ..base.object.clone()
        },
        ..base
    };
    modules.add("zoo_names", &zoo::names(&base), None)?;
    for seed in 0..4 {
        modules.add(
            &format!("zoo_random_{seed}"),
            &zoo::random(&base, seed),
            None,
        )?;
    }
    // Names that the module itself has, or what it uses.
    for name in [
        "plan",
        "map",
        "loaded_plan",
        "type",
        "self",
        "types",
        "bindings",
        "box",
        "option",
        "result",
    ] {
        let plan = zoo::small(&base, name);
        modules.add(&format!("object_{name}"), &plan, None)?;
        modules.add(&format!("named_{name}"), &plan, Some(name))?;
    }
    fs::write(modules.out.join("modules.rs"), modules.text)?;
    Ok(())
}

/// The modules so far.
struct Modules {
    out: PathBuf,
    text: String,
}

impl Modules {
    /// Writes a module.
    fn add(&mut self, module: &str, plan: &Plan, name: Option<&str>) -> Result<(), Box<dyn Error>> {
        // Both ways of embedding are compiled.
        let embed = if module.starts_with("value") {
            Embed::Bytes
        } else {
            Embed::File(format!("{module}.plan"))
        };
        let options = BindingsOptions {
            embed,
            name: name.map(ToOwned::to_owned),
        };
        let bindings = generate(plan, &options).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            format!("{module}: {}", problems.join("; "))
        })?;
        fs::write(self.out.join(format!("{module}.plan")), &bindings.plan)?;
        fs::write(self.out.join(format!("{module}.rs")), &bindings.source)?;
        write!(
            self.text,
            "/// The module of `{}`.\npub mod {module} {{\n    \
             include!(concat!(env!(\"OUT_DIR\"), \"/{module}.rs\"));\n}}\n",
            plan.object.name,
        )?;
        Ok(())
    }
}
