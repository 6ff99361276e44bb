//! Work that threads take from the front, in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use bpfplan_plan::Diagnostic;

/// Bytes of stack of a thread that fills slots or makes maps. There may be many of them, and they
/// call little.
const STACK: usize = 256 << 10;

/// A thread for work of that kind.
pub(crate) fn small_thread() -> thread::Builder {
    thread::Builder::new().stack_size(STACK)
}

/// A place in the order of all slots: outer map, then slot.
pub(crate) type Place = (usize, u32);

/// The failure that counts: the first one in the order of the slots, whoever met it when.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Option<(Place, Diagnostic)>>);

/// Before every slot: what stops everything, whatever the order.
const EVERYTHING: Place = (0, 0);

impl Failures {
    pub(super) fn add(&self, place: Place, diagnostic: Diagnostic) {
        let mut first = self.lock();
        if first.as_ref().is_none_or(|(there, _)| place < *there) {
            *first = Some((place, diagnostic));
        }
    }

    /// Nothing is begun any more.
    pub(super) fn stop(&self, diagnostic: Diagnostic) {
        *self.lock() = Some((EVERYTHING, diagnostic));
    }

    /// Whether work at that place is still wanted: what comes before a failure is done all the
    /// same, as it may fail as well.
    pub(super) fn wants(&self, place: Place) -> bool {
        self.lock().as_ref().is_none_or(|(there, _)| place < *there)
    }

    pub(super) fn into_result(self) -> Result<(), Diagnostic> {
        let first = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        first.map_or(Ok(()), |(_, diagnostic)| Err(diagnostic))
    }

    /// Usable even if a thread died while holding it: it is only written whole.
    fn lock(&self) -> MutexGuard<'_, Option<(Place, Diagnostic)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pieces of work, in the order of their places.
pub(super) struct Queue<'a, T> {
    items: &'a [T],
    next: AtomicUsize,
    place: fn(&T) -> Option<Place>,
    failures: &'a Failures,
}

impl<'a, T: Sync> Queue<'a, T> {
    /// Pieces without a place are left out.
    pub(super) fn new(
        items: &'a [T],
        place: fn(&T) -> Option<Place>,
        failures: &'a Failures,
    ) -> Self {
        Self {
            items,
            next: AtomicUsize::new(0),
            place,
            failures,
        }
    }

    /// The next piece of work, unless something before it failed.
    pub(super) fn take(&self) -> Option<&'a T> {
        let item = self.items.get(self.next.fetch_add(1, Ordering::Relaxed))?;
        let place = (self.place)(item)?;
        self.failures.wants(place).then_some(item)
    }

    /// Lets `threads` threads take pieces until there are none; this one, which is one of them,
    /// does `own` instead.
    pub(super) fn share(&self, threads: usize, work: &(impl Fn(&'a T) + Sync), own: impl FnOnce()) {
        let take_all = || {
            while let Some(item) = self.take() {
                work(item);
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                // Where no thread can be had, those that there are do the work.
                if small_thread().spawn_scoped(scope, take_all).is_err() {
                    break;
                }
            }
            own();
        });
    }
}
