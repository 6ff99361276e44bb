//! Creates the maps of `flow.bpf.c`, and reads and writes them.

#![forbid(unsafe_code)]

use std::error::Error;

use bpfplan_loader::LoadOptions;
use bpfplan_loader::maps::{MapHandle, Update};

mod flow {
    include!(concat!(env!("OUT_DIR"), "/flow.rs"));
}
use flow::Flow;
use flow::types::{counters, flow as Key};

fn main() -> Result<(), Box<dyn Error>> {
    let mut open = Flow::open()?;
    open.maps.flows.set_max_entries(4096);
    open.rodata.sample_rate = 10;
    open.rodata.device[..4].copy_from_slice(b"eth0");
    let flow = open.load(&LoadOptions::default())?;

    let key = Key {
        source: 1,
        port: 53,
        protocol: 17,
        ..Key::default()
    };
    let value = counters {
        packets: 1,
        bytes: 100,
    };
    flow.maps.flows.update(&key, &value, Update::NoExist)?;
    let found = flow.maps.flows.lookup(&key)?;
    println!("{found:?} of {}", flow.maps.flows.info().max_entries);

    println!("one packet in {}", flow.maps.rodata.get()?.sample_rate);
    Ok(())
}
