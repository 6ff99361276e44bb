//! `load` of maps that are pinned by name: needs root, BPF and a bpffs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panic"
)]

#[path = "support/kernel.rs"]
mod kernel;
mod support;

use std::process::Stdio;

use kernel::Pins;
use serde_json::Value;
use support::{bpfplan, code, run, stderr, stdout};

const OBJECT: &str = "fixtures/obj/pin_maps_of_maps.bpf.o";

fn main() {
    kernel::run_tests(&[
        ("a_second_load_reuses", a_second_load_reuses),
        ("slots_follow_the_policy", slots_follow_the_policy),
        (
            "differences_stand_side_by_side",
            differences_stand_side_by_side,
        ),
        ("pins_alone_keep_maps", pins_alone_keep_maps),
        (
            "a_dry_run_says_what_it_leaves_out",
            a_dry_run_says_what_it_leaves_out,
        ),
        ("processes_race_for_one_map", processes_race_for_one_map),
    ]);
}

/// A pin root of this test's own, removed with all pins in it.
struct Root(Pins);

impl Root {
    fn new() -> Self {
        Self(Pins::new())
    }

    fn path(&self) -> &str {
        self.0.path()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0.0);
    }
}

fn json(args: &[&str]) -> Value {
    let output = run(args.iter().copied().chain(["--format", "json"]));
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    serde_json::from_str(stdout(&output)).unwrap()
}

fn reused(document: &Value) -> Vec<bool> {
    let maps = document["maps"].as_array().unwrap();
    maps.iter()
        .map(|map| map["reused"].as_bool().unwrap())
        .collect()
}

