//! `bpfplan load`.

mod made;
mod named_pins;

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bpfplan_loader::{
    ErrorKind, Kernel, KernelConfig, KernelFacts, LoadError, LoadOptions, Loaded, PIN_ROOT,
    Programs, Progress, RealKernel, RecordingKernel, SlotPolicy, load, load_with,
};
use bpfplan_plan::rules::Target;
use bpfplan_plan::{Diagnostic, MapType, Plan, Step};
use serde::Serialize;

use crate::args::{LoadArgs, LoadFormat, Slots};
use crate::documents::{DryRunDocument, LoadDocument, LoadedMap, LoadedProgram};
use crate::exit::Exit;
use crate::input::{self, Input};
use crate::kconfig;
use crate::output;
use crate::places::Places;
use crate::programs;
use crate::render::escape::plain;
use crate::signals;

/// Loads an object or a plan.
///
/// # Errors
/// As [`output::result`].
pub(crate) fn run(args: &LoadArgs) -> io::Result<Exit> {
    let json = args.format == LoadFormat::Json;
    let read = if args.pin_progs.is_some() || !args.object.is_empty() {
        input::read(&args.inputs, false).map(|input| (input, Places::default()))
    } else {
        input::read_maps(&args.inputs)
    };
    let input = read.and_then(|(input, places)| {
        let input = input.overridden(&args.inputs, &args.overrides);
        input
            .map_err(|diagnostics| places.find(diagnostics))
            .map(|input| (input, places))
    });
    let (mut input, places) = match input {
        Ok(input) => input,
        Err(diagnostics) => {
            output::failure(&diagnostics, json)?;
            return Ok(Exit::Refused);
        }
    };
    let programs = match programs::choice(args, &mut input) {
        Ok(programs) => programs,
        Err((exit, diagnostics)) => {
            output::failure(&diagnostics, json)?;
            return Ok(exit);
        }
    };
    let kconfig = match args.kconfig.as_deref().map(kconfig::read).transpose() {
        Ok(kconfig) => kconfig,
        Err(diagnostics) => {
            output::failure(&diagnostics, json)?;
            return Ok(Exit::Refused);
        }
    };
    let wishes = Wishes {
        programs,
        kconfig,
        places,
    };
    if args.dry_run {
        dry_run(args, input, wishes, json)
    } else {
        load_maps(args, input, wishes, json)
    }
}

/// What the arguments say about a load, read from the files that they name.
struct Wishes {
    programs: Programs,
    kconfig: Option<KernelConfig>,
    places: Places,
}

fn load_maps(args: &LoadArgs, input: Input, wishes: Wishes, json: bool) -> io::Result<Exit> {
    // From before the first map on: a signal in the middle would leave half a load.
    let mut signals = signals::collect()?;
    let mut caught = None;
    let options = LoadOptions {
        pin_maps: args.pin_maps.clone(),
        pin_root: args.pin_root.clone(),
        slots: args.slots.map(policy),
        hold: args.hold,
        raise_nofile: true,
        programs: wishes.programs,
        kconfig: wishes.kconfig,
    };
    let mut say = |progress: Progress<'_>| {
        if args.verbose && progress != Progress::GoOn {
            output::talk(&describe(&input.plan, progress));
        }
        caught = signals.pending().next();
        if caught.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let loaded = match load_with(&input.plan, &RealKernel::new(), &options, &mut say) {
        Ok(loaded) => loaded,
        Err(error) => {
            let exit = failed(args, input.warnings, error, &wishes.places, json);
            if let Some(signal) = caught {
                // Whoever waits for the process learns that the signal ended it.
                signals::die_of(signal)?;
            }
            return exit;
        }
    };
    let mut warnings = input.warnings;
    warnings.extend(input::with_name(&args.inputs, loaded.diagnostics.clone()));
    let warnings = wishes.places.find(warnings);
    let maps = made::maps(&input.plan, &loaded).map_err(io::Error::other)?;
    let printed = if json {
        document(&loaded, maps, warnings).and_then(|text| output::result(&text))
    } else {
        output::diagnostics(&warnings);
        output::result(&report(&input.plan, &loaded, &maps))
    };
    // Somebody may have read enough of the output and still need the maps.
    if args.hold {
        output::talk(&format!(
            "holding {}; Ctrl-C or SIGTERM lets go of {}",
            things(&loaded),
            if loaded.maps.len() + loaded.programs.len() == 1 {
                "it"
            } else {
                "them"
            },
        ));
        signals.forever().next();
    }
    printed.map(|()| Exit::Done)
}

