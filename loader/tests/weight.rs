//! What the loader brings into other people's daemons.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panic")]

use std::collections::BTreeSet;
use std::process::Command;

/// The packages that the loader links, its own included.
fn packages(features: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-p", "bpfplan-loader"])
        .args(["-e", "normal", "--prefix", "none", "--format", "{p}"])
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = text.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

/// No parser of ELF, DWARF or BTF, and nothing of the compiler.
#[test]
fn the_loader_carries_no_parsers() {
    let packages = packages(&[]);
    for needed in ["bpfplan-loader", "bpfplan-plan", "libbpf-sys", "zerocopy"] {
        assert!(packages.contains(needed), "{needed}: {packages:?}");
    }
    for heavy in ["object", "gimli", "btf-rs", "bpfplan-compiler", "clap"] {
        assert!(!packages.contains(heavy), "{heavy}: {packages:?}");
    }
}
