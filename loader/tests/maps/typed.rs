//! Each kind of handle.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

use bpfplan_loader::maps::{
    Array, BloomFilter, Hash, LpmTrie, MapHandle, PerCpuArray, PerCpuHash, ProgArray, Queue,
    RawMap, RingBuf, Stack, Update,
};
use bpfplan_loader::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use bpfplan_loader::{Errno, Kernel, RealKernel, load, unload};
use bpfplan_plan::uapi;
use libtest_mimic::Failed;

use crate::sample::{self, PinDir};
use crate::{made, made_with, ring_program};

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Flow {
    packets: u64,
    port: u16,
    padding: [u8; 6],
}

fn flow(packets: u64) -> Flow {
    Flow {
        packets,
        port: 443,
        padding: [0; 6],
    }
}

pub(crate) fn arrays() -> Result<(), Failed> {
    let array: Array<Flow> = made(uapi::BPF_MAP_TYPE_ARRAY, [4, 16], 10);
    assert_eq!((array.len(), array.is_empty()), (10, false));
    assert_eq!(
        array.get(3)?,
        Some(flow(0)).map(|flow| Flow { port: 0, ..flow })
    );
    array.set(3, &flow(7))?;
    assert_eq!(array.get(3)?, Some(flow(7)));
    assert_eq!(array.get_boxed(3)?.as_deref(), Some(&flow(7)));
    assert_eq!(array.get(10)?, None);
    assert_eq!(array.get_boxed(10)?, None);
    let beyond = array.set(10, &flow(1)).unwrap_err();
    assert_eq!(beyond.errno(), Some(Errno(libc::E2BIG)));
    assert!(beyond.to_string().contains("max_entries"), "{beyond}");

    let all: Vec<_> = (0..10)
        .map(|index| (index, flow(u64::from(index))))
        .collect();
    array.set_all(&all)?;
    let read: Vec<_> = array.entries().collect::<Result<_, _>>()?;
    assert_eq!(read, all);
    let error = array
        .set_all(&[(0, flow(9)), (99, flow(9)), (1, flow(9))])
        .unwrap_err();
    assert_eq!(error.done(), Some(1));
    assert_eq!(array.get(0)?, Some(flow(9)));
    assert_eq!(array.get(1)?, Some(flow(1)));
    Ok(())
}

pub(crate) fn large_values_are_on_the_heap() -> Result<(), Failed> {
    const SIZE: usize = 4 << 20;
    let array: Array<[u8; SIZE]> = made(uapi::BPF_MAP_TYPE_ARRAY, [4, SIZE as u32], 1);
    // The stack of a thread has 2 MiB.
    let work = std::thread::spawn(move || {
        let mut value = array.get_boxed(0)?.expect("index 0 is there");
        value[SIZE - 1] = 9;
        array.set(0, &value)?;
        let read = array.get_boxed(0)?.expect("index 0 is there");
        assert_eq!(read[SIZE - 2..], [0, 9]);
        Ok(())
    });
    work.join().expect("it does not overflow the stack")
}

pub(crate) fn hash_maps() -> Result<(), Failed> {
    for map_type in [uapi::BPF_MAP_TYPE_HASH, uapi::BPF_MAP_TYPE_LRU_HASH] {
        let map: Hash<[u8; 6], Flow> = made(map_type, [6, 16], 4);
        let key = *b"abcdef";
        assert_eq!(map.lookup(&key)?, None);
        assert!(!map.delete(&key)?);
        let missing = map.update(&key, &flow(1), Update::Exist).unwrap_err();
        assert_eq!(missing.errno(), Some(Errno::ENOENT));
        map.update(&key, &flow(1), Update::NoExist)?;
        let present = map.update(&key, &flow(2), Update::NoExist).unwrap_err();
        assert_eq!(present.errno(), Some(Errno::EEXIST));
        map.update(&key, &flow(2), Update::Exist)?;
        assert_eq!(map.lookup(&key)?, Some(flow(2)));
        assert_eq!(map.lookup_boxed(&key)?.as_deref(), Some(&flow(2)));
        assert_eq!(map.take(&key)?, Some(flow(2)));
        assert_eq!(map.take(&key)?, None);
        map.update(&key, &flow(3), Update::Any)?;
        assert!(map.delete(&key)?);
        assert_eq!(map.keys().count(), 0);
    }
    let full: Hash<u32, u32> = made(uapi::BPF_MAP_TYPE_HASH, [4, 4], 1);
    full.update(&1, &1, Update::Any)?;
    let error = full.update(&2, &2, Update::Any).unwrap_err();
    assert_eq!(error.errno(), Some(Errno(libc::E2BIG)));
    assert!(error.to_string().contains("full"), "{error}");
    Ok(())
}

