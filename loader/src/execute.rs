//! The executor: a plan's steps, one after another, all or nothing.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use bpfplan_plan::rules::KernelVersion;
use bpfplan_plan::{BtfIds, Diagnostic, Map, Plan, Step};

use crate::by_name::ByName;
use crate::chunks::{Chunk, is_filled_in_chunks};
use crate::codes;
use crate::create::{Created, Wanted};
use crate::error::{ErrorKind, LoadError};
use crate::journal::Journal;
use crate::kconfig::Resolved;
use crate::kernel::{Kernel, MadeProgram};
use crate::loaded::Loaded;
use crate::options::LoadOptions;
use crate::outcome::Failed;
use crate::pins::Pins;
use crate::preflight::{self, Ready};
use crate::program_rules::Origin;
use crate::progress::{Progress, ask};
use crate::reused_programs::ProgramChange;
use crate::reused_slots::Change;
use crate::scarce::Closed;
use crate::slots::{Filled, Filler};
use crate::together::{Early, Large};

/// How often a load is begun if others change the pins meanwhile.
const ATTEMPTS: usize = 8;

/// `NR_OPEN_DEFAULT` of the kernel: a process begins with so many places for descriptors.
const FIRST_FD_TABLE: u64 = 64;

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
        descriptors,
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
        descriptors: if chunks.is_empty() { descriptors } else { 0 },
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
    /// How many descriptors are still to be opened, until room has been made for them.
    descriptors: u64,
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

/// What remains to be done when the maps are created.
#[derive(Debug, Default)]
struct Later {
    /// Outer maps whose slots are to be filled.
    outers: Vec<usize>,
    /// Outer maps that were there already.
    reused: Vec<usize>,
    /// The steps that create large maps.
    large: Vec<Step>,
}

impl<'a, K: Kernel> Load<'a, K> {
    /// Does everything; gives the ids of the maps that are made, if pins want them.
    fn run(
        &mut self,
        directories: &[&Pins],
        chunks: &[Chunk],
    ) -> Result<Vec<Option<u32>>, Diagnostic> {
        // Those that come with the programs as well: their creation is no step.
        for map in 0..self.plan.maps.len() {
            if self.is_done(Step::CreateMap { map }) {
                self.reuse(map)?;
            }
        }
        let programs = self.options.programs.to_load();
        let steps = self.plan.steps_with(programs.is_some());
        let large = if chunks.is_empty() {
            self.large(&steps)
        } else {
            Large::First(Vec::new())
        };
        let later = self.create_maps(&steps, &large, chunks)?;
        self.in_chunks(chunks)?;
        match (programs, &large) {
            (Some(options), _) => self.load_programs_and_fill(options, &later.outers)?,
            (None, Large::First(_)) => self.fill_slots(&later.outers)?,
            (None, Large::WhileFilling(large)) => self.create_large(large, &later.outers)?,
        }
        for step in later.large {
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
        self.pin(directories, &later.reused, &ids)?;
        Ok(ids)
    }

    /// Does the steps that create maps, but for those that belong to chunks or come while slots are
    /// filled; gives what remains to be done.
    fn create_maps(
        &mut self,
        steps: &[Step],
        large: &Large,
        chunks: &[Chunk],
    ) -> Result<Later, Diagnostic> {
        let in_chunks: HashSet<usize> = chunks.iter().flat_map(|it| &it.maps).copied().collect();
        let while_filling: HashSet<usize> = large.last().collect();
        let mut first = match large {
            Large::First(maps) => Some(maps),
            Large::WhileFilling(_) => None,
        };
        let mut later = Later::default();
        for &step in steps {
            // They need the BTF.
            if step != Step::LoadBtf
                && let Some(maps) = first.take()
            {
                self.create_large(maps, &[])?;
            }
            match step {
                Step::FillSlots { map } if self.is_done(step) => later.reused.push(map),
                Step::CreateMap { map } if in_chunks.contains(&map) => {}
                Step::CreateMap { map } if while_filling.contains(&map) => later.large.push(step),
                // Both come last of all, and are told of then.
                Step::FillPrograms { .. } | Step::Pin { .. } => {}
                _ if !self.is_wanted(step) => {}
                _ => {
                    self.tell(Progress::Step(step))?;
                    match step {
                        Step::FillSlots { map }
                            if !chunks.is_empty() && self.fills_in_chunks(map) => {}
                        Step::FillSlots { map } => later.outers.push(map),
                        Step::LoadPrograms => {}
                        _ => self.step(step)?,
                    }
                }
            }
        }
        Ok(later)
    }

    /// Whether a step has something to do here.
    fn is_wanted(&self, step: Step) -> bool {
        match step {
            Step::LoadPrograms => true,
            Step::FillSlots { .. } => !self.is_done(step),
            _ => {
                let from_plan = step.map_index().is_none_or(|map| self.is_from_plan(map));
                from_plan && !self.is_done(step)
            }
        }
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
        let descriptors = std::mem::take(&mut self.descriptors);
        if descriptors > FIRST_FD_TABLE {
            self.kernel.grow_fd_table(&created.fd, descriptors);
        }
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
}
