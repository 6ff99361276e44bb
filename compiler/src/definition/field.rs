//! The fields of a map's declaration.

use crate::btf::raw::Raw;

/// Places for fields whose names were met: many times as many as there are fields.
const PLACES: usize = 64;

/// A field, by the name of the member that declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Type,
    MaxEntries,
    MapFlags,
    NumaNode,
    KeySize,
    ValueSize,
    Key,
    Value,
    Values,
    Pinning,
    MapExtra,
}

impl Field {
    const ALL: [Self; 11] = [
        Self::Type,
        Self::MaxEntries,
        Self::Key,
        Self::Value,
        Self::MapFlags,
        Self::KeySize,
        Self::ValueSize,
        Self::Values,
        Self::Pinning,
        Self::MapExtra,
        Self::NumaNode,
    ];

    /// The member's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::MaxEntries => "max_entries",
            Self::MapFlags => "map_flags",
            Self::NumaNode => "numa_node",
            Self::KeySize => "key_size",
            Self::ValueSize => "value_size",
            Self::Key => "key",
            Self::Value => "value",
            Self::Values => "values",
            Self::Pinning => "pinning",
            Self::MapExtra => "map_extra",
        }
    }
}

/// Finds fields by the offsets of their names: all maps of an object share the names, so each is
/// compared once.
#[derive(Debug)]
pub(super) struct Fields([Option<(u32, Field)>; PLACES]);

impl Default for Fields {
    fn default() -> Self {
        Self([None; PLACES])
    }
}

impl Fields {
    /// The field whose name stands there, if it is one.
    pub(super) fn find(&mut self, raw: &Raw<'_>, offset: u32) -> Option<Field> {
        let place = usize::try_from(offset).unwrap_or_default() % PLACES;
        let place = self.0.get_mut(place)?;
        if let Some((known, field)) = *place
            && known == offset
        {
            return Some(field);
        }
        let name = raw.name(offset);
        let mut all = Field::ALL.into_iter();
        let field = all.find(|field| field.name().as_bytes() == name)?;
        *place = Some((offset, field));
        Some(field)
    }
}
