//! What maps that hold things of the kernel have in common.

use std::os::fd::RawFd;

use bpfplan_plan::{Diagnostic, uapi};
use zerocopy::IntoBytes as _;

use super::handle::Wanted;
use super::{MapError, RawMap, typed};
use crate::codes;
use crate::kernel::Errno;

/// What a handle wants of a map whose values may have one of several sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnyOf {
    /// Kinds of maps.
    pub(super) types: &'static [u32],
    /// Bytes of a key.
    pub(super) key: usize,
    /// Bytes of a value.
    pub(super) values: &'static [usize],
}

impl AnyOf {
    /// Compares it with the map.
    pub(super) fn check(&self, map: RawMap) -> Result<RawMap, MapError> {
        let found = usize::try_from(map.info().value_size).unwrap_or(usize::MAX);
        let known = self.values.iter().find(|size| **size == found);
        let value = known.or(self.values.last()).copied().unwrap_or(0);
        Wanted {
            types: self.types,
            key: self.key,
            value,
        }
        .check(map)
    }
}

/// A descriptor as a value of the map.
pub(super) fn descriptor(map: &RawMap, fd: RawFd) -> Vec<u8> {
    if map.value_bytes() == size_of::<u64>() {
        i64::from(fd).as_bytes().to_vec()
    } else {
        fd.as_bytes().to_vec()
    }
}

/// Empties a slot, and takes it if it is empty.
pub(super) fn clear(map: &RawMap, index: u32) -> Result<(), MapError> {
    match map.delete(index.as_bytes()) {
        Ok(_) => Ok(()),
        // Sockmaps answer so to an empty slot.
        Err(error)
            if map.info().map_type.0 == uapi::BPF_MAP_TYPE_SOCKMAP
                && error.errno() == Some(Errno::EINVAL)
                && index < map.info().max_entries =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The cookie of a socket.
pub(super) fn cookie(map: &RawMap, key: &[u8]) -> Result<Option<u64>, MapError> {
    if map.value_bytes() != size_of::<u64>() {
        let message = "values of 4 bytes hold no cookies of sockets";
        let diagnostic = Diagnostic::error(codes::MAP_MISMATCH, message)
            .map(map.described())
            .help("declare values of 8 bytes");
        return Err(MapError::new(diagnostic).with_errno(Errno(libc::ENOSPC)));
    }
    typed::lookup(map, key)
}
