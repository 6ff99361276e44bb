//! Sizes on the command line and in text.

use std::str::FromStr;

use bpfplan_plan::number;

/// A number of bytes, written as `4096`, `64Ki`, `10M` or `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The last digit of a hexadecimal number may be a B.
        let bytes = text.strip_suffix('B').filter(|_| !text.starts_with("0x"));
        let number = number::parse(bytes.unwrap_or(text))?;
        u64::try_from(number)
            .map(Self)
            .map_err(|_| "this is too large".to_owned())
    }
}

/// A size in bytes for people: exact where it is short, else with three digits.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut whole = bytes;
    let mut rest = 0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while whole >= 1024 {
        let Some(next) = units.next() else { break };
        rest = whole % 1024;
        whole /= 1024;
        unit = Some(next);
    }
    let unit = unit.copied().unwrap_or_default();
    let tenth = rest * 10 / 1024;
    if tenth > 0 && whole < 100 {
        format!("{whole}.{tenth} {unit}")
    } else {
        format!("{whole} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Size, human};

    #[test]
    fn suffixes_count_in_1000s_and_1024s() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64Ki", 65536),
            ("64KiB", 65536),
            ("1k", 1000),
            ("10M", 10_000_000),
            ("2G", 2_000_000_000),
            ("1Gi", 1 << 30),
            ("12B", 12),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "Ki",
            "-1",
            "1.5M",
            "1 M",
            "1X",
            "99999999999G",
            "18446744073709551616",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (262_148, "256 KiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
