//! Codes of this crate's diagnostics: 03 slots, 04 kernel rules, 05 plan files and
//! overrides.

crate::codes! {
    /// A slot's index is not below `max_entries`.
    pub SLOT_BEYOND_END = "BP0301", "slot beyond max_entries";
    /// A slot names a map that the object does not declare.
    pub SLOT_TARGET_MISSING = "BP0302", "slot names a map that is not there";
    /// A slot names a map of maps, perhaps the outer map itself.
    pub SLOT_TARGET_IS_OUTER = "BP0303", "slot holds a map of maps";
    /// A slot's map differs from the outer map's template.
    pub SLOT_DOES_NOT_FIT = "BP0304", "slot holds a map that does not fit the template";

    /// The kernel refuses an attribute of the map, whatever its version.
    pub ATTRIBUTE_REFUSED = "BP0401", "the kernel refuses an attribute";
    /// The map needs a newer kernel than asked for.
    pub KERNEL_TOO_OLD = "BP0402", "the kernel is too old";
    /// The kernel does not take the map's key and value types.
    pub BTF_REFUSED = "BP0403", "the kernel does not take the key and value types";
    /// An attribute has no effect.
    pub ATTRIBUTE_IGNORED = "BP0404", "attribute without effect";
    /// An outer map has no inner template.
    pub NO_TEMPLATE = "BP0405", "outer map without inner template";
    /// Maps of the template's type cannot be in maps.
    pub TEMPLATE_TYPE_REFUSED = "BP0406", "maps of this type cannot be in maps";
    /// Special fields of a value are put together so that no program can use them.
    pub SPECIAL_FIELDS_MALFORMED = "BP0407", "special fields that no program can use";
    /// Two maps have the same name in the kernel.
    pub KERNEL_NAME_SHARED = "BP0408", "two maps have one name in the kernel";
    /// The kernel changes `max_entries`.
    pub ENTRIES_ROUNDED = "BP0409", "the kernel changes max_entries";
    /// The map's type is none that this version knows.
    pub TYPE_UNKNOWN = "BP0410", "unknown map type";
    /// The declaration leaves `max_entries` to whoever loads it.
    pub ENTRIES_REQUIRED = "BP0411", "max_entries has to be set";

    /// The plan's version or object is not one that can be loaded.
    pub PLAN_HEADER = "BP0501", "plan that cannot be loaded";
    /// A name is empty, used twice or has a character that no name has.
    pub PLAN_NAME = "BP0502", "wrong name in a plan";
    /// Fields of a map contradict each other.
    pub PLAN_MAP = "BP0503", "contradiction in a map of a plan";
    /// Slots of a map are out of order or have the wrong kind of target.
    pub PLAN_SLOTS = "BP0504", "wrong slots in a plan";
    /// The types refer to types that are not there, or to themselves.
    pub PLAN_TYPES = "BP0505", "wrong types in a plan";
    /// The BTF blob is not what the types say.
    pub PLAN_BTF = "BP0506", "BTF that differs from the plan's types";
    /// More problems of a plan than are shown.
    pub PLAN_MORE = "BP0507", "more problems in a plan";
    /// Initial contents do not fit their map, or are not what the plan says of them.
    pub PLAN_CONTENTS = "BP0508", "wrong initial contents in a plan";
    /// Kernel configuration values do not fit their map.
    pub PLAN_EXTERNS = "BP0509", "wrong kernel configuration values in a plan";

    /// An override or a skip names something that is not there.
    pub OVERRIDE_NAME = "BP0520", "override of something that is not there";
    /// The target of an override does not take the value.
    pub OVERRIDE_VALUE = "BP0521", "override with a wrong value";
    /// The target of an override cannot be set.
    pub OVERRIDE_REFUSED = "BP0522", "override of what cannot be set";
    /// Two overrides set the same.
    pub OVERRIDE_TWICE = "BP0523", "overrides of the same";
    /// The target of an override may be a field or a variable.
    pub OVERRIDE_AMBIGUOUS = "BP0524", "ambiguous override";
    /// A map that is left out is needed, or overridden.
    pub OVERRIDE_SKIPPED = "BP0525", "a map cannot be left out";
    /// After an override the kernel does not get the types of a map.
    pub OVERRIDE_TYPES = "BP0526", "no BTF after an override";
}
