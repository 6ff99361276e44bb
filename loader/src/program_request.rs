//! What is asked of libbpf when programs are loaded, and what it answers.

use std::ffi::CStr;
use std::fmt;

use bpfplan_plan::{Map, Program};

use crate::kernel::Errno;

/// A load of an object's programs over the maps of a plan.
pub struct ProgramRequest<'a, F> {
    /// The object, with static slots that libbpf does not see: filling them is the loader's.
    pub object: &'a [u8],
    /// File name of the object; libbpf calls maps of global data after it.
    pub name: &'a str,
    /// Lines `CONFIG_X=...` that answer the object's kernel configuration values
    /// (`bpf_object_open_opts.kconfig`).
    pub kconfig: Option<&'a CStr>,
    /// The maps of the plan. Maps of the object that are not among them are left out.
    pub maps: &'a [RequestedMap<'a, F>],
    /// The programs of the plan, which must be those of the object.
    pub programs: &'a [Program],
}

/// A map for programs.
#[derive(Debug)]
pub struct RequestedMap<'a, F> {
    /// The map.
    pub map: &'a Map,
    /// Its descriptor; without one, libbpf makes the map.
    pub fd: Option<&'a F>,
    /// The contents of a map that libbpf makes; `None` for those that the object gives.
    pub contents: Option<Vec<u8>>,
}

/// Programs that are loaded.
#[derive(Debug)]
pub struct ProgramAnswer<F> {
    /// Those that were to be loaded, in libbpf's order.
    pub programs: Vec<MadeProgram<F>>,
    /// The maps that libbpf made, by index in [`ProgramRequest::maps`], ascending.
    pub maps: Vec<(usize, F)>,
    /// What libbpf said meanwhile.
    pub messages: Vec<String>,
    /// Whether libbpf raised `RLIMIT_MEMLOCK`, as it does before Linux 5.11.
    pub memlock_raised: bool,
}

/// A program in the kernel.
#[derive(Debug)]
pub struct MadeProgram<F> {
    /// Name of its function.
    pub name: String,
    /// The kernel's id.
    pub id: u32,
    /// The descriptor, owned.
    pub fd: F,
    /// Ids of the maps that it holds.
    pub maps: Vec<u32>,
}

/// Programs that were not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFailure {
    /// How far it got.
    pub stage: ProgramStage,
    /// The error; from 4000 on, one of libbpf's own.
    pub errno: Errno,
    /// The program that was refused, if it was one.
    pub program: Option<String>,
    /// The verifier's log of that program.
    pub log: Option<String>,
    /// What libbpf said, without the log.
    pub messages: Vec<String>,
}

/// A part of a load of programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramStage {
    /// `bpf_object__open_mem`.
    Open,
    /// Comparing the object with the plan: in what they differ.
    Compare(String),
    /// Handing over the map of that name.
    Map(String),
    /// `bpf_object__load`.
    Load,
    /// Taking over what was made.
    Take,
}

impl<F> fmt::Debug for ProgramRequest<'_, F> {
    /// Without the bytes of the object.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramRequest")
            .field("name", &self.name)
            .field("size", &self.object.len())
            .finish_non_exhaustive()
    }
}
