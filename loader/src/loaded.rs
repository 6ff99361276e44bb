//! What a load leaves in the caller's hands.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use bpfplan_plan::{Diagnostic, MapType};

use crate::kconfig::ResolvedExtern;
use crate::kernel::{Errno, Kernel, MapId};
use crate::maps::InnerTemplate;

/// A finished load. Dropping it closes all descriptors; pinned maps live on.
#[derive(Debug)]
pub struct Loaded<K: Kernel> {
    /// The maps in the plan's order, without those that were left out or closed.
    pub maps: Vec<LoadedMap<K::Fd>>,
    /// Maps that the load has closed because it could have no descriptor for each, in the plan's
    /// order. That happens only to maps that are pinned and in slots, if
    /// [`crate::LoadOptions::raise_nofile`] is set and [`crate::LoadOptions::hold`] is not.
    pub closed: Vec<ClosedMap>,
    /// Warnings and notes: what differs from what the plan says, and why.
    pub diagnostics: Vec<Diagnostic>,
    /// The programs that were loaded, in libbpf's order.
    pub programs: Vec<LoadedProgram<K::Fd>>,
    /// Path of the load's record, if maps are pinned.
    pub record: Option<PathBuf>,
    /// Path of its record beside the programs' pins, where those are in a directory of their own.
    pub program_record: Option<PathBuf>,
}

/// A map that was created, or reused.
#[derive(Debug)]
pub struct LoadedMap<F> {
    /// Name in the plan.
    pub name: String,
    /// Kind of map.
    pub map_type: MapType,
    /// Once somebody has asked for it.
    pub(crate) id: OnceLock<u32>,
    /// The descriptor, owned; close-on-exec and above 2 on the real kernel.
    pub fd: F,
    /// Path of its pin.
    pub pinned: Option<PathBuf>,
    /// Whether the map was there before, pinned by name.
    pub reused: bool,
    /// Number of slots that were filled.
    pub filled: u32,
    /// Number of entries that the kernel was asked for, or that a reused map has.
    pub max_entries: u32,
    /// Whether the kernel has the types of key and value.
    pub btf: bool,
    /// What inner maps of an outer map look like.
    pub template: Option<InnerTemplate>,
    /// What the kernel configuration values of a `.kconfig` map became.
    pub externs: Vec<ResolvedExtern>,
}

/// A map that was created and is open no more; its pin keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedMap {
    /// Name in the plan.
    pub name: String,
    /// Kind of map.
    pub map_type: MapType,
    /// The kernel's id.
    pub id: u32,
    /// Path of its pin.
    pub pinned: PathBuf,
    /// Number of entries that the kernel was asked for.
    pub max_entries: u32,
}

/// A program that was loaded.
#[derive(Debug)]
pub struct LoadedProgram<F> {
    /// Name of its function.
    pub name: String,
    /// The kernel's id.
    pub id: u32,
    /// The descriptor, owned; close-on-exec and above 2 on the real kernel.
    pub fd: F,
    /// Path of its pin.
    pub pinned: Option<PathBuf>,
}

impl<K: Kernel> Loaded<K> {
    /// The map of that name, if it is open.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<&LoadedMap<K::Fd>> {
        self.maps.iter().find(|map| map.name == name)
    }

    /// The program of that name.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&LoadedProgram<K::Fd>> {
        self.programs.iter().find(|program| program.name == name)
    }
}

impl<F: MapId> LoadedMap<F> {
    /// The kernel's id. A load asks for it only where it pins; otherwise the first call of this
    /// function does (`BPF_OBJ_GET_INFO_BY_FD`), and remembers it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn id(&self) -> Result<u32, Errno> {
        if let Some(id) = self.id.get() {
            return Ok(*id);
        }
        let id = self.fd.map_id()?;
        Ok(*self.id.get_or_init(|| id))
    }
}

impl<F: AsFd> AsFd for LoadedProgram<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<F: AsFd> AsFd for LoadedMap<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
