//! One measured program: what it takes from an object to a plan, from an object to maps, and from
//! a plan that was compiled ahead to maps.
//!
//! It prints a line for each metric, `METRIC MEDIAN_US MIN_US MAX_US REPS`, and ends with 64 for
//! a command line that it does not know.

#![forbid(unsafe_code)]

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use bpfplan_bench::clock::Series;
use bpfplan_bench::ours;
use bpfplan_bench::program::{self, Times, print};
use bpfplan_plan::{Plan, format};

const USAGE: &str = "usage: bpfplan-bench open|load|exec FILE REPS [NAP_MS]
       bpfplan-bench prep OBJECT PLAN";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (mode, file, rest) = match arguments.as_slice() {
        [mode, file, rest @ ..] => (*mode, *file, rest),
        _ => return usage(),
    };
    let done = match (mode, Times::parse(rest), rest) {
        ("prep", _, [out]) => prep(file, out),
        ("open", Some(times), _) => open(file, times),
        ("load", Some(times), _) => load(file, times, ours::open_file),
        ("exec", Some(times), _) => load(file, times, |plan| {
            Ok(format::read_shared(&fs::read(plan)?.into())?)
        }),
        _ => return usage(),
    };
    match done {
        Ok(()) => {
            program::tell_peak();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    program::UNKNOWN.into()
}

fn prep(object: &str, out: &str) -> Result<()> {
    Ok(fs::write(out, ours::prepare(&fs::read(object)?)?)?)
}

fn open(object: &str, times: Times) -> Result<()> {
    let mut opened = Series::default();
    times.repeat(|| {
        let start = Instant::now();
        let plan = ours::open_file(object)?;
        opened.add(start);
        drop(plan);
        Ok(())
    })?;
    print("open", &opened);
    Ok(())
}

/// `read` makes the plan of the file.
fn load(file: &str, times: Times, read: fn(&str) -> Result<Plan>) -> Result<()> {
    let (mut opened, mut loaded, mut total) = Default::default();
    times.repeat(|| {
        let start = Instant::now();
        let plan = read(file)?;
        Series::add(&mut opened, start);
        let middle = Instant::now();
        let maps = ours::execute(&plan)?;
        Series::add(&mut loaded, middle);
        Series::add(&mut total, start);
        drop(maps);
        Ok(())
    })?;
    print("open", &opened);
    print("load", &loaded);
    print("total", &total);
    Ok(())
}
