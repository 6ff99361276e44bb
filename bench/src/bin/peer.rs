//! Other loaders, with the command line of `bpfplan-bench` after their name:
//!
//!     bpfplan-peer libbpf|libbpf-rs|aya open|load OBJECT REPS [NAP_MS]

#![forbid(unsafe_code)]

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use bpfplan_bench::clock::Series;
use bpfplan_bench::program::{self, Times, print};
use bpfplan_bench::{aya, libbpf, with_libbpf_rs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["libbpf", rest @ ..] => run(rest, libbpf::Object::open, |object| {
            let mut object = libbpf::Object::open(object)?;
            object.load()?;
            Ok(object)
        }),
        ["libbpf-rs", rest @ ..] => run(rest, with_libbpf_rs::open, with_libbpf_rs::load),
        ["aya", rest @ ..] => run(rest, aya::open, aya::load),
        _ => None,
    };
    match done {
        Some(Ok(())) => {
            program::tell_peak();
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("usage: bpfplan-peer libbpf|libbpf-rs|aya open|load OBJECT REPS [NAP_MS]");
            program::UNKNOWN.into()
        }
    }
}

/// Does what the arguments say; `None` if they say nothing that is known.
fn run<O, L>(
    arguments: &[&str],
    open: impl Fn(&[u8]) -> Result<O>,
    load: impl Fn(&[u8]) -> Result<L>,
) -> Option<Result<()>> {
    let (mode, file, times) = match arguments {
        [mode, file, times @ ..] => (*mode, *file, Times::parse(times)?),
        _ => return None,
    };
    match mode {
        "open" => Some(time(file, times, "open", open)),
        "load" => Some(raise_nofile().and_then(|()| time(file, times, "total", load))),
        _ => None,
    }
}

fn time<T>(
    file: &str,
    times: Times,
    metric: &str,
    call: impl Fn(&[u8]) -> Result<T>,
) -> Result<()> {
    let mut series = Series::default();
    times.repeat(|| {
        let start = Instant::now();
        let made = call(&fs::read(file)?)?;
        series.add(start);
        drop(made);
        Ok(())
    })?;
    print(metric, &series);
    Ok(())
}

/// bpfplan raises the limit itself; the others have to be given the room.
fn raise_nofile() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    Ok(())
}
