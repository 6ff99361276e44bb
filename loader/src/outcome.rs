//! How a load ends: with everything, or with nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bpfplan_plan::Diagnostic;
use bpfplan_plan::rules::SpecialFields;

use crate::error::{ErrorKind, LoadError};
use crate::execute::Load;
use crate::kernel::Kernel;
use crate::loaded::{ClosedMap, Loaded, LoadedMap, LoadedProgram};
use crate::maps::InnerTemplate;
use crate::pins::Pins;
use crate::scarce::Closed;

/// A load that failed, with nothing left of it.
pub(crate) struct Failed {
    pub(crate) error: LoadError,
    /// Whether somebody else has changed the pins meanwhile, so that it may work when begun again.
    pub(crate) raced: bool,
}

impl<K: Kernel> Load<'_, K> {
    /// What was loaded; `ids` are those of the maps, if they were asked for.
    pub(crate) fn finish(self, directories: &[&Pins], ids: Vec<Option<u32>>) -> Loaded<K> {
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
    pub(crate) fn undo(mut self, cause: Diagnostic) -> Failed {
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
