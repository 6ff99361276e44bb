//! User ring buffers: messages to programs.

use std::os::fd::{AsFd, BorrowedFd};

use bpfplan_plan::{Diagnostic, uapi};

use super::handle::AnySize;
use super::{MapError, MapHandle, RawMap};
use crate::codes;
use crate::kernel::Errno;
use crate::sys::UserRing;

/// A `USER_RINGBUF` from the side that writes it (Linux 6.1). There should be one writer.
///
/// Programs read it with `bpf_user_ringbuf_drain` when they run the next time; nothing wakes them.
/// The descriptor can be polled for writing.
///
/// ```no_run
/// use bpfplan_loader::maps::{MapHandle, UserRingBuf};
///
/// let mut commands = UserRingBuf::from_pin("/sys/fs/bpf/flow/commands")?;
/// if !commands.push(b"reset")? {
///     println!("the programs are behind");
/// }
/// # Ok::<(), bpfplan_loader::maps::MapError>(())
/// ```
#[derive(Debug)]
pub struct UserRingBuf {
    map: RawMap,
    ring: UserRing,
}

impl MapHandle for UserRingBuf {
    fn from_map(map: RawMap) -> Result<Self, MapError> {
        let wanted = AnySize {
            types: &[uapi::BPF_MAP_TYPE_USER_RINGBUF],
            key: 0,
        };
        let map = wanted.check(map)?;
        let ring = UserRing::new(map.elements());
        let ring = ring.map_err(|errno| map.failed("mapping the ring into memory", errno))?;
        Ok(Self { map, ring })
    }

    fn map(&self) -> &RawMap {
        &self.map
    }

    fn into_map(self) -> RawMap {
        self.map
    }
}

impl AsFd for UserRingBuf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl UserRingBuf {
    /// Writes a message, whole; `false` if there is no room for it until programs have read more.
    /// It does not wait.
    ///
    /// # Errors
    /// `E2BIG` if the message never fits: with 8 bytes before it, it may be as long as the ring, and
    /// 16 MiB at most. `EBADMSG` if another process has damaged the ring.
    pub fn push(&mut self, message: &[u8]) -> Result<bool, MapError> {
        self.ring.write(message).map_err(|errno| {
            let why = match errno.0 {
                libc::E2BIG => format!("a message of {} bytes never fits", message.len()),
                libc::EBADMSG => "another process that has it mapped has damaged the ring".into(),
                _ => return self.map.failed("writing a message", errno),
            };
            let diagnostic = Diagnostic::error(codes::MAP_CALL, why).map(self.map.described());
            MapError::new(diagnostic).with_errno(Errno(errno.0))
        })
    }
}