/// Executes the plan on a kernel that only writes down the calls.
fn dry_run(args: &LoadArgs, input: Input, mut wishes: Wishes, json: bool) -> io::Result<Exit> {
    let machine = RealKernel::new();
    let target = Target {
        page_size: machine.page_size(),
        possible_cpus: machine.possible_cpus().unwrap_or(1),
    };
    let mut kernel =
        RecordingKernel::new(target).with_structs(|names| RealKernel::new().kernel_structs(names));
    if input.plan.maps.iter().any(|map| !map.externs.is_empty()) {
        kernel = kernel.with_facts(KernelFacts::of(&machine));
    }
    let pin_maps = args.pin_maps.as_deref().map(resolved);
    let mut pin_progs = None;
    if let Programs::Load(options) = &mut wishes.programs {
        options.pin = options.pin.as_deref().map(resolved);
        pin_progs = options.pin.clone();
    }
    let pin_root = resolved(args.pin_root.as_deref().unwrap_or(Path::new(PIN_ROOT)));
    for directory in pin_maps.iter().chain(&pin_progs).chain([&pin_root]) {
        // A directory that is there is used, and any other is made: whether that works, only
        // the load itself can tell.
        let present = match directory.parent() {
            Some(parent) if !directory.is_dir() => parent,
            _ => directory,
        };
        kernel = kernel.with_directory(present);
    }
    let options = LoadOptions {
        pin_maps,
        pin_root: Some(pin_root.clone()),
        slots: args.slots.map(policy),
        hold: true,
        raise_nofile: false,
        programs: wishes.programs,
        kconfig: wishes.kconfig,
    };
    match load(&input.plan, &kernel, &options) {
        Ok(loaded) => {
            let calls: Vec<String> = kernel.calls().iter().map(ToString::to_string).collect();
            let mut warnings = input.warnings;
            warnings.extend(input::with_name(&args.inputs, loaded.diagnostics.clone()));
            let not_used = named_pins::not_used(&input.plan, &pin_root);
            warnings.extend(input::with_name(
                &args.inputs,
                not_used.into_iter().collect(),
            ));
            let warnings = wishes.places.find(warnings);
            if json {
                output::result(&to_json(&DryRunDocument { calls, warnings })?)?;
            } else {
                output::diagnostics(&warnings);
                let lines: String = calls
                    .iter()
                    .map(|call| format!("{}\n", plain(call)))
                    .collect();
                output::result(&lines)?;
            }
            Ok(Exit::Done)
        }
        Err(error) => failed(args, input.warnings, error, &wishes.places, json),
    }
}

/// The path without symbolic links on the way, as the load itself shows it; as it is if it leads
/// nowhere.
fn resolved(directory: &Path) -> PathBuf {
    let absolute = || std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let Some(name) = directory.file_name().filter(|_| !directory.is_dir()) else {
        return directory.canonicalize().unwrap_or_else(|_| absolute());
    };
    match absolute().parent().map(Path::canonicalize) {
        Some(Ok(parent)) => parent.join(name),
        _ => absolute(),
    }
}

fn failed(
    args: &LoadArgs,
    warnings: Vec<Diagnostic>,
    error: LoadError,
    places: &Places,
    json: bool,
) -> io::Result<Exit> {
    let exit = if error.kind == ErrorKind::NotKept {
        Exit::Usage
    } else {
        Exit::Refused
    };
    let mut diagnostics = input::with_name(&args.inputs, error.into());
    diagnostics.extend(warnings);
    output::failure(&places.find(diagnostics), json)?;
    Ok(exit)
}

fn document<K: Kernel>(
    loaded: &Loaded<K>,
    maps: Vec<(MapType, LoadedMap)>,
    warnings: Vec<Diagnostic>,
) -> io::Result<String> {
    let programs = loaded.programs.iter().map(|program| LoadedProgram {
        name: program.name.clone(),
        id: program.id,
        pinned: program
            .pinned
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned()),
    });
    to_json(&LoadDocument {
        maps: maps.into_iter().map(|(_, map)| map).collect(),
        programs: programs.collect(),
        warnings,
    })
}

fn to_json(document: &impl Serialize) -> io::Result<String> {
    let mut text = serde_json::to_string_pretty(document).map_err(io::Error::other)?;
    text.push('\n');
    Ok(text)
}

fn policy(slots: Slots) -> SlotPolicy {
    match slots {
        Slots::Keep => SlotPolicy::Keep,
        Slots::FillEmpty => SlotPolicy::FillEmpty,
        Slots::Overwrite => SlotPolicy::Overwrite,
    }
}

