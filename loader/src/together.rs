//! Creating large maps on all CPUs.
//!
//! The kernel fills preallocated maps before it gives them out: that takes milliseconds a map, and
//! other CPUs can do it at the same time. So the large maps are created first, on several threads.
//! Their results are kept, failures as well, and taken when the turn of their step comes: what is
//! reported, which failure counts and what is tried instead of what was refused is as if they had
//! been created then.
//!
//! Where slots wait for a grace period and no programs load meanwhile, the large maps are created
//! last instead, while the slots are filled: unless they are for these slots.
//!
//! Measured on Linux 6.18 with two CPUs: eight hash maps of 65536 entries take 16 ms instead of 30.
//! Arrays gain nothing, so they are left to their turn. Per-CPU maps, LRU or not, wait for each other,
//! as the kernel allocates memory per CPU under one lock: on two threads, eight of 1024 entries take
//! at least 1.2 times as long as on one, and four of 10240 about as long. So one thread creates all of
//! these, beside the others. `cargo bench -p bpfplan-bench --bench creates` measures this, and
//! `--bench overlap` what is created or loaded while slots wait.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use bpfplan_plan::rules::{Target, memory};
use bpfplan_plan::{Diagnostic, Map, MaxEntries, SlotTarget, Step, uapi};

use crate::create::kernel_name;
use crate::execute::Load;
use crate::kernel::{Errno, Kernel};
use crate::progress::Progress;
use crate::slots::queue::small_thread;

/// What the kernel takes for 1024 bytes of hash elements, in nanoseconds.
const KIB: u64 = 450;

/// What it takes for the memory per CPU of one element, in nanoseconds.
const PER_CPU: u64 = 300;

/// Bytes that the kernel needs for an element besides key and value, at most.
const OVERHEAD: u64 = 128;

/// Maps that cost less, in nanoseconds, are created in their turn.
const LARGE: u64 = 100_000;

/// How much other threads have to take off this one, in nanoseconds: many times what a thread
/// costs.
const WORTH: u64 = 300_000;

/// How much there has to be before slots are filled meanwhile, in nanoseconds: a grace period ends at
/// a tick of the clock, and less than a tick is not noticed.
const WORTH_A_TICK: u64 = 4_000_000;

/// Threads at most: memory is what they wait for.
const THREADS: usize = 8;

/// What became of maps that were created before their turn, by their index in the plan.
pub(crate) type Early<F> = HashMap<usize, Result<F, Errno>>;

/// About how long the kernel takes to create the map, in nanoseconds; 0 for what is quick whatever
/// its size.
fn cost(map: &Map) -> u64 {
    let MaxEntries::Count(entries) = map.max_entries else {
        return 0;
    };
    let hash = is_hash(map);
    let per_cpu = is_per_cpu(map);
    if !hash && !per_cpu {
        return 0;
    }
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

fn is_hash(map: &Map) -> bool {
    matches!(
        map.map_type.0,
        uapi::BPF_MAP_TYPE_HASH
            | uapi::BPF_MAP_TYPE_LRU_HASH
            | uapi::BPF_MAP_TYPE_PERCPU_HASH
            | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH
    )
}

fn is_per_cpu(map: &Map) -> bool {
    matches!(
        map.map_type.0,
        uapi::BPF_MAP_TYPE_PERCPU_ARRAY
            | uapi::BPF_MAP_TYPE_PERCPU_HASH
            | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH
    )
}

/// What a thread creates in one go: about how long that takes, in nanoseconds, and the maps.
type Piece = (u64, Vec<usize>);

/// The large maps, the most expensive first: each by itself, and all per-CPU maps one after
/// another.
fn pieces<'a>(maps: impl Iterator<Item = (usize, &'a Map)>) -> Vec<Piece> {
    let (mut pieces, mut per_cpu) = (Vec::new(), (0_u64, Vec::new()));
    for (index, map) in maps {
        let cost = cost(map);
        if cost < LARGE {
            continue;
        }
        if is_per_cpu(map) {
            per_cpu.0 = per_cpu.0.saturating_add(cost);
            per_cpu.1.push(index);
        } else {
            pieces.push((cost, vec![index]));
        }
    }
    if !per_cpu.1.is_empty() {
        pieces.push(per_cpu);
    }
    pieces.sort_unstable_by(|one, other| other.cmp(one));
    pieces
}

