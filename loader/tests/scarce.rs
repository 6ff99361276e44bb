//! Loads of more maps than descriptors: maps in slots are closed as soon as their outer maps hold
//! them, and opened once more to be pinned.

// A test may panic: that is how it fails.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod sample;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;

use bpfplan_loader::{
    Errno, ErrorKind, FailingKernel, Fault, Kernel as _, LoadOptions, Progress, RecordedCall,
    RecordingKernel, codes, load, load_with, unload,
};
use bpfplan_plan::rules::Target;
use bpfplan_plan::{Map, Plan, SlotTarget, uapi};
use sample::{map, outer, plan};

/// What a load may have open at a time.
const DESCRIPTORS: u64 = 80;

const INNER: u32 = 130;

/// Two outer maps over many maps, some of which are in both, before maps that are in none.
fn tables() -> Plan {
    const ARRAY: u32 = uapi::BPF_MAP_TYPE_ARRAY;
    let name = |index: u32| format!("in_{index}");
    let inner = |index| map(&name(index), ARRAY, [4, 8], 1);
    let table = |name: &str, targets: Vec<String>| {
        let targets: Vec<(u32, &str)> = (0..).zip(targets.iter().map(String::as_str)).collect();
        let size = u32::try_from(targets.len()).expect("few slots");
        let template = map("", ARRAY, [4, 8], 1);
        outer(
            name,
            uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
            size,
            template,
            &targets,
        )
    };
    let mut maps: Vec<Map> = (0..INNER).map(inner).collect();
    maps.insert(0, table("all", (0..INNER).map(name).collect()));
    let mut few: Vec<String> = (0..INNER).step_by(50).map(name).collect();
    few.push("last".to_owned());
    maps.push(table("few", few));
    maps.push(map("last", ARRAY, [4, 8], 1));
    maps.push(map("other", uapi::BPF_MAP_TYPE_HASH, [4, 8], 4));
    plan(maps)
}

fn recording() -> RecordingKernel {
    let target = Target {
        page_size: 4096,
        possible_cpus: 2,
    };
    RecordingKernel::new(target).with_directory("/sys/fs/bpf")
}

fn options() -> LoadOptions {
    LoadOptions {
        pin_maps: Some("/sys/fs/bpf/sample".into()),
        raise_nofile: true,
        ..LoadOptions::default()
    }
}

type Scarce<D> = FailingKernel<RecordingKernel, D>;

fn scarce<D: Fn(Fault<'_>) -> Option<Errno> + Sync>(decide: D) -> Scarce<D> {
    FailingKernel::new(recording(), decide).with_descriptors(DESCRIPTORS)
}

/// The slots that were filled: outer map, slot, map in it.
fn filled(calls: &[RecordedCall]) -> BTreeSet<(&str, u32, &str)> {
    let mut names = BTreeMap::new();
    let mut filled = BTreeSet::new();
    for call in calls {
        match call {
            RecordedCall::CreateMap { attributes, fd } => {
                names.insert(*fd, attributes.name.as_str());
            }
            RecordedCall::UpdateBatch { map, slots } => {
                for (slot, target) in slots {
                    let new = filled.insert((names[map], *slot, names[target]));
                    assert!(new, "slot {slot} of {} is filled once", names[map]);
                }
            }
            _ => {}
        }
    }
    filled
}

fn wanted(plan: &Plan) -> BTreeSet<(&str, u32, &str)> {
    let slots = plan.maps.iter().flat_map(|map| {
        map.slots.iter().map(|slot| match &slot.target {
            SlotTarget::Map(target) => (map.name.as_str(), slot.index, target.as_str()),
            SlotTarget::Program(_) => panic!("no programs here"),
        })
    });
    slots.collect()
}

#[test]
fn maps_are_closed_when_their_slots_are_filled() {
    let plan = tables();
    let kernel = scarce(|_| None);
    let (mut most, mut told) = (0, None);
    let loaded = load_with(&plan, &kernel, &options(), &mut |next| {
        most = most.max(kernel.live());
        if let Progress::Chunks { maps, chunks } = next {
            told = Some((maps, chunks));
        }
        ControlFlow::Continue(())
    });
    let loaded = loaded.expect("it loads");
    assert!(most as u64 <= DESCRIPTORS, "{most} are open");
    // Of 80 descriptors, 3 maps that stay open leave 77, less what else is needed.
    let closed = INNER as usize + 1;
    assert_eq!(told, Some((closed, 2)));
    assert_eq!(filled(&kernel.inner().calls()), wanted(&plan));
    let open: Vec<&str> = loaded.maps.iter().map(|map| map.name.as_str()).collect();
    assert_eq!(open, ["all", "few", "other"]);
    assert_eq!(loaded.map("all").expect("it is open").filled, INNER);
    assert_eq!(loaded.map("few").expect("it is open").filled, 4);
    let planned = plan.maps.iter().filter(|map| map.slots.is_empty());
    let planned: Vec<&str> = planned.map(|map| map.name.as_str()).collect();
    let names = loaded.closed.iter().map(|map| map.name.as_str());
    assert!(names.eq(planned[..closed].iter().copied()));
    for map in &loaded.closed {
        let pin = kernel.open_pin(&map.pinned).expect("it is pinned");
        assert_eq!(kernel.info(&pin).expect("it is a map").id, map.id);
    }
    drop(loaded);
    assert_eq!(kernel.live(), 0);
    let unloaded = unload(&kernel, Path::new("/sys/fs/bpf/sample")).expect("it is unloaded");
    assert_eq!(unloaded.removed.len(), plan.maps.len() + 1);
}

