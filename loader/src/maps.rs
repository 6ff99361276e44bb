//! Maps in the running kernel: typed handles to read and write them.
//!
//! A handle owns a descriptor and knows the Rust types of keys and values. It is made from a map
//! of a load, a pin, an id or a descriptor, and making it compares the kind of map and the sizes
//! with the types, so that a wrong guess is an error and not rubbish. Keys and values are plain
//! bytes, told by the traits of [`zerocopy`], so nobody needs `unsafe`.
//!
//! | handle | kinds of maps |
//! |---|---|
//! | [`Array`] | `ARRAY` |
//! | [`Hash`](struct@Hash) | `HASH`, `LRU_HASH` |
//! | [`PerCpuArray`] | `PERCPU_ARRAY` |
//! | [`PerCpuHash`] | `PERCPU_HASH`, `LRU_PERCPU_HASH` |
//! | [`LpmTrie`] | `LPM_TRIE` |
//! | [`Queue`], [`Stack`] | `QUEUE`, `STACK` |
//! | [`BloomFilter`] | `BLOOM_FILTER` |
//! | [`RingBuf`], [`UserRingBuf`] | `RINGBUF`, `USER_RINGBUF` |
//! | [`ProgArray`] | `PROG_ARRAY` |
//! | [`PerfEventArray`], [`CgroupArray`] | `PERF_EVENT_ARRAY`, `CGROUP_ARRAY` |
//! | [`StackTrace`] | `STACK_TRACE`, of addresses |
//! | [`LocalStorage`] | `SK_STORAGE`, `TASK_STORAGE`, `INODE_STORAGE`, `CGRP_STORAGE` |
//! | [`DevMap`], [`DevMapHash`], [`CpuMap`] | `DEVMAP`, `DEVMAP_HASH`, `CPUMAP` |
//! | [`XskMap`], [`SockMap`], [`SockHash`] | `XSKMAP`, `SOCKMAP`, `SOCKHASH` |
//! | [`ReuseportSockArray`] | `REUSEPORT_SOCKARRAY` |
//! | [`ArrayOfMaps`], [`HashOfMaps`] | `ARRAY_OF_MAPS`, `HASH_OF_MAPS` |
//! | [`OuterMap`] | both, with keys as bytes |
//! | [`RawMap`] | every kind, in bytes |
//!
//! ```no_run
//! use bpfplan_loader::maps::{Hash, MapHandle, Update};
//! use bpfplan_loader::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
//!
//! #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
//! #[repr(C)]
//! struct Flow {
//!     packets: u64,
//!     bytes: u64,
//! }
//!
//! let flows: Hash<[u8; 4], Flow> = Hash::from_pin("/sys/fs/bpf/flow/flows")?;
//! flows.update(&[10, 0, 0, 1], &Flow { packets: 0, bytes: 0 }, Update::NoExist)?;
//! for entry in flows.entries() {
//!     let (address, flow) = entry?;
//!     println!("{address:?}: {flow:?}");
//! }
//! # Ok::<(), bpfplan_loader::maps::MapError>(())
//! ```

mod array;
mod batch;
mod builder;
mod data;
mod descriptor_arrays;
pub(crate) mod elements;
mod entries;
mod error;
#[cfg(test)]
mod fake;
mod handle;
mod hash;
pub(crate) mod info;
mod insert_all;
mod keys;
mod local_storage;
mod of_maps;
mod outer;
mod per_cpu;
mod prog_array;
mod queue;
mod raw;
mod redirect;
mod ring_buffer;
mod slots;
mod stack_trace;
mod template;
mod typed;
mod user_ring_buffer;

pub use array::Array;
pub use builder::InnerBuilder;
pub use data::MapData;
pub use descriptor_arrays::{CgroupArray, PerfEventArray, ReuseportSockArray, SockMap, XskMap};
pub use entries::{Entries, PerCpuEntries};
pub use error::MapError;
pub use handle::MapHandle;
pub use hash::{Hash, LpmTrie};
pub use info::Info;
pub use keys::Keys;
pub use local_storage::LocalStorage;
pub use of_maps::{ArrayOfMaps, HashOfMaps};
pub use outer::{OuterMap, key_text};
pub use per_cpu::{PerCpuArray, PerCpuHash};
pub use prog_array::ProgArray;
pub use queue::{BloomFilter, Queue, Stack};
pub use raw::{RawMap, Update};
pub use redirect::{CpuMap, DevMap, DevMapHash, Redirect, SockHash};
pub use ring_buffer::RingBuf;
pub use stack_trace::StackTrace;
pub use template::InnerTemplate;
pub use user_ring_buffer::UserRingBuf;
