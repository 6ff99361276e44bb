//! The text of generated modules.

#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let rustfmt = PathBuf::from(std::env::var_os("RUSTFMT").unwrap_or_else(|| "rustfmt".into()));
    let version = Command::new(&rustfmt)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let missing = !version.is_ok_and(|status| status.success());
    if missing {
        println!("skipped: there is no rustfmt");
    }
    assert!(
        !missing || std::env::var_os("CI").is_none(),
        "CI must have rustfmt"
    );
    let trial = Trial::test("rustfmt_changes_nothing", move || {
        let output = Command::new(&rustfmt)
            .args(["--edition", "2024", "--check", "--color", "never"])
            .args(modules())
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stdout).into_owned().into())
    });
    let trials = vec![trial.with_ignored_flag(missing)];
    libtest_mimic::run(&arguments, trials).exit();
}

/// The modules that the build script wrote.
fn modules() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(env!("OUT_DIR")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let modules: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .filter(|path| !path.ends_with("modules.rs"))
        .collect();
    assert!(modules.len() > 100, "{}", modules.len());
    modules
}
