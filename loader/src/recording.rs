//! A kernel that only writes down what it is asked.

mod call;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpfplan_plan::compare::MapTypes;
use bpfplan_plan::rules::{KernelVersion, Target};
use bpfplan_plan::{Map, MaxEntries};

use crate::Recall;
use crate::kconfig::KernelConfig;
use crate::kernel::{
    BatchError, BtfCache, Errno, FdLimit, Feature, Identity, Kernel, MadeProgram, MapAttributes,
    MapId, MapInfo, PathKind, Pinned, ProgramAnswer, ProgramFailure, ProgramRequest,
};

pub use call::{RecordedAttributes, RecordedCall};

/// A kernel that accepts every call, writes it down and touches nothing.
///
/// It backs `--dry-run` and tests. Its descriptors and ids count up from 3 and 1, so the same
/// plan gives the same calls everywhere; what only a machine knows is given to [`Self::new`].
#[derive(Debug)]
pub struct RecordingKernel {
    target: Target,
    facts: KernelFacts,
    structs: Structs,
    state: Arc<Mutex<State>>,
}

/// Which of these structs the kernel's own BTF has, as [`Kernel::kernel_structs`].
type Structs = fn(&[&str]) -> Option<Vec<bool>>;

/// What a [`RecordingKernel`] answers where plans have kernel configuration values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFacts {
    /// [`Kernel::identity`].
    pub identity: Identity,
    /// The features that [`Kernel::has`] confirms.
    pub features: Vec<Feature>,
    /// [`Kernel::config`].
    pub config: Result<KernelConfig, Errno>,
}

impl Default for KernelFacts {
    fn default() -> Self {
        Self {
            identity: Identity::default(),
            features: Vec::new(),
            config: Err(Errno::ENOENT),
        }
    }
}

impl KernelFacts {
    /// Those of another kernel.
    pub fn of<K: Kernel>(kernel: &K) -> Self {
        let features = [Feature::BpfCookie, Feature::SyscallWrapper];
        Self {
            identity: kernel.identity(),
            features: features
                .into_iter()
                .filter(|feature| kernel.has(*feature))
                .collect(),
            config: kernel.config(),
        }
    }
}

/// A descriptor of a [`RecordingKernel`].
#[derive(Debug)]
pub struct PretendFd {
    number: u32,
    /// Id of the map or the program; 0 for BTF.
    id: u32,
    program: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<RecordedCall>,
    descriptors: u32,
    open: BTreeSet<u32>,
    maps: BTreeMap<u32, PretendMap>,
    programs: u32,
    /// Ids of maps, and those of programs with a mark.
    pins: BTreeMap<PathBuf, (u32, bool)>,
    directories: BTreeSet<PathBuf>,
}

#[derive(Debug)]
struct PretendMap {
    info: MapInfo,
    frozen: bool,
    /// Contents of element 0, for the record of a load.
    value: Vec<u8>,
    /// Ids of the maps in an outer map's slots.
    slots: BTreeMap<u32, u32>,
}

impl PretendMap {
    fn new(info: MapInfo) -> Self {
        Self {
            info,
            frozen: false,
            value: Vec::new(),
            slots: BTreeMap::new(),
        }
    }
}

/// First number of a descriptor: 0 to 2 are the standard streams.
const FIRST_FD: u32 = 3;

