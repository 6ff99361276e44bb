//! The executor: a plan's steps, one after another, all or nothing.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::Path;

use bpfplan_plan::rules::{Call, KernelVersion};
use bpfplan_plan::{Diagnostic, Map, MapType, Plan, Severity, Step, uapi};

use crate::codes;
use crate::create::{Created, Wanted};
use crate::error::{ErrorKind, LoadError};
use crate::journal::Journal;
use crate::kernel::{Errno, Kernel, MapAttributes};
use crate::loaded::{Loaded, LoadedMap};
use crate::options::LoadOptions;
use crate::pins::Pins;
use crate::preflight::{self, Ready};
use crate::record::{self, Record};
use crate::slots::{Filled, Filler};
use crate::why::Refusal;

/// From this version on maps can be frozen.
const FREEZE: KernelVersion = KernelVersion { major: 5, minor: 2 };

/// Loads a plan: creates its maps, fills their slots and, if the options say so, pins them.
///
/// # Errors
/// [`LoadError`]. Every pin and directory that this load made is removed again, and every
/// descriptor is closed; what was there before is never touched.
pub fn load<K: Kernel>(
    plan: &Plan,
    kernel: &K,
    options: &LoadOptions,
) -> Result<Loaded<K>, LoadError> {
    load_with(plan, kernel, options, &mut |_| ())
}

