//! A map that exists already, compared with the one that a plan declares.
//!
//! libbpf compares the numbers only (`map_is_reuse_compat`). Here the types of key and value are
//! compared as well, member by member, and what the kernel changes in the numbers is known.
//! Nothing is asked of a kernel: whoever calls has read what it says of the map.

mod attributes;
mod kinds;
mod members;
mod pointee;
mod spell;
mod template;
mod types;

use std::fmt;

use serde::Serialize;

use crate::diagnostic::Severity;
use crate::model::{Map, MapType};
use crate::rules::Target;
use crate::types::{Type, TypeId};

pub use template::template;

/// Differences that are reported of one map; with more, it is another map altogether.
pub const MOST: usize = 64;

/// One difference between a declared map and one that exists.
///
/// `Display` gives it on one line: `max_entries: declared 1024, pinned 4096`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Difference {
    /// What differs: an attribute, or a member's path such as `value.addr.port`.
    pub path: String,
    /// What the plan declares.
    pub declared: String,
    /// What the map has.
    pub pinned: String,
    /// An error if the map cannot stand in for the declared one.
    pub severity: Severity,
}

/// What the kernel says of a map (`struct bpf_map_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// `type`.
    pub map_type: MapType,
    /// `key_size` in bytes.
    pub key_size: u32,
    /// `value_size` in bytes.
    pub value_size: u32,
    /// `max_entries`.
    pub max_entries: u32,
    /// `map_flags`.
    pub map_flags: u32,
    /// `map_extra`.
    pub map_extra: u64,
}

/// The types of a map's keys and values, taken out of the BTF that the kernel has of it.
///
/// What plain pointers lead to is there by name only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MapTypes {
    /// The types; the one with id `n` is `types[n - 1]`, as in a plan.
    pub types: Vec<Type>,
    /// Type of the key, [`TypeId::VOID`] for none.
    pub key: TypeId,
    /// Type of the value, [`TypeId::VOID`] for none.
    pub value: TypeId,
}

/// All that is known of a map that exists.
#[derive(Debug, Clone, Copy)]
pub struct Existing<'a> {
    /// Its numbers.
    pub attributes: Attributes,
    /// Its types, if it has any and they can be read.
    pub types: Option<&'a MapTypes>,
    /// Whether it is frozen, if that is known.
    pub frozen: Option<bool>,
}

/// All differences, in the order of the declaration. `all` are the plan's types, `target` is the
/// machine that the map is on.
///
/// Numbers that the kernel changes are no differences: the rounding of `max_entries`, the flags
/// that belong to descriptors or that it adds itself.
#[must_use]
pub fn compare<I>(
    map: &Map<I>,
    all: &[Type],
    existing: &Existing<'_>,
    target: &Target,
) -> Vec<Difference> {
    let mut found = attributes::compare(map, &existing.attributes, target);
    found.extend(frozen(map, existing.frozen));
    if let Some(pinned) = existing.types {
        let declared = [map.key_type, map.value_type];
        found.extend(types::compare(all, declared, pinned));
    }
    found.truncate(MOST);
    found
}

fn frozen<I>(map: &Map<I>, pinned: Option<bool>) -> Option<Difference> {
    let declared = map.data.as_ref().is_some_and(|data| data.frozen);
    let pinned = pinned.filter(|pinned| *pinned != declared)?;
    let text = |frozen| if frozen { "frozen" } else { "not frozen" };
    Some(Difference::warning("frozen", text(declared), text(pinned)))
}

impl Difference {
    /// A difference for which the map cannot stand in.
    #[must_use]
    pub fn error(
        path: impl Into<String>,
        declared: impl Into<String>,
        pinned: impl Into<String>,
    ) -> Self {
        Self {
            path: path.into(),
            declared: declared.into(),
            pinned: pinned.into(),
            severity: Severity::Error,
        }
    }

    /// A difference that the map can stand in with.
    #[must_use]
    pub fn warning(
        path: impl Into<String>,
        declared: impl Into<String>,
        pinned: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(path, declared, pinned)
        }
    }

    /// Whether the map cannot stand in for the declared one.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: declared {}, pinned {}",
            self.path, self.declared, self.pinned
        )
    }
}