/// Keys shorter than a position in a batch, and more elements than a batch has.
pub(crate) fn hash_maps_in_batches() -> Result<(), Failed> {
    let small: Hash<u8, u8> = made(uapi::BPF_MAP_TYPE_HASH, [1, 1], 256);
    let all: Vec<(u8, u8)> = (0..=255).map(|key| (key, !key)).collect();
    small.update_all(&all)?;
    let read: BTreeMap<u8, u8> = small.entries().collect::<Result<_, _>>()?;
    assert_eq!(read.into_iter().collect::<Vec<_>>(), all);
    let keys: BTreeSet<u8> = small.keys().collect::<Result<_, _>>()?;
    assert_eq!(keys.len(), 256);
    small.delete_all(&[1, 2, 2, 3])?;
    small.delete_all(&[3, 4])?;
    assert_eq!(small.keys().count(), 252);

    let large: Hash<u64, [u64; 4]> = made(uapi::BPF_MAP_TYPE_HASH, [8, 32], 20_000);
    let all: Vec<_> = (0..20_000).map(|key| (key, [key; 4])).collect();
    large.update_all(&all)?;
    let read: BTreeMap<u64, [u64; 4]> = large.entries().collect::<Result<_, _>>()?;
    assert_eq!(read.into_iter().collect::<Vec<_>>(), all);
    let error = large
        .update_all(&[(1, [0; 4]), (1 << 40, [0; 4])])
        .unwrap_err();
    assert_eq!(
        (error.errno(), error.done()),
        (Some(Errno(libc::E2BIG)), Some(1))
    );
    Ok(())
}

pub(crate) fn draining_empties() -> Result<(), Failed> {
    let map: Hash<u32, u64> = made(uapi::BPF_MAP_TYPE_HASH, [4, 8], 5000);
    let all: Vec<(u32, u64)> = (0..5000).map(|key| (key, u64::from(key) * 3)).collect();
    map.update_all(&all)?;
    let taken: BTreeMap<u32, u64> = map.drain().collect::<Result<_, _>>()?;
    assert_eq!(taken.into_iter().collect::<Vec<_>>(), all);
    assert_eq!(map.keys().count(), 0);
    Ok(())
}

/// Whoever deletes each key that it gets sees all of them.
pub(crate) fn deleting_while_iterating() -> Result<(), Failed> {
    let map: Hash<u32, u32> = made(uapi::BPF_MAP_TYPE_HASH, [4, 4], 1000);
    let all: Vec<(u32, u32)> = (0..1000).map(|key| (key, key)).collect();
    map.update_all(&all)?;
    let mut seen = BTreeSet::new();
    for key in map.keys() {
        let key = key?;
        assert!(seen.insert(key), "{key} comes twice");
        assert!(map.delete(&key)?);
    }
    assert_eq!(seen.len(), 1000);
    assert_eq!(map.keys().count(), 0);
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Prefix {
    length: u32,
    address: [u8; 4],
}

pub(crate) fn tries() -> Result<(), Failed> {
    let flags = uapi::BPF_F_NO_PREALLOC;
    let trie: LpmTrie<Prefix, u32> = made_with(uapi::BPF_MAP_TYPE_LPM_TRIE, [8, 4], 16, flags);
    let prefix = |length, address| Prefix { length, address };
    trie.update_all(&[
        (prefix(8, [10, 0, 0, 0]), 8),
        (prefix(16, [10, 1, 0, 0]), 16),
        (prefix(0, [0; 4]), 0),
    ])?;
    assert_eq!(trie.lookup(&prefix(32, [10, 1, 2, 3]))?, Some(16));
    assert_eq!(trie.lookup(&prefix(32, [10, 2, 2, 3]))?, Some(8));
    assert_eq!(trie.lookup(&prefix(32, [11, 2, 2, 3]))?, Some(0));
    let lengths: BTreeSet<u32> = trie
        .entries()
        .map(|entry| entry.map(|(prefix, _)| prefix.length))
        .collect::<Result<_, _>>()?;
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 8, 16]);
    assert_eq!(trie.keys().count(), 3);
    assert!(trie.delete(&prefix(8, [10, 0, 0, 0]))?);
    assert_eq!(trie.lookup(&prefix(32, [10, 2, 2, 3]))?, Some(0));
    assert_eq!(trie.drain().count(), 2);
    assert_eq!(trie.lookup(&prefix(32, [10, 1, 2, 3]))?, None);
    Ok(())
}

