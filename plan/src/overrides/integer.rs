//! Whole numbers with a sign, and what integers of C can hold.

use crate::number;

/// A whole number with a sign.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number {
    pub(super) negative: bool,
    pub(super) magnitude: u128,
}

impl Number {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let digits = text.strip_prefix('-');
        let magnitude = number::parse(digits.unwrap_or(text))?;
        Ok(Self {
            negative: digits.is_some() && magnitude != 0,
            magnitude,
        })
    }

    /// As two's complement.
    pub(super) fn bits(self) -> u128 {
        if self.negative {
            self.magnitude.wrapping_neg()
        } else {
            self.magnitude
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}{}",
            if self.negative { "-" } else { "" },
            self.magnitude
        )
    }
}

/// What an integer can hold.
pub(super) struct Range {
    pub(super) low: i128,
    pub(super) high: u128,
}

impl Range {
    pub(super) fn of(bytes: &[u8], signed: bool) -> Self {
        let bits = u32::try_from(bytes.len().saturating_mul(8))
            .unwrap_or(u32::MAX)
            .clamp(1, 128);
        let all = u128::MAX >> (128 - bits);
        if signed {
            Self {
                low: i128::MIN >> (128 - bits),
                high: all >> 1,
            }
        } else {
            Self { low: 0, high: all }
        }
    }

    pub(super) fn has(&self, number: Number) -> bool {
        if number.negative {
            number.magnitude <= self.low.unsigned_abs()
        } else {
            number.magnitude <= self.high
        }
    }
}
