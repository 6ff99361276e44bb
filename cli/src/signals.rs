//! Signals that end a command.

use std::ffi::c_int;
use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Collects the signals that ask a process to end, instead of being ended by them. Those that
/// the caller has the process ignore, as `nohup` does, stay ignored.
///
/// # Errors
/// The kernel's.
pub(crate) fn collect() -> io::Result<Signals> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    Signals::new([SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| {
        // Bit 0 stands for signal 1.
        u32::try_from(signal - 1).is_ok_and(|bit| ignored >> bit & 1 == 0)
    }))
}

/// Lets the signal end the process, so that whoever waits for it learns what happened.
///
/// # Errors
/// The kernel's.
pub(crate) fn die_of(signal: c_int) -> io::Result<()> {
    signal_hook::low_level::emulate_default_handler(signal)
}

/// The mask `SigIgn` of `/proc/PID/status`; 0 if it is not there.
fn ignored(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_mask_is_found() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t00\n";
        assert_eq!(super::ignored(status), 0x1001);
        assert_eq!(super::ignored(""), 0);
        assert_eq!(super::ignored("SigIgn:\tx"), 0);
    }
}
