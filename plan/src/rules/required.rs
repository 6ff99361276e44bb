//! What a declaration leaves to whoever loads it: `max_entries` that is 0 where the kernel wants
//! more. Users of libbpf call `bpf_map__set_max_entries` for such maps.

use super::create::{self, Refusal};
use super::errno_name;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::model::{Map, MaxEntries, Plan};
use crate::uapi;

/// A field that has to be overridden before the plan can be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required<'a> {
    /// The map; the outer one if it is about a template.
    pub map: &'a Map,
    /// Whether it is about the map's inner template.
    pub inner: bool,
    reason: String,
    errno: i32,
}

/// Everything in a plan that has to be overridden before it can be loaded.
#[must_use]
pub fn required(plan: &Plan) -> Vec<Required<'_>> {
    let found = plan.maps.iter().flat_map(|map| {
        let own = refusal(map).map(|refusal| (false, refusal));
        let inner = map.inner.as_deref().and_then(refusal);
        let both = own.into_iter().chain(inner.map(|refusal| (true, refusal)));
        both.map(move |(inner, refusal)| Required {
            map,
            inner,
            reason: refusal.reason,
            errno: refusal.errno,
        })
    });
    found.collect()
}

/// Whether a map or template can be created only with another `max_entries` than its 0.
#[must_use]
pub fn entries_required<I>(map: &Map<I>) -> bool {
    refusal(map).is_some()
}

fn refusal<I>(map: &Map<I>) -> Option<Refusal> {
    if map.max_entries != MaxEntries::Count(0) {
        return None;
    }
    let mut refusals = create::refusals(map).into_iter();
    refusals.find(|refusal| is_required(map, refusal))
}

/// Whether an override can help against this refusal.
pub(super) fn is_required<I>(map: &Map<I>, refusal: &Refusal) -> bool {
    map.max_entries == MaxEntries::Count(0) && refusal.field == "max_entries"
}

/// What to do; `target` as in [`Required::target`].
pub(super) fn help<I>(map: &Map<I>, target: &str) -> String {
    let slots = match map.map_type.0 {
        uapi::BPF_MAP_TYPE_HASH_OF_MAPS => u64::try_from(map.slots.len()).unwrap_or(u64::MAX),
        _ => map.slots.last().map_or(0, |slot| u64::from(slot.index) + 1),
    };
    let least = match slots {
        0 => String::new(),
        slots => format!(", at least {slots} for its slots"),
    };
    format!("declare max_entries, or set it when loading: --set {target}=N{least}")
}

impl Required<'_> {
    /// The target of the override (see [`crate::overrides`]), such as `flows.max_entries`.
    #[must_use]
    pub fn target(&self) -> String {
        let inner = if self.inner { ".inner" } else { "" };
        format!("{}{inner}.max_entries", self.map.name)
    }

    /// The error of a load without the override.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let (what, field) = if self.inner {
            ("the template: ", "values.max_entries")
        } else {
            ("", "max_entries")
        };
        Diagnostic::error(codes::ENTRIES_REQUIRED, format!("{what}{}", self.reason))
            .map(&self.map.name)
            .field(field)
            .at(self.map.source.as_ref(), "declared here")
            .note(format!("the kernel answers {}", errno_name(self.errno)))
            .help(match &self.map.inner {
                Some(template) if self.inner => help(template, &self.target()),
                _ => help(self.map, &self.target()),
            })
    }
}
