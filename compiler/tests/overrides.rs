//! Overrides put the types of a plan in order again: as the compiler does, or plans would differ
//! for no reason.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets the unexpected has to fail"
)]

use std::path::Path;

use bpfplan_compiler::compile;
use bpfplan_plan::overrides::Overrides;
use bpfplan_plan::{Pinning, Plan};

/// Every plan of a fixture that has maps.
fn plans() -> Vec<(String, Plan)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj");
    let mut plans = Vec::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".bpf.o") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        if let Ok(compiled) = compile(&bytes, &name, &Default::default())
            && !compiled.plan.maps.is_empty()
        {
            plans.push((name, compiled.plan));
        }
    }
    assert!(plans.len() > 100, "only {} plans", plans.len());
    plans
}

#[test]
fn an_override_that_changes_nothing_changes_nothing() {
    for (name, plan) in plans() {
        let Some(map) = plan.maps.iter().find(|map| map.externs.is_empty()) else {
            continue;
        };
        let same = match map.pinning {
            Pinning::None => "none",
            Pinning::ByName => "by_name",
        };
        let overrides = Overrides::default().set(format!("{}/pinning", map.name), same);
        let done = overrides
            .apply(&plan)
            .unwrap_or_else(|found| panic!("{name}: {found:#?}"));
        assert!(done.plan == plan, "{name} is another plan");
        assert_eq!(done.warnings, [], "{name}");
    }
}

#[test]
fn what_is_left_out_takes_its_types_along() {
    for (name, plan) in plans() {
        let all = plan.maps.iter().map(|map| map.name.clone());
        let overrides = Overrides {
            skip: all.collect(),
            ..Overrides::default()
        };
        let done = overrides
            .apply(&plan)
            .unwrap_or_else(|found| panic!("{name}: {found:#?}"));
        let left = done.plan;
        assert!(left.maps.is_empty() && left.types.is_empty(), "{name}");
        assert!(left.btf.is_empty() && left.contents.is_empty(), "{name}");
    }
}
