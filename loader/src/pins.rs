//! Names of pins, and the directory that they go to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use bpfplan_plan::{Diagnostic, Map, Pinning, Plan, uapi};

use crate::by_name::ByName;
use crate::codes;
use crate::kernel::{Errno, Kernel, PathKind};
use crate::record;

/// Longest name in a directory: `NAME_MAX`.
const NAME_MAX: usize = 255;

/// Problems with names that are reported.
pub(crate) const SHOWN: usize = 100;

const MOUNT_HINT: &str = "use a directory below /sys/fs/bpf; `mount -t bpf bpf /sys/fs/bpf` mounts \
                          it where it is missing";

/// Where the pins of a load go.
#[derive(Debug)]
pub(crate) struct Pins {
    /// The directory, without symbolic links.
    pub(crate) directory: PathBuf,
    /// Whether it has to be made.
    pub(crate) create: bool,
    /// In the plan's order, the name of the pin that this load makes there of each map, `None` for
    /// maps that are pinned elsewhere, or were before.
    pub(crate) names: Vec<Option<String>>,
    /// Whether it is the directory for maps. One for both is.
    pub(crate) of_maps: bool,
    /// In the plan's order, the name of the pin of each program, `None` for those that are not
    /// loaded; empty if programs are not pinned here.
    pub(crate) programs: Vec<Option<String>>,
}

impl Pins {
    /// Path of the pin of the map with that index.
    pub(crate) fn map(&self, index: usize) -> Option<PathBuf> {
        Some(self.path(self.names.get(index)?.as_ref()?))
    }

    /// Names of programs, and the paths of their pins.
    pub(crate) fn program_paths<'p>(
        &'p self,
        plan: &'p Plan,
    ) -> impl Iterator<Item = (&'p str, PathBuf)> {
        let programs = plan.programs.iter().zip(&self.programs);
        programs
            .filter_map(|(program, pin)| Some((program.name.as_str(), self.path(pin.as_ref()?))))
    }

    /// Path of the pin with that name.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Path of the load's record.
    pub(crate) fn record(&self) -> PathBuf {
        self.path(record::NAME)
    }
}

/// The name of a map's pin: bpffs reserves `.`, which libbpf's `pin_maps` replaces as well.
pub(crate) fn pin_name(map: &str) -> String {
    map.replace('.', "_")
}

/// Why a pin cannot have that name.
pub(crate) fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.contains('/') {
        Some("it has a `/`")
    } else if name.chars().any(char::is_control) {
        Some("it has a control character")
    } else if name.contains('.') {
        Some("it has a `.`, which bpffs reserves")
    } else if name.len() > NAME_MAX {
        Some("it is longer than 255 bytes")
    } else if name == record::NAME {
        Some("bpfplan keeps the record of a load under it")
    } else {
        None
    }
}

/// Names for the pins of the maps of the plan. Those of maps that are pinned by name matter only
/// in the pin root itself.
fn names(plan: &Plan, is_root: bool) -> Result<Vec<Option<String>>, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut names = Vec::with_capacity(plan.maps.len());
    let mut owners: BTreeMap<String, &Map> = BTreeMap::new();
    for map in &plan.maps {
        if problems.len() == SHOWN {
            problems.push(Diagnostic::error(
                codes::PIN_NAME,
                "more names may be wrong; these are the first hundred",
            ));
            break;
        }
        if map.pinning == Pinning::ByName && !is_root {
            names.push(None);
            continue;
        }
        let name = pin_name(&map.name);
        let declared = map.source.as_ref();
        if let Some(problem) = name_problem(&name) {
            problems.push(
                Diagnostic::error(
                    codes::PIN_NAME,
                    format!(
                        "\"{}\" cannot be the name of a pin: {problem}",
                        name.escape_debug()
                    ),
                )
                .map(&map.name)
                .at(declared, "declared here")
                .help("rename the map, or load without --pin-maps"),
            );
        } else if let Some(other) = owners.insert(name.clone(), map) {
            problems.push(
                Diagnostic::error(
                    codes::PIN_NAMES_COLLIDE,
                    format!(
                        "its pin \"{name}\" would be that of map '{}' as well",
                        other.name.escape_debug()
                    ),
                )
                .map(&map.name)
                .at(declared, "declared here")
                .at(other.source.as_ref(), "the other map")
                .note("bpffs reserves `.` in names, so it becomes `_`, as in libbpf's pin_maps")
                .help("rename one of the maps"),
            );
        }
        names.push(Some(name));
    }
    if problems.is_empty() {
        Ok(names)
    } else {
        Err(problems)
    }
}