/// Values whose size is no multiple of 8 are apart by one that is.
pub(crate) fn per_cpu_arrays() -> Result<(), Failed> {
    let array: PerCpuArray<[u8; 3]> = made(uapi::BPF_MAP_TYPE_PERCPU_ARRAY, [4, 3], 4);
    let cpus = array.cpus();
    assert_eq!(cpus as u32, RealKernel::new().possible_cpus()?);
    assert_eq!(array.get(1)?, Some(vec![[0; 3]; cpus]));
    let values: Vec<[u8; 3]> = (0..cpus).map(|cpu| [cpu as u8 + 1, 2, 3]).collect();
    array.set(1, &values)?;
    assert_eq!(array.get(1)?, Some(values.clone()));
    assert_eq!(array.get(4)?, None);
    for wrong in [&values[1..], &[[0; 3]; 4096][..]] {
        let error = array.set(1, wrong).unwrap_err();
        assert_eq!(error.errno(), None, "the kernel is not asked: {error}");
    }
    let entries: Vec<_> = array.entries().collect::<Result<_, _>>()?;
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[1], (1, values));
    Ok(())
}

pub(crate) fn per_cpu_hash_maps() -> Result<(), Failed> {
    for map_type in [
        uapi::BPF_MAP_TYPE_PERCPU_HASH,
        uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH,
    ] {
        let map: PerCpuHash<u16, u32> = made(map_type, [2, 4], 64);
        let values: Vec<u32> = (0..map.cpus()).map(|cpu| cpu as u32 + 10).collect();
        assert_eq!(map.lookup(&1)?, None);
        map.update(&1, &values, Update::NoExist)?;
        map.update(&2, &values, Update::Any)?;
        assert_eq!(map.lookup(&1)?, Some(values.clone()));
        assert_eq!(map.keys().count(), 2);
        let entries: BTreeMap<_, _> = map.entries().collect::<Result<_, _>>()?;
        assert_eq!(entries[&2], values);
        assert!(map.delete(&1)?);
        let drained: Vec<_> = map.drain().collect::<Result<_, _>>()?;
        assert_eq!(drained, [(2, values)]);
        assert_eq!(map.keys().count(), 0);
    }
    Ok(())
}

pub(crate) fn queues_and_stacks() -> Result<(), Failed> {
    let queue: Queue<u32> = made(uapi::BPF_MAP_TYPE_QUEUE, [0, 4], 2);
    let stack: Stack<u32> = made(uapi::BPF_MAP_TYPE_STACK, [0, 4], 2);
    assert_eq!((queue.pop()?, stack.peek()?), (None, None));
    for value in [1, 2] {
        queue.push(&value)?;
        stack.push(&value)?;
    }
    assert_eq!(
        queue.push(&3).unwrap_err().errno(),
        Some(Errno(libc::E2BIG))
    );
    assert_eq!(
        stack.push(&3).unwrap_err().errno(),
        Some(Errno(libc::E2BIG))
    );
    assert_eq!((queue.peek()?, stack.peek()?), (Some(1), Some(2)));
    queue.push_over(&3)?;
    stack.push_over(&3)?;
    assert_eq!(
        [queue.pop()?, queue.pop()?, queue.pop()?],
        [Some(2), Some(3), None]
    );
    assert_eq!(stack.pop()?, Some(3));
    Ok(())
}

pub(crate) fn bloom_filters() -> Result<(), Failed> {
    let filter: BloomFilter<[u8; 5]> = made(uapi::BPF_MAP_TYPE_BLOOM_FILTER, [0, 5], 100);
    filter.insert(b"first")?;
    assert!(filter.may_contain(b"first")?);
    let others = (0..100u8).filter(|n| filter.may_contain(&[*n; 5]).expect("it answers"));
    assert!(others.count() < 50, "one value is not most of them");
    Ok(())
}