impl RecordingKernel {
    /// A kernel with nothing in it, for a machine with that page size and number of CPUs.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            structs: |_| None,
            facts: KernelFacts::default(),
            state: Arc::default(),
        }
    }

    /// Has the function say which structs the kernel's BTF has, on which it depends who makes maps
    /// with references to objects; without it, there is no BTF.
    #[must_use]
    pub fn with_structs(self, structs: fn(&[&str]) -> Option<Vec<bool>>) -> Self {
        Self { structs, ..self }
    }

    /// Answers what a kernel's configuration and features are as given; without this it has none.
    #[must_use]
    pub fn with_facts(self, facts: KernelFacts) -> Self {
        Self { facts, ..self }
    }

    /// Pretends that there is a directory of a BPF file system at the path.
    #[must_use]
    pub fn with_directory(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().components().collect();
        lock(&self.state).directories.insert(path);
        self
    }

    /// The calls so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<RecordedCall> {
        lock(&self.state).calls.clone()
    }

    /// Number of descriptors that are open.
    #[must_use]
    pub fn open_descriptors(&self) -> usize {
        lock(&self.state).open.len()
    }

    /// The pins that there are.
    #[must_use]
    pub fn pins(&self) -> Vec<PathBuf> {
        lock(&self.state).pins.keys().cloned().collect()
    }

    /// The directories that there are.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        lock(&self.state).directories.iter().cloned().collect()
    }

    /// A map that libbpf makes with the programs.
    fn add_map(&self, state: &mut State, map: &Map) -> PretendFd {
        let id = next_id(state);
        let info = MapInfo {
            id,
            map_type: map.map_type,
            key_size: map.key_size,
            value_size: map.value_size,
            max_entries: match map.max_entries {
                MaxEntries::Count(count) => count,
                MaxEntries::PossibleCpus => self.target.possible_cpus,
            },
            map_flags: map.map_flags,
            map_extra: map.map_extra,
            btf_id: 0,
            btf_key_type_id: 0,
            btf_value_type_id: 0,
        };
        state.maps.insert(id, PretendMap::new(info));
        self.open(state, id)
    }

    fn open(&self, state: &mut State, id: u32) -> PretendFd {
        let number = FIRST_FD.saturating_add(state.descriptors);
        state.descriptors = state.descriptors.saturating_add(1);
        state.open.insert(number);
        PretendFd {
            number,
            id,
            program: false,
            state: Arc::clone(&self.state),
        }
    }
}

fn next_id(state: &State) -> u32 {
    let last = u32::try_from(state.maps.len()).unwrap_or(u32::MAX);
    last.saturating_add(1)
}

/// The state stays usable even if a thread died while holding it: it is only written whole.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PretendFd {
    /// Its number, which no other descriptor of the same kernel ever has.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl MapId for PretendFd {
    fn map_id(&self) -> Result<u32, Errno> {
        let known = lock(&self.state).maps.contains_key(&self.id) && !self.program;
        known.then_some(self.id).ok_or(Errno::EINVAL)
    }
}

impl Drop for PretendFd {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.open.remove(&self.number);
        state.calls.push(RecordedCall::Close { fd: self.number });
    }
}

impl Kernel for RecordingKernel {
    type Fd = PretendFd;
    type Lock = ();

    fn load_btf(&self, blob: &[u8], log: Option<&mut String>) -> Result<PretendFd, Errno> {
        if let Some(log) = log {
            log.clear();
        }
        let mut state = lock(&self.state);
        let fd = self.open(&mut state, 0);
        state.calls.push(RecordedCall::LoadBtf {
            size: blob.len(),
            fd: fd.number,
        });
        Ok(fd)
    }

    fn create_map(&self, attributes: &MapAttributes<'_, PretendFd>) -> Result<PretendFd, Errno> {
        let mut state = lock(&self.state);
        let id = next_id(&state);
        let fd = self.open(&mut state, id);
        let info = MapInfo {
            id,
            map_type: attributes.map_type,
            key_size: attributes.key_size,
            value_size: attributes.value_size,
            max_entries: attributes.max_entries,
            map_flags: attributes.map_flags,
            map_extra: attributes.map_extra,
            btf_id: 0,
            btf_key_type_id: 0,
            btf_value_type_id: 0,
        };
        state.maps.insert(id, PretendMap::new(info));
        let attributes = RecordedAttributes::new(attributes);
        state.calls.push(RecordedCall::CreateMap {
            attributes,
            fd: fd.number,
        });
        Ok(fd)
    }

    fn update_batch(
        &self,
        outer: &PretendFd,
        slots: &[(u32, &PretendFd)],
        _: &Recall,
    ) -> Result<(), BatchError> {
        let mut state = lock(&self.state);
        if let Some(map) = state.maps.get_mut(&outer.id) {
            map.slots
                .extend(slots.iter().map(|(index, map)| (*index, map.id)));
        }
        let slots = slots.iter().map(|(index, map)| (*index, map.number));
        state.calls.push(RecordedCall::UpdateBatch {
            map: outer.number,
            slots: slots.collect(),
        });
        Ok(())
    }

