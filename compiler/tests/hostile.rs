//! Bad input: one clear diagnostic each, no panic, memory bounded by the input's size.
// Tests fail by panicking.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod builder;

use std::ops::Range;
use std::path::Path;

use bpfplan_compiler::{Compiled, Options, codes, compile};
use bpfplan_plan::types::{Enum, Enumerator, Type, TypeId};
use bpfplan_plan::validate::validate;
use bpfplan_plan::{Code, Diagnostic, Endianness, uapi};
use builder::{Maps, repeated, section};
use proptest::prelude::*;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/obj")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn run(object: &[u8]) -> Result<Compiled, Vec<Diagnostic>> {
    compile(object, "test.bpf.o", &Options::default())
}

/// Compiles and checks what must hold whatever the bytes are.
fn checked(object: &[u8]) -> Result<Compiled, Vec<Diagnostic>> {
    let result = run(object);
    match &result {
        Ok(compiled) => {
            if let Err(problems) = validate(&compiled.plan) {
                panic!("the compiler's plan is invalid: {problems:?}");
            }
            assert!(!compiled.warnings.iter().any(Diagnostic::is_error));
            // Names of up to 511 bytes can be shared by parts of 8 bytes.
            let bound = 1000 * object.len() + 100_000;
            assert!(format!("{:?}", compiled.plan).len() < bound);
        }
        Err(problems) => {
            assert!(problems.iter().any(Diagnostic::is_error), "{problems:?}");
            assert!(problems.len() <= 1000);
        }
    }
    result
}

/// The errors of an object that must be refused.
fn errors(object: &[u8]) -> Vec<Diagnostic> {
    match checked(object) {
        Ok(compiled) => panic!("accepted: {:?}", compiled.plan.maps),
        Err(problems) => problems.into_iter().filter(Diagnostic::is_error).collect(),
    }
}

#[track_caller]
fn refused(object: &[u8], code: Code) {
    let errors = errors(object);
    assert_eq!(errors.len(), 1, "one clear diagnostic: {errors:?}");
    assert_eq!(errors[0].code, code, "{errors:?}");
}

#[test]
fn not_elf() {
    refused(b"", codes::NOT_ELF);
    refused(b"\x7fEL", codes::NOT_ELF);
    refused(b"#!/bin/sh\n", codes::NOT_ELF);
    refused(&[0; 4096], codes::NOT_ELF);
    refused(b"BC\xc0\xde\x35\x14\0\0", codes::NOT_ELF);
}

#[test]
fn other_elf_files() {
    let object = fixture("ringbuf_slots.bpf.o");
    let patched = |offset: usize, value: u8| {
        let mut object = object.clone();
        object[offset] = value;
        object
    };
    refused(&patched(4, 1), codes::NOT_64_BIT);
    refused(&patched(5, 0), codes::TRUNCATED);
    refused(&patched(16, 2), codes::NOT_RELOCATABLE);
    refused(&patched(18, 62), codes::OTHER_MACHINE);
    let mut no_machine = object.clone();
    no_machine[18..20].fill(0);
    checked(&no_machine).expect("libbpf takes EM_NONE");
}

#[test]
fn truncated() {
    for name in [
        "ringbuf_slots.bpf.o",
        "data_sections.bpf.o",
        "field_list.bpf.o",
    ] {
        let object = fixture(name);
        for length in (0..object.len()).step_by(16) {
            errors(&object[..length]);
        }
    }
}

#[test]
fn unaligned_bytes() {
    let object = fixture("ringbuf_slots.bpf.o");
    let plan = checked(&object).unwrap().plan;
    for shift in 1..8 {
        let mut moved = vec![0; shift];
        moved.extend(&object);
        assert_eq!(checked(&moved[shift..]).unwrap().plan, plan);
    }
}

