//! Loads that want the same pins at the same time.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use bpfplan_loader::{
    Errno, FailingKernel, Fault, Kernel as _, LoadOptions, RealKernel, SlotPolicy, codes, load,
};
use bpfplan_plan::Plan;
use libtest_mimic::Failed;

use crate::sample::{PinDir, maps, plan};
use crate::{array, codes_of, counting, entries, held, ids, named, outer_by_name, root};

/// Loads the plan on so many threads at once; gives each one's ids, and which maps it reused.
fn at_once(threads: usize, plan: &Plan, options: &LoadOptions) -> Vec<(Vec<u32>, Vec<bool>)> {
    let start = Barrier::new(threads);
    let one = || {
        start.wait();
        let loaded = load(plan, &RealKernel::new(), options).expect("every load ends well");
        let reused = loaded.maps.iter().map(|map| map.reused).collect();
        (ids(&loaded), reused)
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let results = running.into_iter();
        results
            .map(|thread| thread.join().expect("no load panics"))
            .collect()
    })
}

pub(crate) fn many_loads_make_one_map() -> Result<(), Failed> {
    let plan = plan(vec![
        named(array("one")),
        named(array("two")),
        named(array("three")),
    ]);
    for _ in 0..10 {
        let directory = PinDir::new();
        let results = at_once(16, &plan, &root(&directory));
        let created = results.iter().filter(|(_, reused)| !reused[0]).count();
        assert_eq!(created, 1, "exactly one creates: {results:?}");
        let (first, _) = &results[0];
        for (ids, reused) in &results {
            assert_eq!(ids, first);
            assert!(reused.iter().all(|map| *map == reused[0]), "all or none");
        }
        assert_eq!(entries(&directory.0), ["one", "three", "two"]);
    }
    Ok(())
}

/// Slots are those of one load, whichever came last.
pub(crate) fn many_loads_with_slots_end_well() -> Result<(), Failed> {
    for _ in 0..3 {
        let directory = PinDir::new();
        let options = LoadOptions {
            slots: Some(SlotPolicy::Overwrite),
            ..held(&directory)
        };
        let plan = outer_by_name(&["a", "b"]);
        let results = at_once(8, &plan, &options);
        let created = results.iter().filter(|(_, reused)| !reused[2]).count();
        assert_eq!(created, 1, "{results:?}");
        let kernel = RealKernel::new();
        let outer = kernel.open_pin(&directory.0.join("luts"))?;
        let slots = [0, 1].map(|slot| maps::slot(&outer, slot));
        let of_one = |(ids, _): &(Vec<u32>, Vec<bool>)| slots == [Some(ids[0]), Some(ids[1])];
        assert!(results.iter().any(of_one), "{slots:?} {results:?}");
    }
    Ok(())
}

/// Lets `meanwhile` happen just before the first call of that name with that subject.
fn just_before<'a>(
    call: &'static str,
    subject: &'static str,
    meanwhile: impl Fn() + Sync + 'a,
) -> impl Fn(Fault<'_>) -> Option<Errno> + Sync + 'a {
    let times = AtomicUsize::new(0);
    move |fault: Fault<'_>| {
        let here = fault.call == call && fault.subject.ends_with(subject);
        if here && times.fetch_add(1, Ordering::SeqCst) == 0 {
            meanwhile();
        }
        None
    }
}

/// The other load pins after this one has looked and before it pins: here between two pins.
pub(crate) fn the_loser_starts_again() -> Result<(), Failed> {
    let directory = PinDir::new();
    let real = RealKernel::new();
    let both = plan(vec![named(array("one")), named(array("two"))]);
    let only_two = plan(vec![named(array("two"))]);
    let winner = crate::loaded(&only_two)?;
    let kernel = FailingKernel::new(
        real,
        just_before("pin", "two", || {
            real.pin(&winner.maps[0].fd, &directory.0.join("two"))
                .expect("nobody is there");
        }),
    );
    let loaded = load(&both, &kernel, &root(&directory))?;
    assert!(!loaded.maps[0].reused && loaded.maps[1].reused);
    assert_eq!(
        loaded.maps[1].id().expect("the kernel tells it"),
        winner.maps[0].id().expect("the kernel tells it")
    );
    assert_eq!(loaded.diagnostics, []);
    // Of the first attempt nothing is left: two maps in it, one in the second.
    let created = kernel.created();
    assert_eq!(created.len(), 3);
    assert_eq!(maps::left_of(&created[..2]), [0; 0]);
    assert_eq!(
        created[2],
        loaded.maps[0].id().expect("the kernel tells it")
    );
    Ok(())
}

