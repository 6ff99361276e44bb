//! The slots of an outer map that is there already.

use std::sync::atomic::{AtomicUsize, Ordering};

use bpfplan_loader::{
    Errno, FailingKernel, Fault, Kernel as _, LoadOptions, RealKernel, SlotPolicy, codes, load,
};
use bpfplan_plan::{Plan, uapi};
use libtest_mimic::Failed;

use crate::sample::{PinDir, map, maps, outer, plan};
use crate::{array, codes_of, held, named, outer_by_name};

fn with(directory: &PinDir, slots: SlotPolicy) -> LoadOptions {
    LoadOptions {
        slots: Some(slots),
        ..held(directory)
    }
}

fn filled(outer: &impl std::os::fd::AsFd) -> [Option<u32>; 4] {
    [0, 1, 2, 3].map(|slot| maps::slot(outer, slot))
}

/// As libbpf does: nothing is written, and what is in no slot is said.
pub(crate) fn slots_are_kept() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let first = load(&outer_by_name(&["a", "b"]), &kernel, &held(&directory))?;
    let before = filled(&first.maps[2]);
    assert_eq!(
        before,
        [
            Some(first.maps[0].id().expect("the kernel tells it")),
            Some(first.maps[1].id().expect("the kernel tells it")),
            None,
            None
        ]
    );
    for options in [held(&directory), with(&directory, SlotPolicy::Keep)] {
        let next = load(&outer_by_name(&["a", "b", "c"]), &kernel, &options)?;
        assert_eq!(filled(&next.maps[3]), before);
        assert_eq!(next.maps[3].filled, 0);
        let codes = codes_of(&next.diagnostics);
        assert_eq!(
            codes,
            [
                codes::SLOTS_KEPT,
                codes::IN_NO_SLOT,
                codes::IN_NO_SLOT,
                codes::IN_NO_SLOT
            ]
        );
        let note = &next.diagnostics[0];
        let wanted = format!(
            "[0] holds map {}, not 'a'",
            first.maps[0].id().expect("the kernel tells it")
        );
        assert!(note.message.contains(&wanted), "{note}");
        assert!(
            note.message.contains("[2] is empty, 'c' is declared"),
            "{note}"
        );
        assert_eq!(next.diagnostics[3].map.as_deref(), Some("c"));
    }
    Ok(())
}

pub(crate) fn empty_slots_are_filled() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let first = load(&outer_by_name(&["a", "b"]), &kernel, &held(&directory))?;
    let options = with(&directory, SlotPolicy::FillEmpty);
    let next = load(&outer_by_name(&["a", "b", "c"]), &kernel, &options)?;
    let (a, b) = (
        first.maps[0].id().expect("the kernel tells it"),
        first.maps[1].id().expect("the kernel tells it"),
    );
    assert_eq!(
        filled(&next.maps[3]),
        [
            Some(a),
            Some(b),
            Some(next.maps[2].id().expect("the kernel tells it")),
            None
        ]
    );
    assert_eq!(next.maps[3].filled, 1);
    assert_eq!(
        codes_of(&next.diagnostics),
        [codes::SLOTS_KEPT, codes::IN_NO_SLOT, codes::IN_NO_SLOT]
    );
    Ok(())
}

