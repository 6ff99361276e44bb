//! `load` and `unload` against the running kernel: needs root, BPF and a bpffs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panic"
)]

#[path = "support/kernel.rs"]
mod kernel;
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use bpfplan_loader::{Kernel as _, RealKernel};
use kernel::Pins;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{bpfplan, code, fixtures, root, run, run_with, stderr, stdout};

const OBJECT: &str = "fixtures/obj/device_tables.bpf.o";
fn main() {
    kernel::run_tests(&[
        (
            "a_load_pins_and_an_unload_removes",
            a_load_pins_and_an_unload_removes,
        ),
        ("a_plan_loads_like_its_object", a_plan_loads_like_its_object),
        ("holding_ends_with_a_signal", holding_ends_with_a_signal),
        (
            "a_refused_load_leaves_nothing",
            a_refused_load_leaves_nothing,
        ),
        (
            "a_dry_run_shows_what_a_load_makes",
            a_dry_run_shows_what_a_load_makes,
        ),
        ("an_overridden_load", an_overridden_load),
        (
            "places_are_found_when_something_is_said",
            places_are_found_when_something_is_said,
        ),
    ]);
}

fn document(text: &str) -> Value {
    let document: Value = serde_json::from_str(text).unwrap();
    let schema = run(["schema", "load"]);
    let schema: Value = serde_json::from_str(stdout(&schema)).unwrap();
    assert!(jsonschema::is_valid(&schema, &document), "{text}");
    document
}

