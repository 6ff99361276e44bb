//! The seam between the handles and whatever answers their calls.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use std::fmt;

use bpfplan_plan::rules::KernelVersion;

use super::info::Info;
use crate::kernel::{BatchError, Errno};
use crate::slots::recall::patience;

/// What handles ask of a map; the real answers come from the system-call room. Buffers whose
/// sizes are not the map's give `EINVAL`.
pub(crate) trait Elements: fmt::Debug + Send + Sync {
    /// What the kernel says about the map.
    fn info(&self) -> &Info;

    /// Bytes that are copied for a value, which may be one for each CPU.
    fn value_bytes(&self) -> usize;

    /// The kernel's version.
    fn version(&self) -> Option<KernelVersion>;

    /// Whether calls that wait gain from being made at the same time.
    fn overlaps(&self) -> bool;

    /// As [`crate::Kernel::patience`].
    fn patience(&self, slots: usize) -> Duration {
        patience(slots)
    }

    /// `BPF_MAP_LOOKUP_ELEM`.
    fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno>;

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`.
    fn take(&self, key: &[u8], value: &mut [u8]) -> Result<(), Errno>;

    /// `BPF_MAP_UPDATE_ELEM`.
    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno>;

    /// `BPF_MAP_DELETE_ELEM`.
    fn delete(&self, key: &[u8]) -> Result<(), Errno>;

    /// `BPF_MAP_GET_NEXT_KEY`: the key after that one, or the first one; `ENOENT` after the last.
    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno>;

    /// `BPF_MAP_LOOKUP_BATCH` or `BPF_MAP_LOOKUP_AND_DELETE_BATCH`: as many elements as the
    /// buffers hold, from where the cursor is. `ENOSPC` if what belongs together does not fit.
    fn lookup_batch(
        &self,
        take: Take,
        cursor: &mut Cursor,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> Result<Batch, Errno>;

    /// `BPF_MAP_UPDATE_BATCH`.
    fn update_batch(&self, keys: &[u8], values: &[u8]) -> Result<(), BatchError>;

    /// `BPF_MAP_UPDATE_BATCH` of an outer map; each descriptor is read when its turn comes.
    fn fill_batch(&self, keys: &[u8], fds: &[AtomicU32]) -> Result<(), BatchError>;

    /// `BPF_MAP_DELETE_BATCH`.
    fn delete_batch(&self, keys: &[u8]) -> Result<(), BatchError>;
}

/// Whether elements stay in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    Copy,
    Remove,
}

/// What a batch of lookups gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Number of elements.
    pub(crate) count: usize,
    /// Whether there are no more.
    pub(crate) end: bool,
}

/// Where the next batch of lookups begins.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    bytes: Vec<u8>,
    begun: bool,
}

impl Cursor {
    /// Room for a position: hash maps have the number of a bucket there, all others a key.
    pub(crate) fn buffer(&mut self, key_bytes: usize) -> &mut [u8] {
        let size = key_bytes.max(size_of::<u64>());
        if self.bytes.len() < size {
            self.bytes.resize(size, 0);
        }
        &mut self.bytes
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    pub(crate) fn begin(&mut self) {
        self.begun = true;
    }
}
