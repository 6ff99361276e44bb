//! Copies of the examples, which share what is built already.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A copy of an example.
pub(crate) struct Project {
    example: &'static str,
    directory: PathBuf,
}

impl Project {
    /// In a directory that is the same every time, so that what cargo keeps does not pile up.
    pub(crate) fn new(example: &'static str, name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        copy(&root().join("examples").join(example), &directory);
        // The versions of the workspace, which are there without a network.
        fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
        let project = Self { example, directory };
        project.edit("Cargo.toml", "../..", root().to_str().unwrap());
        project
    }

    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.directory.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Standard output and error of `cargo build`, and whether it succeeded.
    pub(crate) fn build(&self) -> (String, bool) {
        self.cargo(&["build", "--offline"])
    }

    /// Asserts that it is formatted, and that nothing in it is warned of.
    pub(crate) fn assert_tidy(&self) {
        let lint = ["clippy", "--offline", "--", "-D", "warnings"];
        for arguments in [["fmt", "--check"].as_slice(), &lint] {
            let (said, good) = self.cargo(arguments);
            assert!(good, "{}: {said}", self.example);
        }
    }

    fn cargo(&self, arguments: &[&str]) -> (String, bool) {
        let output = Command::new(env!("CARGO"))
            .args(arguments)
            .env("CARGO_TERM_COLOR", "never")
            .current_dir(&self.directory)
            .env("CARGO_TARGET_DIR", target())
            // As in the workspace, so that nothing is built twice.
            .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap();
        let (stdout, stderr) = text(&output);
        (stdout + &stderr, output.status.success())
    }

    /// The program, built.
    pub(crate) fn program(&self) -> Command {
        let (said, built) = self.build();
        assert!(built, "{said}");
        Command::new(target().join("debug").join(self.example.replace('_', "-")))
    }
}

/// Copies a directory, without what building leaves in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (name, path) = entry
            .map(|entry| (entry.file_name(), entry.path()))
            .unwrap();
        if path.is_dir() && name != "target" {
            copy(&path, &to.join(name));
        } else if path.is_file() && name != "Cargo.lock" {
            fs::copy(path, to.join(name)).unwrap();
        }
    }
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("..")
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

pub(crate) fn text(output: &Output) -> (String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