/// Slots that are declared are written, and only they; what is there already is left.
pub(crate) fn slots_are_overwritten() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let options = with(&directory, SlotPolicy::Overwrite);
    let first = load(&outer_by_name(&["a", "b", "c"]), &kernel, &options)?;
    let next = load(&outer_by_name(&["x", "y"]), &kernel, &options)?;
    assert_eq!(next.diagnostics, []);
    assert!(next.maps[2].reused);
    assert_eq!(next.maps[2].filled, 2);
    let (x, y) = (
        next.maps[0].id().expect("the kernel tells it"),
        next.maps[1].id().expect("the kernel tells it"),
    );
    let wanted = [
        Some(x),
        Some(y),
        Some(first.maps[2].id().expect("the kernel tells it")),
        None,
    ];
    assert_eq!(filled(&next.maps[2]), wanted);

    // Inner maps that are pinned by name are in their slots already.
    let mut all = outer_by_name(&["p", "q"]);
    for map in &mut all.maps {
        map.pinning = bpfplan_plan::Pinning::ByName;
    }
    let one = load(&all, &kernel, &options)?;
    let two = load(&all, &kernel, &options)?;
    assert_eq!((one.maps[2].filled, two.maps[2].filled), (2, 0));
    assert_eq!(filled(&one.maps[2]), filled(&two.maps[2]));
    let kept = load(&all, &kernel, &held(&directory))?;
    assert_eq!(kept.diagnostics, []);

    // A hash of maps has the slots' indices as keys.
    let template = || map("", uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1);
    let array = |name: &str| map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1);
    let hash = |name: &str| -> Plan {
        let outer = outer(
            "hash",
            uapi::BPF_MAP_TYPE_HASH_OF_MAPS,
            4,
            template(),
            &[(1, name), (3, name)],
        );
        plan(vec![array(name), named(outer)])
    };
    load(&hash("m"), &kernel, &options)?;
    let next = load(&hash("n"), &kernel, &options)?;
    let n = Some(next.maps[0].id().expect("the kernel tells it"));
    assert_eq!(filled(&next.maps[1]), [None, n, None, n]);
    Ok(())
}

/// A map that is in many slots is opened once to be put back.
pub(crate) fn many_slots_hold_one_map() -> Result<(), Failed> {
    let directory = PinDir::new();
    let options = with(&directory, SlotPolicy::Overwrite);
    let filling = |name: &str| -> Plan {
        let slots = [0, 1, 2, 3].map(|slot| (slot, name));
        let template = map("", uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 16);
        let luts = outer(
            "luts",
            uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
            4,
            template,
            &slots,
        );
        plan(vec![array(name), named(luts)])
    };
    let first = load(&filling("a"), &RealKernel::new(), &options)?;
    let opened = AtomicUsize::new(0);
    let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
        match fault.call {
            "map_by_id" => drop(opened.fetch_add(1, Ordering::Relaxed)),
            "pin" => return Some(Errno(libc::ENOSPC)),
            _ => {}
        }
        None
    });
    let mut failing = filling("x");
    failing
        .maps
        .push(named(map("new", uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 1)));
    load(&failing, &kernel, &options).expect_err("a pin fails");
    // Once more to compare it with the template.
    assert_eq!(opened.load(Ordering::Relaxed), 2);
    assert_eq!(
        filled(&first.maps[1]),
        [Some(first.maps[0].id().expect("the kernel tells it")); 4]
    );
    assert_eq!(kernel.live(), 0);
    Ok(())
}

/// A load that fails after it has written slots puts them back, empty ones as well; what somebody
/// else has put there meanwhile stays.
pub(crate) fn slots_are_put_back() -> Result<(), Failed> {
    for batches in [true, false] {
        let directory = PinDir::new();
        let real = RealKernel::new();
        let first = load(&outer_by_name(&["a", "b"]), &real, &held(&directory))?;
        let outer = &first.maps[2];
        let before = filled(outer);
        let mut plan = outer_by_name(&["x", "y", "z"]);
        plan.maps
            .push(named(map("new", uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 1)));
        let kernel = FailingKernel::new(real, |fault: Fault<'_>| match fault.call {
            "update_batch" if !batches => Some(Errno::ENOTSUPP),
            "pin" => {
                let now = filled(outer);
                assert!(
                    now[2].is_some() && now[0] != before[0],
                    "slots come before pins"
                );
                // Somebody else changes a slot just then.
                assert!(maps::put(outer, 1, &first.maps[0]));
                Some(Errno(libc::ENOSPC))
            }
            _ => None,
        });
        let options = with(&directory, SlotPolicy::Overwrite);
        let error = load(&plan, &kernel, &options).expect_err("a pin fails");
        assert_eq!(
            codes_of(&error.diagnostics)[0],
            codes::PIN_REFUSED,
            "{error}"
        );
        let a = Some(first.maps[0].id().expect("the kernel tells it"));
        assert_eq!(filled(outer), [a, a, None, None], "{error}");
        assert_eq!(kernel.live(), 0);
        assert_eq!(maps::left_of(&kernel.created()), [0; 0]);
        assert!(real.inspect(&directory.0.join("new")).is_err());
    }
    Ok(())
}
