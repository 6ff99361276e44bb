//! The committed schemas are what the command prints, and outputs are what the schemas say.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panic"
)]

mod support;

use std::fs;

use serde_json::Value;
use support::{code, fixtures, root, run, stdout};

fn printed(output: &str) -> String {
    let output = run(["schema", output]);
    assert_eq!(code(&output), 0);
    stdout(&output).to_owned()
}

fn validator(output: &str) -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(&printed(output)).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

fn check(validator: &jsonschema::Validator, text: &str, what: &str) {
    let value: Value = serde_json::from_str(text).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(
        errors.is_empty(),
        "{what} is not what its schema says: {errors:#?}"
    );
}

/// `BPFPLAN_UPDATE=1 cargo test -p bpfplan --test schema` writes them anew.
#[test]
fn committed_schemas_are_current() {
    for output in ["plan", "diagnostics", "load", "slots"] {
        let path = root().join(format!("schema/{output}.json"));
        let printed = printed(output);
        if std::env::var_os("BPFPLAN_UPDATE").is_some() {
            fs::write(&path, &printed).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == printed,
            "schema/{output}.json is old; run BPFPLAN_UPDATE=1 cargo test -p bpfplan --test schema"
        );
    }
}

#[test]
fn every_output_fits_its_schema() {
    let (plan, diagnostics) = (validator("plan"), validator("diagnostics"));
    let load = validator("load");
    let mut plans = 0;
    let mut refusals = 0;
    let mut dry_runs = 0;
    for (name, object) in fixtures() {
        let output = run(["plan", "--format", "json", &object]);
        if code(&output) == 0 {
            check(&plan, stdout(&output), &name);
            plans += 1;
        } else {
            check(&diagnostics, stdout(&output), &name);
            refusals += 1;
        }
        let output = run(["load", "--dry-run", "--format", "json", &object]);
        if code(&output) == 0 {
            check(&load, stdout(&output), &name);
            dry_runs += 1;
        } else {
            check(&diagnostics, stdout(&output), &name);
        }
    }
    assert!(
        plans > 0 && refusals > 0 && dry_runs > 0,
        "{plans}, {refusals}, {dry_runs}"
    );
}

#[test]
fn a_schema_refuses_what_it_does_not_know() {
    let plan = validator("plan");
    assert!(!plan.is_valid(&serde_json::json!({})));
    assert!(!plan.is_valid(&serde_json::json!({"version": 1})));
    assert!(!validator("diagnostics").is_valid(&serde_json::json!({"diagnostics": [{}]})));
    assert!(!validator("load").is_valid(&serde_json::json!({"maps": [{"name": 1}]})));
}
