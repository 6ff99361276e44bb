//! Arrays.

use std::marker::PhantomData;

use bpfplan_plan::uapi;
use zerocopy::IntoBytes as _;

use super::batch::{self, Action};
use super::elements::Take;
use super::handle::{Wanted, handle};
use super::{Entries, MapData, MapError, RawMap, Update, typed};

/// An `ARRAY` with values of type `V`: every index from 0 to [`Array::len`] has one.
///
/// ```no_run
/// use bpfplan_loader::maps::{Array, MapHandle};
///
/// let limits: Array<u32> = Array::from_pin("/sys/fs/bpf/flow/limits")?;
/// limits.set(0, &100)?;
/// assert_eq!(limits.get(0)?, Some(100));
/// # Ok::<(), bpfplan_loader::maps::MapError>(())
/// ```
pub struct Array<V> {
    map: RawMap,
    values: PhantomData<fn() -> V>,
}

handle!(Array<V: MapData>, Wanted {
    types: &[uapi::BPF_MAP_TYPE_ARRAY],
    key: size_of::<u32>(),
    value: size_of::<V>(),
});

impl<V: MapData> Array<V> {
    fn made(map: RawMap) -> Result<Self, MapError> {
        Ok(Self {
            map,
            values: PhantomData,
        })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.map.info().max_entries
    }

    /// Whether it has no elements, which the kernel does not allow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at that index, `None` beyond the end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn get(&self, index: u32) -> Result<Option<V>, MapError> {
        typed::lookup(&self.map, index.as_bytes())
    }

    /// As [`Array::get`], on the heap: for values that are too large for the stack.
    ///
    /// # Errors
    /// The kernel's, and `ENOMEM`.
    pub fn get_boxed(&self, index: u32) -> Result<Option<Box<V>>, MapError> {
        typed::lookup_boxed(&self.map, index.as_bytes())
    }

    /// As [`Array::get`], while the value's `bpf_spin_lock` is held, see [`RawMap::lookup_locked`].
    ///
    /// # Errors
    /// The kernel's: `EINVAL` for values without a lock.
    pub fn get_locked(&self, index: u32) -> Result<Option<V>, MapError> {
        typed::lookup_locked(&self.map, index.as_bytes())
    }

    /// As [`Array::set`], while the value's `bpf_spin_lock` is held.
    ///
    /// # Errors
    /// As [`Array::set`]; `EINVAL` for values without a lock.
    pub fn set_locked(&self, index: u32, value: &V) -> Result<(), MapError> {
        self.map
            .update(index.as_bytes(), value.as_bytes(), Update::AnyLocked)
    }

    /// Writes an element.
    ///
    /// # Errors
    /// The kernel's: `E2BIG` beyond the end, `EPERM` if the map is frozen.
    pub fn set(&self, index: u32, value: &V) -> Result<(), MapError> {
        self.map
            .update(index.as_bytes(), value.as_bytes(), Update::Any)
    }

    /// Writes many elements, in batches where the kernel has them (5.6).
    ///
    /// # Errors
    /// As [`Array::set`]; [`MapError::done`] says how many were written.
    pub fn set_all(&self, elements: &[(u32, V)]) -> Result<(), MapError> {
        let items = elements
            .iter()
            .map(|(index, value)| (index.as_bytes(), value.as_bytes()));
        batch::apply(self.map.elements(), Action::Update, items)
            .map_err(|error| self.map.batch_failed("updates", error))
    }

    /// All elements with their indices.
    #[must_use]
    pub fn entries(&self) -> Entries<'_, u32, V> {
        Entries::new(&self.map, Take::Copy)
    }
}
