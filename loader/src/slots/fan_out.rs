//! Which calls fill the slots, and which thread makes them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bpfplan_plan::Diagnostic;
use bpfplan_plan::rules::{Call, KernelVersion};

use crate::kernel::{BatchError, Errno};
use crate::progress::Progress;

use super::Way;
use super::queue::{Failures, Place, Queue, small_thread};
use super::recall::{Recall, Watch};

/// Slots in one batch. Each batch waits for a grace period, so few large ones are best.
const CHUNK: usize = 1 << 16;

/// Calls that wait at the same time. More threads than that fill no faster.
const THREADS: usize = 128;

/// A batch of so few slots is not worth a watch.
const FEW: usize = 4;

/// From this version on there are batches; those of outer maps came with 5.19.
const BATCHES: KernelVersion = KernelVersion { major: 5, minor: 6 };

/// Number of slots that were filled one by one for lack of a batch, by index of the outer map.
pub(crate) type Singles = BTreeMap<usize, usize>;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// The kernel has none for this kind of map, and did nothing.
    Missing,
    /// It was ended after so many slots, because it took too long.
    Recalled(usize),
    Failed,
}

/// Slots that batches did not fill.
struct Left<J> {
    jobs: Vec<J>,
    /// Whether that is because the kernel has none.
    missing: bool,
}

impl<J> Default for Left<J> {
    fn default() -> Self {
        Self {
            jobs: Vec::new(),
            missing: false,
        }
    }
}