/// One line for each map and each program, and one that sums up.
fn report<K: Kernel>(plan: &Plan, loaded: &Loaded<K>, maps: &[(MapType, LoadedMap)]) -> String {
    let pin = |path: Option<&str>| {
        let text = path.map(|path| format!("  {path}"));
        plain(&text.unwrap_or_default()).into_owned()
    };
    let mut rows: Vec<[String; 4]> = maps
        .iter()
        .map(|(map_type, made)| {
            let mut slots = match made.filled {
                0 => String::new(),
                filled => format!("  {} filled", count(filled, "slot")),
            };
            if made.reused {
                slots.push_str("  reused");
            }
            [
                plain(&made.name).into_owned(),
                map_type.to_string(),
                format!("max_entries {}{slots}", made.max_entries),
                pin(made.pinned.as_deref()),
            ]
        })
        .collect();
    rows.extend(loaded.programs.iter().map(|made| {
        let path = made.pinned.as_ref().map(|path| path.to_string_lossy());
        [
            plain(&made.name).into_owned(),
            "program".to_owned(),
            String::new(),
            pin(path.as_deref()),
        ]
    }));
    let programs = loaded.programs.iter().map(|program| program.id);
    let ids = maps.iter().map(|(_, map)| map.id).chain(programs);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths = [width(0), width(1), width(2)].map(Option::unwrap_or_default);
    let mut text = String::new();
    for (row, id) in rows.iter().zip(ids) {
        let [name, kind, facts, pin] = row;
        let [name_width, kind_width, facts_width] = widths;
        let line = format!(
            "  {name:name_width$}  {kind:kind_width$}  id {id:<6}  {facts:facts_width$}{pin}",
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if !rows.is_empty() {
        text.push('\n');
    }
    let filled = loaded
        .maps
        .iter()
        .map(|map| u64::from(map.filled))
        .sum::<u64>();
    let reused = loaded.maps.iter().filter(|map| map.reused).count();
    let created = count(maps.len().saturating_sub(reused), "map");
    text.push_str(&format!("{created} created"));
    if reused > 0 {
        text.push_str(&format!(", {reused} reused"));
    }
    if filled > 0 {
        text.push_str(&format!(", {} filled", count(filled, "slot")));
    }
    if !loaded.programs.is_empty() {
        let programs = count(loaded.programs.len(), "program");
        text.push_str(&format!(", {programs} loaded"));
    }
    let records = loaded.record.iter().chain(&loaded.program_record);
    let unloads: Vec<String> = records
        .filter_map(|record| record.parent())
        .map(|directory| format!("`bpfplan unload {}`", plain(&directory.to_string_lossy())))
        .collect();
    match unloads.as_slice() {
        [] => {}
        [one] => text.push_str(&format!("; {one} removes the pins")),
        many => text.push_str(&format!("; {} remove the pins", many.join(" and "))),
    }
    text.push_str(&named_pins::staying(plan, loaded));
    text.push_str(".\n");
    text
}

/// What a load is about to do, in words.
fn describe(plan: &Plan, progress: Progress<'_>) -> String {
    let name = |index: usize| {
        plan.maps
            .get(index)
            .map_or_else(String::new, |map| plain(&map.name).into_owned())
    };
    let text = match progress {
        Progress::Step(Step::LoadBtf) => format!("load BTF, {} bytes", plan.btf.len()),
        Progress::Step(Step::CreateTemplate { map }) => {
            format!("create the inner template of {}", name(map))
        }
        Progress::Step(Step::CreateMap { map }) => format!("create {}", name(map)),
        Progress::Step(Step::DropTemplate { map }) => {
            format!("close the inner template of {}", name(map))
        }
        Progress::Step(Step::WriteContents { map }) => {
            let size = plan.maps.get(map).map_or(0, |map| map.value_size);
            format!("write {} into {}", count(size, "byte"), name(map))
        }
        Progress::Step(Step::Freeze { map }) => format!("freeze {}", name(map)),
        Progress::Step(Step::FillSlots { map }) => {
            let slots = plan.maps.get(map).map_or(0, |map| map.slots.len());
            format!("fill {} of {}", count(slots, "slot"), name(map))
        }
        Progress::Step(Step::Pin { map }) => format!("pin {}", name(map)),
        Progress::Reuse { map, path } => format!("reuse {} from {}", name(map), path.display()),
        Progress::Again => "begin again: somebody else has changed the pins".to_owned(),
        Progress::Fill(way) => format!("fill slots {way}"),
        Progress::Together { maps, threads } => {
            format!("create {} on {threads} threads", count(maps, "large map"))
        }
        Progress::Chunks { maps, chunks } => format!(
            "create {} in {}, as there are too few descriptors",
            count(maps, "map"),
            count(chunks, "chunk")
        ),
        Progress::GoOn => "go on".to_owned(),
        Progress::MakeDirectory(path) => format!("make {}", path.display()),
        Progress::Record(path) => format!("record the load in {}", path.display()),
        Progress::Pin { map, path } => format!("pin {} to {}", name(map), path.display()),
        Progress::Step(Step::LoadPrograms) => {
            let programs = plan.programs.iter().filter(|program| program.is_loaded());
            format!("load {} with libbpf", count(programs.count(), "program"))
        }
        Progress::Step(Step::FillPrograms { map }) => format!("fill {} with programs", name(map)),
        Progress::PinProgram { name, path } => format!("pin {name} to {}", path.display()),
    };
    plain(&text).into_owned()
}

/// What a load made, in numbers.
fn things<K: Kernel>(loaded: &Loaded<K>) -> String {
    let maps = count(loaded.maps.len(), "map");
    if loaded.programs.is_empty() {
        return maps;
    }
    let programs = count(loaded.programs.len(), "program");
    format!("{maps} and {programs}")
}

fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
