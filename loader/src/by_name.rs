//! Maps that are pinned by name: where their pins go, and the maps that are there already.

use std::path::{Path, PathBuf};

use bpfplan_plan::compare::{Attributes, Difference, Existing, compare, template};
use bpfplan_plan::rules::Target;
use bpfplan_plan::{Diagnostic, Map, MapType, Pinning, Plan, SlotTarget, uapi};

use crate::codes;
use crate::kernel::{BtfCache, Errno, Kernel, MapInfo, PathKind, Pinned};
use crate::pins;
use crate::record::{self, Record, RecordedTemplate};

/// Where maps are pinned by name unless the caller says something else, as in libbpf.
pub const PIN_ROOT: &str = "/sys/fs/bpf";

/// Slots of an outer map that are looked at to learn what its inner maps are like: on kernels
/// before 6.8 every look waits for an RCU grace period.
const LOOKS: usize = 8;

/// The pin root of a load, and its maps that are pinned there.
#[derive(Debug)]
pub(crate) struct ByName<F> {
    /// The directory, without symbolic links.
    pub(crate) root: PathBuf,
    /// Whether it has to be made.
    pub(crate) create: bool,
    /// One for each map of the plan, `None` for those that are not pinned by name.
    pub(crate) pins: Vec<Option<NamedPin<F>>>,
    /// Differences that the maps that are there can do with.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// The pin of a map that is pinned by name.
#[derive(Debug)]
pub(crate) struct NamedPin<F> {
    pub(crate) path: PathBuf,
    /// `BPF_F_RDONLY` or `BPF_F_WRONLY` if the map is declared with it: it is the descriptor's.
    pub(crate) flags: u32,
    /// The map that is there already.
    pub(crate) reused: Option<Reused<F>>,
}

/// A map that is used as it is.
#[derive(Debug)]
pub(crate) struct Reused<F> {
    /// `None` once the load has taken it.
    pub(crate) fd: Option<F>,
    pub(crate) info: MapInfo,
}

impl<F> ByName<F> {
    pub(crate) fn pin(&self, index: usize) -> Option<&NamedPin<F>> {
        self.pins.get(index)?.as_ref()
    }

    pub(crate) fn reused(&self, index: usize) -> Option<&Reused<F>> {
        self.pin(index)?.reused.as_ref()
    }

