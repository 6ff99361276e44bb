//! Values as they are written. What one means, the type of its target says.

use std::fmt::{self, Write as _};

/// How deep lists may stand in lists; arrays in C have few dimensions.
const DEEPEST: usize = 32;

/// The value of an override, before the type of its target is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text without quotes: a number, a name, or the text for an array of `char`.
    Plain(String),
    /// One character: `'x'`.
    Char(u8),
    /// Text in double quotes, without the NUL that an array of characters gets behind it.
    Text(Vec<u8>),
    /// The elements of an array: `[1, 2, 3]`.
    List(Vec<Value>),
}

impl Value {
    /// Reads a value. One that begins with none of `[`, `"` and `'` is [`Value::Plain`].
    ///
    /// # Errors
    /// What is wrong with it, as part of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if !text.starts_with(['[', '"', '\'']) {
            return Ok(Self::Plain(text.to_owned()));
        }
        let mut reader = Reader { rest: text };
        let value = reader.value(0)?;
        match reader.skip_space().rest {
            "" => Ok(value),
            rest => Err(format!("something follows the value: {}", start_of(rest))),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Plain(value.to_string())
    }
}

macro_rules! from_integers {
    ($($integer:ty),*) => {
        $(impl From<$integer> for Value {
            fn from(number: $integer) -> Self {
                Self::Plain(number.to_string())
            }
        })*
    };
}

from_integers!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(elements: Vec<T>) -> Self {
        Self::List(elements.into_iter().map(Into::into).collect())
    }
}

/// As [`super::Override`] reads it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Char(byte) => {
                f.write_char('\'')?;
                escaped(f, *byte, b'\'')?;
                f.write_char('\'')
            }
            Self::Text(bytes) => {
                f.write_char('"')?;
                for byte in bytes {
                    escaped(f, *byte, b'"')?;
                }
                f.write_char('"')
            }
            Self::List(values) => {
                f.write_char('[')?;
                for (place, value) in values.iter().enumerate() {
                    if place > 0 {
                        f.write_str(", ")?;
                    }
                    value.fmt(f)?;
                }
                f.write_char(']')
            }
        }
    }
}

fn escaped(f: &mut fmt::Formatter<'_>, byte: u8, quote: u8) -> fmt::Result {
    match byte {
        b'\n' => f.write_str("\\n"),
        b'\t' => f.write_str("\\t"),
        b'\\' => f.write_str("\\\\"),
        _ if byte == quote => write!(f, "\\{}", char::from(quote)),
        b' '..=b'~' => f.write_char(char::from(byte)),
        _ => write!(f, "\\x{byte:02x}"),
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip_space(&mut self) -> &mut Self {
        self.rest = self.rest.trim_start();
        self
    }

    fn take(&mut self, wanted: char) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        self.skip_space();
        if self.take('[') {
            if depth >= DEEPEST {
                return Err(format!("lists stand in lists more than {DEEPEST} deep"));
            }
            return self.list(depth);
        }
        if self.take('"') {
            let bytes = self.quoted('"')?;
            return Ok(Value::Text(bytes));
        }
        if self.take('\'') {
            return match self.quoted('\'')?.as_slice() {
                [byte] => Ok(Value::Char(*byte)),
                _ => Err("single quotes hold one character of ASCII".to_owned()),
            };
        }
        let end = self
            .rest
            .find([',', '[', ']', '"', '\''])
            .unwrap_or(self.rest.len());
        let (plain, rest) = self.rest.split_at(end);
        let plain = plain.trim();
        if plain.is_empty() {
            return Err(format!("an element is missing before {}", start_of(rest)));
        }
        self.rest = rest;
        Ok(Value::Plain(plain.to_owned()))
    }

    /// The rest of a list whose `[` is read.
    fn list(&mut self, depth: usize) -> Result<Value, String> {
        let mut values = Vec::new();
        if self.skip_space().take(']') {
            return Ok(Value::List(values));
        }
        loop {
            values.push(self.value(depth + 1)?);
            if self.skip_space().take(']') {
                return Ok(Value::List(values));
            }
            if !self.take(',') {
                let found = start_of(self.rest);
                return Err(format!("a list goes on with `,` or `]`, not with {found}"));
            }
        }
    }

    /// The rest of quoted text whose opening quote is read.
    fn quoted(&mut self, quote: char) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut chars = self.rest.chars();
        while let Some(c) = chars.next() {
            if c == quote {
                self.rest = chars.as_str();
                return Ok(bytes);
            }
            if c == '\\' {
                bytes.push(escape(&mut chars)?);
            } else {
                bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            }
        }
        Err(format!("the closing {quote} is missing"))
    }
}

