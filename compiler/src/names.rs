//! Finds things of a list by their names.

use foldhash::{HashMap, HashMapExt as _};

/// The first place of every name in a list.
#[derive(Debug, Default)]
pub(crate) struct Names<'n> {
    places: HashMap<&'n [u8], usize>,
    /// Number of names, those that were met before included.
    len: usize,
}

impl<'n> Names<'n> {
    /// For these names, in their order.
    pub(crate) fn new(names: impl Iterator<Item = &'n str>) -> Self {
        let mut this = Self {
            places: HashMap::with_capacity(names.size_hint().0),
            len: 0,
        };
        for name in names {
            this.places.entry(name.as_bytes()).or_insert(this.len);
            this.len += 1;
        }
        this
    }

    /// Length of the list.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether a name is there twice.
    pub(crate) fn has_repeated(&self) -> bool {
        self.places.len() < self.len
    }

    /// The names with their first places, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'n [u8], usize)> {
        self.places.iter().map(|(name, place)| (*name, *place))
    }

    /// The first place of that name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        self.places.get(name).copied()
    }
}
