//! Programs loaded by aya over maps that bpfplan has pinned.
//!
//! Takes an object and the directory in which `bpfplan load OBJECT --pin-maps DIR` has pinned its
//! maps. Shows the programs and ends; a real program would load and attach them.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData};
use aya::{Ebpf, EbpfLoader};
use bpfplan_loader::LoadedMap;

/// Over the maps that `bpfplan load OBJECT --pin-maps DIR` has pinned.
pub fn over_pins(object: &Path, pins: &Path) -> anyhow::Result<Ebpf> {
    let names = std::fs::read_dir(pins)?
        .map(|pin| Ok(pin?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<Vec<String>>>()?;
    let mut loader = EbpfLoader::new();
    for name in &names {
        // Declared maps are found; global data is pinned under other names than aya's.
        loader.map_pin_path(name, pins.join(name));
    }
    Ok(loader.load_file(object)?)
}

/// A map that bpfplan has loaded, as one of aya's, which has a descriptor of its own.
pub fn counters<F: AsFd>(ours: &LoadedMap<F>) -> anyhow::Result<Array<MapData, u32>> {
    let data = MapData::from_fd(ours.as_fd().try_clone_to_owned()?)?;
    Ok(Array::try_from(Map::from_map_data(data)?)?)
}

#[allow(dead_code, reason = "the tests use the functions above")]
fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(object), Some(pins), None) = (args.next(), args.next(), args.next()) else {
        anyhow::bail!("usage: with_aya OBJECT DIR");
    };
    let ebpf = over_pins(&object, &pins)?;
    for (name, _) in ebpf.programs() {
        println!("{name} can be loaded");
    }
    Ok(())
}
