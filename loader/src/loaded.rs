//! What a load leaves in the caller's hands.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use bpfplan_plan::Diagnostic;

use crate::kconfig::ResolvedExtern;
use crate::kernel::Kernel;

/// A finished load. Dropping it closes all descriptors; pinned maps live on.
#[derive(Debug)]
pub struct Loaded<K: Kernel> {
    /// The maps in the plan's order.
    pub maps: Vec<LoadedMap<K::Fd>>,
    /// Warnings and notes: what differs from what the plan says, and why.
    pub diagnostics: Vec<Diagnostic>,
    /// Path of the load's record, if maps are pinned.
    pub record: Option<PathBuf>,
}

/// A map that was created.
#[derive(Debug)]
pub struct LoadedMap<F> {
    /// Name in the plan.
    pub name: String,
    /// The kernel's id.
    pub id: u32,
    /// The descriptor, owned; close-on-exec and above 2 on the real kernel.
    pub fd: F,
    /// Path of its pin.
    pub pinned: Option<PathBuf>,
    /// Number of slots that were filled.
    pub filled: u32,
    /// Number of entries that the kernel was asked for.
    pub max_entries: u32,
    /// Whether the kernel has the types of key and value.
    pub btf: bool,
    /// What the kernel configuration values of a `.kconfig` map became.
    pub externs: Vec<ResolvedExtern>,
}

impl<K: Kernel> Loaded<K> {
    /// The map of that name.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<&LoadedMap<K::Fd>> {
        self.maps.iter().find(|map| map.name == name)
    }
}

impl<F: AsFd> AsFd for LoadedMap<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
