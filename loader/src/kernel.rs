//! The seam between the executor and whatever answers its calls.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bpfplan_plan::compare::{Attributes, MapTypes};
use bpfplan_plan::rules::{KernelVersion, errno_name};
use bpfplan_plan::{MapType, rules};

use crate::Recall;
use crate::kconfig::KernelConfig;
pub use crate::program_request::{
    MadeProgram, ProgramAnswer, ProgramFailure, ProgramRequest, ProgramStage, RequestedMap,
};
use crate::slots::recall::{patience, waits_once};
pub use crate::sys::BtfCache;

/// An error number of the kernel, as `bpf(2)` left it in `errno`.
///
/// It is a number of its own and no [`std::io::Error`], because the kernel lets internal numbers
/// out (524, `ENOTSUPP`) that the C library cannot name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// `ENOTSUPP`, the kernel's internal number for "this operation does not exist here".
    pub const ENOTSUPP: Self = Self(524);
    /// libbpf's own error numbers begin here.
    const FIRST_OF_LIBBPF: i32 = 4000;
    /// `EINVAL`.
    pub const EINVAL: Self = Self(libc::EINVAL);
    /// `ENOENT`.
    pub const ENOENT: Self = Self(libc::ENOENT);
    /// `EPERM`.
    pub const EPERM: Self = Self(libc::EPERM);
    /// `EEXIST`.
    pub const EEXIST: Self = Self(libc::EEXIST);
    /// `ENOTEMPTY`.
    pub const ENOTEMPTY: Self = Self(libc::ENOTEMPTY);
    /// `EACCES`.
    pub const EACCES: Self = Self(libc::EACCES);
    /// `EROFS`.
    pub const EROFS: Self = Self(libc::EROFS);
    /// `EWOULDBLOCK`.
    pub const EWOULDBLOCK: Self = Self(libc::EWOULDBLOCK);
}

impl fmt::Display for Errno {
    /// Name, number and the C library's text: `EINVAL (22, Invalid argument)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = errno_name(self.0);
        if *self == Self::ENOTSUPP {
            return write!(f, "{name} ({}, not supported)", self.0);
        }
        if self.0 >= Self::FIRST_OF_LIBBPF {
            return write!(f, "{name} ({})", self.0);
        }
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        write!(f, "{name} ({}, {text})", self.0)
    }
}

impl std::error::Error for Errno {}

/// How far a batch got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchError {
    /// Number of elements that were done, so the index of the one that failed; `None` if the
    /// kernel refused the call before it looked at an element.
    pub done: Option<usize>,
    /// The error.
    pub errno: Errno,
}

/// A limit of open descriptors that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdLimit {
    /// The `RLIMIT_NOFILE` that is needed, descriptors that are open already included.
    pub needed: u64,
    /// Why it cannot be raised.
    pub errno: Errno,
    /// How many more descriptors can be had, if not as many as were wanted.
    pub free: u64,
}

/// The BTF of a map: the descriptor of a loaded blob and ids in it.
#[derive(Debug)]
pub struct MapBtf<'a, F> {
    /// `btf_fd`.
    pub fd: &'a F,
    /// `btf_key_type_id`.
    pub key_type_id: u32,
    /// `btf_value_type_id`.
    pub value_type_id: u32,
}

/// What `BPF_MAP_CREATE` gets: the fields of `union bpf_attr`, all values resolved.
#[derive(Debug)]
pub struct MapAttributes<'a, F> {
    /// `map_type`.
    pub map_type: MapType,
    /// `map_name`, at most 15 bytes.
    pub name: &'a str,
    /// `key_size` in bytes.
    pub key_size: u32,
    /// `value_size` in bytes.
    pub value_size: u32,
    /// `max_entries`.
    pub max_entries: u32,
    /// `map_flags`.
    pub map_flags: u32,
    /// `map_extra`.
    pub map_extra: u64,
    /// `numa_node`.
    pub numa_node: u32,
    /// `inner_map_fd`: the template of an outer map.
    pub inner: Option<&'a F>,
    /// The map's BTF; without it, the three fields are 0.
    pub btf: Option<MapBtf<'a, F>>,
}

impl<'a, F> MapAttributes<'a, F> {
    /// These attributes and nothing else: no flags, no template, no BTF.
    #[must_use]
    pub const fn new(
        name: &'a str,
        map_type: MapType,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    ) -> Self {
        Self {
            map_type,
            name,
            key_size,
            value_size,
            max_entries,
            map_flags: 0,
            map_extra: 0,
            numa_node: 0,
            inner: None,
            btf: None,
        }
    }
}

impl<F> Clone for MapBtf<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for MapBtf<'_, F> {}