fn a_load_pins_and_an_unload_removes() {
    let pins = Pins::new();
    let output = run([
        "load",
        OBJECT,
        "--pin-maps",
        pins.path(),
        "--format",
        "json",
    ]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let document = document(stdout(&output));
    let maps = document["maps"].as_array().unwrap();
    let names: Vec<&str> = maps
        .iter()
        .map(|map| map["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["uplinks", "downlinks", "device_tables"]);
    for map in maps {
        assert!(map["id"].as_u64().unwrap() > 0);
        let pin = pins.0.join(map["name"].as_str().unwrap());
        assert_eq!(map["pinned"], pin.to_str().unwrap());
        assert_eq!(map["reused"], false);
        assert!(pin.exists());
    }
    assert_eq!(maps[2]["filled"], 2);

    let again = run(["load", OBJECT, "--pin-maps", pins.path()]);
    assert_eq!(code(&again), 1, "a second load must not touch the first");
    assert!(pins.0.join("uplinks").exists());

    let output = run(["unload", pins.path()]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert!(!pins.0.exists());
    assert_eq!(
        code(&run(["unload", pins.path()])),
        1,
        "there is nothing left"
    );
}

fn a_plan_loads_like_its_object() {
    for format in ["binary", "json"] {
        let pins = Pins::new();
        let plan = run(["compile", OBJECT, "-o", "-", "--format", format]);
        let output = run_with(["load", "-", "--pin-maps", pins.path()], &plan.stdout);
        assert_eq!((code(&output), stderr(&output)), (0, ""), "{format}");
        for name in ["uplinks", "downlinks", "device_tables"] {
            assert!(pins.names().contains(&name.to_owned()), "{format}: {name}");
        }
        assert!(
            stdout(&output).contains("3 maps created, 2 slots filled"),
            "{}",
            stdout(&output)
        );
        assert_eq!(code(&run(["unload", pins.path()])), 0);
    }
}

fn holding_ends_with_a_signal() {
    let mut child = bpfplan(["load", OBJECT, "--hold"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    talk.read_line(&mut line).unwrap();
    assert!(line.contains("hold"), "{line:?}");
    assert!(child.try_wait().unwrap().is_none(), "it holds");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

fn a_refused_load_leaves_nothing() {
    let pins = Pins::new();
    let object = "fixtures/obj/bad_load_no_entries.bpf.o";
    let output = run([
        "load",
        object,
        "--pin-maps",
        pins.path(),
        "--format",
        "json",
    ]);
    assert_eq!((code(&output), stderr(&output)), (1, ""));
    let document: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(document["diagnostics"][0]["map"], "table");
    assert!(!pins.0.exists());
}

/// Paths and the size of the record are those of the real load.
fn a_dry_run_shows_what_a_load_makes() {
    let pins = Pins::new();
    let name = pins.0.file_name().unwrap().to_str().unwrap();
    let roundabout = format!("/sys/fs/../fs/bpf/./{name}/");
    let object = "fixtures/obj/many_slots.bpf.o";
    let output = run(["load", object, "--pin-maps", &roundabout, "--dry-run"]);
    assert_eq!(code(&output), 0);
    assert!(!pins.0.exists());
    let calls = stdout(&output);
    assert_eq!(
        code(&run(["load", object, "--pin-maps", &roundabout])),
        0,
        "it loads"
    );
    for name in pins.names() {
        let pinned = format!(", \"{}/{name}\")", pins.path());
        assert_eq!(calls.matches(&pinned).count(), 1, "{pinned} in {calls}");
    }
    assert_eq!(calls.matches("obj_pin(").count(), pins.names().len());
    let record = RealKernel::new();
    let map = record.open_pin(&pins.0.join("bpfplan_record")).unwrap();
    let size = record.info(&map).unwrap().value_size;
    let written = format!("map_update_elem(#8, 0: {size} bytes)");
    assert!(calls.contains(&written), "{written} in {calls}");
}

fn an_overridden_load() {
    let pins = Pins::new();
    let object = "fixtures/obj/override_required.bpf.o";
    let load = [
        "load",
        object,
        "--format",
        "json",
        "--pin-maps",
        pins.path(),
    ];
    let output = run(load);
    assert_eq!((code(&output), stderr(&output)), (1, ""));
    assert!(!pins.0.exists(), "a refused load makes nothing");

    let sets = [
        "flows.max_entries=1k",
        "records.max_entries=5000",
        "sides.max_entries=3",
    ];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let output = run(load.into_iter().chain(sets).chain(["--skip", "shards"]));
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let document = document(stdout(&output));
    let found: Vec<(&str, u64)> = document["maps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|map| {
            (
                map["name"].as_str().unwrap(),
                map["max_entries"].as_u64().unwrap(),
            )
        })
        .collect();
    let records = 5000_u64
        .next_multiple_of(RealKernel::new().page_size().into())
        .next_power_of_two();
    assert_eq!(
        found,
        [
            ("left", 8),
            ("right", 8),
            ("sides", 3),
            ("flows", 1000),
            ("records", records)
        ]
    );
    assert!(!pins.0.join("shards").exists());
    assert_eq!(code(&run(["unload", pins.path()])), 0);
}

/// What a load says of an object, with its exit status.
fn said(object: &Path, pins: &Pins) -> (i32, Value) {
    let named = format!("{}-by-name", pins.path());
    fs::create_dir(&named).unwrap();
    let args = ["load", object.to_str().unwrap(), "--format", "json"];
    let args = args.into_iter().chain(["--pin-root", &named]);
    let output = run(args.chain(["--pin-maps", pins.path()]));
    fs::remove_dir_all(&named).unwrap();
    if pins.0.exists() {
        assert_eq!(code(&run(["unload", pins.path()])), 0, "{object:?}");
    }
    let document: Value = serde_json::from_str(stdout(&output)).unwrap();
    let key = if code(&output) == 0 {
        "warnings"
    } else {
        "diagnostics"
    };
    let mut said = document[key].clone();
    for diagnostic in said.as_array_mut().unwrap() {
        assert_eq!(diagnostic["object"], object.to_str().unwrap());
        diagnostic["object"] = Value::Null;
    }
    (code(&output), said)
}

/// A pipe is read once, so all of it is: places come from the DWARF at once. Of a file they are found
/// when there is something to say, and a large one is read without its DWARF before.
fn places_are_found_when_something_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let pins = Pins::new();
    let mut with_places = 0;
    for (name, path) in fixtures() {
        let bytes = fs::read(root().join(path)).unwrap();
        let file = format!("{name}.bpf.o");
        let at = |way: &str| {
            let directory = directory.path().join(way);
            fs::create_dir_all(&directory).unwrap();
            directory.join(&file)
        };
        let (small, large, pipe) = (at("small"), at("large"), at("pipe"));
        fs::write(&small, &bytes).unwrap();
        let mut padded = bytes.clone();
        padded.resize(bytes.len().max(1 << 16), 0);
        fs::write(&large, padded).unwrap();
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).unwrap();
        let writer = pipe.clone();
        std::thread::spawn(move || fs::write(writer, bytes));
        let whole = said(&pipe, &pins);
        assert_eq!(said(&small, &pins), whole, "{name}");
        assert_eq!(said(&large, &pins), whole, "{name}");
        let diagnostics = whole.1.as_array().unwrap().iter();
        with_places += diagnostics
            .filter(|diagnostic| diagnostic["labels"][0]["source"]["line"].as_u64() > Some(0))
            .count();
    }
    assert!(with_places > 50, "{with_places}");
}
