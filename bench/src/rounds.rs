//! Ways of doing one thing, taken in turn so that all of them see the same machine.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::clock::Series;

/// The kernel frees maps later, and its work for that would be in the next one's way.
const NAP: Duration = Duration::from_millis(50);

/// A way with its name. It gives the time that counts; setting up and taking down do not.
pub type Way<'w> = (&'w str, &'w dyn Fn() -> Result<Duration>);

/// Goes all ways in turn, as many rounds, each beginning with another one. Prints a line with the
/// median of each, and how many times faster it is than the first: the median of what was seen
/// within the rounds.
///
/// # Errors
/// The first error of a way.
pub fn compare(what: &str, rounds: usize, ways: &[Way<'_>]) -> Result<()> {
    let mut times = vec![Vec::with_capacity(rounds); ways.len()];
    for round in 0..rounds {
        let first = round.checked_rem(ways.len()).unwrap_or_default();
        let order = (0..ways.len()).cycle().skip(first).take(ways.len());
        for way in order {
            if let (Some((_, go)), Some(times)) = (ways.get(way), times.get_mut(way)) {
                times.push(go()?);
                thread::sleep(NAP);
            }
        }
    }
    let mut line = format!("{what:36}");
    let base = times.first().cloned().unwrap_or_default();
    for ((name, _), times) in ways.iter().zip(&times) {
        let ratios = base.iter().zip(times);
        let ratios = ratios.map(|(base, time)| base.as_secs_f64() / time.as_secs_f64());
        let series: Series = times.iter().copied().collect();
        let millis = series.median().unwrap_or_default().as_secs_f64() * 1e3;
        line.push_str(&format!("  {name} {millis:.2} ms ({:.2})", median(ratios)));
    }
    println!("{line}");
    Ok(())
}

/// How long it takes; what it gives is dropped afterwards.
///
/// # Errors
/// Its own.
pub fn time<T>(call: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let start = Instant::now();
    let made = call();
    let time = start.elapsed();
    made.map(|_| time)
}

/// The upper one of the two in the middle; 0 for none.
fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn every_round_begins_with_another_way() {
        let order = RefCell::new(String::new());
        let way = |name: char| {
            order.borrow_mut().push(name);
            Ok(Duration::from_millis(1))
        };
        let (a, b) = (|| way('a'), || way('b'));
        compare("nothing", 3, &[("a", &a), ("b", &b)]).unwrap();
        assert_eq!(order.into_inner(), "abbaab");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median(std::iter::empty()), 0.0);
    }
}
