//! The inner template of an outer map, which the kernel never shows.

use super::attributes::{added_flags, entries, flags, kept_flags};
use super::{Difference, Existing, MOST, types};
use crate::model::Template;
use crate::rules::Target;
use crate::rules::slots::entries_are_free;
use crate::types::Type;

/// Differences between a declared template and what is known of the one that an outer map has:
/// from the record of its load, or from an inner map that it took. Of the numbers, those count
/// that the kernel compares when it takes an inner map (`bpf_map_meta_equal`).
#[must_use]
pub fn template(
    template: &Template,
    all: &[Type],
    known: &Existing<'_>,
    target: &Target,
) -> Vec<Difference> {
    let (known, pinned_types) = (&known.attributes, known.types);
    let mut found = Vec::new();
    let mut differ = |path: &str, declared: String, pinned: String| {
        if declared != pinned {
            found.push(Difference::error(format!("inner.{path}"), declared, pinned));
        }
    };
    differ(
        "type",
        template.map_type.to_string(),
        known.map_type.to_string(),
    );
    differ(
        "key_size",
        template.key_size.to_string(),
        known.key_size.to_string(),
    );
    differ(
        "value_size",
        template.value_size.to_string(),
        known.value_size.to_string(),
    );
    let (declared, kept) = entries(template, target);
    if !entries_are_free(template) && kept != known.max_entries {
        differ("max_entries", declared, known.max_entries.to_string());
    }
    // What the kernel adds to device maps, it adds to both.
    let added = added_flags(template.map_type);
    differ(
        "map_flags",
        flags(kept_flags(template.map_flags) & !added),
        flags(kept_flags(known.map_flags) & !added),
    );
    if let Some(pinned) = pinned_types {
        let declared = [template.key_type, template.value_type];
        let types = types::compare(all, declared, pinned).into_iter();
        found.extend(types.map(|difference| Difference {
            path: format!("inner.{}", difference.path),
            ..difference
        }));
    }
    found.truncate(MOST);
    found
}
