//! The executor: a plan's steps, one after another, all or nothing.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bpfplan_plan::rules::{KernelVersion, SpecialFields};
use bpfplan_plan::{BtfIds, Diagnostic, Map, Plan, Step};

use crate::by_name::ByName;
use crate::chunks::{Chunk, is_filled_in_chunks};
use crate::codes;
use crate::create::{Created, Wanted};
use crate::error::{ErrorKind, LoadError};
use crate::journal::Journal;
use crate::kconfig::Resolved;
use crate::kernel::{Kernel, MadeProgram};
use crate::loaded::{ClosedMap, Loaded, LoadedMap, LoadedProgram};
use crate::maps::InnerTemplate;
use crate::options::LoadOptions;
use crate::pins::Pins;
use crate::preflight::{self, Ready};
use crate::program_rules::Origin;
use crate::reused_programs::ProgramChange;
use crate::reused_slots::Change;
use crate::scarce::Closed;
use crate::slots::{Filled, Filler, Way};
use crate::together::{Early, Large};

/// How often a load is begun if others change the pins meanwhile.
const ATTEMPTS: usize = 8;

/// Loads a plan: creates its maps, or reuses those that are pinned by name, fills their slots and
/// pins them as the plan and the options say.
///
/// Of two loads that want to pin the same map by name, one creates it, and the other begins again
/// and reuses it.
///
/// # Errors
/// [`LoadError`]. Every pin and directory that this load made is removed again, slots of reused
/// maps are put back, and every descriptor is closed; nothing else that was there is touched.
pub fn load<K: Kernel>(
    plan: &Plan,
    kernel: &K,
    options: &LoadOptions,
) -> Result<Loaded<K>, LoadError> {
    load_with(plan, kernel, options, &mut |_| ControlFlow::Continue(()))
}

/// What a load is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A step of the plan.
    Step(Step),
    /// Use the map that is pinned there instead of creating one.
    Reuse {
        /// Index of the map in the plan.
        map: usize,
        /// Path of the pin.
        path: &'a Path,
    },
    /// Begin again, because somebody else has changed the pins.
    Again,
    /// Fill slots of outer maps, or those of them that are still empty, in this way: those of all
    /// outer maps, unless some maps come with programs, or are closed when they are in slots.
    Fill(Way),
    /// Create so many large maps at the same time, before the others or while slots are filled;
    /// each is told of again when its turn comes.
    Together {
        /// Number of maps.
        maps: usize,
        /// Number of threads.
        threads: usize,
    },
    /// Create so many maps in so many chunks, each of which is closed when its slots are filled:
    /// there are fewer descriptors than maps.
    Chunks {
        /// Number of maps.
        maps: usize,
        /// Number of chunks.
        chunks: usize,
    },
    /// Go on with what was told last; this is asked now and then, where it takes long.
    GoOn,
    /// Make a directory for pins.
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
    /// Pin a program.
    PinProgram {
        /// Name of the program.
        name: &'a str,
        /// Path of the pin.
        path: &'a Path,
    },
}

