//! How soon slots can be read: a load returns after a grace period, but what it wrote is there at once.

use std::fs;
use std::hint;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bpfplan_bench::clock::Series;
use bpfplan_bench::ours;
use bpfplan_loader::maps::{ArrayOfMaps, MapHandle as _, RawMap};
use bpfplan_loader::{LoadOptions, Progress, RealKernel, load_with};
use bpfplan_plan::{Map, Plan, Slot, SlotTarget};

type Outer = ArrayOfMaps<RawMap>;

const ROUNDS: usize = 15;

/// The kernel frees maps later, and its work for that would be in the next load's way.
const NAP: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("obj/slots-64.bpf.o");
    let plan = ours::open(&fs::read(path).context("slots-64 is missing")?)?;
    if let Err(why) = ours::execute(&plan) {
        println!("skipped: {why}");
        return Ok(());
    }
    println!("from the first moment at which all maps exist until");
    for slots in [64, 512, 4096] {
        let plan = with_slots(&plan, slots)?;
        let (mut readable, mut returned) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let times = times(&plan, slots - 1)?;
            readable.push(times.readable);
            returned.push(times.returned);
            thread::sleep(NAP);
        }
        let millis = |times: Vec<Duration>| {
            let times: Series = times.into_iter().collect();
            times.median().unwrap_or_default().as_secs_f64() * 1e3
        };
        println!(
            "{slots:5} slots  the last can be read {:.2} ms  the load returns {:.2} ms",
            millis(readable),
            millis(returned)
        );
    }
    Ok(())
}

/// The plan with another number of slots, each for a map of its own.
fn with_slots(plan: &Plan, slots: u32) -> Result<Plan> {
    let outer = plan.maps.iter().find(|map| map.is_outer());
    let inner = plan.maps.iter().find(|map| !map.is_outer());
    let (outer, inner) = outer.zip(inner).context("there is no map of maps")?;
    let name = |index| format!("inner_{index}");
    let inners = (0..slots).map(|index| Map {
        name: name(index),
        ..inner.clone()
    });
    let outer = Map {
        max_entries: bpfplan_plan::MaxEntries::Count(slots),
        slots: (0..slots)
            .map(|index| Slot {
                index,
                target: SlotTarget::Map(name(index)),
            })
            .collect(),
        ..outer.clone()
    };
    Ok(Plan {
        maps: inners.chain([outer]).collect(),
        ..plan.clone()
    })
}

struct Times {
    readable: Duration,
    returned: Duration,
}

/// Loads the plan, while a thread reads its slot `last` over and over.
fn times(plan: &Plan, last: u32) -> Result<Times> {
    let options = LoadOptions {
        hold: true,
        raise_nofile: true,
        ..LoadOptions::default()
    };
    let (send, receive) = mpsc::channel::<Outer>();
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let outer = receive.recv().context("the slots were not filled")?;
            while outer.id_at(&last)?.is_none() {
                hint::spin_loop();
            }
            Ok::<_, anyhow::Error>(Instant::now())
        });
        let (mut start, mut send) = (None, Some(send));
        let mut say = |progress: Progress<'_>| {
            if let Progress::Fill(_) = progress
                && let Some(send) = send.take()
            {
                let sent = outer_map().and_then(|outer| Ok(send.send(outer)?));
                start = Some(sent.map(|()| Instant::now()));
            }
            ControlFlow::Continue(())
        };
        let loaded = load_with(plan, &RealKernel::new(), &options, &mut say);
        let returned = Instant::now();
        drop(send);
        let loaded = loaded.map_err(|error| anyhow!("{error}"))?;
        let start = start.context("nobody said that slots are filled")??;
        let readable = reader
            .join()
            .map_err(|_| anyhow!("the reader panicked"))??;
        drop(loaded);
        Ok(Times {
            readable: readable.duration_since(start),
            returned: returned.duration_since(start),
        })
    })
}

/// The only map of maps of this process, which the load shows nobody yet.
fn outer_map() -> Result<Outer> {
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue; // The directory itself, which is open while it is read.
        };
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.and_then(|value| value.trim().parse::<u32>().ok())
        };
        if field("map_type:") == Some(bpfplan_plan::uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS) {
            let id = field("map_id:").context("the map has no id")?;
            return Ok(Outer::from_id(id)?);
        }
    }
    Err(anyhow!("no map of maps is open"))
}
