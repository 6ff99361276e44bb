//! `bpfplan completions`.

use std::io;

use clap::CommandFactory as _;

use crate::args::{Cli, CompletionsArgs};
use crate::exit::Exit;
use crate::output;

/// Prints a completion script.
///
/// # Errors
/// As [`output::bytes`].
pub(crate) fn run(args: &CompletionsArgs) -> io::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bpfplan", &mut script);
    output::bytes(&script)?;
    Ok(Exit::Done)
}
