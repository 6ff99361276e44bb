//! Maps of maps.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd as _};

use bpfplan_plan::uapi;
use zerocopy::IntoBytes as _;

use super::elements::Take;
use super::handle::{Wanted, handle};
use super::{Entries, MapData, MapError, MapHandle, RawMap, Update, typed};
use crate::kernel::Errno;

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
                open_at(&self.map, key.as_bytes())
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
            /// The kernel's: `EINVAL` if the map does not fit the template, `E2BIG` beyond the
            /// end or if the outer map is full.
            pub fn insert(&self, key: &$key, inner: &I) -> Result<(), MapError> {
                insert(&self.map, key.as_bytes(), inner)
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

            /// Empties a slot; says whether there was a map in it.
            ///
            /// # Errors
            /// The kernel's.
            pub fn remove(&self, key: &$key) -> Result<bool, MapError> {
                self.map.delete(key.as_bytes())
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

/// How often a slot is read whose map goes away before it is open.
const ATTEMPTS: u32 = 8;

fn open_at<I: MapHandle>(outer: &RawMap, key: &[u8]) -> Result<Option<I>, MapError> {
    let mut attempts = ATTEMPTS;
    loop {
        let Some(id) = typed::lookup::<u32>(outer, key)? else {
            return Ok(None);
        };
        attempts -= 1;
        match I::from_id(id) {
            Ok(map) => return Ok(Some(map)),
            // Somebody replaced it, and it was freed.
            Err(error) if error.errno() == Some(Errno::ENOENT) && attempts > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn insert(outer: &RawMap, key: &[u8], inner: &impl AsFd) -> Result<(), MapError> {
    let fd = inner.as_fd().as_raw_fd();
    outer.update(key, fd.as_bytes(), Update::Any)
}
