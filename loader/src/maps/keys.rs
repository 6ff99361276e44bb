//! Walking over the keys of a map.

use std::collections::HashSet;

use bpfplan_plan::{Diagnostic, uapi};

use super::elements::{Elements, Take};
use super::entries::{Entries, Read};
use super::{MapData, MapError, RawMap, typed};
use crate::codes;
use crate::kernel::Errno;

/// All keys of a map, each once, in no order but that of arrays.
///
/// A key that is in the map all the time comes once, however many others come and go; keys may be
/// gone when they are looked up. In hashes, per-CPU and LRU ones included, they are read in
/// batches with their values, which holds the kernel's locks (5.6). In other maps whose keys go
/// away, tries, device maps with hashes and hashes of maps, `BPF_MAP_GET_NEXT_KEY` takes no lock: it
/// begins again where a key is gone, which is seen here, but while others delete and insert it
/// may skip keys, which cannot be seen.
pub struct Keys<'a, K> {
    map: &'a RawMap,
    /// `None` after the end.
    way: Option<Way<'a, K>>,
}

enum Way<'a, K> {
    Walk(Walk<'a>, fn(&[u8]) -> Option<K>),
    /// Values are not looked at.
    Batches(Entries<'a, K, ()>),
}

impl<K> std::fmt::Debug for Keys<'_, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keys").field(self.map).finish()
    }
}

impl<'a, K> Keys<'a, K> {
    fn reading(map: &'a RawMap, read: fn(&[u8]) -> Option<K>, read_entry: Read<K, ()>) -> Self {
        let elements = map.elements();
        let way = if is_read_by_bucket(elements.info().map_type.0) {
            Way::Batches(Entries::reading(map, Take::Copy, read_entry))
        } else {
            Way::Walk(Walk::new(elements), read)
        };
        Self {
            map,
            way: Some(way),
        }
    }
}

impl<'a> Keys<'a, Vec<u8>> {
    pub(super) fn new(map: &'a RawMap) -> Self {
        let read = |bytes: &[u8]| Some(bytes.to_vec());
        Self::reading(map, read, |key, _| Some((key.to_vec(), ())))
    }
}

impl<'a, K: MapData> Keys<'a, K> {
    pub(super) fn typed(map: &'a RawMap) -> Self {
        Self::reading(map, typed::read, |key, _| Some((typed::read(key)?, ())))
    }
}

impl<K> Iterator for Keys<'_, K> {
    type Item = Result<K, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.way.as_mut()? {
            Way::Walk(walk, read) => match walk.next() {
                Ok(Some(key)) => {
                    let key = read(&key);
                    Some(key.ok_or_else(|| self.map.failed("reading a key", Errno::EINVAL)))
                }
                Ok(None) => None,
                Err(stop) => Some(Err(stop.explain(self.map))),
            },
            Way::Batches(entries) => entries.next().map(|entry| entry.map(|(key, ())| key)),
        };
        if !matches!(next, Some(Ok(_))) {
            self.way = None;
        }
        next
    }
}

/// Whether a batch of lookups holds the lock of each bucket that it reads, as `htab_map_ops` and
/// its kin do; others go from key to key like everybody else.
fn is_read_by_bucket(map_type: u32) -> bool {
    matches!(
        map_type,
        uapi::BPF_MAP_TYPE_HASH
            | uapi::BPF_MAP_TYPE_PERCPU_HASH
            | uapi::BPF_MAP_TYPE_LRU_HASH
            | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH
    )
}

/// Why an iteration ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The kernel said so.
    Kernel(Errno),
    /// The map changes faster than it can be read.
    Endless,
}

impl Stop {
    pub(super) fn explain(self, map: &RawMap) -> MapError {
        match self {
            Self::Kernel(errno) => map.failed("reading its elements", errno),
            Self::Endless => MapError::new(
                Diagnostic::error(
                    codes::MAP_ITERATION,
                    "so many keys are deleted while they are read that there is no end to it",
                )
                .map(map.described())
                .help("try again, or read it while less is going on"),
            ),
        }
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

/// Whether keys are the numbers from 0 to `max_entries`, which never go away.
pub(super) fn has_indices(map_type: u32) -> bool {
    matches!(
        map_type,
        uapi::BPF_MAP_TYPE_ARRAY
            | uapi::BPF_MAP_TYPE_PERCPU_ARRAY
            | uapi::BPF_MAP_TYPE_PROG_ARRAY
            | uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY
            | uapi::BPF_MAP_TYPE_CGROUP_ARRAY
            | uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS
            | uapi::BPF_MAP_TYPE_DEVMAP
            | uapi::BPF_MAP_TYPE_CPUMAP
            | uapi::BPF_MAP_TYPE_XSKMAP
            | uapi::BPF_MAP_TYPE_SOCKMAP
            | uapi::BPF_MAP_TYPE_REUSEPORT_SOCKARRAY
    )
}

/// `BPF_MAP_GET_NEXT_KEY`, again and again.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    map: &'a dyn Elements,
    /// The key after the one that was given last. It is asked for before that one is given, so
    /// that whoever deletes what it gets does not make the kernel begin again.
    ahead: Ahead,
    /// The keys so far; `None` where no key goes away.
    seen: Option<HashSet<Vec<u8>>>,
    /// How often the kernel may still be asked.
    budget: u64,
}

#[derive(Debug)]
enum Ahead {
    Begin,
    Key(Vec<u8>),
    End,
}

/// How often the whole map may be walked over, if it changes meanwhile.
const ROUNDS: u64 = 64;

impl<'a> Walk<'a> {
    pub(super) fn new(map: &'a dyn Elements) -> Self {
        let info = map.info();
        let indices = has_indices(info.map_type.0);
        Self {
            map,
            ahead: Ahead::Begin,
            seen: (!indices).then(HashSet::new),
            budget: u64::from(info.max_entries)
                .saturating_add(16)
                .saturating_mul(ROUNDS),
        }
    }

    /// A walk that begins after that key, for maps whose keys never go away.
    pub(super) fn after(map: &'a dyn Elements, key: &[u8]) -> Result<Self, Stop> {
        let mut this = Self::new(map);
        this.ahead = this.ask(Some(key))?;
        Ok(this)
    }

    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Stop> {
        if matches!(self.ahead, Ahead::Begin) {
            self.ahead = self.ask(None)?;
        }
        loop {
            let Ahead::Key(key) = std::mem::replace(&mut self.ahead, Ahead::End) else {
                return Ok(None);
            };
            self.ahead = self.ask(Some(&key))?;
            match &mut self.seen {
                None => return Ok(Some(key)),
                Some(seen) => {
                    if seen.insert(key.clone()) {
                        return Ok(Some(key));
                    }
                }
            }
        }
    }

    fn ask(&mut self, key: Option<&[u8]>) -> Result<Ahead, Stop> {
        self.budget = self.budget.checked_sub(1).ok_or(Stop::Endless)?;
        let size = usize::try_from(self.map.info().key_size).map_err(|_| Errno::EINVAL)?;
        let mut next = vec![0; size];
        match self.map.next_key(key, &mut next) {
            Ok(()) => Ok(Ahead::Key(next)),
            Err(Errno::ENOENT) => Ok(Ahead::End),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests;
