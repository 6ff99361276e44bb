//! Taking back what a batch has not done yet.
//!
//! A kernel may wait for a grace period after each element of a batch (those before 6.8 do, unless
//! the change was ported back), and then a batch is the slowest way there is. For these the version
//! does not tell it for sure, and a trial would cost a grace period on kernels that wait once. So every
//! batch is begun whole, and watched. Later kernels are trusted instead: a watch takes a thread, and
//! where nothing else runs, starting one made the grace period last twice as long (8 ms and 12 to 20,
//! 512 slots on Linux 6.18). The kernel copies the elements from user space one by one,
//! each when its turn has come (`generic_map_update_batch`). One that waits once has read them all
//! before it waits, within microseconds an element. When a batch takes so long that it must have
//! read everything, the values are overwritten with a descriptor that nobody has: where the
//! kernel waits only once, nothing reads them any more and nothing changes; where it waits for each
//! element, it refuses the next one with `EBADF` and says how many it did, and the others are left
//! for the threads. A kernel that was only slow loses time by that, and nothing else.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bpfplan_plan::rules::KernelVersion;

use crate::kernel::{BatchError, Errno};

/// How long every batch is left alone: longer than most grace periods, though that does not matter.
const PATIENCE: Duration = Duration::from_millis(20);

/// How much longer for each slot: many times what the kernel takes to fill it.
const PATIENCE_A_SLOT: Duration = Duration::from_micros(20);

/// How often a watch without batches looks for some.
const PAUSE: Duration = Duration::from_millis(10);

/// From this version on a batch waits once.
const WAITS_ONCE: KernelVersion = KernelVersion { major: 6, minor: 8 };

/// Whether a kernel of this version is known to wait once for a batch.
pub(crate) fn waits_once(version: Option<KernelVersion>) -> bool {
    version.is_some_and(|version| version >= WAITS_ONCE)
}

/// How long a batch of so many slots is left alone.
pub(crate) fn patience(slots: usize) -> Duration {
    let slots = u32::try_from(slots).unwrap_or(u32::MAX);
    PATIENCE.saturating_add(PATIENCE_A_SLOT.saturating_mul(slots))
}

/// A descriptor that nobody has.
const NOBODYS: u32 = u32::MAX;

/// A batch of slots that is under way, and can be ended before its end.
#[derive(Debug, Default)]
pub struct Recall {
    values: OnceLock<Box<[AtomicU32]>>,
    recalled: AtomicBool,
}

impl Recall {
    /// The descriptors of a batch as the kernel is to read them; one set for each `Recall`.
    pub(crate) fn lend(&self, values: impl Iterator<Item = u32>) -> &[AtomicU32] {
        let values = self
            .values
            .get_or_init(|| values.map(AtomicU32::new).collect());
        // With the other one below: of two threads in here and in `recall`, one sees what the other did.
        fence(Ordering::SeqCst);
        if self.is_recalled() {
            overwrite(values);
        }
        values
    }

    /// Ends the batch at the element that the kernel looks at next, if there is one: it fails with
    /// [`Recall::ERRNO`].
    pub fn recall(&self) {
        self.recalled.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if let Some(values) = self.values.get() {
            overwrite(values);
        }
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_recalled(&self) -> bool {
        self.recalled.load(Ordering::SeqCst)
    }

    /// What the kernel answers to the first element that was taken back: `EBADF`.
    pub const ERRNO: Errno = Errno(libc::EBADF);

    /// The number of elements that were done of a batch that was ended before its end.
    pub(crate) fn ended_at(&self, error: BatchError) -> Option<usize> {
        let ended = self.is_recalled() && error.errno == Self::ERRNO;
        error.done.filter(|_| ended)
    }
}

fn overwrite(values: &[AtomicU32]) {
    for value in values {
        value.store(NOBODYS, Ordering::SeqCst);
    }
}

/// Watches batches, and recalls those that take too long.
#[derive(Debug, Default)]
pub(super) struct Watch {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// When they are recalled.
    batches: Vec<(Instant, Arc<Recall>)>,
    ended: bool,
}

impl Watch {
    /// Makes a call that may take so long, and is watched.
    pub(super) fn over<T>(&self, patience: Duration, call: impl FnOnce(&Recall) -> T) -> T {
        let recall = Arc::new(Recall::default());
        // What may take longer than time can tell is not watched.
        if let Some(due) = Instant::now().checked_add(patience) {
            self.lock().batches.push((due, Arc::clone(&recall)));
        }
        let result = call(&recall);
        self.lock()
            .batches
            .retain(|(_, other)| !Arc::ptr_eq(other, &recall));
        result
    }

    /// Recalls what takes too long, until [`Watch::end`].
    pub(super) fn run(&self) {
        let mut state = self.lock();
        while !state.ended {
            let now = Instant::now();
            state.batches.retain(|(due, recall)| {
                let late = *due <= now;
                if late {
                    recall.recall();
                }
                !late
            });
            let next = state.batches.iter().map(|(due, _)| *due - now).min();
            let pause = next.map_or(PAUSE, |next| next.min(PATIENCE));
            let waited = self.ended.wait_timeout(state, pause);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.ended.notify_all();
    }

    /// Usable even if a thread died while holding it: it is only written whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kernels_that_are_known_to_wait_once_are_trusted() {
        let of = |major, minor| waits_once(Some(KernelVersion::new(major, minor)));
        assert_eq!(
            [of(6, 1), of(6, 7), of(6, 8), of(7, 0)],
            [false, false, true, true]
        );
        assert!(!waits_once(None));
    }

    #[test]
    fn patience_may_be_endless() {
        assert!(Watch::default().over(Duration::MAX, |recall| !recall.is_recalled()));
    }
}
