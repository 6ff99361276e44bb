//! Which calls fill the slots, and which thread makes them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bpfplan_plan::Diagnostic;
use bpfplan_plan::rules::{Call, KernelVersion};

use crate::execute::Progress;
use crate::kernel::{BatchError, Errno};

use super::Way;
use super::queue::{Failures, Place, Queue};

/// Slots in one batch. Each batch waits for a grace period, so few large ones are best.
const CHUNK: usize = 1 << 16;

/// Calls that wait at the same time. More threads than that fill no faster.
const THREADS: usize = 128;

/// Slots in the batch that shows how the kernel waits.
const TRIAL: usize = 4;

/// From this version on there are batches; those of outer maps came with 5.19.
const BATCHES: KernelVersion = KernelVersion { major: 5, minor: 6 };

/// From this version on a batch waits once. Older ones have to show it: distributions port it
/// back.
const ONE_WAIT: KernelVersion = KernelVersion { major: 6, minor: 8 };

/// Number of slots that were filled one by one for lack of a batch, by index of the outer map.
pub(crate) type Singles = BTreeMap<usize, usize>;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// The kernel has none for this kind of map, and did nothing.
    Missing,
    Failed,
}

type Tell<'t> = &'t mut dyn FnMut(Progress<'_>) -> Result<(), Diagnostic>;

/// What is filled, with which calls, and how a failure is told.
pub(crate) trait Filling: Sync {
    /// One slot and what goes into it.
    type Job: Copy + Send + Sync;

    /// Where the job stands in the order of all jobs: outer map, then slot.
    fn place(job: &Self::Job) -> Place;

    /// Fills slots of one outer map in a batch.
    fn batch(&self, jobs: &[Self::Job]) -> Result<(), BatchError>;

    /// Fills one slot.
    fn single(&self, job: &Self::Job) -> Result<(), Errno>;

    /// Explains a failure; `exact` says that it is this very slot that the kernel refused.
    fn refused(&self, job: &Self::Job, exact: bool, call: Call, errno: Errno) -> Diagnostic;

    /// As [`crate::Kernel::version`].
    fn version(&self) -> Option<KernelVersion>;

    /// As [`crate::Kernel::overlaps`].
    fn overlaps(&self) -> bool;

    /// As [`crate::Kernel::sleeps`].
    fn sleeps(&self) -> Option<u64>;
}

pub(crate) struct FanOut<'f, S: Filling> {
    filling: &'f S,
    failures: Failures,
}

impl<'f, S: Filling> FanOut<'f, S> {
    pub(crate) fn new(filling: &'f S) -> Self {
        Self {
            filling,
            failures: Failures::default(),
        }
    }

    /// Fills the slots, which are in the plan's order.
    pub(crate) fn fill(self, jobs: &[S::Job], tell: Tell<'_>) -> Result<Singles, Diagnostic> {
        let singles = match self.trial(jobs) {
            _ if jobs.is_empty() => Singles::new(),
            Some(at) => self.with_trial(jobs, at, tell),
            None => self.in_batches(jobs, tell),
        };
        self.failures.into_result()?;
        Ok(singles)
    }

    /// Where in the slots the trial begins, if there must be one. With fewer slots an outer map
    /// than the trial takes, batches wait no longer than it would.
    fn trial(&self, jobs: &[S::Job]) -> Option<usize> {
        let believed = self.filling.version().is_some_and(|this| this >= ONE_WAIT);
        if believed || !self.filling.overlaps() {
            return None;
        }
        let mut at = 0;
        for group in jobs.chunk_by(Self::same_map) {
            if group.len() > TRIAL {
                return Some(at);
            }
            at += group.len();
        }
        None
    }

    /// Each outer map in one batch, all at once; one by one what the kernel has no batch for.
    fn in_batches(&self, jobs: &[S::Job], tell: Tell<'_>) -> Singles {
        let groups = jobs
            .chunk_by(Self::same_map)
            .flat_map(|jobs| jobs.chunks(CHUNK));
        let groups: Vec<_> = groups.collect();
        if !self.tell(Progress::Fill(Way::Batches(groups.len())), tell) {
            return Singles::new();
        }
        let missing = AtomicBool::new(false);
        let left = Mutex::new(Vec::new());
        let work = |group: &&[S::Job]| {
            if missing.load(Ordering::Relaxed) || self.batch(group) == Outcome::Missing {
                missing.store(true, Ordering::Relaxed);
                let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
                left.extend_from_slice(group);
            }
        };
        let queue = Queue::new(&groups, |group| group.first().map(S::place), &self.failures);
        queue.share(self.threads(groups.len()), &work, || {
            self.join(&queue, &work, tell);
        });
        let mut left = left.into_inner().unwrap_or_else(PoisonError::into_inner);
        left.sort_by_key(S::place);
        if !left.is_empty() {
            self.one_by_one(&left, tell);
        }
        Self::singles(&left)
    }

