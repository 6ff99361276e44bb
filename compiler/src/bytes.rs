//! Reads numbers and names out of untrusted bytes.

use std::borrow::Cow;

use bpfplan_plan::Endianness;

/// Longest name that is kept: the kernel's BTF takes names below `KSYM_NAME_LEN` = 512 bytes.
/// A limit also keeps work linear when many things share one long name.
pub(crate) const MAX_NAME: usize = 511;

/// The four bytes at `offset` as a number.
pub(crate) fn u32_at(bytes: &[u8], offset: usize, endianness: Endianness) -> Option<u32> {
    let bytes = *bytes.get(offset..)?.first_chunk::<4>()?;
    Some(match endianness {
        Endianness::Little => u32::from_le_bytes(bytes),
        Endianness::Big => u32::from_be_bytes(bytes),
    })
}

/// The eight bytes at `offset` as a number.
pub(crate) fn u64_at(bytes: &[u8], offset: usize, endianness: Endianness) -> Option<u64> {
    let bytes = *bytes.get(offset..)?.first_chunk::<8>()?;
    Some(match endianness {
        Endianness::Little => u64::from_le_bytes(bytes),
        Endianness::Big => u64::from_be_bytes(bytes),
    })
}

/// The string at `offset` without its NUL, or its first `MAX_NAME + 1` bytes if it is longer.
///
/// `None` if it starts outside or runs to the end without a NUL.
pub(crate) fn name_at(strings: &[u8], offset: usize) -> Option<&[u8]> {
    let tail = strings.get(offset..)?;
    let window = tail.get(..=MAX_NAME).unwrap_or(tail);
    match window.iter().position(|byte| *byte == 0) {
        Some(end) => window.get(..end),
        None if window.len() > MAX_NAME => Some(window),
        None => None,
    }
}

/// As [`text`], without a copy of what is short UTF-8, as most names are.
pub(crate) fn borrowed_text(name: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(name) {
        Ok(text) if name.len() <= MAX_NAME => Cow::Borrowed(text),
        _ => Cow::Owned(text(name)),
    }
}

/// A name as text: bytes that are not UTF-8 become `\xNN`, too long ones are cut and end in `…`.
/// Neither `\` nor `…` is a letter of an identifier, so the kernel refuses what is not a name.
pub(crate) fn text(name: &[u8]) -> String {
    if let (Ok(text), true) = (str::from_utf8(name), name.len() <= MAX_NAME) {
        return text.to_owned();
    }
    let (name, cut) = match name.get(..MAX_NAME) {
        Some(start) if name.len() > MAX_NAME => (start, true),
        _ => (name, false),
    };
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if cut {
        text.truncate(text.floor_char_boundary(MAX_NAME - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_their_nul() {
        assert_eq!(name_at(b"\0abc\0", 1), Some(&b"abc"[..]));
        assert_eq!(name_at(b"\0abc\0", 2), Some(&b"bc"[..]));
        assert_eq!(name_at(b"\0abc\0", 4), Some(&b""[..]));
        assert_eq!(name_at(b"\0abc\0", 5), None);
        assert_eq!(name_at(b"\0abc", 1), None);
    }

    #[test]
    fn long_names_are_cut() {
        let long = vec![b'a'; 2000];
        let name = name_at(&long, 0).unwrap();
        assert_eq!(name.len(), MAX_NAME + 1);
        let text = text(name);
        assert_eq!(text.len(), MAX_NAME);
        assert!(text.ends_with("a…"));
    }

    #[test]
    fn bytes_that_are_not_text_are_escaped() {
        assert_eq!(text(b"a\xffb"), "a\\xffb");
        assert_eq!(text("käse".as_bytes()), "käse");
    }
}
