//! Ring buffers: events from programs.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bpfplan_plan::{Diagnostic, uapi};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{MapError, MapHandle, RawMap};
use crate::codes;
use crate::kernel::Errno;
use crate::sys::Ring;

/// A `RINGBUF` from the side that reads it. There should be one reader: two of them in one or
/// several processes get some events twice and others never.
///
/// The descriptor can be polled, so it can stand in any event loop; [`RingBuf::wait`] and
/// [`RingBuf::wait_any`] do without one.
///
/// ```no_run
/// use std::time::Duration;
///
/// use bpfplan_loader::maps::{MapHandle, RingBuf};
///
/// let mut events = RingBuf::from_pin("/sys/fs/bpf/flow/events")?;
/// while events.wait(Some(Duration::from_secs(1)))? {
///     while let Some(event) = events.next()? {
///         println!("{} bytes", event.len());
///     }
/// }
/// # Ok::<(), bpfplan_loader::maps::MapError>(())
/// ```
#[derive(Debug)]
pub struct RingBuf {
    map: RawMap,
    ring: Ring,
    /// The last event.
    event: Vec<u8>,
}

impl MapHandle for RingBuf {
    fn from_map(map: RawMap) -> Result<Self, MapError> {
        let info = map.info();
        let refuse = |message: String| {
            let diagnostic = Diagnostic::error(codes::MAP_MISMATCH, message);
            Err(MapError::new(diagnostic.map(map.described())))
        };
        if info.map_type.0 != uapi::BPF_MAP_TYPE_RINGBUF {
            return refuse(format!(
                "the map is not what its handle says: its kind is {}, wanted is ringbuf",
                info.map_type
            ));
        }
        if info.map_flags & uapi::BPF_F_RB_OVERWRITE != 0 {
            return refuse(
                "programs overwrite its events (BPF_F_RB_OVERWRITE), so they cannot be read in turn"
                    .to_owned(),
            );
        }
        let ring = Ring::new(map.elements());
        let ring = ring.map_err(|errno| map.failed("mapping the ring into memory", errno))?;
        Ok(Self {
            map,
            ring,
            event: Vec::new(),
        })
    }

    fn map(&self) -> &RawMap {
        &self.map
    }

    fn into_map(self) -> RawMap {
        self.map
    }
}

impl AsFd for RingBuf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl RingBuf {
    /// The next event, `None` if there is none yet. It does not wait.
    ///
    /// # Errors
    /// `EBADMSG` if another process has damaged the ring.
    // Not an iterator: it borrows the event.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<&[u8]>, MapError> {
        match self.ring.read(&mut self.event) {
            Ok(true) => Ok(Some(&self.event)),
            Ok(false) => Ok(None),
            Err(errno @ Errno(libc::EBADMSG)) => {
                let message = "the ring holds what no kernel writes: another process that has it \
                               mapped has damaged the ring";
                let diagnostic = Diagnostic::error(codes::MAP_CALL, message);
                let diagnostic = diagnostic.map(self.map.described());
                Err(MapError::new(diagnostic).with_errno(errno))
            }
            Err(errno) => Err(self.map.failed("reading an event", errno)),
        }
    }

    /// Waits for an event, at most that long (`None`: without end); says whether there may be
    /// one.
    ///
    /// # Errors
    /// Those of `poll`; a signal is none.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, MapError> {
        Self::wait_any(std::slice::from_ref(self), timeout)
    }

    /// Waits for an event in any of the rings, as [`RingBuf::wait`].
    ///
    /// # Errors
    /// As [`RingBuf::wait`].
    pub fn wait_any(rings: &[Self], timeout: Option<Duration>) -> Result<bool, MapError> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut fds: Vec<_> = rings
            .iter()
            .map(|ring| PollFd::new(ring, PollFlags::IN))
            .collect();
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            // More seconds than the type holds are as good as no end.
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut fds, left.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    let errno = Errno(errno.raw_os_error());
                    let message = format!("waiting for events failed: {errno}");
                    let diagnostic = Diagnostic::error(codes::MAP_CALL, message);
                    return Err(MapError::new(diagnostic).with_errno(errno));
                }
            }
        }
    }
}
