//! The steps of a load that are about programs.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;

use bpfplan_plan::rules::Call;
use bpfplan_plan::{Diagnostic, Map, MaxEntries, Severity, SlotTarget, Step};

use crate::codes;
use crate::create::Created;
use crate::execute::Load;
use crate::journal::Entered;
use crate::kconfig::kconfig_text;
use crate::kernel::{Errno, Kernel, ProgramAnswer, ProgramFailure, ProgramStage};
use crate::object_copy::without_slots;
use crate::options::SlotPolicy;
use crate::pins::Pins;
use crate::program_rules::{self, Origin};
use crate::progress::Progress;
use crate::why::Refusal;

/// How many of the last lines of the verifier's log stand before the whole.
const LOG_LINES: usize = 6;
/// How much of such a line is shown, in characters.
const LOG_WIDTH: usize = 160;
/// How many of libbpf's messages are shown.
const MESSAGES: usize = 16;

/// What libbpf is to be asked for, but for the maps that are there.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The object, with slots that libbpf does not see.
    pub(crate) object: Vec<u8>,
    pub(crate) kconfig: Option<CString>,
    /// Indices of the maps; the contents of those that libbpf makes.
    pub(crate) maps: Vec<(usize, Option<Vec<u8>>)>,
}

impl<K: Kernel> Load<'_, K> {
    /// What libbpf is to be asked for.
    pub(crate) fn asked(&self, object: &[u8]) -> Result<Asked, Diagnostic> {
        let object = without_slots(object).map_err(|why| {
            Diagnostic::error(
                codes::PROGRAMS_REFUSED,
                format!("the object is damaged: {why}"),
            )
        })?;
        let mut maps = Vec::new();
        for (index, map) in self.plan.maps.iter().enumerate() {
            let made = self.made(index).is_some();
            if !made && self.origins.get(index) != Some(&Origin::Programs) {
                continue;
            }
            let data = map.data.as_ref().filter(|_| !made && !map.is_arena());
            let contents = data.map(|_| self.initial_value(map).map(Cow::into_owned));
            let contents = contents.transpose();
            let contents = contents.map_err(|errno| {
                let message = format!("preparing its initial contents failed: {errno}");
                Diagnostic::error(codes::CONTENTS_REFUSED, message).map(&map.name)
            })?;
            maps.push((index, contents));
        }
        Ok(Asked {
            object,
            kconfig: CString::new(kconfig_text(&self.kconfig.externs)).ok(),
            maps,
        })
    }

    /// Takes over what libbpf has made; `asked` are the indices of the maps of the request.
    pub(crate) fn take_over(&mut self, answer: ProgramAnswer<K::Fd>, asked: &[usize]) {
        let plan = self.plan;
        self.programs = answer.programs;
        for (place, fd) in answer.maps {
            let made = asked.get(place).copied();
            let Some((index, map)) = made.and_then(|index| Some((index, plan.maps.get(index)?)))
            else {
                continue;
            };
            let max_entries = match map.max_entries {
                MaxEntries::Count(count) => count,
                MaxEntries::PossibleCpus => self.possible_cpus,
            };
            let btf = map.btf.is_some();
            self.put(
                index,
                Created {
                    fd,
                    max_entries,
                    btf,
                    reused: false,
                },
            );
        }
        if answer.memlock_raised && !self.memlock_raised {
            self.memlock_raised = true;
            self.diagnostics.push(Diagnostic::new(
                codes::MEMLOCK_RAISED,
                Severity::Note,
                "libbpf raised RLIMIT_MEMLOCK of this process: kernels before 5.11 account programs against it",
            ));
        }
        if !answer.messages.is_empty() {
            let warning = Diagnostic::warning(
                codes::LIBBPF_WARNS,
                "libbpf loaded the programs and has something to say",
            );
            self.diagnostics
                .push(with_messages(warning, &answer.messages));
        }
    }

    pub(crate) fn programs_refused(&self, failure: ProgramFailure) -> Diagnostic {
        let plan = self.plan;
        let ProgramFailure {
            stage,
            errno,
            program,
            log,
            messages,
        } = failure;
        let refused = |message: String| Diagnostic::error(codes::PROGRAMS_REFUSED, message);
        let mut diagnostic = match stage {
            ProgramStage::Open => refused(format!("libbpf does not open the object: {errno}")),
            ProgramStage::Compare(what) => refused(format!("the object is not the plan's: {what}"))
                .help("give the object that the plan was made from"),
            ProgramStage::Map(name) => {
                let declared = plan.map(&name).and_then(|map| map.source.as_ref());
                refused(format!("libbpf does not take the map: {errno}"))
                    .at(declared, "declared here")
                    .map(name)
            }
            ProgramStage::Take => refused(format!("taking over the programs failed: {errno}")),
            ProgramStage::Load => match &program {
                Some(name) => {
                    let mut programs = plan.programs.iter();
                    let section = programs.find(|program| program.name == *name);
                    let section = section.map_or("", |program| program.section.as_str());
                    let section = section.escape_debug();
                    refused(format!("loading it (section `{section}`) failed: {errno}"))
                }
                None => refused(format!("libbpf does not load the object: {errno}")),
            },
        };
        diagnostic.program = program.map(String::into_boxed_str);
        let log = log.filter(|log| !log.trim().is_empty());
        if let Some(log) = &log {
            for line in last_lines(log) {
                diagnostic.notes.push(format!("the verifier: {line}"));
            }
        }
        // Without a log, the verifier had no say.
        if log.is_some() || !matches!(errno, Errno::EINVAL | Errno(libc::EACCES)) {
            diagnostic.notes.extend(self.reasons(Call::ProgLoad, errno));
        }
        let messages: Vec<String> = messages
            .into_iter()
            .filter(|message| says_more(message))
            .collect();
        if messages.iter().any(|message| wants_target(message)) {
            diagnostic = diagnostic.help(
                "only who attaches such a program knows its target: let its section begin with \
                 `?`, or name the target there",
            );
        }
        diagnostic = with_messages(diagnostic, &messages);
        diagnostic.log = log.map(String::into_boxed_str);
        diagnostic
    }

    /// Puts programs into the slots of program arrays.
    pub(crate) fn fill_program_arrays(&mut self) -> Result<(), Diagnostic> {
        if self.options.programs.to_load().is_none() {
            return Ok(());
        }
        let plan = self.plan;
        let programs = self.programs.iter().enumerate();
        let places: HashMap<String, usize> = programs
            .map(|(place, program)| (program.name.clone(), place))
            .collect();
        for (index, map) in plan.maps.iter().enumerate() {
            let wanted = map.slots.iter().filter_map(|slot| match &slot.target {
                SlotTarget::Program(name) => Some((slot.index, name.as_str())),
                SlotTarget::Map(_) => None,
            });
            let mut wanted = wanted.peekable();
            // Those of reused arrays come last of all: somebody uses them.
            let new = self.made(index).is_some_and(|made| !made.reused);
            if wanted.peek().is_none() || !new {
                continue;
            }
            self.tell(Progress::Step(Step::FillPrograms { map: index }))?;
            let mut filled = 0_u32;
            for (slot, name) in wanted {
                let shown = name.escape_debug();
                let place = places.get(name);
                let program = place.and_then(|place| self.programs.get(*place));
                let (Some(array), Some(program)) = (self.made(index), program) else {
                    let message = format!("program '{shown}' for slot {slot} is not loaded");
                    return Err(Diagnostic::error(codes::PROGRAM_NOT_LOADED, message)
                        .map(&map.name)
                        .field(format!("values[{slot}]"))
                        .at(map.source.as_ref(), "declared here"));
                };
                let result = self.kernel.update_slot(&array.fd, slot, &program.fd);
                result.map_err(|errno| {
                    let refusal = Refusal {
                        code: codes::PROGRAM_SLOT_REFUSED,
                        step: format!("filling slot {slot} with program '{shown}'"),
                        call: Call::ProgramSlot,
                        errno,
                        map,
                        source: map.source.as_ref(),
                    };
                    refusal
                        .explain(self.kernel, plan)
                        .field(format!("values[{slot}]"))
                })?;
                filled = filled.saturating_add(1);
            }
            self.filled.insert(index, filled);
        }
        Ok(())
    }

    /// Refuses a load after which some map would live nowhere: it is neither pinned nor held, and
    /// no pinned program uses it. Once it is known which slots of reused maps this load writes, it
    /// is `sure` of them.
    pub(crate) fn all_are_kept(
        &mut self,
        ids: &[Option<u32>],
        sure: bool,
    ) -> Result<(), Diagnostic> {
        if self.options.programs.to_load().is_none() {
            return Ok(());
        }
        let held = self.programs.iter().flat_map(|program| &program.maps);
        let held: BTreeSet<u32> = held.copied().collect();
        let maps = || self.plan.maps.iter().zip(ids);
        let kept = |map, id: u32| program_rules::is_pinned(map, self.options) || held.contains(&id);
        // What is in the slots of a map lives as long as that does.
        let mut in_slots: BTreeSet<&str> = BTreeSet::new();
        for (index, (map, id)) in maps().enumerate() {
            if id.is_some_and(|id| kept(map, id)) && self.takes_slots(index, map, sure) {
                in_slots.extend(map.slots.iter().filter_map(|slot| match &slot.target {
                    SlotTarget::Map(name) => Some(name.as_str()),
                    SlotTarget::Program(_) => None,
                }));
            }
        }
        if sure {
            let targets = self.changed_targets().map(|map| map.name.as_str());
            in_slots.extend(targets);
        }
        let mut gone = Vec::new();
        let mut emptied = Vec::new();
        for (map, id) in maps() {
            let Some(id) = *id else { continue };
            let name = map.name.escape_debug().to_string();
            if !kept(map, id) && !in_slots.contains(map.name.as_str()) {
                gone.push(name);
            } else if !program_rules::is_pinned(map, self.options)
                && map
                    .slots
                    .iter()
                    .any(|slot| matches!(slot.target, SlotTarget::Program(_)))
            {
                emptied.push(name);
            }
        }
        if gone.is_empty() && emptied.is_empty() {
            return Ok(());
        }
        self.not_kept = true;
        let mut notes = Vec::new();
        let mut message = String::new();
        if !gone.is_empty() {
            message = format!("gone as soon as the load is done: {}", listed(&gone));
            notes.push("no program that is pinned uses such a map");
            let reused = |map: &Option<Created<K::Fd>>| map.as_ref().is_some_and(|it| it.reused);
            if self.maps.iter().any(reused) {
                notes.push(
                    "slots of reused maps hold it only if --slots says that they are written",
                );
            }
        }
        if !emptied.is_empty() {
            let what = format!("empty as soon as the load is done: {}", listed(&emptied));
            message = if message.is_empty() {
                what
            } else {
                format!("{message}; {what}")
            };
            notes.push(
                "the kernel empties a program array when the last pin or descriptor of it goes, \
                 whatever programs use it",
            );
        }
        let mut diagnostic = Diagnostic::error(codes::NOT_KEPT, message)
            .help("pin the maps as well with --pin-maps DIR, or keep them with --hold");
        diagnostic.notes = notes.into_iter().map(str::to_owned).collect();
        Err(diagnostic)
    }

    /// Whether all declared slots of an outer map will hold what is declared, or may.
    fn takes_slots(&self, index: usize, map: &Map, sure: bool) -> bool {
        if !self.made(index).is_some_and(|made| made.reused) {
            return true;
        }
        match self.options.slot_policy(map.map_type) {
            SlotPolicy::Keep => false,
            SlotPolicy::FillEmpty => !sure,
            SlotPolicy::Overwrite => true,
        }
    }

    /// Pins the programs that are loaded.
    pub(crate) fn pin_programs(&mut self, pins: &Pins) -> Result<(), Diagnostic> {
        let plan = self.plan;
        let places: HashMap<&str, usize> = self
            .programs
            .iter()
            .enumerate()
            .map(|(place, program)| (program.name.as_str(), place))
            .collect();
        let mut pinned = Vec::new();
        for (name, path) in pins.program_paths(plan) {
            pinned.extend(places.get(name).map(|place| (*place, name, path)));
        }
        for (place, name, path) in pinned {
            self.tell(Progress::PinProgram { name, path: &path })?;
            let Some(program) = self.programs.get(place) else {
                continue;
            };
            let id = program.id;
            let mut raced = false;
            let pinned = self.kernel.pin(&program.fd, &path).map_err(|errno| {
                raced |= matches!(errno, Errno::EEXIST | Errno::ENOENT);
                let message = format!("pinning it to {} failed: {errno}", path.display());
                let mut problem = Diagnostic::error(codes::PIN_REFUSED, message).program(name);
                problem.notes = self.reasons(Call::Pin, errno);
                problem
            });
            self.raced |= raced;
            pinned?;
            self.journal.pin(path, Entered::Program(id));
        }
        Ok(())
    }
}

