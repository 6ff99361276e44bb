//! Many names in short: `lut_{0..63}`.

use crate::render::escape::plain;

/// Names that are shown as one.
pub(super) struct Run {
    /// What to show.
    pub(super) text: String,
    /// How many names it stands for.
    pub(super) count: usize,
}

/// Fewer names than this are shown as they are.
const SHORTEST: usize = 3;

/// Contracts names that count upwards one by one, as a shell's braces would expand them.
pub(super) fn runs(names: &[&str]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut rest = names;
    while let Some((first, tail)) = rest.split_first() {
        let count = numbered(first).map_or(1, |(stem, start)| {
            1 + (1_u64..)
                .zip(tail)
                .take_while(|(n, name)| numbered(name) == start.checked_add(*n).map(|n| (stem, n)))
                .count()
        });
        match numbered(first) {
            Some((stem, start)) if count >= SHORTEST => {
                let last = numbered(rest.get(count - 1).unwrap_or(first)).map_or(start, |(_, n)| n);
                runs.push(Run {
                    text: format!("{}{{{start}..{last}}}", plain(stem)),
                    count,
                });
                rest = rest.get(count..).unwrap_or_default();
            }
            _ => {
                runs.push(Run {
                    text: plain(first).into_owned(),
                    count: 1,
                });
                rest = tail;
            }
        }
    }
    runs
}

/// Splits a name into stem and number; a number with a leading zero is none.
fn numbered(name: &str) -> Option<(&str, u64)> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = name.get(stem.len()..)?;
    let plain = digits == "0" || !digits.starts_with('0');
    plain.then_some((stem, digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    fn shown(names: &[&str]) -> Vec<String> {
        super::runs(names).into_iter().map(|run| run.text).collect()
    }

    #[test]
    fn counting_names_become_one() {
        assert_eq!(shown(&["a_8", "a_9", "a_10", "b"]), ["a_{8..10}", "b"]);
        assert_eq!(shown(&["a", "a0", "a1", "a2"]), ["a", "a{0..2}"]);
    }

    #[test]
    fn others_stay_apart() {
        assert_eq!(shown(&["a_0", "a_1"]), ["a_0", "a_1"]);
        assert_eq!(shown(&["a_0", "b_1", "a_2"]), ["a_0", "b_1", "a_2"]);
        assert_eq!(shown(&["a01", "a02", "a03"]), ["a01", "a02", "a03"]);
        assert_eq!(shown(&["a2", "a1", "a0"]), ["a2", "a1", "a0"]);
        assert_eq!(
            shown(&["18446744073709551615", "x"]),
            ["18446744073709551615", "x"]
        );
    }
}