/// What a load is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A step of the plan.
    Step(Step),
    /// Make the directory for the pins.
    MakeDirectory(&'a Path),
    /// Write the record of the load, and pin it.
    Record(&'a Path),
    /// Pin a map.
    Pin {
        /// Index of the map in the plan.
        map: usize,
        /// Path of the pin.
        path: &'a Path,
    },
}

/// As [`load`], and tells `progress` what comes next.
///
/// # Errors
/// As [`load`].
pub fn load_with<K: Kernel>(
    plan: &Plan,
    kernel: &K,
    options: &LoadOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Loaded<K>, LoadError> {
    let Ready {
        pins,
        possible_cpus,
        diagnostics,
    } = preflight::check(plan, kernel, options)?;
    let mut load = Load {
        plan,
        kernel,
        possible_cpus: possible_cpus.unwrap_or(0),
        diagnostics,
        version: OnceCell::new(),
        memlock_raised: false,
        btf: None,
        template: None,
        maps: Vec::with_capacity(plan.maps.len()),
        filled: HashMap::new(),
        journal: Journal::default(),
        progress,
    };
    match load.run(pins.as_ref()) {
        Ok(ids) => Ok(load.finish(pins.as_ref(), ids)),
        Err(diagnostic) => Err(load.undo(diagnostic)),
    }
}

/// A load that is going on.
pub(crate) struct Load<'a, K: Kernel> {
    pub(crate) plan: &'a Plan,
    pub(crate) kernel: &'a K,
    pub(crate) possible_cpus: u32,
    /// Warnings and notes so far.
    pub(crate) diagnostics: Vec<Diagnostic>,
    version: OnceCell<Option<KernelVersion>>,
    pub(crate) memlock_raised: bool,
    pub(crate) btf: Option<K::Fd>,
    /// The template of the outer map that is made next.
    pub(crate) template: Option<K::Fd>,
    /// The maps so far, in the plan's order.
    pub(crate) maps: Vec<Created<K::Fd>>,
    /// Number of slots filled, by index of the outer map.
    filled: HashMap<usize, u32>,
    journal: Journal,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl<'a, K: Kernel> Load<'a, K> {
    /// Does everything; gives the maps' ids.
    fn run(&mut self, pins: Option<&Pins>) -> Result<Vec<u32>, Diagnostic> {
        let mut outers = Vec::new();
        for step in self.plan.steps() {
            (self.progress)(Progress::Step(step));
            match step {
                // All at once, below.
                Step::FillSlots { map } => outers.push(map),
                _ => self.step(step)?,
            }
        }
        for Filled { map, slots, note } in
            Filler::new(self.plan, self.kernel, &self.maps).fill_all(&outers)?
        {
            self.filled.insert(map, slots);
            self.diagnostics.extend(note);
        }
        let ids = self.ids()?;
        if let Some(pins) = pins {
            self.pin(pins, &ids)?;
        }
        Ok(ids)
    }

    fn step(&mut self, step: Step) -> Result<(), Diagnostic> {
        let Some(index) = step.map_index() else {
            self.load_btf();
            return Ok(());
        };
        let plan = self.plan;
        let Some(map) = plan.maps.get(index) else {
            return Ok(());
        };
        match step {
            // Pins by name are refused before the first step.
            Step::LoadBtf | Step::FillSlots { .. } | Step::Pin { .. } => {}
            Step::CreateTemplate { .. } => self.create_template(map)?,
            Step::CreateMap { .. } => self.create_map(map)?,
            Step::DropTemplate { .. } => self.template = None,
        }
        Ok(())
    }
}

impl<'a, K: Kernel> Load<'a, K> {
    fn create_template(&mut self, outer: &'a Map) -> Result<(), Diagnostic> {
        let Some(map) = &outer.inner else {
            return Ok(());
        };
        let wanted = Wanted {
            map,
            source: map.source.as_ref().or(outer.source.as_ref()),
            inner: None,
            code: codes::TEMPLATE_REFUSED,
            step: "creating the inner template",
        };
        let btf = self.btf.take();
        let created = self.create(&wanted, btf.as_ref());
        self.btf = btf;
        self.template = Some(created?.fd);
        Ok(())
    }

    fn create_map(&mut self, map: &'a Map) -> Result<(), Diagnostic> {
        let (btf, template) = (self.btf.take(), self.template.take());
        let wanted = Wanted {
            map,
            source: map.source.as_ref(),
            inner: template.as_ref(),
            code: codes::MAP_REFUSED,
            step: "creating the map",
        };
        let created = self.create(&wanted, btf.as_ref());
        self.btf = btf;
        self.template = template;
        self.maps.push(created?);
        Ok(())
    }

    /// The kernel's version, asked once.
    pub(crate) fn version(&self) -> Option<KernelVersion> {
        *self.version.get_or_init(|| self.kernel.version())
    }

    fn ids(&self) -> Result<Vec<u32>, Diagnostic> {
        let ids = self.plan.maps.iter().zip(&self.maps).map(|(map, created)| {
            self.kernel
                .info(&created.fd)
                .map(|info| info.id)
                .map_err(|errno| {
                    Diagnostic::error(
                        codes::INFO_REFUSED,
                        format!("reading its id failed: {errno}"),
                    )
                    .map(&map.name)
                    .at(map.source.as_ref(), "declared here")
                })
        });
        ids.collect()
    }

    /// Pins everything. The record comes first: its pin tells a second load in the same directory
    /// that it came too late, and `unload` finds what a killed load has left.
    fn pin(&mut self, pins: &Pins, ids: &[u32]) -> Result<(), Diagnostic> {
        if pins.create {
            (self.progress)(Progress::MakeDirectory(&pins.directory));
            self.kernel.make_dir(&pins.directory).map_err(|errno| {
                Diagnostic::error(
                    codes::PIN_DIRECTORY,
                    format!("making {} failed: {errno}", pins.directory.display()),
                )
            })?;
            self.journal.directory(pins.directory.clone());
        }
        self.pin_record(pins, ids)?;
        for (index, (map, name)) in self.plan.maps.iter().zip(&pins.names).enumerate() {
            let (Some(created), Some(id)) = (self.maps.get(index), ids.get(index)) else {
                continue;
            };
            let path = pins.path(name);
            (self.progress)(Progress::Pin {
                map: index,
                path: &path,
            });
            self.kernel
                .pin(&created.fd, &path)
                .map_err(|errno| self.pin_refused(map, &path, errno))?;
            self.journal.pin(path, *id);
        }
        Ok(())
    }

    fn pin_refused(&self, map: &Map, path: &Path, errno: Errno) -> Diagnostic {
        let refusal = Refusal {
            code: codes::PIN_REFUSED,
            step: format!("pinning it to {}", path.display()),
            call: Call::Pin,
            errno,
            map,
            source: map.source.as_ref(),
        };
        refusal.explain(self.kernel, self.plan)
    }

    /// Writes the record of the load into a map of its own, and pins that.
    fn pin_record(&mut self, pins: &Pins, ids: &[u32]) -> Result<(), Diagnostic> {
        let path = pins.record();
        (self.progress)(Progress::Record(&path));
        let refused = |step: &str, errno: Errno| {
            Diagnostic::error(
                codes::RECORD_REFUSED,
                format!(
                    "{step} the record of the load, {}, failed: {errno}",
                    path.display()
                ),
            )
        };
        let bytes = Record::new(self.plan, pins, ids).encode()?;
        let value_size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let attributes = MapAttributes {
            map_type: MapType(uapi::BPF_MAP_TYPE_ARRAY),
            name: record::NAME,
            key_size: 4,
            value_size,
            max_entries: 1,
            map_flags: 0,
            map_extra: 0,
            numa_node: 0,
            inner: None,
            btf: None,
        };
        let map = self
            .with_memlock(|kernel| kernel.create_map(&attributes))
            .map_err(|errno| refused("creating", errno))?;
        self.kernel
            .write(&map, 0, &bytes)
            .map_err(|errno| refused("writing", errno))?;
        match self.kernel.freeze(&map) {
            Ok(()) => {}
            Err(Errno::EINVAL) if self.version().is_some_and(|version| version < FREEZE) => {
                self.diagnostics.push(Diagnostic::new(
                    codes::RECORD_NOT_FROZEN,
                    Severity::Note,
                    "the record of the load can be written to: this kernel has no BPF_MAP_FREEZE (5.2)",
                ));
            }
            Err(errno) => return Err(refused("freezing", errno)),
        }
        let id = self
            .kernel
            .info(&map)
            .map_err(|errno| refused("reading the id of", errno))?
            .id;
        self.kernel.pin(&map, &path).map_err(|errno| match errno {
            Errno::EEXIST => Diagnostic::error(
                codes::RECORD_EXISTS,
                format!(
                    "another load has just pinned its maps in {}",
                    pins.directory.display()
                ),
            )
            .help(format!(
                "remove them with `bpfplan unload {}`, or pin into another directory",
                pins.directory.display()
            )),
            errno => refused("pinning", errno),
        })?;
        self.journal.pin(path.clone(), id);
        Ok(())
    }

    fn finish(self, pins: Option<&Pins>, ids: Vec<u32>) -> Loaded<K> {
        let Self {
            plan,
            maps,
            filled,
            diagnostics,
            ..
        } = self;
        let pinned = |index: usize| {
            let pins = pins?;
            Some(pins.path(pins.names.get(index)?))
        };
        let maps = plan.maps.iter().zip(maps).zip(ids).enumerate();
        let maps = maps.map(|(index, ((map, created), id))| LoadedMap {
            name: map.name.clone(),
            id,
            fd: created.fd,
            pinned: pinned(index),
            filled: filled.get(&index).copied().unwrap_or(0),
            max_entries: created.max_entries,
            btf: created.btf,
        });
        Loaded {
            maps: maps.collect(),
            diagnostics,
            record: pins.map(Pins::record),
        }
    }

    /// Removes what was made, and says what could not be removed.
    fn undo(mut self, cause: Diagnostic) -> LoadError {
        let left = self.journal.undo(self.kernel);
        self.template = None;
        while let Some(map) = self.maps.pop() {
            drop(map);
        }
        let mut diagnostics = vec![cause];
        diagnostics.extend(left);
        diagnostics.append(&mut self.diagnostics);
        LoadError::new(ErrorKind::Kernel, diagnostics)
    }
}