/// Names for the pins of all programs of the plan that are loaded, none of which is among `taken`.
pub(crate) fn program_names(
    plan: &Plan,
    taken: &[String],
) -> Result<Vec<Option<String>>, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut names = Vec::with_capacity(plan.programs.len());
    let mut owners: BTreeMap<String, Option<&str>> =
        taken.iter().map(|name| (name.clone(), None)).collect();
    for program in &plan.programs {
        if problems.len() == SHOWN {
            problems.push(Diagnostic::error(
                codes::PIN_NAME,
                "more names may be wrong; these are the first hundred",
            ));
            break;
        }
        if !program.is_loaded() {
            names.push(None);
            continue;
        }
        let name = pin_name(&program.name);
        if let Some(problem) = name_problem(&name) {
            let shown = name.escape_debug();
            problems.push(
                Diagnostic::error(
                    codes::PIN_NAME,
                    format!("\"{shown}\" cannot be the name of a pin: {problem}"),
                )
                .program(program.name.as_str())
                .help("rename the program"),
            );
        } else if let Some(other) = owners.insert(name.clone(), Some(&program.name)) {
            let (whose, help) = match other {
                Some(other) => (
                    format!("program '{}'", other.escape_debug()),
                    "rename one of the programs",
                ),
                None => (
                    "a map".to_owned(),
                    "pin maps and programs in two directories",
                ),
            };
            problems.push(
                Diagnostic::error(
                    codes::PIN_NAMES_COLLIDE,
                    format!("its pin \"{name}\" would be that of {whose} as well"),
                )
                .program(program.name.as_str())
                .note("bpffs reserves `.` in names, so it becomes `_`")
                .help(help),
            );
        }
        names.push(Some(name));
    }
    if problems.is_empty() {
        Ok(names)
    } else {
        Err(problems)
    }
}

