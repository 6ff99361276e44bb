//! Creates the maps of `flow.bpf.c`, and reads and writes them.

#![forbid(unsafe_code)]

use std::error::Error;

use bpfplan_loader::LoadOptions;
use bpfplan_loader::maps::{MapHandle, Update};

mod flow {
    include!(concat!(env!("OUT_DIR"), "/flow.rs"));
}
use flow::types::{counters, flow_key};

fn main() -> Result<(), Box<dyn Error>> {
    let flow = load()?;
    let key = flow_key {
        source: 1,
        port: 53,
        protocol: 17,
        ..flow_key::default()
    };
    let value = counters {
        packets: 1,
        bytes: 100,
    };
    flow.maps.flows.update(&key, &value, Update::NoExist)?;
    let found = flow.maps.flows.lookup(&key)?;
    println!("{found:?} of {}", flow.maps.flows.info().max_entries);
    println!("one packet in {}", flow.maps.rodata.get()?.sample_rate);

    add_tenant(&flow, 3, counters::default())?;
    println!("{} tenants", flow.maps.tenants.ids().count());
    Ok(())
}

/// Creates the maps, with other values than the source has.
fn load() -> Result<flow::Flow, Box<dyn Error>> {
    let mut open = flow::Flow::open()?;
    open.maps.flows.set_max_entries(4096);
    open.rodata.sample_rate = 10;
    open.rodata.device[..4].copy_from_slice(b"eth0");
    Ok(open.load(&LoadOptions::default())?)
}

/// Makes a table like those in the source, and puts it into a slot.
fn add_tenant(flow: &flow::Flow, tenant: u32, first: counters) -> Result<(), Box<dyn Error>> {
    let table = flow.maps.tenants.template()?.create()?;
    table.set(0, &first)?;
    Ok(flow.maps.tenants.insert(&tenant, &table)?)
}