/// How long it takes to create all but the first `own` pieces, in nanoseconds.
fn taken_off(pieces: &[Piece], own: usize) -> u64 {
    let others = pieces.iter().skip(own);
    others.fold(0, |sum, (cost, _)| sum.saturating_add(*cost))
}

/// When large maps are created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Large {
    /// Before all others, in pieces for threads to take; there may be none.
    First(Vec<Vec<usize>>),
    /// After all others, while the slots of outer maps are filled.
    WhileFilling(Vec<Vec<usize>>),
}

impl Large {
    /// The maps that are created after all others.
    pub(crate) fn last(&self) -> impl Iterator<Item = usize> {
        let pieces = match self {
            Self::First(_) => &[][..],
            Self::WhileFilling(pieces) => pieces,
        };
        pieces.iter().flatten().copied()
    }
}

impl<K: Kernel> Load<'_, K> {
    /// The large ones of the maps that these steps create, if that gains from other threads.
    pub(crate) fn large(&self, steps: &[Step]) -> Large {
        let plan = self.plan;
        let maps = steps.iter().filter_map(|step| match *step {
            Step::CreateMap { map } if self.comes_from_plan(map) => {
                Some((map, plan.maps.get(map)?))
            }
            _ => None,
        });
        let pieces = pieces(maps);
        if pieces.is_empty() || self.kernel.cpus() < 2 {
            return Large::First(Vec::new());
        }
        // Where there are programs, slots are filled while these load.
        let waits = self.kernel.overlaps() && self.options.programs.to_load().is_none();
        let while_filling =
            waits && taken_off(&pieces, 0) >= WORTH_A_TICK && self.fills_without(steps, &pieces);
        // Otherwise this thread creates one of them itself.
        let first = taken_off(&pieces, 1) >= WORTH;
        let maps = pieces.into_iter().map(|(_, maps)| maps);
        match (while_filling, first) {
            (true, _) => Large::WhileFilling(maps.collect()),
            (false, true) => Large::First(maps.collect()),
            (false, false) => Large::First(Vec::new()),
        }
    }

    /// Whether there are slots to be filled, and none for one of these maps.
    fn fills_without(&self, steps: &[Step], pieces: &[Piece]) -> bool {
        let maps = &self.plan.maps;
        let later = pieces.iter().flat_map(|(_, maps)| maps);
        let later = later.filter_map(|index| maps.get(*index));
        let later: HashSet<&str> = later.map(|map| map.name.as_str()).collect();
        let outers = steps.iter().filter_map(|step| match *step {
            Step::FillSlots { map } if self.comes_from_plan(map) => maps.get(map),
            _ => None,
        });
        let mut slots = outers.flat_map(|outer| &outer.slots).peekable();
        slots.peek().is_some()
            && slots.all(|slot| match &slot.target {
                SlotTarget::Map(name) => !later.contains(name.as_str()),
                SlotTarget::Program(_) => true,
            })
    }

    /// Creates large maps at the same time, while this thread fills the slots of these outer maps.
    /// A failure of the slots ends it; one of a map counts when its turn comes, which is later.
    pub(crate) fn create_large(
        &mut self,
        large: &[Vec<usize>],
        outers: &[usize],
    ) -> Result<(), Diagnostic> {
        if large.is_empty() {
            return self.fill_slots(outers);
        }
        let others = if outers.is_empty() {
            large.len()
        } else {
            large.len().saturating_add(1)
        };
        let threads = others.min(self.kernel.cpus()).min(THREADS);
        if threads < 2 {
            return self.fill_slots(outers);
        }
        self.tell(Progress::Together {
            maps: large.iter().map(Vec::len).sum(),
            threads,
        })?;
        let plan = self.plan;
        let btf = self.btf.take();
        let done = Mutex::new(Early::new());
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let (kernel, version) = (self.kernel, self.version());
        let create_one = || {
            let piece = large.get(next.fetch_add(1, Ordering::Relaxed));
            for index in piece.into_iter().flatten() {
                let Some(map) = plan
                    .maps
                    .get(*index)
                    .filter(|_| !stop.load(Ordering::Relaxed))
                else {
                    break;
                };
                let MaxEntries::Count(entries) = map.max_entries else {
                    continue;
                };
                let name = kernel_name(map, version);
                let attributes = Self::attributes(map, &name, entries, None, btf.as_ref());
                let result = kernel.create_map(&attributes);
                if result.is_err() {
                    // The load may well end there; if not, the others are created in their turn.
                    stop.store(true, Ordering::Relaxed);
                }
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.insert(*index, result);
            }
            piece.is_some()
        };
        let own = thread::scope(|scope| {
            for _ in 1..threads {
                // Where no thread can be had, those that there are do the work.
                let other = small_thread().spawn_scoped(scope, || while create_one() {});
                if other.is_err() {
                    break;
                }
            }
            let mut own = self.fill_slots(outers);
            while own.is_ok() && create_one() {
                own = self.tell(Progress::GoOn);
            }
            if own.is_err() {
                stop.store(true, Ordering::Relaxed);
                next.store(large.len(), Ordering::Relaxed);
            }
            own
        });
        self.btf = btf;
        self.early = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        own
    }

    /// The result of creating a map, if it was created before its turn.
    pub(crate) fn created_early(&mut self, index: usize) -> Option<Result<K::Fd, Errno>> {
        // Mostly there are none, and asking a hash table takes longer than that.
        if self.early.is_empty() {
            return None;
        }
        self.early.remove(&index)
    }
}

