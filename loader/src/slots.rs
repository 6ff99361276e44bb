//! Filling the static slots of outer maps.
//!
//! The kernel ends each call that fills slots by waiting for an RCU grace period, and calls that
//! wait at the same time share one. So each outer map gets one batch, and all outer maps get
//! theirs at once. Where a kernel has no batch for them (before 5.19), or waits for each element
//! of a batch (before 6.8), the slots are filled one by one by many threads. What it does, it
//! shows (see [`recall`]).

pub(crate) mod fan_out;
pub(crate) mod queue;
pub(crate) mod recall;

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use bpfplan_plan::rules::{Call, KernelVersion};
use bpfplan_plan::{Diagnostic, Map, Plan, Severity, SlotTarget};

use crate::codes;
use crate::create::Created;
use crate::kernel::{BatchError, Errno, Kernel};
use crate::progress::Progress;
use crate::why::Refusal;

use fan_out::{FanOut, Filling};
use queue::Place;
use recall::Recall;

/// How the slots are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In so many batches, all at once.
    Batches(usize),
    /// One by one on so many threads what batches left, because the kernel waits for each element
    /// of a batch.
    EachWaits {
        /// Number of threads.
        threads: usize,
    },
    /// One by one on so many threads, because the kernel has no batch for outer maps.
    NoBatch {
        /// Number of threads.
        threads: usize,
    },
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = |threads: usize| match threads {
            1 => "one by one".to_owned(),
            threads => format!("one by one on {threads} threads"),
        };
        match self {
            Self::Batches(1) => f.write_str("in one batch"),
            Self::Batches(batches) => write!(f, "in {batches} batches at once"),
            Self::EachWaits { threads: count } => write!(
                f,
                "{}: this kernel waits for each element of a batch",
                threads(*count)
            ),
            Self::NoBatch { threads: count } => write!(
                f,
                "{}: this kernel has no batch for outer maps",
                threads(*count)
            ),
        }
    }
}

/// One slot that is to be filled.
#[derive(Debug)]
pub(crate) struct Job<'a, F> {
    /// Index of the outer map in the plan.
    map: usize,
    outer: &'a F,
    /// Index of the slot.
    slot: u32,
    /// Name of the map that goes there.
    name: &'a str,
    fd: &'a F,
}

impl<F> Clone for Job<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Job<'_, F> {}

/// A map that goes into a slot.
#[derive(Debug)]
pub(crate) struct Put<'a, F> {
    /// Index of the outer map in the plan.
    pub(crate) map: usize,
    /// Index of the slot.
    pub(crate) slot: u32,
    /// Name of the map.
    pub(crate) name: &'a str,
    pub(crate) fd: &'a F,
}

/// Fills outer maps once all maps exist.
pub(crate) struct Filler<'a, K: Kernel> {
    plan: &'a Plan,
    kernel: &'a K,
    /// In the plan's order.
    maps: &'a [Option<Created<K::Fd>>],
    /// Indices of the maps, once somebody has asked for one.
    by_name: OnceLock<HashMap<&'a str, usize>>,
}

/// An outer map whose slots are filled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filled {
    /// Index of the outer map.
    pub(crate) map: usize,
    /// Number of slots.
    pub(crate) slots: u32,
    /// How many of them were filled one by one for lack of a batch.
    pub(crate) one_by_one: usize,
}

impl Filled {
    /// What there is to say about it.
    pub(crate) fn note(&self, plan: &Plan) -> Option<Diagnostic> {
        let map = plan.maps.get(self.map).filter(|_| self.one_by_one > 0)?;
        let message = format!(
            "this kernel has no batched update for it: {} slots were filled one by one",
            self.one_by_one
        );
        Some(Diagnostic::new(codes::NO_BATCH, Severity::Note, message).map(&map.name))
    }
}

impl<'a, K: Kernel> Filler<'a, K> {
    pub(crate) fn new(plan: &'a Plan, kernel: &'a K, maps: &'a [Option<Created<K::Fd>>]) -> Self {
        Self {
            plan,
            kernel,
            maps,
            by_name: OnceLock::new(),
        }
    }

