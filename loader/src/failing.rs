//! A kernel some of whose calls fail on purpose.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bpfplan_plan::compare::MapTypes;
use bpfplan_plan::rules::KernelVersion;

use crate::Recall;
use crate::kconfig::KernelConfig;
use crate::kernel::{
    BatchError, BtfCache, Errno, FdLimit, Feature, Identity, Kernel, MadeProgram, MapAttributes,
    MapBtf, MapId, MapInfo, PathKind, Pinned, ProgramAnswer, ProgramFailure, ProgramRequest,
    ProgramStage, RequestedMap,
};
use crate::slots::recall::waits_once;

/// Another kernel, some of whose calls fail, as the given function decides.
///
/// A call that fails does not reach the other kernel. It stands in for a bad moment (the n-th
/// call fails) as well as for an old kernel (every batch is refused). Descriptors are counted,
/// so that a test sees what is left open.
pub struct FailingKernel<K, D> {
    inner: K,
    decide: D,
    calls: AtomicUsize,
    live: Arc<AtomicUsize>,
    created: Mutex<Vec<u32>>,
    version: Option<KernelVersion>,
    overlaps: bool,
    patience: Option<Duration>,
    descriptors: Option<u64>,
}

/// A call that may be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault<'a> {
    /// How many calls came before it.
    pub index: usize,
    /// The method of [`Kernel`]; for each slot of a batch, once that has begun, `batch_element`.
    pub call: &'static str,
    /// What the call is about: the kernel's name of a map, the path or the id of calls that have
    /// only that (descriptors that they gave go by it as well), and otherwise nothing.
    pub subject: &'a str,
    /// The BTF that is to be loaded; empty for all other calls.
    pub btf: &'a [u8],
    /// The slots that are to be filled, ascending; empty for all other calls.
    pub slots: &'a [u32],
}

/// A descriptor of a [`FailingKernel`].
#[derive(Debug)]
pub struct FailingFd<F> {
    fd: F,
    subject: String,
    live: Arc<AtomicUsize>,
}

impl<K, D> FailingKernel<K, D>
where
    K: Kernel,
    D: Fn(Fault<'_>) -> Option<Errno> + Sync,
{
    /// Wraps a kernel. `decide` is asked at every call whether it fails, and with what.
    pub fn new(inner: K, decide: D) -> Self {
        Self {
            inner,
            decide,
            calls: AtomicUsize::new(0),
            live: Arc::default(),
            created: Mutex::default(),
            version: None,
            overlaps: false,
            patience: None,
            descriptors: None,
        }
    }

    /// Pretends to be that version.
    #[must_use]
    pub fn with_version(self, version: KernelVersion) -> Self {
        Self {
            version: Some(version),
            ..self
        }
    }

    /// Pretends that calls gain from being made at the same time.
    #[must_use]
    pub fn with_threads(self) -> Self {
        Self {
            overlaps: true,
            ..self
        }
    }

    /// Watches every batch of slots, and lets it take so long.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self {
            patience: Some(patience),
            ..self
        }
    }

    /// Pretends that a load can have so many descriptors at a time.
    #[must_use]
    pub fn with_descriptors(self, most: u64) -> Self {
        Self {
            descriptors: Some(most),
            ..self
        }
    }

    /// Number of calls so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Number of open descriptors.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// The ids of all maps that were made, those of templates and records included; asked for
    /// behind the caller's back, so that no call of it is counted.
    pub fn created(&self) -> Vec<u32> {
        self.created
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The other kernel.
    pub fn inner(&self) -> &K {
        &self.inner
    }

    fn ask(&self, call: &'static str, subject: &str) -> Result<(), Errno> {
        self.ask_about(call, subject, &[], &[])
    }

    fn ask_path(&self, call: &'static str, path: &Path) -> Result<(), Errno> {
        self.ask(call, &path.to_string_lossy())
    }

    fn ask_about(
        &self,
        call: &'static str,
        subject: &str,
        btf: &[u8],
        slots: &[u32],
    ) -> Result<(), Errno> {
        let index = self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = Fault {
            index,
            call,
            subject,
            btf,
            slots,
        };
        (self.decide)(fault).map_or(Ok(()), Err)
    }

    fn fill(
        &self,
        outer: &FailingFd<K::Fd>,
        slots: &[(u32, &FailingFd<K::Fd>)],
        recall: &Recall,
    ) -> Result<(), BatchError> {
        let slots: Vec<_> = slots.iter().map(|(index, map)| (*index, &map.fd)).collect();
        self.inner.update_batch(&outer.fd, &slots, recall)
    }

    fn add_created(&self, id: u32) {
        let created = self.created.lock();
        created.unwrap_or_else(PoisonError::into_inner).push(id);
    }

    fn wrap<F>(&self, fd: F, subject: &str) -> FailingFd<F> {
        self.live.fetch_add(1, Ordering::SeqCst);
        FailingFd {
            fd,
            subject: subject.to_owned(),
            live: Arc::clone(&self.live),
        }
    }
}

