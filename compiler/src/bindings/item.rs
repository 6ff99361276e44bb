//! The structs and enums of the generated module, as data.

use super::ty::Ty;

/// A struct or an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Name in Rust.
    pub(super) name: String,
    pub(super) content: Content,
}

/// What an item is, apart from its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Content {
    /// What it is, such as `struct flow`, and how large.
    pub(super) doc: String,
    /// Size in bytes.
    pub(super) size: u32,
    /// Alignment in bytes at most.
    pub(super) align: u32,
    /// Whether values have a total equality.
    pub(super) eq: bool,
    pub(super) kind: Kind,
}

/// The two kinds of items.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A struct, or a union, which is a struct of bytes.
    Composite {
        /// `N` of `repr(C, packed(N))`.
        packed: Option<u32>,
        fields: Vec<ItemField>,
        accessors: Vec<Accessor>,
    },
    /// An enum: a number with names.
    Enum {
        /// The integer.
        number: &'static str,
        variants: Vec<Variant>,
    },
}

/// A field of a struct.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ItemField {
    pub(super) name: String,
    pub(super) ty: Ty,
    /// Offset in bytes.
    pub(super) offset: u64,
    /// What it says of itself; `None` for padding.
    pub(super) doc: Option<String>,
}

/// Two functions that read and write a part of a field of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Accessor {
    pub(super) getter: String,
    pub(super) setter: String,
    /// The field of bytes.
    pub(super) field: String,
    pub(super) ty: Ty,
    pub(super) place: Place,
    pub(super) doc: String,
}

/// Where a part is in its field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// From this byte on.
    Bytes { offset: u64 },
    /// These bits.
    Bits {
        offset: u64,
        width: u32,
        /// The integer of an enum, which is what the bits are read as.
        number: Option<&'static str>,
    },
}

/// A name of an enum's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Variant {
    pub(super) name: String,
    /// The value as a literal.
    pub(super) value: String,
    /// Whether no variant before it has the value.
    pub(super) first: bool,
}
