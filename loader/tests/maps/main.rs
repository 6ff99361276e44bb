//! Handles of maps on the running kernel.

// A test may panic: that is how it fails.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "../../examples/with_inner_maps.rs"]
#[allow(dead_code, reason = "its main function reads arguments")]
mod example;
mod hostile;
mod inner;
mod kinds;
#[path = "../support/privilege.rs"]
mod privilege;
#[path = "../support/recorder.rs"]
#[allow(dead_code, reason = "only calls for slots are looked at")]
mod recorder;
#[path = "../support/release.rs"]
mod release;
mod ring_program;
mod rings;
#[path = "../sample/mod.rs"]
mod sample;
mod typed;

use bpfplan_loader::maps::{MapHandle, RawMap};
use bpfplan_loader::{LoadOptions, Loaded, RealKernel, load};
use bpfplan_plan::rules::KernelVersion;
use bpfplan_plan::{Plan, Template};
use libtest_mimic::{Failed, Trial};

type Test = fn() -> Result<(), Failed>;

macro_rules! tests {
    ($($module:ident::$name:ident $(needs $since:expr)?),* $(,)?) => {
        &[$((
            stringify!($name),
            $module::$name as Test,
            tests!(@since $($since)?),
        )),*]
    };
    (@since) => { None };
    (@since $since:expr) => { Some($since) };
}

fn main() {
    let tests: &[(&'static str, Test, Option<KernelVersion>)] = tests![
        typed::arrays,
        typed::large_values_are_on_the_heap,
        typed::hash_maps,
        typed::hash_maps_in_batches,
        typed::draining_empties,
        typed::deleting_while_iterating,
        typed::tries,
        typed::per_cpu_arrays,
        typed::per_cpu_hash_maps,
        typed::queues_and_stacks,
        typed::bloom_filters,
        typed::program_arrays,
        typed::handles_of_loads_pins_and_ids,
        typed::every_kind_opens_raw,
        rings::events_come_in_order,
        rings::waiting_ends,
        rings::rings_of_an_outer_map,
        rings::a_damaged_ring_is_an_error,
        inner::new_inner_maps_fit,
        inner::swapping_gives_the_old_map,
        inner::many_inserts_are_one_batch,
        inner::the_slot_that_fails_is_named,
        inner::what_does_not_fit_is_explained,
        inner::entries_differ_where_they_may,
        inner::records_know_the_template needs release::LOCKED_TEMPLATES,
        inner::unknown_templates_say_so,
        inner::special_fields_are_kept needs release::LOCKED_TEMPLATES,
        inner::graph_roots_take_the_btf_of_others needs release::LOCKED_TEMPLATES,
        inner::a_hash_of_maps_has_keys_of_any_size,
        inner::readers_always_find_a_whole_table,
        inner::the_example_of_the_readme_works,
        kinds::messages_reach_programs,
        kinds::stacks_are_read,
        kinds::devices_and_cpus,
        kinds::sockets,
        kinds::cgroups_and_perf_events,
        kinds::storage_by_descriptor needs release::CGROUP_STORAGE,
        kinds::per_cpu_batches,
        kinds::values_with_locks needs release::LOCKED_TEMPLATES,
        kinds::other_sizes_are_refused,
        hostile::handles_are_compared_with_maps,
        hostile::other_things_are_no_maps,
        hostile::buffers_of_other_sizes_are_refused,
        hostile::closed_descriptors_are_errors,
        hostile::a_replaced_pin_is_another_map,
        hostile::read_only_handles_do_not_write,
        hostile::keys_that_come_and_go,
    ];
    let trials: Vec<Trial> = tests
        .iter()
        .map(|(name, test, since)| {
            let obstacle = since.and_then(release::older);
            release::unless(obstacle, name, *test)
        })
        .collect();
    privilege::run(trials)
}

/// Loads a plan, and holds it.
fn loaded(plan: &Plan) -> Loaded<RealKernel> {
    let options = LoadOptions {
        hold: true,
        ..LoadOptions::default()
    };
    load(plan, &RealKernel::new(), &options).expect("the plan loads")
}

/// A map of its own, without BTF unless its sizes are 4 and 8.
fn made<M: MapHandle>(map_type: u32, sizes: [u32; 2], entries: u32) -> M {
    made_with(map_type, sizes, entries, 0)
}

fn made_with<M: MapHandle>(map_type: u32, sizes: [u32; 2], entries: u32, flags: u32) -> M {
    M::from_map(raw(map_type, sizes, entries, flags)).expect("the handle fits")
}

fn raw(map_type: u32, sizes: [u32; 2], entries: u32, flags: u32) -> RawMap {
    let mut map = sample::map("m", map_type, sizes, entries);
    map.map_flags = flags;
    (map.btf, map.key_type, map.value_type) = (None, None, None);
    let loaded = loaded(&sample::plan(vec![map]));
    RawMap::from_loaded(&loaded.maps[0]).expect("it opens")
}

/// An outer map without slots, and its load.
fn outer(map_type: u32, entries: u32, template: Template) -> Loaded<RealKernel> {
    let outer = sample::outer("outer", map_type, entries, template, &[]);
    loaded(&sample::plan(vec![outer]))
}
