//! Which calls fill slots on kernels of different ages, on which threads, and what happens when
//! one of them fails.

// A test may panic: that is how it fails.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod sample;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use bpfplan_loader::{
    Errno, ErrorKind, FailingKernel, Fault, Kernel as _, LoadError, LoadOptions, Progress,
    RecordedCall, RecordingKernel, Way, codes, load_with,
};
use bpfplan_plan::rules::{KernelVersion, Target};
use bpfplan_plan::{Plan, uapi};
use sample::{map, outer, plan};

/// Long enough for a thread to start in, even on a busy machine.
const GRACE_PERIOD: Duration = Duration::from_millis(5);

/// A test that waits so long has failed.
const GIVE_UP: Duration = Duration::from_secs(20);

/// A kernel of some age.
#[derive(Clone, Copy)]
struct Age {
    version: Option<(u16, u16)>,
    batch: Batch,
    /// The first grace period ends when so many calls wait for it.
    together: usize,
}

/// What a kernel does with a batch of slots.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Batch {
    WaitsOnce,
    WaitsEach,
    Missing(Errno),
}

const LINUX_5_5: Age = age(Some((5, 5)), Batch::Missing(Errno::EINVAL));
const LINUX_5_15: Age = age(Some((5, 15)), Batch::Missing(Errno::ENOTSUPP));
const LINUX_6_1: Age = age(Some((6, 1)), Batch::WaitsEach);
const LINUX_6_12: Age = age(Some((6, 12)), Batch::WaitsOnce);
/// A distribution's kernel: an old number, and much that is new.
const PORTED_BACK: Age = age(Some((5, 14)), Batch::WaitsOnce);

const fn age(version: Option<(u16, u16)>, batch: Batch) -> Age {
    Age {
        version,
        batch,
        together: 1,
    }
}

/// One call that filled slots: the map, the slots, and the thread.
type Fill = (String, Vec<u32>, ThreadId);

/// What a load did and said.
struct Seen {
    ways: Vec<Way>,
    fills: Vec<Fill>,
    /// Calls that waited at the same time.
    at_once: usize,
    /// Codes of the notes, with their maps, or the failure.
    result: Result<Vec<(String, String)>, LoadError>,
    /// Descriptors that are open afterwards.
    open: usize,
}

impl Seen {
    /// Number of slots that calls of one slot filled.
    fn singles(&self) -> usize {
        let singles = self.fills.iter().filter(|(_, slots, _)| slots.len() == 1);
        singles.count()
    }
}

