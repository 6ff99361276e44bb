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

/// Runs a subcommand.
///
/// # Errors
/// Only if standard output cannot be written; everything else is a diagnostic.
pub(crate) fn run(command: &Command) -> io::Result<Exit> {
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