pub(crate) fn program_arrays() -> Result<(), Failed> {
    let array: ProgArray = made(uapi::BPF_MAP_TYPE_PROG_ARRAY, [4, 4], 3);
    assert_eq!((array.len(), array.program_id(0)?), (3, None));
    let program = ring_program::smallest();
    array.set(1, &program)?;
    assert_eq!(array.program_id(1)?, Some(ring_program::id(&program)));
    assert!(array.clear(1)?);
    assert!(!array.clear(1)?);
    assert_eq!(array.program_id(1)?, None);
    assert_eq!(
        array.set(3, &program).unwrap_err().errno(),
        Some(Errno(libc::E2BIG))
    );
    Ok(())
}

pub(crate) fn handles_of_loads_pins_and_ids() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let loaded = load(&sample::mixed(), &kernel, &crate::inner::pin(&directory))?;
    let map = loaded.map("in_a").expect("it was loaded");
    let one: Hash<u32, u32> = Hash::from_loaded(map)?;
    assert_eq!(
        (one.id(), one.map().name()),
        (map.id().expect("the kernel tells it"), "in_a")
    );
    one.update(&1, &11, Update::Any)?;
    let others: [Hash<u32, u32>; 3] = [
        Hash::from_pin(directory.0.join("in_a"))?,
        Hash::from_id(map.id().expect("the kernel tells it"))?,
        Hash::from_fd(one.as_fd().try_clone_to_owned()?)?,
    ];
    for other in &others {
        assert_eq!(
            (other.id(), other.lookup(&1)?),
            (map.id().expect("the kernel tells it"), Some(11))
        );
        assert!(other.as_fd().try_clone_to_owned().is_ok());
    }
    drop(loaded);
    assert_eq!(one.lookup(&1)?, Some(11), "it has a descriptor of its own");
    assert_eq!(one.map().try_clone()?.id(), one.id());
    let ring = RingBuf::from_pin(directory.0.join("ring"))?;
    assert_eq!(ring.info().max_entries, 4096);
    unload(&kernel, &directory.0)?;
    Ok(())
}

/// Nothing of a map keeps its raw handle from being made, used and described.
pub(crate) fn every_kind_opens_raw() -> Result<(), Failed> {
    use uapi::*;
    for (map_type, sizes, entries, flags) in [
        (BPF_MAP_TYPE_ARRAY, [4, 4], 4, 0),
        (BPF_MAP_TYPE_DEVMAP, [4, 8], 4, 0),
        (BPF_MAP_TYPE_DEVMAP_HASH, [4, 4], 4, 0),
        (BPF_MAP_TYPE_CPUMAP, [4, 4], 1, 0),
        (BPF_MAP_TYPE_XSKMAP, [4, 4], 4, 0),
        (BPF_MAP_TYPE_SOCKMAP, [4, 8], 4, 0),
        (BPF_MAP_TYPE_SOCKHASH, [6, 8], 4, 0),
        (BPF_MAP_TYPE_STACK_TRACE, [4, 64], 4, 0),
        (BPF_MAP_TYPE_CGROUP_ARRAY, [4, 4], 4, 0),
        (BPF_MAP_TYPE_PERF_EVENT_ARRAY, [4, 4], 2, 0),
        (BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, [4, 8], 4, 0),
        (BPF_MAP_TYPE_USER_RINGBUF, [0, 0], 4096, 0),
        (BPF_MAP_TYPE_CGROUP_STORAGE, [16, 3], 0, 0),
        (BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, [16, 3], 0, 0),
        (BPF_MAP_TYPE_LPM_TRIE, [5, 1], 4, BPF_F_NO_PREALLOC),
    ] {
        let map: RawMap = made_with(map_type, sizes, entries, flags);
        let info = map.info();
        assert_eq!((info.map_type.0, info.key_size), (map_type, sizes[0]));
        let key = vec![0; sizes[0] as usize];
        let mut value = vec![0xaa; map.value_bytes()];
        // What it says depends on the kind; it must say it without harm.
        let _ = map.lookup(&key, &mut value);
        let _ = map.delete(&key);
        let _ = map.take(&key, &mut value);
        let _ = map.keys().take(10).count();
    }
    Ok(())
}
