#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

use std::fs;
use std::io::Write as _;
use std::path::Path;

use object::{Object as _, ObjectSection as _};

use super::*;

fn read(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    read_without_dwarf(&file, bytes.len()).unwrap()
}

fn range((start, size): (u64, u64)) -> Range<usize> {
    let end = usize::try_from(start + size).unwrap();
    usize::try_from(start).unwrap()..end
}

/// An object of the fixtures that is large enough, with the ranges of its DWARF.
fn large() -> (Vec<u8>, Vec<Range<usize>>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/obj/types-100.bpf.o");
    let bytes = fs::read(path).unwrap();
    assert!(bytes.len() >= SMALL, "{}", bytes.len());
    let file = object::File::parse(&*bytes).unwrap();
    let dwarf = file
        .sections()
        .filter(|section| section.name().unwrap().contains(".debug_"))
        .filter_map(|section| section.file_range())
        .map(range);
    let dwarf: Vec<_> = dwarf.collect();
    assert!(dwarf.len() > 5);
    (bytes, dwarf)
}

#[test]
fn all_but_dwarf_is_read() {
    let (bytes, dwarf) = large();
    let read = read(&bytes).unwrap();
    assert_eq!(read.len(), bytes.len());
    let file = object::File::parse(&*bytes).unwrap();
    for section in file.sections() {
        let Some(range) = section.file_range().map(range) else {
            continue;
        };
        if !dwarf.contains(&range) {
            let name = section.name().unwrap();
            assert!(read[range.clone()] == bytes[range], "{name}");
        }
    }
    let left: usize = dwarf
        .iter()
        .filter(|range| read[(*range).clone()].iter().all(|byte| *byte == 0))
        .map(|range| range.len())
        .sum();
    assert!(left * 3 > bytes.len(), "{left} of {}", bytes.len());
}

#[test]
fn what_is_no_sound_object_is_read_whole() {
    let (bytes, _) = large();
    assert_eq!(read(&bytes[..SMALL - 1]), None);
    assert_eq!(read(&vec![0x7b; SMALL]), None);
    let header = |place: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[place..place + value.len()].copy_from_slice(value);
        read(&bytes)
    };
    // `e_shoff` and `e_shnum` beyond the end, no sections, no names.
    assert_eq!(header(0x28, &u64::MAX.to_le_bytes()), None);
    assert_eq!(header(0x28, &(bytes.len() as u64).to_le_bytes()), None);
    assert_eq!(header(0x3c, &u16::MAX.to_le_bytes()), None);
    assert_eq!(header(0x3c, &[0, 0]), None);
    assert_eq!(header(0x3e, &u16::MAX.to_le_bytes()), None);
    // A section that lies beyond the end.
    let table = usize::try_from(u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap())).unwrap();
    assert_eq!(header(table + 64 + 0x20, &u64::MAX.to_le_bytes()), None);
}

#[test]
fn a_file_that_has_become_shorter_is_an_error() {
    let (bytes, _) = large();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes[..bytes.len() / 2]).unwrap();
    assert!(read_without_dwarf(&file, bytes.len()).is_err());
}

/// 60,000 sections whose name is 8 MiB long: to look for its end each time would take minutes.
#[test]
fn names_without_end_are_not_searched() {
    const SECTIONS: u16 = 60_000;
    const NAMES: usize = 8 << 20;
    let mut bytes = vec![b'x'; NAMES];
    let (large, _) = large();
    bytes[..HEADER].copy_from_slice(&large[..HEADER]);
    bytes[0x28..0x30].copy_from_slice(&(NAMES as u64).to_le_bytes());
    bytes[0x3c..0x3e].copy_from_slice(&SECTIONS.to_le_bytes());
    bytes[0x3e..0x40].copy_from_slice(&1_u16.to_le_bytes());
    bytes[NAMES - 1] = 0;
    for _ in 0..SECTIONS {
        let mut section = [0; 64];
        section[..4].copy_from_slice(&64_u32.to_le_bytes());
        section[4..8].copy_from_slice(&3_u32.to_le_bytes());
        section[0x20..0x28].copy_from_slice(&(NAMES as u64).to_le_bytes());
        bytes.extend_from_slice(&section);
    }
    assert!(read(&bytes).is_some());
}