impl<F> Clone for MapAttributes<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for MapAttributes<'_, F> {}

/// What `BPF_OBJ_GET_INFO_BY_FD` says about a map, as far as it is needed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapInfo {
    /// The kernel's id of the map.
    pub id: u32,
    /// Kind of map.
    pub map_type: MapType,
    /// Size of a key in bytes.
    pub key_size: u32,
    /// Size of a value in bytes.
    pub value_size: u32,
    /// Number of entries.
    pub max_entries: u32,
    /// Flags that the kernel keeps, and those that it adds.
    pub map_flags: u32,
    /// `map_extra`; 0 on kernels before 5.16.
    pub map_extra: u64,
    /// The kernel's id of the map's BTF, 0 for none.
    pub btf_id: u32,
    /// Id of the key's type in it, 0 for none.
    pub btf_key_type_id: u32,
    /// Id of the value's type in it, 0 for none.
    pub btf_value_type_id: u32,
}

impl MapInfo {
    /// What a comparison with a plan needs.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes {
            map_type: self.map_type,
            key_size: self.key_size,
            value_size: self.value_size,
            max_entries: self.max_entries,
            map_flags: self.map_flags,
            map_extra: self.map_extra,
        }
    }
}

/// What a pin is.
#[derive(Debug, PartialEq, Eq)]
pub enum Pinned<F> {
    /// A map.
    Map(F),
    /// Something else, in words: `a program`, `a link`.
    Other(&'static str),
}

/// What the kernel says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// `release` of `uname`, such as `6.1.0-18-amd64`.
    pub release: String,
    /// `version` of `uname`, such as `#1 SMP Debian 6.1.76-1`.
    pub version: String,
    /// `/proc/version_signature`, which Ubuntu's kernels have.
    pub signature: Option<String>,
}

/// What programs are told about the kernel (`kernel_supports` of libbpf).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// `bpf_get_attach_cookie` in tracepoints (5.15): `LINUX_HAS_BPF_COOKIE`.
    BpfCookie,
    /// System calls have the architecture in their names, such as `__x64_sys_bpf` (4.17):
    /// `LINUX_HAS_SYSCALL_WRAPPER`.
    SyscallWrapper,
}

/// What lies at a path, seen without following a symbolic link at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A directory.
    Directory {
        /// Whether it belongs to a BPF file system.
        bpffs: bool,
    },
    /// A symbolic link.
    Symlink,
    /// Something else, such as a pin.
    Other,
}

/// A descriptor that knows how to ask for the id of its map.
pub trait MapId {
    /// The kernel's id of the map, from `BPF_OBJ_GET_INFO_BY_FD`.
    ///
    /// # Errors
    /// The kernel's.
    fn map_id(&self) -> Result<u32, Errno>;
}

/// Everything that a load asks of the system.
///
/// Descriptors are values of [`Kernel::Fd`]; dropping one closes it. Paths are absolute.
pub trait Kernel: Sync {
    /// An open descriptor of a map or of BTF; closed when dropped.
    type Fd: MapId + fmt::Debug + Send + Sync;

    /// The lock of a directory; released when dropped, and when the process dies.
    type Lock: fmt::Debug;

    /// `BPF_BTF_LOAD`. With `log`, asks for the verifier's log and writes it there.
    ///
    /// # Errors
    /// The kernel's.
    fn load_btf(&self, blob: &[u8], log: Option<&mut String>) -> Result<Self::Fd, Errno>;

