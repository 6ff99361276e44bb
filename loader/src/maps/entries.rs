//! Walking over the elements of a map.

use super::elements::{Cursor, Elements, Take};
use super::keys::{Stop, Walk, has_indices};
use super::{MapData, MapError, RawMap, batch, typed};
use crate::kernel::Errno;
use bpfplan_plan::uapi;

/// All elements of a map with their keys. Elements that are in the map all the time come once;
/// those that come or go meanwhile may be missing. What [`Keys`](super::Keys) says of keys that the
/// kernel may skip holds for elements too.
///
/// They are read in batches where the kernel has them (5.6), otherwise one by one.
pub struct Entries<'a, K, V> {
    chunks: Typed<'a, K, V>,
}

/// As [`Entries`], for maps with a value for each possible CPU, in the order of the CPUs.
pub struct PerCpuEntries<'a, K, V> {
    chunks: Typed<'a, K, Vec<V>>,
}

/// Makes key and value of their bytes; `None` if these are not as many as they should be.
pub(super) type Read<K, V> = fn(&[u8], &[u8]) -> Option<(K, V)>;

/// The bytes of a key and of its value.
type Element<'a> = (&'a [u8], &'a [u8]);

struct Typed<'a, K, V> {
    map: &'a RawMap,
    /// `None` after the end.
    chunks: Option<Chunks<'a>>,
    read: Read<K, V>,
}

impl<'a, K: MapData, V: MapData> Entries<'a, K, V> {
    pub(super) fn new(map: &'a RawMap, take: Take) -> Self {
        Self::reading(map, take, |key, value| {
            Some((typed::read(key)?, typed::read(value)?))
        })
    }
}

impl<'a, K, V> Entries<'a, K, V> {
    pub(super) fn reading(map: &'a RawMap, take: Take, read: Read<K, V>) -> Self {
        Self {
            chunks: Typed {
                map,
                chunks: Some(Chunks::new(map.elements(), take)),
                read,
            },
        }
    }
}

impl<'a, K: MapData, V: MapData> PerCpuEntries<'a, K, V> {
    pub(super) fn new(map: &'a RawMap, take: Take) -> Self {
        let read = |key: &[u8], value: &[u8]| Some((typed::read(key)?, typed::read_each(value)?));
        Self {
            chunks: Typed {
                map,
                chunks: Some(Chunks::new(map.elements(), take)),
                read,
            },
        }
    }
}

impl<K, V> Iterator for Typed<'_, K, V> {
    type Item = Result<(K, V), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.chunks.as_mut()?.next() {
            Ok(Some((key, value))) => (self.read)(key, value)
                .ok_or_else(|| self.map.failed("reading an element", Errno::EINVAL)),
            Ok(None) => {
                self.chunks = None;
                return None;
            }
            Err(stop) => Err(stop.explain(self.map)),
        };
        if next.is_err() {
            self.chunks = None;
        }
        Some(next)
    }
}

impl<K, V> Iterator for Entries<'_, K, V> {
    type Item = Result<(K, V), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.chunks.next()
    }
}

impl<K, V> Iterator for PerCpuEntries<'_, K, V> {
    type Item = Result<(K, Vec<V>), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.chunks.next()
    }
}

impl<K, V> std::fmt::Debug for Entries<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entries").field(self.chunks.map).finish()
    }
}

impl<K, V> std::fmt::Debug for PerCpuEntries<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PerCpuEntries")
            .field(self.chunks.map)
            .finish()
    }
}

/// Bytes of a batch, about.
const BATCH_BYTES: usize = 256 << 10;
/// Elements of a batch.
const BATCH_ELEMENTS: usize = 4096;

/// The elements as bytes, read in chunks.
#[derive(Debug)]
pub(super) struct Chunks<'a> {
    map: &'a dyn Elements,
    take: Take,
    way: Way<'a>,
    keys: Vec<u8>,
    values: Vec<u8>,
    key_bytes: usize,
    value_bytes: usize,
    /// Elements that there is room for.
    room: usize,
    /// Elements that were read.
    filled: usize,
    /// Which of them is next.
    at: usize,
    /// Whether there are no more behind them.
    end: bool,
}

#[derive(Debug)]
enum Way<'a> {
    Batches(Cursor),
    OneByOne(Walk<'a>),
}

