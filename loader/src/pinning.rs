//! Pinning the maps of a load, and the record of it.

use std::collections::HashMap;

use bpfplan_plan::rules::{Call, KernelVersion};
use bpfplan_plan::{Diagnostic, MapType, Severity, Template, uapi};

use crate::codes;
use crate::execute::{Load, Progress};
use crate::journal::Pinned;
use crate::kernel::{Errno, Kernel, MapAttributes};
use crate::pins::{self, Pins};
use crate::record::{self, Record};
use crate::why::{Refusal, reasons};

/// From this version on maps can be frozen.
const FREEZE: KernelVersion = KernelVersion { major: 5, minor: 2 };

impl<K: Kernel> Load<'_, K> {
    /// Pins everything. The record comes first: its pin tells a second load in the same directory
    /// that it came too late, and `unload` finds what a killed load has left.
    pub(crate) fn pin(&mut self, pins: &Pins, ids: &[Option<u32>]) -> Result<(), Diagnostic> {
        if pins.create {
            self.make_directory(pins)?;
        }
        let lock = self
            .kernel
            .lock_dir(&pins.directory)
            .map_err(|errno| pins::not_locked(&pins.directory, errno))?;
        self.locks.push(lock);
        self.pin_record(pins, ids)?;
        let plan = self.plan;
        for (index, (map, name)) in plan.maps.iter().zip(&pins.names).enumerate() {
            let Some(id) = ids.get(index).copied().flatten() else {
                continue;
            };
            let path = pins.path(name);
            self.tell(Progress::Pin {
                map: index,
                path: &path,
            })?;
            let Some(created) = self.made(index) else {
                continue;
            };
            self.kernel.pin(&created.fd, &path).map_err(|errno| {
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
            self.journal.pin(path, Pinned::Map(id));
        }
        self.pin_programs(pins)
    }

    /// Makes the directory. Another load may be faster; which of the two may pin, their records
    /// decide, and the unload of that one removes the directory.
    fn make_directory(&mut self, pins: &Pins) -> Result<(), Diagnostic> {
        self.tell(Progress::MakeDirectory(&pins.directory))?;
        match self.kernel.make_dir(&pins.directory) {
            Ok(()) => {
                self.journal.directory(pins.directory.clone());
                Ok(())
            }
            Err(Errno::EEXIST) => Ok(()),
            Err(errno) => {
                let message = format!("making {} failed: {errno}", pins.directory.display());
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
        let bytes = record
            .with_btf(&self.btf_blob, &self.template_btf)
            .encode()?;
        let attributes = MapAttributes {
            map_type: MapType(uapi::BPF_MAP_TYPE_ARRAY),
            name: record::NAME,
            key_size: 4,
            value_size: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            max_entries: 1,
            map_flags: 0,
            map_extra: 0,
            numa_node: 0,
            inner: None,
            btf: None,
        };
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
        self.kernel.pin(&map, &path).map_err(|errno| match errno {
            Errno::EEXIST => pins::taken(&pins.directory),
            errno => refused("pinning", Some(Call::Pin), errno),
        })?;
        self.journal.pin(path, Pinned::Map(id));
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
