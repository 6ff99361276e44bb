//! Creating expensive maps on one thread and on two: which kinds gain from it, alone and mixed.
//!
//! The numbers behind milliseconds say how many times faster than the first way it is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};
use bpfplan_bench::rounds::{Way, compare, time};
use bpfplan_loader::kernel::MapAttributes;
use bpfplan_loader::{Descriptor, Kernel as _, RealKernel};
use bpfplan_plan::{MapType, uapi};

const ROUNDS: usize = 15;

/// Kind and number of entries.
type Wanted = (u32, u32);

const ARRAY: u32 = uapi::BPF_MAP_TYPE_ARRAY;
const HASH: u32 = uapi::BPF_MAP_TYPE_HASH;
const LRU: u32 = uapi::BPF_MAP_TYPE_LRU_HASH;
const PER_CPU: u32 = uapi::BPF_MAP_TYPE_PERCPU_HASH;
const LRU_PER_CPU: u32 = uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH;
const PER_CPU_ARRAY: u32 = uapi::BPF_MAP_TYPE_PERCPU_ARRAY;

fn main() -> Result<()> {
    if let Err(why) = create((HASH, 1)) {
        println!("skipped: {why}");
        return Ok(());
    }
    println!("one kind alone");
    for (name, kind, entries, count) in [
        ("hash", HASH, 65_536, 8),
        ("LRU hash", LRU, 65_536, 8),
        ("per-CPU hash", PER_CPU, 1024, 8),
        ("per-CPU hash", PER_CPU, 10_240, 4),
        ("LRU per-CPU hash", LRU_PER_CPU, 1024, 8),
        ("LRU per-CPU hash", LRU_PER_CPU, 10_240, 4),
        ("per-CPU array", PER_CPU_ARRAY, 1024, 8),
        ("per-CPU array", PER_CPU_ARRAY, 10_240, 4),
    ] {
        let each = each(kind, entries, count);
        on_one_and_two(&format!("{count} of {name}, {entries}"), &each)?;
    }
    println!("\nsmall maps, in pieces of 32");
    for (name, kind, entries, pieces) in [
        ("array", ARRAY, 1, 4),
        ("array", ARRAY, 1, 16),
        ("array", ARRAY, 1, 128),
        ("hash", HASH, 16, 16),
        ("hash", HASH, 256, 16),
    ] {
        let each = vec![vec![(kind, entries); 32]; pieces];
        on_one_and_two(&format!("{} of {name}, {entries}", 32 * pieces), &each)?;
    }
    println!("\nper-CPU maps beside others, on two threads but for the first");
    for (name, plain, per_cpu) in [
        (
            "hash 65536, per-CPU hash 1024",
            (HASH, 65_536),
            (PER_CPU, 1024),
        ),
        (
            "hash 65536, per-CPU hash 10240",
            (HASH, 65_536),
            (PER_CPU, 10_240),
        ),
        (
            "hash 16384, LRU per-CPU hash 1024",
            (HASH, 16_384),
            (LRU_PER_CPU, 1024),
        ),
        (
            "LRU hash 65536, per-CPU array 4096",
            (LRU, 65_536),
            (PER_CPU_ARRAY, 4096),
        ),
    ] {
        let [plain, per_cpu] = [plain, per_cpu].map(|(kind, entries)| each(kind, entries, 4));
        let in_turn = [plain.concat().as_slice(), &per_cpu.concat()].concat();
        let by_one = [plain.as_slice(), &[per_cpu.concat()]].concat();
        let by_one_first = [&[per_cpu.concat()], plain.as_slice()].concat();
        let pairs = plain.iter().zip(&per_cpu);
        let by_all: Vec<Vec<Wanted>> = pairs
            .flat_map(|(plain, per_cpu)| [plain.clone(), per_cpu.clone()])
            .collect();
        let ways: [Way<'_>; 4] = [
            ("in turn", &|| on_threads(1, std::slice::from_ref(&in_turn))),
            ("per-CPU by one, last", &|| on_threads(2, &by_one)),
            ("first", &|| on_threads(2, &by_one_first)),
            ("by both", &|| on_threads(2, &by_all)),
        ];
        compare(&format!("4 of {name}"), ROUNDS, &ways)?;
    }
    Ok(())
}

fn on_one_and_two(what: &str, pieces: &[Vec<Wanted>]) -> Result<()> {
    let ways: [Way<'_>; 2] = [
        ("one thread", &|| on_threads(1, pieces)),
        ("two", &|| on_threads(2, pieces)),
    ];
    compare(what, ROUNDS, &ways)
}

fn each(kind: u32, entries: u32, count: usize) -> Vec<Vec<Wanted>> {
    vec![vec![(kind, entries)]; count]
}

fn create((kind, entries): Wanted) -> Result<Descriptor> {
    let attributes = MapAttributes::new("bench", MapType(kind), 4, 8, entries);
    RealKernel::new()
        .create_map(&attributes)
        .context("creating a map")
}

/// Creates the maps of all pieces, which threads take from the front.
fn on_threads(threads: usize, pieces: &[Vec<Wanted>]) -> Result<std::time::Duration> {
    let made = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let take_all = || {
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let maps: Vec<_> = piece.iter().map(|wanted| create(*wanted)).collect();
            made.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(maps);
        }
    };
    let time = time(|| {
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(take_all);
            }
            take_all();
        });
        Ok(())
    })?;
    let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    match made.into_iter().find_map(Result::err) {
        Some(why) => bail!(why),
        None => Ok(time),
    }
}