/// As [`load`], and tells `progress` what comes next. If it answers [`ControlFlow::Break`], the
/// load is undone instead; that is how a signal ends a load without leaving anything.
///
/// # Errors
/// As [`load`], and [`ErrorKind::Interrupted`].
pub fn load_with<K: Kernel>(
    plan: &Plan,
    kernel: &K,
    options: &LoadOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Loaded<K>, LoadError> {
    for _ in 1..ATTEMPTS {
        match attempt(plan, kernel, options, progress) {
            Err(Failed { raced: true, .. }) => {}
            result => return result.map_err(|failed| failed.error),
        }
        let mut interrupted = false;
        ask(progress, &mut interrupted, Progress::Again)
            .map_err(|problem| LoadError::new(ErrorKind::Interrupted, vec![problem]))?;
    }
    attempt(plan, kernel, options, progress).map_err(|Failed { mut error, raced }| {
        if raced {
            let message =
                format!("others changed the pins during each of {ATTEMPTS} attempts to load");
            let problem = Diagnostic::error(codes::PIN_RACE, message);
            let problem = problem.help("try again when no other load or unload is at work");
            error.diagnostics.insert(0, problem);
        }
        error
    })
}

/// A load that failed, with nothing left of it.
struct Failed {
    error: LoadError,
    /// Whether somebody else has changed the pins meanwhile, so that it may work when begun again.
    raced: bool,
}

/// One attempt at a load.
fn attempt<K: Kernel>(
    plan: &Plan,
    kernel: &K,
    options: &LoadOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Loaded<K>, Failed> {
    let Ready {
        pins,
        program_pins,
        named,
        possible_cpus,
        kconfig,
        origins,
        chunks,
        diagnostics,
    } = preflight::check(plan, kernel, options).map_err(|error| Failed {
        error,
        raced: false,
    })?;
    let mut load = Load {
        plan,
        kernel,
        options,
        origins,
        named,
        possible_cpus: possible_cpus.unwrap_or(0),
        diagnostics,
        version: OnceCell::new(),
        memlock_raised: false,
        btf: None,
        btf_blob: Cow::Borrowed(&plan.btf),
        template: None,
        early: HashMap::new(),
        template_btf: HashMap::new(),
        maps: plan.maps.iter().map(|_| None).collect(),
        closed: HashMap::new(),
        programs: Vec::new(),
        contents: plan.contents_by_map(),
        kconfig,
        filled: HashMap::new(),
        journal: Journal::default(),
        not_kept: false,
        program_changes: Vec::new(),
        changes: Vec::new(),
        changes_begun: false,
        locks: Vec::new(),
        progress,
        interrupted: false,
        raced: false,
    };
    let directories: Vec<&Pins> = pins.iter().chain(&program_pins).collect();
    match load.run(&directories, &chunks) {
        Ok(ids) => Ok(load.finish(&directories, ids)),
        Err(diagnostic) => Err(load.undo(diagnostic)),
    }
}

/// A load that is going on.
pub(crate) struct Load<'a, K: Kernel> {
    pub(crate) plan: &'a Plan,
    pub(crate) kernel: &'a K,
    pub(crate) options: &'a LoadOptions,
    /// Who makes the maps, in the plan's order.
    pub(crate) origins: Vec<Origin>,
    /// The maps that are pinned by name.
    pub(crate) named: Option<ByName<K::Fd>>,
    pub(crate) possible_cpus: u32,
    /// Warnings and notes so far.
    pub(crate) diagnostics: Vec<Diagnostic>,
    version: OnceCell<Option<KernelVersion>>,
    pub(crate) memlock_raised: bool,
    pub(crate) btf: Option<K::Fd>,
    /// The blob behind it: the plan's, or what was left of it for an older kernel.
    pub(crate) btf_blob: Cow<'a, [u8]>,
    /// The template of the outer map that is made next.
    pub(crate) template: Option<K::Fd>,
    /// Large maps that were created before their turn.
    pub(crate) early: Early<K::Fd>,
    /// The type ids that the kernel took for templates, by index of the outer map.
    pub(crate) template_btf: HashMap<usize, BtfIds>,
    /// The maps in the plan's order, `None` for those that are not made yet, or not open any more.
    pub(crate) maps: Vec<Option<Created<K::Fd>>>,
    /// The maps that are made and not open any more, by index.
    pub(crate) closed: HashMap<usize, Closed>,
    /// The programs, once they are loaded.
    pub(crate) programs: Vec<MadeProgram<K::Fd>>,
    /// The initial contents by name of the map.
    pub(crate) contents: HashMap<&'a str, &'a [u8]>,
    /// The values of the `.kconfig` map.
    pub(crate) kconfig: Resolved,
    /// Number of slots filled, by index of the outer map.
    pub(crate) filled: HashMap<usize, u32>,
    pub(crate) journal: Journal,
    /// Slots of reused program arrays that this load has written.
    pub(crate) program_changes: Vec<ProgramChange<K::Fd>>,
    /// Some map would live nowhere.
    pub(crate) not_kept: bool,
    /// Slots of reused maps that this load writes.
    pub(crate) changes: Vec<Change<K::Fd>>,
    /// Whether it has begun to write them.
    pub(crate) changes_begun: bool,
    /// The directories for pins, held from the first pin until the load is done or undone.
    pub(crate) locks: Vec<K::Lock>,
    pub(crate) progress: &'a mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    pub(crate) interrupted: bool,
    /// Whether somebody else has changed the pins since this load has looked at them.
    pub(crate) raced: bool,
}

impl<'a, K: Kernel> Load<'a, K> {
    /// Does everything; gives the ids of the maps that are made, if pins want them.
    fn run(
        &mut self,
        directories: &[&Pins],
        chunks: &[Chunk],
    ) -> Result<Vec<Option<u32>>, Diagnostic> {
        let (mut outers, mut reused) = (Vec::new(), Vec::new());
        let programs = self.options.programs.to_load().is_some();
        // Those that come with the programs as well: their creation is no step.
        for map in 0..self.plan.maps.len() {
            if self.is_done(Step::CreateMap { map }) {
                self.reuse(map)?;
            }
        }
        let steps = self.plan.steps_with(programs);
        let in_chunks: HashSet<usize> = chunks.iter().flat_map(|it| &it.maps).copied().collect();
        let large = if chunks.is_empty() {
            self.large(&steps)
        } else {
            Large::First(Vec::new())
        };
        let while_filling: HashSet<usize> = large.last().collect();
        let (mut begun, mut last) = (false, Vec::new());
        for step in steps {
            if let (Large::First(large), false) = (&large, begun || step == Step::LoadBtf) {
                begun = true;
                self.create_large(large, &[])?;
            }
            if matches!(step, Step::Pin { .. }) {
                // Last of all, below.
                continue;
            }
            if step != Step::LoadPrograms && self.is_done(step) {
                if let Step::FillSlots { map } = step {
                    reused.push(map);
                }
                continue;
            }
            let fills = matches!(step, Step::FillSlots { .. });
            if !fills && step.map_index().is_some_and(|map| !self.is_from_plan(map)) {
                continue;
            }
            match step {
                // Told below, after the slots for maps.
                Step::FillPrograms { .. } => continue,
                Step::CreateMap { map } if while_filling.contains(&map) => {
                    last.push(step);
                    continue;
                }
                Step::CreateMap { map } if in_chunks.contains(&map) => continue,
                _ => {}
            }
            self.tell(Progress::Step(step))?;
            match step {
                // All at once, below.
                Step::FillSlots { map } if !chunks.is_empty() && self.fills_in_chunks(map) => {}
                Step::FillSlots { map } => outers.push(map),
                Step::LoadPrograms => {}
                _ => self.step(step)?,
            }
        }
        self.in_chunks(chunks)?;
        match (self.options.programs.to_load(), &large) {
            (Some(options), _) => self.load_programs_and_fill(options, &outers)?,
            (None, Large::First(_)) => self.fill_slots(&outers)?,
            (None, Large::WhileFilling(large)) => self.create_large(large, &outers)?,
        }
        for step in last {
            self.tell(Progress::Step(step))?;
            self.step(step)?;
        }
        self.fill_program_arrays()?;
        let ids = if directories.is_empty() && self.named.is_none() {
            vec![None; self.maps.len()]
        } else {
            self.ids()?
        };
        self.all_are_kept(&ids, false)?;
        self.pin(directories, &reused, &ids)?;
        Ok(ids)
    }

    /// Fills the slots of outer maps.
    pub(crate) fn fill_slots(&mut self, outers: &[usize]) -> Result<(), Diagnostic> {
        if outers.is_empty() {
            return Ok(());
        }
        let (progress, interrupted) = (&mut self.progress, &mut self.interrupted);
        let filled = Filler::new(self.plan, self.kernel, &self.maps)
            .fill_all(outers, &mut |next| ask(progress, interrupted, next))?;
        self.filled(filled);
        Ok(())
    }

    /// Remembers which slots are filled.
    pub(crate) fn filled(&mut self, outers: impl IntoIterator<Item = Filled>) {
        for outer in outers {
            let filled = self.filled.entry(outer.map).or_default();
            *filled = filled.saturating_add(outer.slots);
            self.diagnostics.extend(outer.note(self.plan));
        }
    }

    /// The map with that index, if it is made.
    pub(crate) fn made(&self, index: usize) -> Option<&Created<K::Fd>> {
        self.maps.get(index)?.as_ref()
    }

    /// Whether a map is made from the plan alone.
    fn is_from_plan(&self, index: usize) -> bool {
        self.origins.get(index) == Some(&Origin::Plan)
    }

    /// Whether a map is created from the plan alone, and is not there already.
    pub(crate) fn comes_from_plan(&self, map: usize) -> bool {
        self.is_from_plan(map) && !self.is_done(Step::CreateMap { map })
    }

    /// Whether all slots of an outer map are filled by chunks, if there are some.
    fn fills_in_chunks(&self, outer: usize) -> bool {
        self.plan.maps.get(outer).is_some_and(is_filled_in_chunks)
    }

    /// Whether a step has nothing to do, because its map is there already.
    fn is_done(&self, step: Step) -> bool {
        let Some(named) = &self.named else {
            return false;
        };
        match step.map_index() {
            Some(index) => named.reused(index).is_some(),
            None => named.all_reused(),
        }
    }

    /// Takes a map that is pinned by name already.
    fn reuse(&mut self, index: usize) -> Result<(), Diagnostic> {
        let pin = self
            .named
            .as_mut()
            .and_then(|named| named.pins.get_mut(index));
        let Some(pin) = pin.and_then(Option::as_mut) else {
            return Ok(());
        };
        let path = pin.path.clone();
        if let Some(reused) = &mut pin.reused
            && let Some(fd) = reused.fd.take()
        {
            let created = Created {
                fd,
                max_entries: reused.info.max_entries,
                btf: reused.info.btf_id != 0,
                reused: true,
            };
            self.put(index, created);
        }
        self.tell(Progress::Reuse {
            map: index,
            path: &path,
        })
    }

    /// Says what comes next, unless the caller wants no more.
    pub(crate) fn tell(&mut self, next: Progress<'_>) -> Result<(), Diagnostic> {
        ask(self.progress, &mut self.interrupted, next)
    }

    pub(crate) fn step(&mut self, step: Step) -> Result<(), Diagnostic> {
        let Some(index) = step.map_index() else {
            self.load_btf();
            return Ok(());
        };
        let plan = self.plan;
        let Some(map) = plan.maps.get(index) else {
            return Ok(());
        };
        match step {
            // Programs are loaded and slots are filled when all maps exist, and pins are made last of
            // all.
            Step::LoadBtf
            | Step::LoadPrograms
            | Step::FillPrograms { .. }
            | Step::FillSlots { .. }
            | Step::Pin { .. } => {}
            Step::CreateTemplate { .. } => self.create_template(index, map)?,
            Step::CreateMap { .. } => self.create_map(index, map)?,
            Step::DropTemplate { .. } => self.template = None,
            Step::WriteContents { .. } => self.write_contents(index, map)?,
            Step::Freeze { .. } => self.freeze(index, map)?,
        }
        Ok(())
    }
}

impl<'a, K: Kernel> Load<'a, K> {
    fn create_template(&mut self, index: usize, outer: &'a Map) -> Result<(), Diagnostic> {
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
        let created = self.create(&wanted, btf.as_ref(), None);
        self.btf = btf;
        let created = created?;
        if let Some(ids) = map.btf.filter(|_| created.btf) {
            self.template_btf.insert(index, ids);
        }
        self.template = Some(created.fd);
        Ok(())
    }

    fn create_map(&mut self, index: usize, map: &'a Map) -> Result<(), Diagnostic> {
        let (btf, template) = (self.btf.take(), self.template.take());
        let wanted = Wanted {
            map,
            source: map.source.as_ref(),
            inner: template.as_ref(),
            code: codes::MAP_REFUSED,
            step: "creating the map",
        };
        let early = self.created_early(index);
        let created = self.create(&wanted, btf.as_ref(), early);
        self.btf = btf;
        self.template = template;
        self.put(index, created?);
        Ok(())
    }

    pub(crate) fn put(&mut self, index: usize, created: Created<K::Fd>) {
        if let Some(place) = self.maps.get_mut(index) {
            *place = Some(created);
        }
    }

    /// The kernel's version, asked once.
    pub(crate) fn version(&self) -> Option<KernelVersion> {
        *self.version.get_or_init(|| self.kernel.version())
    }

    fn ids(&self) -> Result<Vec<Option<u32>>, Diagnostic> {
        (0..self.maps.len()).map(|index| self.id(index)).collect()
    }

    /// The kernel's id of a map, if it is made.
    pub(crate) fn id(&self, index: usize) -> Result<Option<u32>, Diagnostic> {
        if let Some(closed) = self.closed.get(&index) {
            return Ok(Some(closed.id));
        }
        let Some((created, map)) = self.made(index).zip(self.plan.maps.get(index)) else {
            return Ok(None);
        };
        let info = self.kernel.info(&created.fd).map_err(|errno| {
            Diagnostic::error(
                codes::INFO_REFUSED,
                format!("reading its id failed: {errno}"),
            )
            .map(&map.name)
            .at(map.source.as_ref(), "declared here")
        })?;
        Ok(Some(info.id))
    }

    fn finish(self, directories: &[&Pins], ids: Vec<Option<u32>>) -> Loaded<K> {
        let Self {
            plan,
            named,
            maps,
            closed,
            programs,
            filled,
            kconfig,
            diagnostics,
            btf_blob,
            template_btf,
            ..
        } = self;
        let blob: Arc<[u8]> = btf_blob.into_owned().into();
        let pinned = |index: usize| match named.as_ref().and_then(|named| named.pin(index)) {
            Some(pin) => Some(pin.path.clone()),
            None => directories.iter().find_map(|pins| pins.map(index)),
        };
        let closed = plan.maps.iter().enumerate().filter_map(|(index, map)| {
            let Closed { id, max_entries } = *closed.get(&index)?;
            Some(ClosedMap {
                name: map.name.clone(),
                map_type: map.map_type,
                id,
                pinned: pinned(index)?,
                max_entries,
            })
        });
        let closed = closed.collect();
        let mut special = SpecialFields::new(&plan.types);
        let mut loaded = Vec::with_capacity(maps.len());
        let maps = plan.maps.iter().zip(maps).zip(ids).enumerate();
        let maps = maps.filter_map(|(index, ((map, created), id))| {
            let created = created?;
            Some(LoadedMap {
                name: map.name.clone(),
                map_type: map.map_type,
                id: id.map_or_else(OnceLock::new, OnceLock::from),
                fd: created.fd,
                pinned: pinned(index),
                reused: created.reused,
                filled: filled.get(&index).copied().unwrap_or(0),
                max_entries: created.max_entries,
                btf: created.btf,
                template: map.inner.as_deref().map(|inner| {
                    let made = || template_btf.get(&index).copied();
                    // No template was made for a map that was there or came with the programs;
                    // its inner maps may have types all the same.
                    let others = created.reused || map.with_programs.is_some();
                    let btf = if others { inner.btf } else { made() };
                    InnerTemplate::of_load(map, inner, &mut special, btf, &blob)
                }),
                externs: if map.externs.is_empty() {
                    Vec::new()
                } else {
                    kconfig.externs.clone()
                },
            })
        });
        loaded.extend(maps);
        let paths: HashMap<&str, PathBuf> = directories
            .iter()
            .flat_map(|pins| pins.program_paths(plan))
            .collect();
        let programs = programs.into_iter().map(|program| LoadedProgram {
            pinned: paths.get(program.name.as_str()).cloned(),
            name: program.name,
            id: program.id,
            fd: program.fd,
        });
        let record = |of_maps: bool| {
            let mut pins = directories.iter();
            let pins = pins.find(|pins| pins.of_maps == of_maps)?;
            Some(pins.record())
        };
        Loaded {
            maps: loaded,
            closed,
            programs: programs.collect(),
            diagnostics,
            record: record(true),
            program_record: record(false),
        }
    }

    /// Removes what was made, and says what could not be removed. The directories stay locked
    /// until then. Pins go last: to look at one takes a descriptor, and before the others are
    /// closed there may be no more.
    fn undo(mut self, cause: Diagnostic) -> Failed {
        let mut slots = self.restore_slots();
        slots.extend(self.restore_program_slots());
        self.btf = None;
        self.template = None;
        self.early.clear();
        self.programs.clear();
        while let Some(map) = self.maps.pop() {
            drop(map);
        }
        let mut left = self.journal.undo(self.kernel);
        left.append(&mut slots);
        let raced = self.raced && left.is_empty();
        let mut diagnostics = vec![cause];
        diagnostics.extend(left);
        diagnostics.append(&mut self.diagnostics);
        let kind = if self.interrupted {
            ErrorKind::Interrupted
        } else if self.not_kept {
            ErrorKind::NotKept
        } else {
            ErrorKind::Kernel
        };
        Failed {
            error: LoadError::new(kind, diagnostics),
            raced,
        }
    }
}

/// Says what comes next, unless the caller wants no more.
pub(crate) fn ask(
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    interrupted: &mut bool,
    next: Progress<'_>,
) -> Result<(), Diagnostic> {
    if progress(next).is_continue() {
        return Ok(());
    }
    *interrupted = true;
    Err(Diagnostic::error(
        codes::INTERRUPTED,
        "the load was interrupted",
    ))
}
