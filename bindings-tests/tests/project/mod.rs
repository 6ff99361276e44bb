//! A project of a user, which cargo builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MANIFEST: &str = r#"
[package]
name = "NAME"
version = "0.1.0"
edition = "2024"
publish = false

[workspace]

[dependencies]
bpfplan-loader = { path = "ROOT/loader" }

[build-dependencies]
bpfplan-compiler = { path = "ROOT/compiler" }
"#;

/// Whether the builder will find a clang.
pub(crate) fn has_clang() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| {
        let names = directory.read_dir().into_iter().flatten().flatten();
        names.into_iter().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let version = name.strip_prefix("clang-");
            name == "clang" || version.is_some_and(|version| version.parse::<u32>().is_ok())
        })
    })
}

/// A directory with a project, which shares what is built already.
pub(crate) struct Project {
    directory: PathBuf,
}

impl Project {
    /// A project without sources, in a directory that is the same every time, so that what cargo
    /// keeps does not pile up.
    pub(crate) fn empty(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        let this = Self { directory };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = root.canonicalize().unwrap();
        let manifest = MANIFEST.replace("NAME", name);
        this.write(
            "Cargo.toml",
            &manifest.replace("ROOT", root.to_str().unwrap()),
        );
        // The versions of the workspace, which are there without a network.
        let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap();
        this.write("Cargo.lock", &lock);
        this
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.directory.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn cargo(&self, command: &str) -> Output {
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
        Command::new(env!("CARGO"))
            .args([command, "--offline", "--color", "never"])
            .current_dir(&self.directory)
            .env("CARGO_TARGET_DIR", profile)
            // As in the workspace, so that nothing is built twice.
            .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap()
    }
}

/// What a command has said.
pub(crate) fn text(output: &Output) -> (String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
