use std::io;
use std::os::fd::AsFd as _;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use bpfplan_plan::rules::{Call, KernelVersion};
use bpfplan_plan::{Diagnostic, MapType, uapi};

use super::Inserts;
use crate::codes;
use crate::kernel::Errno;
use crate::maps::MapError;
use crate::maps::fake::{Fake, bytes};

fn outer(version: KernelVersion) -> Fake {
    let mut fake = Fake::new(1000);
    fake.info.map_type = MapType(uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS);
    fake.version = version;
    fake.waits = version == WAITS;
    fake
}

fn insert(fake: &Fake, count: u32) -> Result<(), MapError> {
    let keys: Vec<Vec<u8>> = (0..count).map(bytes).collect();
    let stdin = io::stdin();
    let items: Vec<_> = keys
        .iter()
        .map(|key| (key.as_slice(), stdin.as_fd()))
        .collect();
    let explain = |exact: Option<usize>, _: Call, errno: Errno| {
        Diagnostic::error(codes::SLOT_REFUSED, format!("{exact:?}: {errno}"))
    };
    Inserts {
        calls: fake,
        items: &items,
        explain: &explain,
        first: Mutex::new(None),
    }
    .run()
}

const NEW: KernelVersion = KernelVersion::new(6, 18);
/// Waits for each element of a batch.
const WAITS: KernelVersion = KernelVersion::new(6, 1);
/// Has no batch for outer maps.
const OLD: KernelVersion = KernelVersion::new(5, 15);

/// Threads that wait at the same time, and take a few grace periods together.
const THREADS: usize = 128;

#[test]
fn newer_kernels_get_one_batch() {
    let fake = outer(NEW);
    assert_eq!(insert(&fake, 500), Ok(()));
    assert_eq!(fake.keys(), (0..500).collect::<Vec<_>>());
    assert_eq!(fake.batches.load(Ordering::SeqCst), 1);
    assert_eq!(fake.singles.load(Ordering::SeqCst), 0);
}

/// The batch is taken back when it shows that the kernel waits for each element; what it has not
/// done goes one by one.
#[test]
fn kernels_that_wait_get_threads() {
    let mut fake = outer(WAITS);
    fake.together = THREADS;
    assert_eq!(insert(&fake, 500), Ok(()));
    assert_eq!(fake.keys(), (0..500).collect::<Vec<_>>());
    assert_eq!(fake.batches.load(Ordering::SeqCst), 1);
    // None, if it was taken back before it began.
    let in_batch = fake.in_batches.load(Ordering::SeqCst);
    assert!(in_batch <= 1, "{in_batch} while the kernel waits");
    assert_eq!(in_batch + fake.singles.load(Ordering::SeqCst), 500);
    assert_eq!(fake.at_once.load(Ordering::SeqCst), THREADS);
}

#[test]
fn kernels_without_batches_get_threads() {
    let mut fake = outer(OLD);
    fake.no_batch = Some(Errno::ENOTSUPP);
    fake.together = THREADS;
    assert_eq!(insert(&fake, 500), Ok(()));
    assert_eq!(fake.keys(), (0..500).collect::<Vec<_>>());
    assert_eq!(fake.singles.load(Ordering::SeqCst), 500);
    assert_eq!(fake.at_once.load(Ordering::SeqCst), THREADS);
}

#[test]
fn the_first_slot_that_fails_is_blamed() {
    for version in [NEW, WAITS, OLD] {
        let mut fake = outer(version);
        fake.no_batch = (version == OLD).then_some(Errno::ENOTSUPP);
        for key in [300, 301, 499] {
            fake.refused.insert(bytes(key), Errno::EINVAL);
        }
        let error = insert(&fake, 500).unwrap_err();
        assert_eq!(error.done(), Some(300), "{version}");
        assert_eq!(error.errno(), Some(Errno::EINVAL), "{version}");
        assert!(
            error.to_string().contains("Some(300)"),
            "{version}: {error}"
        );
        let keys = fake.keys();
        assert!((0..300).all(|key| keys.contains(&key)), "{version}");
    }
}

#[test]
fn a_call_that_is_refused_as_a_whole_blames_nobody() {
    let mut fake = outer(NEW);
    fake.no_batch = Some(Errno::EPERM);
    let error = insert(&fake, 5).unwrap_err();
    assert!(error.to_string().contains("None: EPERM"), "{error}");
    assert_eq!(fake.keys(), [0; 0]);
}
