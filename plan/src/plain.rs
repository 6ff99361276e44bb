//! Names from objects and plans, made harmless: they could hold terminal control sequences.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with everything escaped that would not show as itself: control characters, line
/// breaks, and Unicode's invisible and direction-changing characters.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if hidden(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn names_show_as_they_are() {
        assert_eq!(plain("lut_0.inner größe"), "lut_0.inner größe");
    }

    #[test]
    fn nothing_reaches_the_terminal() {
        assert_eq!(
            plain("a\x1b[2Jb\r\n\tc\u{9b}d"),
            "a\\u{1b}[2Jb\\r\\n\\tc\\u{9b}d"
        );
        assert_eq!(plain("x\u{202e}y\u{200b}"), "x\\u{202e}y\\u{200b}");
    }
}
