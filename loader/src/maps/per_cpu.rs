//! Maps with a value for each possible CPU.
//!
//! User space reads and writes the values of all possible CPUs at once, each rounded up to 8
//! bytes, in the order of the CPUs.

use std::marker::PhantomData;

use bpfplan_plan::{Diagnostic, uapi};
use zerocopy::IntoBytes as _;

use super::batch::{self, Action};
use super::elements::{Elements as _, Take};
use super::handle::{Wanted, handle};
use super::{Keys, MapData, MapError, PerCpuEntries, RawMap, Update, typed};
use crate::codes;

/// A `PERCPU_ARRAY` with values of type `V`.
///
/// ```no_run
/// use bpfplan_loader::maps::{MapHandle, PerCpuArray};
///
/// let packets: PerCpuArray<u64> = PerCpuArray::from_pin("/sys/fs/bpf/flow/packets")?;
/// let sum: u64 = packets.get(0)?.unwrap_or_default().iter().sum();
/// println!("{sum} packets on {} CPUs", packets.cpus());
/// # Ok::<(), bpfplan_loader::maps::MapError>(())
/// ```
pub struct PerCpuArray<V> {
    map: RawMap,
    values: PhantomData<fn() -> V>,
}

handle!(PerCpuArray<V: MapData>, Wanted {
    types: &[uapi::BPF_MAP_TYPE_PERCPU_ARRAY],
    key: size_of::<u32>(),
    value: size_of::<V>(),
});

/// A `PERCPU_HASH` or `LRU_PERCPU_HASH` with keys of type `K` and values of type `V`.
pub struct PerCpuHash<K, V> {
    map: RawMap,
    types: PhantomData<fn() -> (K, V)>,
}

handle!(PerCpuHash<K: MapData, V: MapData>, Wanted {
    types: &[
        uapi::BPF_MAP_TYPE_PERCPU_HASH,
        uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH,
    ],
    key: size_of::<K>(),
    value: size_of::<V>(),
});

/// Number of possible CPUs, as the map has values.
fn cpus(map: &RawMap) -> usize {
    let stride = map.info().value_stride();
    map.value_bytes().checked_div(stride).unwrap_or(0)
}

fn lookup<V: MapData>(map: &RawMap, key: &[u8]) -> Result<Option<Vec<V>>, MapError> {
    let mut bytes = vec![0; map.value_bytes()];
    if !map.lookup(key, &mut bytes)? {
        return Ok(None);
    }
    Ok(typed::read_each(&bytes))
}

/// The bytes of an element, which has a value for each possible CPU.
fn bytes_of<V: MapData>(map: &RawMap, values: &[V]) -> Result<Vec<u8>, MapError> {
    let cpus = cpus(map);
    let bytes = typed::write_each(values).filter(|_| values.len() == cpus);
    bytes.ok_or_else(|| {
        MapError::new(
            Diagnostic::error(
                codes::MAP_MISMATCH,
                format!(
                    "{} values are given, and there are {cpus} possible CPUs",
                    values.len()
                ),
            )
            .map(map.described())
            .help("give one value for each possible CPU, as `cpus()` counts them"),
        )
    })
}

fn update<V: MapData>(
    map: &RawMap,
    key: &[u8],
    values: &[V],
    when: Update,
) -> Result<(), MapError> {
    map.update(key, &bytes_of(map, values)?, when)
}

/// Refuses elements with another number of values before anything is written.
fn update_all<K, V: MapData>(
    map: &RawMap,
    elements: &[(K, Vec<V>)],
    key: impl Fn(&K) -> Vec<u8>,
) -> Result<(), MapError> {
    let mut items = Vec::with_capacity(elements.len());
    for (at, values) in elements {
        let bytes = bytes_of(map, values).map_err(|error| error.with_done(0))?;
        items.push((key(at), bytes));
    }
    let items = items
        .iter()
        .map(|(key, bytes)| (key.as_slice(), bytes.as_slice()));
    batch::apply(map.elements(), Action::Update, items)
        .map_err(|error| map.batch_failed("updates", error))
}

impl<V: MapData> PerCpuArray<V> {
    fn made(map: RawMap) -> Result<Self, MapError> {
        Ok(Self {
            map,
            values: PhantomData,
        })
    }

