//! What would be published has what it needs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const PUBLISHED: [&str; 4] = [
    "bpfplan-plan",
    "bpfplan-compiler",
    "bpfplan-loader",
    "bpfplan",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn packages() -> Vec<Value> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn these_are_published_and_no_others() {
    let packages = packages();
    let published = packages
        .iter()
        .filter(|package| package["publish"].is_null());
    let mut names: Vec<&str> = published.map(|p| p["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    let mut expected = PUBLISHED;
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn manifests_say_what_a_registry_shows() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        if !PUBLISHED.contains(&name) {
            continue;
        }
        for field in ["description", "license", "readme", "rust_version"] {
            assert!(package[field].is_string(), "{name} has no {field}");
        }
        for field in ["keywords", "categories"] {
            let number = package[field].as_array().unwrap().len();
            assert!((1..=5).contains(&number), "{name}: {number} {field}");
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            // A package is built without the others' directories.
            let versioned = dependency["req"] != "*" || dependency["kind"] == "dev";
            assert!(
                versioned,
                "{name} needs a version of {}",
                dependency["name"]
            );
        }
    }
}

#[test]
fn packages_have_their_texts() {
    for name in PUBLISHED {
        let list = cargo(&["package", "--list", "--allow-dirty", "--package", name]);
        let files: Vec<&str> = list.lines().collect();
        for needed in [
            "Cargo.toml",
            "README.md",
            "LICENSE",
            "LICENSE-APACHE",
            "LICENSE-MIT",
        ] {
            assert!(files.contains(&needed), "{name} has no {needed}: {list}");
        }
        let source = files
            .iter()
            .any(|file| ["src/lib.rs", "src/main.rs"].contains(file));
        assert!(source, "{name}: {list}");
        let output = files.iter().find(|file| file.starts_with("target/"));
        assert_eq!(output, None, "{name}");
    }
}

#[test]
fn packages_are_made() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
    let mut arguments = vec!["package", "--no-verify", "--allow-dirty", "--target-dir"];
    arguments.push(target.to_str().unwrap());
    arguments.extend(PUBLISHED.iter().flat_map(|name| ["--package", name]));
    cargo(&arguments);
    for name in PUBLISHED {
        let file = format!("package/{name}-{}.crate", env!("CARGO_PKG_VERSION"));
        assert!(target.join(&file).is_file(), "{file}");
    }
}

/// What a package includes from its neighbours' directories would be missing in it.
#[test]
fn sources_stay_in_their_packages() {
    for name in PUBLISHED {
        let directory = root().join(name.strip_prefix("bpfplan-").unwrap_or("cli"));
        for path in sources(&directory.join("src")) {
            let text = std::fs::read_to_string(&path).unwrap();
            let includes = text.lines().filter(|line| line.contains("include_"));
            let outside = includes.filter(|line| line.contains("../../"));
            assert_eq!(outside.count(), 0, "{}", path.display());
        }
    }
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else {
            found.push(path);
        }
    }
    assert!(!found.is_empty(), "{}", directory.display());
    found
}

/// The command's version has an entry in the changelog, which begins with what is not released.
#[test]
fn the_changelog_knows_the_version() {
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let headings: Vec<&str> = changelog
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    assert_eq!(headings[0], "Unreleased");
    let version = env!("CARGO_PKG_VERSION");
    let released = headings.iter().any(|heading| heading.starts_with(version));
    assert!(released || version == "0.1.0", "{headings:?}");
}