    /// The map of that name, if it is made.
    fn target(&self, name: &str) -> Option<&'a Created<K::Fd>> {
        let by_name = self.by_name.get_or_init(|| {
            let maps = self.plan.maps.iter().enumerate();
            maps.map(|(index, map)| (map.name.as_str(), index))
                .collect()
        });
        self.maps.get(*by_name.get(name)?)?.as_ref()
    }

    /// Whether an outer map and all maps for its slots are made.
    pub(crate) fn is_ready(&self, index: usize) -> bool {
        let outer = self.maps.get(index).is_some_and(Option::is_some);
        outer && self.jobs_of(index, &mut Vec::new()).is_ok()
    }

    /// Fills the outer maps with these indices, which ascend; the first failure in the order of
    /// the slots counts. `tell` hears how, and ends it by an error.
    pub(crate) fn fill_all(
        &self,
        outers: &[usize],
        tell: &mut dyn FnMut(Progress<'_>) -> Result<(), Diagnostic>,
    ) -> Result<Vec<Filled>, Diagnostic> {
        let mut jobs = Vec::new();
        for outer in outers {
            self.jobs_of(*outer, &mut jobs)?;
        }
        self.fill(&jobs, tell)
    }

    /// Puts maps into slots, which are in the plan's order; as [`Filler::fill_all`].
    pub(crate) fn put(
        &self,
        puts: &[Put<'a, K::Fd>],
        tell: &mut dyn FnMut(Progress<'_>) -> Result<(), Diagnostic>,
    ) -> Result<Vec<Filled>, Diagnostic> {
        let jobs = puts.iter().filter_map(|put| {
            Some(Job {
                map: put.map,
                outer: &self.maps.get(put.map)?.as_ref()?.fd,
                slot: put.slot,
                name: put.name,
                fd: put.fd,
            })
        });
        let jobs: Vec<_> = jobs.collect();
        self.fill(&jobs, tell)
    }

    fn fill(
        &self,
        jobs: &[Job<'a, K::Fd>],
        tell: &mut dyn FnMut(Progress<'_>) -> Result<(), Diagnostic>,
    ) -> Result<Vec<Filled>, Diagnostic> {
        let one_by_one = FanOut::new(self).fill(jobs, tell)?;
        let filled = jobs.chunk_by(|one, other| one.map == other.map);
        let filled = filled.filter_map(|jobs| {
            let map = jobs.first()?.map;
            Some(Filled {
                map,
                slots: u32::try_from(jobs.len()).unwrap_or(u32::MAX),
                one_by_one: one_by_one.get(&map).copied().unwrap_or_default(),
            })
        });
        Ok(filled.collect())
    }

    fn jobs_of(&self, index: usize, jobs: &mut Vec<Job<'a, K::Fd>>) -> Result<(), Diagnostic> {
        let (Some(map), Some(Some(outer))) = (self.plan.maps.get(index), self.maps.get(index))
        else {
            return Ok(());
        };
        jobs.reserve(map.slots.len());
        for slot in &map.slots {
            let SlotTarget::Map(name) = &slot.target else {
                continue;
            };
            let target = self.target(name).ok_or_else(|| {
                let name = name.escape_debug();
                Diagnostic::error(
                    codes::SLOT_REFUSED,
                    format!("the plan has no map '{name}' for slot {}", slot.index),
                )
                .map(&map.name)
            })?;
            jobs.push(Job {
                map: index,
                outer: &outer.fd,
                slot: slot.index,
                name,
                fd: &target.fd,
            });
        }
        Ok(())
    }

    fn explained(&self, map: &Map, step: String, call: Call, errno: Errno) -> Diagnostic {
        let refusal = Refusal {
            code: codes::SLOT_REFUSED,
            step,
            call,
            errno,
            map,
            source: map.source.as_ref(),
        };
        refusal.explain(self.kernel, self.plan)
    }
}

impl<'a, K: Kernel> Filling for Filler<'a, K> {
    type Job = Job<'a, K::Fd>;

    fn place(job: &Self::Job) -> Place {
        (job.map, job.slot)
    }

    fn batch(&self, jobs: &[Self::Job], recall: &Recall) -> Result<(), BatchError> {
        let Some(first) = jobs.first() else {
            return Ok(());
        };
        let values: Vec<_> = jobs.iter().map(|job| (job.slot, job.fd)).collect();
        self.kernel.update_batch(first.outer, &values, recall)
    }

    fn single(&self, job: &Self::Job) -> Result<(), Errno> {
        self.kernel.update_slot(job.outer, job.slot, job.fd)
    }

    fn refused(&self, job: &Self::Job, exact: bool, call: Call, errno: Errno) -> Diagnostic {
        let Some(map) = self.plan.maps.get(job.map) else {
            return Diagnostic::error(
                codes::SLOT_REFUSED,
                format!("filling a slot failed: {errno}"),
            );
        };
        let step = if exact {
            let name = job.name.escape_debug();
            format!("filling slot {} with '{name}'", job.slot)
        } else {
            "filling its slots".to_owned()
        };
        let diagnostic = self.explained(map, step, call, errno);
        if !exact {
            return diagnostic;
        }
        let target = self
            .plan
            .map(job.name)
            .and_then(|target| target.source.as_ref());
        diagnostic
            .field(format!("values[{}]", job.slot))
            .at(target, "the map for the slot")
    }

    fn version(&self) -> Option<KernelVersion> {
        self.kernel.version()
    }

    fn overlaps(&self) -> bool {
        self.kernel.overlaps()
    }

    fn waits_once(&self) -> bool {
        self.kernel.waits_once()
    }

    fn patience(&self, slots: usize) -> Duration {
        self.kernel.patience(slots)
    }
}
