//! What a load with or without programs needs, before anything is made.

use std::collections::HashMap;
use std::path::Path;

use bpfplan_plan::contents::sha256_hex;
use bpfplan_plan::{Diagnostic, Map, Pinning, Plan, Program, Severity, SlotTarget, WithPrograms};

use crate::by_name::ByName;
use crate::codes;
use crate::kernel::Kernel;
use crate::options::{LoadOptions, Programs};
use crate::pins::{self, Pins};
use crate::programs;

/// Who makes a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The loader, from the plan alone.
    Plan,
    /// libbpf, with the programs.
    Programs,
    /// Nobody: it needs programs, which are left out.
    LeftOut,
}

/// How the way out is written.
const WAY_OUT: &str = "load the programs as well, with --pin-progs DIR, or leave them out knowingly \
                       with --no-programs";

/// The directory that programs are pinned in.
pub(crate) fn pin_directory(programs: &Programs) -> Option<&Path> {
    programs.to_load()?.pin.as_deref()
}

/// How many descriptors the programs need besides the maps': libbpf has one for each map and
/// template too, and both have one for each program.
pub(crate) fn descriptors(plan: &Plan, programs: &Programs) -> u64 {
    if programs.to_load().is_none() {
        return 0;
    }
    let templates = plan.maps.iter().filter(|map| map.inner.is_some()).count();
    let count = [
        plan.maps.len(),
        templates,
        plan.programs.len(),
        plan.programs.len(),
    ];
    let count = count
        .iter()
        .fold(0_usize, |sum, part| sum.saturating_add(*part));
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// What of the plan does not go with what becomes of its programs.
pub(crate) fn problems(plan: &Plan, programs: &Programs) -> Vec<Diagnostic> {
    match programs {
        Programs::Unneeded => plan.maps.iter().filter_map(unneeded).collect(),
        Programs::LeftOut => left_out_slots(plan),
        Programs::Load(options) => {
            let mut problems = Vec::new();
            if let Some(expected) = &plan.object.sha256 {
                problems.extend(other_object(expected, &sha256_hex(&options.object)));
            }
            if plan.programs.is_empty() {
                problems.push(
                    Diagnostic::error(codes::NO_PROGRAMS, "the object has no programs to load")
                        .help("load it without --pin-progs"),
                );
            }
            if plan.object.legacy_maps {
                problems.push(
                    Diagnostic::error(
                        codes::LEGACY_OBJECT,
                        "libbpf 1.x does not open objects with legacy map definitions, so it \
                         loads none of their programs",
                    )
                    .help(
                        "declare the maps in `.maps`, as the warnings show, or load the maps \
                         alone, without --pin-progs",
                    ),
                );
            }
            problems.extend(slots_of_unloaded(plan));
            problems
        }
    }
}

/// Why a map cannot be loaded without a word about the programs.
fn unneeded(map: &Map) -> Option<Diagnostic> {
    let (what, field) = match map.with_programs {
        Some(WithPrograms::StructOps) => (
            "it is made of programs, and its type is known only when they are loaded",
            None,
        ),
        Some(WithPrograms::ArenaData) => (
            "where in it global variables go is known only when programs are loaded",
            None,
        ),
        // Such a map can be made alone; the load warns that no program can use it then.
        Some(WithPrograms::OptionalStructOps | WithPrograms::GraphRoot) | None => {
            let mut slots = map.slots.iter();
            slots.find(|slot| matches!(slot.target, SlotTarget::Program(_)))?;
            (
                "its slots hold programs, which are not loaded",
                Some("values"),
            )
        }
    };
    let problem = Diagnostic::error(codes::PROGRAM_SLOTS, what)
        .map(&map.name)
        .at(map.source.as_ref(), "declared here")
        .help(WAY_OUT);
    Some(match field {
        Some(field) => problem.field(field),
        None => problem,
    })
}

/// Slots of outer maps whose targets are left out.
fn left_out_slots(plan: &Plan) -> Vec<Diagnostic> {
    let left_out: HashMap<&str, &Map> = plan
        .maps
        .iter()
        .filter(|map| needs_programs(map))
        .map(|map| (map.name.as_str(), map))
        .collect();
    if left_out.is_empty() {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for map in &plan.maps {
        for slot in &map.slots {
            let SlotTarget::Map(target) = &slot.target else {
                continue;
            };
            if let Some(target) = left_out.get(target.as_str()) {
                let name = target.name.escape_debug();
                problems.push(
                    Diagnostic::error(
                        codes::PROGRAM_SLOTS,
                        format!("'{name}' comes to be with the programs, which are left out"),
                    )
                    .map(&map.name)
                    .field(format!("values[{}]", slot.index))
                    .at(map.source.as_ref(), "declared here")
                    .help("load the programs as well, with --pin-progs DIR"),
                );
            }
        }
    }
    problems
}

/// Whether nobody can make the map without programs.
fn needs_programs(map: &Map) -> bool {
    map.with_programs.is_some_and(WithPrograms::is_libbpfs)
}

/// The object that was given is another one.
fn other_object(expected: &str, found: &str) -> Option<Diagnostic> {
    (expected != found).then(|| {
        Diagnostic::error(
            codes::OTHER_OBJECT,
            "the object is not the one that the plan was made from",
        )
        .note(format!("SHA-256 in the plan:   {expected}"))
        .note(format!("SHA-256 of the object: {found}"))
        .help("give the object that was compiled, or compile the plan again")
    })
}

/// Slots for programs that a load leaves out, or that the plan does not have.
fn slots_of_unloaded(plan: &Plan) -> Vec<Diagnostic> {
    let programs: HashMap<&str, &Program> = plan
        .programs
        .iter()
        .map(|program| (program.name.as_str(), program))
        .collect();
    let mut problems = Vec::new();
    for map in &plan.maps {
        for slot in &map.slots {
            let SlotTarget::Program(name) = &slot.target else {
                continue;
            };
            let shown = name.escape_debug();
            let (what, help) = match programs.get(name.as_str()) {
                Some(program) if program.is_loaded() => continue,
                Some(program) => (
                    format!(
                        "program '{shown}' is not loaded: its section is `{}`",
                        program.section.escape_debug()
                    ),
                    "take the `?` out of the section's name, or the program out of the slot",
                ),
                None => (
                    format!("the object has no program '{shown}'"),
                    "compile the plan again",
                ),
            };
            problems.push(
                Diagnostic::error(codes::PROGRAM_NOT_LOADED, what)
                    .map(&map.name)
                    .field(format!("values[{}]", slot.index))
                    .at(map.source.as_ref(), "declared here")
                    .note("libbpf would fail to fill the slot: EBADF (9, Bad file descriptor)")
                    .help(help),
            );
        }
    }
    problems
}

/// Programs that nobody would hold.
pub(crate) fn not_kept(options: &LoadOptions) -> Option<Diagnostic> {
    let load = options.programs.to_load()?;
    (load.pin.is_none() && !options.hold).then(|| {
        Diagnostic::error(
            codes::NOT_KEPT,
            "all programs would be gone as soon as the load is done",
        )
        .note("a program lives as long as a pin or a descriptor holds it")
        .help("pin the programs with --pin-progs DIR, or keep them with --hold")
    })
}

/// Who makes the plan's maps. What should be known about that goes to `said`.
pub(crate) fn origins<K: Kernel>(
    plan: &Plan,
    kernel: &K,
    programs: &Programs,
    said: &mut Vec<Diagnostic>,
) -> Vec<Origin> {
    let mut origins = vec![Origin::Plan; plan.maps.len()];
    let bound = programs::bound(plan, kernel);
    let load = programs.to_load().is_some();
    for (map, origin) in plan.maps.iter().zip(&mut origins) {
        if map.with_programs == Some(WithPrograms::OptionalStructOps) {
            *origin = Origin::LeftOut;
        } else if load && map.with_programs.is_some() {
            *origin = Origin::Programs;
        } else if needs_programs(map) {
            *origin = Origin::LeftOut;
        }
    }
    for bound in &bound {
        if let (true, Some(origin)) = (load, origins.get_mut(bound.index)) {
            *origin = Origin::Programs;
        } else if let Some(map) = plan.maps.get(bound.index) {
            said.push(bound.warning(map));
        }
    }
    match programs {
        Programs::Unneeded => said.extend(skipped(plan)),
        Programs::LeftOut => said.extend(left_out(plan)),
        Programs::Load(_) => {
            said.extend(skipped(plan));
            said.extend(not_autoloaded(plan));
        }
    }
    origins
}

/// The maps that libbpf leaves out as well.
fn skipped(plan: &Plan) -> impl Iterator<Item = Diagnostic> {
    let maps = plan.maps.iter();
    maps.filter(|map| map.with_programs == Some(WithPrograms::OptionalStructOps))
        .map(|map| {
            let message = "it is left out: its section begins with `?`";
            Diagnostic::new(codes::LEFT_OUT, Severity::Note, message)
                .map(&map.name)
                .at(map.source.as_ref(), "declared here")
        })
}

/// What is left out knowingly.
fn left_out(plan: &Plan) -> Vec<Diagnostic> {
    let note = |map: &Map, message: String| {
        Diagnostic::new(codes::LEFT_OUT, Severity::Note, message)
            .map(&map.name)
            .at(map.source.as_ref(), "declared here")
    };
    let maps = plan.maps.iter().filter_map(|map| {
        if needs_programs(map) {
            let message = "it is left out: it comes to be only with the programs";
            return Some(note(map, message.to_owned()));
        }
        let slots = map.slots.iter();
        let count = slots
            .filter(|slot| matches!(slot.target, SlotTarget::Program(_)))
            .count();
        match count {
            0 => None,
            1 => Some(note(map, "1 slot for a program stays empty".to_owned())),
            count => Some(note(map, format!("{count} slots for programs stay empty"))),
        }
    });
    maps.collect()
}

/// The programs that are not loaded although all are asked for.
fn not_autoloaded(plan: &Plan) -> Option<Diagnostic> {
    /// How many names are spelled out.
    const SHOWN: usize = 8;
    let left = plan.programs.iter().filter(|program| !program.is_loaded());
    let names: Vec<String> = left
        .map(|program| program.name.escape_debug().to_string())
        .collect();
    if names.is_empty() {
        return None;
    }
    let mut list = names.get(..SHOWN).unwrap_or(&names).join(", ");
    if names.len() > SHOWN {
        list.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    Some(
        Diagnostic::new(
            codes::NOT_AUTOLOADED,
            Severity::Note,
            format!("not loaded, because their section begins with `?`: {list}"),
        )
        .note("libbpf leaves such programs out as well unless it is told otherwise"),
    )
}

/// Whether a map is kept by a pin or by the caller, whatever programs do.
pub(crate) fn is_pinned(map: &Map, options: &LoadOptions) -> bool {
    options.hold || options.pin_maps.is_some() || map.pinning == Pinning::ByName
}

type Directories = (Option<Pins>, Option<Pins>);

/// The directories for pins of maps and of programs; one if they are the same.
pub(crate) fn directories<K: Kernel>(
    plan: &Plan,
    kernel: &K,
    options: &LoadOptions,
    named: Option<&ByName<K::Fd>>,
) -> Result<Directories, Vec<Diagnostic>> {
    let maps = options.pin_maps.as_deref();
    let maps = maps.map(|directory| pins::of_maps(kernel, directory, named, plan));
    let mut maps = maps.transpose()?;
    let mut apart = None;
    if let Some(directory) = pin_directory(&options.programs) {
        let (directory, create) =
            pins::find_directory(kernel, directory).map_err(|problem| vec![problem])?;
        let shared = maps.as_mut().filter(|pins| pins.directory == directory);
        let mut taken = Vec::new();
        if let Some(pins) = &shared {
            taken.extend(pins.names.iter().flatten().cloned());
        }
        if let Some(named) = named.filter(|named| named.root == directory) {
            let names = named.pins.iter().flatten();
            let names = names.filter_map(|pin| pin.path.file_name()?.to_str());
            taken.extend(names.map(str::to_owned));
        }
        let programs = pins::program_names(plan, &taken)?;
        if let Some(pins) = shared {
            pins.programs = programs;
        } else {
            apart = Some(Pins {
                directory,
                create,
                of_maps: false,
                names: Vec::new(),
                programs,
            });
        }
    }
    let vacant = |pins: Pins| pins::vacant(kernel, pins, plan);
    Ok((
        maps.map(vacant).transpose()?,
        apart.map(vacant).transpose()?,
    ))
}
