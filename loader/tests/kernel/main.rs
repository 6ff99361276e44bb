//! Loads on the running kernel: what it then says about the maps, the slots and the pins.

// A test may panic: that is how it fails.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod directories;
mod fallbacks;
mod pins;
#[path = "../support/privilege.rs"]
mod privilege;
#[path = "../support/release.rs"]
mod release;
#[path = "../sample/mod.rs"]
mod sample;
mod scale;
mod templates;
mod ways;

use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use bpfplan_loader::{
    Errno, FailingKernel, Fault, Kernel, LoadOptions, Loaded, RealKernel, codes, load,
};
use bpfplan_plan::{Code, Plan, uapi};
use libtest_mimic::Failed;
use sample::maps::{self, descriptors};
use sample::{PinDir, array_of_maps, many_slots, map, mixed, outer, plan};

type Test = fn() -> Result<(), Failed>;

fn main() {
    let tests: [(&str, Test); 37] = [
        (
            "the_kernel_has_what_the_plan_says",
            the_kernel_has_what_the_plan_says,
        ),
        ("slots_hold_their_maps", slots_hold_their_maps),
        ("possible_cpus_are_counted", possible_cpus_are_counted),
        (
            "descriptors_are_close_on_exec_and_above_2",
            descriptors_are_close_on_exec_and_above_2,
        ),
        (
            "dropping_a_load_frees_everything",
            dropping_a_load_frees_everything,
        ),
        ("pins_and_unload", pins::pins_and_unload),
        (
            "unload_leaves_what_is_not_its_own",
            pins::unload_leaves_what_is_not_its_own,
        ),
        ("unload_can_be_run_again", pins::unload_can_be_run_again),
        (
            "unload_refuses_forged_records",
            pins::unload_refuses_forged_records,
        ),
        ("existing_pins_stay", pins::existing_pins_stay),
        (
            "directories_are_looked_at_first",
            directories::directories_are_looked_at_first,
        ),
        (
            "pins_of_programs_are_no_maps",
            pins::pins_of_programs_are_no_maps,
        ),
        ("of_two_loads_one_wins", directories::of_two_loads_one_wins),
        (
            "loads_and_unloads_wait_for_each_other",
            directories::loads_and_unloads_wait_for_each_other,
        ),
        (
            "a_read_only_bpffs_takes_no_pin",
            directories::a_read_only_bpffs_takes_no_pin,
        ),
        (
            "what_cannot_be_undone_is_said",
            directories::what_cannot_be_undone_is_said,
        ),
        (
            "a_record_makes_more_inner_maps",
            templates::a_record_makes_more_inner_maps,
        ),
        ("a_bad_slot_is_named", a_bad_slot_is_named),
        ("a_bad_map_is_named", a_bad_map_is_named),
        (
            "contents_are_written_and_frozen",
            contents_are_written_and_frozen,
        ),
        (
            "kernels_without_mmapable_arrays",
            fallbacks::kernels_without_mmapable_arrays,
        ),
        (
            "kernels_that_cannot_freeze_refuse_constants",
            fallbacks::kernels_that_cannot_freeze_refuse_constants,
        ),
        (
            "kernels_without_batches",
            fallbacks::kernels_without_batches,
        ),
        (
            "refused_batches_are_not_tried_slot_by_slot",
            fallbacks::refused_batches_are_not_tried_slot_by_slot,
        ),
        (
            "maps_that_do_not_take_btf",
            fallbacks::maps_that_do_not_take_btf,
        ),
        (
            "btf_that_the_kernel_refuses",
            fallbacks::btf_that_the_kernel_refuses,
        ),
        (
            "kernels_that_count_locked_memory",
            fallbacks::kernels_that_count_locked_memory,
        ),
        (
            "kernels_that_lack_kinds_of_btf",
            fallbacks::kernels_that_lack_kinds_of_btf,
        ),
        (
            "batches_tell_kernels_apart",
            ways::batches_tell_kernels_apart,
        ),
        (
            "a_slow_batch_is_taken_back",
            ways::a_slow_batch_is_taken_back,
        ),
        (
            "the_first_bad_slot_is_blamed",
            ways::the_first_bad_slot_is_blamed,
        ),
        (
            "many_maps_and_slots_are_loaded",
            scale::many_maps_and_slots_are_loaded,
        ),
        (
            "too_few_descriptors_are_told",
            scale::too_few_descriptors_are_told,
        ),
        (
            "more_maps_than_descriptors_are_loaded",
            scale::more_maps_than_descriptors_are_loaded,
        ),
        (
            "the_descriptor_table_grows_once",
            scale::the_descriptor_table_grows_once,
        ),
        (
            "a_load_is_undone_without_a_descriptor_to_spare",
            scale::a_load_is_undone_without_a_descriptor_to_spare,
        ),
        (
            "outer_maps_are_filled_at_once",
            outer_maps_are_filled_at_once,
        ),
    ];
    let trials = tests
        .into_iter()
        .map(|(name, test)| release::unless(obstacle(name), name, test));
    privilege::run(trials.collect())
}