    fn one_by_one(&self, jobs: &[S::Job], tell: Tell<'_>) {
        let threads = self.threads(jobs.len());
        if self.tell(Progress::Fill(Way::NoBatch { threads }), tell) {
            let queue = Queue::new(jobs, |job| Some(S::place(job)), &self.failures);
            let work = |job: &S::Job| self.single(job);
            queue.share(threads, &work, || self.join(&queue, &work, tell));
        }
    }

    /// For kernels that may wait for each element of a batch: all threads fill slots one by one,
    /// while this one sees what a small batch does. Then it takes the rest in batches, or joins
    /// the others.
    fn with_trial(&self, jobs: &[S::Job], at: usize, tell: Tell<'_>) -> Singles {
        let (before, trial) = jobs.split_at_checked(at).unwrap_or_default();
        let (trial, after) = trial.split_at_checked(TRIAL).unwrap_or_default();
        let others: Vec<_> = before.iter().chain(after).copied().collect();
        // One for each slot of the others, and this one.
        let threads = self.threads(others.len().saturating_add(1));
        if !self.tell(Progress::Fill(Way::Trial { threads }), tell) {
            return Singles::new();
        }
        let mut no_batch = Singles::new();
        let queue = Queue::new(&others, |job| Some(S::place(job)), &self.failures);
        let work = |job: &S::Job| self.single(job);
        queue.share(threads, &work, || {
            let before = self.filling.sleeps();
            let way = match self.batch(trial) {
                Outcome::Failed => return,
                Outcome::Done if waited_once(before, self.filling.sleeps()) => {
                    let rest = queue.take_rest();
                    if !rest.is_empty() {
                        no_batch = self.in_batches(rest, tell);
                    }
                    return;
                }
                Outcome::Done => Way::EachWaits { threads },
                Outcome::Missing => {
                    no_batch = Self::singles(jobs);
                    Way::NoBatch { threads }
                }
            };
            if !self.tell(Progress::Fill(way), tell) {
                return;
            }
            if matches!(way, Way::NoBatch { .. }) {
                let queue = Queue::new(trial, |job| Some(S::place(job)), &self.failures);
                self.join(&queue, &work, tell);
            }
            self.join(&queue, &work, tell);
        });
        no_batch
    }

    /// Does on this thread what nobody has taken yet; between two pieces the caller may stop it.
    fn join<T: Sync>(&self, queue: &Queue<'_, T>, work: &impl Fn(&T), tell: Tell<'_>) {
        while let Some(item) = queue.take() {
            work(item);
            if !self.tell(Progress::Filling, tell) {
                return;
            }
        }
    }

    /// Fills slots of one outer map in a batch.
    fn batch(&self, group: &[S::Job]) -> Outcome {
        let Some(first) = group.first() else {
            return Outcome::Done;
        };
        match self.filling.batch(group) {
            Ok(()) => Outcome::Done,
            Err(error) if is_unsupported(error, self.filling.version()) => Outcome::Missing,
            Err(error) => {
                let exact = error.done.and_then(|done| group.get(done));
                let job = exact.unwrap_or(first);
                let (call, errno) = (Call::UpdateBatch, error.errno);
                let why = self.filling.refused(job, exact.is_some(), call, errno);
                self.failures.add(S::place(job), why);
                Outcome::Failed
            }
        }
    }

    fn single(&self, job: &S::Job) {
        if let Err(errno) = self.filling.single(job) {
            let why = self.filling.refused(job, true, Call::UpdateElem, errno);
            self.failures.add(S::place(job), why);
        }
    }

    /// Says something to the caller; if it wants no more, everything stops.
    fn tell(&self, progress: Progress<'_>, tell: Tell<'_>) -> bool {
        match tell(progress) {
            Ok(()) => true,
            Err(interrupted) => {
                self.failures.stop(interrupted);
                false
            }
        }
    }

    fn threads(&self, pieces: usize) -> usize {
        if self.filling.overlaps() {
            pieces.min(THREADS)
        } else {
            1
        }
    }

    fn same_map(one: &S::Job, other: &S::Job) -> bool {
        S::place(one).0 == S::place(other).0
    }

    fn singles(jobs: &[S::Job]) -> Singles {
        let mut singles = Singles::new();
        for job in jobs {
            *singles.entry(S::place(job).0).or_default() += 1;
        }
        singles
    }
}

/// Whether the trial waited only once: a thread that waits gives up its CPU each time. Half of the
/// slots is the limit, as a wait may be missed and others may come in between. Where nobody knows,
/// a batch might wait for each element, and that is the worse mistake.
fn waited_once(before: Option<u64>, after: Option<u64>) -> bool {
    let sleeps = before.zip(after);
    sleeps.is_some_and(|(before, after)| after.saturating_sub(before) <= TRIAL as u64 / 2)
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
