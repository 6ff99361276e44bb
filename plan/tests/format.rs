//! The file format: round trips, the sample that must keep loading, and hostile input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "a test that meets the unexpected has to fail"
)]

mod support;

use std::path::PathBuf;

use bpfplan_plan::format::{self, FormatError, MAGIC};
use bpfplan_plan::{Bytes, Plan, rules, validate};
use proptest::prelude::*;
use support::{sample, strategy};

proptest! {
    #[test]
    fn json_round_trip(plan in strategy::plan()) {
        let text = format::to_json(&plan).unwrap();
        prop_assert_eq!(format::read(text.as_bytes()).unwrap(), plan);
    }

    #[test]
    fn binary_round_trip(plan in strategy::plan()) {
        let bytes = format::to_binary(&plan).unwrap();
        prop_assert!(format::is_plan(&bytes));
        prop_assert_eq!(format::read(&bytes).unwrap(), plan);
    }

    #[test]
    fn shared_plans_are_the_same(plan in strategy::plan()) {
        let bytes = Bytes::from(format::to_binary(&plan).unwrap());
        let shared = format::read_shared(&bytes).unwrap();
        let inside = bytes.as_ptr_range();
        let blobs = shared.contents.iter().map(|contents| &contents.bytes);
        for blob in blobs.chain([&shared.btf]).filter(|blob| !blob.is_empty()) {
            prop_assert!(inside.contains(&blob.as_ptr()), "a copy");
        }
        prop_assert_eq!(shared, plan);
    }

    #[test]
    fn what_is_written_depends_on_the_plan_only(plan in strategy::plan()) {
        let through_binary = format::read(&format::to_binary(&plan).unwrap()).unwrap();
        prop_assert_eq!(format::to_json(&through_binary).unwrap(), format::to_json(&plan).unwrap());
    }

    #[test]
    fn cut_plans_are_refused(plan in strategy::plan(), cut in 1..100_usize) {
        let binary = format::to_binary(&plan).unwrap();
        let shorter = &binary[..binary.len().saturating_sub(cut).max(1)];
        prop_assert!(format::read(shorter).is_err());
        let json = format::to_json(&plan).unwrap().into_bytes();
        // Without the newline at its end it is still complete.
        prop_assert!(format::read(&json[..json.len() - 1 - cut]).is_err());
    }

    #[test]
    fn garbage_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = format::read(&bytes);
        let _ = format::read(&[&MAGIC[..], &format::VERSION.to_le_bytes(), &bytes].concat());
    }

    #[test]
    fn damaged_plans_do_not_panic(
        plan in strategy::plan(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = format::to_binary(&plan).unwrap();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(plan) = format::read(&bytes) {
            walk(&plan);
        }
    }

    /// Whatever a plan says, judging it ends, without a panic.
    #[test]
    fn arbitrary_plans_can_be_judged(plan in strategy::plan()) {
        walk(&plan);
    }
}

fn walk(plan: &Plan) {
    let _ = validate::validate(plan);
    let _ = rules::lint(plan, &[rules::KernelVersion::new(5, 4)]);
    let _ = rules::slot_errors(plan);
    let _ = plan.steps();
    let target = rules::Target {
        page_size: 4096,
        possible_cpus: 4,
    };
    for map in &plan.maps {
        let _ = rules::memory(map, &target);
        let _ = rules::needs(map, &plan.types);
        let _ = rules::btf_refusal(map, &plan.types);
        let _ = rules::explain(rules::Call::MapCreate, 22, Some(map), &plan.types, None);
    }
    let _ = bpfplan_plan::btf::encode(&plan.types, plan.object.endianness);
    let _ = bpfplan_plan::btf::sanitize(&plan.types, &bpfplan_plan::btf::Features::NONE);
}