pub(crate) fn pins_that_vanish() -> Result<(), Failed> {
    let real = RealKernel::new();
    let plan = plan(vec![named(array("one"))]);
    // Between look and open, and after it was opened: then the map would be pinned nowhere.
    for call in ["reuse_pin", "lock_dir"] {
        let directory = PinDir::new();
        let first = load(&plan, &real, &root(&directory))?;
        let path = directory.0.join("one");
        let vanish = || real.unlink(&path).expect("it is there");
        let kernel = FailingKernel::new(real, just_before(call, "", vanish));
        let loaded = load(&plan, &kernel, &root(&directory))?;
        assert!(!loaded.maps[0].reused, "{call}");
        assert_ne!(
            loaded.maps[0].id().expect("the kernel tells it"),
            first.maps[0].id().expect("the kernel tells it")
        );
        let pinned = real.open_pin(&path)?;
        assert_eq!(
            real.info(&pinned)?.id,
            loaded.maps[0].id().expect("the kernel tells it")
        );
    }
    // Another map is in its place by now.
    let directory = PinDir::new();
    let (first, other) = (
        load(&plan, &real, &root(&directory))?,
        crate::loaded(&plan)?,
    );
    let path = directory.0.join("one");
    let replace = || {
        real.unlink(&path).expect("it is there");
        real.pin(&other.maps[0].fd, &path).expect("it is gone");
    };
    let kernel = FailingKernel::new(real, just_before("lock_dir", "", replace));
    let loaded = load(&plan, &kernel, &root(&directory))?;
    assert!(loaded.maps[0].reused);
    assert_ne!(
        loaded.maps[0].id().expect("the kernel tells it"),
        first.maps[0].id().expect("the kernel tells it")
    );
    assert_eq!(
        loaded.maps[0].id().expect("the kernel tells it"),
        other.maps[0].id().expect("the kernel tells it")
    );
    Ok(())
}

/// Somebody who pins and removes all the time does not keep a load for ever.
pub(crate) fn a_race_has_an_end() -> Result<(), Failed> {
    let directory = PinDir::new();
    let real = RealKernel::new();
    let kernel = FailingKernel::new(real, |fault: Fault<'_>| {
        (fault.call == "pin").then_some(Errno::EEXIST)
    });
    let plan = plan(vec![named(array("one"))]);
    let error = load(&plan, &kernel, &root(&directory)).expect_err("it gives up");
    assert_eq!(
        codes_of(&error.diagnostics),
        [codes::PIN_RACE, codes::PIN_REFUSED]
    );
    assert_eq!(kernel.created().len(), 8, "{error}");
    assert_eq!(maps::left_of(&kernel.created()), [0; 0]);
    assert!(!directory.0.exists());
    Ok(())
}

/// The directory appears, or goes, while the load is at work.
pub(crate) fn roots_are_raced_for() -> Result<(), Failed> {
    let real = RealKernel::new();
    let plan = plan(vec![named(array("one"))]);
    let run = |call: &'static str, before: bool, meanwhile: &(dyn Fn(&Path) + Sync)| {
        let directory = PinDir::new();
        if before {
            real.make_dir(&directory.0).expect("nothing is there");
        }
        let kernel = FailingKernel::new(real, just_before(call, "", || meanwhile(&directory.0)));
        let loaded = load(&plan, &kernel, &root(&directory)).expect("it ends well");
        assert!(!loaded.maps[0].reused, "{call}");
        assert_eq!(entries(&directory.0), ["one"]);
    };
    let make = |path: &Path| real.make_dir(path).expect("nothing is there");
    let remove = |path: &Path| real.remove_dir(path).expect("it is empty");
    run("make_dir", false, &make);
    run("lock_dir", true, &remove);
    run("pin", true, &remove);
    drop(counting());
    Ok(())
}
