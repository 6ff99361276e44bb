//! Durations of one thing, done several times.

use std::fmt;
use std::time::{Duration, Instant};

/// The durations so far.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<Duration>);

impl Series {
    /// Adds the time that passed since then.
    pub fn add(&mut self, since: Instant) {
        self.0.push(since.elapsed());
    }

    /// The median; `None` without a duration.
    #[must_use]
    pub fn median(&self) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort();
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get(sorted.len().saturating_sub(1) / 2)?;
        Some((lower + upper) / 2)
    }
}

impl FromIterator<Duration> for Series {
    fn from_iter<T: IntoIterator<Item = Duration>>(durations: T) -> Self {
        Self(durations.into_iter().collect())
    }
}

impl fmt::Display for Series {
    /// Median, minimum and maximum in microseconds, then how many there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1e6;
        write!(
            f,
            "{:.2} {:.2} {:.2} {}",
            micros(self.median()),
            micros(self.0.iter().min().copied()),
            micros(self.0.iter().max().copied()),
            self.0.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_between_the_middle_ones() {
        let series =
            |millis: &[u64]| Series(millis.iter().map(|m| Duration::from_millis(*m)).collect());
        assert_eq!(series(&[]).median(), None);
        assert_eq!(series(&[9, 1, 5]).median(), Some(Duration::from_millis(5)));
        assert_eq!(
            series(&[9, 1, 5, 3]).median(),
            Some(Duration::from_millis(4))
        );
        assert_eq!(series(&[2, 1]).to_string(), "1500.00 1000.00 2000.00 2");
    }
}
