//! Building with cargo, and where it puts what it builds.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::repo;

/// Runs cargo and returns the last executable that it made.
pub(crate) fn executable(arguments: &[&str]) -> Result<PathBuf> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let what = arguments.join(" ");
    let output = Command::new(program)
        .args(arguments)
        .args(["--quiet", "--message-format", "json-render-diagnostics"])
        .current_dir(repo::root()?)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {what} failed");
    }
    let made = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .next_back();
    made.with_context(|| format!("cargo {what} made no executable"))
}
