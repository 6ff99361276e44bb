//! A map in memory that answers as kernels do that are not at hand: without batches, with waits
//! for each element, with keys that go away in the worst moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use bpfplan_plan::rules::KernelVersion;
use bpfplan_plan::{MapType, uapi};

use super::elements::{Batch, Cursor, Elements, Take};
use super::info::Info;
use crate::kernel::{BatchError, Errno};

type Bytes = Vec<u8>;

/// What happens behind the reader's back before each call that looks for the next key.
type Meanwhile = fn(&mut BTreeMap<Bytes, Bytes>, Option<&[u8]>);

#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) info: Info,
    pub(crate) elements: Mutex<BTreeMap<Bytes, Bytes>>,
    pub(crate) version: KernelVersion,
    /// Whether a batch of slots waits after each of them.
    pub(crate) waits: bool,
    /// What batches answer; `None` if there are some.
    pub(crate) no_batch: Option<Errno>,
    /// Elements that only fit into a batch together.
    pub(crate) bucket: usize,
    /// What `take` answers, if it does not work.
    pub(crate) no_take: Option<Errno>,
    /// What updates of these keys answer.
    pub(crate) refused: BTreeMap<Bytes, Errno>,
    pub(crate) meanwhile: Meanwhile,
    /// After so many batches of lookups the next one answers `EINTR`.
    pub(crate) interrupted_after: Option<usize>,
    pub(crate) batches: AtomicUsize,
    pub(crate) singles: AtomicUsize,
    /// Slots that batches have filled.
    pub(crate) in_batches: AtomicUsize,
    /// The first grace period ends when so many updates wait for it.
    pub(crate) together: usize,
    /// Updates that wait now, and the most that ever did at the same time.
    waiting: AtomicUsize,
    pub(crate) at_once: AtomicUsize,
}

/// Waits until the descriptor is taken back, as it is if a grace period lasts long enough.
fn taken_back(fd: &AtomicU32) {
    let begin = Instant::now();
    while fd.load(Ordering::SeqCst) != u32::MAX && begin.elapsed() < GIVE_UP {
        thread::yield_now();
    }
}

/// A test that waits so long has failed.
const GIVE_UP: Duration = Duration::from_secs(20);

impl Fake {
    /// A hash map with keys and values of 4 bytes.
    pub(crate) fn new(entries: u32) -> Self {
        Self {
            info: Info {
                id: 1,
                name: "fake".to_owned(),
                map_type: MapType(uapi::BPF_MAP_TYPE_HASH),
                key_size: 4,
                value_size: 4,
                max_entries: entries,
                map_flags: 0,
                map_extra: 0,
                btf_id: 0,
                btf_key_type_id: 0,
                btf_value_type_id: 0,
            },
            elements: Mutex::default(),
            version: KernelVersion::new(6, 18),
            no_batch: None,
            bucket: 1,
            no_take: None,
            waits: false,
            refused: BTreeMap::new(),
            meanwhile: |_, _| {},
            interrupted_after: None,
            batches: AtomicUsize::new(0),
            singles: AtomicUsize::new(0),
            in_batches: AtomicUsize::new(0),
            together: 1,
            waiting: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
        }
    }

