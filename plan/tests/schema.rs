//! The JSON Schema: what it says of the sample and of arbitrary plans.
#![cfg(feature = "schema")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "a test that meets the unexpected has to fail"
)]

mod support;

use bpfplan_plan::format;
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::Value;
use support::{sample, strategy};

fn validator() -> Validator {
    jsonschema::validator_for(format::schema().as_value()).expect("the schema is one")
}

fn value(plan: &bpfplan_plan::Plan) -> Value {
    serde_json::from_str(&format::to_json(plan).unwrap()).unwrap()
}

#[test]
fn the_sample_conforms() {
    let (validator, plan) = (validator(), value(&sample::plan()));
    let problems: Vec<_> = validator
        .iter_errors(&plan)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(problems, [""; 0]);
}

#[test]
fn arbitrary_plans_conform() {
    let validator = validator();
    proptest!(|(plan in strategy::plan())| {
        let plan = value(&plan);
        let problem = validator.iter_errors(&plan).next().map(|error| error.to_string());
        prop_assert_eq!(problem, None);
    });
}

#[test]
fn what_does_not_read_does_not_conform() {
    let validator = validator();
    let changes: [fn(&mut Value); 6] = [
        |plan| plan["new"] = 0.into(),
        |plan| plan["maps"][0]["new"] = 0.into(),
        |plan| plan["maps"][2]["inner"]["inner"] = plan["maps"][2]["inner"].clone(),
        |plan| plan["maps"][0]["key_size"] = (-1).into(),
        |plan| plan["maps"][0]["max_entries"] = "many".into(),
        |plan| plan["types"][0] = "int".into(),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut plan = value(&sample::plan());
        change(&mut plan);
        assert!(!validator.is_valid(&plan), "change {index} conforms");
        assert!(
            format::read(plan.to_string().as_bytes()).is_err(),
            "change {index} reads"
        );
    }
}

#[test]
fn maps_and_templates_have_their_own_names() {
    let schema = format::schema();
    let definitions = schema.as_value()["$defs"].as_object().unwrap();
    for name in ["Map", "Template", "Slot", "Type"] {
        assert!(definitions.contains_key(name), "no {name}");
    }
    let numbered: Vec<_> = definitions
        .keys()
        .filter(|name| name.ends_with('2'))
        .collect();
    assert_eq!(numbered, [""; 0], "two types of one name");
    let text = schema.as_value().to_string();
    for reference in text.split("#/$defs/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(definitions.contains_key(name), "{name} is not defined");
    }
}