    /// `BPF_MAP_CREATE`.
    ///
    /// # Errors
    /// The kernel's.
    fn create_map(&self, attributes: &MapAttributes<'_, Self::Fd>) -> Result<Self::Fd, Errno>;

    /// `BPF_MAP_UPDATE_BATCH`: puts maps into slots of an outer map whose keys are 4 bytes long.
    /// Another thread may end it early through `recall`.
    ///
    /// # Errors
    /// The kernel's, and how far it got.
    fn update_batch(
        &self,
        outer: &Self::Fd,
        slots: &[(u32, &Self::Fd)],
        recall: &Recall,
    ) -> Result<(), BatchError>;

    /// `BPF_MAP_UPDATE_ELEM`: puts a map into a slot of an outer map, or a program into one of a
    /// program array.
    ///
    /// # Errors
    /// The kernel's.
    fn update_slot(&self, outer: &Self::Fd, index: u32, map: &Self::Fd) -> Result<(), Errno>;

    /// `BPF_MAP_LOOKUP_ELEM` of a slot: the id of the map in it, `None` if it is empty. The outer
    /// map's keys are 4 bytes long.
    ///
    /// # Errors
    /// The kernel's.
    fn slot(&self, outer: &Self::Fd, index: u32) -> Result<Option<u32>, Errno>;

    /// `BPF_MAP_DELETE_ELEM`: empties a slot of an outer map whose keys are 4 bytes long.
    ///
    /// # Errors
    /// The kernel's; `ENOENT` if it is empty.
    fn clear_slot(&self, outer: &Self::Fd, index: u32) -> Result<(), Errno>;

    /// `BPF_MAP_UPDATE_ELEM` of a plain array's element.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` if the size of `value` is not the map's.
    fn write(&self, map: &Self::Fd, index: u32, value: &[u8]) -> Result<(), Errno>;

    /// `BPF_MAP_LOOKUP_ELEM` of a plain array's element.
    ///
    /// # Errors
    /// The kernel's.
    fn read(&self, map: &Self::Fd, index: u32) -> Result<Vec<u8>, Errno>;

    /// `BPF_MAP_FREEZE` (5.2): user space cannot write to the map any more.
    ///
    /// # Errors
    /// The kernel's.
    fn freeze(&self, map: &Self::Fd) -> Result<(), Errno>;

    /// Whether the map is frozen; `None` on kernels that have no freezing.
    ///
    /// # Errors
    /// Those of reading the descriptor's `fdinfo`.
    fn is_frozen(&self, map: &Self::Fd) -> Result<Option<bool>, Errno>;

    /// `BPF_OBJ_GET_INFO_BY_FD` of a map.
    ///
    /// # Errors
    /// The kernel's.
    fn info(&self, map: &Self::Fd) -> Result<MapInfo, Errno>;

    /// `BPF_OBJ_PIN`; what is there already stays and gives `EEXIST`.
    ///
    /// # Errors
    /// The kernel's.
    fn pin(&self, map: &Self::Fd, path: &Path) -> Result<(), Errno>;

    /// `BPF_OBJ_GET` for reading. Pins of anything but maps give `EINVAL`.
    ///
    /// # Errors
    /// The kernel's.
    fn open_pin(&self, path: &Path) -> Result<Self::Fd, Errno>;

    /// Loads an object's programs over maps that are there already, as `bpf_object__load` of
    /// libbpf does. Maps without a descriptor are made with them. Program arrays stay empty and
    /// nothing is pinned.
    ///
    /// # Errors
    /// What libbpf or the kernel said; nothing of the load is left then.
    fn load_programs(
        &self,
        request: &ProgramRequest<'_, Self::Fd>,
    ) -> Result<ProgramAnswer<Self::Fd>, ProgramFailure>;

    /// `BPF_PROG_GET_FD_BY_ID`.
    ///
    /// # Errors
    /// The kernel's: `ENOENT` if there is no such program.
    fn program_by_id(&self, id: u32) -> Result<Self::Fd, Errno>;

    /// The kernel's id of the program that is pinned at the path; `EINVAL` if it is no program.
    ///
    /// # Errors
    /// The kernel's.
    fn pinned_program(&self, path: &Path) -> Result<u32, Errno>;
    /// `BPF_OBJ_GET` for use as a map of the load. `flags` are 0, `BPF_F_RDONLY` or
    /// `BPF_F_WRONLY`.
    ///
    /// # Errors
    /// The kernel's.
    fn reuse_pin(&self, path: &Path, flags: u32) -> Result<Pinned<Self::Fd>, Errno>;

    /// `BPF_MAP_GET_FD_BY_ID`.
    ///
    /// # Errors
    /// The kernel's: `ENOENT` if there is no such map.
    fn map_by_id(&self, id: u32) -> Result<Self::Fd, Errno>;

    /// The types of a map's keys and values, from `BPF_BTF_GET_FD_BY_ID`; `None` if it has none.
    /// `blobs` are those that were read for other maps.
    ///
    /// # Errors
    /// The kernel's; `E2BIG` if they are too many to be compared.
    fn map_types(&self, info: &MapInfo, blobs: &mut BtfCache) -> Result<Option<MapTypes>, Errno>;

    /// What lies at the path.
    ///
    /// # Errors
    /// Those of `lstat` and `statfs`.
    fn inspect(&self, path: &Path) -> Result<PathKind, Errno>;

    /// The path without symbolic links, `.` and `..`; it must exist.
    ///
    /// # Errors
    /// Those of `realpath`.
    fn canonical(&self, path: &Path) -> Result<PathBuf, Errno>;

    /// `flock` of a directory, so that loads and unloads in it do not meet. Waits for a moment if
    /// another process has it.
    ///
    /// # Errors
    /// The kernel's; `EWOULDBLOCK` if the other process still has it.
    fn lock_dir(&self, path: &Path) -> Result<Self::Lock, Errno>;

    /// `mkdir` with mode 0700.
    ///
    /// # Errors
    /// The kernel's.
    fn make_dir(&self, path: &Path) -> Result<(), Errno>;

    /// `rmdir`.
    ///
    /// # Errors
    /// The kernel's; `ENOTEMPTY` if something is in it.
    fn remove_dir(&self, path: &Path) -> Result<(), Errno>;

    /// `unlink`.
    ///
    /// # Errors
    /// The kernel's.
    fn unlink(&self, path: &Path) -> Result<(), Errno>;

    /// Whether calls that wait gain from being made at the same time. Where not, as by default,
    /// their order is that of the plan.
    fn overlaps(&self) -> bool {
        false
    }

    /// Whether a batch of slots is known to wait for one grace period, as it does since Linux 6.8.
    /// Batches of other kernels are watched, as the change may have been ported back.
    fn waits_once(&self) -> bool {
        waits_once(self.version())
    }

    /// How long a batch of so many slots that is watched may take before what it has not done yet is
    /// taken back and given to threads.
    fn patience(&self, slots: usize) -> Duration {
        patience(slots)
    }

    /// Number of CPUs that large maps are created on at the same time. Where there is one, as by
    /// default, all calls are made in the order of the plan.
    fn cpus(&self) -> usize {
        1
    }

    /// Page size in bytes.
    fn page_size(&self) -> u32;

    /// Number of possible CPUs, counted in `/sys/devices/system/cpu/possible` as libbpf does.
    ///
    /// # Errors
    /// Those of reading the file; `EINVAL` if it makes no sense.
    fn possible_cpus(&self) -> Result<u32, Errno>;

    /// The kernel's version, for decisions after a failure and for explanations.
    fn version(&self) -> Option<KernelVersion>;

    /// What the kernel says of itself.
    fn identity(&self) -> Identity;

    /// Whether the kernel has a feature, found out by trying; `false` where trying is not allowed.
    fn has(&self, feature: Feature) -> bool;

    /// The configuration of the running kernel: `/boot/config-<release>`, or `/proc/config.gz`.
    ///
    /// # Errors
    /// Those of reading the latter; `EFBIG` if the file is larger than any configuration.
    fn config(&self) -> Result<KernelConfig, Errno>;

    /// Which of these structs the kernel's own BTF has; `None` if it has no BTF. Those of modules
    /// are not looked at.
    fn kernel_structs(&self, names: &[&str]) -> Option<Vec<bool>>;

    /// Raises `RLIMIT_MEMLOCK` of this process as far as it may, for kernels before 5.11.
    ///
    /// # Errors
    /// The kernel's.
    fn raise_memlock(&self) -> Result<(), Errno>;

    /// Makes room for `count` more descriptors by raising `RLIMIT_NOFILE` if it is too low.
    ///
    /// # Errors
    /// The kernel's, and the limit that was wanted; it is then what it was.
    fn reserve_fds(&self, count: u64) -> Result<(), FdLimit>;

    /// Makes the table of descriptors large enough for `count` more than `fd`, the one opened last.
    /// The kernel doubles the table again and again otherwise, and waits for a grace period each
    /// time that threads share it. Where it cannot be done, nothing is.
    fn grow_fd_table(&self, _fd: &Self::Fd, _count: u64) {}

    /// What the memory of a map depends on, for [`rules::memory()`].
    ///
    /// # Errors
    /// Those of [`Kernel::possible_cpus`].
    fn target(&self) -> Result<rules::Target, Errno> {
        Ok(rules::Target {
            page_size: self.page_size(),
            possible_cpus: self.possible_cpus()?,
        })
    }
}

impl<F> fmt::Display for MapAttributes<'_, F> {
    /// The attributes as `name value` pairs; descriptors are left out, and so is what is 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, name \"{}\", key_size {}, value_size {}, max_entries {}",
            self.map_type,
            self.name.escape_debug(),
            self.key_size,
            self.value_size,
            self.max_entries
        )?;
        if self.map_flags != 0 {
            write!(f, ", map_flags {:#x}", self.map_flags)?;
        }
        if self.map_extra != 0 {
            write!(f, ", map_extra {:#x}", self.map_extra)?;
        }
        if self.numa_node != 0 {
            write!(f, ", numa_node {}", self.numa_node)?;
        }
        if let Some(btf) = &self.btf {
            write!(
                f,
                ", btf_key_type_id {}, btf_value_type_id {}",
                btf.key_type_id, btf.value_type_id
            )?;
        }
        Ok(())
    }
}