type Tell<'t> = &'t mut dyn FnMut(Progress<'_>) -> Result<(), Diagnostic>;

/// What is filled, with which calls, and how a failure is told.
pub(crate) trait Filling: Sync {
    /// One slot and what goes into it.
    type Job: Copy + Send + Sync;

    /// Where the job stands in the order of all jobs: outer map, then slot.
    fn place(job: &Self::Job) -> Place;

    /// Fills slots of one outer map in a batch.
    fn batch(&self, jobs: &[Self::Job], recall: &Recall) -> Result<(), BatchError>;

    /// Fills one slot.
    fn single(&self, job: &Self::Job) -> Result<(), Errno>;

    /// Explains a failure; `exact` says that it is this very slot that the kernel refused.
    fn refused(&self, job: &Self::Job, exact: bool, call: Call, errno: Errno) -> Diagnostic;

    /// As [`crate::Kernel::version`].
    fn version(&self) -> Option<KernelVersion>;

    /// As [`crate::Kernel::overlaps`].
    fn overlaps(&self) -> bool;

    /// As [`crate::Kernel::waits_once`].
    fn waits_once(&self) -> bool;

    /// As [`crate::Kernel::patience`].
    fn patience(&self, slots: usize) -> Duration;
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

    /// Fills the slots, which are in the plan's order: each outer map in one batch, all at once.
    /// Where the kernel has no batch for them, or waits for each element of one, they are filled
    /// one by one on many threads.
    pub(crate) fn fill(self, jobs: &[S::Job], tell: Tell<'_>) -> Result<Singles, Diagnostic> {
        let mut singles = Singles::new();
        if !jobs.is_empty() {
            let mut left = self.in_batches(jobs, tell);
            // What comes after a failure is not wanted any more, nor is its caller told of it.
            let wants = |job: &S::Job| self.failures.wants(S::place(job));
            left.jobs.truncate(left.jobs.partition_point(wants));
            if left.missing {
                singles = Self::singles(&left.jobs);
            }
            if !left.jobs.is_empty() {
                self.one_by_one(&left, tell);
            }
        }
        self.failures.into_result()?;
        Ok(singles)
    }

    fn in_batches(&self, jobs: &[S::Job], tell: Tell<'_>) -> Left<S::Job> {
        let groups = jobs
            .chunk_by(Self::same_map)
            .flat_map(|jobs| jobs.chunks(CHUNK));
        let groups: Vec<_> = groups.collect();
        if !self.tell(Progress::Fill(Way::Batches(groups.len())), tell) {
            return Left::default();
        }
        let watch = Arc::new(Watch::default());
        // What one batch shows, the others need not find out.
        let no_more = AtomicBool::new(false);
        let left = Mutex::new(Left::default());
        let work = |group: &&[S::Job]| {
            let outcome = if no_more.load(Ordering::Relaxed) {
                Outcome::Recalled(0)
            } else {
                self.batch(group, &watch)
            };
            let done = match outcome {
                Outcome::Done | Outcome::Failed => return,
                Outcome::Missing => 0,
                Outcome::Recalled(done) => done,
            };
            no_more.store(true, Ordering::Relaxed);
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            left.missing |= outcome == Outcome::Missing;
            left.jobs
                .extend_from_slice(group.get(done..).unwrap_or_default());
        };
        let queue = Queue::new(&groups, |group| group.first().map(S::place), &self.failures);
        let many = groups.iter().any(|group| group.len() > FEW);
        let wanted = many && self.filling.overlaps() && !self.filling.waits_once();
        watched(&watch, wanted, || {
            queue.share(self.threads(groups.len()), &work, || {
                self.join(&queue, &work, tell);
            });
        });
        let mut left = left.into_inner().unwrap_or_else(PoisonError::into_inner);
        left.jobs.sort_by_key(S::place);
        left
    }

    fn one_by_one(&self, left: &Left<S::Job>, tell: Tell<'_>) {
        let threads = self.threads(left.jobs.len());
        let way = if left.missing {
            Way::NoBatch { threads }
        } else {
            Way::EachWaits { threads }
        };
        if self.tell(Progress::Fill(way), tell) {
            let queue = Queue::new(&left.jobs, |job| Some(S::place(job)), &self.failures);
            let work = |job: &S::Job| self.single(job);
            queue.share(threads, &work, || self.join(&queue, &work, tell));
        }
    }

    /// Does on this thread what nobody has taken yet; between two pieces the caller may stop it.
    fn join<T: Sync>(&self, queue: &Queue<'_, T>, work: &impl Fn(&T), tell: Tell<'_>) {
        while let Some(item) = queue.take() {
            work(item);
            if !self.tell(Progress::GoOn, tell) {
                return;
            }
        }
    }

    /// Fills slots of one outer map in a batch.
    fn batch(&self, group: &[S::Job], watch: &Watch) -> Outcome {
        let Some(first) = group.first() else {
            return Outcome::Done;
        };
        let (result, ended_at) = watch.over(self.filling.patience(group.len()), |recall| {
            let result = self.filling.batch(group, recall);
            let ended_at = result.as_ref().err().and_then(|it| recall.ended_at(*it));
            (result, ended_at)
        });
        if let Some(done) = ended_at {
            return Outcome::Recalled(done);
        }
        match result {
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

/// Does the work while a thread watches the batches in it. Where no thread can be had, they may
/// take as long as they want. Nobody waits for that thread to end: on a busy machine it gets a CPU
/// only milliseconds after it was woken.
fn watched(watch: &Arc<Watch>, wanted: bool, work: impl FnOnce()) {
    let _end = wanted.then(|| {
        let watching = Arc::clone(watch);
        let _ = small_thread().spawn(move || watching.run());
        End(watch)
    });
    work();
}

/// Ends a watch, whatever happens.
struct End<'w>(&'w Watch);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use bpfplan_plan::Code;

    use super::*;

    const REFUSED: Code = crate::codes::SLOT_REFUSED;

    /// Refuses the batch of the first outer map when it has none for the second.
    struct Refusing {
        missing: Mutex<mpsc::Receiver<()>>,
        said: mpsc::Sender<()>,
    }

    impl Filling for Refusing {
        type Job = Place;

        fn place(job: &Place) -> Place {
            *job
        }

        fn batch(&self, jobs: &[Place], _: &Recall) -> Result<(), BatchError> {
            if jobs.first() == Some(&(0, 0)) {
                let other = self.missing.lock().expect("nobody panics");
                let other = other.recv_timeout(Duration::from_secs(20));
                other.expect("the other batch begins");
                return Err(BatchError {
                    done: Some(0),
                    errno: Errno::EPERM,
                });
            }
            self.said.send(()).expect("somebody waits");
            Err(BatchError {
                done: None,
                errno: Errno::ENOTSUPP,
            })
        }

        fn single(&self, job: &Place) -> Result<(), Errno> {
            panic!("{job:?} comes after the failure")
        }

        fn refused(&self, _: &Place, _: bool, _: Call, errno: Errno) -> Diagnostic {
            Diagnostic::error(REFUSED, errno.to_string())
        }

        fn version(&self) -> Option<KernelVersion> {
            None
        }

        fn overlaps(&self) -> bool {
            true
        }

        fn waits_once(&self) -> bool {
            true
        }

        fn patience(&self, _: usize) -> Duration {
            Duration::MAX
        }
    }

    #[test]
    fn after_a_failure_no_other_way_is_told() {
        let (said, missing) = mpsc::channel();
        let refusing = Refusing {
            missing: Mutex::new(missing),
            said,
        };
        let mut ways = Vec::new();
        let result = FanOut::new(&refusing).fill(&[(0, 0), (1, 0), (1, 1)], &mut |next| {
            if let Progress::Fill(way) = next {
                ways.push(way);
            }
            Ok(())
        });
        assert_eq!(result.expect_err("the first is refused").code, REFUSED);
        assert_eq!(ways, [Way::Batches(2)]);
    }
}
