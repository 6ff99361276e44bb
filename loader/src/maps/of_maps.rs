//! Maps of maps.

use std::marker::PhantomData;

use bpfplan_plan::uapi;
use zerocopy::IntoBytes as _;

use super::elements::Take;
use super::handle::{Wanted, handle};
use super::insert_all::insert_all;
use super::{Entries, InnerBuilder, MapData, MapError, MapHandle, RawMap, outer, typed};

/// An `ARRAY_OF_MAPS` whose slots hold maps with handles of type `I`.
pub struct ArrayOfMaps<I> {
    map: RawMap,
    inner: PhantomData<fn() -> I>,
}

handle!(ArrayOfMaps<I: MapHandle>, Wanted {
    types: &[uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS],
    key: size_of::<u32>(),
    value: size_of::<u32>(),
});

/// A `HASH_OF_MAPS` with keys of type `K`, whose slots hold maps with handles of type `I`.
pub struct HashOfMaps<K, I> {
    map: RawMap,
    types: PhantomData<fn() -> (K, I)>,
}

handle!(HashOfMaps<K: MapData, I: MapHandle>, Wanted {
    types: &[uapi::BPF_MAP_TYPE_HASH_OF_MAPS],
    key: size_of::<K>(),
    value: size_of::<u32>(),
});

macro_rules! slots {
    ([$($param:ident: $bound:ident),*] $name:ident<$($arg:ident),*>, $key:ty) => {
        impl<$($param: $bound),*> $name<$($arg),*> {
            /// The kernel's id of the map in a slot, `None` if it is empty.
            ///
            /// # Errors
            /// The kernel's.
            pub fn id_at(&self, key: &$key) -> Result<Option<u32>, MapError> {
                typed::lookup(&self.map, key.as_bytes())
            }

            /// The map in a slot, `None` if it is empty. Opening it by its id needs
            /// CAP_SYS_ADMIN.
            ///
            /// # Errors
            /// The kernel's; as [`MapHandle::from_id`].
            pub fn get(&self, key: &$key) -> Result<Option<I>, MapError> {
                outer::open_at(&self.map, key.as_bytes())
            }

            /// All filled slots: keys and the ids of the maps in them.
            #[must_use]
            pub fn ids(&self) -> Entries<'_, $key, u32> {
                Entries::new(&self.map, Take::Copy)
            }

            /// Puts a map into a slot, whatever is in it. Programs that look it up from now on
            /// get the new map.
            ///
            /// Before it returns, the kernel waits for an RCU grace period, some milliseconds.
            ///
            /// # Errors
            /// - [`crate::codes::INNER_DOES_NOT_FIT`] if the kernel does not take the map, with the
            ///   attribute that differs from the template;
            /// - [`crate::codes::SLOT_BEYOND_END`] for an index beyond the end;
            /// - [`crate::codes::SLOT_REFUSED`] for other answers of the kernel, such as `E2BIG`
            ///   if the outer map is full.
            pub fn insert(&self, key: &$key, inner: &I) -> Result<(), MapError> {
                outer::insert(&self.map, key.as_bytes(), inner)
            }

            /// As [`Self::insert`], and gives the map that was there before.
            ///
            /// The kernel has no call for both, so this looks first: what others put there in
            /// between is replaced as well.
            ///
            /// # Errors
            /// As [`Self::insert`] and [`Self::get`]; nothing is replaced then.
            pub fn swap(&self, key: &$key, inner: &I) -> Result<Option<I>, MapError> {
                let old = self.get(key)?;
                self.insert(key, inner)?;
                Ok(old)
            }

            /// Puts many maps into their slots, at the price of few: one batch waits for one
            /// grace period, and where a kernel has no batch for outer maps (before 5.19), or
            /// waits for each element of one (before 6.8), many threads wait at the same time.
            ///
            /// Of several maps for one key, the last counts.
            ///
            /// # Errors
            /// As [`Self::insert`], for the first slot that the kernel refuses; what does not fit
            /// a template that is known, or is beyond the end, is refused before anything is
            /// replaced. Slots before that one are filled, those behind it may be:
            /// [`MapError::done`] is its place in `slots`.
            pub fn insert_all(&self, slots: &[($key, &I)]) -> Result<(), MapError> {
                let items = slots.iter().map(|(key, inner)| (key.as_bytes(), inner.map()));
                insert_all(&self.map, &items.collect::<Vec<_>>())
            }

            /// A builder for new inner maps that this map takes. What they look like, the load
            /// tells, or the record beside the pin, or [`RawMap::with_template`].
            ///
            /// # Errors
            /// [`crate::codes::TEMPLATE_UNKNOWN`] if nobody tells.
            pub fn template(&self) -> Result<InnerBuilder<'_, I>, MapError> {
                InnerBuilder::new(&self.map)
            }

            /// Empties a slot; says whether there was a map in it.
            ///
            /// # Errors
            /// The kernel's.
            pub fn remove(&self, key: &$key) -> Result<bool, MapError> {
                outer::remove(&self.map, key.as_bytes())
            }
        }
    };
}

slots!([I: MapHandle] ArrayOfMaps<I>, u32);
slots!([K: MapData, I: MapHandle] HashOfMaps<K, I>, K);

impl<I: MapHandle> ArrayOfMaps<I> {
    fn made(map: RawMap) -> Result<Self, MapError> {
        Ok(Self {
            map,
            inner: PhantomData,
        })
    }

    /// Number of slots.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.map.info().max_entries
    }

    /// Whether it has no slots, which the kernel does not allow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: MapData, I: MapHandle> HashOfMaps<K, I> {
    fn made(map: RawMap) -> Result<Self, MapError> {
        Ok(Self {
            map,
            types: PhantomData,
        })
    }
}