#[test]
fn with_descriptors_for_all_nothing_is_closed() {
    let plan = tables();
    let kernel = FailingKernel::new(recording(), |_: Fault<'_>| None).with_descriptors(300);
    let loaded = load(&plan, &kernel, &options()).expect("it loads");
    assert_eq!(
        (loaded.maps.len(), loaded.closed.len()),
        (plan.maps.len(), 0)
    );
    assert_eq!(filled(&kernel.inner().calls()), wanted(&plan));
}

/// However many chunks there are, it is said once of each outer map.
#[test]
fn a_kernel_without_batches_is_told_once() {
    let plan = tables();
    let kernel = scarce(|fault| (fault.call == "update_batch").then_some(Errno::ENOTSUPP));
    let loaded = load(&plan, &kernel, &options()).expect("it loads");
    assert_eq!(loaded.map("all").expect("it is open").filled, INNER);
    let notes = loaded.diagnostics.iter();
    let notes = notes.filter(|note| note.code == codes::NO_BATCH);
    let notes: Vec<_> = notes
        .map(|note| (note.map.as_deref(), note.message.as_str()))
        .collect();
    let message = |slots: u32| {
        format!("this kernel has no batched update for it: {slots} slots were filled one by one")
    };
    let (all, few) = (message(INNER), message(4));
    assert_eq!(notes, [(Some("all"), &*all), (Some("few"), &*few)]);
}

/// What goes on when a call fails is as little as in any other load.
#[test]
fn each_call_fails() {
    let plan = tables();
    let count = || {
        let kernel = scarce(|_| None);
        drop(load(&plan, &kernel, &options()).expect("it loads"));
        kernel.calls()
    };
    let mut seen = BTreeSet::new();
    for index in 0..count() {
        let failed = Mutex::new("");
        let kernel = scarce(|fault| {
            (fault.index == index).then(|| {
                *failed.lock().expect("nobody panics") = fault.call;
                Errno::EPERM
            })
        });
        let result = load(&plan, &kernel, &options());
        let call = *failed.lock().expect("nobody panics");
        let Err(error) = result else {
            // BTF is tried twice, and so are maps that have types; that the limit cannot be raised
            // is what this is about.
            let again = matches!(call, "load_btf" | "create_map" | "reserve_fds");
            assert!(again, "{call} fails");
            continue;
        };
        seen.insert(call);
        let first = &error.diagnostics[0];
        assert!(first.message.contains("EPERM"), "{call}: {first}");
        let kernel_left = (kernel.live(), kernel.inner().pins().len());
        assert_eq!(kernel_left, (0, 0), "call {index}, {call}");
    }
    for call in ["reserve_fds", "map_by_id", "batch_element", "info", "pin"] {
        assert!(seen.contains(call), "no {call} failed, but {seen:?}");
    }
}

#[test]
fn each_step_is_interrupted() {
    let plan = tables();
    for moment in 0.. {
        let kernel = scarce(|_| None);
        let mut steps = 0;
        let result = load_with(&plan, &kernel, &options(), &mut |_| {
            steps += 1;
            if steps > moment {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let Err(error) = result else {
            assert!(moment > 2 * plan.maps.len(), "{moment}");
            return;
        };
        assert_eq!(error.kind, ErrorKind::Interrupted);
        assert_eq!(
            (kernel.live(), kernel.inner().pins().len()),
            (0, 0),
            "{moment}"
        );
    }
}

/// Nothing is created where descriptors are needed, or could not be had again.
#[test]
fn what_cannot_be_closed_is_told_before() {
    let plan = tables();
    let refusal = |options: &LoadOptions, decide: fn(Fault<'_>) -> Option<Errno>, plan: &Plan| {
        let kernel = scarce(decide);
        let error = load(plan, &kernel, options).expect_err("there are too few");
        assert_eq!(kernel.created(), [0; 0]);
        assert_eq!(error.kind, ErrorKind::Refused);
        let first = error.diagnostics.into_iter().next().expect("it says why");
        assert_eq!(first.code, codes::TOO_FEW_DESCRIPTORS);
        first.notes.join("; ")
    };
    let held = LoadOptions {
        hold: true,
        ..options()
    };
    let notes = refusal(&held, |_| None, &plan);
    assert!(notes.contains("pinned and not held"), "{notes}");
    let no_ids = |fault: Fault<'_>| (fault.call == "map_by_id").then_some(Errno::EPERM);
    let notes = refusal(&options(), no_ids, &plan);
    assert!(
        notes.contains("CAP_SYS_ADMIN") && notes.contains("EPERM"),
        "{notes}"
    );
    let mut in_no_slot = tables();
    in_no_slot.maps.retain(|map| map.slots.is_empty());
    let notes = refusal(&options(), no_ids, &in_no_slot);
    assert!(!notes.contains("CAP_SYS_ADMIN"), "{notes}");
}
