//! The slots of outer maps that are reused: kept, filled where empty, or written anew, and put
//! back if the load fails later.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bpfplan_plan::rules::KernelVersion;
use bpfplan_plan::{Diagnostic, Map, Severity, SlotTarget};

use crate::codes;
use crate::execute::Load;
use crate::kernel::{Errno, FdLimit, Kernel};
use crate::options::SlotPolicy;
use crate::slots::{Filler, Put};

/// Slots that are compared on kernels where every look waits for an RCU grace period.
const SLOW_LOOKS: usize = 64;

/// From this version on a look does not wait; older ones may.
const QUICK_LOOKS: KernelVersion = KernelVersion { major: 6, minor: 8 };

/// Slots that a message spells out.
const SHOWN: usize = 8;

/// A slot of a reused map that this load writes.
#[derive(Debug)]
pub(crate) struct Change<F> {
    /// Index of the outer map.
    map: usize,
    slot: u32,
    /// Index of the map that goes there.
    target: usize,
    /// The map that was there, open so that it lives; other slots may have held it, too.
    previous: Option<Rc<F>>,
}

/// A declared slot that does not hold what is declared.
#[derive(Debug, Clone, Copy)]
struct Odd {
    slot: u32,
    target: usize,
    /// Id of the map that is there.
    holds: Option<u32>,
}

