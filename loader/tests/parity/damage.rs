//! Random changes of the bytes that libbpf looks at when it opens an object.

use std::ops::Range;

use super::builder::section;
use super::random::Random;

/// Words that break things.
const WORDS: [u32; 12] = [
    0,
    1,
    2,
    4,
    8,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff8,
    u32::MAX,
    0x0400_0000,
    0x0500_0003,
    0x0a00_0000,
];
/// Sizes of `Elf64_Sym`, `Elf64_Rel` and `Elf64_Shdr`.
const SYMBOL: usize = 24;
const RELOCATION: usize = 16;
const HEADER: usize = 64;

/// Changes a few bytes of an object.
pub(crate) fn change(object: &mut [u8], random: &mut Random) {
    let places = |name: &str| section(object, name).unwrap_or(0..0);
    let (btf, symbols) = (places(".BTF"), places(".symtab"));
    let (relocations, maps) = (places(".rel.maps"), places(".maps"));
    let headers = headers(object);
    for _ in 0..1 + random.below(3) {
        match random.below(16) {
            // Types, more often than not: a word, or a byte of one.
            0..7 => word(object, &btf, random),
            7 => byte(object, &btf, random),
            8..10 => entry(object, &symbols, SYMBOL, random),
            10..12 => entry(object, &relocations, RELOCATION, random),
            12 => byte(object, &maps, random),
            13..15 => entry(object, &headers, HEADER, random),
            _ => byte(object, &(0..HEADER), random),
        }
    }
}

/// As [`change`], or of what the linker looks at besides: instructions' relocations, `.BTF.ext`.
pub(crate) fn change_any(object: &mut [u8], random: &mut Random) {
    let place = |name: &str| section(object, name).unwrap_or(0..0);
    match random.below(4) {
        0 => {
            let relocations = place(".relxdp");
            entry(object, &relocations, RELOCATION, random);
        }
        1 => {
            let ext = place(".BTF.ext");
            word(object, &ext, random);
        }
        _ => change(object, random),
    }
}

fn headers(object: &[u8]) -> Range<usize> {
    let start: [u8; 8] = object[40..48].try_into().unwrap();
    let start = match object[5] {
        1 => u64::from_le_bytes(start),
        _ => u64::from_be_bytes(start),
    };
    usize::try_from(start).unwrap()..object.len()
}

fn byte(object: &mut [u8], place: &Range<usize>, random: &mut Random) {
    if place.is_empty() {
        return;
    }
    let at = place.start + random.below(place.len());
    object[at] = match random.below(3) {
        0 => random.next().to_le_bytes()[0],
        1 => object[at] ^ 1 << random.below(8),
        _ => object[at].wrapping_add(1),
    };
}

fn word(object: &mut [u8], place: &Range<usize>, random: &mut Random) {
    let words = place.len() / 4;
    if words == 0 {
        return;
    }
    let at = place.start + 4 * random.below(words);
    let old: [u8; 4] = object[at..at + 4].try_into().unwrap();
    let little = object[5] == 1;
    let old = match little {
        true => u32::from_le_bytes(old),
        false => u32::from_be_bytes(old),
    };
    let new = match random.below(4) {
        0 => random.pick(&WORDS),
        // Another type or string.
        1 => u32::try_from(random.below(100)).unwrap(),
        2 => old.wrapping_add(1),
        _ => old ^ 1 << random.below(32),
    };
    object[at..at + 4].copy_from_slice(&match little {
        true => new.to_le_bytes(),
        false => new.to_be_bytes(),
    });
}

/// Changes a field of one entry, or copies a field of another one.
fn entry(object: &mut [u8], table: &Range<usize>, size: usize, random: &mut Random) {
    let count = table.len() / size;
    if count == 0 {
        return;
    }
    let start = |index: usize| table.start + size * index;
    let (one, other) = (start(random.below(count)), start(random.below(count)));
    let field = 4 * random.below(size / 4);
    match random.below(4) {
        0 => byte(object, &(one..one + size), random),
        1 => word(object, &(one..one + size), random),
        2 => object.copy_within(other + field..other + field + 4, one + field),
        _ => word(object, &(one + field..one + field + 4), random),
    }
}
