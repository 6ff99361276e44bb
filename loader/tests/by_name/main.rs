//! Maps that are pinned by name, on the running kernel: reused, refused, raced for.

// A test may panic: that is how it fails.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod bad_pins;
mod faults;
mod like_libbpf;
mod races;
mod reuse;
#[path = "../sample/mod.rs"]
mod sample;
mod slots;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use bpfplan_loader::{Kernel, LoadError, LoadOptions, Loaded, RealKernel, load, unload};
use bpfplan_plan::{Code, Diagnostic, Map, Pinning, Plan, uapi};
use libtest_mimic::{Failed, Trial};
use sample::{PinDir, map, outer, plan};

type Test = fn() -> Result<(), Failed>;

fn main() {
    let tests: [(&str, Test); 30] = [
        ("the_second_load_reuses", reuse::the_second_load_reuses),
        (
            "nothing_is_lost_without_hold",
            reuse::nothing_is_lost_without_hold,
        ),
        (
            "differences_are_all_named",
            reuse::differences_are_all_named,
        ),
        (
            "types_come_from_the_kernel",
            reuse::types_come_from_the_kernel,
        ),
        ("types_are_read_once", reuse::types_are_read_once),
        ("templates_are_compared", reuse::templates_are_compared),
        (
            "descriptors_are_as_declared",
            reuse::descriptors_are_as_declared,
        ),
        (
            "rounded_entries_are_reused",
            reuse::rounded_entries_are_reused,
        ),
        (
            "records_have_what_a_load_made",
            reuse::records_have_what_a_load_made,
        ),
        ("contents_stay", reuse::contents_stay),
        ("no_map_at_the_pin", bad_pins::no_map_at_the_pin),
        (
            "roots_are_looked_at_first",
            bad_pins::roots_are_looked_at_first,
        ),
        (
            "a_read_only_root_takes_no_pin",
            bad_pins::a_read_only_root_takes_no_pin,
        ),
        (
            "pins_of_a_read_only_root",
            bad_pins::pins_of_a_read_only_root,
        ),
        ("pins_without_permission", bad_pins::pins_without_permission),
        ("names_that_are_no_pins", bad_pins::names_that_are_no_pins),
        ("slots_are_kept", slots::slots_are_kept),
        ("empty_slots_are_filled", slots::empty_slots_are_filled),
        ("slots_are_overwritten", slots::slots_are_overwritten),
        ("many_slots_hold_one_map", slots::many_slots_hold_one_map),
        ("slots_are_put_back", slots::slots_are_put_back),
        ("many_loads_make_one_map", races::many_loads_make_one_map),
        (
            "many_loads_with_slots_end_well",
            races::many_loads_with_slots_end_well,
        ),
        ("the_loser_starts_again", races::the_loser_starts_again),
        ("pins_that_vanish", races::pins_that_vanish),
        ("a_race_has_an_end", races::a_race_has_an_end),
        ("roots_are_raced_for", races::roots_are_raced_for),
        ("libbpf_says_the_same", like_libbpf::libbpf_says_the_same),
        ("pins_go_both_ways", like_libbpf::pins_go_both_ways),
        ("every_call_may_fail", faults::every_call_may_fail),
    ];
    let trials = tests
        .into_iter()
        .map(|(name, test)| Trial::test(name, test));
    support::privilege::run(trials.collect())
}

/// The map, pinned by name.
fn named(map: Map) -> Map {
    Map {
        pinning: Pinning::ByName,
        ..map
    }
}

fn array(name: &str) -> Map {
    map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 16)
}

/// An outer array that is pinned by name, and its inner maps, which are not; in the first slots.
fn outer_by_name(inner: &[&str]) -> Plan {
    let mut maps: Vec<Map> = inner.iter().map(|name| array(name)).collect();
    let slots: Vec<(u32, &str)> = (0..).zip(inner.iter().copied()).collect();
    let template = map("", uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 16);
    let luts = outer(
        "luts",
        uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
        4,
        template,
        &slots,
    );
    maps.push(named(luts));
    plan(maps)
}

fn root(directory: &PinDir) -> LoadOptions {
    LoadOptions {
        pin_root: Some(directory.0.clone()),
        ..LoadOptions::default()
    }
}

fn held(directory: &PinDir) -> LoadOptions {
    LoadOptions {
        hold: true,
        ..root(directory)
    }
}

fn codes_of(diagnostics: &[Diagnostic]) -> Vec<Code> {
    diagnostics.iter().map(|found| found.code).collect()
}

fn refused(plan: &Plan, options: &LoadOptions) -> LoadError {
    let kernel = counting();
    let error = load(plan, &kernel, options).expect_err("the load is refused");
    assert_eq!(kernel.created(), [0; 0], "nothing is created: {error}");
    assert_eq!(kernel.live(), 0);
    error
}

/// The real kernel, and a count of what is made.
fn counting() -> bpfplan_loader::FailingKernel<
    RealKernel,
    fn(bpfplan_loader::Fault<'_>) -> Option<bpfplan_loader::Errno>,
> {
    bpfplan_loader::FailingKernel::new(RealKernel::new(), |_| None)
}

/// The plan's maps, held and pinned nowhere.
fn loaded(plan: &Plan) -> Result<Loaded<RealKernel>, Failed> {
    let mut plan = plan.clone();
    for map in &mut plan.maps {
        map.pinning = Pinning::None;
    }
    let options = LoadOptions {
        hold: true,
        ..LoadOptions::default()
    };
    load(&plan, &RealKernel::new(), &options).map_err(Failed::from)
}

fn ids<K: Kernel>(loaded: &Loaded<K>) -> Vec<u32> {
    loaded
        .maps
        .iter()
        .map(|map| map.id().expect("the kernel tells it"))
        .collect()
}

/// Names in a directory, sorted.
fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = directory.read_dir() else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| {
            let name = entry.expect("it is listed").file_name();
            name.into_string().expect("a name in UTF-8")
        })
        .collect();
    names.sort();
    names
}

fn clean(directory: &PinDir) -> Result<(), Failed> {
    unload(&RealKernel::new(), &directory.0)?;
    Ok(())
}
