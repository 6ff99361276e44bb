//! Hostile text, hostile plans, and large ones.

use bpfplan_plan::overrides::{Override, ParseError, Value};
use proptest::prelude::*;

use super::*;
use crate::support::strategy;

#[test]
fn what_does_not_read_is_no_override() {
    for (text, error) in [
        ("", ParseError::NoTarget),
        ("flows.max_entries", ParseError::NoTarget),
        ("=5", ParseError::NoTarget),
    ] {
        assert_eq!(text.parse::<Override>(), Err(error), "{text}");
    }
    let long = format!("{}=1", "x".repeat(4097));
    assert_eq!(long.parse::<Override>(), Err(ParseError::TooLong));
    let long = format!("x={}", "1".repeat(1 << 20));
    assert_eq!(long.parse::<Override>(), Err(ParseError::TooLong));
    assert!(matches!(
        "x=[".parse::<Override>(),
        Err(ParseError::Value(_))
    ));
    let twice: Override = "x=a=b".parse().unwrap();
    assert_eq!((twice.target(), twice.value()), ("x", &Value::from("a=b")));
}

#[test]
fn hostile_text_takes_little_time() {
    let plan = little();
    let elements = format!("[{}0]", "0,".repeat((1 << 19) - 40));
    for text in [
        format!(".rodata.ports={elements}"),
        format!(".rodata.device={}", "x".repeat((1 << 20) - 100)),
        format!(".rodata.count={}", "9".repeat((1 << 20) - 100)),
        format!("flows.map_flags={}", "1|".repeat(1 << 18)),
        format!("{}=1", ".".repeat(4096)),
        format!(".rodata.{}=1", "a.".repeat(2000)),
        format!(".rodata.flows{}=1", "[0]".repeat(1000)),
    ] {
        let overrides = Overrides::default().with(text.parse().unwrap());
        for problem in overrides.apply(&plan).unwrap_err() {
            let shown = format!("{problem:?}");
            assert!(shown.len() < 4000, "a message of {} bytes", shown.len());
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[-a-zA-Z0-9_.|]{1,12}".prop_map(Value::Plain),
        any::<u8>().prop_map(Value::Char),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        proptest::collection::vec(inner, 0..6).prop_map(Value::List)
    })
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        "(flows|ring|tables|tables.inner|table|.rodata)[.:/](max_entries|map_flags|numa_node|pinning|value_size)",
        "(.rodata|flow.rodata)[.:](count|port|on|wide|mode|ratio|device|ports|names|flow|flows|tail)(\\[[0-3]\\])?(.bytes)?",
        ".{0,20}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,5}(Ki)?",
        "-?0x[0-9a-f]{1,8}",
        "\\[[0-9, ]{0,12}\\]",
        "(true|none|by_name|LEARN|MMAPABLE|RDONLY_PROG\\|MMAPABLE)",
        "[ -~]{0,12}",
    ]
}

proptest! {
    #[test]
    fn overrides_read_as_they_are_written(target in "[^=]{1,20}", value in value()) {
        let written = Override::new(target, value);
        prop_assert_eq!(written.to_string().parse::<Override>(), Ok(written));
    }

    #[test]
    fn no_text_panics(text in ".{0,80}") {
        if let Ok(set) = text.parse::<Override>() {
            let _ = Overrides::default().with(set).apply(&little());
        }
    }

    #[test]
    fn what_is_applied_is_a_valid_plan(
        texts in proptest::collection::vec((target(), text()), 0..6),
        skip in proptest::collection::vec("flows|ring|events|table|tables|.rodata", 0..2),
    ) {
        let plan = little();
        let overrides = Overrides {
            set: texts.iter().filter_map(|(target, text)| format!("{target}={text}").parse().ok()).collect(),
            skip,
        };
        if let Ok(done) = overrides.apply(&plan) {
            prop_assert_eq!(validate::validate(&done.plan), Ok(()));
            let again = Overrides::default().apply(&done.plan);
            prop_assert_eq!(again.map(|done| done.plan), Ok(done.plan));
        }
    }

    #[test]
    fn hostile_plans_do_not_panic(plan in strategy::plan(), target in target(), text in text()) {
        let mut overrides = Overrides::default();
        for map in &plan.maps {
            overrides = overrides.set(format!("{}.max_entries", map.name), 5_u8);
            overrides = overrides.set(format!("{}/value_size", map.name), 64_u8);
            overrides = overrides.set(format!("{}/map_flags", map.name), 0_u8);
        }
        if let Ok(set) = format!("{target}={text}").parse() {
            overrides = overrides.with(set);
        }
        let empty = overrides.is_empty();
        if let Ok(done) = overrides.apply(&plan) {
            prop_assert!(empty || validate::validate(&done.plan).is_ok());
        }
    }
}

#[test]
fn work_is_in_proportion() {
    const COUNT: u32 = 20_000;
    let mut plan = little();
    let template = plan.maps[4].clone();
    for number in 0..COUNT {
        let name = format!("m{number}");
        plan.maps
            .push(sample::map(&name, uapi::BPF_MAP_TYPE_ARRAY, [4, 4, 4]));
    }
    let slots = (0..COUNT).map(|index| Slot {
        index,
        target: SlotTarget::Map(format!("m{index}")),
    });
    plan.maps.push(Map {
        name: "many".into(),
        max_entries: MaxEntries::Count(COUNT),
        slots: slots.collect(),
        ..template
    });
    let mut overrides = Overrides::default();
    for number in 0..COUNT {
        overrides = overrides.set(format!("m{number}.max_entries"), number % 10 + 1);
    }
    let start = std::time::Instant::now();
    // Most of them do not fit the template any more.
    assert_eq!(overrides.apply(&plan).unwrap_err().len(), 101);
    overrides.skip = vec!["many".into()];
    applied(&plan, &overrides);
    overrides.set.clear();
    overrides
        .skip
        .extend((0..COUNT).map(|number| format!("m{number}")));
    assert_eq!(applied(&plan, &overrides).plan.maps.len(), 6);
    overrides.skip.remove(0);
    assert_eq!(overrides.apply(&plan).unwrap_err().len(), 101);
    let names = (0..COUNT).map(|number| format!("no{number}"));
    overrides.skip = names.collect();
    assert_eq!(overrides.apply(&plan).unwrap_err().len(), 101);
    // About a second; each against each would be minutes.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
