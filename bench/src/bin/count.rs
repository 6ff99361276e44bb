//! What callgrind counts: repetitions of one part of bpfplan in a function of their own.
//!
//!     bpfplan-count open|decode|dry|libbpf <OBJECT
//!
//! prints how many repetitions [`counted_repetitions`] did. The object comes from standard input,
//! so that no path is in the process; what happens once only has happened before the counting.

#![forbid(unsafe_code)]

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bpfplan_bench::{libbpf, ours};
use bpfplan_plan::format;

/// Before the counting: the heap and every table that is made at first use are then as they stay.
const WARM_UP: usize = 2;

/// Enough to even out what the seeds of hash tables change.
const COUNTED: usize = 10;

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
    let part = std::env::args().nth(1).unwrap_or_default();
    let mut object = Vec::new();
    std::io::stdin().read_to_end(&mut object)?;
    match part.as_str() {
        // Object to plan.
        "open" => count(|| ours::open(&object).map(drop)),
        // Bytes of a binary plan to a plan.
        "decode" => {
            let bytes = ours::prepare(&object)?;
            count(|| format::read(&bytes).map(drop).map_err(Into::into))
        }
        // Plan to the calls that a load makes, written down and not made.
        "dry" => {
            let plan = ours::open(&object)?;
            count(|| ours::dry(&plan).map(drop))
        }
        // Object to libbpf's `bpf_object`.
        "libbpf" => count(|| libbpf::Object::open(&object).map(drop)),
        _ => bail!("usage: bpfplan-count open|decode|dry|libbpf <OBJECT"),
    }
}

fn count(mut part: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..WARM_UP {
        part()?;
    }
    counted_repetitions(&mut part)?;
    println!("{COUNTED}");
    Ok(())
}

/// callgrind counts while this function runs; `cargo xtask instructions` names it.
#[inline(never)]
fn counted_repetitions(part: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..COUNTED {
        part()?;
    }
    Ok(())
}
