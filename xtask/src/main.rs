//! Development commands of bpfplan: `cargo xtask --help`.

#![forbid(unsafe_code)]

mod bench;
mod bench_objects;
mod cargo;
mod compiler;
mod fixture;
mod fixtures;
mod instructions;
mod repo;
mod uapi;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Development commands of bpfplan
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Generate plan/src/uapi.rs and fixtures/include/bpfplan_uapi.h from the kernel headers in
    /// libbpf-sys
    Uapi {
        /// Change nothing; fail if a committed file is not what would be generated
        #[arg(long)]
        check: bool,
    },
    /// Compile the fixtures into fixtures/obj/
    Fixtures {
        /// Change nothing; build elsewhere and compare byte for byte
        #[arg(long)]
        check: bool,
        /// Only these fixtures (their file names up to `.bpf.`)
        names: Vec<String>,
    },
    /// Measure bpfplan beside libbpf, libbpf-rs and aya; writes bench/RESULTS.md, bench/slots.svg and
    /// bench/results.json
    Bench(bench::BenchArgs),
    /// Count instructions with callgrind and compare with bench/instructions.json: growth by more
    /// than 5 % fails
    Instructions {
        /// Write the objects and the record anew
        #[arg(long)]
        update: bool,
    },
    /// Run tests on Debian's older kernels, in QEMU
    Vm {
        /// Which kernels, one after the other [default: all]
        kernels: Vec<vm::Release>,
        /// Tests of the loader, `lib` for its unit tests, `cli/TEST`, `smoke`, or `bench`; each may end in
        /// `:FILTER`
        #[arg(last = true, value_name = "TEST")]
        tests: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    match Args::parse().command {
        Command::Uapi { check } => uapi::run(check),
        Command::Fixtures { check, names } => fixtures::run(check, &names),
        Command::Bench(args) => bench::run(&args),
        Command::Instructions { update } => instructions::run(update),
        Command::Vm { kernels, tests } => vm::run(&kernels, &tests),
    }
}
