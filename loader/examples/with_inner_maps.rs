//! Replaces an inner map of a pinned map of maps: `with_inner_maps PIN KEY`.

use std::path::Path;

use anyhow::{Context as _, Result};
use bpfplan_loader::maps::{Hash, HashOfMaps, MapError, MapHandle as _};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let pin = arguments.next().context("give the pin of a map")?;
    let tenant = arguments.next().context("give a key")?.parse()?;
    let old = rebuild(pin.as_ref(), tenant, &[(80, 1), (443, 2)])?;
    println!("slot {tenant} held {} entries", old.unwrap_or(0));
    Ok(())
}

pub(crate) fn rebuild(
    pin: &Path,
    tenant: u32,
    rules: &[(u32, u64)],
) -> Result<Option<usize>, MapError> {
    let tenants: HashOfMaps<u32, Hash<u32, u64>> = HashOfMaps::from_pin(pin)?;
    let table = tenants.template()?.max_entries(4096).create()?;
    table.update_all(rules)?;
    let old = tenants.swap(&tenant, &table)?;
    Ok(old.map(|old| old.keys().count()))
}
