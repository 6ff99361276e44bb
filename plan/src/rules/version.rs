//! Kernel versions, as far as rules depend on them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A kernel version: major and minor, such as 5.15. Patch levels do not change rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
}

/// Why a text is not a kernel version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a kernel version looks like 5.15 or 6.18.44")]
pub struct ParseVersionError;

impl KernelVersion {
    /// The version with these numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// The version at the start of a kernel release as `uname -r` prints it, such as
    /// `6.18.44-generic`: everything after the second number is ignored.
    #[must_use]
    pub fn from_release(release: &str) -> Option<Self> {
        let (major, rest) = number(release)?;
        let (minor, _) = number(rest.strip_prefix('.')?)?;
        Some(Self { major, minor })
    }
}

impl FromStr for KernelVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let parse = |text: &str| {
            let (major, rest) = number(text)?;
            let (minor, rest) = number(rest.strip_prefix('.')?)?;
            let rest = match rest.strip_prefix('.') {
                Some(patch) => number(patch)?.1,
                None => rest,
            };
            rest.is_empty().then_some(Self { major, minor })
        };
        parse(text).ok_or(ParseVersionError)
    }
}

/// The decimal number at the start of `text`, and what follows it.
fn number(text: &str) -> Option<(u16, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.major, self.minor))
    }
}
