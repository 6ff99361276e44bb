//! Many updates or deletions in one call.

use bpfplan_plan::rules::KernelVersion;

use super::elements::Elements;
use super::{MapError, RawMap};
use crate::kernel::{BatchError, Errno};

/// Bytes of a batch, about.
const BATCH_BYTES: usize = 1 << 20;

/// From this version on there are batches, though not for each kind of map.
const BATCHES: KernelVersion = KernelVersion { major: 5, minor: 6 };

/// Whether the kernel has no batch for this kind of map: one that knows batches answers
/// `ENOTSUPP`, one before 5.6 does not know the command and answers `EINVAL`.
pub(crate) fn is_missing(errno: Errno, version: Option<KernelVersion>) -> bool {
    match errno {
        Errno::ENOTSUPP => true,
        Errno::EINVAL => version.is_none_or(|version| version < BATCHES),
        _ => false,
    }
}

/// What is done to each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Update,
    Delete,
}

/// Updates or deletes elements in the order of the items: keys, and values, which deletions have
/// none of. Keys that are not there are no failure of a deletion.
pub(super) fn apply<'i>(
    map: &dyn Elements,
    action: Action,
    items: impl Iterator<Item = (&'i [u8], &'i [u8])>,
) -> Result<(), BatchError> {
    let mut pending = Pending {
        map,
        action,
        keys: Vec::new(),
        values: Vec::new(),
        count: 0,
        done: 0,
        one_by_one: false,
    };
    for (key, value) in items {
        pending.add(key, value)?;
    }
    pending.flush()
}

/// Elements that are not written yet.
struct Pending<'a> {
    map: &'a dyn Elements,
    action: Action,
    keys: Vec<u8>,
    values: Vec<u8>,
    count: usize,
    done: usize,
    /// Whether the kernel has shown that it has no batch.
    one_by_one: bool,
}

impl Pending<'_> {
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), BatchError> {
        if self.one_by_one {
            return self.one(key, value);
        }
        self.keys.extend_from_slice(key);
        self.values.extend_from_slice(value);
        self.count += 1;
        if self.keys.len().saturating_add(self.values.len()) >= BATCH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), BatchError> {
        let mut from = 0;
        while from < self.count {
            let key_bytes = self.keys.len() / self.count;
            let value_bytes = self.values.len() / self.count;
            let keys = self.keys.get(from * key_bytes..).unwrap_or_default();
            let values = self.values.get(from * value_bytes..).unwrap_or_default();
            let result = match self.action {
                Action::Update => self.map.update_batch(keys, values),
                Action::Delete => self.map.delete_batch(keys),
            };
            match result {
                Ok(()) => {
                    self.done += self.count - from;
                    from = self.count;
                }
                // One that is not there stops a batch of deletions; the next one goes on.
                Err(BatchError {
                    done: Some(done),
                    errno: Errno::ENOENT,
                }) if self.action == Action::Delete => {
                    self.done += done + 1;
                    from += done + 1;
                }
                Err(error)
                    if error.done.is_none() && is_missing(error.errno, self.map.version()) =>
                {
                    self.one_by_one = true;
                    return self.each(from, key_bytes, value_bytes);
                }
                Err(error) => {
                    let done = error.done.map(|done| self.done + done);
                    return Err(BatchError {
                        done: done.or((self.done > 0).then_some(self.done)),
                        errno: error.errno,
                    });
                }
            }
        }
        self.keys.clear();
        self.values.clear();
        self.count = 0;
        Ok(())
    }

    /// Does one by one what is left of the batch.
    fn each(
        &mut self,
        from: usize,
        key_bytes: usize,
        value_bytes: usize,
    ) -> Result<(), BatchError> {
        let (keys, values) = (
            std::mem::take(&mut self.keys),
            std::mem::take(&mut self.values),
        );
        let count = std::mem::take(&mut self.count);
        let part = |bytes: &[u8], at: usize, size: usize| -> Vec<u8> {
            let start = at * size;
            bytes.get(start..start + size).unwrap_or_default().to_vec()
        };
        for at in from..count {
            self.one(&part(&keys, at, key_bytes), &part(&values, at, value_bytes))?;
        }
        Ok(())
    }

    fn one(&mut self, key: &[u8], value: &[u8]) -> Result<(), BatchError> {
        let result = match self.action {
            Action::Update => self.map.update(key, value, 0),
            Action::Delete => match self.map.delete(key) {
                Err(Errno::ENOENT) => Ok(()),
                result => result,
            },
        };
        result.map_err(|errno| BatchError {
            done: Some(self.done),
            errno,
        })?;
        self.done += 1;
        Ok(())
    }
}

impl RawMap {
    /// The error of a batch about this map.
    pub(super) fn batch_failed(&self, what: &str, error: BatchError) -> MapError {
        let failed = match error.done {
            Some(done) => self.failed(&format!("{what}, at element {done}"), error.errno),
            None => self.failed(what, error.errno),
        };
        failed.with_done(error.done.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
