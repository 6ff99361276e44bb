//! `bpfplan bindings`. What the modules are like, the crate `bpfplan-bindings-tests` shows.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

mod support;

use std::fs;

use support::{code, run, run_with, stderr, stdout};

const OBJECT: &str = "fixtures/obj/ringbuf_slots.bpf.o";
const REFUSED: &str = "fixtures/obj/bad_no_type.bpf.o";

#[test]
fn an_object_and_its_plan_give_one_module() {
    let directory = tempfile::tempdir().unwrap();
    let of_object = run(["bindings", OBJECT, "-o", "-"]);
    assert_eq!((code(&of_object), stderr(&of_object)), (0, ""));
    assert!(stdout(&of_object).contains("pub struct RingbufSlots {"));
    for format in ["binary", "json"] {
        let plan = directory.path().join(format);
        let plan = plan.to_str().unwrap();
        run(["compile", OBJECT, "-o", plan, "--format", format]);
        let of_plan = run(["bindings", plan, "-o", "-"]);
        assert_eq!(stdout(&of_plan), stdout(&of_object), "{format}");
    }
    let file = directory.path().join("maps.rs");
    let written = run(["bindings", OBJECT, "-o", file.to_str().unwrap()]);
    assert_eq!(
        (code(&written), stdout(&written), stderr(&written)),
        (0, "", "")
    );
    assert_eq!(fs::read_to_string(file).unwrap(), stdout(&of_object));
}

#[test]
fn standard_input_is_read() {
    let object = fs::read(support::root().join(OBJECT)).unwrap();
    let output = run_with(["bindings", "-", "-o", "-"], &object);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("pub struct Stdin {"));
}

#[test]
fn nothing_is_left_half_done() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("old.rs");
    fs::write(&file, "old").unwrap();
    let output = run(["bindings", REFUSED, "-o", file.to_str().unwrap()]);
    assert_eq!((code(&output), stdout(&output)), (1, ""));
    assert!(stderr(&output).contains("error[BP0213]"));
    assert_eq!(fs::read(&file).unwrap(), b"old");

    let missing = directory.path().join("no/such/file.rs");
    let output = run(["bindings", OBJECT, "-o", missing.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("BP0904"), "{}", stderr(&output));
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn two_maps_of_one_rust_name_are_refused() {
    let plan = run(["plan", OBJECT, "--format", "json"]);
    let names: Vec<String> = {
        let plan: serde_json::Value = serde_json::from_str(stdout(&plan)).unwrap();
        let maps = plan["maps"].as_array().unwrap();
        maps.iter()
            .map(|map| map["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let text = stdout(&plan)
        .replace(&format!("\"{}\"", names[0]), "\"one_name\"")
        .replace(&format!("\"{}\"", names[1]), "\"one.name\"");
    let output = run_with(["bindings", "-", "-o", "-"], text.as_bytes());
    assert_eq!((code(&output), stdout(&output)), (1, ""));
    let said = stderr(&output);
    assert!(said.contains("error[BP1001]"), "{said}");
    assert!(said.contains("'one.name' and 'one_name'"), "{said}");
    assert_eq!(said.matches("ringbuf_slots.bpf.c:").count(), 2, "{said}");
}
