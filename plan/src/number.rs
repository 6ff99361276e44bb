//! Whole numbers as people write them: `4096`, `0x1000`, `64Ki`.

use std::num::ParseIntError;

/// Units behind a decimal number, the longer ones first.
const UNITS: [(&str, u128); 7] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("K", 1000),
    ("k", 1000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
];

/// Reads a number without a sign: decimal digits, which `K`, `M` and `G` (1000s) or `Ki`, `Mi` and
/// `Gi` (1024s) may follow, or `0x` and hexadecimal digits.
///
/// # Errors
/// What to write instead, as a sentence without a full stop. A number with leading zeros, which is
/// octal in C and decimal elsewhere, is refused.
pub fn parse(text: &str) -> Result<u128, &'static str> {
    const WANTED: &str = "write a whole number, such as 4096, 0x1000, 64Ki or 10M";
    const LARGE: &str = "this is too large";
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return digits_of(digits, 16).map_err(|empty| if empty { WANTED } else { LARGE });
    }
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    let (digits, unit) = match unit {
        Some((suffix, unit)) => (text.strip_suffix(suffix).unwrap_or(text), *unit),
        None => (text, 1),
    };
    if digits.len() > 1 && digits.starts_with('0') {
        return Err("leave out the leading zeros, or write 0x for a hexadecimal number");
    }
    let number = digits_of(digits, 10).map_err(|empty| if empty { WANTED } else { LARGE })?;
    number.checked_mul(unit).ok_or(LARGE)
}

/// The number, or whether it is none at all rather than too large a one.
fn digits_of(digits: &str, radix: u32) -> Result<u128, bool> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(true);
    }
    u128::from_str_radix(digits, radix).map_err(|_: ParseIntError| false)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn numbers_have_suffixes_or_are_hexadecimal() {
        for (text, number) in [
            ("0", 0),
            ("4096", 4096),
            ("64Ki", 65536),
            ("1k", 1000),
            ("3K", 3000),
            ("10M", 10_000_000),
            ("2G", 2_000_000_000),
            ("1Gi", 1 << 30),
            ("0x10", 16),
            ("0XfF", 255),
            ("0x0010", 16),
            ("340282366920938463463374607431768211455", u128::MAX),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "Ki",
            "-1",
            "+1",
            "1.5M",
            "1 M",
            "1X",
            "0x",
            "0x1Ki",
            "010",
            "00",
            "1KiKi",
            "1_000",
            "٣",
            "340282366920938463463374607431768211456",
            "340282366920938463463374607431768211455K",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