/// What the running kernel lacks for a test.
fn obstacle(test: &str) -> Option<String> {
    match test {
        "a_bad_slot_is_named"
        | "a_record_makes_more_inner_maps"
        | "the_first_bad_slot_is_blamed" => {
            release::lacks(release::LOCKED_TEMPLATES, "spin locks in inner maps")
        }
        _ => None,
    }
}

fn hold() -> LoadOptions {
    LoadOptions {
        hold: true,
        ..LoadOptions::default()
    }
}

fn pin(directory: &PinDir) -> LoadOptions {
    LoadOptions {
        pin_maps: Some(directory.0.clone()),
        ..LoadOptions::default()
    }
}

fn loaded(plan: &Plan) -> Result<Loaded<RealKernel>, Failed> {
    load(plan, &RealKernel::new(), &hold()).map_err(Failed::from)
}

fn codes_of<K: Kernel>(loaded: &Loaded<K>) -> Vec<Code> {
    loaded
        .diagnostics
        .iter()
        .map(|diagnostic| diagnostic.code)
        .collect()
}

fn the_kernel_has_what_the_plan_says() -> Result<(), Failed> {
    let plan = array_of_maps();
    let loaded = loaded(&plan)?;
    assert_eq!(loaded.diagnostics, []);
    for (map, made) in plan.maps.iter().zip(&loaded.maps) {
        let info = maps::info(made);
        assert_eq!(info.id, made.id().expect("the kernel tells it"));
        assert_eq!(maps::name(&info), map.name);
        assert_eq!(info.type_, map.map_type.0);
        assert_eq!(
            (info.key_size, info.value_size),
            (map.key_size, map.value_size)
        );
        let ids = map
            .btf
            .map_or((0, 0), |ids| (ids.key_type_id, ids.value_type_id));
        assert_eq!((info.btf_key_type_id, info.btf_value_type_id), ids);
        assert_eq!(info.btf_id != 0, made.btf);
    }
    Ok(())
}

fn slots_hold_their_maps() -> Result<(), Failed> {
    for plan in [array_of_maps(), mixed(), many_slots()] {
        let loaded = loaded(&plan)?;
        for (map, made) in plan
            .maps
            .iter()
            .zip(&loaded.maps)
            .filter(|(map, _)| map.is_outer())
        {
            assert_eq!(made.filled as usize, map.slots.len());
            for index in 0..64 {
                let wanted = map
                    .slots
                    .iter()
                    .find(|slot| slot.index == index)
                    .map(|slot| {
                        let bpfplan_plan::SlotTarget::Map(name) = &slot.target else {
                            panic!("the samples have no programs")
                        };
                        loaded
                            .map(name)
                            .expect("the map was made")
                            .id()
                            .expect("the kernel tells it")
                    });
                assert_eq!(maps::slot(made, index), wanted, "{} {index}", map.name);
            }
        }
    }
    Ok(())
}

fn possible_cpus_are_counted() -> Result<(), Failed> {
    let loaded = loaded(&mixed())?;
    // SAFETY: the call takes nothing.
    let cpus = unsafe { libbpf_sys::libbpf_num_possible_cpus() };
    let events = loaded.map("events").expect("the map was made");
    assert_eq!(i64::from(events.max_entries), i64::from(cpus));
    assert_eq!(maps::info(events).max_entries, events.max_entries);
    assert_eq!(codes_of(&loaded), [codes::RESOLVED]);
    Ok(())
}

fn descriptors_are_close_on_exec_and_above_2() -> Result<(), Failed> {
    let saved = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 100)?;
    // SAFETY: descriptor 0 is the standard input, which nothing reads here.
    unsafe { libc::close(0) };
    let loaded = loaded(&array_of_maps());
    // SAFETY: both descriptors are open or free for the taking.
    unsafe { libc::dup2(saved.as_raw_fd(), 0) };
    for map in &loaded?.maps {
        use std::os::fd::AsFd as _;
        assert!(map.as_fd().as_raw_fd() > 2);
        let flags = rustix::io::fcntl_getfd(map)?;
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
    Ok(())
}

fn dropping_a_load_frees_everything() -> Result<(), Failed> {
    let before = descriptors();
    let loaded = loaded(&many_slots())?;
    let ids: Vec<u32> = loaded
        .maps
        .iter()
        .map(|map| map.id().expect("the kernel tells it"))
        .collect();
    assert_eq!(descriptors(), before + ids.len());
    drop(loaded);
    assert_eq!(descriptors(), before);
    gone(&ids);
    Ok(())
}

/// Waits until no map with one of the ids is left.
fn gone(ids: &[u32]) {
    assert_eq!(maps::left_of(ids), [0; 0]);
}

fn a_bad_slot_is_named() -> Result<(), Failed> {
    bad_slot(4, &[(0, "good"), (3, "good"), (4, "bad"), (5, "good")])?;
    // The kernel gets nothing done, and it is not the call as a whole that it refuses.
    bad_slot(2, &[(2, "bad"), (3, "good")])
}

