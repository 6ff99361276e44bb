//! Replaces tables of backends, while a program and this process look things up in them.
//!
//! A new table is built off to the side and put in place in one step, so whoever looks finds the
//! old one or the new one, and all of it. With `--in-place` the tables are written to instead,
//! which shows that the readers would notice.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use bpfplan_loader::LoadOptions;
use bpfplan_loader::libbpf_rs::reuse_maps;
use bpfplan_loader::maps::{Hash, Update};
use libbpf_rs::{Object, ObjectBuilder, ProgramInput};

mod blue_green {
    include!(concat!(env!("OUT_DIR"), "/blue_green.rs"));
}
use blue_green::types::{backend, counts};
use blue_green::{BlueGreen, BlueGreenMaps};

const SERVICES: u32 = 64;
const BACKENDS: u32 = 16;
const SWAPS: u32 = 10_000;

type Table = Hash<u32, backend>;

fn main() -> Result<()> {
    let in_place = std::env::args().any(|argument| argument == "--in-place");
    let mut open = BlueGreen::open()?;
    open.maps.tables.set_max_entries(SERVICES);
    open.rodata.services = SERVICES;
    let maps = open.load(&LoadOptions::default())?.maps;
    swap_all(&maps, 0)?;
    let object = load_program(&maps)?;

    let stop = AtomicBool::new(false);
    let (written, program, process) = thread::scope(|scope| {
        let program = scope.spawn(|| run_program(&object, &maps, &stop));
        let process = scope.spawn(|| look_up(&maps, &stop));
        let written = if in_place {
            write_in_place(&maps)
        } else {
            (1..=SWAPS / SERVICES + 1).try_for_each(|version| swap_all(&maps, version))
        };
        stop.store(true, Ordering::Relaxed);
        (written, program.join(), process.join())
    });
    written?;
    let how = if in_place { "written to" } else { "swapped" };
    println!("{} tables {how}", (SWAPS / SERVICES + 1) * SERVICES);
    for (who, seen) in [("program", program), ("process", process)] {
        let counts {
            lookups,
            missing,
            torn,
        } = seen.expect("readers do not panic")?;
        println!("{who}: {lookups} lookups, {missing} missing, {torn} torn");
    }
    Ok(())
}

/// All backends of a table.
fn backends(service: u32, version: u32) -> Vec<(u32, backend)> {
    let address = |number| 0x0a00_0000 + service * BACKENDS + number;
    (0..BACKENDS)
        .map(|number| {
            let address = address(number);
            (number, backend { address, version })
        })
        .collect()
}

/// Builds new tables for all services, and puts them in the place of the old ones: first that of
/// one service alone, then those of the others, which share one grace period of the kernel.
fn swap_all(maps: &BlueGreenMaps, version: u32) -> Result<()> {
    let template = maps.tables.template()?;
    let mut tables = Vec::new();
    for service in 0..SERVICES {
        let table: Table = template.create()?;
        table.update_all(&backends(service, version))?;
        tables.push(table);
    }
    let mut slots: Vec<_> = (0..SERVICES).zip(&tables).collect();
    let (canary, table) = slots.swap_remove((version % SERVICES) as usize);
    let old = maps.tables.swap(&canary, table)?;
    if let Some(old) = old {
        let backend = old.lookup(&0)?.context("an empty table")?;
        ensure!(backend.version == version - 1, "that was no old table");
    }
    Ok(maps.tables.insert_all(&slots)?)
}

/// Writes as many tables without a swap.
fn write_in_place(maps: &BlueGreenMaps) -> Result<()> {
    for version in 1..=SWAPS / SERVICES + 1 {
        for service in 0..SERVICES {
            let table = maps.tables.get(&service)?.context("no table")?;
            for (number, backend) in backends(service, version) {
                table.update(&number, &backend, Update::Any)?;
            }
        }
    }
    Ok(())
}

/// Lets libbpf load the program over these maps.
fn load_program(maps: &BlueGreenMaps) -> Result<Object> {
    const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/blue_green.bpf.o"));

    let mut open = ObjectBuilder::default().open_memory(OBJECT)?;
    reuse_maps(&mut open, maps.all())?;
    Ok(open.load()?)
}

/// Runs the program again and again, and adds up what it has counted on all CPUs.
fn run_program(object: &Object, maps: &BlueGreenMaps, stop: &AtomicBool) -> Result<counts> {
    let program = object.progs_mut().next().context("no program")?;
    let packet = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        program.test_run(ProgramInput {
            data_in: Some(&packet),
            repeat: 1000,
            ..ProgramInput::default()
        })?;
    }
    let mut sum = counts::default();
    for cpu in maps.totals.get(0)?.unwrap_or_default() {
        sum.lookups += cpu.lookups;
        sum.missing += cpu.missing;
        sum.torn += cpu.torn;
    }
    Ok(sum)
}

/// Does from here what the program does.
fn look_up(maps: &BlueGreenMaps, stop: &AtomicBool) -> Result<counts> {
    let mut seen = counts::default();
    for service in (0..SERVICES).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        seen.lookups += 1;
        let Some(table) = maps.tables.get(&service)? else {
            seen.missing += 1;
            continue;
        };
        let mut versions = Vec::new();
        for number in 0..BACKENDS {
            match table.lookup(&number)? {
                Some(backend) => versions.push(backend.version),
                None => seen.missing += 1,
            }
        }
        versions.dedup();
        seen.torn += u64::from(versions.len() > 1);
    }
    Ok(seen)
}