    fn update_slot(&self, outer: &PretendFd, index: u32, map: &PretendFd) -> Result<(), Errno> {
        let call = RecordedCall::UpdateSlot {
            map: outer.number,
            index,
            value: map.number,
        };
        let mut state = lock(&self.state);
        if let Some(outer) = state.maps.get_mut(&outer.id) {
            outer.slots.insert(index, map.id);
        }
        state.calls.push(call);
        Ok(())
    }

    fn slot(&self, outer: &PretendFd, index: u32) -> Result<Option<u32>, Errno> {
        let state = lock(&self.state);
        let outer = state.maps.get(&outer.id).ok_or(Errno::EINVAL)?;
        Ok(outer.slots.get(&index).copied())
    }

    fn clear_slot(&self, outer: &PretendFd, index: u32) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        let slots = &mut state.maps.get_mut(&outer.id).ok_or(Errno::EINVAL)?.slots;
        slots.remove(&index).ok_or(Errno::ENOENT)?;
        state.calls.push(RecordedCall::ClearSlot {
            map: outer.number,
            index,
        });
        Ok(())
    }

    fn write(&self, map: &PretendFd, index: u32, value: &[u8]) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        let call = RecordedCall::Write {
            map: map.number,
            index,
            size: value.len(),
        };
        state.calls.push(call);
        state.maps.get_mut(&map.id).ok_or(Errno::EINVAL)?.value = value.to_vec();
        Ok(())
    }

    fn read(&self, map: &PretendFd, _: u32) -> Result<Vec<u8>, Errno> {
        Ok(lock(&self.state)
            .maps
            .get(&map.id)
            .ok_or(Errno::EINVAL)?
            .value
            .clone())
    }

    fn freeze(&self, map: &PretendFd) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        state.calls.push(RecordedCall::Freeze { map: map.number });
        state.maps.get_mut(&map.id).ok_or(Errno::EINVAL)?.frozen = true;
        Ok(())
    }

    fn is_frozen(&self, map: &PretendFd) -> Result<Option<bool>, Errno> {
        Ok(lock(&self.state).maps.get(&map.id).map(|map| map.frozen))
    }

    fn info(&self, map: &PretendFd) -> Result<MapInfo, Errno> {
        Ok(lock(&self.state)
            .maps
            .get(&map.id)
            .ok_or(Errno::EINVAL)?
            .info
            .clone())
    }

    fn pin(&self, map: &PretendFd, path: &Path) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        if state.pins.contains_key(path) {
            return Err(Errno::EEXIST);
        }
        state.pins.insert(path.to_owned(), (map.id, map.program));
        state.calls.push(RecordedCall::Pin {
            map: map.number,
            path: path.to_owned(),
        });
        Ok(())
    }

    fn open_pin(&self, path: &Path) -> Result<PretendFd, Errno> {
        let mut state = lock(&self.state);
        match *state.pins.get(path).ok_or(Errno::ENOENT)? {
            (id, false) => Ok(self.open(&mut state, id)),
            (_, true) => Err(Errno::EINVAL),
        }
    }

    fn load_programs(
        &self,
        request: &ProgramRequest<'_, PretendFd>,
    ) -> Result<ProgramAnswer<PretendFd>, ProgramFailure> {
        let mut state = lock(&self.state);
        let handed = request.maps.iter().filter_map(|it| it.fd);
        let handed: Vec<&PretendFd> = handed.collect();
        state.calls.push(RecordedCall::OpenObject {
            size: request.object.len(),
            maps: handed.iter().map(|fd| fd.number).collect(),
        });
        let mut maps = Vec::new();
        for (index, wanted) in request.maps.iter().enumerate() {
            if wanted.fd.is_some() {
                continue;
            }
            let fd = self.add_map(&mut state, wanted.map);
            state.calls.push(RecordedCall::MakeMap {
                name: wanted.map.name.clone(),
                map_type: wanted.map.map_type,
                fd: fd.number,
            });
            maps.push((index, fd));
        }
        let mut programs = Vec::new();
        for program in request.programs.iter().filter(|it| it.is_loaded()) {
            state.programs = state.programs.saturating_add(1);
            let id = state.programs;
            let mut fd = self.open(&mut state, id);
            fd.program = true;
            state.calls.push(RecordedCall::LoadProgram {
                name: program.name.clone(),
                section: program.section.clone(),
                fd: fd.number,
            });
            // Which maps a program uses, only libbpf knows; here it is all of them.
            let made = maps.iter().map(|(_, map)| map.id);
            let maps = handed.iter().map(|map| map.id).chain(made).collect();
            programs.push(MadeProgram {
                name: program.name.clone(),
                id,
                fd,
                maps,
            });
        }
        Ok(ProgramAnswer {
            programs,
            maps,
            messages: Vec::new(),
            memlock_raised: false,
        })
    }

    fn program_by_id(&self, id: u32) -> Result<PretendFd, Errno> {
        let mut state = lock(&self.state);
        if id == 0 || id > state.programs {
            return Err(Errno::ENOENT);
        }
        let mut fd = self.open(&mut state, id);
        fd.program = true;
        Ok(fd)
    }

    fn pinned_program(&self, path: &Path) -> Result<u32, Errno> {
        match *lock(&self.state).pins.get(path).ok_or(Errno::ENOENT)? {
            (id, true) => Ok(id),
            (_, false) => Err(Errno::EINVAL),
        }
    }

    fn reuse_pin(&self, path: &Path, _: u32) -> Result<Pinned<PretendFd>, Errno> {
        self.open_pin(path).map(Pinned::Map)
    }

    fn map_by_id(&self, id: u32) -> Result<PretendFd, Errno> {
        let mut state = lock(&self.state);
        if !state.maps.contains_key(&id) {
            return Err(Errno::ENOENT);
        }
        Ok(self.open(&mut state, id))
    }

    fn map_types(&self, _: &MapInfo, _: &mut BtfCache) -> Result<Option<MapTypes>, Errno> {
        Ok(None)
    }

    fn inspect(&self, path: &Path) -> Result<PathKind, Errno> {
        let state = lock(&self.state);
        if state.directories.contains(path) {
            Ok(PathKind::Directory { bpffs: true })
        } else if state.pins.contains_key(path) {
            Ok(PathKind::Other)
        } else {
            Err(Errno::ENOENT)
        }
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf, Errno> {
        Ok(path.to_owned())
    }

    fn lock_dir(&self, path: &Path) -> Result<(), Errno> {
        let known = lock(&self.state).directories.contains(path);
        known.then_some(()).ok_or(Errno::ENOENT)
    }

    fn make_dir(&self, path: &Path) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        if !state.directories.insert(path.to_owned()) {
            return Err(Errno::EEXIST);
        }
        state.calls.push(RecordedCall::MakeDir {
            path: path.to_owned(),
        });
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        if state.pins.keys().any(|pin| pin.parent() == Some(path)) {
            return Err(Errno::ENOTEMPTY);
        }
        if !state.directories.remove(path) {
            return Err(Errno::ENOENT);
        }
        state.calls.push(RecordedCall::RemoveDir {
            path: path.to_owned(),
        });
        Ok(())
    }

    fn unlink(&self, path: &Path) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        state.pins.remove(path).ok_or(Errno::ENOENT)?;
        state.calls.push(RecordedCall::Unlink {
            path: path.to_owned(),
        });
        Ok(())
    }

    fn page_size(&self) -> u32 {
        self.target.page_size
    }

    fn possible_cpus(&self) -> Result<u32, Errno> {
        Ok(self.target.possible_cpus)
    }

    fn version(&self) -> Option<KernelVersion> {
        None
    }

    fn identity(&self) -> Identity {
        self.facts.identity.clone()
    }

    fn has(&self, feature: Feature) -> bool {
        self.facts.features.contains(&feature)
    }

    fn config(&self) -> Result<KernelConfig, Errno> {
        self.facts.config.clone()
    }

    fn kernel_structs(&self, names: &[&str]) -> Option<Vec<bool>> {
        (self.structs)(names)
    }

    fn raise_memlock(&self) -> Result<(), Errno> {
        Ok(())
    }

    fn reserve_fds(&self, _: u64) -> Result<(), FdLimit> {
        Ok(())
    }
}
