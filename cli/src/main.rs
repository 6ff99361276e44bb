//! The command `bpfplan`: arguments in, text out. Everything else is in the libraries.

#![forbid(unsafe_code)]

mod args;
mod codes;
mod commands;
mod documents;
mod exit;
mod file;
mod input;
mod kconfig;
mod link;
mod output;
mod places;
mod programs;
mod render;
mod signals;
mod size;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;

use args::Cli;
use exit::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let exit = commands::run(&cli.command).unwrap_or_else(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // Whoever read the output has seen enough.
            Exit::Done
        } else {
            output::talk(&format!("error: the output cannot be written: {error}"));
            Exit::Refused
        }
    });
    exit.into()
}
