//! Wrong types, wrong sizes, things that are no maps, and maps that change meanwhile.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use bpfplan_loader::maps::{
    Array, ArrayOfMaps, Hash, HashOfMaps, MapError, MapHandle, OuterMap, PerCpuArray, Queue,
    RawMap, RingBuf, Update,
};
use bpfplan_loader::{Errno, Kernel, RealKernel, codes};
use bpfplan_plan::uapi::{
    BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_RINGBUF,
};
use libtest_mimic::Failed;

use crate::sample::{PinDir, program};
use crate::{made, raw, ring_program};

fn mismatch<M: MapHandle>(map: RawMap, parts: &[&str]) {
    let error = match M::from_map(map) {
        Ok(_) => panic!("the handle should not fit: {parts:?}"),
        Err(error) => error,
    };
    assert_eq!(error.errno(), None);
    for part in parts {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

pub(crate) fn handles_are_compared_with_maps() -> Result<(), Failed> {
    let array = || raw(BPF_MAP_TYPE_ARRAY, [4, 8], 2, 0);
    mismatch::<Array<u32>>(
        array(),
        &["its values have 8 bytes, the type of the handle has 4"],
    );
    mismatch::<Hash<u64, u64>>(
        array(),
        &[
            "its kind is array, wanted is hash or lru_hash",
            "its keys have 4 bytes, the type of the handle has 8",
            "array, key 4B, value 8B, max_entries 2",
        ],
    );
    mismatch::<PerCpuArray<u64>>(array(), &["percpu_array"]);
    mismatch::<Queue<u64>>(array(), &["queue", "keys"]);
    mismatch::<RingBuf>(array(), &["wanted is ringbuf"]);
    mismatch::<ArrayOfMaps<RawMap>>(array(), &["array_of_maps"]);
    mismatch::<HashOfMaps<u32, RawMap>>(array(), &["hash_of_maps"]);
    mismatch::<OuterMap>(array(), &["type array and holds no maps"]);
    let each = raw(BPF_MAP_TYPE_PERCPU_ARRAY, [4, 8], 2, 0);
    mismatch::<Array<u64>>(each, &["its kind is percpu_array"]);
    Ok(())
}

pub(crate) fn other_things_are_no_maps() -> Result<(), Failed> {
    let file = std::fs::File::open("/proc/self/exe")?;
    let not_a_map = |result: Result<RawMap, MapError>| {
        let error = result.map(drop).unwrap_err();
        assert_eq!(error.code(), codes::MAP_NOT_OPENED, "{error}");
        error.to_string()
    };
    not_a_map(RawMap::from_fd(OwnedFd::from(file)));
    not_a_map(RawMap::from_fd(ring_program::smallest()));
    not_a_map(RawMap::from_id(u32::MAX));
    let directory = PinDir::new();
    std::fs::create_dir(&directory.0)?;
    let pin = directory.0.join("program");
    program::pin(&pin);
    let text = not_a_map(RawMap::from_pin(&pin));
    assert!(text.contains("is not the pin of a map"), "{text}");
    for path in ["/sys/fs/bpf/there/is/none", "/proc/self/exe", "", "a\0b"] {
        not_a_map(RawMap::from_pin(path));
    }
    not_a_map(RawMap::from_pin(&directory.0));
    Ok(())
}

pub(crate) fn buffers_of_other_sizes_are_refused() -> Result<(), Failed> {
    let map = raw(BPF_MAP_TYPE_HASH, [4, 8], 2, 0);
    let key = [0; 4];
    let refused = |error: MapError| assert_eq!(error.errno(), Some(Errno::EINVAL));
    for size in [0, 7, 9, 4096] {
        let mut value = vec![0; size];
        refused(map.lookup(&key, &mut value).unwrap_err());
        refused(map.take(&key, &mut value).unwrap_err());
        refused(map.update(&key, &value, Update::Any).unwrap_err());
    }
    for size in [0, 3, 5, 4096] {
        let key = vec![0; size];
        refused(map.lookup(&key, &mut [0; 8]).unwrap_err());
        refused(map.update(&key, &[0; 8], Update::Any).unwrap_err());
        refused(map.delete(&key).unwrap_err());
    }
    let each = raw(BPF_MAP_TYPE_PERCPU_ARRAY, [4, 8], 2, 0);
    let cpus = RealKernel::new().possible_cpus()? as usize;
    assert_eq!(each.value_bytes(), cpus * 8);
    refused(each.lookup(&key, &mut vec![0; cpus * 8 + 8]).unwrap_err());
    Ok(())
}

/// The descriptor is closed behind the handle's back.
pub(crate) fn closed_descriptors_are_errors() -> Result<(), Failed> {
    let map: Hash<u32, u64> = made(BPF_MAP_TYPE_HASH, [4, 8], 2);
    let mut ring: RingBuf = made(BPF_MAP_TYPE_RINGBUF, [0, 0], 4096);
    for fd in [map.as_fd().as_raw_fd(), ring.as_fd().as_raw_fd()] {
        // SAFETY: this is what must not be done, to see what comes of it. Nothing else opens
        // descriptors here until the handles are forgotten.
        unsafe { libc::close(fd) };
    }
    let error = map.lookup(&1).unwrap_err();
    assert_eq!(error.errno(), Some(Errno(libc::EBADF)));
    assert!(map.entries().next().is_some_and(|entry| entry.is_err()));
    assert!(map.keys().next().is_some_and(|key| key.is_err()));
    assert!(map.update_all(&[(1, 1)]).is_err());
    assert!(ring.next()?.is_none(), "the memory is still there");
    std::mem::forget((map, ring));
    Ok(())
}

/// A handle stays with its map, whatever becomes of the pin.
pub(crate) fn a_replaced_pin_is_another_map() -> Result<(), Failed> {
    let directory = PinDir::new();
    std::fs::create_dir(&directory.0)?;
    let path = directory.0.join("map");
    let kernel = RealKernel::new();
    let pin = |id: u32| kernel.pin(&kernel.open_id(id)?, &path);
    let one = raw(BPF_MAP_TYPE_HASH, [4, 8], 2, 0);
    let two = raw(BPF_MAP_TYPE_HASH, [4, 4096], 2, 0);
    pin(one.id())?;
    let first: Hash<u32, u64> = Hash::from_pin(&path)?;
    std::fs::remove_file(&path)?;
    pin(two.id())?;
    first.update(&1, &2, Update::Any)?;
    assert_eq!((first.id(), first.lookup(&1)?), (one.id(), Some(2)));
    let error = Hash::<u32, u64>::from_pin(&path).unwrap_err();
    assert_eq!(error.code(), codes::MAP_MISMATCH, "{error}");
    Ok(())
}

pub(crate) fn read_only_handles_do_not_write() -> Result<(), Failed> {
    let directory = PinDir::new();
    std::fs::create_dir(&directory.0)?;
    let path = directory.0.join("map");
    let kernel = RealKernel::new();
    let map = raw(BPF_MAP_TYPE_HASH, [4, 4], 2, 0);
    kernel.pin(&kernel.open_id(map.id())?, &path)?;
    let readable: Hash<u32, u32> = Hash::from_map(RawMap::from_pin_read_only(&path)?)?;
    assert_eq!(readable.lookup(&1)?, None);
    let error = readable.update(&1, &1, Update::Any).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EPERM));
    assert!(error.to_string().contains("read-only"), "{error}");
    let ring = raw(BPF_MAP_TYPE_RINGBUF, [0, 0], 4096, 0);
    let path = directory.0.join("ring");
    kernel.pin(&kernel.open_id(ring.id())?, &path)?;
    let error = RingBuf::from_map(RawMap::from_pin_read_only(&path)?).unwrap_err();
    assert_eq!(error.errno(), Some(Errno(libc::EACCES)));
    Ok(())
}

