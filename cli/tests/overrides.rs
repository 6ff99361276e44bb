//! `--set` and `--skip` on the command line.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panic"
)]

mod support;

use serde_json::Value;
use support::{code, root, run, run_with, stderr, stdout};

const DATA: &str = "fixtures/obj/override_data.bpf.o";
const TABLES: &str = "fixtures/obj/device_tables.bpf.o";
/// Its sizes are left to whoever loads it.
const OPEN: &str = "fixtures/obj/override_required.bpf.o";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_plan_shows_what_is_set_and_leaves_out_what_is_skipped() {
    let output = run([
        "plan",
        TABLES,
        "--set",
        "uplinks.max_entries=64Ki",
        "--skip",
        "device_tables",
        "--format",
        "json",
    ]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let plan = json(stdout(&output));
    let maps = plan["maps"].as_array().unwrap();
    let names: Vec<_> = maps
        .iter()
        .map(|map| map["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["uplinks", "downlinks"]);
    assert_eq!(maps[0]["max_entries"], 65536);

    let output = run(["plan", DATA, "--set", ".rodata.device=\"wlan0\""]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert!(stdout(&output).contains("const volatile char device[16] = \"wlan0\";"));
}

#[test]
fn a_reviewed_plan_loads_as_it_was_shown() {
    let overrides = [
        "--set",
        ".data.total=99",
        "--set",
        ".data.names/value_size=20",
    ];
    let plan = run(["plan", DATA, "--format", "json"]
        .into_iter()
        .chain(overrides));
    assert_eq!(code(&plan), 0, "{}", stderr(&plan));
    let from_plan = run_with(["load", "-", "--dry-run"], &plan.stdout);
    let at_once = run(["load", DATA, "--dry-run"].into_iter().chain(overrides));
    assert_eq!((code(&at_once), stderr(&at_once)), (0, ""));
    assert_eq!(stdout(&from_plan), stdout(&at_once));
    assert!(stdout(&at_once).contains("value_size 20"));
    // A plan can be overridden as well as its object.
    let object = run(["plan", DATA, "--format", "json"]);
    let late = run_with(
        ["load", "-", "--dry-run"].into_iter().chain(overrides),
        &object.stdout,
    );
    assert_eq!(stdout(&late), stdout(&at_once));
}

#[test]
fn objects_of_either_byte_order_are_set() {
    let json_of = |object: &str| {
        let set = ".rodata:max_entries=258";
        let output = run(["plan", object, "--format", "json", "--set", set]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        json(stdout(&output))["contents"].clone()
    };
    assert_ne!(
        json_of(DATA),
        json_of("fixtures/obj/override_data.be.bpf.o")
    );
}

#[test]
fn wrong_overrides_are_refused() {
    for (set, says) in [
        ("flwos.max_entries=1", "there is no map 'flwos'"),
        ("uplinks.max_entry=1", "did you mean 'max_entries'?"),
        ("uplinks.max_entries=many", "is not a number"),
        ("uplinks.max_entries=0", "takes at least 1"),
        ("device_tables.max_entries=1", "beyond the end"),
        ("uplinks.map_flags=BPF_F_MMAPABLE", "does not take"),
    ] {
        for command in ["plan", "load"] {
            let dry: &[&str] = if command == "load" {
                &["--dry-run"]
            } else {
                &[]
            };
            let args = [command, TABLES, "--set", set]
                .into_iter()
                .chain(dry.iter().copied());
            let output = run(args.clone());
            assert_eq!((code(&output), stdout(&output)), (1, ""), "{set}");
            assert!(stderr(&output).starts_with("error["), "{}", stderr(&output));
            assert!(stderr(&output).contains(says), "{set}: {}", stderr(&output));

            let output = run(args.chain(["--format", "json"]));
            assert_eq!((code(&output), stderr(&output)), (1, ""), "{set}");
            let document = json(stdout(&output));
            assert_eq!(
                document["diagnostics"].as_array().unwrap().len(),
                1,
                "{document}"
            );
            assert_eq!(document["diagnostics"][0]["object"], TABLES);
        }
    }
    let output = run(["load", TABLES, "--dry-run", "--skip", "uplinks"]);
    assert_eq!((code(&output), stdout(&output)), (1, ""));
    assert!(
        stderr(&output).contains("slot 0 of 'device_tables'"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_does_not_read_is_wrong_usage() {
    for set in ["", "uplinks", "=1", "uplinks.max_entries=[1", "x=\"y"] {
        let output = run(["load", TABLES, "--dry-run", "--set", set]);
        assert_eq!((code(&output), stdout(&output)), (2, ""), "{set}");
    }
}

#[test]
fn warnings_are_said_once() {
    let args = ["plan", TABLES, "--set", "uplinks.numa_node=1"];
    let output = run(args);
    assert_eq!(code(&output), 0);
    assert_eq!(
        stderr(&output).matches("warning[").count(),
        1,
        "{}",
        stderr(&output)
    );
}

#[test]
fn sizes_that_are_left_open_have_to_be_set() {
    let targets = [
        "flows.max_entries",
        "records.max_entries",
        "sides.max_entries",
        "shards.inner.max_entries",
    ];
    let directory = tempfile::tempdir_in(root().join("target")).unwrap();
    let file = directory.path().join("open.plan");
    let file = file.to_str().unwrap();

    let plan = run(["plan", OPEN]);
    assert_eq!(code(&plan), 0);
    let compiled = run(["compile", OPEN, "-o", file]);
    assert_eq!(code(&compiled), 0);
    let checked = run(["check", OPEN]);
    assert_eq!(code(&checked), 1, "as it is, nothing loads it");
    let loaded = run(["load", OPEN, "--dry-run"]);
    assert_eq!((code(&loaded), stdout(&loaded)), (1, ""));
    for target in targets {
        let set = format!("--set {target}=N");
        assert!(
            stdout(&plan).contains(&format!("required: {set}\n")),
            "{target}"
        );
        for output in [&plan, &compiled, &checked, &loaded] {
            assert!(stderr(output).contains(&set), "{}", stderr(output));
        }
    }
    assert!(stderr(&compiled).starts_with("warning[BP0411]"));
    assert!(stderr(&loaded).starts_with("error[BP0411]"));
    let document = run(["check", "--format", "json", OPEN]);
    let document = json(stdout(&document));
    assert_eq!(document["diagnostics"][0]["code"], "BP0411");

    let sets = targets.map(|target| format!("{target}=4Ki"));
    let sets = sets.iter().flat_map(|set| ["--set", set.as_str()]);
    for input in [OPEN, file] {
        let output = run(["load", input, "--dry-run"].into_iter().chain(sets.clone()));
        assert_eq!((code(&output), stderr(&output)), (0, ""), "{input}");
        assert_eq!(
            stdout(&output).matches("max_entries 4096").count(),
            4,
            "{}",
            stdout(&output)
        );
    }
}

#[test]
fn an_arena_with_variables_may_have_other_pages() {
    let arena = "fixtures/obj/arena_variables.bpf.o";
    let output = run([
        "plan",
        arena,
        "--set",
        "heap.max_entries=200",
        "--format",
        "json",
    ]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert_eq!(json(stdout(&output))["maps"][0]["max_entries"], 200);

    // Its variables need a page.
    let output = run(["plan", arena, "--set", "heap.max_entries=0"]);
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("max_entries"),
        "{}",
        stderr(&output)
    );
}
