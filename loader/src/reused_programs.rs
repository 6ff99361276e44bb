//! The slots of program arrays that are reused: written, filled where empty, or kept, and put
//! back if the load fails later.

use std::collections::HashMap;

use bpfplan_plan::rules::Call;
use bpfplan_plan::{Diagnostic, Map, Severity, SlotTarget, Step};

use crate::codes;
use crate::execute::Load;
use crate::kernel::{Errno, Kernel};
use crate::options::SlotPolicy;
use crate::progress::Progress;
use crate::why::Refusal;

/// A slot of a reused program array that this load has written.
#[derive(Debug)]
pub(crate) struct ProgramChange<F> {
    /// Index of the array.
    map: usize,
    slot: u32,
    /// Id of the program that this load has put there.
    put: u32,
    /// The program that was there, open so that it lives.
    previous: Option<F>,
}

impl<K: Kernel> Load<'_, K> {
    /// Does with the slots of reused program arrays what the policy says.
    pub(crate) fn reused_program_arrays(&mut self) -> Result<(), Diagnostic> {
        if self.programs.is_empty() {
            return Ok(());
        }
        let plan = self.plan;
        let programs = self.programs.iter().enumerate();
        let places: HashMap<String, usize> = programs
            .map(|(place, program)| (program.name.clone(), place))
            .collect();
        for (index, map) in plan.maps.iter().enumerate() {
            let has_programs = map
                .slots
                .iter()
                .any(|slot| matches!(slot.target, SlotTarget::Program(_)));
            if !has_programs || self.made(index).is_none_or(|made| !made.reused) {
                continue;
            }
            self.tell(Progress::Step(Step::FillPrograms { map: index }))?;
            let policy = self.options.slot_policy(map.map_type);
            let (mut filled, mut kept) = (0_u32, 0_u32);
            for slot in &map.slots {
                let SlotTarget::Program(name) = &slot.target else {
                    continue;
                };
                let place = places.get(name.as_str()).copied();
                if self.put_program(index, map, slot.index, place, policy)? {
                    filled = filled.saturating_add(1);
                } else {
                    kept = kept.saturating_add(1);
                }
            }
            self.filled.insert(index, filled);
            if kept > 0 {
                let message = format!("{kept} of its slots for programs are kept as they are");
                let note = Diagnostic::new(codes::SLOTS_KEPT, Severity::Note, message)
                    .map(&map.name)
                    .field("values")
                    .at(map.source.as_ref(), "declared here")
                    .help("fill them with --slots overwrite");
                self.diagnostics.push(note);
            }
        }
        Ok(())
    }

    /// Puts a program into a slot, unless the policy says no.
    fn put_program(
        &mut self,
        index: usize,
        map: &Map,
        slot: u32,
        place: Option<usize>,
        policy: SlotPolicy,
    ) -> Result<bool, Diagnostic> {
        let plan = self.plan;
        let program = place.and_then(|place| self.programs.get(place));
        let (Some(array), Some(program)) = (self.made(index), program) else {
            let message = format!("the program for slot {slot} is not loaded");
            return Err(Diagnostic::error(codes::PROGRAM_NOT_LOADED, message).map(&map.name));
        };
        let refused = |step: String, errno: Errno| {
            let refusal = Refusal {
                code: codes::PROGRAM_SLOT_REFUSED,
                step,
                call: Call::ProgramSlot,
                errno,
                map,
                source: map.source.as_ref(),
            };
            refusal
                .explain(self.kernel, plan)
                .field(format!("values[{slot}]"))
        };
        let reading = |errno| refused(format!("reading slot {slot}"), errno);
        let holds = self.kernel.slot(&array.fd, slot).map_err(reading)?;
        let writes = match policy {
            SlotPolicy::Keep => false,
            SlotPolicy::FillEmpty => holds.is_none(),
            SlotPolicy::Overwrite => true,
        };
        if !writes {
            return Ok(false);
        }
        let previous = match holds.map(|id| self.kernel.program_by_id(id)) {
            // It may be gone by now, and the slot empty.
            None | Some(Err(Errno::ENOENT)) => None,
            Some(previous) => Some(previous.map_err(reading)?),
        };
        let name = program.name.escape_debug();
        self.kernel
            .update_slot(&array.fd, slot, &program.fd)
            .map_err(|errno| {
                refused(format!("filling slot {slot} with program '{name}'"), errno)
            })?;
        let put = program.id;
        self.program_changes.push(ProgramChange {
            map: index,
            slot,
            put,
            previous,
        });
        Ok(true)
    }

    /// Puts back what was in the slots; says what could not be put back. A slot that holds
    /// something else than this load has put there is somebody else's by now.
    pub(crate) fn restore_program_slots(&mut self) -> Vec<Diagnostic> {
        let mut left = Vec::new();
        for change in std::mem::take(&mut self.program_changes).into_iter().rev() {
            let Some(array) = self.made(change.map) else {
                continue;
            };
            let result = match self.kernel.slot(&array.fd, change.slot) {
                Ok(holds) if holds != Some(change.put) => Ok(()),
                _ => match &change.previous {
                    Some(previous) => self.kernel.update_slot(&array.fd, change.slot, previous),
                    None => self.kernel.clear_slot(&array.fd, change.slot),
                },
            };
            if let Err(errno) = result
                && errno != Errno::ENOENT
            {
                let map = self.plan.maps.get(change.map);
                let slot = change.slot;
                left.push(
                    Diagnostic::warning(
                        codes::NOT_UNDONE,
                        format!("slot {slot} is not what it was before the failed load: {errno}"),
                    )
                    .map(map.map_or("", |map| map.name.as_str()))
                    .help("look at its slots with `bpftool map dump`"),
                );
            }
        }
        left
    }
}
