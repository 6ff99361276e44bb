//! Checks `.BTF.ext`: maps do not need it, but libbpf refuses an object with maps whose
//! `.BTF.ext` is corrupt (`btf_ext_parse`).

use bpfplan_plan::uapi::{BTF_MAGIC, BTF_VERSION};
use bpfplan_plan::{Diagnostic, Endianness};

use crate::bytes::u32_at;
use crate::codes;

/// End of the fields about function and line information in `struct btf_ext_header`.
const HEADER: usize = 24;
/// End of the fields about CO-RE relocations.
const HEADER_WITH_RELOCATIONS: usize = 32;
/// `sizeof(struct btf_ext_info_sec)`: name and number of records.
const INFO_SECTION: usize = 8;

/// Where an information section's place stands in the header, and its least record size.
const INFOS: [(usize, usize, &str); 3] = [
    (8, 8, "function information"),
    (16, 16, "line information"),
    (24, 16, "CO-RE relocations"),
];

/// Checks the section as libbpf does.
pub(crate) fn check(section: &[u8]) -> Result<(), Diagnostic> {
    parse(section).map_err(|what| {
        Diagnostic::error(codes::BAD_BTF_EXT, format!("corrupt BTF.ext: {what}"))
            .note("maps do not need it, but libbpf refuses the object")
    })
}

fn parse(section: &[u8]) -> Result<(), String> {
    let magic = section
        .first_chunk::<2>()
        .ok_or("the header is cut short")?;
    let endianness = match magic {
        magic if u32::from(u16::from_le_bytes(*magic)) == BTF_MAGIC => Endianness::Little,
        magic if u32::from(u16::from_be_bytes(*magic)) == BTF_MAGIC => Endianness::Big,
        _ => return Err("it does not start with the magic number".to_owned()),
    };
    let word = |at: usize| -> Option<usize> {
        u32_at(section, at, endianness).and_then(|word| usize::try_from(word).ok())
    };
    let version = section.get(2).copied().map(u32::from);
    if version != Some(BTF_VERSION) || section.get(3) != Some(&0) {
        return Err("its version or flags are unknown".to_owned());
    }
    let length = word(4).ok_or("the header is cut short")?;
    if length < HEADER || length >= section.len() {
        return Err(format!("a header of {length} bytes does not fit"));
    }
    for (field, record, what) in INFOS {
        if field >= HEADER && length < HEADER_WITH_RELOCATIONS {
            break;
        }
        let offset = word(field).ok_or("the header is cut short")?;
        let size = word(field + 4).ok_or("the header is cut short")?;
        if size == 0 {
            continue;
        }
        let start = length.checked_add(offset).filter(|_| offset % 4 == 0);
        let end = start.and_then(|start| start.checked_add(size));
        let info = start
            .zip(end)
            .and_then(|(start, end)| section.get(start..end));
        let info = info.ok_or_else(|| format!("the {what} lies outside of the section"))?;
        check_info(info, record, endianness).ok_or_else(|| format!("the {what} is corrupt"))?;
    }
    Ok(())
}

/// One kind of information: a record size, then sections of records.
fn check_info(info: &[u8], least: usize, endianness: Endianness) -> Option<()> {
    let word = |bytes: &[u8], at: usize| -> Option<usize> {
        usize::try_from(u32_at(bytes, at, endianness)?).ok()
    };
    let record = word(info, 0).filter(|size| *size >= least && size % 4 == 0)?;
    let mut rest = info.get(4..).filter(|rest| !rest.is_empty())?;
    while !rest.is_empty() {
        let count = word(rest, 4).filter(|count| *count > 0)?;
        let size = count.checked_mul(record)?.checked_add(INFO_SECTION)?;
        rest = rest.get(size..)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section with one record of function information.
    fn good() -> Vec<u8> {
        let header = [BTF_MAGIC | BTF_VERSION << 16, 24, 0, 20, 20, 0];
        let info = [8, 1, 1, 0, 1];
        let words = header.iter().chain(&info);
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn what_libbpf_takes() {
        assert_eq!(check(&good()), Ok(()));
    }

    #[test]
    fn what_libbpf_refuses() {
        // Magic, version, header length, offset, length, record size, records.
        for (offset, value) in [
            (0, 0),
            (2, 2),
            (4, 20),
            (4, 44),
            (8, 2),
            (8, 200),
            (12, 4),
            (12, 21),
            (24, 4),
            (24, 9),
            (32, 0),
            (32, 2),
            (32, 255),
        ] {
            let mut section = good();
            section[offset] = value;
            assert!(check(&section).is_err(), "{value} at {offset}");
        }
        for length in 0..good().len() {
            assert!(check(&good()[..length]).is_err(), "{length}");
        }
    }
}
