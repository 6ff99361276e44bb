//! What measured programs share: how often to do a thing, and the lines that they print.

use std::time::Duration;
use std::{env, fs, thread};

use anyhow::Result;

use crate::clock::Series;

/// Exit status for a mode that is not there.
pub const UNKNOWN: u8 = 64;

/// If this variable is set, [`tell_peak`] tells.
pub const PEAK: &str = "BPFPLAN_BENCH_PEAK";

/// How often, and how long to sleep in between.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Number of repetitions.
    pub reps: usize,
    /// After each of them, outside the clock.
    pub nap: Duration,
}

impl Times {
    /// Reads `REPS [NAP_MS]`.
    #[must_use]
    pub fn parse(arguments: &[&str]) -> Option<Self> {
        let (reps, nap) = match arguments {
            [reps] => (reps, 0),
            [reps, nap] => (reps, nap.parse().ok()?),
            _ => return None,
        };
        Some(Self {
            reps: reps.parse().ok()?,
            nap: Duration::from_millis(nap),
        })
    }

    /// Repeats `once`, which does its own timing and drops what it made before it returns.
    ///
    /// # Errors
    /// The first error of `once`.
    pub fn repeat(self, mut once: impl FnMut() -> Result<()>) -> Result<()> {
        for _ in 0..self.reps {
            once()?;
            thread::sleep(self.nap);
        }
        Ok(())
    }
}

/// Prints `METRIC MEDIAN_US MIN_US MAX_US REPS`; nothing for no repetition.
pub fn print(metric: &str, series: &Series) {
    if series.median().is_some() {
        println!("{metric} {series}");
    }
}

/// Prints the process's peak memory in KiB on standard error, if that is asked for by [`PEAK`].
pub fn tell_peak() {
    if env::var_os(PEAK).is_none() {
        return;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    if let Some(kibibytes) = peak.and_then(|peak| peak.split_whitespace().next()) {
        eprintln!("peak {kibibytes}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nap_may_be_left_out() {
        let times = |arguments: &[&str]| Times::parse(arguments).map(|t| (t.reps, t.nap));
        assert_eq!(times(&["3"]), Some((3, Duration::ZERO)));
        assert_eq!(times(&["0", "50"]), Some((0, Duration::from_millis(50))));
        for wrong in [&[][..], &["x"], &["1", "2", "3"], &["-1"]] {
            assert_eq!(times(wrong), None, "{wrong:?}");
        }
    }
}
