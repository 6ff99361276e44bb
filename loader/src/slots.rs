//! Filling the static slots of outer maps.
//!
//! The kernel ends each call that fills slots by waiting for an RCU grace period, and calls that
//! wait at the same time share one. So each outer map gets one batch, and all outer maps get
//! theirs at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use bpfplan_plan::rules::{Call, KernelVersion};
use bpfplan_plan::{Diagnostic, Map, Plan, Severity, SlotTarget};

use crate::codes;
use crate::create::Created;
use crate::kernel::{BatchError, Errno, Kernel};
use crate::why::Refusal;

/// Slots in one batch. Each batch waits for a grace period, so few large ones are best.
const CHUNK: usize = 1 << 16;

/// Outer maps that are filled at the same time.
const THREADS: usize = 64;

/// From this version on there are batches; those of outer maps came with 5.19.
const BATCHES: KernelVersion = KernelVersion { major: 5, minor: 6 };

/// One slot: its index, the name of the map that goes there, and its descriptor.
type Slot<'a, F> = (u32, &'a str, &'a F);

/// Fills outer maps once all maps exist.
pub(crate) struct Filler<'a, K: Kernel> {
    plan: &'a Plan,
    kernel: &'a K,
    /// In the plan's order.
    maps: &'a [Created<K::Fd>],
    by_name: HashMap<&'a str, usize>,
}

/// An outer map whose slots are filled.
#[derive(Debug)]
pub(crate) struct Filled {
    /// Index of the outer map.
    pub(crate) map: usize,
    /// Number of slots.
    pub(crate) slots: u32,
    /// What there is to say about it.
    pub(crate) note: Option<Diagnostic>,
}

impl<'a, K: Kernel> Filler<'a, K> {
    pub(crate) fn new(plan: &'a Plan, kernel: &'a K, maps: &'a [Created<K::Fd>]) -> Self {
        let by_name = plan.maps.iter().enumerate();
        let by_name = by_name
            .map(|(index, map)| (map.name.as_str(), index))
            .collect();
        Self {
            plan,
            kernel,
            maps,
            by_name,
        }
    }

    /// Fills the outer maps with these indices; the first failure in this order counts.
    pub(crate) fn fill_all(&self, outers: &[usize]) -> Result<Vec<Filled>, Diagnostic> {
        if outers.len() < 2 || !self.kernel.overlaps() {
            return outers.iter().map(|outer| self.fill(*outer)).collect();
        }
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(outers.len()));
        let work = || {
            while let Some(outer) = outers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = self.fill(*outer);
                if result.is_err() {
                    // Nobody starts another one.
                    next.store(outers.len(), Ordering::Relaxed);
                }
                results
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((*outer, result));
            }
        };
        thread::scope(|scope| {
            for _ in 1..outers.len().min(THREADS) {
                // Where no thread can be had, those that there are do the work.
                if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(outer, _)| *outer);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// Fills one outer map: in batches, or one by one where the kernel has no batch for it.
    fn fill(&self, index: usize) -> Result<Filled, Diagnostic> {
        let (Some(map), Some(outer)) = (self.plan.maps.get(index), self.maps.get(index)) else {
            return Ok(Filled {
                map: index,
                slots: 0,
                note: None,
            });
        };
        let slots = self.slots(map)?;
        let mut batches = true;
        for chunk in slots.chunks(CHUNK) {
            if batches {
                let values: Vec<_> = chunk.iter().map(|(index, _, fd)| (*index, *fd)).collect();
                match self.kernel.update_batch(&outer.fd, &values) {
                    Ok(()) => continue,
                    Err(error) if is_unsupported(error, self.kernel.version()) => batches = false,
                    Err(error) => {
                        let slot = error.done.and_then(|done| chunk.get(done));
                        return Err(self.refused(map, slot, Call::UpdateBatch, error.errno));
                    }
                }
            }
            for slot in chunk {
                let (key, _, fd) = *slot;
                self.kernel
                    .update_slot(&outer.fd, key, fd)
                    .map_err(|errno| self.refused(map, Some(slot), Call::UpdateElem, errno))?;
            }
        }
        let note = (!batches).then(|| {
            let message = format!(
                "this kernel has no batched update for it: {} slots were filled one by one",
                slots.len()
            );
            Diagnostic::new(codes::NO_BATCH, Severity::Note, message).map(&map.name)
        });
        let slots = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        Ok(Filled {
            map: index,
            slots,
            note,
        })
    }

    fn slots(&self, map: &'a Map) -> Result<Vec<Slot<'a, K::Fd>>, Diagnostic> {
        let mut slots = Vec::with_capacity(map.slots.len());
        for slot in &map.slots {
            let SlotTarget::Map(name) = &slot.target else {
                continue;
            };
            let target = self
                .by_name
                .get(name.as_str())
                .and_then(|target| self.maps.get(*target));
            let target = target.ok_or_else(|| {
                let name = name.escape_debug();
                Diagnostic::error(
                    codes::SLOT_REFUSED,
                    format!("the plan has no map '{name}' for slot {}", slot.index),
                )
                .map(&map.name)
            })?;
            slots.push((slot.index, name.as_str(), &target.fd));
        }
        Ok(slots)
    }

    fn refused(
        &self,
        map: &Map,
        slot: Option<&Slot<'_, K::Fd>>,
        call: Call,
        errno: Errno,
    ) -> Diagnostic {
        let step = slot.map_or_else(
            || "filling its slots".to_owned(),
            |(index, name, _)| format!("filling slot {index} with '{}'", name.escape_debug()),
        );
        let refusal = Refusal {
            code: codes::SLOT_REFUSED,
            step,
            call,
            errno,
            map,
            source: map.source.as_ref(),
        };
        let diagnostic = refusal.explain(self.kernel, self.plan);
        let Some((index, name, _)) = slot else {
            return diagnostic;
        };
        let target = self
            .plan
            .map(name)
            .and_then(|target| target.source.as_ref());
        diagnostic
            .field(format!("values[{index}]"))
            .at(target, "the map for the slot")
    }
}

/// Whether the kernel has no batch for this type of map. One that knows batches answers
/// `ENOTSUPP`, one before 5.6 does not know the command and answers `EINVAL`; neither looks at an
/// element. From a kernel that has batches, `EINVAL` is an error as any other: going on slot by
/// slot would only wait longer for it.
fn is_unsupported(error: BatchError, version: Option<KernelVersion>) -> bool {
    match (error.done, error.errno) {
        (None, Errno::ENOTSUPP) => true,
        (None, Errno::EINVAL) => version.is_none_or(|version| version < BATCHES),
        _ => false,
    }
}
