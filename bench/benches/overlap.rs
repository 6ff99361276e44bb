//! What is done while slots wait for a grace period: programs load, or large maps are created.
//!
//! The numbers behind milliseconds say how many times faster than the first way it is.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bpfplan_bench::libbpf;
use bpfplan_bench::ours;
use bpfplan_bench::rounds::{compare, time};
use bpfplan_loader::kernel::{MapAttributes, ProgramRequest, RequestedMap};
use bpfplan_loader::{
    Descriptor, Kernel as _, LoadOptions, Loaded, ProgramOptions, Programs, RealKernel, Recall,
    load,
};
use bpfplan_plan::{MapType, Plan, SlotTarget, uapi};

const ROUNDS: usize = 15;

/// `slots-64` with 20 programs.
const OBJECT: &str = "programs-64x20";

fn main() -> Result<()> {
    if let Err(why) = large(uapi::BPF_MAP_TYPE_HASH, 1, 1) {
        println!("skipped: {why}");
        return Ok(());
    }
    whole_loads()?;
    programs()?;
    large_maps()
}

fn object() -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("obj/{OBJECT}.bpf.o"));
    fs::read(path).with_context(|| format!("{OBJECT} is missing"))
}

/// From an object to its maps with their slots and its programs.
fn whole_loads() -> Result<()> {
    println!("object to maps, slots and programs");
    let object = object()?;
    compare(
        OBJECT,
        ROUNDS,
        &[
            ("libbpf", &|| {
                time(|| {
                    let mut opened = libbpf::Object::open(&object)?;
                    opened.load_with_programs()?;
                    Ok(opened)
                })
            }),
            ("bpfplan", &|| {
                time(|| with_programs(&ours::open(&object)?, &object))
            }),
        ],
    )
}

fn with_programs(plan: &Plan, object: &[u8]) -> Result<Loaded<RealKernel>> {
    let options = LoadOptions {
        hold: true,
        programs: Programs::Load(ProgramOptions {
            object: object.to_vec(),
            pin: None,
        }),
        ..LoadOptions::default()
    };
    load(plan, &RealKernel::new(), &options).map_err(|error| anyhow!("{error}"))
}

/// Which thread does what.
#[derive(Clone, Copy)]
enum Way {
    InTurn,
    OthersOnThread,
    SlotsOnThread,
}

impl Way {
    /// Does both; what they gave is dropped after the clock has stopped.
    fn time<T: Send>(
        self,
        slots: impl FnOnce() -> Result<()> + Send,
        others: impl FnOnce() -> Result<T> + Send,
    ) -> Result<Duration> {
        time(|| match self {
            Self::InTurn => {
                let others = others()?;
                slots()?;
                Ok(others)
            }
            Self::OthersOnThread => thread::scope(|scope| {
                let others = scope.spawn(others);
                slots()?;
                joined(others)
            }),
            Self::SlotsOnThread => thread::scope(|scope| {
                let slots = scope.spawn(slots);
                let others = others()?;
                joined(slots)?;
                Ok(others)
            }),
        })
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

/// Slots and programs of maps that are there.
fn programs() -> Result<()> {
    println!("\nslots and programs, once the maps are there");
    let object = object()?;
    let plan = ours::open(&object)?;
    let both = |way: Way| {
        let made = ours::execute(&without_slots(&plan))?;
        let requested = plan.maps.iter().zip(&made.maps);
        let requested = requested.map(|(map, made)| RequestedMap {
            map,
            fd: Some(&made.fd),
            contents: None,
        });
        let requested: Vec<_> = requested.collect();
        let request = ProgramRequest {
            object: &object,
            name: &plan.object.name,
            kconfig: None,
            maps: &requested,
            programs: &plan.programs,
        };
        let load = || {
            let answer = RealKernel::new().load_programs(&request);
            answer.map_err(|failure| anyhow!("{failure:?}"))
        };
        way.time(|| fill(&plan, &made), load)
    };
    compare(
        OBJECT,
        ROUNDS,
        &[
            ("in turn", &|| both(Way::InTurn)),
            ("programs on a thread", &|| both(Way::OthersOnThread)),
            ("slots on a thread", &|| both(Way::SlotsOnThread)),
        ],
    )
}

/// Slots of maps that are there, and large maps that nobody has created yet.
fn large_maps() -> Result<()> {
    println!("\nslots and large maps, once the others are there");
    let plan = ours::open(&object()?)?;
    let hash = uapi::BPF_MAP_TYPE_HASH;
    let per_cpu = uapi::BPF_MAP_TYPE_PERCPU_HASH;
    for (name, kind, entries, count) in [
        ("hash of 65536", hash, 65_536, 1),
        ("hash of 262144", hash, 262_144, 1),
        ("hashes of 65536", hash, 65_536, 8),
        ("per-CPU hashes of 10240", per_cpu, 10_240, 4),
    ] {
        let both = |way: Way| {
            let made = ours::execute(&without_slots(&plan))?;
            way.time(|| fill(&plan, &made), || large(kind, entries, count))
        };
        compare(
            &format!("{count} {name}"),
            ROUNDS,
            &[
                ("in turn", &|| both(Way::InTurn)),
                ("maps on a thread", &|| both(Way::OthersOnThread)),
                ("slots on a thread", &|| both(Way::SlotsOnThread)),
            ],
        )?;
    }
    Ok(())
}

fn without_slots(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for map in &mut plan.maps {
        map.slots.clear();
    }
    plan
}

/// Fills the slots of the only outer map, in one batch.
fn fill(plan: &Plan, made: &Loaded<RealKernel>) -> Result<()> {
    let outer = plan.maps.iter().find(|map| !map.slots.is_empty());
    let outer = outer.context("no map has slots")?;
    let fd = |name: &str| Some(&made.map(name)?.fd);
    let slots = outer.slots.iter().filter_map(|slot| match &slot.target {
        SlotTarget::Map(name) => Some((slot.index, fd(name)?)),
        SlotTarget::Program(_) => None,
    });
    let slots: Vec<_> = slots.collect();
    let outer = fd(&outer.name).context("the outer map is missing")?;
    RealKernel::new()
        .update_batch(outer, &slots, &Recall::default())
        .map_err(|error| anyhow!("{error:?}"))
}

fn large(kind: u32, entries: u32, count: usize) -> Result<Vec<Descriptor>> {
    let attributes = MapAttributes::new("bench", MapType(kind), 4, 8, entries);
    let maps = (0..count).map(|_| RealKernel::new().create_map(&attributes));
    Ok(maps.collect::<Result<_, _>>()?)
}
