//! Creating large maps on all CPUs.
//!
//! The kernel fills preallocated maps with zeros, and per-CPU maps element by element, before it
//! gives them out: that takes milliseconds a map, and other CPUs can do it at the same time. So
//! the large maps are created first, on several threads. Their results are kept, failures as well,
//! and taken when the turn of their step comes: what is reported, which failure counts and what
//! is tried instead of what was refused is as if they had been created then.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bpfplan_plan::rules::{Target, memory};
use bpfplan_plan::{Diagnostic, Map, MaxEntries, Step, uapi};

use crate::execute::{Load, Progress};
use crate::kernel::{Errno, Kernel, MapAttributes};
use crate::slots::queue::small_thread;

/// What the kernel does with a byte of memory that it fills, in nanoseconds for 1024 of them.
const KIB: u64 = 500;

/// What it takes for the memory per CPU of one element, in nanoseconds.
const PER_CPU: u64 = 1000;

/// Bytes that the kernel needs for an element besides key and value, at most.
const OVERHEAD: u64 = 128;

/// Maps that cost less, in nanoseconds, are created in their turn.
const LARGE: u64 = 100_000;

/// How much other threads have to take off this one, in nanoseconds: many times what a thread
/// costs.
const WORTH: u64 = 300_000;

/// Threads at most: memory is what they wait for.
const THREADS: usize = 8;

/// A map that is created before its turn.
#[derive(Debug)]
pub(crate) struct Early<F> {
    /// Index in the plan.
    map: usize,
    result: Result<F, Errno>,
}

/// About how long the kernel takes to create the map, in nanoseconds; 0 for what is quick whatever
/// its size.
fn cost(map: &Map) -> u64 {
    let MaxEntries::Count(entries) = map.max_entries else {
        return 0;
    };
    let (per_cpu, hash) = match map.map_type.0 {
        uapi::BPF_MAP_TYPE_ARRAY => (false, false),
        uapi::BPF_MAP_TYPE_PERCPU_ARRAY => (true, false),
        uapi::BPF_MAP_TYPE_HASH | uapi::BPF_MAP_TYPE_LRU_HASH => (false, true),
        uapi::BPF_MAP_TYPE_PERCPU_HASH | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH => (true, true),
        _ => return 0,
    };
    if hash && map.map_flags & uapi::BPF_F_NO_PREALLOC != 0 {
        return 0;
    }
    // Most maps are small, and need no closer look.
    let element = u64::from(map.key_size) + u64::from(map.value_size) + OVERHEAD;
    let most = u64::from(entries).saturating_mul(element);
    if most < LARGE * 1024 / KIB && u64::from(entries) < LARGE / PER_CPU / 2 {
        return 0;
    }
    let one_cpu = Target {
        page_size: 4096,
        possible_cpus: 1,
    };
    let filled = memory(map, &one_cpu) / 1024 * KIB;
    let each = if per_cpu { PER_CPU } else { 0 };
    filled.saturating_add(u64::from(entries) * each)
}

/// The maps that are worth being created at the same time, the most expensive first.
fn large<'a>(maps: impl Iterator<Item = (usize, &'a Map)>) -> Vec<usize> {
    let costs = maps.map(|(index, map)| (cost(map), index));
    let mut large: Vec<(u64, usize)> = costs.filter(|(cost, _)| *cost >= LARGE).collect();
    large.sort_unstable_by(|one, other| other.cmp(one));
    let others = large.iter().skip(1);
    let taken_off = others.fold(0_u64, |sum, (cost, _)| sum.saturating_add(*cost));
    if taken_off < WORTH {
        return Vec::new();
    }
    large.into_iter().map(|(_, index)| index).collect()
}

impl<K: Kernel> Load<'_, K> {
    /// Creates the large ones of the maps that these steps create, if that gains from several
    /// threads.
    pub(crate) fn create_large(&mut self, steps: &[Step]) -> Result<(), Diagnostic> {
        let cpus = self.kernel.cpus().min(THREADS);
        if cpus < 2 {
            return Ok(());
        }
        let plan = self.plan;
        let maps = steps.iter().filter_map(|step| match *step {
            Step::CreateMap { map } if self.comes_from_plan(map) => {
                Some((map, plan.maps.get(map)?))
            }
            _ => None,
        });
        let large = large(maps);
        let threads = large.len().min(cpus);
        if threads < 2 {
            return Ok(());
        }
        self.tell(Progress::Together {
            maps: large.len(),
            threads,
        })?;
        let btf = self.btf.take();
        let names: Vec<_> = large
            .iter()
            .filter_map(|index| Some((*index, plan.maps.get(*index)?)))
            .map(|(index, map)| (index, map, self.name(map)))
            .collect();
        let wanted: Vec<(usize, MapAttributes<'_, K::Fd>)> = names
            .iter()
            .filter_map(|(index, map, name)| {
                let MaxEntries::Count(entries) = map.max_entries else {
                    return None;
                };
                let attributes = Self::attributes(map, name, entries, None, btf.as_ref());
                Some((*index, attributes))
            })
            .collect();
        let done = Mutex::new(Vec::with_capacity(wanted.len()));
        let next = AtomicUsize::new(0);
        let kernel = self.kernel;
        let create_one = || {
            let Some((map, attributes)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return false;
            };
            let result = kernel.create_map(attributes);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push(Early { map: *map, result });
            true
        };
        let told = thread::scope(|scope| {
            for _ in 1..threads {
                // Where no thread can be had, those that there are do the work.
                let other = small_thread().spawn_scoped(scope, || while create_one() {});
                if other.is_err() {
                    break;
                }
            }
            while create_one() {
                if let Err(interrupted) = self.tell(Progress::GoOn) {
                    next.store(wanted.len(), Ordering::Relaxed);
                    return Err(interrupted);
                }
            }
            Ok(())
        });
        drop(wanted);
        self.btf = btf;
        self.early = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        told
    }

    /// The result of creating a map, if it was created before its turn.
    pub(crate) fn created_early(&mut self, index: usize) -> Option<Result<K::Fd, Errno>> {
        let place = self.early.iter().position(|early| early.map == index)?;
        Some(self.early.swap_remove(place).result)
    }
}
