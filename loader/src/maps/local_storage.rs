//! Storage that programs keep at things of the kernel.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd as _};

use bpfplan_plan::uapi;
use zerocopy::IntoBytes as _;

use super::handle::{Wanted, handle};
use super::{MapData, MapError, RawMap, Update, typed};

/// Storage of programs at a socket, task, inode or cgroup: `SK_STORAGE`, `TASK_STORAGE`,
/// `INODE_STORAGE`, `CGRP_STORAGE`. From here its owner is named by a descriptor: of the socket, a
/// pidfd, of any file of the inode, of the cgroup's directory.
pub struct LocalStorage<V> {
    map: RawMap,
    values: PhantomData<fn() -> V>,
}

handle!(LocalStorage<V: MapData>, Wanted {
    types: &[
        uapi::BPF_MAP_TYPE_SK_STORAGE,
        uapi::BPF_MAP_TYPE_TASK_STORAGE,
        uapi::BPF_MAP_TYPE_INODE_STORAGE,
        uapi::BPF_MAP_TYPE_CGRP_STORAGE,
    ],
    key: size_of::<u32>(),
    value: size_of::<V>(),
});

impl<V: MapData> LocalStorage<V> {
    fn made(map: RawMap) -> Result<Self, MapError> {
        Ok(Self {
            map,
            values: PhantomData,
        })
    }

    /// The value at its owner, `None` if it has none.
    ///
    /// # Errors
    /// The kernel's: `EBADF` if the descriptor is that of something else.
    pub fn get(&self, owner: impl AsFd) -> Result<Option<V>, MapError> {
        typed::lookup(&self.map, owner.as_fd().as_raw_fd().as_bytes())
    }

    /// Writes the value at its owner.
    ///
    /// # Errors
    /// The kernel's: `EEXIST` or `ENOENT` as `when` says, `EBADF` as [`LocalStorage::get`].
    pub fn set(&self, owner: impl AsFd, value: &V, when: Update) -> Result<(), MapError> {
        let key = owner.as_fd().as_raw_fd();
        self.map.update(key.as_bytes(), value.as_bytes(), when)
    }

    /// Removes the value at its owner; says whether it had one.
    ///
    /// # Errors
    /// As [`LocalStorage::get`].
    pub fn delete(&self, owner: impl AsFd) -> Result<bool, MapError> {
        self.map.delete(owner.as_fd().as_raw_fd().as_bytes())
    }
}
