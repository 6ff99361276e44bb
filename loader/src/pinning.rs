//! Pinning the maps of a load, and the record of it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bpfplan_plan::rules::{Call, KernelVersion};
use bpfplan_plan::{Diagnostic, MapType, Severity, Template, uapi};

use crate::by_name::ByName;
use crate::codes;
use crate::execute::Load;
use crate::journal::Entered;
use crate::kernel::{Errno, Kernel, MapAttributes, Pinned};
use crate::options::SlotPolicy;
use crate::pins::{self, Pins};
use crate::progress::Progress;
use crate::record::{self, Record};
use crate::why::{Refusal, reasons};

/// From this version on maps can be frozen.
const FREEZE: KernelVersion = KernelVersion { major: 5, minor: 2 };

impl<K: Kernel> Load<'_, K> {
    /// Does with the slots of the reused outer maps what the options say, then pins everything.
    /// The record comes first: its pin tells a second load in the same directory that it came too
    /// late, and `unload` finds what a killed load has left.
    pub(crate) fn pin(
        &mut self,
        directories: &[&Pins],
        reused: &[usize],
        ids: &[Option<u32>],
    ) -> Result<(), Diagnostic> {
        self.lock_directories(directories)?;
        self.find_reused_again(ids)?;
        self.reused_slots(reused, ids)?;
        self.reused_program_arrays()?;
        for pins in directories {
            self.pin_record(pins, ids)?;
        }
        let plan = self.plan;
        for (index, map) in plan.maps.iter().enumerate() {
            let Some(path) = self.new_pin(directories, index) else {
                continue;
            };
            let Some(id) = ids.get(index).copied().flatten() else {
                continue;
            };
            self.tell(Progress::Pin {
                map: index,
                path: &path,
            })?;
            let again;
            let fd = if let Some(created) = self.made(index) {
                &created.fd
            } else {
                again = self.open_again(map, id)?;
                &again
            };
            self.kernel.pin(fd, &path).map_err(|errno| {
                self.raced |= matches!(errno, Errno::EEXIST | Errno::ENOENT);
                let refusal = Refusal {
                    code: codes::PIN_REFUSED,
                    step: format!("pinning it to {}", path.display()),
                    call: Call::Pin,
                    errno,
                    map,
                    source: map.source.as_ref(),
                };
                refusal.explain(self.kernel, plan)
            })?;
            self.journal.pin(path, Entered::Map(id));
        }
        directories
            .iter()
            .try_for_each(|pins| self.pin_programs(pins))
    }

    /// The path of a pin that this load makes of a map.
    fn new_pin(&self, directories: &[&Pins], index: usize) -> Option<PathBuf> {
        match self.named.as_ref().and_then(|named| named.pin(index)) {
            Some(pin) => pin.reused.is_none().then(|| pin.path.clone()),
            None => directories.iter().find_map(|pins| pins.map(index)),
        }
    }

    /// Makes the directories that are missing, and locks all. Every load takes them in the order
    /// of their paths, so that no two wait for each other.
    fn lock_directories(&mut self, pins: &[&Pins]) -> Result<(), Diagnostic> {
        let mut directories = BTreeMap::new();
        if let Some(named) = &self.named {
            directories.insert(named.root.clone(), named.create);
        }
        for pins in pins {
            directories.insert(pins.directory.clone(), pins.create);
        }
        for (directory, create) in &directories {
            if *create {
                self.make_directory(directory)?;
            }
        }
        for directory in directories.keys() {
            match self.kernel.lock_dir(directory) {
                Ok(lock) => self.locks.push(lock),
                // Maps are reused, and whoever may not list their directory changes nothing in it.
                Err(Errno::EACCES) if self.only_reuses(pins) => {}
                Err(errno) => {
                    // Who made it had to remove it again.
                    self.raced |= errno == Errno::ENOENT;
                    return Err(pins::not_locked(directory, errno));
                }
            }
        }
        Ok(())
    }

    /// Whether this load neither pins anything nor writes slots that are there.
    fn only_reuses(&self, pins: &[&Pins]) -> bool {
        let all_reused = |named: &ByName<K::Fd>| {
            let mut pins = named.pins.iter().flatten();
            pins.all(|pin| pin.reused.is_some())
        };
        pins.is_empty()
            && self.named.as_ref().is_some_and(all_reused)
            && matches!(self.options.slots, None | Some(SlotPolicy::Keep))
    }

    /// The pins of reused maps may be gone by now: whoever made them had to remove them again.
    fn find_reused_again(&mut self, ids: &[Option<u32>]) -> Result<(), Diagnostic> {
        let Some(named) = &self.named else {
            return Ok(());
        };
        for ((map, pin), id) in self.plan.maps.iter().zip(&named.pins).zip(ids) {
            let Some(pin) = pin.as_ref().filter(|pin| pin.reused.is_some()) else {
                continue;
            };
            let failed = |errno: Errno| {
                let message = format!("opening {} again failed: {errno}", pin.path.display());
                Diagnostic::error(codes::PIN_UNREADABLE, message).map(&map.name)
            };
            let still = match self.kernel.reuse_pin(&pin.path, pin.flags) {
                Ok(Pinned::Map(fd)) => Some(self.kernel.info(&fd).map_err(failed)?.id) == *id,
                Ok(Pinned::Other(_)) | Err(Errno::ENOENT) => false,
                Err(errno) => return Err(failed(errno)),
            };
            if !still {
                self.raced = true;
                let message = format!("{} is not the map any more", pin.path.display());
                return Err(Diagnostic::error(codes::PIN_UNREADABLE, message).map(&map.name));
            }
        }
        Ok(())
    }

    /// Makes a directory. Another load may be faster; which of the two may pin, their records
    /// decide, and the unload of that one removes the directory.
    fn make_directory(&mut self, directory: &Path) -> Result<(), Diagnostic> {
        self.tell(Progress::MakeDirectory(directory))?;
        match self.kernel.make_dir(directory) {
            Ok(()) => {
                self.journal.directory(directory.to_owned());
                Ok(())
            }
            Err(Errno::EEXIST) => Ok(()),
            Err(errno) => {
                let message = format!("making {} failed: {errno}", directory.display());
                let mut diagnostic = Diagnostic::error(codes::PIN_DIRECTORY, message);
                diagnostic.notes = self.reasons(Call::Pin, errno);
                Err(diagnostic)
            }
        }
    }

    /// Writes the record of the load into a map of its own, and pins that.
    fn pin_record(&mut self, pins: &Pins, ids: &[Option<u32>]) -> Result<(), Diagnostic> {
        let path = pins.record();
        self.tell(Progress::Record(&path))?;
        let programs: HashMap<&str, u32> = self
            .programs
            .iter()
            .map(|program| (program.name.as_str(), program.id))
            .collect();
        let record = Record::new(self.plan, pins, ids, |name| programs.get(name).copied());
        let maps = &self.plan.maps;
        let templates = self.template_btf.iter();
        let templates =
            templates.filter_map(|(index, ids)| Some((maps.get(*index)?.name.as_str(), *ids)));
        // libbpf made the templates of maps that come with the programs.
        let others = maps.iter().filter(|map| map.with_programs.is_some());
        let others = others.filter_map(|map| Some((map.name.as_str(), map.inner.as_deref()?.btf?)));
        let templates = templates.chain(others).collect();
        let bytes = record.with_btf(&self.btf_blob, &templates).encode()?;
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let array = MapType(uapi::BPF_MAP_TYPE_ARRAY);
        let attributes = MapAttributes::new(record::NAME, array, 4, size, 1);
        let created = self.with_memlock(|kernel| kernel.create_map(&attributes));
        let refused = |step: &str, call: Option<Call>, errno: Errno| {
            let message = format!(
                "{step} the record of the load, {}, failed: {errno}",
                path.display()
            );
            let mut diagnostic = Diagnostic::error(codes::RECORD_REFUSED, message);
            diagnostic.notes = call.map_or_else(Vec::new, |call| {
                reasons(self.kernel, call, errno, None::<&Template>, self.plan)
            });
            diagnostic
        };
        let map = created.map_err(|errno| refused("creating", Some(Call::MapCreate), errno))?;
        self.kernel
            .write(&map, 0, &bytes)
            .map_err(|errno| refused("writing", None, errno))?;
        let frozen = match self.kernel.freeze(&map) {
            Ok(()) => true,
            Err(Errno::EINVAL) if self.version().is_some_and(|version| version < FREEZE) => false,
            Err(errno) => return Err(refused("freezing", Some(Call::Freeze), errno)),
        };
        let id = self
            .kernel
            .info(&map)
            .map_err(|errno| refused("reading the id of", None, errno))?
            .id;
        let pinned = self.kernel.pin(&map, &path);
        let gone = pinned == Err(Errno::ENOENT);
        let pinned = pinned.map_err(|errno| match errno {
            Errno::EEXIST => pins::taken(&pins.directory),
            errno => refused("pinning", Some(Call::Pin), errno),
        });
        self.raced |= gone;
        pinned?;
        self.journal.pin(path, Entered::Map(id));
        if !frozen {
            self.diagnostics.push(Diagnostic::new(
                codes::RECORD_NOT_FROZEN,
                Severity::Note,
                "the record of the load can be written to: this kernel has no BPF_MAP_FREEZE (5.2)",
            ));
        }
        Ok(())
    }

    /// Why a call that is about no map of the plan was refused.
    pub(crate) fn reasons(&self, call: Call, errno: Errno) -> Vec<String> {
        reasons(self.kernel, call, errno, None::<&Template>, self.plan)
    }
}