#[test]
fn built_objects_are_good() {
    for endianness in [Endianness::Little, Endianness::Big] {
        let mut maps = Maps::new();
        maps.endianness = endianness;
        maps.array("table");
        let values = maps.outer("outer");
        maps.relocation(values + 16, "table");
        let plan = checked(&maps.object()).unwrap().plan;
        assert_eq!(plan.maps[0].name, "table");
        assert_eq!(plan.maps[1].slots[0].index, 2);
        assert_eq!(plan.object.endianness, endianness);
    }
}

#[test]
fn corrupt_btf() {
    let mut maps = Maps::new();
    maps.array("table");
    let good = maps.btf();
    let word = |offset: usize, value: u32| {
        let mut btf = good.clone();
        btf[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        maps.object_with(&btf)
    };
    refused(&maps.object_with(&[]), codes::BAD_BTF);
    refused(&maps.object_with(&good[..23]), codes::BAD_BTF);
    refused(&maps.object_with(&good[..good.len() - 1]), codes::BAD_BTF);
    refused(&word(0, 0), codes::BAD_BTF);
    // Header length; offset and length of types and of strings.
    for offset in [4, 8, 12, 16, 20] {
        for value in [1, 0x7fff_fffc, u32::MAX, u32::MAX - 3] {
            refused(&word(offset, value), codes::BAD_BTF);
        }
    }
    // The first type, an INT: name, unknown kinds, a struct with 65535 members.
    refused(&word(24, 0x00ff_ffff), codes::BAD_BTF);
    for kind in [0, 20, 31] {
        refused(&word(28, kind << 24), codes::BAD_BTF);
    }
    refused(
        &word(28, uapi::BTF_KIND_STRUCT << 24 | 0xffff),
        codes::BAD_BTF,
    );
    // The second type, an ARRAY of a type that does not exist.
    refused(&word(24 + 16 + 12, 1000), codes::BAD_BTF);
}

#[test]
fn no_btf() {
    let mut maps = Maps::new();
    maps.array("table");
    let object = maps.object();
    let at = object
        .windows(5)
        .position(|name| name == b".BTF\0")
        .unwrap();
    let mut renamed = object;
    renamed[at + 1] = b'X';
    refused(&renamed, codes::NO_BTF);
}

#[test]
fn type_cycles() {
    // The variable's type is a typedef of itself.
    let mut maps = Maps::new();
    let next = TypeId(u32::try_from(maps.types.len()).unwrap() + 1);
    let ty = maps.add(Type::Typedef {
        name: "loop".to_owned(),
        to: next,
    });
    maps.variable("table", ty, 8);
    refused(&maps.object(), codes::TYPE_CYCLE);

    // A value that contains itself, a pointer to itself, and a constant constant ...
    type Make = fn(&mut Maps, TypeId) -> TypeId;
    let shapes: [Make; 5] = [
        |maps, this| maps.structure(Some("a"), &[("a", this)]),
        |maps, this| maps.pointer(this),
        |maps, this| maps.add(Type::Const { to: this }),
        |maps, this| {
            maps.add(Type::Array {
                element: this,
                index: maps.int(),
                length: 1,
            })
        },
        |maps, this| {
            maps.add(Type::Array {
                element: maps.int(),
                index: this,
                length: 1,
            })
        },
    ];
    for make in shapes {
        let mut maps = Maps::new();
        let this = TypeId(u32::try_from(maps.types.len()).unwrap() + 1);
        let value = make(&mut maps, this);
        let value = maps.pointer(value);
        let members = [("type", maps.number(1)), ("value", value)];
        let ty = maps.structure(None, &members);
        maps.variable("table", ty, 16);
        refused(&maps.object(), codes::TYPE_CYCLE);
    }

    // A list node is not one of them.
    let mut maps = Maps::new();
    let this = TypeId(u32::try_from(maps.types.len()).unwrap() + 2);
    let next = maps.pointer(this);
    let node = maps.structure(Some("node"), &[("next", next)]);
    let value = maps.pointer(node);
    let members = [("type", maps.number(1)), ("value", value)];
    let ty = maps.structure(None, &members);
    maps.variable("table", ty, 16);
    checked(&maps.object()).unwrap();
}

/// What is compiled can be loaded, so the compiler refuses what no plan may have.
#[test]
fn deep_nesting() {
    let nested = |depth: u32| {
        let mut maps = Maps::new();
        let mut value = maps.int();
        for _ in 0..depth {
            value = maps.structure(None, &[("inside", value)]);
        }
        let members = [
            ("type", maps.number(uapi::BPF_MAP_TYPE_ARRAY)),
            ("max_entries", maps.number(1)),
            ("key", maps.pointer(maps.int())),
            ("value", maps.pointer(value)),
        ];
        let ty = maps.structure(None, &members);
        maps.variable("table", ty, 32);
        maps.object()
    };
    checked(&nested(100)).unwrap();
    refused(&nested(200), codes::TOO_DEEP);
}

#[test]
fn deep_chains() {
    for depth in [31, 32, 100_000] {
        let mut maps = Maps::new();
        let mut ty = maps.int();
        for _ in 0..depth {
            ty = maps.add(Type::Const { to: ty });
        }
        let value = maps.pointer(ty);
        let members = [("type", maps.number(1)), ("value", value)];
        let ty = maps.structure(None, &members);
        maps.variable("table", ty, 16);
        // libbpf follows 32 types, the integer included.
        match depth {
            31 => drop(checked(&maps.object()).unwrap()),
            _ => refused(&maps.object(), codes::UNSIZED),
        }
    }
}

#[test]
fn sizes_that_overflow() {
    let mut maps = Maps::new();
    let inner = maps.add(Type::Array {
        element: maps.int(),
        index: maps.int(),
        length: 0x1_0000,
    });
    let outer = maps.add(Type::Array {
        element: inner,
        index: maps.int(),
        length: 0x1_0000,
    });
    let value = maps.pointer(outer);
    let members = [("type", maps.number(1)), ("value", value)];
    let ty = maps.structure(None, &members);
    maps.variable("table", ty, 16);
    refused(&maps.object(), codes::UNSIZED);
}

#[test]
fn relocations_out_of_range() {
    let with = |offset: u32, target: &str| {
        let mut maps = Maps::new();
        maps.array("table");
        let values = maps.outer("outer");
        maps.relocation(values.wrapping_add(offset), target);
        maps
    };
    checked(&with(56, "table").object()).unwrap();
    refused(&with(60, "table").object(), codes::NO_OWNER);
    refused(&with(64, "table").object(), codes::NO_OWNER);
    refused(&with(0x4000_0000, "table").object(), codes::NO_OWNER);
    refused(&with(4, "table").object(), codes::OUTSIDE_VALUES);
    refused(
        &with(8u32.wrapping_neg(), "table").object(),
        codes::OUTSIDE_VALUES,
    );
    refused(
        &with(48u32.wrapping_neg(), "table").object(),
        codes::NO_SLOTS,
    );
    refused(&with(0, "program").object(), codes::NOT_A_MAP);

    // A symbol that does not exist.
    let maps = with(0, "table");
    let mut object = maps.object();
    let entry = [32u64 + 24, 2u64]; // offset; type 2 with the symbol's number above it
    let bytes: Vec<u8> = entry[0].to_le_bytes().to_vec();
    let at = object
        .windows(8)
        .rposition(|window| window == bytes)
        .unwrap();
    object[at + 12..at + 16].copy_from_slice(&0x00ff_ffffu32.to_le_bytes());
    refused(&object, codes::BAD_RELOCATION);
}

#[test]
fn a_far_slot_costs_nothing() {
    let mut maps = Maps::new();
    maps.array("table");
    let inner = maps.array_struct();
    let members = [
        ("type", maps.number(uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS)),
        ("max_entries", maps.number(u32::MAX)),
        ("key", maps.pointer(maps.int())),
        ("values", maps.values(inner)),
    ];
    let ty = maps.structure(None, &members);
    let offset = maps.variable("outer", ty, 8 << 20);
    maps.relocation(offset + (8 << 20) - 8, "table");
    let plan = checked(&maps.object()).unwrap().plan;
    assert_eq!(plan.maps[1].slots.len(), 1);
    assert_eq!(plan.maps[1].slots[0].index, (1 << 20) - 1 - 3);
}

#[test]
fn hostile_names() {
    for name in [
        "a/b",
        "../x",
        "a\u{1b}[31mb",
        "a\nb",
        "price$table",
        "käse",
        "a b",
        "a-b",
    ] {
        let mut maps = Maps::new();
        maps.array(name);
        refused(&maps.object(), codes::BAD_NAME);
    }
    let mut maps = Maps::new();
    maps.array(&"a".repeat(600));
    refused(&maps.object(), codes::BAD_NAME);
    let mut maps = Maps::new();
    maps.array(&"a".repeat(300));
    checked(&maps.object()).unwrap();
    let mut maps = Maps::new();
    maps.array("");
    assert!(run(&maps.object()).is_err());

    // A name that is not UTF-8.
    let mut maps = Maps::new();
    maps.array("tQble");
    let mut object = maps.object();
    for at in 0..object.len() - 5 {
        if &object[at..at + 5] == b"tQble" {
            object[at + 1] = 0xff;
        }
    }
    refused(&object, codes::BAD_NAME);
}

#[test]
fn duplicate_names() {
    let mut maps = Maps::new();
    maps.array("table");
    maps.array("table");
    refused(&maps.object(), codes::DUPLICATE_NAME);
}

#[test]
fn struct_ops_maps_of_one_name() {
    let object = fixture("struct_ops_link.bpf.o");
    checked(&object).unwrap();
    refused(
        &repeated(&object, ".struct_ops.link", 1),
        codes::BAD_STRUCT_OPS,
    );
    // Another section, but the names of the first one.
    let mut maps = Maps::new();
    maps.section = ".struct_ops";
    let ty = maps.structure(Some("ops"), &[("number", maps.int())]);
    maps.variable("ops", ty, 8);
    maps.variable("ops", ty, 8);
    refused(&maps.object(), codes::DUPLICATE_NAME);
}

#[test]
fn all_problems_of_an_object() {
    let mut maps = Maps::new();
    let members = [
        ("type", maps.int()),
        ("colour", maps.int()),
        ("max_entries", maps.int()),
    ];
    let ty = maps.structure(None, &members);
    maps.variable("first", ty, 24);
    maps.variable("second", ty, 24);
    let found: Vec<_> = errors(&maps.object())
        .into_iter()
        .map(|it| (it.map.unwrap(), it.field.unwrap(), it.code))
        .collect();
    let expected = ["first", "second"].map(|map| {
        [
            (map.to_owned(), "type".to_owned(), codes::BAD_NUMBER),
            (map.to_owned(), "colour".to_owned(), codes::UNKNOWN_FIELD),
            (map.to_owned(), "max_entries".to_owned(), codes::BAD_NUMBER),
        ]
    });
    assert_eq!(found, expected.concat());
}

#[test]
fn enum_values_are_read_as_libbpf_reads_them() {
    let extra = |value: u64, wide: bool| {
        let mut maps = Maps::new();
        let variants = vec![Enumerator {
            name: "v".to_owned(),
            value,
        }];
        let list = Enum {
            name: None,
            size: if wide { 8 } else { 4 },
            signed: false,
            variants,
        };
        let list = maps.add(if wide {
            Type::Enum64(list)
        } else {
            Type::Enum(list)
        });
        let members = [("type", maps.number(1)), ("map_extra", list)];
        let ty = maps.structure(None, &members);
        maps.variable("table", ty, 16);
        let compiled = checked(&maps.object()).unwrap();
        let warned = compiled
            .warnings
            .iter()
            .any(|it| it.code == codes::SIGN_EXTENDED);
        (compiled.plan.maps[0].map_extra, warned)
    };
    assert_eq!(extra(5, false), (5, false));
    assert_eq!(extra(0x8000_0000, false), (0xffff_ffff_8000_0000, true));
    assert_eq!(extra(0x8000_0000, true), (0x8000_0000, false));
    assert_eq!(extra(u64::MAX, true), (u64::MAX, false));
}

#[test]
fn broken_debug_information_is_no_error() {
    let object = fixture("ringbuf_slots.bpf.o");
    let plan = checked(&object).unwrap().plan;
    assert!(plan.maps.iter().all(|map| map.source.is_some()));
    for name in [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str"] {
        for (byte, step) in [(0xff, 1), (0x00, 1), (0x80, 3), (0x7f, 2)] {
            let mut broken = object.clone();
            for at in section(&object, name).unwrap().step_by(step) {
                broken[at] = byte;
            }
            let mut other = checked(&broken).unwrap().plan;
            let mut plan = plan.clone();
            for map in plan.maps.iter_mut().chain(&mut other.maps) {
                map.source = None;
            }
            assert_eq!(other, plan);
        }
    }
}

/// Objects with a few bytes changed: the interesting sections more often than the others.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        "ringbuf_slots.bpf.o",
        "data_sections.bpf.o",
        "field_list.bpf.o",
        "prog_array_values.bpf.o",
        "hash_of_maps_sparse.bpf.o",
        "value_pointers.bpf.o",
    ];
    let objects: Vec<Vec<u8>> = names.iter().map(|name| fixture(name)).collect();
    let places: Vec<Vec<Range<usize>>> = objects
        .iter()
        .map(|object| {
            let names = [".BTF", ".symtab", ".strtab", ".debug_info", ".debug_abbrev"];
            let place = |name: &&str| section(object, name).unwrap();
            let mut places: Vec<_> = names.iter().map(place).collect();
            let end = object.len();
            places.extend([0..64, 0..end, place(&".BTF"), end - 64 * 20..end]);
            places
        })
        .collect();
    let change = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        any::<u8>(),
        0..4u8,
    );
    let changes = prop::collection::vec(change, 1..6);
    (0..names.len(), changes).prop_map(move |(which, changes)| {
        let mut object = objects[which].clone();
        for (place, at, value, how) in changes {
            let place = &places[which][place.index(places[which].len())];
            let at = place.start + at.index(place.len());
            object[at] = match how {
                0 => value,
                1 => object[at] ^ 1 << (value % 8),
                2 => object[at].wrapping_add(1),
                _ => value % 32,
            };
        }
        object
    })
}

