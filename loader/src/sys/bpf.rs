//! `bpf(2)`, through libbpf where its wrapper makes just the call that its name says.
//!
//! `bpf_map_create` and `bpf_btf_load` of libbpf do not: each first loads a program, to find out
//! whether the kernel accounts memory by cgroup, and the former a second one, to find out whether
//! it knows names. So those two calls are made here, with libbpf's `union bpf_attr` and the sizes
//! that libbpf 1.7 passes. Kernels that know less of the union accept it as long as the rest of
//! it is zero.

use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::mem::offset_of;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::atomic::AtomicU32;

use bpfplan_plan::{MapType, uapi};
use libbpf_sys::{
    bpf_attr, bpf_attr__bindgen_ty_1 as CreateAttr, bpf_attr__bindgen_ty_12 as BtfAttr,
    bpf_map_info, bpf_obj_get_opts,
};

use crate::kernel::{BatchError, Errno, MapAttributes, MapInfo};

/// Size of the verifier's log for BTF. Newer kernels keep its end if it is longer.
const LOG_SIZE: u32 = 1 << 20;

/// How often a call is made that answers `EAGAIN`: the kernel gives up when a signal is pending.
const ATTEMPTS: u32 = 5;

/// Bytes of the attribute that libbpf passes: through `excl_prog_hash_size`, 92.
const CREATE_SIZE: usize = offset_of!(CreateAttr, excl_prog_hash_size) + size_of::<u32>();

/// Through `btf_token_fd`, 40.
const BTF_SIZE: usize = offset_of!(BtfAttr, btf_token_fd) + size_of::<i32>();

pub(super) fn last_errno() -> Errno {
    Errno(
        std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO),
    )
}

/// libbpf's functions return the negative error number.
pub(super) fn check(result: c_int) -> Result<c_int, Errno> {
    if result < 0 {
        Err(Errno(result.saturating_neg()))
    } else {
        Ok(result)
    }
}

/// Takes ownership of a descriptor that the kernel just made, and moves it above 2, so that a
/// process without standard streams does not write its messages into a map.
pub(super) fn own(fd: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: the callers hand over a descriptor that a successful bpf() call has just returned,
    // so it is open and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if fd.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, libc::STDERR_FILENO + 1)
        .map_err(|errno| Errno(errno.raw_os_error()))
}

/// Calls `bpf(2)` for a command that returns a descriptor.
pub(super) fn bpf_fd(command: u32, attr: &mut bpf_attr, size: usize) -> Result<OwnedFd, Errno> {
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        // SAFETY: `attr` is a whole `union bpf_attr`, of which the kernel reads and writes at
        // most `size` bytes; both callers pass a size within it, and the pointers in it belong
        // to buffers that they keep for the time of the call.
        let result: c_long =
            unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size) };
        match c_int::try_from(result) {
            Ok(fd) if fd >= 0 => return own(fd),
            _ => {}
        }
        let errno = last_errno();
        if errno.0 != libc::EAGAIN || attempts == 0 {
            return Err(errno);
        }
    }
}

/// `bpf_attr` with nothing but zeros: the kernel refuses rubbish in fields that it does not use.
pub(super) fn zeroed_attr() -> bpf_attr {
    // SAFETY: every field of the union is an integer, for which all bits zero is a value.
    unsafe { std::mem::zeroed() }
}

/// The address of a buffer, as the kernel wants it.
pub(super) fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}

pub(super) fn load_btf(blob: &[u8], log: Option<&mut String>) -> Result<OwnedFd, Errno> {
    let mut attr = zeroed_attr();
    let mut buffer = Vec::new();
    let mut fields = BtfAttr {
        btf: address(blob.as_ptr()),
        btf_size: u32::try_from(blob.len()).map_err(|_| Errno(libc::E2BIG))?,
        ..BtfAttr::default()
    };
    if log.is_some() {
        buffer = vec![0u8; LOG_SIZE as usize];
        fields.btf_log_buf = address(buffer.as_mut_ptr());
        fields.btf_log_size = LOG_SIZE;
        fields.btf_log_level = 1;
    }
    attr.__bindgen_anon_7 = fields;
    let result = bpf_fd(uapi::BPF_BTF_LOAD, &mut attr, BTF_SIZE);
    if let Some(log) = log {
        let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
        *log = text.to_string_lossy().into_owned();
    }
    result
}

