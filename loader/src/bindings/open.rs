//! From an embedded plan to typed handles.

use std::path::PathBuf;

use bpfplan_plan::overrides::{Overridden, Override, Overrides};
use bpfplan_plan::{Bytes, Contents, Diagnostic, Plan, contents, format, validate};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{ErrorKind, LoadError};
use crate::loaded::{Loaded, LoadedProgram};
use crate::maps::{MapHandle, RawMap};
use crate::options::LoadOptions;
use crate::sys::{Descriptor, RealKernel};
use crate::unload::unload;

/// A plan that was read and is not loaded yet.
#[derive(Debug, Clone)]
pub struct OpenPlan {
    plan: Plan,
    overrides: Overrides,
    /// Contents that were given, by name of their map.
    contents: Vec<(&'static str, Vec<u8>)>,
}

impl OpenPlan {
    /// Reads a plan in either form; one that is embedded in the program is not copied.
    ///
    /// # Errors
    /// If it is of another version than this loader reads, or no plan.
    pub fn read(bytes: impl Into<Bytes>) -> Result<Self, LoadError> {
        let failed = |diagnostics| LoadError::new(ErrorKind::Plan, diagnostics);
        let plan = format::read_shared(&bytes.into()).map_err(|error| {
            let help = "build the program again, with one version of bpfplan-compiler and \
                        bpfplan-loader";
            let diagnostic =
                Diagnostic::error(bpfplan_plan::codes::PLAN_HEADER, error.to_string()).help(help);
            failed(vec![diagnostic])
        })?;
        validate::validate(&plan).map_err(failed)?;
        Ok(Self {
            plan,
            overrides: Overrides::default(),
            contents: Vec::new(),
        })
    }

    /// The plan as it was made.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The initial contents of a map of global data; zeros beyond what the plan has.
    ///
    /// # Panics
    /// If there is no memory for `T`.
    #[must_use]
    pub fn contents<T>(&self, map: &str) -> Box<T>
    where
        T: FromBytes + IntoBytes + Immutable + KnownLayout,
    {
        let Ok(mut value) = T::new_box_zeroed() else {
            std::alloc::handle_alloc_error(std::alloc::Layout::new::<T>());
        };
        let stored = self.plan.contents.iter().find(|stored| stored.map == map);
        let stored = stored.map_or(&[][..], |stored| stored.bytes.as_ref());
        let into = value.as_mut_bytes();
        let length = stored.len().min(into.len());
        if let (Some(into), Some(stored)) = (into.get_mut(..length), stored.get(..length)) {
            into.copy_from_slice(stored);
        }
        value
    }

    /// Sets the initial contents of a map of global data.
    pub fn set_contents<T>(&mut self, map: &'static str, value: &T)
    where
        T: IntoBytes + Immutable,
    {
        self.contents
            .push((map, contents::stored(value.as_bytes()).to_vec()));
    }

    /// Takes what was set of a map.
    pub fn change(&mut self, map: &OpenMap) {
        self.overrides.set.extend(map.set.iter().cloned());
    }

    /// Loads the plan with what was changed. The maps live as long as what is returned, or as
    /// handles of them, whatever [`LoadOptions::hold`] says.
    ///
    /// # Errors
    /// A change that the plan cannot have ([`ErrorKind::Refused`]), and those of [`crate::load()`].
    pub fn load(self, options: &LoadOptions) -> Result<LoadedPlan, LoadError> {
        let refused = |diagnostics| LoadError::new(ErrorKind::Refused, diagnostics);
        let mut overridden = if self.overrides.is_empty() {
            Overridden {
                plan: self.plan,
                warnings: Vec::new(),
            }
        } else {
            self.overrides.apply(&self.plan).map_err(refused)?
        };
        for (map, bytes) in self.contents {
            set(&mut overridden.plan, map, &bytes);
        }
        let options = LoadOptions {
            hold: true,
            ..options.clone()
        };
        let mut loaded = crate::load(&overridden.plan, &RealKernel::new(), &options)?;
        overridden.warnings.append(&mut loaded.diagnostics);
        loaded.diagnostics = overridden.warnings;
        Ok(LoadedPlan { loaded })
    }
}

/// Puts contents into a plan, if they are others than it has.
fn set(plan: &mut Plan, name: &str, bytes: &[u8]) {
    let Some(map) = plan.maps.iter_mut().find(|map| map.name == name) else {
        return;
    };
    let Some(data) = &map.data else {
        return;
    };
    // Behind the section are bytes that only align it.
    let size = usize::try_from(data.size).unwrap_or(usize::MAX);
    let bytes = contents::stored(bytes.get(..size).unwrap_or(bytes));
    let present = plan.contents.iter().find(|stored| stored.map == name);
    if present.map_or(&[][..], |stored| stored.bytes.as_ref()) == bytes {
        return;
    }
    map.data = Some(data.changed(bytes, data.size));
    plan.contents.retain(|stored| stored.map != name);
    if bytes.is_empty() {
        return;
    }
    plan.contents.push(Contents {
        map: name.to_owned(),
        bytes: Bytes::copy_from_slice(bytes),
    });
    // Contents stand in the order of the maps.
    let maps = plan.maps.iter();
    let order: std::collections::HashMap<&str, usize> = maps
        .enumerate()
        .map(|(index, map)| (map.name.as_str(), index))
        .collect();
    plan.contents
        .sort_by_key(|stored| order.get(stored.map.as_str()).copied());
}

/// The attributes of a map that may be changed before it is loaded.
#[derive(Debug, Clone)]
pub struct OpenMap {
    name: &'static str,
    set: Vec<Override>,
}

impl OpenMap {
    /// Nothing is changed yet.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            set: Vec::new(),
        }
    }

