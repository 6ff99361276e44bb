//! One value: from the text of a configuration to bytes, and to text for people and for libbpf.

use std::fmt;

use bpfplan_plan::{Extern, ExternKind};

/// What an extern is on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExternValue {
    /// Of a `bool`.
    Bool(bool),
    /// `y`, `n` or `m` of a tristate or a `char`.
    Letter(char),
    /// Of a signed integer, or of a `char` with a number.
    Signed(i64),
    /// Of an unsigned integer.
    Unsigned(u64),
    /// Of an array of `char`, without NUL; it need not be UTF-8.
    Text(Vec<u8>),
}

/// Why a text is no value of an extern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// A letter where none may be; what it would have to be.
    Letter(&'static str),
    /// A string for something that is none.
    String,
    /// A string without its closing quote.
    OpenString,
    /// Neither letter nor string nor integer.
    NoNumber,
    /// An integer for something that is none.
    Number,
    /// An integer that is too large or too small for its type.
    Range,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Letter(takes) => takes,
            Self::String => "a string needs an array of char",
            Self::OpenString => "the string has no closing quote",
            Self::NoNumber => "it is no integer",
            Self::Number => "an integer needs an integer or a char",
            Self::Range => "the integer does not fit",
        })
    }
}

/// A value, and whether it was cut to fit.
pub(super) type Parsed = Result<(ExternValue, bool), Misfit>;

/// The value that the text after `CONFIG_NAME=` stands for; the text is not empty.
pub(super) fn parse(to: &Extern, text: &[u8]) -> Parsed {
    match text {
        [letter @ (b'y' | b'n' | b'm'), ..] => letter_of(to.kind, *letter),
        [b'"', ..] => string(to, text),
        _ => {
            let number = integer(text)?;
            if matches!(
                to.kind,
                ExternKind::Bool | ExternKind::Tristate | ExternKind::String
            ) {
                return Err(Misfit::Number);
            }
            fit(to, number).map(|value| (value, false))
        }
    }
}

/// `set_kcfg_value_tri`: what follows the letter does not count.
fn letter_of(kind: ExternKind, letter: u8) -> Parsed {
    let value = match kind {
        ExternKind::Bool if letter == b'm' => {
            return Err(Misfit::Letter("`m` needs enum libbpf_tristate or a char"));
        }
        ExternKind::Bool => ExternValue::Bool(letter == b'y'),
        ExternKind::Tristate | ExternKind::Char | ExternKind::UnsignedChar => {
            ExternValue::Letter(char::from(letter))
        }
        ExternKind::Signed | ExternKind::Unsigned | ExternKind::String => {
            return Err(Misfit::Letter(
                "a letter needs bool, enum libbpf_tristate or a char",
            ));
        }
    };
    Ok((value, false))
}

/// `set_kcfg_value_str`: cut to leave room for a NUL.
fn string(to: &Extern, text: &[u8]) -> Parsed {
    if to.kind != ExternKind::String {
        return Err(Misfit::String);
    }
    let inside = text
        .strip_prefix(b"\"")
        .and_then(|text| text.strip_suffix(b"\""))
        .ok_or(Misfit::OpenString)?;
    let room = usize::try_from(to.size).unwrap_or(usize::MAX);
    let kept = inside.get(..room.saturating_sub(1)).unwrap_or(inside);
    let cut = kept.len() < inside.len();
    Ok((ExternValue::Text(kept.to_vec()), cut))
}

/// `strtoull` with base 0, of the whole text.
fn integer(text: &[u8]) -> Result<u64, Misfit> {
    let text = std::str::from_utf8(text).map_err(|_| Misfit::NoNumber)?;
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match (hex, digits.strip_prefix('0')) {
        (Some(hex), _) => (hex, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        _ => (digits, 10),
    };
    // Rust's own parser takes a second sign.
    if digits.starts_with(['+', '-']) {
        return Err(Misfit::NoNumber);
    }
    let number = u64::from_str_radix(digits, radix).map_err(|_| Misfit::NoNumber)?;
    Ok(if negative {
        number.wrapping_neg()
    } else {
        number
    })
}

/// `set_kcfg_value_num`.
pub(super) fn fit(to: &Extern, number: u64) -> Result<ExternValue, Misfit> {
    // The same bits, which is what libbpf looks at.
    let signed = number.cast_signed();
    let bits = to.size.saturating_mul(8).clamp(1, 64);
    match to.kind {
        ExternKind::Bool if number > 1 => Err(Misfit::Range),
        ExternKind::Bool => Ok(ExternValue::Bool(number == 1)),
        ExternKind::Char | ExternKind::Signed => {
            let largest = i64::MAX >> (64 - bits);
            if signed > largest || signed < !largest {
                return Err(Misfit::Range);
            }
            Ok(ExternValue::Signed(signed))
        }
        ExternKind::UnsignedChar | ExternKind::Unsigned => {
            if number > u64::MAX >> (64 - bits) {
                return Err(Misfit::Range);
            }
            Ok(ExternValue::Unsigned(number))
        }
        ExternKind::Tristate | ExternKind::String => Err(Misfit::Number),
    }
}

impl ExternValue {
    /// What an extern is that is not set.
    pub(super) fn unset(kind: ExternKind) -> Self {
        match kind {
            ExternKind::Bool => Self::Bool(false),
            ExternKind::Tristate => Self::Letter('n'),
            ExternKind::Char | ExternKind::Signed => Self::Signed(0),
            ExternKind::UnsignedChar | ExternKind::Unsigned => Self::Unsigned(0),
            ExternKind::String => Self::Text(Vec::new()),
        }
    }

    /// The bytes in memory, in the order of this machine; zeros follow.
    pub(super) fn to_bytes(&self, to: &Extern) -> Vec<u8> {
        let number = match self {
            Self::Text(text) => return text.clone(),
            Self::Bool(value) => u64::from(*value),
            // `enum libbpf_tristate`.
            Self::Letter(letter) if to.kind == ExternKind::Tristate => match letter {
                'y' => 1,
                'm' => 2,
                _ => 0,
            },
            Self::Letter(letter) => u64::from(u32::from(*letter)),
            Self::Signed(value) => value.cast_unsigned(),
            Self::Unsigned(value) => *value,
        };
        let size = usize::try_from(to.size).unwrap_or(usize::MAX);
        let bytes = number.to_le_bytes();
        let mut bytes = bytes.get(..size).unwrap_or(&bytes).to_vec();
        if cfg!(target_endian = "big") {
            bytes.reverse();
        }
        bytes
    }

    /// The value in a kernel configuration.
    pub(super) fn to_text(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => [b"\"", text.as_slice(), b"\""].concat(),
            Self::Bool(value) => if *value { "y" } else { "n" }.into(),
            Self::Letter(letter) => letter.to_string().into_bytes(),
            Self::Signed(value) => value.to_string().into_bytes(),
            Self::Unsigned(value) => value.to_string().into_bytes(),
        }
    }
}

impl fmt::Display for ExternValue {
    /// As in a kernel configuration; what is not printable is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_text();
        match String::from_utf8_lossy(&text) {
            text if matches!(self, Self::Text(_)) => {
                let inside = text.get(1..text.len().saturating_sub(1));
                write!(f, "\"{}\"", inside.unwrap_or_default().escape_debug())
            }
            text => f.write_str(&text),
        }
    }
}