pub(super) fn create_map<F>(
    attributes: &MapAttributes<'_, F>,
    raw: impl Fn(&F) -> u32,
) -> Result<OwnedFd, Errno> {
    let mut attr = zeroed_attr();
    // With 0, the kernel would take standard input for the template of an outer map that has none.
    let missing = if attributes.map_type.is_outer() {
        u32::MAX
    } else {
        0
    };
    let mut fields = CreateAttr {
        map_type: attributes.map_type.0,
        key_size: attributes.key_size,
        value_size: attributes.value_size,
        max_entries: attributes.max_entries,
        map_flags: attributes.map_flags,
        inner_map_fd: attributes.inner.map_or(missing, &raw),
        numa_node: attributes.numa_node,
        map_extra: attributes.map_extra,
        ..CreateAttr::default()
    };
    // The last byte stays 0.
    let room = fields.map_name.len() - 1;
    for (place, byte) in fields
        .map_name
        .iter_mut()
        .take(room)
        .zip(attributes.name.bytes())
    {
        *place = c_char::from_ne_bytes([byte]);
    }
    if let Some(btf) = &attributes.btf {
        fields.btf_fd = raw(btf.fd);
        fields.btf_key_type_id = btf.key_type_id;
        fields.btf_value_type_id = btf.value_type_id;
    }
    attr.__bindgen_anon_1 = fields;
    bpf_fd(uapi::BPF_MAP_CREATE, &mut attr, CREATE_SIZE)
}

/// `outer` must have keys and values of 4 bytes. The kernel reads each value when its turn comes.
pub(super) fn update_batch(
    outer: BorrowedFd<'_>,
    keys: &[u32],
    values: &[AtomicU32],
) -> Result<(), BatchError> {
    let refused = |errno| BatchError { done: None, errno };
    let wanted = u32::try_from(keys.len()).map_err(|_| refused(Errno(libc::E2BIG)))?;
    if keys.len() != values.len() {
        return Err(refused(Errno::EINVAL));
    }
    // SAFETY: the slices hold as many keys and values of 4 bytes each (the caller made sure of the
    // map's sizes; an `AtomicU32` is a `u32` in memory). Other threads may write the values
    // meanwhile, atomically.
    unsafe { update_batch_at(outer, keys.as_ptr().cast(), values.as_ptr().cast(), wanted) }
}

/// `BPF_MAP_UPDATE_BATCH` without flags.
///
/// # Safety
/// As many keys and values of the map's sizes as `wanted` says must stand there, and be readable
/// until this returns.
pub(super) unsafe fn update_batch_at(
    map: BorrowedFd<'_>,
    keys: *const c_void,
    values: *const c_void,
    wanted: u32,
) -> Result<(), BatchError> {
    let mut count = wanted;
    // SAFETY: the kernel reads so many keys and values, which the caller vouches for, and writes one
    // number to `count`.
    let result = unsafe {
        libbpf_sys::bpf_map_update_batch(
            map.as_raw_fd(),
            keys,
            values,
            &raw mut count,
            std::ptr::null(),
        )
    };
    batch_result(result, count, wanted)
}

/// The result of a batch of `wanted` elements, and how many were done where the kernel told.
pub(super) fn batch_result(result: i32, count: u32, wanted: u32) -> Result<(), BatchError> {
    check(result).map(drop).map_err(|errno| {
        // A call that is refused as a whole leaves the count as it was, or says 0 where there was no
        // memory for its buffers.
        let exact = count < wanted && (count, errno) != (0, Errno(libc::ENOMEM));
        let done = usize::try_from(count).ok().filter(|_| exact);
        BatchError { done, errno }
    })
}

/// The map must have keys of 4 bytes and values of `value.len()` bytes, and not be per CPU.
pub(super) fn update_elem(map: BorrowedFd<'_>, key: u32, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads one key and one value, whose sizes are the map's (the callers made
    // sure of it).
    let result = unsafe {
        libbpf_sys::bpf_map_update_elem(
            map.as_raw_fd(),
            (&raw const key).cast::<c_void>(),
            value.as_ptr().cast::<c_void>(),
            0,
        )
    };
    check(result).map(drop)
}

/// The map must have keys of 4 bytes and values of `size` bytes, and not be per CPU.
pub(super) fn lookup_elem(map: BorrowedFd<'_>, key: u32, size: usize) -> Result<Vec<u8>, Errno> {
    let mut value = Vec::new();
    value
        .try_reserve_exact(size)
        .map_err(|_| Errno(libc::ENOMEM))?;
    value.resize(size, 0u8);
    // SAFETY: the kernel reads one key and writes one value of `size` bytes, which is the length
    // of the buffer (the caller took the size from the map).
    let result = unsafe {
        libbpf_sys::bpf_map_lookup_elem(
            map.as_raw_fd(),
            (&raw const key).cast::<c_void>(),
            value.as_mut_ptr().cast::<c_void>(),
        )
    };
    check(result)?;
    Ok(value)
}

/// The map must have keys of 4 bytes.
pub(super) fn delete_elem(map: BorrowedFd<'_>, key: u32) -> Result<(), Errno> {
    // SAFETY: the kernel reads one key, whose size is the map's (the caller made sure of it).
    let result = unsafe {
        libbpf_sys::bpf_map_delete_elem(map.as_raw_fd(), (&raw const key).cast::<c_void>())
    };
    check(result).map(drop)
}

pub(super) fn freeze(map: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the call takes nothing but a descriptor, which is open.
    check(unsafe { libbpf_sys::bpf_map_freeze(map.as_raw_fd()) }).map(drop)
}

pub(super) fn map_info(map: BorrowedFd<'_>) -> Result<MapInfo, Errno> {
    let mut info = bpf_map_info::default();
    let mut length = u32::try_from(size_of::<bpf_map_info>()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that large, and
    // follows no pointer in it: all of it is zero.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            map.as_raw_fd(),
            (&raw mut info).cast::<c_void>(),
            &raw mut length,
        )
    };
    check(result)?;
    Ok(MapInfo {
        id: info.id,
        map_type: MapType(info.type_),
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        map_flags: info.map_flags,
        map_extra: info.map_extra,
        btf_id: info.btf_id,
        btf_key_type_id: info.btf_key_type_id,
        btf_value_type_id: info.btf_value_type_id,
    })
}

