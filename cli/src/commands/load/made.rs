//! The maps of a load, those that it has closed among them.

use std::collections::HashMap;

use bpfplan_loader::{Errno, Kernel, Loaded};
use bpfplan_plan::{MapType, Plan};

use crate::documents::{LoadedExtern, LoadedMap};

/// All maps in the plan's order, with their kinds.
///
/// # Errors
/// The kernel's, if it does not tell an id.
pub(super) fn maps<K: Kernel>(
    plan: &Plan,
    loaded: &Loaded<K>,
) -> Result<Vec<(MapType, LoadedMap)>, Errno> {
    let text = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
    let open = loaded.maps.iter().map(|map| {
        let made = LoadedMap {
            name: map.name.clone(),
            id: map.id()?,
            pinned: map.pinned.as_ref().map(text),
            reused: map.reused,
            filled: map.filled,
            max_entries: map.max_entries,
            externs: map.externs.iter().map(LoadedExtern::new).collect(),
        };
        Ok((map.map_type, made))
    });
    let mut maps = open.collect::<Result<Vec<_>, _>>()?;
    if loaded.closed.is_empty() {
        return Ok(maps);
    }
    maps.extend(loaded.closed.iter().map(|map| {
        let made = LoadedMap {
            name: map.name.clone(),
            id: map.id,
            pinned: Some(text(&map.pinned)),
            reused: false,
            filled: 0,
            max_entries: map.max_entries,
            externs: Vec::new(),
        };
        (map.map_type, made)
    }));
    let places = plan.maps.iter().enumerate();
    let places: HashMap<&str, usize> = places
        .map(|(place, map)| (map.name.as_str(), place))
        .collect();
    maps.sort_by_key(|(_, map)| places.get(map.name.as_str()).copied());
    Ok(maps)
}
