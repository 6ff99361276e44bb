//! The oldest kernel that knows a map's attributes.

use super::KernelVersion;
use super::flags::{bits, flag_names, flag_since};
use super::special::{Record, SpecialFields};
use super::table::{MAP_EXTRA, rules};
use crate::model::Map;
use crate::types::Type;
use crate::uapi;

/// First kernel whose programs can use global data, and that can freeze maps.
const GLOBAL_DATA: KernelVersion = KernelVersion { major: 5, minor: 2 };

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
    let mut flags = map.map_flags & row.flags;
    if map.is_internal() {
        needs.push(Need {
            since: GLOBAL_DATA,
            field: "data",
            what: "global data".to_owned(),
        });
        // The one is cleared for kernels without it, as in libbpf, the other came with global data.
        flags &= !(uapi::BPF_F_MMAPABLE | uapi::BPF_F_RDONLY_PROG);
    }
    for flag in bits(flags) {
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

/// What the special fields of the map's values need. An older kernel creates the map all the same
/// and does not know the field, so it is the programs that need it.
pub(crate) fn of_fields<I>(map: &Map<I>, special: &mut SpecialFields<'_>) -> Vec<Need> {
    // Without BTF no kernel knows of them.
    let value = map.btf.and(map.value_type);
    let Some(Record::Fields(fields)) = value.map(|value| special.record(value)) else {
        return Vec::new();
    };
    let need = |kind: super::special::Kind| Need {
        since: kind.since(),
        field: "value",
        what: format!("{} in its values", kind.name()),
    };
    fields.iter().map(|field| need(field.kind)).collect()
}

/// The oldest kernel on which this map can be created and used, and what demands it, such as
/// `BPF_F_INNER_MAP` or the type's name. The template of an outer map is asked for separately.
///
/// `types` are those of the plan: special fields of the values have needs of their own. `None`
/// for a type that is not known here.
#[must_use]
pub fn needs<I>(map: &Map<I>, types: &[Type]) -> Option<(KernelVersion, String)> {
    SpecialFields::new(types).needs(map)
}

impl SpecialFields<'_> {
    /// As [`needs`], for many maps.
    pub fn needs<I>(&mut self, map: &Map<I>) -> Option<(KernelVersion, String)> {
        newest(map, self)
    }
}

fn newest<I>(map: &Map<I>, special: &mut SpecialFields<'_>) -> Option<(KernelVersion, String)> {
    let needs = all(map).into_iter().chain(of_fields(map, special));
    // Of equal versions the first counts: the type says more than its flags.
    let newest = needs.reduce(|newest, need| {
        if need.since > newest.since {
            need
        } else {
            newest
        }
    });
    newest
        .filter(|_| rules(map.map_type).is_some())
        .map(|need| (need.since, need.what))
}