#[cfg(test)]
mod tests {
    use bpfplan_plan::MapType;

    use super::*;

    fn map(map_type: u32, entries: u32) -> Map {
        Map::new("map", MapType(map_type), 4, 8, MaxEntries::Count(entries))
    }

    fn together(maps: &[Map]) -> Vec<Vec<usize>> {
        let pieces = pieces(maps.iter().enumerate());
        pieces.into_iter().map(|(_, maps)| maps).collect()
    }

    #[test]
    fn large_maps_are_created_first_and_per_cpu_maps_by_one() {
        let maps = [
            map(uapi::BPF_MAP_TYPE_HASH, 16),
            map(uapi::BPF_MAP_TYPE_PERCPU_ARRAY, 4096),
            map(uapi::BPF_MAP_TYPE_HASH, 32_768),
            map(uapi::BPF_MAP_TYPE_LRU_HASH, 65_536),
            map(uapi::BPF_MAP_TYPE_PERCPU_HASH, 1024),
            map(uapi::BPF_MAP_TYPE_RINGBUF, 1 << 20),
        ];
        assert_eq!(together(&maps), [vec![3], vec![1, 4], vec![2]]);
    }

    #[test]
    fn what_gains_nothing_is_left_to_its_turn() {
        let none: [Vec<usize>; 0] = [];
        let small: Vec<Map> = (0..500).map(|_| map(uapi::BPF_MAP_TYPE_HASH, 64)).collect();
        assert_eq!(together(&small), none);
        let growing = || Map {
            map_flags: uapi::BPF_F_NO_PREALLOC,
            ..map(uapi::BPF_MAP_TYPE_HASH, 1 << 20)
        };
        assert_eq!(together(&[growing(), growing()]), none);
        let worth = |maps: &[Map], own| taken_off(&pieces(maps.iter().enumerate()), own);
        let one = [map(uapi::BPF_MAP_TYPE_HASH, 1 << 20)];
        assert_eq!(worth(&one, 1), 0);
        assert!(worth(&one, 0) > WORTH_A_TICK, "this thread may wait");
        let per_cpu = || map(uapi::BPF_MAP_TYPE_PERCPU_ARRAY, 65_536);
        assert_eq!(worth(&[per_cpu(), per_cpu()], 1), 0);
    }
}