/// Names, not too many.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut list = names.get(..SHOWN).unwrap_or(names).join(", ");
    if names.len() > SHOWN {
        list.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    list
}

/// Whether a message of libbpf says more than that a program, or the object, was not loaded.
fn says_more(message: &str) -> bool {
    [
        "': BPF program load failed: ",
        "': failed to load: ",
        "failed to load object '",
    ]
    .iter()
    .all(|known| !message.contains(known))
}

/// Whether a message of libbpf says that a program is loaded for a target that is not named
/// (`libbpf_prepare_prog_load`).
fn wants_target(message: &str) -> bool {
    [
        ": attach program FD is not set",
        ": no BTF-based attach target is specified",
    ]
    .iter()
    .any(|known| message.contains(known))
}

/// The end of a log.
fn last_lines(log: &str) -> Vec<String> {
    let lines = log.lines().rev().filter(|line| !line.trim().is_empty());
    let mut last: Vec<String> = lines
        .take(LOG_LINES)
        .map(|line| line.chars().take(LOG_WIDTH).collect())
        .collect();
    last.reverse();
    last
}

fn with_messages(mut diagnostic: Diagnostic, messages: &[String]) -> Diagnostic {
    // The last ones are about what failed.
    let earlier = messages.len().saturating_sub(MESSAGES);
    if earlier > 0 {
        let note = format!("libbpf: {earlier} messages, and then");
        diagnostic.notes.push(note);
    }
    for message in messages.iter().skip(earlier) {
        diagnostic.notes.push(format!("libbpf: {message}"));
    }
    diagnostic
}
