//! How the running kernel fills slots when it is not known to wait only once for a batch.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bpfplan_loader::{
    Errno, FailingKernel, Fault, Kernel, LoadError, Loaded, Progress, RealKernel, Way, codes,
    load_with,
};
use bpfplan_plan::rules::KernelVersion;
use bpfplan_plan::{Plan, uapi};
use libtest_mimic::Failed;

use crate::hold;
use crate::sample::{self, map, maps, outer, plan};

const OLD: KernelVersion = KernelVersion {
    major: 5,
    minor: 14,
};

/// The most that there are.
const THREADS: usize = 128;

fn ways<K: Kernel>(plan: &Plan, kernel: &K) -> (Result<Loaded<K>, LoadError>, Vec<Way>) {
    let mut ways = Vec::new();
    let loaded = load_with(plan, kernel, &hold(), &mut |progress| {
        if let Progress::Fill(way) = progress {
            ways.push(way);
        }
        ControlFlow::Continue(())
    });
    (loaded, ways)
}

/// Looks at some of the slots: on old kernels a lookup waits as well.
fn slots_are_right<K: Kernel<Fd: AsFd>>(loaded: &Loaded<K>) {
    let luts = loaded.map("luts").expect("the map was made");
    assert_eq!(luts.filled, 1000);
    for slot in (0..1000).step_by(37) {
        let inner = loaded.maps[slot as usize % 2]
            .id()
            .expect("the kernel tells it");
        assert_eq!(maps::slot(luts, slot), Some(inner), "slot {slot}");
    }
}

/// The kernel shows what it does with a batch, whatever its version seems to be.
pub(crate) fn batches_tell_kernels_apart() -> Result<(), Failed> {
    let running = RealKernel::new().version().ok_or("no version")?;
    let kernel = FailingKernel::new(RealKernel::new(), |_: Fault<'_>| None).with_version(OLD);
    let plan = alternating();
    let (loaded, ways) = ways(&plan, &kernel);
    slots_are_right(&loaded?);
    assert_eq!(ways[0], Way::Batches(1));
    let since = |minor| running >= KernelVersion { major: 6, minor };
    let threads = THREADS;
    match ways[1..] {
        // What lies between was ported back, or not.
        [] => assert!(running.major >= 6, "{running}"),
        [Way::EachWaits { threads: some }] => assert!(!since(8) && some == threads, "{running}"),
        [Way::NoBatch { threads: some }] => assert!(!since(0) && some == threads, "{running}"),
        _ => return Err(format!("{running}: {ways:?}").into()),
    }
    Ok(())
}

/// A batch that takes too long is ended where it is, and threads fill the other slots.
pub(crate) fn a_slow_batch_is_taken_back() -> Result<(), Failed> {
    let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
        if fault.call == "batch_element" {
            thread::sleep(Duration::from_millis(1));
        }
        None
    })
    .with_patience(Duration::ZERO);
    let plan = alternating();
    let (loaded, ways) = ways(&plan, &kernel);
    slots_are_right(&loaded?);
    let threads = THREADS;
    let one_by_one = [Way::EachWaits { threads }, Way::NoBatch { threads }];
    assert!(one_by_one.contains(&ways[1]), "{ways:?}");
    Ok(())
}

/// The first of two bad slots is blamed, in a batch and on threads. No plan shows the mismatch:
/// one of the inner maps loses its spin lock with its BTF.
pub(crate) fn the_first_bad_slot_is_blamed() -> Result<(), Failed> {
    let plan = sample::with_spin_lock(table(8, 200, &|slot| match slot {
        40 | 57 => "in_1",
        _ => "in_0",
    }));
    for threads in [false, true] {
        let lost = AtomicBool::new(false);
        let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
            if fault.call == "update_batch" && threads {
                return Some(Errno::ENOTSUPP);
            }
            let first = fault.subject == "in_1" && !lost.swap(true, Ordering::Relaxed);
            (fault.call == "create_map" && first).then_some(Errno::EINVAL)
        });
        let error = ways(&plan, &kernel).0.expect_err("two slots are bad");
        let first = &error.diagnostics[0];
        assert_eq!(first.code, codes::SLOT_REFUSED, "{first}");
        assert_eq!(first.field.as_deref(), Some("values[40]"), "{first}");
        assert!(first.message.contains("EINVAL"), "{first}");
        assert_eq!(kernel.live(), 0);
    }
    Ok(())
}

/// An outer map `luts` of so many slots over `in_0` and `in_1`, whose values have that size.
fn table(value_size: u32, size: u32, target: &dyn Fn(u32) -> &'static str) -> Plan {
    let array = |name: &str| map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, value_size], 1);
    let slots: Vec<_> = (0..size).map(|slot| (slot, target(slot))).collect();
    let template = map("", uapi::BPF_MAP_TYPE_ARRAY, [4, value_size], 1);
    let outer_type = uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS;
    let luts = outer("luts", outer_type, size, template, &slots);
    plan(vec![array("in_0"), array("in_1"), luts])
}

fn alternating() -> Plan {
    table(4, 1000, &|slot| if slot % 2 == 0 { "in_0" } else { "in_1" })
}
