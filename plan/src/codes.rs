//! Codes of this crate's diagnostics: 03 slots, 04 kernel rules, 05 plan files.

use crate::diagnostic::Code;

/// A slot's index is not below `max_entries`.
pub const SLOT_BEYOND_END: Code = Code("BP0301");
/// A slot names a map that the object does not declare.
pub const SLOT_TARGET_MISSING: Code = Code("BP0302");
/// A slot names a map of maps, perhaps the outer map itself.
pub const SLOT_TARGET_IS_OUTER: Code = Code("BP0303");
/// A slot's map differs from the outer map's template.
pub const SLOT_DOES_NOT_FIT: Code = Code("BP0304");

/// The kernel refuses an attribute of the map, whatever its version.
pub const ATTRIBUTE_REFUSED: Code = Code("BP0401");
/// The map needs a newer kernel than asked for.
pub const KERNEL_TOO_OLD: Code = Code("BP0402");
/// The kernel does not take the map's key and value types.
pub const BTF_REFUSED: Code = Code("BP0403");
/// An attribute has no effect.
pub const ATTRIBUTE_IGNORED: Code = Code("BP0404");
/// An outer map has no inner template.
pub const NO_TEMPLATE: Code = Code("BP0405");
/// Maps of the template's type cannot be in maps.
pub const TEMPLATE_TYPE_REFUSED: Code = Code("BP0406");
/// Special fields of a value are put together so that no program can use them.
pub const SPECIAL_FIELDS_MALFORMED: Code = Code("BP0407");
/// Two maps have the same name in the kernel.
pub const KERNEL_NAME_SHARED: Code = Code("BP0408");
/// The kernel changes `max_entries`.
pub const ENTRIES_ROUNDED: Code = Code("BP0409");
/// The map's type is none that this version knows.
pub const TYPE_UNKNOWN: Code = Code("BP0410");

/// The plan's version or object is not one that can be loaded.
pub const PLAN_HEADER: Code = Code("BP0501");
/// A name is empty, used twice or has a character that no name has.
pub const PLAN_NAME: Code = Code("BP0502");
/// Fields of a map contradict each other.
pub const PLAN_MAP: Code = Code("BP0503");
/// Slots of a map are out of order or have the wrong kind of target.
pub const PLAN_SLOTS: Code = Code("BP0504");
/// The types refer to types that are not there, or to themselves.
pub const PLAN_TYPES: Code = Code("BP0505");
/// The BTF blob is not what the types say.
pub const PLAN_BTF: Code = Code("BP0506");
/// More problems of a plan than are shown.
pub const PLAN_MORE: Code = Code("BP0507");

/// All codes of this crate with their titles.
pub const ALL: &[(Code, &str)] = &[
    (SLOT_BEYOND_END, "slot beyond max_entries"),
    (SLOT_TARGET_MISSING, "slot names a map that is not there"),
    (SLOT_TARGET_IS_OUTER, "slot holds a map of maps"),
    (
        SLOT_DOES_NOT_FIT,
        "slot holds a map that does not fit the template",
    ),
    (ATTRIBUTE_REFUSED, "the kernel refuses an attribute"),
    (KERNEL_TOO_OLD, "the kernel is too old"),
    (
        BTF_REFUSED,
        "the kernel does not take the key and value types",
    ),
    (ATTRIBUTE_IGNORED, "attribute without effect"),
    (NO_TEMPLATE, "outer map without inner template"),
    (TEMPLATE_TYPE_REFUSED, "maps of this type cannot be in maps"),
    (
        SPECIAL_FIELDS_MALFORMED,
        "special fields that no program can use",
    ),
    (KERNEL_NAME_SHARED, "two maps have one name in the kernel"),
    (ENTRIES_ROUNDED, "the kernel changes max_entries"),
    (TYPE_UNKNOWN, "unknown map type"),
    (PLAN_HEADER, "plan that cannot be loaded"),
    (PLAN_NAME, "wrong name in a plan"),
    (PLAN_MAP, "contradiction in a map of a plan"),
    (PLAN_SLOTS, "wrong slots in a plan"),
    (PLAN_TYPES, "wrong types in a plan"),
    (PLAN_BTF, "BTF that differs from the plan's types"),
    (PLAN_MORE, "more problems in a plan"),
];
