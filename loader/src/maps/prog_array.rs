//! Program arrays: the targets of tail calls.

use std::os::fd::{AsFd, AsRawFd as _};

use bpfplan_plan::uapi;
use zerocopy::IntoBytes as _;

use super::handle::{Wanted, handle};
use super::{MapError, RawMap, Update, typed};

/// A `PROG_ARRAY`. When its last descriptor or pin goes, the kernel empties it.
pub struct ProgArray {
    map: RawMap,
}

handle!(
    ProgArray,
    Wanted {
        types: &[uapi::BPF_MAP_TYPE_PROG_ARRAY],
        key: size_of::<u32>(),
        value: size_of::<u32>(),
    }
);

impl ProgArray {
    fn made(map: RawMap) -> Result<Self, MapError> {
        Ok(Self { map })
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

    /// The kernel's id of the program in a slot, `None` if it is empty.
    ///
    /// # Errors
    /// The kernel's.
    pub fn program_id(&self, index: u32) -> Result<Option<u32>, MapError> {
        typed::lookup(&self.map, index.as_bytes())
    }

    /// Puts a program into a slot.
    ///
    /// # Errors
    /// The kernel's: `EINVAL` if its type is not that of the others, `E2BIG` beyond the end.
    pub fn set(&self, index: u32, program: impl AsFd) -> Result<(), MapError> {
        let fd = program.as_fd().as_raw_fd();
        self.map
            .update(index.as_bytes(), fd.as_bytes(), Update::Any)
    }

    /// Empties a slot; says whether a program was in it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn clear(&self, index: u32) -> Result<bool, MapError> {
        self.map.delete(index.as_bytes())
    }
}
