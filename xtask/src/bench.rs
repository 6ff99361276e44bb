//! `cargo xtask bench`: measures bpfplan beside its peers, and keeps the table and the plot.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{bench_objects, cargo, repo};

const FIGURES: &str = "bench/results.json";
const TABLE: &str = "bench/RESULTS.md";
const PLOT: &str = "bench/slots.svg";

/// What the table and the plot show. Slots one by one make up the time that this takes.
const OBJECTS: [&str; 11] = [
    "plain-10",
    "plain-100",
    "plain-1000",
    "slots-1",
    "slots-8",
    "slots-64",
    "slots-512",
    "slots-4096",
    "hslots-512",
    "outers-64x8",
    "types-500",
];

/// What there is to do.
#[derive(clap::Args, Debug)]
pub(crate) struct BenchArgs {
    /// Measure nothing; make the table and the plot from bench/results.json
    #[arg(long, conflicts_with_all = ["rounds", "only_time", "objects"])]
    render: bool,
    /// How many rounds; slow loads take fewer [default: 5]
    #[arg(long)]
    rounds: Option<usize>,
    /// Load times only: no instructions, system calls and memory
    #[arg(long)]
    only_time: bool,
    /// Measure these and print the table, but change no file: plain-N, slots-N, hslots-N,
    /// outers-KxN, programs-NxM, types-N
    objects: Vec<String>,
}

/// Measures and writes the table and the plot.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let root = repo::root()?;
    if args.render {
        return render(&root, &build()?);
    }
    if !args.only_time {
        for tool in ["valgrind", "strace"] {
            repo::which(tool).context("run `xtask/setup test`, or give `--only-time`")?;
        }
    }
    let default: Vec<String> = OBJECTS.map(str::to_owned).into();
    let keep = args.objects.is_empty();
    let names = if keep { &default } else { &args.objects };
    let directory = root.join("target/bench/obj");
    for name in names {
        bench_objects::compile(&root, name, &directory)?;
    }
    let program = build()?;
    let figures = if keep {
        root.join(FIGURES)
    } else {
        root.join("target/bench/results.json")
    };
    let mut measure = Command::new(&program);
    measure.arg("measure").arg("--objects").arg(&directory);
    measure.arg("--figures").arg(&figures);
    if let Some(rounds) = args.rounds {
        measure.args(["--rounds", &rounds.to_string()]);
    }
    if args.only_time {
        measure.arg("--only-time");
    }
    succeed(measure.args(names))?;
    if keep {
        render(&root, &program)?;
    }
    Ok(())
}

/// Builds the measured programs and the one that runs them.
fn build() -> Result<std::path::PathBuf> {
    let built = cargo::executable(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "bpfplan-bench",
        "--bins",
    ])?;
    Ok(built.with_file_name("bpfplan-results"))
}

fn render(root: &Path, program: &Path) -> Result<()> {
    succeed(Command::new(program).current_dir(root).args([
        "render",
        "--figures",
        FIGURES,
        "--table",
        TABLE,
        "--plot",
        PLOT,
    ]))?;
    println!("{TABLE}, {PLOT}: written");
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("it failed");
    }
    Ok(())
}