/// The byte of an escape sequence whose `\` is read.
fn escape(chars: &mut std::str::Chars<'_>) -> Result<u8, String> {
    match chars.next() {
        Some('n') => Ok(b'\n'),
        Some('t') => Ok(b'\t'),
        Some('r') => Ok(b'\r'),
        Some('0') => Ok(0),
        Some(c @ ('\\' | '"' | '\'')) => u8::try_from(c).map_err(|error| error.to_string()),
        Some('x') => {
            let digits: String = chars.by_ref().take(2).collect();
            let byte = u8::from_str_radix(&digits, 16).ok();
            byte.filter(|_| digits.len() == 2 && !digits.starts_with('+'))
                .ok_or_else(|| "two hexadecimal digits follow \\x".to_owned())
        }
        _ => Err("escapes are \\n \\t \\r \\0 \\\\ \\\" \\' and \\x41".to_owned()),
    }
}

/// Where something stands, for a message.
fn start_of(rest: &str) -> String {
    const SHOWN: usize = 16;
    if rest.is_empty() {
        return "the end".to_owned();
    }
    let start: String = rest.chars().take(SHOWN).collect();
    format!("`{}`", start.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::Value;

    fn plain(text: &str) -> Value {
        Value::from(text)
    }

    #[test]
    fn values_are_read_and_written() {
        for (text, value) in [
            ("64Ki", plain("64Ki")),
            ("-1", plain("-1")),
            ("eth0, eth1", plain("eth0, eth1")),
            ("'x'", Value::Char(b'x')),
            ("'\\''", Value::Char(b'\'')),
            ("'\\x00'", Value::Char(0)),
            ("\"a b\"", Value::Text(b"a b".to_vec())),
            ("\"\\\"\\\\\\n\\x7f\"", Value::Text(b"\"\\\n\x7f".to_vec())),
            ("[]", Value::List(vec![])),
            ("[1, -2]", vec!["1", "-2"].into()),
            (
                "[[1], []]",
                Value::List(vec![vec!["1"].into(), Value::List(vec![])]),
            ),
            (
                "[\"a,]\", ',']",
                Value::List(vec![Value::Text(b"a,]".to_vec()), Value::Char(b',')]),
            ),
        ] {
            assert_eq!(Value::parse(text).as_ref(), Ok(&value), "{text}");
            assert_eq!(value.to_string(), text);
        }
        assert_eq!(Value::parse(" [ 1 ,2 ] "), Ok(vec!["1", "2"].into()));
        assert_eq!(
            Value::parse("\"é\\0\""),
            Ok(Value::Text(vec![0xc3, 0xa9, 0]))
        );
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1]]",
            "[1] 2",
            "[1 [2]]",
            "\"a",
            "\"a\"b",
            "''",
            "'ab'",
            "'é'",
            "'",
            "\"\\q\"",
            "\"\\x4\"",
            "\"\\x+4\"",
            "\"\\",
            "[a\"b\"]",
        ] {
            assert!(Value::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Value::parse(&nested(32)).is_ok());
        assert!(Value::parse(&nested(33)).is_err());
        assert!(Value::parse(&"[".repeat(1 << 20)).is_err());
    }
}
