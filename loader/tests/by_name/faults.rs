//! Every call of a load that reuses, fills slots that are there, and starts again fails once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bpfplan_loader::{
    Errno, FailingKernel, Fault, Kernel as _, LoadOptions, RealKernel, SlotPolicy, codes, load,
    unload,
};
use bpfplan_plan::rules::errno_name;
use bpfplan_plan::{Map, Plan};
use libtest_mimic::Failed;

use crate::sample::{PinDir, maps, program};
use crate::{array, entries, named, outer_by_name, root};

const ERRORS: [Errno; 4] = [
    Errno::EINVAL,
    Errno::EPERM,
    Errno(libc::ENOMEM),
    Errno(libc::EMFILE),
];

/// An outer map that is there, with one slot that is filled and one that is empty, and a map that
/// is not there yet.
fn planned() -> Plan {
    let mut plan = outer_by_name(&["x", "y"]);
    let fresh: Map = named(array("fresh"));
    plan.maps.push(fresh);
    plan
}

pub(crate) fn every_call_may_fail() -> Result<(), Failed> {
    let (pins, others) = (PinDir::new(), PinDir::new());
    let real = RealKernel::new();
    let first = load(
        &outer_by_name(&["a"]),
        &real,
        &LoadOptions {
            hold: true,
            ..root(&pins)
        },
    )?;
    let outer = first.map("luts").ok_or("it was made")?;
    let slots = || [0, 1, 2, 3].map(|slot| maps::slot(outer, slot));
    let before = slots();
    let options = LoadOptions {
        pin_maps: Some(others.0.clone()),
        slots: Some(SlotPolicy::Overwrite),
        raise_nofile: true,
        ..root(&pins)
    };
    // In the first attempt, somebody pins the new map first, and removes it again: that load has
    // to start again.
    let descriptors = maps::descriptors();
    let attempt = |index: Option<usize>, errno: Errno| {
        let failed = Mutex::new((0, String::new()));
        let raced = AtomicBool::new(false);
        let kernel = FailingKernel::new(real, |fault: Fault<'_>| {
            if Some(fault.index) == index {
                let what = format!("{} of '{}'", fault.call, fault.subject);
                *failed.lock().expect("nobody panics") = (1, what);
                return Some(errno);
            }
            let race = fault.call == "pin" && fault.subject == "fresh";
            (race && !raced.swap(true, Ordering::SeqCst)).then_some(Errno::EEXIST)
        });
        let result = load(&planned(), &kernel, &options);
        let (times, what) = failed.lock().expect("nobody panics").clone();
        let result = result.map(|loaded| {
            assert!(loaded.map("luts").is_some_and(|map| map.reused));
            let [x, y] = [&loaded.maps[0], &loaded.maps[1]]
                .map(|map| Some(map.id().expect("the kernel tells it")));
            assert_eq!(slots(), [x, y, None, None], "{what}");
        });
        assert_eq!(kernel.live(), 0, "{what}");
        (result, kernel.calls(), kernel.created(), times, what)
    };
    let restore = || -> Result<(), Failed> {
        unload(&real, &others.0)?;
        real.unlink(&pins.0.join("fresh"))?;
        let old = &first.maps[0];
        assert!(maps::put(outer, 0, old));
        real.clear_slot(&real.open_id(outer.id().expect("the kernel tells it"))?, 1)?;
        assert_eq!(slots(), before);
        Ok(())
    };
    let (result, calls, created, ..) = attempt(None, Errno::EINVAL);
    result?;
    // Twice two inner maps, the new one and the record; the first four are gone.
    assert_eq!(created.len(), 8);
    restore()?;
    let (mut refused, mut went_on) = (0, 0);
    for index in 0..calls {
        for errno in ERRORS {
            let (result, _, created, times, what) = attempt(Some(index), errno);
            let what = format!("call {index}, {what}, {errno}");
            assert_eq!(times, 1, "{what}");
            match result {
                Ok(()) => {
                    went_on += 1;
                    restore().map_err(|left| format!("{what}: {:?}", left.message()))?;
                }
                Err(error) => {
                    refused += 1;
                    let left = error.diagnostics.iter();
                    let left = left.filter(|d| d.code == codes::NOT_UNDONE).count();
                    let told = error.to_string().contains(&errno_name(errno.0));
                    assert!(told || left > 0, "{what}: nobody names it: {error}");
                    // A call that undoes something was made to fail.
                    if left > 0 {
                        put_right(
                            &pins,
                            &others,
                            outer.id().expect("the kernel tells it"),
                            &first.maps[0],
                            before,
                        );
                    }
                }
            }
            assert_eq!(slots(), before, "{what}");
            assert_eq!(entries(&pins.0), ["luts"], "{what}");
            assert!(!others.0.exists(), "{what}");
            assert_eq!(maps::descriptors(), descriptors, "{what}");
            assert_eq!(maps::left_of(&created), [0; 0], "{what}");
        }
    }
    println!("{calls} calls, {refused} refused, {went_on} not");
    assert!(refused > calls * 2);
    // Something that is no map appears where one was.
    real.unlink(&pins.0.join("luts"))?;
    program::pin(&pins.0.join("luts"));
    assert!(attempt(None, Errno::EINVAL).0.is_err());
    Ok(())
}

/// Does what the load has said it could not undo.
fn put_right(
    pins: &PinDir,
    others: &PinDir,
    outer: u32,
    old: &impl std::os::fd::AsFd,
    before: [Option<u32>; 4],
) {
    let real = RealKernel::new();
    let outer = real.open_id(outer).expect("it is open");
    if maps::slot(&outer, 0) != before[0] {
        assert!(maps::put(&outer, 0, old));
    }
    let _ = real.clear_slot(&outer, 1);
    let _ = real.unlink(&pins.0.join("fresh"));
    let _ = std::fs::remove_dir_all(&others.0);
}
