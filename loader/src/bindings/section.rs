//! Maps of global data.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};

use bpfplan_plan::{Diagnostic, uapi};

use crate::codes;
use crate::maps::{MapData, MapError, MapHandle, RawMap, Update};

/// A map of global data: one value, the variables of a section.
///
/// `V` may be larger than the section by what its alignment asks for at the end.
pub struct Section<V> {
    map: RawMap,
    value: PhantomData<fn() -> V>,
}

impl<V: MapData> Section<V> {
    /// The variables as they are now. Programs may write while they are read.
    ///
    /// # Errors
    /// The kernel's, and `ENOMEM`.
    pub fn get(&self) -> Result<Box<V>, MapError> {
        let no_memory = |_| self.problem("there is no memory for the section".to_owned());
        let mut value = V::new_box_zeroed().map_err(no_memory)?;
        let size = self.size();
        let bytes = value.as_mut_bytes().get_mut(..size);
        let found = bytes
            .map(|bytes| self.map.lookup(&KEY, bytes))
            .transpose()?;
        if found == Some(true) {
            Ok(value)
        } else {
            Err(self.problem("the map has no value".to_owned()))
        }
    }

    /// Writes all variables, also those that programs have written since they were read.
    ///
    /// # Errors
    /// The kernel's: `EPERM` for constants, whose map is frozen.
    pub fn set(&self, value: &V) -> Result<(), MapError> {
        let bytes = value.as_bytes();
        let bytes = bytes.get(..self.size()).unwrap_or(bytes);
        self.map.update(&KEY, bytes, Update::Any)
    }

    fn size(&self) -> usize {
        usize::try_from(self.map.info().value_size).unwrap_or(usize::MAX)
    }

    fn problem(&self, message: String) -> MapError {
        MapError::new(Diagnostic::error(codes::MAP_MISMATCH, message).map(self.map.name()))
    }
}

/// The key of the only value.
const KEY: [u8; 4] = [0; 4];

impl<V: MapData> MapHandle for Section<V> {
    fn from_map(map: RawMap) -> Result<Self, MapError> {
        let this = Self {
            map,
            value: PhantomData,
        };
        let info = this.map.info();
        let own = size_of::<V>();
        let rounded = this.size().checked_next_multiple_of(align_of::<V>());
        let fits = own == this.size() || Some(own) == rounded;
        if info.map_type.0 == uapi::BPF_MAP_TYPE_ARRAY && info.key_size == 4 && fits {
            return Ok(this);
        }
        let message = format!("the map ({info}) does not hold this section of {own} bytes");
        Err(this.problem(message))
    }

    fn map(&self) -> &RawMap {
        &self.map
    }

    fn into_map(self) -> RawMap {
        self.map
    }
}

impl<V> AsFd for Section<V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl<V> fmt::Debug for Section<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Section").field(&self.map).finish()
    }
}