    /// Sets the number of entries; bytes for ring buffers, which are rounded up to what the
    /// kernel takes.
    pub fn set_max_entries(&mut self, entries: u32) -> &mut Self {
        self.set("max_entries", &entries.to_string())
    }

    /// Sets the `BPF_F_*` flags, all of them ([`bpfplan_plan::uapi`] has the constants).
    pub fn set_map_flags(&mut self, flags: u32) -> &mut Self {
        self.set("map_flags", &flags.to_string())
    }

    /// Sets the NUMA node; the kernel looks at it with `BPF_F_NUMA_NODE`.
    pub fn set_numa_node(&mut self, node: u32) -> &mut Self {
        self.set("numa_node", &node.to_string())
    }

    /// Sets the number of entries of the inner template.
    pub fn set_inner_max_entries(&mut self, entries: u32) -> &mut Self {
        self.set("inner.max_entries", &entries.to_string())
    }

    /// Sets a field; the last value counts.
    fn set(&mut self, field: &str, value: &str) -> &mut Self {
        let target = format!("{}/{field}", self.name);
        self.set.retain(|set| set.target() != target);
        self.set.push(Override::new(target, value));
        self
    }
}

/// A program in the kernel. Dropping it unloads it, unless it is pinned or attached.
pub type Program = LoadedProgram<Descriptor>;

/// The maps and programs of a plan in the kernel.
#[derive(Debug)]
pub struct LoadedPlan {
    loaded: Loaded<RealKernel>,
}

/// What a load has to say besides its maps.
#[derive(Debug)]
pub struct Report {
    /// Warnings and notes.
    pub diagnostics: Vec<Diagnostic>,
    /// Path of the load's record, if maps were pinned.
    pub record: Option<PathBuf>,
    /// Path of its record beside the programs' pins, where those are in a directory of their own.
    pub program_record: Option<PathBuf>,
}

impl LoadedPlan {
    /// Makes handles of the maps. If that fails, the pins of the load are removed again, except
    /// those by name, which the next load uses.
    ///
    /// # Errors
    /// Those of `handles`.
    pub fn finish<T>(
        mut self,
        handles: impl FnOnce(&mut Self) -> Result<T, LoadError>,
    ) -> Result<(T, Report), LoadError> {
        match handles(&mut self) {
            Ok(handles) => {
                let report = Report {
                    diagnostics: self.loaded.diagnostics,
                    record: self.loaded.record,
                    program_record: self.loaded.program_record,
                };
                Ok((handles, report))
            }
            Err(mut error) => {
                let records = [&self.loaded.program_record, &self.loaded.record];
                for record in records.into_iter().flatten() {
                    let pins = record.parent().unwrap_or(record);
                    if let Err(left) = unload(&RealKernel::new(), pins) {
                        error.diagnostics.extend(left.diagnostics);
                    }
                }
                Err(error)
            }
        }
    }

    /// The handle of a map, which takes over its descriptor.
    ///
    /// # Errors
    /// If the map is not what the handle says, or was asked for before, which generated code never
    /// does; `RingBuf` maps memory, which may fail.
    pub fn handle<H: MapHandle>(&mut self, name: &str) -> Result<H, LoadError> {
        self.handle_if_loaded(name)?.ok_or_else(|| {
            let message = "the load has no such map, or its handle was taken";
            let diagnostic = Diagnostic::error(bpfplan_plan::codes::PLAN_MAP, message);
            LoadError::new(ErrorKind::Plan, vec![diagnostic.map(name)])
        })
    }

    /// The program of that name, if it was loaded and not asked for before.
    pub fn program(&mut self, name: &str) -> Option<Program> {
        let programs = &mut self.loaded.programs;
        let place = programs.iter().position(|program| program.name == name)?;
        Some(programs.remove(place))
    }

    /// As [`LoadedPlan::handle`], for a map that a load without programs leaves out.
    ///
    /// # Errors
    /// As [`LoadedPlan::handle`].
    pub fn handle_if_loaded<H: MapHandle>(&mut self, name: &str) -> Result<Option<H>, LoadError> {
        let place = self.loaded.maps.iter().position(|map| map.name == name);
        let Some(place) = place else {
            return Ok(None);
        };
        let map = self.loaded.maps.swap_remove(place);
        Ok(Some(H::from_map(RawMap::from_loaded_map(map)?)?))
    }
}
