//! Keys of slots on the command line.

use bpfplan_loader::maps::Info;
use bpfplan_plan::{Diagnostic, uapi};

use crate::codes;

/// The bytes of a key as the user wrote it: a number for arrays and for keys of 1, 2, 4 or 8
/// bytes, in the byte order of the machine; else its bytes in hex.
pub(super) fn parse(text: &str, info: &Info) -> Result<Vec<u8>, Diagnostic> {
    let size = usize::try_from(info.key_size).unwrap_or(usize::MAX);
    let parsed = match text.strip_prefix("hex:") {
        Some(digits) => bytes(digits, size),
        None => match text.strip_prefix("0x") {
            Some(digits) if size != 4 => bytes(digits, size),
            Some(digits) => number(u64::from_str_radix(digits, 16).ok(), digits, size),
            None => number(text.parse().ok(), text, size),
        },
    };
    parsed.ok_or_else(|| {
        let wanted = match size {
            4 => "a number below 4294967296".to_owned(),
            1 | 2 | 8 => format!(
                "a number of {size} bytes, or 0x and {} hex digits",
                size * 2
            ),
            _ => format!("0x and {} hex digits", size.saturating_mul(2)),
        };
        let diagnostic = Diagnostic::error(
            codes::SLOT_KEY,
            format!("'{}' is no key of this map", text.escape_debug()),
        )
        .map(&info.name)
        .note(format!("its keys have {size} bytes: {wanted}"));
        if info.map_type.0 == uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS {
            return diagnostic.help(format!(
                "name a slot from 0 to {}",
                info.max_entries.saturating_sub(1)
            ));
        }
        diagnostic.help("`bpfplan slot list` shows keys that are there")
    })
}

fn number(value: Option<u64>, digits: &str, size: usize) -> Option<Vec<u8>> {
    // `parse` takes a plus sign.
    let value = value.filter(|_| digits.starts_with(|c: char| c.is_ascii_hexdigit()))?;
    Some(match size {
        1 => u8::try_from(value).ok()?.to_ne_bytes().to_vec(),
        2 => u16::try_from(value).ok()?.to_ne_bytes().to_vec(),
        4 => u32::try_from(value).ok()?.to_ne_bytes().to_vec(),
        8 => value.to_ne_bytes().to_vec(),
        _ => return None,
    })
}

fn bytes(digits: &str, size: usize) -> Option<Vec<u8>> {
    if digits.len() != size.checked_mul(2)? {
        return None;
    }
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| {
            let [high, low] = pair else {
                return None;
            };
            let digit = |digit: &u8| char::from(*digit).to_digit(16);
            u8::try_from(digit(high)? * 16 + digit(low)?).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bpfplan_plan::MapType;

    use super::*;

    fn key(text: &str, size: u32) -> Option<Vec<u8>> {
        let info = Info {
            id: 1,
            name: "m".to_owned(),
            map_type: MapType(uapi::BPF_MAP_TYPE_HASH_OF_MAPS),
            key_size: size,
            value_size: 4,
            max_entries: 8,
            map_flags: 0,
            map_extra: 0,
            btf_id: 0,
            btf_key_type_id: 0,
            btf_value_type_id: 0,
        };
        parse(text, &info).ok()
    }

    #[test]
    fn numbers_have_the_order_of_the_machine() {
        assert_eq!(key("7", 4), Some(7u32.to_ne_bytes().to_vec()));
        assert_eq!(key("0x10", 4), Some(16u32.to_ne_bytes().to_vec()));
        assert_eq!(key("255", 1), Some(vec![255]));
        assert_eq!(key("258", 2), Some(258u16.to_ne_bytes().to_vec()));
        assert_eq!(
            key("18446744073709551615", 8),
            Some(u64::MAX.to_ne_bytes().to_vec())
        );
    }

    #[test]
    fn bytes_stand_as_they_are() {
        assert_eq!(key("0x0a0B0c", 3), Some(vec![10, 11, 12]));
        assert_eq!(key("hex:00000001", 4), Some(vec![0, 0, 0, 1]));
        assert_eq!(key("0x0102", 2), Some(vec![1, 2]));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for (text, size) in [
            ("", 4),
            ("-1", 4),
            ("+1", 4),
            ("0x", 4),
            ("0x+1", 4),
            ("4294967296", 4),
            ("0x100000000", 4),
            ("x", 4),
            ("256", 1),
            ("1", 3),
            ("0x1", 3),
            ("0x0a0b0", 3),
            ("0x0a0b0g", 3),
            ("hex:0102", 4),
            ("hex:é", 1),
            ("0xé", 1),
        ] {
            assert_eq!(key(text, size), None, "{text:?} of {size} bytes");
        }
    }

    #[test]
    fn a_refusal_says_what_is_wanted() {
        let info = Info {
            map_type: MapType(uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS),
            ..Info {
                id: 1,
                name: "m".to_owned(),
                map_type: MapType(0),
                key_size: 4,
                value_size: 4,
                max_entries: 8,
                map_flags: 0,
                map_extra: 0,
                btf_id: 0,
                btf_key_type_id: 0,
                btf_value_type_id: 0,
            }
        };
        let error = parse("first", &info).unwrap_err();
        assert_eq!(error.help.as_deref(), Some("name a slot from 0 to 7"));
    }
}