impl<'a> Chunks<'a> {
    pub(super) fn new(map: &'a dyn Elements, take: Take) -> Self {
        let info = map.info();
        let key_bytes = usize::try_from(info.key_size).unwrap_or(usize::MAX);
        let value_bytes = map.value_bytes();
        let entries = usize::try_from(info.max_entries).unwrap_or(usize::MAX);
        let bytes = key_bytes.saturating_add(value_bytes).max(1);
        let room = (BATCH_BYTES / bytes).clamp(1, BATCH_ELEMENTS.min(entries.max(1)));
        // The kernel reads the batches of a trie key by key, and begins again if one is deleted.
        let way = if info.map_type.0 == uapi::BPF_MAP_TYPE_LPM_TRIE {
            Way::OneByOne(Walk::new(map))
        } else {
            Way::Batches(Cursor::default())
        };
        Self {
            map,
            take,
            way,
            keys: Vec::new(),
            values: Vec::new(),
            key_bytes,
            value_bytes,
            room,
            filled: 0,
            at: 0,
            end: false,
        }
    }

    /// The next key and value.
    pub(super) fn next(&mut self) -> Result<Option<Element<'_>>, Stop> {
        while self.at >= self.filled {
            if self.end {
                return Ok(None);
            }
            self.read()?;
        }
        let at = self.at;
        self.at += 1;
        let key = element(&self.keys, at, self.key_bytes);
        let value = element(&self.values, at, self.value_bytes);
        Ok(key.zip(value))
    }

    fn read(&mut self) -> Result<(), Stop> {
        self.make_room()?;
        let last = self.last_key();
        let result = match &mut self.way {
            Way::OneByOne(walk) => {
                let Some(key) = walk.next()? else {
                    self.end = true;
                    return Ok(());
                };
                return self.read_one(&key);
            }
            Way::Batches(cursor) => {
                self.map
                    .lookup_batch(self.take, cursor, &mut self.keys, &mut self.values)
            }
        };
        (self.filled, self.at) = (0, 0);
        match result {
            Ok(batch) => {
                self.filled = batch.count.min(self.room);
                self.end = batch.end;
                Ok(())
            }
            // A bucket of a hash map does not fit.
            Err(Errno(libc::ENOSPC)) if self.room < self.limit() => {
                self.room = self.room.saturating_mul(2).min(self.limit());
                Ok(())
            }
            // Kernels before 6.14 give up where several slots of an array are empty.
            Err(Errno(libc::EINTR)) if has_indices(self.map.info().map_type.0) => {
                self.way = Way::OneByOne(match last {
                    Some(key) => Walk::after(self.map, &key)?,
                    None => Walk::new(self.map),
                });
                Ok(())
            }
            Err(errno) if last.is_none() && batch::is_missing(errno, self.map.version()) => {
                self.way = Way::OneByOne(Walk::new(self.map));
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// More elements than that cannot be in one bucket, even while some are replaced.
    fn limit(&self) -> usize {
        let entries = usize::try_from(self.map.info().max_entries).unwrap_or(usize::MAX);
        entries.saturating_mul(2).saturating_add(64)
    }

    fn last_key(&self) -> Option<Vec<u8>> {
        let last = self.filled.checked_sub(1)?;
        element(&self.keys, last, self.key_bytes).map(<[u8]>::to_vec)
    }

    fn read_one(&mut self, key: &[u8]) -> Result<(), Stop> {
        (self.filled, self.at) = (0, 0);
        let Some(value) = self.values.get_mut(..self.value_bytes) else {
            return Err(Errno::EINVAL.into());
        };
        let result = match self.take {
            Take::Copy => self.map.lookup(key, value, 0),
            Take::Remove => take_one(self.map, key, value),
        };
        match result {
            Ok(()) => {
                let Some(place) = self.keys.get_mut(..self.key_bytes) else {
                    return Err(Errno::EINVAL.into());
                };
                place.copy_from_slice(key);
                self.filled = 1;
                Ok(())
            }
            // It was deleted meanwhile, or the slot is empty.
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn make_room(&mut self) -> Result<(), Stop> {
        let room = match self.way {
            Way::Batches(_) => self.room,
            Way::OneByOne(_) => 1,
        };
        for (buffer, size) in [
            (&mut self.keys, self.key_bytes),
            (&mut self.values, self.value_bytes),
        ] {
            let memory = Errno(libc::ENOMEM);
            let wanted = size.checked_mul(room).ok_or(memory)?;
            if buffer.len() < wanted {
                buffer
                    .try_reserve_exact(wanted - buffer.len())
                    .map_err(|_| memory)?;
                buffer.resize(wanted, 0);
            }
        }
        Ok(())
    }
}

/// Kernels before 5.14 take from hash maps in two calls.
fn take_one(map: &dyn Elements, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
    match map.take(key, value) {
        Err(errno) if errno == Errno::ENOTSUPP || errno == Errno::EINVAL => {
            map.lookup(key, value, 0)?;
            map.delete(key)
        }
        result => result,
    }
}

fn element(buffer: &[u8], at: usize, size: usize) -> Option<&[u8]> {
    let start = at.checked_mul(size)?;
    buffer.get(start..start.checked_add(size)?)
}

#[cfg(test)]
mod tests;
