use bpfplan_plan::rules::KernelVersion;

use super::{Action, apply};
use crate::kernel::{BatchError, Errno};
use crate::maps::fake::{Fake, bytes};

fn run(fake: &Fake, action: Action, keys: &[u32]) -> Result<(), BatchError> {
    let keys: Vec<Vec<u8>> = keys.iter().map(|key| bytes(*key)).collect();
    let value: &[u8] = if action == Action::Update {
        &[9; 4]
    } else {
        &[]
    };
    apply(fake, action, keys.iter().map(|key| (key.as_slice(), value)))
}

fn old(no_batch: Errno, version: KernelVersion) -> Fake {
    let mut fake = Fake::filled(10);
    (fake.no_batch, fake.version) = (Some(no_batch), version);
    fake
}

#[test]
fn nothing_is_no_call() {
    let fake = Fake::new(8);
    assert_eq!(run(&fake, Action::Update, &[]), Ok(()));
    assert_eq!(fake.batches.into_inner(), 0);
}

#[test]
fn many_updates_are_few_calls() {
    let fake = Fake::new(1 << 20);
    let keys: Vec<u32> = (0..300_000).collect();
    assert_eq!(run(&fake, Action::Update, &keys), Ok(()));
    assert_eq!(fake.keys(), keys);
    assert_eq!(fake.batches.into_inner(), 3);
    assert_eq!(fake.singles.into_inner(), 0);
}

#[test]
fn without_batches_all_is_done_one_by_one() {
    for fake in [
        old(Errno::ENOTSUPP, KernelVersion::new(6, 18)),
        old(Errno::EINVAL, KernelVersion::new(5, 4)),
    ] {
        assert_eq!(run(&fake, Action::Update, &[20, 21, 22]), Ok(()));
        assert_eq!(run(&fake, Action::Delete, &[1, 99, 2]), Ok(()));
        assert_eq!(fake.keys(), [0, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22]);
    }
    let fake = old(Errno::EINVAL, KernelVersion::new(6, 18));
    let error = run(&fake, Action::Update, &[20]).unwrap_err();
    assert_eq!((error.errno, error.done), (Errno::EINVAL, None));
}

#[test]
fn the_element_that_fails_is_counted() {
    for no_batch in [None, Some(Errno::ENOTSUPP)] {
        let mut fake = Fake::new(1 << 20);
        fake.no_batch = no_batch;
        fake.refused.insert(bytes(200_000), Errno(libc::E2BIG));
        let keys: Vec<u32> = (0..300_000).collect();
        let error = run(&fake, Action::Update, &keys).unwrap_err();
        assert_eq!(error.errno, Errno(libc::E2BIG));
        assert_eq!(error.done, Some(200_000), "{no_batch:?}");
        assert_eq!(fake.keys().len(), 200_000, "those before are done");
    }
}

#[test]
fn keys_that_are_not_there_do_not_stop_deletions() {
    let fake = Fake::filled(10);
    let keys = [50, 1, 51, 52, 2, 2, 3, 53];
    assert_eq!(run(&fake, Action::Delete, &keys), Ok(()));
    assert_eq!(fake.keys(), [0, 4, 5, 6, 7, 8, 9]);
}
