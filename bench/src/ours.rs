//! bpfplan's way from an object, or from a plan compiled ahead, to maps in the kernel.

use std::fs::File;
use std::io::Read as _;

use anyhow::{Error, Result, anyhow};
use bpfplan_compiler::{Options, compile, compile_without_places, read_without_dwarf};
use bpfplan_loader::{LoadOptions, Loaded, RealKernel, RecordingKernel, load};
use bpfplan_plan::rules::Target;
use bpfplan_plan::{Diagnostic, Plan, format};

/// Object to plan; no hash of the object is made.
///
/// # Errors
/// The first diagnostic.
pub fn open(object: &[u8]) -> Result<Plan> {
    compile(object, "bench.bpf.o", &Options::default())
        .map(|compiled| compiled.plan)
        .map_err(|diagnostics| first(&diagnostics))
}

/// An object's file to plan as `bpfplan load` opens it: without its DWARF, of which only a message
/// would have need.
///
/// # Errors
/// The first diagnostic.
pub fn open_file(path: &str) -> Result<Plan> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let bytes = match read_without_dwarf(&file, usize::try_from(size)?)? {
        Some(bytes) => bytes,
        None => {
            let mut bytes = Vec::with_capacity(usize::try_from(size)?);
            file.read_to_end(&mut bytes)?;
            bytes
        }
    };
    compile_without_places(&bytes, "bench.bpf.o", &Options::default())
        .map(|compiled| compiled.plan)
        .map_err(|diagnostics| first(&diagnostics))
}

/// Plan to maps, held by the value.
///
/// # Errors
/// The first diagnostic.
pub fn execute(plan: &Plan) -> Result<Loaded<RealKernel>> {
    let options = LoadOptions {
        hold: true,
        raise_nofile: true,
        ..LoadOptions::default()
    };
    load(plan, &RealKernel::new(), &options).map_err(|error| first(&error.diagnostics))
}

/// Plan to the calls of a load, which are written down and not made.
///
/// # Errors
/// The first diagnostic.
pub fn dry(plan: &Plan) -> Result<RecordingKernel> {
    let kernel = RecordingKernel::new(Target {
        page_size: 4096,
        possible_cpus: 2,
    });
    let options = LoadOptions {
        hold: true,
        ..LoadOptions::default()
    };
    load(plan, &kernel, &options).map_err(|error| first(&error.diagnostics))?;
    Ok(kernel)
}

/// The binary form of an object's plan.
///
/// # Errors
/// As [`open`].
pub fn prepare(object: &[u8]) -> Result<Vec<u8>> {
    Ok(format::to_binary(&open(object)?)?)
}

fn first(diagnostics: &[Diagnostic]) -> Error {
    diagnostics
        .first()
        .map_or_else(|| anyhow!("it failed"), |why| anyhow!("{why}"))
}