fn a_second_load_reuses() {
    let (root, pins) = (Root::new(), Pins::new());
    let args = [
        "load",
        OBJECT,
        "--pin-root",
        root.path(),
        "--pin-maps",
        pins.path(),
    ];
    let output = run(args);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let staying = format!(
        "removes the pins, but not {0}/blue, {0}/backends.",
        root.path()
    );
    assert!(stdout(&output).contains("3 maps created, 2 slots filled"));
    assert!(stdout(&output).contains(&staying), "{}", stdout(&output));
    assert_eq!(root.0.names(), ["backends", "blue"]);
    assert_eq!(pins.names(), ["bpfplan_record", "green"]);
    assert_eq!(code(&run(["unload", pins.path()])), 0);
    assert_eq!(root.0.names(), ["backends", "blue"]);

    let output = run(args);
    assert_eq!(code(&output), 0);
    assert!(
        stdout(&output).contains("1 map created, 2 reused"),
        "{}",
        stdout(&output)
    );
    assert!(
        stdout(&output).contains("  reused  "),
        "{}",
        stdout(&output)
    );
    assert!(
        stderr(&output).contains("note[BP0721]"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("warning[BP0722]"),
        "{}",
        stderr(&output)
    );
}

fn slots_follow_the_policy() {
    let root = Root::new();
    let pins = [Pins::new(), Pins::new(), Pins::new()];
    let load = |pins: &Pins, policy: &str| {
        json(&[
            "load",
            OBJECT,
            "--pin-root",
            root.path(),
            "--pin-maps",
            pins.path(),
            "--slots",
            policy,
        ])
    };
    let first = load(&pins[0], "overwrite");
    assert_eq!(reused(&first), [false; 3]);
    for (pins, policy, filled) in [(&pins[1], "fill-empty", 0), (&pins[2], "overwrite", 1)] {
        let document = load(pins, policy);
        assert_eq!(reused(&document), [true, false, true]);
        assert_eq!(document["maps"][2]["filled"], filled, "{policy}");
        assert_eq!(document["maps"][2]["id"], first["maps"][2]["id"]);
        let warnings = document["warnings"].as_array().unwrap().len();
        assert_eq!(warnings, if filled == 0 { 2 } else { 0 });
    }
    let output = run(["load", OBJECT, "--slots", "forget"]);
    assert_eq!(code(&output), 2);
}

fn differences_stand_side_by_side() {
    let root = Root::new();
    let other = "fixtures/obj/pin_by_name.bpf.o";
    // The pins have each other's names.
    json(&[
        "load",
        other,
        "--pin-root",
        root.path(),
        "--pin-maps",
        root.path(),
    ]);
    let shared = root.0.0.join("shared_state");
    std::fs::rename(&shared, root.0.0.join("blue")).unwrap();
    let args = [
        "load",
        OBJECT,
        "--pin-root",
        root.path(),
        "--pin-maps",
        root.path(),
    ];
    std::fs::remove_file(root.0.0.join("bpfplan_record")).unwrap();
    let output = run(args);
    assert_eq!((code(&output), stdout(&output)), (1, ""));
    let text = stderr(&output);
    assert!(text.contains("error[BP0716]: map 'blue'"), "{text}");
    for line in [
        "             declared        pinned",
        "type         array           hash",
        "value_size   16              4",
        "max_entries  64              16",
        "value        struct backend  __u32",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    let output = run(args.iter().copied().chain(["--format", "json"]));
    assert_eq!((code(&output), stderr(&output)), (1, ""));
    let document: Value = serde_json::from_str(stdout(&output)).unwrap();
    let difference = &document["diagnostics"][0]["differences"][0];
    assert_eq!(difference["path"], "type");
    assert_eq!(
        (&difference["declared"], &difference["pinned"]),
        (&"array".into(), &"hash".into())
    );
    assert_eq!(difference["severity"], "error");
    assert_eq!(root.0.names(), ["blue", "private_state"]);
}

/// Without --pin-maps or --hold, a load is wrong usage unless every map is pinned by name.
fn pins_alone_keep_maps() {
    let root = Root::new();
    let output = run(["load", OBJECT, "--pin-root", root.path()]);
    assert_eq!((code(&output), stdout(&output)), (2, ""));
    assert!(
        stderr(&output).contains("'green' would be gone"),
        "{}",
        stderr(&output)
    );
    assert!(!root.0.0.exists());
}

fn a_dry_run_says_what_it_leaves_out() {
    let root = Root::new();
    let args = ["load", OBJECT, "--pin-root", root.path(), "--dry-run"];
    let output = run(args);
    assert_eq!(code(&output), 0);
    let pin = format!("obj_pin(#4, \"{}/blue\")", root.path());
    assert!(stdout(&output).contains(&pin), "{}", stdout(&output));
    assert!(stdout(&output).contains(&format!("mkdir(\"{}\"", root.path())));
    assert!(stderr(&output).contains("note[BP0723]"));
    assert!(!stderr(&output).contains("is there now"));
    assert!(!root.0.0.exists());
    json(&[
        "load",
        OBJECT,
        "--pin-root",
        root.path(),
        "--pin-maps",
        root.path(),
    ]);
    let output = run(args);
    assert!(
        stderr(&output).contains("are there now"),
        "{}",
        stderr(&output)
    );
}

fn processes_race_for_one_map() {
    let root = Root::new();
    let object = "fixtures/obj/pin_alone.bpf.o";
    let start = || {
        bpfplan([
            "load",
            object,
            "--pin-root",
            root.path(),
            "--format",
            "json",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
    };
    let running: Vec<_> = (0..12).map(|_| start()).collect();
    let documents: Vec<Value> = running
        .into_iter()
        .map(|process| {
            let output = process.wait_with_output().unwrap();
            assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
            serde_json::from_str(stdout(&output)).unwrap()
        })
        .collect();
    let created = documents
        .iter()
        .filter(|document| !reused(document)[0])
        .count();
    assert_eq!(created, 1, "exactly one creates");
    let id = &documents[0]["maps"][0]["id"];
    assert!(
        documents
            .iter()
            .all(|document| &document["maps"][0]["id"] == id)
    );
}