/// A mismatch that no plan shows: one of the maps loses its spin lock with its BTF.
fn bad_slot(place: u32, slots: &[(u32, &str)]) -> Result<(), Failed> {
    let array = |name: &str| map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 1);
    let template = map("", uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 1);
    let luts = outer("luts", uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS, 8, template, slots);
    let plan = plan(vec![array("good"), array("bad"), luts]);
    let plan = sample::with_spin_lock(plan);
    for batches in [true, false] {
        let (creates, single) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| match fault.call {
            "create_map" => {
                let second = creates.fetch_add(1, Ordering::Relaxed) == 1;
                second.then_some(Errno::EINVAL)
            }
            "update_batch" if !batches => Some(Errno::ENOTSUPP),
            "update_slot" => {
                single.fetch_add(1, Ordering::Relaxed);
                None
            }
            _ => None,
        });
        let error = load(&plan, &kernel, &hold()).expect_err("a slot does not fit");
        let first = &error.diagnostics[0];
        assert_eq!(first.code, codes::SLOT_REFUSED, "{error}");
        assert_eq!(first.map.as_deref(), Some("luts"));
        assert_eq!(
            first.field.as_deref(),
            Some(format!("values[{place}]").as_str())
        );
        let slot = format!("slot {place} with 'bad'");
        assert!(first.message.contains(&slot), "{first}");
        assert_eq!(batches, single.load(Ordering::Relaxed) == 0);
        assert!(first.message.contains("EINVAL"), "{first}");
        assert_eq!(
            error.diagnostics[1].code,
            codes::MAP_WITHOUT_BTF,
            "it says why as well"
        );
    }
    Ok(())
}

fn a_bad_map_is_named() -> Result<(), Failed> {
    let mut plan = array_of_maps();
    plan.maps
        .push(map("none", uapi::BPF_MAP_TYPE_ARRAY, [4, 0], 1));
    let error = load(&plan, &RealKernel::new(), &hold()).expect_err("values of 0 bytes");
    let first = &error.diagnostics[0];
    assert_eq!(first.code, codes::MAP_REFUSED);
    assert_eq!(first.map.as_deref(), Some("none"));
    assert_eq!(first.labels.len(), 1);
    assert!(
        first.notes.iter().any(|note| note.contains("value_size 0")),
        "{first:?}"
    );

    let mut plan = array_of_maps();
    plan.maps[1].slots.clear();
    let inner = plan.maps[1]
        .inner
        .as_mut()
        .expect("an outer map has a template");
    (inner.map_flags, inner.btf) = (1 << 30, None);
    let error = load(&plan, &RealKernel::new(), &hold()).expect_err("a flag that is none");
    assert_eq!(error.diagnostics[0].code, codes::TEMPLATE_REFUSED);
    assert_eq!(error.diagnostics[0].map.as_deref(), Some("luts.inner"));
    Ok(())
}

/// Batches that wait at the same time share a grace period. Forced one after the other, the same
/// plan takes longer; how much, depends on the machine, so only the contents are compared.
fn outer_maps_are_filled_at_once() -> Result<(), Failed> {
    let array = |name: &str| map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1);
    let mut maps = vec![array("in")];
    for index in 0..100 {
        let template = map("", uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1);
        let name = format!("outer_{index}");
        let slots = [(index % 8, "in"), (7, "in")];
        let slots = if index % 8 == 7 {
            &slots[1..]
        } else {
            &slots[..]
        };
        maps.push(outer(
            &name,
            uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
            8,
            template,
            slots,
        ));
    }
    let plan = plan(maps);
    let loaded = loaded(&plan)?;
    let id = loaded.maps[0].id().expect("the kernel tells it");
    for (index, made) in (0..).zip(&loaded.maps[1..]) {
        assert_eq!(made.filled, if index % 8 == 7 { 1 } else { 2 });
        for slot in 0..8 {
            let wanted = (slot == index % 8 || slot == 7).then_some(id);
            assert_eq!(maps::slot(made, slot), wanted, "{} {slot}", made.name);
        }
    }
    Ok(())
}

fn contents_are_written_and_frozen() -> Result<(), Failed> {
    let kernel = RealKernel::new();
    let loaded = load(&sample::global_data(), &kernel, &hold())?;
    let expected = [
        ("sample.data", [1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0], false),
        ("sample.rodata", [4; 12], true),
        ("sample.bss", [0; 12], false),
    ];
    for (name, value, frozen) in expected {
        let map = &loaded.map(name).expect("the map was made").fd;
        assert_eq!(kernel.read(map, 0)?, value, "{name}");
        assert_eq!(kernel.is_frozen(map)?, Some(frozen), "{name}");
        let written = kernel.write(map, 0, &[9; 12]);
        assert_eq!(written.err(), frozen.then_some(Errno::EPERM), "{name}");
    }
    Ok(())
}
