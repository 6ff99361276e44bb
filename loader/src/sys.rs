//! The running kernel and libbpf: the only module with `unsafe` code, in [`bpf`], [`elements`],
//! [`probe`], [`ring`], [`types`], `linker`, `programs` and `messages`.

#![allow(unsafe_code)]

mod bpf;
mod elements;
#[cfg(feature = "link")]
pub(crate) mod linker;
#[cfg(any(feature = "link", feature = "programs"))]
mod messages;
mod probe;
#[cfg(feature = "programs")]
mod programs;
mod ring;
mod system;
mod types;

pub(crate) use elements::RealElements;
pub(crate) use ring::{Ring, UserRing};
pub use types::BtfCache;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bpfplan_plan::compare::MapTypes;
use bpfplan_plan::rules::KernelVersion;
use bpfplan_plan::{MapType, uapi};

use crate::Recall;
use crate::kconfig::KernelConfig;
use crate::kernel::{
    BatchError, Errno, FdLimit, Feature, Identity, Kernel, MapAttributes, MapId, MapInfo, PathKind,
    Pinned, ProgramAnswer, ProgramFailure, ProgramRequest,
};

/// The running kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealKernel(());

/// An open descriptor of the running kernel: owned, close-on-exec and above 2.
#[derive(Debug)]
pub struct Descriptor {
    fd: OwnedFd,
    /// What the kernel reads and writes depends on it; `None` for BTF.
    shape: Option<Shape>,
}

/// How much the kernel copies from and to user space for one element of a map.
#[derive(Debug, Clone, Copy)]
struct Shape {
    map_type: MapType,
    key_size: u32,
    value_size: u32,
}

impl RealKernel {
    /// The running kernel.
    #[must_use]
    pub fn new() -> Self {
        Self(())
    }

