//! Ids of iproute2's legacy maps in several objects. They count within one object, and the linked
//! one could not tell whose map an outer one means.

use std::collections::{HashMap, HashSet};

use bpfplan_plan::Diagnostic;

use super::part::Part;
use crate::codes;
use crate::legacy::{self, Ids};
use crate::problems::Problems;

/// Reports ids that outer maps name and maps of several objects have.
pub(super) fn check(parts: &[Part<'_>], problems: &mut Problems) {
    let ids: Vec<(&Part<'_>, Ids)> = parts
        .iter()
        .map(|part| (part, legacy::ids(&part.elf, part.raw.as_ref())))
        .collect();
    let named: HashSet<u32> = ids.iter().flat_map(|(_, it)| it.named.clone()).collect();
    let mut holders: HashMap<u32, (&Part<'_>, &str)> = HashMap::new();
    for (part, ids) in &ids {
        let mut said = HashSet::new();
        for (id, map) in ids.maps.iter().filter(|(id, _)| named.contains(id)) {
            let (holder, first) = *holders.entry(*id).or_insert((part, map));
            if std::ptr::eq(holder, *part) || !said.insert(*id) {
                continue;
            }
            let place = |part: &Part<'_>| format!("declared here, in {}", part.name);
            let message = format!(
                "it has the id {id} in {}, as '{first}' has in {}",
                part.name, holder.name
            );
            let mut diagnostic = Diagnostic::error(codes::LEGACY_IDS, message)
                .map(map)
                .field("id")
                .at(part.source(map.as_bytes()), place(part))
                .at(holder.source(first.as_bytes()), place(holder))
                .note("ids count within one object: linked, an outer map would hold both maps")
                .help("load the objects one by one, or declare the maps with SEC(\".maps\")");
            diagnostic.object = Some(part.name.to_owned());
            problems.add(diagnostic);
        }
    }
}
