//! What is refused before anything is created.

use std::path::Path;

use bpfplan_plan::rules::required::Required;
use bpfplan_plan::validate::validate;
use bpfplan_plan::{
    Diagnostic, Endianness, Map, MaxEntries, Pinning, Plan, Slot, SlotTarget, rules,
};

use crate::by_name::{self, ByName, PIN_ROOT};
use crate::chunks::{Chunk, chunks};
use crate::codes;
use crate::error::{ErrorKind, LoadError};
use crate::kconfig::{self, Resolved};
use crate::kernel::{FdLimit, Kernel};
use crate::options::LoadOptions;
use crate::pins::{self, Pins};
use crate::program_rules::{self, Origin};
use crate::record::Record;
use crate::scarce;

/// A plan that may be executed, and what the machine adds to it.
#[derive(Debug)]
pub(crate) struct Ready<F> {
    /// Where to pin.
    pub(crate) pins: Option<Pins>,
    /// Where to pin programs, if that is another directory.
    pub(crate) program_pins: Option<Pins>,
    /// Who makes the maps, in the plan's order.
    pub(crate) origins: Vec<Origin>,
    /// The maps that are pinned by name, if there are any.
    pub(crate) named: Option<ByName<F>>,
    /// The number of possible CPUs, if the plan asks for it.
    pub(crate) possible_cpus: Option<u32>,
    /// The values of the `.kconfig` map, if there is one.
    pub(crate) kconfig: Resolved,
    /// How many descriptors the load opens and keeps, if they are not scarce.
    pub(crate) descriptors: u64,
    /// What is created and closed again in turn, if descriptors are scarce; else nothing.
    pub(crate) chunks: Vec<Chunk>,
    /// Warnings.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Descriptors that a load needs besides one for each map: BTF, a template, the record, a pin
/// that is opened to be compared.
const EXTRA_DESCRIPTORS: u64 = 8;

pub(crate) fn check<K: Kernel>(
    plan: &Plan,
    kernel: &K,
    options: &LoadOptions,
) -> Result<Ready<K::Fd>, LoadError> {
    let refused = |diagnostics| LoadError::new(ErrorKind::Refused, diagnostics);
    validate(plan).map_err(|diagnostics| LoadError::new(ErrorKind::Plan, diagnostics))?;
    let mut problems = unsupported(plan);
    problems.extend(program_rules::problems(plan, &options.programs));
    problems.extend(rules::required(plan).iter().map(Required::diagnostic));
    if !problems.is_empty() {
        return Err(refused(problems));
    }
    let pins_programs = program_rules::pin_directory(&options.programs).is_some();
    if options.pin_maps.is_none() && !options.hold && !pins_programs {
        let lost = plan.maps.iter();
        let lost: Vec<&Map> = lost.filter(|map| map.pinning == Pinning::None).collect();
        if !lost.is_empty() {
            return Err(LoadError::new(
                ErrorKind::NotKept,
                vec![not_kept(plan, &lost)],
            ));
        }
    }
    if let Some(problem) = program_rules::not_kept(options) {
        return Err(LoadError::new(ErrorKind::NotKept, vec![problem]));
    }
    let descriptors = descriptors(plan, options);
    let mut chunks = Vec::new();
    if options.raise_nofile {
        let reserved = reserve_descriptors(plan, kernel, options, descriptors);
        chunks = reserved.map_err(|problem| refused(vec![problem]))?;
    }
    let mut named = None;
    if by_name::is_wanted(plan) {
        let root = options.pin_root.as_deref();
        let root = root.unwrap_or_else(|| Path::new(PIN_ROOT));
        named = Some(by_name::prepare(kernel, root, plan).map_err(refused)?);
    }
    let (pins, program_pins) =
        program_rules::directories(plan, kernel, options, named.as_ref()).map_err(refused)?;
    for pins in pins.iter().chain(&program_pins) {
        let ids = vec![Some(u32::MAX); plan.maps.len()];
        Record::new(plan, pins, &ids, |_| Some(u32::MAX))
            .encode()
            .map_err(|problem| refused(vec![problem]))?;
    }
    let possible_cpus = if wants_possible_cpus(plan) {
        let count = kernel.possible_cpus();
        Some(count.map_err(|errno| refused(vec![pins::unknown_cpus(errno)]))?)
    } else {
        None
    };
    let kconfig = kconfig::resolve(plan, kernel, options.kconfig.as_ref()).map_err(refused)?;
    let mut kconfig = kconfig.unwrap_or_default();
    let mut diagnostics = std::mem::take(&mut kconfig.diagnostics);
    let origins = program_rules::origins(plan, kernel, &options.programs, &mut diagnostics);
    if let Some(named) = &mut named {
        diagnostics.append(&mut named.warnings);
    }
    diagnostics.extend(pins::kernel_name_collisions(plan));
    Ok(Ready {
        pins,
        program_pins,
        kconfig,
        origins,
        named,
        possible_cpus,
        descriptors,
        chunks,
        diagnostics,
    })
}

/// How many descriptors the load opens and keeps until its end.
fn descriptors(plan: &Plan, options: &LoadOptions) -> u64 {
    let maps = u64::try_from(plan.maps.len()).unwrap_or(u64::MAX);
    let more = program_rules::descriptors(plan, &options.programs);
    maps.saturating_add(more)
}

/// Raises the limit of open descriptors if the plan needs more. Where that is not allowed, gives the
/// chunks of a load that makes do with what there is.
fn reserve_descriptors<K: Kernel>(
    plan: &Plan,
    kernel: &K,
    options: &LoadOptions,
    descriptors: u64,
) -> Result<Vec<Chunk>, Diagnostic> {
    let needed = descriptors.saturating_add(EXTRA_DESCRIPTORS);
    let Err(FdLimit {
        needed,
        errno,
        free,
    }) = kernel.reserve_fds(needed)
    else {
        return Ok(Vec::new());
    };
    let mut notes = vec![format!(
        "each of the {} maps is open until all are pinned, or as long as it is held",
        plan.maps.len()
    )];
    let for_maps = free.saturating_sub(EXTRA_DESCRIPTORS);
    let for_maps = usize::try_from(for_maps).unwrap_or(usize::MAX);
    if options.programs.to_load().is_none()
        && let Some(chunks) = chunks(plan, for_maps)
    {
        if options.hold {
            let note = "pinned and not held, those in slots are closed when these are filled, and \
                        fewer descriptors do";
            notes.push(note.to_owned());
        } else if let Some(errno) = scarce::not_opened_by_id(kernel) {
            notes.push(format!(
                "those in slots could be closed before, but not opened again by their ids, which \
                 needs CAP_SYS_ADMIN: {errno}"
            ));
        } else if kernel.reserve_fds(free).is_ok() {
            return Ok(chunks);
        }
    }
    notes.push(
        "only CAP_SYS_RESOURCE goes beyond the hard limit (`ulimit -Hn`), and nobody beyond fs.nr_open"
            .to_owned(),
    );
    let message = format!("the load needs {needed} descriptors; raising the limit failed: {errno}");
    let mut problem = Diagnostic::error(codes::TOO_FEW_DESCRIPTORS, message)
        .help(format!("allow them with `ulimit -n {needed}`, as root"));
    problem.notes = notes;
    Err(problem)
}

/// Everything in the plan that this loader does not load.
fn unsupported(plan: &Plan) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    if plan.object.endianness != Endianness::NATIVE {
        problems.push(
            Diagnostic::error(
                codes::FOREIGN_ENDIANNESS,
                format!(
                    "the object is {}, this machine is {}",
                    plan.object.endianness,
                    Endianness::NATIVE
                ),
            )
            .help("compile the object for this machine: `clang -target bpf`"),
        );
    }
    for map in &plan.maps {
        let problem = |code, message: &str, field: &str| {
            Diagnostic::error(code, message)
                .map(&map.name)
                .field(field)
                .at(map.source.as_ref(), "declared here")
        };
        let of_maps = |slot: &Slot| matches!(slot.target, SlotTarget::Map(_));
        if map.slots.iter().any(of_maps) && map.key_size != 4 {
            problems.push(problem(
                codes::SLOT_KEY_SIZE,
                &format!("static slots need keys of 4 bytes, it has {}", map.key_size),
                "key_size",
            ));
        }
    }
    problems
}

fn not_kept(plan: &Plan, lost: &[&Map]) -> Diagnostic {
    let what = match lost {
        [map] => format!("the map '{}' would be gone", map.name.escape_debug()),
        lost if lost.len() == plan.maps.len() => {
            format!("all {} maps would be gone", lost.len())
        }
        lost => format!(
            "{} of {} maps would be gone, as they are not pinned by name,",
            lost.len(),
            plan.maps.len()
        ),
    };
    Diagnostic::error(
        codes::NOT_KEPT,
        format!("{what} as soon as the load is done"),
    )
    .note("a map lives as long as a pin, a descriptor or a program holds it")
    .help("pin the maps with --pin-maps DIR, keep them with --hold, or only look with --dry-run")
}

fn wants_possible_cpus(plan: &Plan) -> bool {
    plan.maps.iter().any(|map| {
        map.max_entries == MaxEntries::PossibleCpus
            || map
                .inner
                .as_ref()
                .is_some_and(|inner| inner.max_entries == MaxEntries::PossibleCpus)
    })
}
