use std::collections::BTreeMap;

use bpfplan_plan::rules::KernelVersion;
use bpfplan_plan::{MapType, uapi};
use proptest::prelude::*;

use super::{Chunks, Stop};
use crate::kernel::Errno;
use crate::maps::elements::Take;
use crate::maps::fake::{Fake, bytes, number};

fn read(fake: &Fake, take: Take) -> Result<Vec<(u32, u32)>, Stop> {
    let mut chunks = Chunks::new(fake, take);
    let mut elements = Vec::new();
    while let Some((key, value)) = chunks.next()? {
        elements.push((number(key), number(value)));
    }
    assert!(chunks.next()?.is_none(), "the end stays the end");
    Ok(elements)
}

fn all(count: u32) -> Vec<(u32, u32)> {
    (0..count).map(|key| (key, key)).collect()
}

#[test]
fn elements_are_read_in_batches() {
    let fake = Fake::filled(10_000);
    assert_eq!(read(&fake, Take::Copy), Ok(all(10_000)));
    assert_eq!(fake.batches.into_inner(), 3);
}

/// Kernels before 5.6 do not know the command, newer ones not for each kind of map.
#[test]
fn without_batches_elements_are_read_one_by_one() {
    for (errno, version) in [
        (Errno::ENOTSUPP, KernelVersion::new(6, 18)),
        (Errno::EINVAL, KernelVersion::new(5, 4)),
    ] {
        let mut fake = Fake::filled(300);
        (fake.no_batch, fake.version) = (Some(errno), version);
        assert_eq!(read(&fake, Take::Copy), Ok(all(300)));
    }
    let mut fake = Fake::filled(3);
    fake.no_batch = Some(Errno::EINVAL);
    assert_eq!(read(&fake, Take::Copy), Err(Stop::Kernel(Errno::EINVAL)));
}

#[test]
fn a_large_bucket_gets_its_room() {
    let mut fake = Fake::filled(9000);
    fake.bucket = 9000;
    assert_eq!(read(&fake, Take::Copy), Ok(all(9000)));
    // No kernel has a bucket of more elements than the map.
    fake.bucket = 90_000;
    assert_eq!(
        read(&fake, Take::Copy),
        Err(Stop::Kernel(Errno(libc::ENOSPC)))
    );
}

/// Kernels before 6.14 give up at empty slots of an array; what was read is not read again.
#[test]
fn empty_slots_do_not_end_it() {
    for after in [0, 1, 2] {
        let mut fake = Fake::filled(10_000);
        fake.info.map_type = MapType(uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS);
        fake.interrupted_after = Some(after);
        assert_eq!(read(&fake, Take::Copy), Ok(all(10_000)), "{after}");
    }
}

#[test]
fn elements_are_taken() {
    for (no_batch, no_take) in [
        (None, None),
        (Some(Errno::ENOTSUPP), None),
        (Some(Errno::ENOTSUPP), Some(Errno::ENOTSUPP)),
    ] {
        let mut fake = Fake::filled(300);
        (fake.no_batch, fake.no_take) = (no_batch, no_take);
        assert_eq!(read(&fake, Take::Remove), Ok(all(300)));
        assert_eq!(fake.keys(), [0; 0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_way_all_is_read(
        elements in prop::collection::btree_map(any::<u32>(), any::<u32>(), 0..600),
        bucket in 1usize..700,
        batches: bool,
        array: bool,
        interrupted in prop::option::of(0usize..4),
    ) {
        let mut fake = Fake::new(700);
        if array {
            fake.info.map_type = MapType(uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS);
            fake.interrupted_after = interrupted;
        }
        fake.bucket = bucket;
        fake.no_batch = (!batches).then_some(Errno::ENOTSUPP);
        let filled: BTreeMap<_, _> = elements
            .iter()
            .map(|(key, value)| (bytes(*key), bytes(*value)))
            .collect();
        *fake.lock() = filled;
        let read = read(&fake, Take::Copy).unwrap();
        prop_assert_eq!(read, elements.into_iter().collect::<Vec<_>>());
    }
}