fn sample(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/samples")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Version 1 keeps its meaning: both samples were written once and must load as they are.
#[test]
fn samples_of_version_1_load() {
    let plan = sample::plan();
    assert_eq!(format::read(&sample("v1.json")).unwrap(), plan);
    assert_eq!(format::read(&sample("v1.plan")).unwrap(), plan);
}

#[test]
fn samples_are_what_is_written_today() {
    let plan = sample::plan();
    assert_eq!(
        format::to_json(&plan).unwrap().into_bytes(),
        sample("v1.json")
    );
    assert_eq!(format::to_binary(&plan).unwrap(), sample("v1.plan"));
}

#[test]
fn other_versions_are_refused_by_number() {
    let json = br#"{"version": 2, "shape": "of the future"}"#;
    assert!(matches!(
        format::read(json),
        Err(FormatError::Version { found: 2 })
    ));
    let mut binary = format::to_binary(&sample::plan()).unwrap();
    binary[MAGIC.len()] = 9;
    assert!(matches!(
        format::read(&binary),
        Err(FormatError::Version { found: 9 })
    ));
}

#[test]
fn unknown_fields_are_refused_at_every_level() {
    let text = format::to_json(&sample::plan()).unwrap();
    for (place, with) in [
        ("\"version\": 1,", "\"version\": 1, \"new\": 0,"),
        ("\"name\": \"luts\",", "\"name\": \"luts\", \"new\": 0,"),
        (
            "\"name\": \"luts.inner\",",
            "\"name\": \"luts.inner\", \"new\": 0,",
        ),
        (
            "\"possible_cpus\": true",
            "\"possible_cpus\": true, \"new\": 0",
        ),
        ("\"program\": \"tail\"", "\"program\": \"tail\", \"new\": 0"),
        ("\"line\": 12", "\"line\": 12, \"new\": 0"),
        (
            "\"endianness\": \"little\"",
            "\"endianness\": \"little\", \"new\": 0",
        ),
        ("\"bitfield_size\": 3", "\"bitfield_size\": 3, \"new\": 0"),
        ("\"frozen\": true", "\"frozen\": true, \"new\": 0"),
        (
            "\"map\": \"flow.data\",",
            "\"map\": \"flow.data\", \"new\": 0,",
        ),
    ] {
        assert!(text.contains(place), "the sample has no {place}");
        let changed = text.replacen(place, with, 1);
        let error = format::read(changed.as_bytes()).unwrap_err().to_string();
        assert!(
            matches!(format::read(changed.as_bytes()), Err(FormatError::Json(_))),
            "{error}"
        );
    }
}

#[test]
fn values_that_say_nothing_are_refused() {
    let text = format::to_json(&sample::plan()).unwrap();
    for (place, with) in [
        ("\"possible_cpus\": true", "\"possible_cpus\": false"),
        (
            "\"program\": \"tail\"",
            "\"program\": \"tail\", \"map\": \"lut_0\"",
        ),
        (
            "\"type\": \"array_of_maps\"",
            "\"type\": \"array_of_everything\"",
        ),
        ("\"type\": \"type_4711\"", "\"type\": \"type_1\""),
        ("\"type\": \"type_4711\"", "\"type\": \"type_+4711\""),
    ] {
        assert!(text.contains(place), "the sample has no {place}");
        let changed = text.replacen(place, with, 1);
        assert!(
            matches!(format::read(changed.as_bytes()), Err(FormatError::Json(_))),
            "{with}"
        );
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let mut binary = format::to_binary(&sample::plan()).unwrap();
    binary.extend(b"xy");
    assert!(matches!(
        format::read(&binary),
        Err(FormatError::TrailingBytes(2))
    ));
    let json = format::to_json(&sample::plan()).unwrap() + "{}";
    assert!(matches!(
        format::read(json.as_bytes()),
        Err(FormatError::Json(_))
    ));
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("{{\"version\": 1, \"maps\": {}", "[".repeat(1_000_000));
    assert!(matches!(
        format::read(deep.as_bytes()),
        Err(FormatError::Json(_))
    ));
}

/// A length prefix may claim anything: nothing is allocated for what does not follow.
#[test]
fn huge_lengths_are_refused_at_once() {
    let header = [&MAGIC[..], &format::VERSION.to_le_bytes(), &[1]].concat();
    for claimed in [[0xff; 9].as_slice(), &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
        let bytes = [&header, claimed, &[1], b"name"].concat();
        assert!(matches!(format::read(&bytes), Err(FormatError::Binary(_))));
        // The same where a list of maps is expected.
        let bytes = [&header[..], &[1, b'x', 0, 0], claimed, &[0; 64]].concat();
        assert!(matches!(format::read(&bytes), Err(FormatError::Binary(_))));
    }
}

#[test]
fn neither_form_is_not_a_plan() {
    for bytes in [&b""[..], b"\x7fELF", b"bpfplan", b"  [1]"] {
        assert!(!format::is_plan(bytes));
        assert!(matches!(format::read(bytes), Err(FormatError::NotAPlan)));
    }
    assert!(matches!(format::read(&MAGIC), Err(FormatError::NotAPlan)));
}
