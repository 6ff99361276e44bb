//! The shared memory of a ring buffer (`kernel/bpf/ringbuf.c`).
//!
//! The kernel maps two positions, a page each, and the data, twice in a row, so that a record
//! that goes round the end is in one piece. A record is a header of 8 bytes, of which the first 4
//! are its length and two flags, then its bytes, rounded up to 8. A user ring buffer is the same the
//! other way round: programs read what this side writes.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use bpfplan_plan::uapi;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::RealElements;
use crate::kernel::Errno;

/// Set while a program still writes the record.
const BUSY: u32 = 1 << 31;
/// Set if a program has discarded the record.
const DISCARD: u32 = 1 << 30;
/// Longest record that a program can read (`DYNPTR_MAX_SIZE` of the kernel).
const LONGEST: u32 = (1 << 24) - 1;
/// Bytes of the header.
const HEADER: usize = 8;

/// Memory that is shared with the kernel; unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the memory belongs to the process, not to a thread, and is only accessed atomically.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(
        map: &RealElements,
        size: usize,
        protection: ProtFlags,
        offset: usize,
    ) -> Result<Self, Errno> {
        let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the kernel chooses a free address, so nothing that is mapped is touched.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                size,
                protection,
                MapFlags::SHARED,
                map,
                offset,
            )
        };
        let start = start.map_err(|errno| Errno(errno.raw_os_error()))?;
        let start = NonNull::new(start.cast()).ok_or(Errno(libc::ENOMEM))?;
        Ok(Self { start, size })
    }

    /// The atomic number at that offset; `None` if it would be outside or not aligned.
    fn at<T: Atomic>(&self, offset: usize) -> Option<&T> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.size || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: the number lies within the mapping, as was just checked, which lives as long as
        // `self` and begins at a page, so it is aligned; all bits are a value of it, and whoever
        // else writes there (the kernel, other processes) makes no data race with atomic loads.
        Some(unsafe { self.start.add(offset).cast::<T>().as_ref() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the memory was mapped with this size in `new`, and no reference into it
        // outlives `self`. If it fails, it stays mapped.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// Atomic numbers.
trait Atomic {}
impl Atomic for AtomicU32 {}
impl Atomic for AtomicU64 {}
impl Atomic for AtomicUsize {}

/// A ring buffer from the side of its consumer.
#[derive(Debug)]
pub(crate) struct Ring {
    /// How far it is read.
    consumer: Mapping,
    /// How far it is written, then the data twice.
    producer: Mapping,
    /// Bytes before the data.
    page: usize,
    /// Size of the data in bytes, a power of two.
    size: usize,
}

impl Ring {
    /// Maps a `RINGBUF` map.
    ///
    /// # Errors
    /// `EINVAL` if it is another kind of map; those of `mmap`: `EPERM` if the descriptor is not
    /// open for writing, as the consumer writes how far it is.
    pub(crate) fn new(map: &RealElements) -> Result<Self, Errno> {
        let (size, page, all) = sizes(map, uapi::BPF_MAP_TYPE_RINGBUF)?;
        let consumer = Mapping::new(map, page, ProtFlags::READ | ProtFlags::WRITE, 0)?;
        let producer = Mapping::new(map, all, ProtFlags::READ, page)?;
        Ok(Self {
            consumer,
            producer,
            page,
            size,
        })
    }

    /// Puts the next record into `bytes`, whose length then is that of the record; `false` if
    /// there is none yet. The record is copied, because others may write to the memory.
    ///
    /// # Errors
    /// `EBADMSG` if the memory holds what no kernel has written, `ENOMEM`.
    pub(crate) fn read(&mut self, bytes: &mut Vec<u8>) -> Result<bool, Errno> {
        let damaged = Errno(libc::EBADMSG);
        let consumer: &AtomicUsize = self.consumer.at(0).ok_or(damaged)?;
        let producer: &AtomicUsize = self.producer.at(0).ok_or(damaged)?;
        loop {
            // Nobody else should write it, and nothing depends on it.
            let position = consumer.load(Ordering::Relaxed);
            // Pairs with the kernel's release: what is before it has been written.
            let written = producer.load(Ordering::Acquire).wrapping_sub(position);
            if written == 0 {
                return Ok(false);
            }
            if written > self.size || !position.is_multiple_of(HEADER) {
                return Err(damaged);
            }
            let offset = self.page + (position & (self.size - 1));
            let header: &AtomicU32 = self.producer.at(offset).ok_or(damaged)?;
            // Pairs with the kernel's release when the record is committed.
            let header = header.load(Ordering::Acquire);
            if header & BUSY != 0 {
                return Ok(false);
            }
            let length = usize::try_from(header & !(BUSY | DISCARD)).map_err(|_| damaged)?;
            let whole = length
                .checked_add(HEADER)
                .and_then(|length| length.checked_next_multiple_of(8))
                .filter(|whole| *whole <= written)
                .ok_or(damaged)?;
            let taken = header & DISCARD == 0;
            if taken {
                self.copy(offset + HEADER, length, bytes)?;
            }
            // The kernel may reuse the place only after it was read.
            consumer.store(position.wrapping_add(whole), Ordering::Release);
            if taken {
                return Ok(true);
            }
        }
    }

    fn copy(&self, offset: usize, length: usize, bytes: &mut Vec<u8>) -> Result<(), Errno> {
        bytes.clear();
        let room = length.checked_next_multiple_of(8).ok_or(Errno::EINVAL)?;
        bytes.try_reserve(room).map_err(|_| Errno(libc::ENOMEM))?;
        for word in (0..length).step_by(size_of::<u64>()) {
            let word: &AtomicU64 = self
                .producer
                .at(offset + word)
                .ok_or(Errno(libc::EBADMSG))?;
            bytes.extend(word.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes.truncate(length);
        Ok(())
    }
}

/// Bytes of the data, of a page, and of the producer's mapping, of a map of that type.
fn sizes(map: &RealElements, map_type: u32) -> Result<(usize, usize, usize), Errno> {
    use crate::maps::elements::Elements as _;
    let info = map.info();
    let size = usize::try_from(info.max_entries).map_err(|_| Errno::EINVAL)?;
    if info.map_type.0 != map_type || !size.is_power_of_two() {
        return Err(Errno::EINVAL);
    }
    let page = rustix::param::page_size();
    let all = size.checked_mul(2).and_then(|data| data.checked_add(page));
    Ok((size, page, all.ok_or(Errno(libc::E2BIG))?))
}

/// A user ring buffer from the side of its producer.
#[derive(Debug)]
pub(crate) struct UserRing {
    /// How far programs have read it.
    consumer: Mapping,
    /// How far it is written, then the data twice.
    producer: Mapping,
    /// Bytes before the data.
    page: usize,
    /// Size of the data in bytes, a power of two.
    size: usize,
}

impl UserRing {
    /// Maps a `USER_RINGBUF` map.
    ///
    /// # Errors
    /// As [`Ring::new`].
    pub(crate) fn new(map: &RealElements) -> Result<Self, Errno> {
        let (size, page, all) = sizes(map, uapi::BPF_MAP_TYPE_USER_RINGBUF)?;
        // The kernel lets nobody but itself write how far it has read.
        let consumer = Mapping::new(map, page, ProtFlags::READ, 0)?;
        let producer = Mapping::new(map, all, ProtFlags::READ | ProtFlags::WRITE, page)?;
        Ok(Self {
            consumer,
            producer,
            page,
            size,
        })
    }

    /// Writes a record; `false` if there is no room for it yet.
    ///
    /// # Errors
    /// `E2BIG` if it is longer than the ring, or than programs can read; `EBADMSG` if another
    /// process has damaged the ring.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<bool, Errno> {
        let damaged = Errno(libc::EBADMSG);
        let too_long = Errno(libc::E2BIG);
        let length = u32::try_from(bytes.len()).map_err(|_| too_long)?;
        let whole = bytes
            .len()
            .checked_add(HEADER)
            .and_then(|length| length.checked_next_multiple_of(8))
            .filter(|whole| *whole <= self.size && length <= LONGEST)
            .ok_or(too_long)?;
        let producer: &AtomicUsize = self.producer.at(0).ok_or(damaged)?;
        let consumer: &AtomicUsize = self.consumer.at(0).ok_or(damaged)?;
        let position = producer.load(Ordering::Relaxed);
        // Pairs with the kernel's release: what is before it is not read any more.
        let used = position.wrapping_sub(consumer.load(Ordering::Acquire));
        if used > self.size || !position.is_multiple_of(HEADER) {
            return Err(damaged);
        }
        if self.size - used < whole {
            return Ok(false);
        }
        let offset = self.page + (position & (self.size - 1));
        for (index, chunk) in bytes.chunks(size_of::<u64>()).enumerate() {
            let mut word = [0; size_of::<u64>()];
            if let Some(start) = word.get_mut(..chunk.len()) {
                start.copy_from_slice(chunk);
            }
            let place = offset + HEADER + index * size_of::<u64>();
            let place: &AtomicU64 = self.producer.at(place).ok_or(damaged)?;
            place.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        let header: &AtomicU32 = self.producer.at(offset).ok_or(damaged)?;
        header.store(length, Ordering::Relaxed);
        // The kernel reads the record once it sees this.
        producer.store(position.wrapping_add(whole), Ordering::Release);
        Ok(true)
    }
}
