//! Filling many slots at the price of few.
//!
//! Each call that fills slots ends with an RCU grace period, some milliseconds. One batch waits
//! once; where the kernel has no batch, or waits for each element of one, many threads wait at
//! the same time (see `slots`).

use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bpfplan_plan::Diagnostic;
use bpfplan_plan::rules::{Call, KernelVersion, misfit};

use super::elements::Elements;
use super::{MapError, RawMap, outer};
use crate::codes;
use crate::kernel::{BatchError, Errno};
use crate::slots::fan_out::{FanOut, Filling};
use crate::slots::queue::Place;
use crate::slots::recall::{Recall, waits_once};

/// A key and the map for it.
pub(super) type Item<'a> = (&'a [u8], &'a RawMap);

/// Puts all maps into their slots. Of several for one key, the last counts.
pub(super) fn insert_all(outer: &RawMap, items: &[Item<'_>]) -> Result<(), MapError> {
    for (key, inner) in items {
        outer::check_key(outer, key)?;
        check_fit(outer, key, inner)?;
    }
    let mut last = HashMap::with_capacity(items.len());
    for (index, (key, _)) in items.iter().enumerate() {
        last.insert(*key, index);
    }
    let unique = items.iter().enumerate();
    let unique = unique.filter(|(index, (key, _))| last.get(key) == Some(index));
    let items: Vec<Item<'_>> = unique.map(|(_, item)| *item).collect();
    let explain = |exact: Option<usize>, call, errno| {
        let exact = exact.and_then(|index| items.get(index));
        match exact {
            Some((key, inner)) => outer::refused(outer, key, inner, call, errno),
            None => Diagnostic::error(
                codes::SLOT_REFUSED,
                format!("filling its slots failed: {errno}"),
            )
            .map(outer.described()),
        }
    };
    let fds: Vec<_> = items
        .iter()
        .map(|(key, inner)| (*key, inner.as_fd()))
        .collect();
    let inserts = Inserts {
        calls: outer.elements(),
        items: &fds,
        explain: &explain,
        first: Mutex::new(None),
    };
    inserts.run()
}

/// What does not fit is refused before anything is replaced, if the template is known.
fn check_fit(outer: &RawMap, key: &[u8], inner: &RawMap) -> Result<(), MapError> {
    let Some(template) = outer.known_template() else {
        return Ok(());
    };
    let shape = outer::shape(inner.info());
    if misfit(&shape, &template.shape(), outer.elements().version()).is_none() {
        return Ok(());
    }
    let refused = outer::refused(outer, key, inner, Call::UpdateElem, Errno::EINVAL);
    Err(MapError::new(refused.note("nothing was replaced")).with_done(0))
}

/// Why a call did not insert an item, whose index may be known.
pub(super) type Explain<'a> = dyn Fn(Option<usize>, Call, Errno) -> Diagnostic + Sync + 'a;

/// The inserts that are made.
pub(super) struct Inserts<'a> {
    pub(super) calls: &'a dyn Elements,
    /// Keys, and the descriptors for them.
    pub(super) items: &'a [(&'a [u8], BorrowedFd<'a>)],
    /// Explains a failure, with the index of the item if it is known.
    pub(super) explain: &'a Explain<'a>,
    /// The first insert that failed, and the kernel's answer.
    pub(super) first: Mutex<Option<(usize, Errno)>>,
}

impl Inserts<'_> {
    pub(super) fn run(self) -> Result<(), MapError> {
        let jobs: Vec<usize> = (0..self.items.len()).collect();
        let result = FanOut::new(&self).fill(&jobs, &mut |_| Ok(()));
        let first = self
            .first
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match (result, first) {
            (Ok(_), _) => Ok(()),
            (Err(diagnostic), Some((index, errno))) => {
                Err(MapError::new(diagnostic).with_errno(errno).with_done(index))
            }
            (Err(diagnostic), None) => Err(MapError::new(diagnostic)),
        }
    }
}

impl Filling for Inserts<'_> {
    /// Index of the item.
    type Job = usize;

    fn place(job: &usize) -> Place {
        // There is one outer map, and more items than that cannot be open.
        (0, u32::try_from(*job).unwrap_or(u32::MAX))
    }

    fn batch(&self, jobs: &[usize], recall: &Recall) -> Result<(), BatchError> {
        let items = || jobs.iter().filter_map(|job| self.items.get(*job));
        let mut keys = Vec::new();
        for (key, _) in items() {
            keys.extend_from_slice(key);
        }
        let fds = recall.lend(items().map(|(_, inner)| inner.as_raw_fd().cast_unsigned()));
        self.calls.fill_batch(&keys, fds)
    }

    fn single(&self, job: &usize) -> Result<(), Errno> {
        let Some((key, inner)) = self.items.get(*job) else {
            return Ok(());
        };
        self.calls.update(key, &inner.as_raw_fd().to_ne_bytes(), 0)
    }

    fn refused(&self, job: &usize, exact: bool, call: Call, errno: Errno) -> Diagnostic {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none_or(|(index, _)| *job < index) {
            *first = Some((*job, errno));
        }
        drop(first);
        (self.explain)(exact.then_some(*job), call, errno)
    }

    fn version(&self) -> Option<KernelVersion> {
        self.calls.version()
    }

    fn overlaps(&self) -> bool {
        self.calls.overlaps()
    }

    fn waits_once(&self) -> bool {
        waits_once(self.calls.version())
    }

    fn patience(&self, slots: usize) -> Duration {
        self.calls.patience(slots)
    }
}

#[cfg(test)]
mod tests;