/// Loads a plan on such a kernel. `bad` are slots that it refuses; after `moments` moments the
/// caller wants no more.
fn fill(plan: &Plan, age: Age, bad: &[(&str, u32)], moments: usize) -> Seen {
    let fills = Mutex::new(Vec::new());
    let (now, at_once) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let waiting = || {
        at_once.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let begin = Instant::now();
        while at_once.load(Ordering::SeqCst) < age.together && begin.elapsed() < GIVE_UP {
            thread::yield_now();
        }
        thread::sleep(GRACE_PERIOD);
        now.fetch_sub(1, Ordering::SeqCst);
    };
    let target = Target {
        page_size: 4096,
        possible_cpus: 2,
    };
    let kernel = FailingKernel::new(RecordingKernel::new(target), |fault: Fault<'_>| {
        assert_ne!(
            fault.call, "info",
            "nobody wants ids where nothing is pinned"
        );
        let is_bad = |slot: &u32| bad.contains(&(fault.subject, *slot));
        match (fault.call, age.batch) {
            ("update_batch", Batch::Missing(errno)) => return Some(errno),
            ("batch_element", _) if fault.slots.iter().any(is_bad) => {
                return Some(Errno(libc::ENOMEM));
            }
            ("batch_element", Batch::WaitsEach) => {
                thread::sleep(GRACE_PERIOD);
                return None;
            }
            ("update_slot", _) if fault.slots.iter().any(is_bad) => {
                return Some(Errno(libc::ENOMEM));
            }
            ("update_slot", _) | ("update_batch", Batch::WaitsOnce) => waiting(),
            ("update_batch", Batch::WaitsEach) => {}
            _ => return None,
        }
        let fill = (
            fault.subject.to_owned(),
            fault.slots.to_vec(),
            thread::current().id(),
        );
        fills.lock().expect("nobody panics").push(fill);
        None
    })
    .with_threads()
    .with_patience(if age.batch == Batch::WaitsEach {
        GRACE_PERIOD
    } else {
        GIVE_UP
    });
    let kernel = match age.version {
        Some((major, minor)) => kernel.with_version(KernelVersion { major, minor }),
        None => kernel,
    };
    let options = LoadOptions {
        hold: true,
        ..LoadOptions::default()
    };
    let (mut ways, mut polls) = (Vec::new(), 0);
    let result = load_with(plan, &kernel, &options, &mut |progress| {
        assert!(
            polls <= moments,
            "{progress:?} is told to who wants no more"
        );
        match progress {
            Progress::Fill(way) => ways.push(way),
            Progress::GoOn => polls += 1,
            _ => {}
        }
        if polls > moments {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let result = result.map(|loaded| {
        for (map, made) in plan.maps.iter().zip(&loaded.maps) {
            assert_eq!(map.slots.len(), made.filled as usize, "{}", map.name);
        }
        let notes = loaded.diagnostics.iter();
        let notes = notes.map(|note| {
            let map = note.map.clone().unwrap_or_default();
            (note.code.to_string(), map)
        });
        notes.collect()
    });
    if result.is_ok() {
        every_slot_holds_its_map(plan, &kernel.inner().calls());
    }
    let open = kernel.live();
    drop(kernel);
    Seen {
        ways,
        fills: fills.into_inner().expect("nobody panics"),
        at_once: at_once.into_inner(),
        open,
        result,
    }
}

/// Each slot is filled once, by its own map; the maps' descriptors are in the order of creation.
fn every_slot_holds_its_map(plan: &Plan, calls: &[RecordedCall]) {
    let mut made = Vec::new();
    let mut filled = BTreeSet::new();
    for call in calls {
        match call {
            RecordedCall::CreateMap { attributes, fd } => {
                made.push((attributes.name.clone(), *fd));
            }
            RecordedCall::UpdateBatch { map, slots } => {
                for (index, value) in slots {
                    assert!(filled.insert((*map, *index, *value)));
                }
            }
            RecordedCall::UpdateSlot { map, index, value } => {
                assert!(filled.insert((*map, *index, *value)));
            }
            _ => {}
        }
    }
    let fd = |name: &str| made.iter().find(|made| made.0 == name).expect("made").1;
    let wanted = plan.maps.iter().flat_map(|map| {
        map.slots.iter().map(|slot| match &slot.target {
            bpfplan_plan::SlotTarget::Map(target) => (fd(&map.name), slot.index, fd(target)),
            bpfplan_plan::SlotTarget::Program(_) => panic!("no programs here"),
        })
    });
    assert_eq!(filled, wanted.collect());
}

/// Outer maps `outer_0`, `outer_1` ... of so many slots, over three inner maps.
fn tables(sizes: &[u32]) -> Plan {
    const INNER: [&str; 3] = ["lut_0", "lut_1", "lut_2"];
    let inner = |name: &str| map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1);
    let mut maps: Vec<_> = INNER.iter().map(|name| inner(name)).collect();
    for (number, size) in sizes.iter().enumerate() {
        let slots: Vec<(u32, &str)> = (0..*size)
            .map(|index| (index, INNER[index as usize % 3]))
            .collect();
        let template = map("template", uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1);
        let name = format!("outer_{number}");
        maps.push(outer(
            &name,
            uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
            *size,
            template,
            &slots,
        ));
    }
    plan(maps)
}

const ALWAYS: usize = usize::MAX - 1;

#[test]
fn new_kernels_get_one_batch_each() {
    let together = 3;
    let age = Age {
        together,
        ..LINUX_6_12
    };
    let seen = fill(&tables(&[300, 9, 1]), age, &[], ALWAYS);
    assert_eq!(seen.ways, [Way::Batches(3)]);
    assert_eq!(seen.result.expect("it loads"), []);
    assert_eq!((seen.fills.len(), seen.at_once), (3, together));
}

#[test]
fn a_single_batch_stays_on_the_calling_thread() {
    let seen = fill(&tables(&[300]), LINUX_6_12, &[], ALWAYS);
    assert_eq!(seen.ways, [Way::Batches(1)]);
    let (_, slots, thread) = &seen.fills[0];
    assert_eq!((slots.len(), *thread), (300, thread::current().id()));
}

#[test]
fn kernels_that_wait_for_each_element_get_threads() {
    let threads = 128;
    for age in [LINUX_6_1, age(None, Batch::WaitsEach)] {
        let age = Age {
            together: 100,
            ..age
        };
        let seen = fill(&tables(&[300, 200]), age, &[], ALWAYS);
        assert_eq!(seen.ways, [Way::Batches(2), Way::EachWaits { threads }]);
        let singles = seen.singles();
        assert!((400..500).contains(&singles), "{singles} one by one");
        assert!((100..=threads).contains(&seen.at_once), "{}", seen.at_once);
        assert_eq!(seen.result.expect("it loads"), []);
    }
}

#[test]
fn kernels_without_batches_get_threads() {
    let threads = 128;
    for age in [LINUX_5_5, LINUX_5_15] {
        let age = Age {
            together: 100,
            ..age
        };
        let seen = fill(&tables(&[300, 200]), age, &[], ALWAYS);
        assert_eq!(seen.ways, [Way::Batches(2), Way::NoBatch { threads }]);
        assert_eq!(seen.singles(), 500);
        assert!((100..=threads).contains(&seen.at_once), "{}", seen.at_once);
        let notes = ["outer_0", "outer_1"].map(|map| (codes::NO_BATCH.to_string(), map.to_owned()));
        assert_eq!(seen.result.expect("it loads"), notes);
    }
}

#[test]
fn a_version_does_not_say_what_was_ported_back() {
    let seen = fill(&tables(&[9000, 200]), PORTED_BACK, &[], ALWAYS);
    assert_eq!(seen.ways, [Way::Batches(2)]);
    assert_eq!(seen.singles(), 0);
    assert_eq!(seen.result.expect("it loads"), []);
}

/// Whether batches are watched goes by the version that a kernel pretends to have.
#[test]
fn a_kernel_that_pretends_to_be_old_is_not_trusted() {
    let target = Target {
        page_size: 4096,
        possible_cpus: 2,
    };
    let pretends = |major, minor| {
        let recording = RecordingKernel::new(target);
        let kernel = FailingKernel::new(recording, |_: Fault<'_>| None);
        kernel.with_version(KernelVersion { major, minor })
    };
    assert!(!pretends(6, 7).waits_once());
    assert!(pretends(6, 8).waits_once());
    let patient = pretends(6, 8).with_patience(GIVE_UP);
    assert!(!patient.waits_once(), "its batches are to be watched");
}

#[test]
fn few_slots_need_no_watch() {
    let seen = fill(&tables(&[4, 3, 1]), LINUX_6_1, &[], ALWAYS);
    assert_eq!(seen.ways, [Way::Batches(3)]);
    let seen = fill(&tables(&[4, 3, 1]), LINUX_5_15, &[], ALWAYS);
    assert_eq!(seen.ways, [Way::Batches(3), Way::NoBatch { threads: 8 }]);
    let seen = fill(&tables(&[3, 6]), LINUX_5_15, &[], ALWAYS);
    let threads = 9;
    assert_eq!(seen.ways, [Way::Batches(2), Way::NoBatch { threads }]);
}

#[test]
fn the_first_bad_slot_is_blamed_and_the_others_stop() {
    let plan = tables(&[3, 5000]);
    for (age, bad, slot) in [
        (LINUX_6_1, [("outer_1", 250), ("outer_1", 200)], 200),
        (LINUX_5_15, [("outer_1", 200), ("outer_1", 201)], 200),
        // They are in two batches.
        (LINUX_6_1, [("outer_1", 1), ("outer_0", 2)], 2),
        (LINUX_6_12, [("outer_1", 1), ("outer_0", 2)], 2),
        (LINUX_6_12, [("outer_1", 4000), ("outer_1", 3000)], 3000),
        (LINUX_5_15, [("outer_1", 1), ("outer_0", 2)], 2),
    ] {
        let seen = fill(&plan, age, &bad, ALWAYS);
        let error = seen.result.expect_err("a slot is bad");
        let first = &error.diagnostics[0];
        assert_eq!(first.code, codes::SLOT_REFUSED, "{first}");
        assert_eq!(first.field, Some(format!("values[{slot}]")), "{first}");
        assert!(first.message.contains("ENOMEM"), "{first}");
        let map = if slot == 2 { "outer_0" } else { "outer_1" };
        assert_eq!(first.map.as_deref(), Some(map));
        assert!(seen.fills.len() < 4000, "{} calls", seen.fills.len());
        assert_eq!(seen.open, 0);
    }
}

#[test]
fn a_bad_batch_beside_good_ones_is_blamed() {
    for age in [LINUX_6_12, PORTED_BACK] {
        let bad = [("outer_1", 150), ("outer_2", 3)];
        let seen = fill(&tables(&[9, 2000, 2000]), age, &bad, ALWAYS);
        let error = seen.result.expect_err("a batch is bad");
        assert_eq!(error.diagnostics[0].map.as_deref(), Some("outer_1"));
        assert_eq!(seen.open, 0);
    }
}

#[test]
fn an_interruption_ends_it_half_way() {
    // After the batch that the kernel does not have, nothing else is begun.
    let seen = fill(&tables(&[300]), LINUX_5_15, &[], 0);
    assert_eq!(
        (seen.ways.as_slice(), seen.singles()),
        (&[Way::Batches(1)][..], 0)
    );
    let error = seen.result.expect_err("it is interrupted");
    assert_eq!(error.kind, ErrorKind::Interrupted);
    for age in [LINUX_5_15, LINUX_6_1] {
        let seen = fill(&tables(&[5000]), age, &[], 2);
        let error = seen.result.expect_err("it is interrupted");
        assert_eq!(error.kind, ErrorKind::Interrupted);
        assert_eq!(error.diagnostics[0].code, codes::INTERRUPTED);
        assert!(seen.fills.len() < 4000, "{} calls", seen.fills.len());
        assert_eq!(seen.open, 0);
    }
}
