//! Maps with keys: hash tables and tries.

use std::marker::PhantomData;

use bpfplan_plan::uapi;

use super::batch::{self, Action};
use super::elements::Take;
use super::handle::{Wanted, handle};
use super::{Entries, Keys, MapData, MapError, RawMap, Update, typed};

/// A `HASH` or `LRU_HASH` with keys of type `K` and values of type `V`.
///
/// ```no_run
/// use bpfplan_loader::maps::{Hash, MapHandle, Update};
///
/// let ports: Hash<u16, u64> = Hash::from_pin("/sys/fs/bpf/flow/ports")?;
/// ports.update(&443, &0, Update::Any)?;
/// assert_eq!(ports.lookup(&443)?, Some(0));
/// assert!(ports.delete(&443)?);
/// # Ok::<(), bpfplan_loader::maps::MapError>(())
/// ```
pub struct Hash<K, V> {
    map: RawMap,
    types: PhantomData<fn() -> (K, V)>,
}

handle!(Hash<K: MapData, V: MapData>, Wanted {
    types: &[uapi::BPF_MAP_TYPE_HASH, uapi::BPF_MAP_TYPE_LRU_HASH],
    key: size_of::<K>(),
    value: size_of::<V>(),
});

/// An `LPM_TRIE`: finds the longest prefix that fits. Its keys are structs whose first 4 bytes
/// are the length of the prefix in bits (`struct bpf_lpm_trie_key` in C).
///
/// ```no_run
/// use bpfplan_loader::maps::{LpmTrie, MapHandle, Update};
/// use bpfplan_loader::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// struct Prefix {
///     length: u32,
///     address: [u8; 4],
/// }
///
/// let routes: LpmTrie<Prefix, u32> = LpmTrie::from_pin("/sys/fs/bpf/flow/routes")?;
/// routes.update(&Prefix { length: 8, address: [10, 0, 0, 0] }, &7, Update::Any)?;
/// let host = Prefix { length: 32, address: [10, 1, 2, 3] };
/// assert_eq!(routes.lookup(&host)?, Some(7));
/// # Ok::<(), bpfplan_loader::maps::MapError>(())
/// ```
pub struct LpmTrie<K, V> {
    map: RawMap,
    types: PhantomData<fn() -> (K, V)>,
}

handle!(LpmTrie<K: MapData, V: MapData>, Wanted {
    types: &[uapi::BPF_MAP_TYPE_LPM_TRIE],
    key: size_of::<K>(),
    value: size_of::<V>(),
});

macro_rules! keyed {
    ($name:ident) => {
        impl<K: MapData, V: MapData> $name<K, V> {
            fn made(map: RawMap) -> Result<Self, MapError> {
                Ok(Self {
                    map,
                    types: PhantomData,
                })
            }

            /// The value of a key, `None` if there is none.
            ///
            /// # Errors
            /// The kernel's.
            pub fn lookup(&self, key: &K) -> Result<Option<V>, MapError> {
                typed::lookup(&self.map, key.as_bytes())
            }

            /// As [`Self::lookup`], on the heap: for values that are too large for the stack.
            ///
            /// # Errors
            /// The kernel's, and `ENOMEM`.
            pub fn lookup_boxed(&self, key: &K) -> Result<Option<Box<V>>, MapError> {
                typed::lookup_boxed(&self.map, key.as_bytes())
            }

            /// Writes the value of a key.
            ///
            /// # Errors
            /// The kernel's: `EEXIST` or `ENOENT` as `when` says, `E2BIG` if the map is full
            /// (`ENOSPC` for tries), `EPERM` if it is frozen.
            pub fn update(&self, key: &K, value: &V, when: Update) -> Result<(), MapError> {
                self.map.update(key.as_bytes(), value.as_bytes(), when)
            }

            /// Removes a key; says whether it was there.
            ///
            /// # Errors
            /// The kernel's.
            pub fn delete(&self, key: &K) -> Result<bool, MapError> {
                self.map.delete(key.as_bytes())
            }

            /// All keys.
            #[must_use]
            pub fn keys(&self) -> Keys<'_, K> {
                Keys::typed(&self.map)
            }

            /// All elements with their keys.
            #[must_use]
            pub fn entries(&self) -> Entries<'_, K, V> {
                Entries::new(&self.map, Take::Copy)
            }

            /// Takes all elements out of the map, as far as the iterator is read; what was read
            /// in one batch is gone from the map.
            #[must_use]
            pub fn drain(&self) -> Entries<'_, K, V> {
                Entries::new(&self.map, Take::Remove)
            }

            /// Writes many elements, in batches where the kernel has them (5.6).
            ///
            /// # Errors
            /// As [`Self::update`]; [`MapError::done`] says how many were written.
            pub fn update_all(&self, elements: &[(K, V)]) -> Result<(), MapError> {
                let items = elements
                    .iter()
                    .map(|(key, value)| (key.as_bytes(), value.as_bytes()));
                batch::apply(self.map.elements(), Action::Update, items)
                    .map_err(|error| self.map.batch_failed("updates", error))
            }

            /// Removes many keys, in batches where the kernel has them (5.6). Those that are not
            /// there are left out.
            ///
            /// # Errors
            /// The kernel's; [`MapError::done`] says how many were done.
            pub fn delete_all(&self, keys: &[K]) -> Result<(), MapError> {
                let items = keys.iter().map(|key| (key.as_bytes(), &[][..]));
                batch::apply(self.map.elements(), Action::Delete, items)
                    .map_err(|error| self.map.batch_failed("deletions", error))
            }
        }
    };
}

keyed!(Hash);
keyed!(LpmTrie);

impl<K: MapData, V: MapData> Hash<K, V> {
    /// As [`Hash::lookup`], while the value's `bpf_spin_lock` is held, see
    /// [`RawMap::lookup_locked`]; updates have [`Update::AnyLocked`] for it.
    ///
    /// # Errors
    /// The kernel's: `EINVAL` for values without a lock.
    pub fn lookup_locked(&self, key: &K) -> Result<Option<V>, MapError> {
        typed::lookup_locked(&self.map, key.as_bytes())
    }

    /// Removes a key and gives its value, in one step (Linux 5.14).
    ///
    /// # Errors
    /// The kernel's: before 5.14, `ENOTSUPP`.
    pub fn take(&self, key: &K) -> Result<Option<V>, MapError> {
        typed::take(&self.map, key.as_bytes())
    }
}
