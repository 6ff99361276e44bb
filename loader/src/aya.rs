//! Into aya 0.14: its handles for maps of a load (feature `aya`).
//!
//! ```no_run
//! use aya::maps::HashMap;
//! use bpfplan_loader::maps::{Hash, MapHandle};
//!
//! let flows: Hash<u32, u64> = Hash::from_pin("/sys/fs/bpf/flow/flows")?;
//! let theirs: HashMap<_, u32, u64> = HashMap::try_from(bpfplan_loader::aya::map(&flows)?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! aya takes no descriptors for the maps of an object's programs: those it finds by their pins
//! (`EbpfLoader::map_pin_path`).

use std::os::fd::AsFd;

use aya::maps::{Map, MapData, MapError};

/// The data of one of aya's handles for the same map, with a descriptor of its own.
///
/// # Errors
/// [`MapError::IoError`] if there is no descriptor left, and aya's, such as for a descriptor of
/// something else.
pub fn map_data(map: impl AsFd) -> Result<MapData, MapError> {
    let fd = map.as_fd().try_clone_to_owned()?;
    MapData::from_fd(fd)
}

/// The same map as one of aya's, from which its typed handles are made.
///
/// # Errors
/// As [`map_data`]; [`MapError`] for kinds of maps that aya does not have.
pub fn map(map: impl AsFd) -> Result<Map, MapError> {
    Map::from_map_data(map_data(map)?)
}