impl<K: Kernel> Load<'_, K> {
    /// Does with the slots of the reused outer maps what the policy says.
    pub(crate) fn reused_slots(
        &mut self,
        outers: &[usize],
        ids: &[Option<u32>],
    ) -> Result<(), Diagnostic> {
        if outers.is_empty() {
            return Ok(());
        }
        let plan = self.plan;
        let targets: HashMap<&str, usize> =
            plan.maps
                .iter()
                .enumerate()
                .fold(HashMap::new(), |mut targets, (index, map)| {
                    targets.entry(map.name.as_str()).or_insert(index);
                    targets
                });
        let mut kept = Vec::new();
        for index in outers {
            let Some(map) = plan.maps.get(*index) else {
                continue;
            };
            let policy = self.options.slot_policy(map.map_type);
            let odd = self.odd_slots(*index, map, policy, &targets, ids)?;
            let (changed, left): (Vec<Odd>, Vec<Odd>) =
                odd.into_iter().partition(|odd| match policy {
                    SlotPolicy::Keep => false,
                    SlotPolicy::FillEmpty => odd.holds.is_none(),
                    SlotPolicy::Overwrite => true,
                });
            self.plan_changes(*index, map, &changed)?;
            if !left.is_empty() {
                self.diagnostics.push(self.kept(map, policy, &left));
                kept.extend(left.into_iter().map(|odd| odd.target));
            }
        }
        self.all_are_kept(ids, true)?;
        self.write_changes()?;
        self.in_no_slot(&kept);
        Ok(())
    }

    /// The maps that this load puts into slots of reused maps.
    pub(crate) fn changed_targets(&self) -> impl Iterator<Item = &Map> {
        let maps = &self.plan.maps;
        self.changes
            .iter()
            .filter_map(|change| maps.get(change.target))
    }

    /// The declared slots that hold something else.
    fn odd_slots(
        &self,
        index: usize,
        map: &Map,
        policy: SlotPolicy,
        targets: &HashMap<&str, usize>,
        ids: &[Option<u32>],
    ) -> Result<Vec<Odd>, Diagnostic> {
        let Some(outer) = self.made(index) else {
            return Ok(Vec::new());
        };
        let slow = policy == SlotPolicy::Keep
            && self.version().is_some_and(|version| version < QUICK_LOOKS);
        let looks = if slow { SLOW_LOOKS } else { usize::MAX };
        let mut odd = Vec::new();
        for slot in map.slots.iter().take(looks) {
            let SlotTarget::Map(name) = &slot.target else {
                continue;
            };
            let Some(target) = targets.get(name.as_str()).copied() else {
                continue;
            };
            let holds = match self.kernel.slot(&outer.fd, slot.index) {
                // Nothing is to be written, so nothing has to be known.
                Err(_) if policy == SlotPolicy::Keep => return Ok(Vec::new()),
                holds => holds,
            };
            let holds = holds.map_err(|errno| {
                let message = format!("reading slot {} failed: {errno}", slot.index);
                Diagnostic::error(codes::SLOT_REFUSED, message)
                    .map(&map.name)
                    .at(map.source.as_ref(), "declared here")
            })?;
            if holds != ids.get(target).copied().flatten() {
                odd.push(Odd {
                    slot: slot.index,
                    target,
                    holds,
                });
            }
        }
        Ok(odd)
    }

    /// Opens what is in the slots now, so that it can be put back.
    fn plan_changes(&mut self, index: usize, map: &Map, changed: &[Odd]) -> Result<(), Diagnostic> {
        let failed = |slot: u32, errno: Errno| {
            let message = format!("opening the map in slot {slot} failed: {errno}");
            Diagnostic::error(codes::SLOT_REFUSED, message)
                .map(&map.name)
                .at(map.source.as_ref(), "declared here")
                .note("it is needed to put the slot back if the load fails later")
        };
        let held: HashSet<u32> = changed.iter().filter_map(|odd| odd.holds).collect();
        if self.options.raise_nofile && !held.is_empty() {
            let count = u64::try_from(held.len()).unwrap_or(u64::MAX);
            let reserved = self.kernel.reserve_fds(count);
            reserved.map_err(|FdLimit { needed, errno, .. }| {
                let message = format!(
                    "the load needs {needed} descriptors; raising the limit failed: {errno}"
                );
                Diagnostic::error(codes::TOO_FEW_DESCRIPTORS, message)
                    .map(&map.name)
                    .note(format!(
                        "each of the {count} maps in its slots is open until all are pinned"
                    ))
                    .help(format!("allow them with `ulimit -n {needed}`, as root"))
            })?;
        }
        let mut open: HashMap<u32, Rc<K::Fd>> = HashMap::new();
        for odd in changed {
            let previous = match odd.holds {
                Some(id) => Some(match open.get(&id) {
                    Some(previous) => Rc::clone(previous),
                    None => {
                        let previous = self.kernel.map_by_id(id);
                        let previous = Rc::new(previous.map_err(|errno| failed(odd.slot, errno))?);
                        open.insert(id, Rc::clone(&previous));
                        previous
                    }
                }),
                None => None,
            };
            self.changes.push(Change {
                map: index,
                slot: odd.slot,
                target: odd.target,
                previous,
            });
        }
        Ok(())
    }

    fn write_changes(&mut self) -> Result<(), Diagnostic> {
        let puts = self.changes.iter().filter_map(|change| {
            Some(Put {
                map: change.map,
                slot: change.slot,
                name: &self.plan.maps.get(change.target)?.name,
                fd: &self.maps.get(change.target)?.as_ref()?.fd,
            })
        });
        let puts: Vec<_> = puts.collect();
        if puts.is_empty() {
            return Ok(());
        }
        // From here on, slots may have to be put back.
        self.changes_begun = true;
        let (progress, interrupted) = (&mut self.progress, &mut self.interrupted);
        let filler = Filler::new(self.plan, self.kernel, &self.maps);
        let filled = filler.put(&puts, &mut |next| {
            crate::progress::ask(progress, interrupted, next)
        })?;
        self.filled(filled);
        Ok(())
    }

    fn kept(&self, map: &Map, policy: SlotPolicy, left: &[Odd]) -> Diagnostic {
        let slot = |odd: &Odd| {
            let name = self.plan.maps.get(odd.target);
            let name = name.map_or("", |map| map.name.as_str()).escape_debug();
            match odd.holds {
                Some(id) => format!("[{}] holds map {id}, not '{name}'", odd.slot),
                None => format!("[{}] is empty, '{name}' is declared", odd.slot),
            }
        };
        let mut list: Vec<String> = left.iter().take(SHOWN).map(slot).collect();
        if left.len() > SHOWN {
            list.push(format!("{} more", left.len() - SHOWN));
        }
        let message = format!("its slots are kept: {}", list.join(", "));
        let help = match policy {
            SlotPolicy::Keep if left.iter().any(|odd| odd.holds.is_none()) => {
                "fill them with --slots overwrite, or the empty ones with --slots fill-empty"
            }
            _ => "fill them with --slots overwrite",
        };
        Diagnostic::new(codes::SLOTS_KEPT, Severity::Note, message)
            .map(&map.name)
            .field("values")
            .at(map.source.as_ref(), "declared here")
            .help(help)
    }

    /// Warns of new maps that are declared for slots and are in none.
    fn in_no_slot(&mut self, kept: &[usize]) {
        let plan = self.plan;
        let mut in_a_slot: HashSet<&str> = HashSet::new();
        for (index, map) in plan.maps.iter().enumerate() {
            let reused = self.made(index).is_some_and(|made| made.reused);
            for slot in map.slots.iter().filter(|_| !reused) {
                if let SlotTarget::Map(name) = &slot.target {
                    in_a_slot.insert(name);
                }
            }
        }
        let changed: HashSet<usize> = self.changes.iter().map(|change| change.target).collect();
        let mut told = HashSet::new();
        for target in kept {
            let Some(map) = plan.maps.get(*target) else {
                continue;
            };
            let reused = self.made(*target).is_some_and(|made| made.reused);
            if reused
                || changed.contains(target)
                || in_a_slot.contains(map.name.as_str())
                || !told.insert(*target)
            {
                continue;
            }
            self.diagnostics.push(
                Diagnostic::warning(
                    codes::IN_NO_SLOT,
                    "it was created, but no slot holds it: the outer map is reused and keeps its \
                     slots",
                )
                .map(&map.name)
                .at(map.source.as_ref(), "declared here")
                .help("put it there with --slots overwrite, or pin it by name as well"),
            );
        }
    }

    /// Puts back what was in the slots; says what could not be put back. A slot that holds
    /// something else than this load has put there is somebody else's by now.
    pub(crate) fn restore_slots(&mut self) -> Vec<Diagnostic> {
        if !self.changes_begun {
            return Vec::new();
        }
        let changes = std::mem::take(&mut self.changes);
        let mut left = Vec::new();
        let mut puts = Vec::new();
        for change in &changes {
            let (Some(outer), Some(target)) = (self.made(change.map), self.made(change.target))
            else {
                continue;
            };
            let ours = self.kernel.info(&target.fd).map(|info| info.id);
            let holds = self.kernel.slot(&outer.fd, change.slot);
            let result = match (ours, holds, &change.previous) {
                (Ok(ours), Ok(holds), _) if holds != Some(ours) => Ok(()),
                (_, _, Some(previous)) => {
                    puts.push(Put {
                        map: change.map,
                        slot: change.slot,
                        name: "the map that was there",
                        fd: previous.as_ref(),
                    });
                    Ok(())
                }
                (_, _, None) => match self.kernel.clear_slot(&outer.fd, change.slot) {
                    Ok(()) | Err(Errno::ENOENT) => Ok(()),
                    Err(errno) => Err(errno),
                },
            };
            if let Err(errno) = result {
                left.push(self.not_restored(change.map, change.slot, &errno.to_string()));
            }
        }
        let filler = Filler::new(self.plan, self.kernel, &self.maps);
        if filler.put(&puts, &mut |_| Ok(())).is_err() {
            // That ends at the first failure; here, every slot counts.
            for put in &puts {
                let Some(outer) = self.made(put.map) else {
                    continue;
                };
                if let Err(errno) = self.kernel.update_slot(&outer.fd, put.slot, put.fd) {
                    left.push(self.not_restored(put.map, put.slot, &errno.to_string()));
                }
            }
        }
        left
    }

    fn not_restored(&self, map: usize, slot: u32, why: &str) -> Diagnostic {
        let name = self.plan.maps.get(map).map_or("", |map| map.name.as_str());
        Diagnostic::warning(
            codes::NOT_UNDONE,
            format!("slot {slot} is not what it was before the failed load: {why}"),
        )
        .map(name)
        .help("look at its slots with `bpftool map dump`")
    }
}
