//! Building with cargo, and where it puts what it builds.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::repo;

/// Runs cargo and returns the last executable that it made; of `cargo test`, the last test.
pub(crate) fn executable(arguments: &[&str]) -> Result<PathBuf> {
    executable_by(&mut Command::new(program()), arguments)
}

/// The same, whatever the environment says about how to compile.
pub(crate) fn plain_executable(arguments: &[&str]) -> Result<PathBuf> {
    let mut cargo = Command::new(program());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.ends_with("RUSTFLAGS") || text.starts_with("CARGO_PROFILE_") {
            cargo.env_remove(&name);
        }
    }
    executable_by(&mut cargo, arguments)
}

fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn executable_by(cargo: &mut Command, arguments: &[&str]) -> Result<PathBuf> {
    let what = arguments.join(" ");
    let output = cargo
        .args(arguments)
        .args(["--quiet", "--message-format", "json-render-diagnostics"])
        .current_dir(repo::root()?)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {what} failed");
    }
    let tests = arguments.first() == Some(&"test");
    let made = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        // Tests of the command are made together with the command.
        .filter(|message| {
            let is_test = message.pointer("/profile/test");
            !tests || is_test.is_some_and(|it| *it == true)
        })
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .next_back();
    made.with_context(|| format!("cargo {what} made no executable"))
}
