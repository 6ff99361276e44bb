//! Several objects on the command line.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

mod support;

use std::fs;

use serde_json::Value;
use support::{code, root, run, run_with, stderr, stdout};

const INNER: &str = "fixtures/obj/link_inner.bpf.o";
const OUTER: &str = "fixtures/obj/link_outer.bpf.o";
const TABLE: &str = "fixtures/obj/link_table.bpf.o";

fn names(json: &Value) -> Vec<&str> {
    let maps = json["maps"].as_array().unwrap();
    maps.iter()
        .map(|map| map["name"].as_str().unwrap())
        .collect()
}

#[test]
fn a_written_plan_is_of_the_linked_object() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("linked.plan");
    let compile = || {
        let output = run(["compile", OUTER, INNER, "-o", path.to_str().unwrap()]);
        assert_eq!((code(&output), stderr(&output)), (0, ""));
        fs::read(&path).unwrap()
    };
    assert_eq!(compile(), compile(), "the same objects make the same plan");
    let from_plan = run(["plan", path.to_str().unwrap(), "--format", "json"]);
    let from_objects = run(["plan", OUTER, INNER, "--format", "json"]);
    assert_eq!(stdout(&from_plan), stdout(&from_objects));
    let json: Value = serde_json::from_str(stdout(&from_objects)).unwrap();
    assert_eq!(json["object"]["name"], "link_outer.bpf.o");
    assert_eq!(json["object"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(names(&json), ["choices", "first", "second"]);
    assert_eq!(
        json["maps"][1]["source"]["file"],
        "fixtures/link_inner.bpf.c"
    );
}

#[test]
fn one_of_them_may_come_from_standard_input() {
    let inner = fs::read(root().join(INNER)).unwrap();
    let output = run_with(["plan", OUTER, "-"], &inner);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("[1] = second  [3] = first"));
}

#[test]
fn a_load_of_several_is_a_load_of_their_plan() {
    let output = run(["load", "--dry-run", OUTER, INNER]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert!(stdout(&output).contains("choices"), "{}", stdout(&output));
}

#[test]
fn a_plan_cannot_be_linked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inner.plan");
    let path = path.to_str().unwrap();
    assert_eq!(code(&run(["compile", INNER, "-o", path])), 0);
    let output = run(["plan", OUTER, path]);
    assert_eq!((code(&output), stdout(&output)), (1, ""));
    let said = stderr(&output);
    assert!(
        said.contains("BP0903") && said.contains("inner.plan"),
        "{said}"
    );
}

#[test]
fn all_that_is_wrong_is_said_with_the_file() {
    // The same object twice defines everything twice.
    let output = run(["plan", TABLE, TABLE]);
    assert_eq!(code(&output), 1);
    let said = stderr(&output);
    for name in ["shared", "before", "mode", "limit", "count"] {
        assert!(said.contains(name), "{name}: {said}");
    }
    let output = run(["plan", TABLE, "README.md", "missing.o"]);
    let said = stderr(&output);
    assert!(said.contains("missing.o"), "{said}");
    let output = run(["compile", TABLE, "README.md", "-o", "-", "--format", "json"]);
    let json: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(json["diagnostics"][0]["object"], "README.md");
    assert_eq!(json["diagnostics"][0]["code"], "BP0001");
}
