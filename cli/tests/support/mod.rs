//! Running the command in tests.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The top of the repository; paths in tests and snapshots are relative to it.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// The command, started from the top of the repository.
pub(crate) fn bpfplan<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpfplan"));
    command
        .args(args)
        .current_dir(root())
        .stdin(Stdio::null())
        .env_remove("NO_COLOR");
    command
}

/// Runs the command to its end.
pub(crate) fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    bpfplan(args).output().unwrap()
}

/// Runs the command with bytes on its standard input.
pub(crate) fn run_with<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>, input: &[u8]) -> Output {
    let mut child = bpfplan(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The command may stop reading early; that is for it to say.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// Standard output.
pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// Standard error.
pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// The exit status.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// The objects of all fixtures: name without `.bpf.o`, and path from the top of the repository.
pub(crate) fn fixtures() -> Vec<(String, String)> {
    let mut fixtures: Vec<(String, String)> = root()
        .join("fixtures/obj")
        .read_dir()
        .unwrap()
        .filter_map(|entry| {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let name = file.strip_suffix(".bpf.o")?;
            Some((name.to_owned(), format!("fixtures/obj/{file}")))
        })
        .collect();
    fixtures.sort();
    assert!(
        !fixtures.is_empty(),
        "there are no fixtures in fixtures/obj"
    );
    fixtures
}