    /// Whether all maps of the plan are there already.
    pub(crate) fn all_reused(&self) -> bool {
        (0..self.pins.len()).all(|index| self.reused(index).is_some())
    }
}

/// Whether a plan has maps that are pinned by name.
pub(crate) fn is_wanted(plan: &Plan) -> bool {
    plan.maps.iter().any(|map| map.pinning == Pinning::ByName)
}

/// Looks at the pin root, opens the maps that are there and compares them; nothing is made.
pub(crate) fn prepare<K: Kernel>(
    kernel: &K,
    root: &Path,
    plan: &Plan,
) -> Result<ByName<K::Fd>, Vec<Diagnostic>> {
    let problems = names(plan);
    if !problems.is_empty() {
        return Err(problems);
    }
    // Whoever made it may remove it just then: a second look tells.
    let (root, create) = pins::find_directory(kernel, root)
        .or_else(|_| pins::find_directory(kernel, root))
        .map_err(|problem| vec![problem])?;
    let mut look = Look {
        kernel,
        plan,
        root: &root,
        target: None,
        record: None,
        blobs: BtfCache::default(),
        read_only: false,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let pins = plan.maps.iter().map(|map| {
        (map.pinning == Pinning::ByName).then(|| {
            let path = root.join(&map.name);
            let flags = map.map_flags & (uapi::BPF_F_RDONLY | uapi::BPF_F_WRONLY);
            let reused = if create {
                None
            } else {
                look.at(map, &path, flags)
            };
            NamedPin {
                path,
                flags,
                reused,
            }
        })
    });
    let pins = pins.collect();
    let (problems, warnings) = (look.problems, look.warnings);
    if problems.is_empty() {
        Ok(ByName {
            root,
            create,
            pins,
            warnings,
        })
    } else {
        Err(problems)
    }
}

/// Maps that cannot be pinned by their names.
fn names(plan: &Plan) -> Vec<Diagnostic> {
    let named = plan
        .maps
        .iter()
        .filter(|map| map.pinning == Pinning::ByName);
    let problems = named.filter_map(|map| {
        let problem = pins::name_problem(&map.name)?;
        let name = map.name.escape_debug();
        let message = format!("\"{name}\" cannot be the name of a pin: {problem}");
        Some(
            Diagnostic::error(codes::PIN_NAME, message)
                .map(&map.name)
                .field("pinning")
                .at(map.source.as_ref(), "declared here")
                .help("rename the map, or take `pinning` out of its declaration"),
        )
    });
    problems.take(pins::SHOWN).collect()
}

/// Looking at what is pinned.
struct Look<'a, K> {
    kernel: &'a K,
    plan: &'a Plan,
    root: &'a Path,
    /// The machine, once it was asked for.
    target: Option<Target>,
    /// The record beside the pins, if it was looked for; `None` in it if there is none.
    record: Option<Option<Record>>,
    /// The BTF of the maps that were compared.
    blobs: BtfCache,
    /// Whether it was said that the file system of the pins cannot be written to.
    read_only: bool,
    problems: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<K: Kernel> Look<'_, K> {
    /// Opens the map at the path, if there is one that can stand in for the declared one.
    fn at(&mut self, map: &Map, path: &Path, flags: u32) -> Option<Reused<K::Fd>> {
        match self.open(map, path, flags) {
            Ok(found) => found,
            Err(_) if self.problems.len() > pins::SHOWN => None,
            Err(_) if self.problems.len() == pins::SHOWN => {
                let message = "more pins may be wrong; these are the first hundred";
                self.problems
                    .push(Diagnostic::error(codes::PIN_MISMATCH, message));
                None
            }
            Err(problem) => {
                let declared = map.source.as_ref();
                self.problems
                    .push(problem.map(&map.name).at(declared, "declared here"));
                None
            }
        }
    }

    fn open(
        &mut self,
        map: &Map,
        path: &Path,
        flags: u32,
    ) -> Result<Option<Reused<K::Fd>>, Diagnostic> {
        let shown = path.display();
        match self.kernel.inspect(path) {
            Ok(PathKind::Other) => {}
            Ok(PathKind::Directory { .. }) => return Err(no_map(path, "a directory")),
            Ok(PathKind::Symlink) => {
                return Err(no_map(path, "a symbolic link")
                    .note("a link may lead anywhere; libbpf would follow it"));
            }
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => {
                let message = format!("looking at {shown} failed: {errno}");
                return Err(Diagnostic::error(codes::PIN_UNREADABLE, message));
            }
        }
        let fd = match self.kernel.reuse_pin(path, flags) {
            Ok(Pinned::Map(fd)) => fd,
            Ok(Pinned::Other(what)) => return Err(no_map(path, what)),
            // It vanished meanwhile.
            Err(Errno::ENOENT) => return Ok(None),
            // One reason for all pins is said once.
            Err(Errno::EROFS) if std::mem::replace(&mut self.read_only, true) => return Ok(None),
            Err(errno) => {
                let message = format!("opening the map at {shown} failed: {errno}");
                let problem = Diagnostic::error(codes::PIN_UNREADABLE, message);
                return Err(match errno {
                    Errno::EROFS => problem
                        .note("a reused map is read and written, and the file system is read-only")
                        .help("mount it with `-o remount,rw`, or use another pin root"),
                    Errno::EACCES | Errno::EPERM => problem
                        .note("a reused map is read and written, and the pin's mode forbids it")
                        .help("load as the user who owns the pin, or use another pin root"),
                    _ => problem,
                });
            }
        };
        let info = self.kernel.info(&fd).map_err(|errno| {
            let message = format!("reading about the map at {shown} failed: {errno}");
            Diagnostic::error(codes::INFO_REFUSED, message)
        })?;
        self.compare(map, path, &fd, &info)?;
        Ok(Some(Reused { fd: Some(fd), info }))
    }

    fn compare(
        &mut self,
        map: &Map,
        path: &Path,
        fd: &K::Fd,
        info: &MapInfo,
    ) -> Result<(), Diagnostic> {
        let target = self.target()?;
        let mut notes = Vec::new();
        let types = if map.btf.is_none() {
            None
        } else {
            self.kernel
                .map_types(info, &mut self.blobs)
                .unwrap_or_else(|errno| {
                    notes.push(format!(
                        "its types are not compared, reading them failed: {errno}"
                    ));
                    None
                })
        };
        let existing = Existing {
            attributes: info.attributes(),
            types: types.as_ref(),
            frozen: self.kernel.is_frozen(fd).unwrap_or_default(),
        };
        let mut found = compare(map, &self.plan.types, &existing, &target);
        if map.btf.is_some() && types.is_none() && notes.is_empty() {
            found.push(Difference::warning("BTF", "of key and value", "none"));
        }
        if map.map_type == info.map_type {
            found.extend(self.inner(map, fd, info, &target));
        }
        let shown = path.display();
        if found.iter().any(Difference::is_error) {
            let message = format!("the map at {shown} is not the declared one");
            let mut problem = Diagnostic::error(codes::PIN_MISMATCH, message).help(format!(
                "remove the pin if nobody needs that map (`rm {shown}`), use another pin root, or \
                 declare what is there"
            ));
            (problem.differences, problem.notes) = (found, notes);
            return Err(problem);
        }
        if map.data.is_some() {
            notes
                .push("its initial contents are not written: the map keeps what it has".to_owned());
        }
        if !found.is_empty() || !notes.is_empty() {
            let message = format!("the map at {shown} is reused, though it is not quite the same");
            let mut warning = Diagnostic::warning(codes::REUSED_DIFFERS, message)
                .map(&map.name)
                .at(map.source.as_ref(), "declared here");
            (warning.differences, warning.notes) = (found, notes);
            self.warnings.push(warning);
        }
        Ok(())
    }

    /// What is known of the inner maps that an outer map takes: the kernel does not show its
    /// template, but a record of its load does, and any map that it holds is like it.
    fn inner(&mut self, map: &Map, fd: &K::Fd, info: &MapInfo, target: &Target) -> Vec<Difference> {
        let Some(declared) = &map.inner else {
            return Vec::new();
        };
        let plan = self.plan;
        if let Some(recorded) = self.recorded(info.id) {
            let existing = Existing {
                attributes: attributes(recorded, target),
                types: None,
                frozen: None,
            };
            return template(declared, &plan.types, &existing, target);
        }
        let Some(held) = self.held(map, fd, info) else {
            return Vec::new();
        };
        let types = match declared.btf {
            Some(_) => self.kernel.map_types(&held, &mut self.blobs).ok().flatten(),
            None => None,
        };
        let existing = Existing {
            attributes: held.attributes(),
            types: types.as_ref(),
            frozen: None,
        };
        template(declared, &plan.types, &existing, target)
    }

    /// The template in the record beside the pins, if it is about the map with that id.
    fn recorded(&mut self, id: u32) -> Option<&RecordedTemplate> {
        let (kernel, path) = (self.kernel, self.root.join(record::NAME));
        let record = self.record.get_or_insert_with(|| {
            let record = Record::read(kernel, &path).ok();
            record.map(|(record, _)| record)
        });
        let maps = &record.as_ref()?.maps;
        maps.iter().find(|map| map.id == id)?.template.as_ref()
    }

    /// Some map that the outer map holds.
    fn held(&self, map: &Map, fd: &K::Fd, info: &MapInfo) -> Option<MapInfo> {
        if info.key_size != 4 || info.value_size != 4 {
            return None;
        }
        let declared = map.slots.iter();
        let declared = declared
            .filter(|slot| matches!(slot.target, SlotTarget::Map(_)))
            .map(|slot| slot.index);
        let ids = declared.chain(0..info.max_entries).take(LOOKS);
        let mut ids = ids.filter_map(|index| self.kernel.slot(fd, index).ok().flatten());
        let held = self.kernel.map_by_id(ids.next()?).ok()?;
        self.kernel.info(&held).ok()
    }

    fn target(&mut self) -> Result<Target, Diagnostic> {
        if let Some(target) = self.target {
            return Ok(target);
        }
        let target = self.kernel.target().map_err(pins::unknown_cpus)?;
        self.target = Some(target);
        Ok(target)
    }
}

fn attributes(recorded: &RecordedTemplate, target: &Target) -> Attributes {
    Attributes {
        map_type: MapType(recorded.map_type),
        key_size: recorded.key_size,
        value_size: recorded.value_size,
        max_entries: recorded.max_entries.unwrap_or(target.possible_cpus),
        map_flags: recorded.map_flags,
        map_extra: recorded.map_extra,
    }
}

fn no_map(path: &Path, what: &str) -> Diagnostic {
    let path = path.display();
    let message = format!("{path} is {what}, not a map");
    Diagnostic::error(codes::PIN_NOT_A_MAP, message).help(format!(
        "remove it if nobody needs it (`rm {path}`), or use another pin root"
    ))
}