/// The directory for the pins of maps, and their names. Maps that are pinned by name have their
/// places already.
pub(crate) fn of_maps<K: Kernel>(
    kernel: &K,
    directory: &Path,
    named: Option<&ByName<K::Fd>>,
    plan: &Plan,
) -> Result<Pins, Vec<Diagnostic>> {
    let (directory, create) = find_directory(kernel, directory).map_err(|error| vec![error])?;
    let is_root = named.is_some_and(|named| named.root == directory);
    let mut pins = Pins {
        names: names(plan, is_root)?,
        directory,
        create,
        of_maps: true,
        programs: Vec::new(),
    };
    if let Some(named) = named {
        let mut problems = Vec::new();
        for ((index, map), name) in plan.maps.iter().enumerate().zip(&mut pins.names) {
            if named.reused(index).is_some() {
                *name = None;
            }
            if named
                .pin(index)
                .is_some_and(|pin| pin.path == pins.directory)
            {
                problems.push(in_the_way(map, &pins.directory));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
    }
    Ok(pins)
}

/// Looks at what is in the pins' places, before anything is made.
pub(crate) fn vacant<K: Kernel>(
    kernel: &K,
    pins: Pins,
    plan: &Plan,
) -> Result<Pins, Vec<Diagnostic>> {
    if pins.create {
        return Ok(pins);
    }
    let occupied = |path: &Path| match kernel.inspect(path) {
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
        Ok(_) => Ok(true),
    };
    let unreadable = |path: &Path, errno| {
        Diagnostic::error(
            codes::PIN_DIRECTORY,
            format!("looking at {} failed: {errno}", path.display()),
        )
    };
    let record = pins.record();
    match occupied(&record) {
        Ok(false) => {}
        Ok(true) => {
            return Err(vec![taken(&pins.directory)]);
        }
        Err(errno) => return Err(vec![unreadable(&record, errno)]),
    }
    let mut problems = Vec::new();
    let mut look = |path: &Path, about: &dyn Fn(Diagnostic) -> Diagnostic| match occupied(path) {
        Ok(false) => {}
        Ok(true) => problems.push(about(
            Diagnostic::error(
                codes::PIN_EXISTS,
                format!("{} exists already and is not of a load", path.display()),
            )
            .help("remove it if nobody needs it, or pin into another directory"),
        )),
        Err(errno) => problems.push(about(unreadable(path, errno))),
    };
    for (map, name) in plan.maps.iter().zip(&pins.names) {
        let Some(name) = name.as_ref().filter(|_| map.pinning != Pinning::ByName) else {
            continue;
        };
        look(&pins.path(name), &|problem| {
            problem
                .map(&map.name)
                .at(map.source.as_ref(), "declared here")
        });
    }
    for (program, path) in pins.program_paths(plan) {
        look(&path, &|problem| problem.program(program));
    }
    if problems.is_empty() {
        Ok(pins)
    } else {
        Err(problems)
    }
}

/// A map is to be pinned by name where the directory for the other maps is.
fn in_the_way(map: &Map, directory: &Path) -> Diagnostic {
    let message = format!(
        "its pin by name would be {}, the directory for the other maps",
        directory.display()
    );
    Diagnostic::error(codes::PIN_NAMES_COLLIDE, message)
        .map(&map.name)
        .at(map.source.as_ref(), "declared here")
        .help("give --pin-maps another directory")
}

/// The number of possible CPUs cannot be read.
pub(crate) fn unknown_cpus(errno: Errno) -> Diagnostic {
    Diagnostic::error(
        codes::POSSIBLE_CPUS,
        format!("reading /sys/devices/system/cpu/possible failed: {errno}"),
    )
}

/// Another load has pinned its maps in the directory.
pub(crate) fn taken(directory: &Path) -> Diagnostic {
    let directory = directory.display();
    Diagnostic::error(
        codes::RECORD_EXISTS,
        format!("{directory} holds the pins of another load"),
    )
    .help(format!(
        "remove them with `bpfplan unload {directory}`, or pin into another directory"
    ))
}

/// The directory cannot be locked.
pub(crate) fn not_locked(directory: &Path, errno: Errno) -> Diagnostic {
    let directory = directory.display();
    if errno == Errno::EWOULDBLOCK {
        return Diagnostic::error(
            codes::DIRECTORY_BUSY,
            format!("another load or unload is at work in {directory}: {errno}"),
        )
        .help("try again when it is done");
    }
    Diagnostic::error(
        codes::PIN_DIRECTORY,
        format!("locking {directory} failed: {errno}"),
    )
}

/// The directory without symbolic links, if it is there and on a BPF file system.
pub(crate) fn existing_directory<K: Kernel>(
    kernel: &K,
    directory: &Path,
) -> Result<PathBuf, Diagnostic> {
    let directory = tidy(directory)?;
    match kernel.inspect(&directory) {
        Ok(kind) => usable(kernel, &directory, kind),
        Err(errno) => Err(unreachable_path(&directory, errno)),
    }
}

/// The directory without symbolic links, and whether it has to be made.
pub(crate) fn find_directory<K: Kernel>(
    kernel: &K,
    directory: &Path,
) -> Result<(PathBuf, bool), Diagnostic> {
    let directory = tidy(directory)?;
    match kernel.inspect(&directory) {
        Ok(kind) => return Ok((usable(kernel, &directory, kind)?, false)),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(unreachable_path(&directory, errno)),
    }
    let name = directory
        .file_name()
        .ok_or_else(|| unreachable_path(&directory, Errno::ENOENT))?;
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let parent = kernel.canonical(parent).map_err(|errno| {
        unreachable_path(parent, errno).note(format!(
            "{} does not exist, and only one level of directories is made",
            directory.display()
        ))
    })?;
    let kind = kernel
        .inspect(&parent)
        .map_err(|errno| unreachable_path(&parent, errno))?;
    let parent = usable(kernel, &parent, kind)?;
    if has_dot(name) {
        return Err(unreachable_path(&parent.join(name), Errno::EPERM));
    }
    Ok((parent.join(name), true))
}

/// Normalises `a//b/./c/`: with a slash at its end, a symbolic link would be followed.
fn tidy(directory: &Path) -> Result<PathBuf, Diagnostic> {
    let tidy: PathBuf = directory
        .components()
        .filter(|component| !matches!(component, Component::CurDir))
        .collect();
    if directory.as_os_str().is_empty() {
        return Err(
            Diagnostic::error(codes::PIN_DIRECTORY, "the pin directory has no name")
                .help(MOUNT_HINT),
        );
    }
    Ok(if tidy.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        tidy
    })
}

fn usable<K: Kernel>(kernel: &K, directory: &Path, kind: PathKind) -> Result<PathBuf, Diagnostic> {
    let refuse = |why: &str| {
        Diagnostic::error(
            codes::PIN_DIRECTORY,
            format!("{} {why}", directory.display()),
        )
    };
    match kind {
        PathKind::Directory { bpffs: true } => kernel
            .canonical(directory)
            .map_err(|errno| unreachable_path(directory, errno)),
        PathKind::Directory { bpffs: false } => Err(refuse(
            "is not on a BPF file system, the only one that keeps pins",
        )
        .help(MOUNT_HINT)),
        PathKind::Symlink => Err(refuse("is a symbolic link")
            .note("pins are made in the directory that is named, not where a link leads")
            .help("name the directory itself")),
        PathKind::Other => Err(refuse("is not a directory").help(MOUNT_HINT)),
    }
}

fn unreachable_path(path: &Path, errno: Errno) -> Diagnostic {
    let path_text = path.display();
    let message = match errno {
        Errno::ENOENT => format!("{path_text} does not exist"),
        errno => format!("{path_text} cannot be used: {errno}"),
    };
    let diagnostic = Diagnostic::error(codes::PIN_DIRECTORY, message);
    if errno == Errno::EPERM && path.iter().any(has_dot) {
        return diagnostic
            .note("bpffs reserves `.` in names and answers EPERM")
            .help("use a name without `.`");
    }
    diagnostic.help(MOUNT_HINT)
}

/// `..` leads upwards and is no name.
fn has_dot(name: &OsStr) -> bool {
    name != ".." && name.as_encoded_bytes().contains(&b'.')
}

/// A warning about maps that only differ in what the kernel cuts off, if there are any.
pub(crate) fn kernel_name_collisions(plan: &Plan) -> Option<Diagnostic> {
    /// How many names are spelled out.
    const SHOWN: usize = 8;
    // Names that the kernel keeps whole are all different, and most plans have no others.
    let limit = usize::try_from(uapi::BPF_OBJ_NAME_LEN).unwrap_or(1) - 1;
    let kept = |map: &Map| map.name.len() <= limit && !map.is_internal();
    if plan.maps.iter().all(kept) {
        return None;
    }
    let maps = plan.maps.iter().enumerate();
    let mut names: Vec<(Cow<'_, str>, usize)> = maps
        .map(|(index, map)| (map.kernel_name(), index))
        .collect();
    names.sort_unstable();
    let owners = names.chunk_by(|(one, _), (other, _)| one == other);
    let owners: Vec<&[(Cow<'_, str>, usize)]> = owners.filter(|maps| maps.len() > 1).collect();
    if owners.is_empty() {
        return None;
    }
    let mut warning = Diagnostic::warning(
        codes::KERNEL_NAMES_COLLIDE,
        "the kernel keeps 15 bytes of a name, and some maps have these in common",
    );
    for maps in owners.iter().take(SHOWN) {
        let Some((name, _)) = maps.first() else {
            continue;
        };
        let names = maps.iter().take(SHOWN);
        let names = names.filter_map(|(_, index)| plan.maps.get(*index));
        let mut list: Vec<String> = names
            .map(|map| map.name.escape_debug().to_string())
            .collect();
        if maps.len() > SHOWN {
            list.push(format!("{} more", maps.len() - SHOWN));
        }
        warning = warning.note(format!("\"{}\": {}", name.escape_debug(), list.join(", ")));
    }
    if owners.len() > SHOWN {
        warning = warning.note(format!("and {} more names", owners.len() - SHOWN));
    }
    Some(warning.help("tell them apart by id or pin, or rename them"))
}
