//! Shows every program that is started. `execsnoop EVENTS` ends after so many.

#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use bpfplan_loader::LoadOptions;
use bpfplan_loader::libbpf_rs::reuse_maps;
use bpfplan_loader::maps::RingBuf;
use bpfplan_loader::zerocopy::FromBytes;
use libbpf_rs::{Link, ObjectBuilder};

mod execsnoop {
    include!(concat!(env!("OUT_DIR"), "/execsnoop.rs"));
}
use execsnoop::{Execsnoop, ExecsnoopMaps};

/// `struct event` of `execsnoop.h`.
#[derive(FromBytes)]
#[zerocopy(crate = "bpfplan_loader::zerocopy")]
#[repr(C)]
struct Event {
    cpu: u32,
    pid: u32,
    command: [u8; 16],
}

fn main() -> Result<()> {
    let wanted = std::env::args().nth(1).map(|events| events.parse());
    let wanted: u64 = wanted.transpose()?.unwrap_or(u64::MAX);
    let cpus = u32::try_from(libbpf_rs::num_possible_cpus()?)?;

    let mut open = Execsnoop::open()?;
    open.maps.rings.set_max_entries(cpus.max(2));
    let maps = open.load(&LoadOptions::default())?.maps;
    let mut rings = rings(&maps)?;
    let _links = attach(&maps)?;

    println!("CPU      PID  COMMAND  ({} rings)", rings.len());
    let mut shown = 0;
    while shown < wanted {
        RingBuf::wait_any(&rings, None)?;
        for ring in &mut rings {
            while let Some(bytes) = ring.next()? {
                let event = Event::read_from_bytes(bytes).ok();
                let event = event.context("an event of another size")?;
                let command = String::from_utf8_lossy(&event.command);
                let command = command.trim_end_matches('\0');
                println!("{:3}  {:7}  {command}", event.cpu, event.pid);
                shown += 1;
            }
        }
    }
    println!("{shown} shown, {} lost", maps.bss.get()?.lost);
    Ok(())
}

/// The ring of every CPU; those that the source does not have are made here.
fn rings(maps: &ExecsnoopMaps) -> Result<Vec<RingBuf>> {
    let template = maps.rings.template()?;
    let mut rings = Vec::new();
    for cpu in 0..maps.rings.len() {
        rings.push(match maps.rings.get(&cpu)? {
            Some(declared) => declared,
            None => template.create()?,
        });
    }
    let slots: Vec<_> = (0..).zip(&rings).collect();
    maps.rings.insert_all(&slots)?;
    Ok(rings)
}

/// Lets libbpf load the program over these maps; it is attached until the links are dropped.
fn attach(maps: &ExecsnoopMaps) -> Result<Vec<Link>> {
    const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/execsnoop.bpf.o"));

    let mut open = ObjectBuilder::default().open_memory(OBJECT)?;
    reuse_maps(&mut open, maps.all())?;
    let object = open.load()?;
    let links = object.progs_mut().map(|program| program.attach());
    Ok(links.collect::<Result<_, _>>()?)
}
