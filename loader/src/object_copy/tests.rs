use std::path::Path;

use object::{Object as _, ObjectSection as _};

use super::{SHT_LLVM_ADDRSIG, without_slots};

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj");
    std::fs::read(path.join(format!("{name}.bpf.o"))).expect("the fixture is there")
}

/// Offset of the section headers.
fn headers(object: &[u8]) -> usize {
    let offset = u64::from_ne_bytes(object[40..48].try_into().expect("8 bytes"));
    usize::try_from(offset).expect("it is in the file")
}

/// Places at which two byte strings of one length differ.
fn differences(one: &[u8], other: &[u8]) -> Vec<usize> {
    assert_eq!(one.len(), other.len());
    let pairs = one.iter().zip(other).enumerate();
    pairs
        .filter(|(_, (a, b))| a != b)
        .map(|(place, _)| place)
        .collect()
}

#[test]
fn only_the_type_of_one_section_changes() {
    let object = fixture("prog_array_values");
    let copy = without_slots(&object).expect("it is an object");
    let file = object::File::parse(object.as_slice()).expect("an ELF file");
    let section = file.section_by_name(".rel.maps").expect("it has slots");
    let kind = headers(&object) + section.index().0 * 64 + 4;
    let changed = differences(&object, &copy);
    assert!(!changed.is_empty());
    assert!(changed.iter().all(|place| (kind..kind + 4).contains(place)));
    assert_eq!(copy[kind..kind + 4], SHT_LLVM_ADDRSIG.to_ne_bytes());
}

#[test]
fn objects_without_slots_stay_as_they_are() {
    for name in ["field_list", "no_maps", "subprograms", "data_sections"] {
        let object = fixture(name);
        assert_eq!(without_slots(&object), Ok(object), "{name}");
    }
}

#[test]
fn the_other_byte_order_is_refused() {
    assert!(without_slots(&fixture("field_list.be")).is_err());
}

#[test]
fn what_is_cut_off_or_damaged_never_panics() {
    let object = fixture("prog_array_values");
    for length in (0..object.len()).step_by(7) {
        let _ = without_slots(&object[..length]);
    }
    // The ELF header, and all section headers.
    let start = headers(&object);
    for place in (0..64).chain(start..object.len()) {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = object.clone();
            damaged[place] = value;
            let _ = without_slots(&damaged);
        }
    }
}