impl<K: fmt::Debug, D> fmt::Debug for FailingKernel<K, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailingKernel")
            .field("inner", &self.inner)
            .field("calls", &self.calls)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

impl<F> Drop for FailingFd<F> {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<F: MapId> MapId for FailingFd<F> {
    fn map_id(&self) -> Result<u32, Errno> {
        self.fd.map_id()
    }
}

impl<F: AsFd> AsFd for FailingFd<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<K, D> Kernel for FailingKernel<K, D>
where
    K: Kernel,
    D: Fn(Fault<'_>) -> Option<Errno> + Sync,
{
    type Fd = FailingFd<K::Fd>;
    type Lock = FailingFd<K::Lock>;

    fn load_btf(&self, blob: &[u8], log: Option<&mut String>) -> Result<Self::Fd, Errno> {
        self.ask_about("load_btf", "", blob, &[])?;
        let fd = self.inner.load_btf(blob, log)?;
        Ok(self.wrap(fd, ""))
    }

    fn create_map(&self, attributes: &MapAttributes<'_, Self::Fd>) -> Result<Self::Fd, Errno> {
        self.ask("create_map", attributes.name)?;
        let attributes = MapAttributes {
            map_type: attributes.map_type,
            name: attributes.name,
            key_size: attributes.key_size,
            value_size: attributes.value_size,
            max_entries: attributes.max_entries,
            map_flags: attributes.map_flags,
            map_extra: attributes.map_extra,
            numa_node: attributes.numa_node,
            inner: attributes.inner.map(|inner| &inner.fd),
            btf: attributes.btf.as_ref().map(|btf| MapBtf {
                fd: &btf.fd.fd,
                key_type_id: btf.key_type_id,
                value_type_id: btf.value_type_id,
            }),
        };
        let fd = self.inner.create_map(&attributes)?;
        if let Ok(info) = self.inner.info(&fd) {
            self.add_created(info.id);
        }
        Ok(self.wrap(fd, attributes.name))
    }

    fn update_batch(
        &self,
        outer: &Self::Fd,
        slots: &[(u32, &Self::Fd)],
        recall: &Recall,
    ) -> Result<(), BatchError> {
        let indices: Vec<u32> = slots.iter().map(|(index, _)| *index).collect();
        self.ask_about("update_batch", &outer.subject, &[], &indices)
            .map_err(|errno| BatchError { done: None, errno })?;
        for (done, (index, _)) in slots.iter().enumerate() {
            let refused = if recall.is_recalled() {
                Err(Recall::ERRNO)
            } else {
                self.ask_about("batch_element", &outer.subject, &[], &[*index])
            };
            if let Err(errno) = refused {
                let begun = slots.get(..done).filter(|begun| !begun.is_empty());
                begun.map_or(Ok(()), |begun| self.fill(outer, begun, &Recall::default()))?;
                return Err(BatchError {
                    done: Some(done),
                    errno,
                });
            }
        }
        self.fill(outer, slots, recall)
    }

    fn update_slot(&self, outer: &Self::Fd, index: u32, map: &Self::Fd) -> Result<(), Errno> {
        self.ask_about("update_slot", &outer.subject, &[], &[index])?;
        self.inner.update_slot(&outer.fd, index, &map.fd)
    }

    fn slot(&self, outer: &Self::Fd, index: u32) -> Result<Option<u32>, Errno> {
        self.ask_about("slot", &outer.subject, &[], &[index])?;
        self.inner.slot(&outer.fd, index)
    }

    fn clear_slot(&self, outer: &Self::Fd, index: u32) -> Result<(), Errno> {
        self.ask_about("clear_slot", &outer.subject, &[], &[index])?;
        self.inner.clear_slot(&outer.fd, index)
    }

    fn write(&self, map: &Self::Fd, index: u32, value: &[u8]) -> Result<(), Errno> {
        self.ask("write", &map.subject)?;
        self.inner.write(&map.fd, index, value)
    }

    fn read(&self, map: &Self::Fd, index: u32) -> Result<Vec<u8>, Errno> {
        self.ask("read", &map.subject)?;
        self.inner.read(&map.fd, index)
    }

    fn freeze(&self, map: &Self::Fd) -> Result<(), Errno> {
        self.ask("freeze", &map.subject)?;
        self.inner.freeze(&map.fd)
    }

    fn is_frozen(&self, map: &Self::Fd) -> Result<Option<bool>, Errno> {
        self.ask("is_frozen", &map.subject)?;
        self.inner.is_frozen(&map.fd)
    }

    fn info(&self, map: &Self::Fd) -> Result<MapInfo, Errno> {
        self.ask("info", &map.subject)?;
        self.inner.info(&map.fd)
    }

    fn pin(&self, map: &Self::Fd, path: &Path) -> Result<(), Errno> {
        self.ask("pin", &map.subject)?;
        self.inner.pin(&map.fd, path)
    }

    fn open_pin(&self, path: &Path) -> Result<Self::Fd, Errno> {
        self.ask_path("open_pin", path)?;
        let fd = self.inner.open_pin(path)?;
        Ok(self.wrap(fd, &path.to_string_lossy()))
    }

    fn load_programs(
        &self,
        request: &ProgramRequest<'_, Self::Fd>,
    ) -> Result<ProgramAnswer<Self::Fd>, ProgramFailure> {
        self.ask("load_programs", request.name)
            .map_err(|errno| ProgramFailure {
                stage: ProgramStage::Load,
                errno,
                program: None,
                log: None,
                messages: Vec::new(),
            })?;
        let maps: Vec<_> = request
            .maps
            .iter()
            .map(|wanted| RequestedMap {
                map: wanted.map,
                fd: wanted.fd.map(|fd| &fd.fd),
                contents: wanted.contents.clone(),
            })
            .collect();
        let answer = self.inner.load_programs(&ProgramRequest {
            object: request.object,
            name: request.name,
            kconfig: request.kconfig,
            maps: &maps,
            programs: request.programs,
        })?;
        let made = answer.maps.into_iter().map(|(index, fd)| {
            if let Ok(info) = self.inner.info(&fd) {
                self.add_created(info.id);
            }
            let name = request
                .maps
                .get(index)
                .map(|wanted| wanted.map.kernel_name());
            (index, self.wrap(fd, &name.unwrap_or_default()))
        });
        let maps = made.collect();
        let programs = answer.programs.into_iter().map(|program| MadeProgram {
            fd: self.wrap(program.fd, &program.name),
            name: program.name,
            id: program.id,
            maps: program.maps,
        });
        Ok(ProgramAnswer {
            programs: programs.collect(),
            maps,
            messages: answer.messages,
            memlock_raised: answer.memlock_raised,
        })
    }

    fn program_by_id(&self, id: u32) -> Result<Self::Fd, Errno> {
        self.ask("program_by_id", &id.to_string())?;
        let fd = self.inner.program_by_id(id)?;
        Ok(self.wrap(fd, &id.to_string()))
    }

    fn pinned_program(&self, path: &Path) -> Result<u32, Errno> {
        self.ask_path("pinned_program", path)?;
        self.inner.pinned_program(path)
    }

    fn reuse_pin(&self, path: &Path, flags: u32) -> Result<Pinned<Self::Fd>, Errno> {
        self.ask_path("reuse_pin", path)?;
        Ok(match self.inner.reuse_pin(path, flags)? {
            Pinned::Map(fd) => Pinned::Map(self.wrap(fd, &path.to_string_lossy())),
            Pinned::Other(what) => Pinned::Other(what),
        })
    }

    fn map_by_id(&self, id: u32) -> Result<Self::Fd, Errno> {
        self.ask("map_by_id", &id.to_string())?;
        let fd = self.inner.map_by_id(id)?;
        Ok(self.wrap(fd, &id.to_string()))
    }

    fn map_types(&self, info: &MapInfo, blobs: &mut BtfCache) -> Result<Option<MapTypes>, Errno> {
        self.ask("map_types", &info.id.to_string())?;
        self.inner.map_types(info, blobs)
    }

    fn inspect(&self, path: &Path) -> Result<PathKind, Errno> {
        self.ask_path("inspect", path)?;
        self.inner.inspect(path)
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf, Errno> {
        self.ask_path("canonical", path)?;
        self.inner.canonical(path)
    }

    fn lock_dir(&self, path: &Path) -> Result<Self::Lock, Errno> {
        self.ask_path("lock_dir", path)?;
        let lock = self.inner.lock_dir(path)?;
        Ok(self.wrap(lock, ""))
    }

    fn make_dir(&self, path: &Path) -> Result<(), Errno> {
        self.ask_path("make_dir", path)?;
        self.inner.make_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<(), Errno> {
        self.ask_path("remove_dir", path)?;
        self.inner.remove_dir(path)
    }

    fn unlink(&self, path: &Path) -> Result<(), Errno> {
        self.ask_path("unlink", path)?;
        self.inner.unlink(path)
    }

    fn overlaps(&self) -> bool {
        self.overlaps || self.inner.overlaps()
    }

    fn waits_once(&self) -> bool {
        let known = match self.version {
            None => self.inner.waits_once(),
            version => waits_once(version),
        };
        self.patience.is_none() && known
    }

    fn patience(&self, slots: usize) -> Duration {
        self.patience.unwrap_or_else(|| self.inner.patience(slots))
    }

    fn cpus(&self) -> usize {
        if self.overlaps { 2 } else { self.inner.cpus() }
    }

    fn page_size(&self) -> u32 {
        self.inner.page_size()
    }

    fn possible_cpus(&self) -> Result<u32, Errno> {
        self.ask("possible_cpus", "")?;
        self.inner.possible_cpus()
    }

    fn version(&self) -> Option<KernelVersion> {
        self.version.or_else(|| self.inner.version())
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn has(&self, feature: Feature) -> bool {
        self.ask("has", "").is_ok() && self.inner.has(feature)
    }

    fn config(&self) -> Result<KernelConfig, Errno> {
        self.ask("config", "")?;
        self.inner.config()
    }

    fn kernel_structs(&self, names: &[&str]) -> Option<Vec<bool>> {
        self.inner.kernel_structs(names)
    }

    fn raise_memlock(&self) -> Result<(), Errno> {
        self.ask("raise_memlock", "")?;
        self.inner.raise_memlock()
    }

    fn reserve_fds(&self, count: u64) -> Result<(), FdLimit> {
        let free = self.descriptors.unwrap_or_default();
        let refused = |errno| FdLimit {
            needed: count,
            errno,
            free,
        };
        self.ask("reserve_fds", "").map_err(refused)?;
        if self.descriptors.is_some_and(|free| count > free) {
            return Err(refused(Errno::EPERM));
        }
        self.inner.reserve_fds(count)
    }

    fn grow_fd_table(&self, fd: &Self::Fd, count: u64) {
        self.inner.grow_fd_table(&fd.fd, count);
    }
}