    /// As above, with the keys from 0 on, and values that are the keys.
    pub(crate) fn filled(entries: u32) -> Self {
        let this = Self::new(entries);
        this.lock()
            .extend((0..entries).map(|key| (bytes(key), bytes(key))));
        this
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<Bytes, Bytes>> {
        self.elements.lock().unwrap()
    }

    pub(crate) fn keys(&self) -> Vec<u32> {
        self.lock().keys().map(|key| number(key)).collect()
    }

    /// A grace period, as far as it can be told without a clock.
    fn wait(&self) {
        let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once.fetch_max(waiting, Ordering::SeqCst);
        let begin = Instant::now();
        while self.at_once.load(Ordering::SeqCst) < self.together && begin.elapsed() < GIVE_UP {
            thread::yield_now();
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        if let Some(errno) = self.refused.get(key) {
            return Err(*errno);
        }
        self.lock().insert(key.to_vec(), value.to_vec());
        Ok(())
    }
}

/// Big-endian, so that numbers and bytes have one order.
pub(crate) fn bytes(number: u32) -> Bytes {
    number.to_be_bytes().to_vec()
}

pub(crate) fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

impl Elements for Fake {
    fn info(&self) -> &Info {
        &self.info
    }

    fn value_bytes(&self) -> usize {
        4
    }

    fn version(&self) -> Option<KernelVersion> {
        Some(self.version)
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn patience(&self, _: usize) -> Duration {
        if self.waits {
            Duration::ZERO
        } else {
            Duration::from_secs(3600)
        }
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], _: u64) -> Result<(), Errno> {
        let elements = self.lock();
        let found = elements.get(key).ok_or(Errno::ENOENT)?;
        value.copy_from_slice(found);
        Ok(())
    }

    fn take(&self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        if let Some(errno) = self.no_take {
            return Err(errno);
        }
        let found = self.lock().remove(key).ok_or(Errno::ENOENT)?;
        value.copy_from_slice(&found);
        Ok(())
    }

    fn update(&self, key: &[u8], value: &[u8], _flags: u64) -> Result<(), Errno> {
        self.singles.fetch_add(1, Ordering::SeqCst);
        self.put(key, value)?;
        self.wait();
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.singles.fetch_add(1, Ordering::SeqCst);
        self.lock().remove(key).map(drop).ok_or(Errno::ENOENT)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        let mut elements = self.lock();
        (self.meanwhile)(&mut elements, key);
        let after = match key {
            Some(key) if elements.contains_key(key) => {
                let mut rest = elements.range(key.to_vec()..);
                rest.nth(1)
            }
            // The kernel begins again.
            _ => elements.iter().next(),
        };
        let (found, _) = after.ok_or(Errno::ENOENT)?;
        next.copy_from_slice(found);
        Ok(())
    }

    fn lookup_batch(
        &self,
        take: Take,
        cursor: &mut Cursor,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> Result<Batch, Errno> {
        if let Some(errno) = self.no_batch {
            return Err(errno);
        }
        let call = self.batches.fetch_add(1, Ordering::SeqCst);
        if self.interrupted_after == Some(call) {
            return Err(Errno(libc::EINTR));
        }
        let begun = cursor.has_begun();
        let position = cursor.buffer(4);
        // Positions are the last keys, whether these are still there or not.
        let from = position[..4].to_vec();
        let mut elements = self.lock();
        let mut rest: Vec<(Bytes, Bytes)> = elements
            .range(from.clone()..)
            .filter(|(key, _)| !begun || **key != from)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let room = keys.len() / 4 / self.bucket * self.bucket;
        if room == 0 && !rest.is_empty() {
            return Err(Errno(libc::ENOSPC));
        }
        let end = rest.len() <= room;
        rest.truncate(room);
        for (at, (key, value)) in rest.iter().enumerate() {
            keys[at * 4..at * 4 + 4].copy_from_slice(key);
            values[at * 4..at * 4 + 4].copy_from_slice(value);
            if take == Take::Remove {
                elements.remove(key);
            }
        }
        if let Some((key, _)) = rest.last() {
            position[..4].copy_from_slice(key);
        }
        cursor.begin();
        Ok(Batch {
            count: rest.len(),
            end,
        })
    }

    fn update_batch(&self, keys: &[u8], values: &[u8]) -> Result<(), BatchError> {
        let refused = |errno| BatchError { done: None, errno };
        self.no_batch.map_or(Ok(()), |errno| Err(refused(errno)))?;
        self.batches.fetch_add(1, Ordering::SeqCst);
        for (done, (key, value)) in keys.chunks(4).zip(values.chunks(4)).enumerate() {
            self.put(key, value).map_err(|errno| BatchError {
                done: Some(done),
                errno,
            })?;
        }
        Ok(())
    }

    fn fill_batch(&self, keys: &[u8], fds: &[AtomicU32]) -> Result<(), BatchError> {
        let refused = |errno| BatchError { done: None, errno };
        self.no_batch.map_or(Ok(()), |errno| Err(refused(errno)))?;
        self.batches.fetch_add(1, Ordering::SeqCst);
        for (done, (key, fd)) in keys.chunks(4).zip(fds).enumerate() {
            let refused = |errno| BatchError {
                done: Some(done),
                errno,
            };
            let fd = fd.load(Ordering::SeqCst);
            if fd == u32::MAX {
                return Err(refused(Errno(libc::EBADF)));
            }
            self.put(key, &fd.to_ne_bytes()).map_err(refused)?;
            self.in_batches.fetch_add(1, Ordering::SeqCst);
            if let Some(next) = fds.get(done + 1).filter(|_| self.waits) {
                taken_back(next);
            }
        }
        Ok(())
    }

    fn delete_batch(&self, keys: &[u8]) -> Result<(), BatchError> {
        let refused = |errno| BatchError { done: None, errno };
        self.no_batch.map_or(Ok(()), |errno| Err(refused(errno)))?;
        self.batches.fetch_add(1, Ordering::SeqCst);
        for (done, key) in keys.chunks(4).enumerate() {
            if self.lock().remove(key).is_none() {
                return Err(BatchError {
                    done: Some(done),
                    errno: Errno::ENOENT,
                });
            }
        }
        Ok(())
    }
}
