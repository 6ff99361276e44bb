//! One module per subcommand.

mod check;
mod compile;
mod completions;
mod load;
mod man;
mod plan;
mod schema;
mod slot;
mod unload;

use std::io;

use crate::args::Command;
use crate::exit::Exit;
use crate::{input, output};

/// Runs a subcommand.
///
/// # Errors
/// Only if standard output cannot be written; everything else is a diagnostic.
pub(crate) fn run(command: &Command) -> io::Result<Exit> {
    let inputs = match command {
        Command::Plan(args) => args.inputs.as_slice(),
        Command::Check(args) => &args.inputs,
        Command::Compile(args) => &args.inputs,
        Command::Load(args) => &args.inputs,
        _ => &[],
    };
    if input::repeats_stdin(inputs) {
        output::talk("error: standard input can be read once: name - once");
        return Ok(Exit::Usage);
    }
    match command {
        Command::Plan(args) => plan::run(args),
        Command::Check(args) => check::run(args),
        Command::Compile(args) => compile::run(args),
        Command::Load(args) => load::run(args),
        Command::Unload(args) => unload::run(args),
        Command::Slot(args) => slot::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}
