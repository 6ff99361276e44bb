//! `cargo xtask vm`: tests on older kernels, which Debian packages and QEMU runs.

mod image;
mod job;
mod kernel;
mod machine;

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::repo;
use job::Job;
use kernel::Kernel;
use machine::Verdict;

/// A kernel that Debian packages for cloud machines.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Debian 12: a batch for maps of maps waits for each slot
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13, and the security updates of Debian 12
    #[value(name = "6.12")]
    V6_12,
}

impl Release {
    fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }
}

/// Runs the named tests on the given kernels; without names, all kernels and the default tests.
pub(crate) fn run(releases: &[Release], tests: &[String]) -> Result<()> {
    for tool in ["qemu-system-x86_64", "busybox", "cpio", "ldd", "dpkg"] {
        if Command::new(tool).arg("--help").output().is_err() {
            bail!("{tool} is not installed: run `xtask/setup vm`");
        }
    }
    let releases = if releases.is_empty() {
        Release::value_variants()
    } else {
        releases
    };
    let jobs = job::build(tests)?;
    let work = repo::root()?.join("target/vm");
    std::fs::create_dir_all(&work).context("cannot make target/vm")?;
    let kernels: Vec<Kernel> = releases
        .iter()
        .map(|release| kernel::fetch(&work, release.name()))
        .collect::<Result<_>>()?;
    let (mut summary, mut figures) = (Vec::new(), Vec::new());
    for (&release, kernel) in releases.iter().zip(&kernels) {
        println!("== Linux {} ({})", release.name(), kernel.package);
        let mut rest = jobs.as_slice();
        while !rest.is_empty() {
            let image = image::build(&work, rest, &kernels)?;
            let outcome = machine::run(&kernel.image, &image, rest)?;
            let done = outcome.tried();
            for (job, verdict) in rest.iter().zip(&outcome.verdicts).take(done) {
                summary.push((release, job, verdict.clone()));
            }
            rest = rest.get(done..).unwrap_or_default();
            if !rest.is_empty() {
                println!("the machine stopped: another one does the rest");
            }
            figures.extend(outcome.figures.into_iter().map(|figure| (release, figure)));
            for complaint in outcome.complaints {
                println!("the kernel complains: {complaint}");
            }
        }
    }
    let outcome = report(&summary);
    for (release, figure) in figures {
        println!("Linux {:<5} {figure}", release.name());
    }
    outcome
}

fn report(summary: &[(Release, &Job, Verdict)]) -> Result<()> {
    println!();
    let mut failed = 0_usize;
    for (release, job, verdict) in summary {
        println!("Linux {:<5} {:<14} {verdict}", release.name(), job.name);
        failed += usize::from(!verdict.is_good());
    }
    if failed > 0 {
        bail!("{failed} of {} jobs failed", summary.len());
    }
    Ok(())
}
