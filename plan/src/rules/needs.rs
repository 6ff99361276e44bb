//! The oldest kernel that knows a map's attributes.

use super::KernelVersion;
use super::flags::{bits, flag_names, flag_since};
use super::table::{MAP_EXTRA, rules};
use crate::model::Map;

/// An attribute and the first kernel that takes it.
pub(crate) struct Need {
    pub(crate) since: KernelVersion,
    pub(crate) field: &'static str,
    /// The attribute in words, such as `BPF_F_INNER_MAP`.
    pub(crate) what: String,
}

/// What the map's attributes need, in the order type, flags, others; empty for unknown types.
pub(crate) fn all<I>(map: &Map<I>) -> Vec<Need> {
    let Some(row) = rules(map.map_type) else {
        return Vec::new();
    };
    let mut needs = vec![Need {
        since: row.since,
        field: "type",
        what: map.map_type.to_string(),
    }];
    for flag in bits(map.map_flags & row.flags) {
        if let Some(since) = flag_since(flag) {
            needs.push(Need {
                since,
                field: "map_flags",
                what: flag_names(flag).join(""),
            });
        }
    }
    if map.map_extra != 0 {
        needs.push(Need {
            since: MAP_EXTRA,
            field: "map_extra",
            what: "map_extra".to_owned(),
        });
    }
    needs
}

/// The oldest kernel that takes this map's own attributes, and the one that demands it, such as
/// `BPF_F_INNER_MAP` or the type's name. The template of an outer map is asked for separately.
///
/// A type that is not known here is newer than all that are: its answer is Linux 6.19.
#[must_use]
pub fn needs<I>(map: &Map<I>) -> (KernelVersion, String) {
    // Of equal versions the first counts: the type says more than its flags.
    let mut newest: Option<Need> = None;
    for need in all(map) {
        if newest
            .as_ref()
            .is_none_or(|newest| need.since > newest.since)
        {
            newest = Some(need);
        }
    }
    newest.map_or_else(
        || (KernelVersion::new(6, 19), map.map_type.to_string()),
        |need| (need.since, need.what),
    )
}
