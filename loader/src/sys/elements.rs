//! The elements of a map, as bytes.
//!
//! How many bytes the kernel copies depends on the map alone, so a map is kept together with what
//! the kernel said about it, and every call compares the buffers with that first.

use std::ffi::{CStr, c_char, c_void};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::atomic::AtomicU32;

use bpfplan_plan::rules::KernelVersion;
use bpfplan_plan::{MapType, uapi};
use libbpf_sys::bpf_map_info;

use super::{RealKernel, bpf, c_path, system};
use crate::kernel::{BatchError, Errno, Kernel as _, Pinned};
use crate::maps::elements::{Batch, Cursor, Elements, Take};
use crate::maps::info::Info;

/// An open map of the running kernel.
#[derive(Debug)]
pub(crate) struct RealElements {
    fd: OwnedFd,
    info: Info,
    /// Bytes that the kernel copies for a key.
    key_bytes: usize,
    /// Bytes that the kernel copies for a value: those of all CPUs, where it has one for each.
    value_bytes: usize,
}

impl RealElements {
    /// Takes a descriptor of unknown origin.
    ///
    /// # Errors
    /// `EINVAL` if it is not that of a map; the kernel's.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        if system::kind(fd.as_fd())? != Pinned::Map(()) {
            return Err(Errno::EINVAL);
        }
        Self::of_map(fd)
    }

    /// Takes a descriptor that is one of a map: what it is need not be looked up in `/proc`.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn of_map(fd: OwnedFd) -> Result<Self, Errno> {
        let info = describe(fd.as_fd())?;
        let size = |bytes: u32| usize::try_from(bytes).map_err(|_| Errno::EINVAL);
        let value_bytes = if info.is_per_cpu() {
            let cpus = size(system::possible_cpus()?)?;
            info.value_stride().checked_mul(cpus)
        } else if holds_descriptors(info.map_type) {
            Some(size_of::<u32>())
        } else {
            Some(size(info.value_size)?)
        };
        Ok(Self {
            key_bytes: size(info.key_size)?,
            value_bytes: value_bytes.ok_or(Errno(libc::E2BIG))?,
            fd,
            info,
        })
    }

    /// `BPF_OBJ_GET`. `read_only` opens it for lookups only, which may need fewer rights.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` if the pin is not that of a map.
    pub(crate) fn open_pin(path: &Path, read_only: bool) -> Result<Self, Errno> {
        let path = c_path(path)?;
        let flags = if read_only { uapi::BPF_F_RDONLY } else { 0 };
        let options = libbpf_sys::bpf_obj_get_opts {
            sz: size_of::<libbpf_sys::bpf_obj_get_opts>() as u64,
            file_flags: flags,
            path_fd: 0,
        };
        // SAFETY: `path` is a NUL-terminated string and `options` a whole structure that says
        // its size; both outlive the call.
        let fd = unsafe { libbpf_sys::bpf_obj_get_opts(path.as_ptr(), &raw const options) };
        Self::new(bpf::own(bpf::check(fd)?)?)
    }

    /// `BPF_MAP_GET_FD_BY_ID`.
    ///
    /// # Errors
    /// The kernel's: `ENOENT` if there is no such map, `EPERM` without CAP_SYS_ADMIN.
    pub(crate) fn open_id(id: u32) -> Result<Self, Errno> {
        Self::of_map(bpf::map_by_id(id)?)
    }

    /// `BPF_BTF_GET_FD_BY_ID`.
    ///
    /// # Errors
    /// The kernel's, as for maps.
    pub(crate) fn open_btf(id: u32) -> Result<OwnedFd, Errno> {
        // SAFETY: the call takes nothing but a number.
        bpf::own(bpf::check(unsafe { libbpf_sys::bpf_btf_get_fd_by_id(id) })?)
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// A key of the right size, as the kernel wants it: nothing for maps without keys.
    fn key(&self, key: &[u8]) -> Result<*const c_void, Errno> {
        if key.len() != self.key_bytes {
            return Err(Errno::EINVAL);
        }
        Ok(if key.is_empty() {
            null()
        } else {
            key.as_ptr().cast()
        })
    }

    fn check_value(&self, value: &[u8]) -> Result<(), Errno> {
        if value.len() == self.value_bytes {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// How many elements the buffers hold, which must be whole ones and as many of each.
    fn count(&self, keys: &[u8], values: Option<&[u8]>) -> Result<u32, Errno> {
        let whole = |bytes: &[u8], size: usize| {
            let count = bytes.len().checked_div(size)?;
            (count.checked_mul(size) == Some(bytes.len())).then_some(count)
        };
        let count = whole(keys, self.key_bytes).ok_or(Errno::EINVAL)?;
        if let Some(values) = values
            && whole(values, self.value_bytes) != Some(count)
        {
            return Err(Errno::EINVAL);
        }
        u32::try_from(count).map_err(|_| Errno(libc::E2BIG))
    }
}

impl AsFd for RealElements {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether user space writes descriptors of 4 bytes and reads ids (`IS_FD_MAP` of the kernel).
fn holds_descriptors(map_type: MapType) -> bool {
    map_type.is_outer()
        || matches!(
            map_type.0,
            uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY
                | uapi::BPF_MAP_TYPE_PROG_ARRAY
                | uapi::BPF_MAP_TYPE_CGROUP_ARRAY
        )
}

fn describe(map: BorrowedFd<'_>) -> Result<Info, Errno> {
    let mut info = bpf_map_info::default();
    let mut length = u32::try_from(size_of::<bpf_map_info>()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that large, and
    // follows no pointer in it: all of it is zero.
    bpf::check(unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            map.as_raw_fd(),
            (&raw mut info).cast::<c_void>(),
            &raw mut length,
        )
    })?;
    let name = info.name.map(|byte: c_char| byte.to_ne_bytes()[0]);
    let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
    Ok(Info {
        id: info.id,
        name: name.to_string_lossy().into_owned(),
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

impl Elements for RealElements {
    fn info(&self) -> &Info {
        &self.info
    }

    fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    fn version(&self) -> Option<KernelVersion> {
        RealKernel::new().version()
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno> {
        let key = self.key(key)?;
        self.check_value(value)?;
        // SAFETY: the kernel reads a key and writes a value (a bloom filter reads it), and both
        // buffers have just the sizes that it copies for this map.
        bpf::check(unsafe {
            libbpf_sys::bpf_map_lookup_elem_flags(
                self.fd.as_raw_fd(),
                key,
                value.as_mut_ptr().cast(),
                flags,
            )
        })
        .map(drop)
    }

    fn take(&self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let key = self.key(key)?;
        self.check_value(value)?;
        // SAFETY: as for `lookup`.
        bpf::check(unsafe {
            libbpf_sys::bpf_map_lookup_and_delete_elem(
                self.fd.as_raw_fd(),
                key,
                value.as_mut_ptr().cast(),
            )
        })
        .map(drop)
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        let key = self.key(key)?;
        self.check_value(value)?;
        // SAFETY: the kernel reads a key and a value, and both buffers have just the sizes that
        // it copies for this map; no flag makes it copy more.
        bpf::check(unsafe {
            libbpf_sys::bpf_map_update_elem(self.fd.as_raw_fd(), key, value.as_ptr().cast(), flags)
        })
        .map(drop)
    }

    fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        let key = self.key(key)?;
        // SAFETY: the kernel reads a key, whose size is the map's.
        bpf::check(unsafe { libbpf_sys::bpf_map_delete_elem(self.fd.as_raw_fd(), key) }).map(drop)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        let key = key.map_or(Ok(null()), |key| self.key(key))?;
        self.key(next)?;
        // SAFETY: the kernel reads a key, unless it is null, and writes one; their sizes are the
        // map's.
        bpf::check(unsafe {
            libbpf_sys::bpf_map_get_next_key(self.fd.as_raw_fd(), key, next.as_mut_ptr().cast())
        })
        .map(drop)
    }

    fn lookup_batch(
        &self,
        take: Take,
        cursor: &mut Cursor,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> Result<Batch, Errno> {
        let mut count = self.count(keys, Some(values))?;
        let out = cursor.buffer(self.key_bytes);
        let position = out.as_mut_ptr().cast::<c_void>();
        let from = if cursor.has_begun() {
            position
        } else {
            null_mut()
        };
        let call = match take {
            Take::Copy => libbpf_sys::bpf_map_lookup_batch,
            Take::Remove => libbpf_sys::bpf_map_lookup_and_delete_batch,
        };
        // SAFETY: the kernel writes at most `count` keys and values, which the buffers hold, and
        // the number of them to `count`. A position takes as much as a key, or 4 bytes; the
        // cursor's buffer has room for both, and is read before it is written.
        let result = unsafe {
            call(
                self.fd.as_raw_fd(),
                from,
                position,
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                &raw mut count,
                null(),
            )
        };
        let end = match bpf::check(result) {
            Ok(_) => false,
            Err(Errno::ENOENT) => true,
            Err(errno) => return Err(errno),
        };
        cursor.begin();
        Ok(Batch {
            count: usize::try_from(count).map_err(|_| Errno::EINVAL)?,
            end,
        })
    }

    fn update_batch(&self, keys: &[u8], values: &[u8]) -> Result<(), BatchError> {
        let wanted = self
            .count(keys, Some(values))
            .map_err(|errno| BatchError { done: None, errno })?;
        // SAFETY: the buffers hold so many keys and values.
        unsafe {
            bpf::update_batch_at(
                self.fd.as_fd(),
                keys.as_ptr().cast(),
                values.as_ptr().cast(),
                wanted,
            )
        }
    }

    fn fill_batch(&self, keys: &[u8], fds: &[AtomicU32]) -> Result<(), BatchError> {
        let refused = |errno| BatchError { done: None, errno };
        let wanted = self.count(keys, None).map_err(refused)?;
        if self.value_bytes != size_of::<u32>() || usize::try_from(wanted) != Ok(fds.len()) {
            return Err(refused(Errno::EINVAL));
        }
        // SAFETY: the buffer holds so many keys, and the slice so many values of 4 bytes: an
        // `AtomicU32` is a `u32` in memory. Other threads may write the values meanwhile, atomically.
        unsafe {
            bpf::update_batch_at(
                self.fd.as_fd(),
                keys.as_ptr().cast(),
                fds.as_ptr().cast(),
                wanted,
            )
        }
    }

    fn delete_batch(&self, keys: &[u8]) -> Result<(), BatchError> {
        let wanted = self
            .count(keys, None)
            .map_err(|errno| BatchError { done: None, errno })?;
        let mut count = wanted;
        // SAFETY: the kernel reads `count` keys, which the buffer holds, and writes one number
        // to `count`.
        let result = unsafe {
            libbpf_sys::bpf_map_delete_batch(
                self.fd.as_raw_fd(),
                keys.as_ptr().cast(),
                &raw mut count,
                null(),
            )
        };
        bpf::batch_result(result, count, wanted)
    }
}
