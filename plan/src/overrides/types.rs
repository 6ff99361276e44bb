//! Whether the kernel gets the types of overridden maps.

use std::collections::BTreeSet;

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::model::{BtfIds, Map, Plan};
use crate::rules;
use crate::trim::reach;
use crate::types::Type;

/// Decides again for these maps: flags and sizes have a say in what the kernel takes. The ids are
/// filled in by [`crate::trim`].
pub(super) fn decide(plan: &mut Plan, maps: &BTreeSet<usize>, warnings: &mut Vec<Diagnostic>) {
    let Plan {
        maps: all, types, ..
    } = plan;
    for index in maps {
        let Some(map) = all.get_mut(*index) else {
            continue;
        };
        let template = map
            .inner
            .as_mut()
            .and_then(|inner| decide_one(types, inner));
        let own = decide_one(types, map);
        for (field, what, reason) in [
            ("values.map_flags", "the template is", template),
            ("map_flags", "it is", own),
        ] {
            let Some(reason) = reason else { continue };
            let message = format!("{what} created without BTF: {reason}");
            warnings.push(
                Diagnostic::warning(codes::OVERRIDE_TYPES, message)
                    .map(&map.name)
                    .field(field)
                    .at(map.source.as_ref(), "declared here")
                    .note("the kernel refuses it with BTF; libbpf finds out by trying"),
            );
        }
    }
}

/// The reason, if the map had types for the kernel and has none any more.
fn decide_one<I>(types: &[Type], map: &mut Map<I>) -> Option<String> {
    let untyped = map.key_type.is_none() && map.value_type.is_none();
    if untyped || !rules::wants_btf(map.map_type) {
        return None;
    }
    let refused = || {
        let mut ids = reach(types, [map.key_type, map.value_type]).into_iter();
        ids.find_map(|id| rules::type_refusal(types, id))
    };
    match rules::btf_refusal(map, types).or_else(refused) {
        Some(reason) => map.btf.take().map(|_| reason),
        None => {
            map.btf.get_or_insert(BtfIds {
                key_type_id: 0,
                value_type_id: 0,
            });
            None
        }
    }
}
