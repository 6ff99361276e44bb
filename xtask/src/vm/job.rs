//! What runs in the machines: test binaries of the workspace, the smoke test of the command, and the
//! bench.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::cargo;

/// All tests of the loader but `weight`, which asks cargo, and `rules`, which were measured on one
/// kernel; those of the command that load; `smoke` and `bench`.
const DEFAULT: [&str; 26] = [
    "lib",
    "codes",
    "bound",
    "recording",
    "kernel",
    "fault",
    "slots",
    "overlap",
    "scarce",
    "by_name",
    "maps",
    "kconfig",
    "link",
    "parity",
    "programs",
    "program_pins",
    "differential",
    "others",
    "handover",
    "cli/load",
    "cli/pins",
    "cli/programs",
    "cli/slots",
    "cli/overrides",
    "smoke",
    "bench",
];

/// Seconds; emulation is slow, all the more on a busy machine, and Linux 6.1 waits for every slot.
const LIMIT: u32 = 1800;

/// One thing to run.
pub(super) struct Job {
    /// As given on the command line, without the filter.
    pub(super) name: String,
    pub(super) program: Program,
    filter: Option<String>,
}

pub(super) enum Program {
    /// A test binary: where it is here.
    Test(PathBuf),
    /// `xtask/vm-smoke`, which runs the command.
    Smoke,
    /// `xtask/vm-bench`, which runs the measured programs.
    Bench,
}

impl Job {
    /// A test that was not built.
    #[cfg(test)]
    pub(super) fn of_nothing(name: &str) -> Self {
        let (name, filter) = name.split_once(':').unwrap_or((name, ""));
        Self {
            name: name.to_owned(),
            program: Program::Test(PathBuf::new()),
            filter: Some(filter.to_owned()),
        }
    }

    /// The file name in the machine.
    pub(super) fn file(&self) -> String {
        self.name.replace('/', "-")
    }

    /// A line of `/vm/jobs`.
    pub(super) fn line(&self) -> String {
        let command = match &self.program {
            Program::Test(_) => format!("/vm/{} --color never", self.file()),
            Program::Smoke | Program::Bench => format!("/vm/{}", self.file()),
        };
        let filter = self.filter.as_deref().unwrap_or_default();
        // cargo starts a test in the directory of its package.
        let directory = match &self.program {
            Program::Test(_) if self.name.starts_with("cli/") => "cli",
            Program::Test(_) => "loader",
            Program::Smoke | Program::Bench => ".",
        };
        format!("{} {LIMIT} {directory} {command} {filter}\n", self.name)
            .trim_end()
            .to_owned()
            + "\n"
    }
}

/// Builds what the names stand for: `TEST` of the loader, `lib` for its unit tests, `cli/TEST` of
/// the command, `smoke`, `bench`; each may end in `:FILTER`.
pub(super) fn build(names: &[String]) -> Result<Vec<Job>> {
    let default: Vec<String> = DEFAULT.iter().map(ToString::to_string).collect();
    let names = if names.is_empty() { &default } else { names };
    let mut jobs = Vec::new();
    for name in names {
        let (name, filter) = match name.split_once(':') {
            Some((name, filter)) => (name, Some(filter.to_owned())),
            None => (name.as_str(), None),
        };
        if name.contains(char::is_whitespace) {
            bail!("`{name}` is no name of a test");
        }
        let program = match (name, name.split_once('/')) {
            ("smoke", _) => Program::Smoke,
            ("bench", _) => Program::Bench,
            ("lib", _) => Program::Test(test("bpfplan-loader", &["--lib"])?),
            (_, Some(("cli", test_name))) => {
                Program::Test(test("bpfplan", &["--test", test_name])?)
            }
            (_, Some(_)) => bail!("{name}: tests are TEST, cli/TEST, lib, smoke or bench"),
            (_, None) => Program::Test(test("bpfplan-loader", &["--test", name])?),
        };
        jobs.push(Job {
            name: name.to_owned(),
            program,
            filter,
        });
    }
    Ok(jobs)
}

/// The command itself.
pub(super) fn command() -> Result<PathBuf> {
    cargo::executable(&["build", "--package", "bpfplan", "--bin", "bpfplan"])
}

/// A program of the bench crate, as it is meant to be measured.
pub(super) fn measured(name: &str) -> Result<PathBuf> {
    cargo::executable(&[
        "build",
        "--release",
        "--package",
        "bpfplan-bench",
        "--bin",
        name,
    ])
}

fn test(package: &str, which: &[&str]) -> Result<PathBuf> {
    let mut arguments = vec!["test", "--no-run", "--package", package];
    arguments.extend(which);
    cargo::executable(&arguments)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panic")]

    use super::DEFAULT;

    /// They ask cargo, or were measured on one kernel.
    const LEFT_OUT: [&str; 2] = ["weight", "rules"];

    #[test]
    fn all_tests_of_the_loader_run() {
        let directory = crate::repo::root().unwrap().join("loader/tests");
        let mut tests = Vec::new();
        for entry in directory.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() || path.join("main.rs").exists() {
                tests.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
            }
        }
        assert!(tests.len() > 10, "{tests:?}");
        tests.retain(|test| !DEFAULT.contains(&&**test) && !LEFT_OUT.contains(&&**test));
        assert_eq!(tests, [""; 0], "not run on older kernels");
    }
}