    /// `BPF_MAP_GET_FD_BY_ID`: opens a map by the kernel's id.
    ///
    /// # Errors
    /// The kernel's: `ENOENT` if there is no such map.
    pub fn open_id(&self, id: u32) -> Result<Descriptor, Errno> {
        describe(bpf::map_by_id(id)?)
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl MapId for Descriptor {
    fn map_id(&self) -> Result<u32, Errno> {
        Ok(bpf::map_info(self.as_fd())?.id)
    }
}

impl From<Descriptor> for OwnedFd {
    fn from(descriptor: Descriptor) -> Self {
        descriptor.fd
    }
}

impl Descriptor {
    /// A descriptor of BTF.
    pub(crate) fn of_btf(fd: OwnedFd) -> Self {
        Self { fd, shape: None }
    }

    fn raw(&self) -> u32 {
        self.fd.as_raw_fd().cast_unsigned()
    }

    /// Refuses maps whose slots are not 4 bytes for 4 bytes: the kernel would copy more than the
    /// caller has.
    fn with_slots(&self) -> Result<BorrowedFd<'_>, Errno> {
        match self.shape {
            Some(Shape {
                map_type,
                key_size: 4,
                value_size: 4,
            }) if map_type.0 == uapi::BPF_MAP_TYPE_PROG_ARRAY => Ok(self.as_fd()),
            _ => self.outer(),
        }
    }

    /// As above, and only outer maps.
    fn outer(&self) -> Result<BorrowedFd<'_>, Errno> {
        match self.shape {
            Some(shape)
                if shape.map_type.is_outer() && (shape.key_size, shape.value_size) == (4, 4) =>
            {
                Ok(self.as_fd())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Refuses everything but plain arrays; gives the size of an element.
    fn array(&self) -> Result<(BorrowedFd<'_>, usize), Errno> {
        match self.shape {
            Some(Shape {
                map_type,
                key_size: 4,
                value_size,
            }) if map_type.0 == uapi::BPF_MAP_TYPE_ARRAY => {
                let size = usize::try_from(value_size).map_err(|_| Errno::EINVAL)?;
                Ok((self.as_fd(), size))
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Gives a descriptor of unknown origin its shape.
fn describe(fd: OwnedFd) -> Result<Descriptor, Errno> {
    let info = bpf::map_info(fd.as_fd())?;
    let shape = Shape {
        map_type: info.map_type,
        key_size: info.key_size,
        value_size: info.value_size,
    };
    Ok(Descriptor {
        fd,
        shape: Some(shape),
    })
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

impl Kernel for RealKernel {
    type Fd = Descriptor;
    type Lock = OwnedFd;

    fn load_btf(&self, blob: &[u8], log: Option<&mut String>) -> Result<Descriptor, Errno> {
        Ok(Descriptor {
            fd: bpf::load_btf(blob, log)?,
            shape: None,
        })
    }

    fn create_map(&self, attributes: &MapAttributes<'_, Descriptor>) -> Result<Descriptor, Errno> {
        let fd = bpf::create_map(attributes, |fd| fd.raw())?;
        let shape = Shape {
            map_type: attributes.map_type,
            key_size: attributes.key_size,
            value_size: attributes.value_size,
        };
        Ok(Descriptor {
            fd,
            shape: Some(shape),
        })
    }

    fn update_batch(
        &self,
        outer: &Descriptor,
        slots: &[(u32, &Descriptor)],
        recall: &Recall,
    ) -> Result<(), BatchError> {
        let outer = outer
            .outer()
            .map_err(|errno| BatchError { done: None, errno })?;
        let keys: Vec<u32> = slots.iter().map(|(index, _)| *index).collect();
        let values = recall.lend(slots.iter().map(|(_, map)| map.raw()));
        bpf::update_batch(outer, &keys, values)
    }

    fn update_slot(&self, outer: &Descriptor, index: u32, map: &Descriptor) -> Result<(), Errno> {
        bpf::update_elem(outer.with_slots()?, index, &map.raw().to_ne_bytes())
    }

    fn slot(&self, outer: &Descriptor, index: u32) -> Result<Option<u32>, Errno> {
        let id = match bpf::lookup_elem(outer.with_slots()?, index, size_of::<u32>()) {
            Ok(id) => id,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let id = id.try_into().map_err(|_| Errno::EINVAL)?;
        Ok(Some(u32::from_ne_bytes(id)))
    }

    fn clear_slot(&self, outer: &Descriptor, index: u32) -> Result<(), Errno> {
        bpf::delete_elem(outer.with_slots()?, index)
    }

    fn write(&self, map: &Descriptor, index: u32, value: &[u8]) -> Result<(), Errno> {
        let (fd, size) = map.array()?;
        if value.len() != size {
            return Err(Errno::EINVAL);
        }
        bpf::update_elem(fd, index, value)
    }

    fn read(&self, map: &Descriptor, index: u32) -> Result<Vec<u8>, Errno> {
        let (fd, size) = map.array()?;
        bpf::lookup_elem(fd, index, size)
    }

    fn freeze(&self, map: &Descriptor) -> Result<(), Errno> {
        bpf::freeze(map.as_fd())
    }

    fn is_frozen(&self, map: &Descriptor) -> Result<Option<bool>, Errno> {
        system::is_frozen(map.as_fd())
    }

    fn info(&self, map: &Descriptor) -> Result<MapInfo, Errno> {
        bpf::map_info(map.as_fd())
    }

    fn pin(&self, map: &Descriptor, path: &Path) -> Result<(), Errno> {
        bpf::pin(map.as_fd(), &c_path(path)?)
    }

    fn open_pin(&self, path: &Path) -> Result<Descriptor, Errno> {
        let fd = bpf::open_pin(&c_path(path)?, uapi::BPF_F_RDONLY)?;
        match system::kind(fd.as_fd())? {
            Pinned::Map(()) => describe(fd),
            Pinned::Other(_) => Err(Errno::EINVAL),
        }
    }

    #[cfg(feature = "programs")]
    fn load_programs(
        &self,
        request: &ProgramRequest<'_, Descriptor>,
    ) -> Result<ProgramAnswer<Descriptor>, ProgramFailure> {
        programs::load(request)
    }

    #[cfg(not(feature = "programs"))]
    fn load_programs(
        &self,
        _: &ProgramRequest<'_, Descriptor>,
    ) -> Result<ProgramAnswer<Descriptor>, ProgramFailure> {
        Err(ProgramFailure {
            stage: crate::kernel::ProgramStage::Open,
            errno: Errno(libc::ENOSYS),
            program: None,
            log: None,
            messages: vec!["built without the feature `programs` of bpfplan-loader".to_owned()],
        })
    }

    fn program_by_id(&self, id: u32) -> Result<Descriptor, Errno> {
        Ok(Descriptor {
            fd: bpf::program_by_id(id)?,
            shape: None,
        })
    }

    fn pinned_program(&self, path: &Path) -> Result<u32, Errno> {
        let fd = bpf::open_pin(&c_path(path)?, 0)?;
        if system::kind(fd.as_fd())? != Pinned::Other(system::PROGRAM) {
            return Err(Errno::EINVAL);
        }
        let mut info = libbpf_sys::bpf_prog_info::default();
        bpf::program_info(fd.as_fd(), &mut info)?;
        Ok(info.id)
    }

    fn reuse_pin(&self, path: &Path, flags: u32) -> Result<Pinned<Descriptor>, Errno> {
        let fd = bpf::open_pin(&c_path(path)?, flags)?;
        Ok(match system::kind(fd.as_fd())? {
            Pinned::Map(()) => Pinned::Map(describe(fd)?),
            Pinned::Other(what) => Pinned::Other(what),
        })
    }

    fn map_by_id(&self, id: u32) -> Result<Descriptor, Errno> {
        self.open_id(id)
    }

    fn map_types(&self, info: &MapInfo, blobs: &mut BtfCache) -> Result<Option<MapTypes>, Errno> {
        if info.btf_id == 0 {
            return Ok(None);
        }
        let (key, value) = (info.btf_key_type_id, info.btf_value_type_id);
        types::read(blobs, info.btf_id, key, value).map(Some)
    }

    fn inspect(&self, path: &Path) -> Result<PathKind, Errno> {
        system::inspect(path)
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf, Errno> {
        system::canonical(path)
    }

    fn lock_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        system::lock_dir(path)
    }

    fn make_dir(&self, path: &Path) -> Result<(), Errno> {
        system::make_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<(), Errno> {
        system::remove_dir(path)
    }

    fn unlink(&self, path: &Path) -> Result<(), Errno> {
        system::unlink(path)
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn cpus(&self) -> usize {
        system::cpus()
    }

    fn page_size(&self) -> u32 {
        u32::try_from(rustix::param::page_size()).unwrap_or(4096)
    }

    fn possible_cpus(&self) -> Result<u32, Errno> {
        system::possible_cpus()
    }

    fn version(&self) -> Option<KernelVersion> {
        // It does not change, and many ask.
        static VERSION: OnceLock<Option<KernelVersion>> = OnceLock::new();
        *VERSION.get_or_init(|| {
            KernelVersion::from_release(rustix::system::uname().release().to_str().ok()?)
        })
    }

    fn identity(&self) -> Identity {
        system::identity()
    }

    fn has(&self, feature: Feature) -> bool {
        match feature {
            Feature::BpfCookie => probe::has_bpf_cookie(),
            Feature::SyscallWrapper => probe::has_syscall_wrapper(),
        }
    }

    fn config(&self) -> Result<KernelConfig, Errno> {
        system::config()
    }

    fn kernel_structs(&self, names: &[&str]) -> Option<Vec<bool>> {
        bpf::kernel_structs(names)
    }

    fn raise_memlock(&self) -> Result<(), Errno> {
        system::raise_memlock()
    }

    fn reserve_fds(&self, count: u64) -> Result<(), FdLimit> {
        system::reserve_fds(count)
    }

    fn grow_fd_table(&self, fd: &Descriptor, count: u64) {
        system::grow_fd_table(fd.as_fd(), count);
    }
}
