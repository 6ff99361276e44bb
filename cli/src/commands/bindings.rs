//! `bpfplan bindings`.

use std::io;
use std::path::Path;

use bpfplan_compiler::bindings::{BindingsOptions, generate};

use crate::args::BindingsArgs;
use crate::exit::Exit;
use crate::file;
use crate::input;
use crate::output;

/// Writes the Rust module of an object or a plan.
///
/// # Errors
/// As [`output::result`].
pub(crate) fn run(args: &BindingsArgs) -> io::Result<Exit> {
    let refused = |diagnostics: &[_]| {
        output::diagnostics(diagnostics);
        Ok(Exit::Refused)
    };
    let inputs = std::slice::from_ref(&args.input);
    let input = match input::read(inputs, true) {
        Ok(input) => input,
        Err(diagnostics) => return refused(&diagnostics),
    };
    let bindings = match generate(&input.plan, &BindingsOptions::default()) {
        Ok(bindings) => bindings,
        Err(diagnostics) => return refused(&input::with_name(inputs, diagnostics)),
    };
    output::diagnostics(&input.warnings);
    let source = bindings.source.as_bytes();
    if args.output == Path::new("-") {
        output::bytes(source)?;
    } else if let Err(diagnostic) = file::write(&args.output, source, "the module") {
        return refused(&[diagnostic]);
    }
    Ok(Exit::Done)
}