/// While others come and go, the keys that stay come once each.
pub(crate) fn keys_that_come_and_go() -> Result<(), Failed> {
    const STAY: u32 = 500;
    let map: Hash<u32, u32> = made(BPF_MAP_TYPE_HASH, [4, 4], 4096);
    let all: Vec<(u32, u32)> = (0..STAY).map(|key| (key, key)).collect();
    map.update_all(&all)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also if a check fails, so that the thread ends.
        let _stop = StopAtEnd(&stop);
        scope.spawn(|| {
            let mut key = STAY;
            while !stop.load(Ordering::Relaxed) {
                key = if key > STAY + 1000 { STAY } else { key + 1 };
                let _ = map.update(&key, &0, Update::Any);
                let _ = map.delete(&(key.wrapping_sub(STAY / 2).max(STAY)));
            }
        });
        let check = |keys: Vec<u32>, what: &str| {
            let unique: BTreeSet<u32> = keys.iter().copied().collect();
            assert_eq!(unique.len(), keys.len(), "{what}: some come twice");
            assert!(
                (0..STAY).all(|key| unique.contains(&key)),
                "{what}: some are missing"
            );
        };
        for _ in 0..50 {
            let keys = map.keys().collect::<Result<Vec<u32>, _>>();
            check(keys.expect("it ends"), "keys");
            let entries = map.entries().map(|entry| entry.map(|(key, _)| key));
            let entries = entries.collect::<Result<Vec<u32>, _>>().expect("it ends");
            let entries = entries.into_iter().filter(|key| *key < STAY).collect();
            check(entries, "entries");
        }
    });
    Ok(())
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
