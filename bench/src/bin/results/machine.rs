//! Where and with what something was measured.

use std::fs;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One machine on one day.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// As in 2026-11-30.
    pub(crate) date: String,
    pub(crate) kernel: String,
    /// Model of the processor, as it calls itself.
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Whether a hypervisor runs it.
    pub(crate) is_virtual: bool,
    /// Load average of the last minute at the start: what else was at work.
    pub(crate) busy: f64,
    /// The compilers: of this program, and of the objects.
    pub(crate) rustc: String,
    pub(crate) clang: String,
    /// Name and version of each peer.
    pub(crate) peers: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn here() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(": ")?.1)
        };
        let busy = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let busy = busy.split(' ').next().and_then(|busy| busy.parse().ok());
        Ok(Self {
            date: said("date", &["-u", "+%F"])?,
            kernel: rustix::system::uname().release().to_string_lossy().into(),
            cpu: field("model name").unwrap_or("unknown").to_owned(),
            cores: thread::available_parallelism()?.get(),
            is_virtual: field("flags").is_some_and(|flags| flags.contains(" hypervisor")),
            busy: busy.unwrap_or_default(),
            rustc: said("rustc", &["--version"])?,
            clang: said("clang-22", &["--version"])?,
            peers: [
                ("libbpf", "libbpf-sys"),
                ("libbpf-rs", "libbpf-rs"),
                ("aya", "aya"),
            ]
            .map(|(name, package)| (name.to_owned(), locked(package).to_owned()))
            .into(),
        })
    }
}

/// The first line that a program says.
fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The version of a package in Cargo.lock; of libbpf-sys, that of the libbpf in it.
fn locked(package: &str) -> &'static str {
    const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));
    let name = format!("name = \"{package}\"");
    let mut lines = LOCK.lines().skip_while(|line| *line != name);
    let version = lines.nth(1).and_then(|line| line.split('"').nth(1));
    let version = version.unwrap_or("unknown");
    version
        .split_once("+v")
        .map_or(version, |(_, libbpf)| libbpf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_have_a_version() {
        for package in ["libbpf-sys", "libbpf-rs", "aya"] {
            let version = locked(package);
            assert!(
                version.starts_with(|c: char| c.is_ascii_digit()),
                "{version}"
            );
            assert!(!version.contains('+'), "{version}");
        }
        assert_eq!(locked("no-such-package"), "unknown");
    }
}
