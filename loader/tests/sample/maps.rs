//! What maps the running kernel has, asked without the loader.

#![allow(dead_code)] // every test uses some of it

use std::ffi::{CStr, c_void};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use libbpf_sys::bpf_map_info;

/// How long the kernel may take to free a map: it waits for RCU grace periods.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a map by id.
pub(crate) fn open(id: u32) -> Option<OwnedFd> {
    // SAFETY: the call takes nothing but a number; what it returns is a descriptor of our own.
    unsafe {
        let fd = libbpf_sys::bpf_map_get_fd_by_id(id);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

/// `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn info(map: &impl AsFd) -> bpf_map_info {
    let mut info = bpf_map_info::default();
    let mut size = size_of::<bpf_map_info>() as u32;
    // SAFETY: `info` is as large as `size` says and has no pointers set.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            map.as_fd().as_raw_fd(),
            (&raw mut info).cast::<c_void>(),
            &raw mut size,
        )
    };
    assert_eq!(result, 0, "the kernel describes a map that is open");
    info
}

/// The name in a map's description.
pub(crate) fn name(info: &bpf_map_info) -> String {
    // SAFETY: the kernel ends the name with a NUL byte within the array.
    unsafe { CStr::from_ptr(info.name.as_ptr()) }
        .to_string_lossy()
        .into_owned()
}

/// What is in a slot of an outer map: the id of a map, or `None`. Keys are 4 bytes long.
pub(crate) fn slot(outer: &impl AsFd, index: u32) -> Option<u32> {
    let mut id = 0u32;
    // SAFETY: the outer map's keys and values are 4 bytes long.
    let result = unsafe {
        libbpf_sys::bpf_map_lookup_elem(
            outer.as_fd().as_raw_fd(),
            (&raw const index).cast::<c_void>(),
            (&raw mut id).cast::<c_void>(),
        )
    };
    (result == 0).then_some(id)
}

/// Puts a map into a slot of an outer map, whose keys are 4 bytes long; says whether it took it.
pub(crate) fn put(outer: &impl AsFd, index: u32, map: &impl AsFd) -> bool {
    let fd = map.as_fd().as_raw_fd();
    // SAFETY: the outer map's keys and values are 4 bytes long.
    let result = unsafe {
        libbpf_sys::bpf_map_update_elem(
            outer.as_fd().as_raw_fd(),
            (&raw const index).cast::<c_void>(),
            (&raw const fd).cast::<c_void>(),
            0,
        )
    };
    result == 0
}

/// Whether there is no map with that id.
///
/// It is not opened: a program array that is opened and closed while the kernel empties it, which
/// happens after its last descriptor is closed, is never freed (seen with Linux 6.18).
fn is_gone(id: u32) -> bool {
    let mut next = 0u32;
    // SAFETY: the kernel writes one number to the pointer, which is that of a live one.
    let result = unsafe { libbpf_sys::bpf_map_get_next_id(id.saturating_sub(1), &raw mut next) };
    match result {
        0 => next != id,
        error => {
            assert_eq!(error, -libc::ENOENT, "the kernel lists its maps");
            true
        }
    }
}

/// Waits until no map with one of the ids is left; gives those that stay.
pub(crate) fn left_of(ids: &[u32]) -> Vec<u32> {
    let start = Instant::now();
    loop {
        let mut left = ids.to_vec();
        left.retain(|id| !is_gone(*id));
        if left.is_empty() || start.elapsed() > PATIENCE {
            return left;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Number of descriptors that this process has open.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("/proc is mounted")
        .count()
}