    /// Number of possible CPUs, which is the number of values of each element.
    #[must_use]
    pub fn cpus(&self) -> usize {
        cpus(&self.map)
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.map.elements().info().max_entries
    }

    /// Whether it has no elements, which the kernel does not allow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values at that index, in the order of the CPUs; `None` beyond the end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn get(&self, index: u32) -> Result<Option<Vec<V>>, MapError> {
        lookup(&self.map, index.as_bytes())
    }

    /// Writes the values at that index, one for each possible CPU.
    ///
    /// # Errors
    /// [`codes::MAP_MISMATCH`] for another number of values; the kernel's.
    pub fn set(&self, index: u32, values: &[V]) -> Result<(), MapError> {
        update(&self.map, index.as_bytes(), values, Update::Any)
    }

    /// Writes many elements, in batches where the kernel has them (5.13).
    ///
    /// # Errors
    /// As [`PerCpuArray::set`]; [`MapError::done`] says how many were written.
    pub fn set_all(&self, elements: &[(u32, Vec<V>)]) -> Result<(), MapError> {
        let key = |index: &u32| index.as_bytes().to_vec();
        update_all(&self.map, elements, key)
    }

    /// All elements with their indices.
    #[must_use]
    pub fn entries(&self) -> PerCpuEntries<'_, u32, V> {
        PerCpuEntries::new(&self.map, Take::Copy)
    }
}

impl<K: MapData, V: MapData> PerCpuHash<K, V> {
    fn made(map: RawMap) -> Result<Self, MapError> {
        Ok(Self {
            map,
            types: PhantomData,
        })
    }

    /// Number of possible CPUs, which is the number of values of each key.
    #[must_use]
    pub fn cpus(&self) -> usize {
        cpus(&self.map)
    }

    /// The values of a key, in the order of the CPUs; `None` if it is not there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lookup(&self, key: &K) -> Result<Option<Vec<V>>, MapError> {
        lookup(&self.map, key.as_bytes())
    }

    /// Writes the values of a key, one for each possible CPU.
    ///
    /// # Errors
    /// [`codes::MAP_MISMATCH`] for another number of values; the kernel's, as
    /// [`super::Hash::update`].
    pub fn update(&self, key: &K, values: &[V], when: Update) -> Result<(), MapError> {
        update(&self.map, key.as_bytes(), values, when)
    }

    /// Removes a key; says whether it was there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete(&self, key: &K) -> Result<bool, MapError> {
        self.map.delete(key.as_bytes())
    }

    /// Removes a key and gives its values, in one step (Linux 5.14).
    ///
    /// # Errors
    /// The kernel's: before 5.14, `ENOTSUPP`.
    pub fn take(&self, key: &K) -> Result<Option<Vec<V>>, MapError> {
        let mut bytes = vec![0; self.map.value_bytes()];
        let found = self.map.take(key.as_bytes(), &mut bytes)?;
        Ok(found.then(|| typed::read_each(&bytes)).flatten())
    }

    /// Writes the values of many keys, in batches where the kernel has them (5.6).
    ///
    /// # Errors
    /// As [`PerCpuHash::update`]; [`MapError::done`] says how many were written.
    pub fn update_all(&self, elements: &[(K, Vec<V>)]) -> Result<(), MapError> {
        update_all(&self.map, elements, |key| key.as_bytes().to_vec())
    }

    /// Removes many keys, as [`super::Hash::delete_all`].
    ///
    /// # Errors
    /// The kernel's; [`MapError::done`] says how many were done.
    pub fn delete_all(&self, keys: &[K]) -> Result<(), MapError> {
        let items = keys.iter().map(|key| (key.as_bytes(), &[][..]));
        batch::apply(self.map.elements(), Action::Delete, items)
            .map_err(|error| self.map.batch_failed("deletions", error))
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> Keys<'_, K> {
        Keys::typed(&self.map)
    }

    /// All elements with their keys.
    #[must_use]
    pub fn entries(&self) -> PerCpuEntries<'_, K, V> {
        PerCpuEntries::new(&self.map, Take::Copy)
    }

    /// Takes all elements out of the map, as [`super::Hash::drain`].
    #[must_use]
    pub fn drain(&self) -> PerCpuEntries<'_, K, V> {
        PerCpuEntries::new(&self.map, Take::Remove)
    }
}
