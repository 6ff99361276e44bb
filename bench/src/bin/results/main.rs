//! Measures bpfplan and its peers in one run, and writes the table and the plot of the results.
//!
//! `cargo xtask bench` builds and compiles what this needs, then calls it.

#![forbid(unsafe_code)]

mod figures;
mod machine;
mod measure;
mod plot;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use figures::Figures;
use measure::Effort;

#[derive(Parser, Debug)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Measure, and write the figures; the table goes to standard output
    Measure {
        /// Where NAME.bpf.o of every object is
        #[arg(long)]
        objects: PathBuf,
        /// Write the figures here
        #[arg(long)]
        figures: PathBuf,
        /// How many rounds, from 1; slow loads take fewer
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Count no instructions, system calls and memory
        #[arg(long)]
        only_time: bool,
        /// Names of objects
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Write the table and the plot of figures that were measured before
    Render {
        /// The figures
        #[arg(long)]
        figures: PathBuf,
        /// Write the table into this file, between its two marks
        #[arg(long)]
        table: PathBuf,
        /// Write the plot here, as SVG
        #[arg(long)]
        plot: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Measure {
            objects,
            figures: file,
            rounds,
            only_time,
            names,
        } => {
            let effort = Effort {
                rounds: rounds.max(1),
                only_time,
            };
            let figures = measure::all(&objects, &names, effort)?;
            fs::write(&file, serde_json::to_string_pretty(&figures)? + "\n")
                .with_context(|| format!("cannot write {}", file.display()))?;
            println!("{}", table::markdown(&figures));
        }
        Command::Render {
            figures,
            table,
            plot,
        } => {
            let figures: Figures = serde_json::from_slice(
                &fs::read(&figures).with_context(|| figures.display().to_string())?,
            )?;
            let text = fs::read_to_string(&table).with_context(|| table.display().to_string())?;
            fs::write(&table, table::replace(&text, &table::markdown(&figures))?)?;
            fs::write(&plot, plot::svg(&figures)?)?;
        }
    }
    Ok(())
}
