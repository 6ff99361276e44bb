//! aya, as its user would write it: aya reads no static slots, so filling them is the user's loop
//! over the names of the maps.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use aya::maps::{Array, ArrayOfMaps, HashOfMaps, Map, MapData};
use aya::{Ebpf, EbpfLoader};
use aya_obj::Object;

type Inner = Array<MapData, u64>;

/// Parses an object.
///
/// # Errors
/// aya's.
pub fn open(object: &[u8]) -> Result<Object> {
    Ok(Object::parse(object)?)
}

/// Creates the maps of an object and fills the maps `outer_K`, of as many slots each as there are
/// for them, with the maps `inner_I` in their order.
///
/// # Errors
/// aya's.
pub fn load(object: &[u8]) -> Result<Ebpf> {
    let mut loaded = EbpfLoader::new().load(object)?;
    fill(&mut loaded)?;
    Ok(loaded)
}

fn fill(loaded: &mut Ebpf) -> Result<()> {
    let names: Vec<String> = loaded.maps().map(|(name, _)| name.to_owned()).collect();
    let mut inner = HashMap::new();
    let mut outer = Vec::new();
    for name in names {
        if let Some(number) = name.strip_prefix("inner_") {
            let map = loaded.take_map(&name).context("the map is gone")?;
            inner.insert(number.parse::<u32>()?, Inner::try_from(map)?);
        } else if let Some(number) = name.strip_prefix("outer_") {
            let map = loaded.take_map(&name).context("the map is gone")?;
            outer.push((number.parse::<u32>()?, map));
        }
    }
    let Some(each) = inner.len().checked_div(outer.len()) else {
        return Ok(());
    };
    let each = u32::try_from(each)?;
    for (number, map) in outer {
        let slots = (0..each).map(|slot| (slot, inner.get(&(number * each + slot))));
        let slots = slots.filter_map(|(slot, inner)| Some((slot, inner?)));
        if let Map::ArrayOfMaps(_) = map {
            let mut map = ArrayOfMaps::<_, Inner>::try_from(map)?;
            for (slot, inner) in slots {
                map.set(slot, inner, 0)?;
            }
        } else {
            let mut map = HashOfMaps::<_, u32, Inner>::try_from(map)?;
            for (slot, inner) in slots {
                map.insert(slot, inner, 0)?;
            }
        }
    }
    Ok(())
}