/// A section without contents in the file can claim any size.
#[test]
fn global_data_has_a_limit() {
    let object = fixture("data_strings.bpf.o");
    let headers = usize::try_from(u64::from_le_bytes(object[40..48].try_into().unwrap())).unwrap();
    let bss = (headers..object.len())
        .step_by(64)
        // SHT_NOBITS
        .find(|at| object.get(at + 4..at + 8) == Some(&8_u32.to_le_bytes()[..]))
        .expect("a section .bss");
    let with_size = |size: u64| {
        let mut object = object.clone();
        object[bss + 32..bss + 40].copy_from_slice(&size.to_le_bytes());
        object
    };
    let codes = |size| -> Vec<_> {
        let found = errors(&with_size(size)).into_iter();
        found.map(|it| it.code).collect()
    };
    assert_eq!(codes(u64::MAX), [codes::DATA_TOO_LARGE]);
    assert_eq!(codes((1 << 40) + 8), [codes::DATA_TOO_LARGE]);
    assert_eq!(codes((256 << 20) + 1), [codes::DATA_TOO_LARGE]);
    let plan = checked(&with_size(4 << 20)).unwrap().plan;
    assert_eq!(plan.maps[1].value_size, 4 << 20);
    assert_eq!(plan.contents.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn changed_objects(object in mutated()) {
        let first = checked(&object);
        let second = run(&object);
        match (first, second) {
            (Ok(first), Ok(second)) => {
                prop_assert_eq!(first.plan, second.plan);
                prop_assert_eq!(first.warnings, second.warnings);
            }
            (Err(first), Err(second)) => prop_assert_eq!(first, second),
            _ => prop_assert!(false, "accepted once and refused once"),
        }
    }

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut object = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\xf7\0".to_vec();
        object.extend(bytes);
        let _ = checked(&object);
    }
}