/// `info` is all zeros but for pointers to buffers and the number of elements that fit in them.
pub(super) fn program_info(
    program: BorrowedFd<'_>,
    info: &mut libbpf_sys::bpf_prog_info,
) -> Result<(), Errno> {
    let size = size_of::<libbpf_sys::bpf_prog_info>();
    let mut length = u32::try_from(size).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that large, and to the
    // buffers in it, whose size the caller has given.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            program.as_raw_fd(),
            std::ptr::from_mut(info).cast::<c_void>(),
            &raw mut length,
        )
    };
    check(result).map(drop)
}

pub(super) fn program_by_id(id: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes nothing but a number.
    own(check(unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) })?)
}

pub(super) fn map_by_id(id: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes nothing but a number.
    own(check(unsafe { libbpf_sys::bpf_map_get_fd_by_id(id) })?)
}

pub(super) fn pin(map: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    check(unsafe { libbpf_sys::bpf_obj_pin(map.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// Opens a pin; `flags` are 0, `BPF_F_RDONLY` or `BPF_F_WRONLY`. Links answer `EINVAL` to all but
/// 0; programs are opened all the same, so the caller has to look what it got: their ids are
/// numbers of their own.
pub(super) fn open_pin(path: &CStr, flags: u32) -> Result<OwnedFd, Errno> {
    let options = bpf_obj_get_opts {
        sz: size_of::<bpf_obj_get_opts>() as u64,
        file_flags: flags,
        path_fd: 0,
    };
    // SAFETY: `path` is a NUL-terminated string and `options` a whole structure that says its
    // size; both outlive the call.
    own(check(unsafe {
        bpf_obj_get_opts(path.as_ptr(), &raw const options)
    })?)
}

/// Looks structs up in the kernel's BTF. It is read once for all names, and gone through once: it
/// has megabytes, and a plan may name many structs.
pub(super) fn kernel_structs(names: &[&str]) -> Option<Vec<bool>> {
    // SAFETY: the path is a NUL-terminated string; the answer is null or a BTF object of our own.
    let btf = unsafe { libbpf_sys::btf__parse_raw(c"/sys/kernel/btf/vmlinux".as_ptr()) };
    if btf.is_null() {
        return None;
    }
    let wanted: HashSet<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    let mut found = HashSet::new();
    // SAFETY: `btf` is valid until it is freed below.
    let count = unsafe { libbpf_sys::btf__type_cnt(btf) };
    for id in 1..count {
        // SAFETY: as above; the answer is null or a type in the object, aligned and unchanged while
        // that lives.
        let Some(ty) = (unsafe { libbpf_sys::btf__type_by_id(btf, id).as_ref() }) else {
            continue;
        };
        if ty.info >> 24 & 0x1f != uapi::BTF_KIND_STRUCT {
            continue;
        }
        // SAFETY: as above; the answer is null or a string in the object.
        let name = unsafe { libbpf_sys::btf__name_by_offset(btf, ty.name_off) };
        if name.is_null() {
            continue;
        }
        // SAFETY: it is not null, and ends with a NUL.
        let name = unsafe { CStr::from_ptr(name) };
        found.extend(wanted.get(name.to_bytes()).copied());
    }
    // SAFETY: `btf` was made above and is not used any more, nor is what pointed into it.
    unsafe { libbpf_sys::btf__free(btf) };
    let is_found = |name: &&str| found.contains(name.as_bytes());
    Some(names.iter().map(is_found).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_of_the_kernel_are_found_by_name() {
        let names = ["task_struct", "nobodys_struct", "task_struct", "int"];
        // A kernel may have no BTF.
        if let Some(found) = kernel_structs(&names) {
            assert_eq!(found, [true, false, true, false]);
        }
        assert!(kernel_structs(&[]).is_none_or(|found| found.is_empty()));
    }
}
