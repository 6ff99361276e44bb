//! Work and memory stay in proportion to the object where many small parts share a large one.
//!
//! This guards against hangs and measures nothing: in proportion, each object takes a second or
//! less even without optimisation; out of proportion, minutes. Only processor time of the thread
//! counts, whatever else the machine does.
// Tests fail by panicking.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod builder;

use std::collections::HashSet;

use bpfplan_compiler::{Compiled, Options, codes, compile};
use bpfplan_plan::types::{Type, TypeId};
use bpfplan_plan::{Code, rules, uapi};
use builder::{Maps, repeated};
use gimli::constants as dwarf;
use rustix::time::{ClockId, clock_gettime};

/// Seconds of processor time.
const LIMIT: i64 = 20;

/// Compiles within the limit; the codes of the first errors where it is refused.
fn compiled(maps: &Maps) -> Result<Compiled, Vec<Code>> {
    compiled_object(&maps.object())
}

/// The same for an object.
fn compiled_object(object: &[u8]) -> Result<Compiled, Vec<Code>> {
    let start = processor_seconds();
    let result = compile(object, "test.bpf.o", &Options::default());
    let time = processor_seconds() - start;
    assert!(time < LIMIT, "{time} s for {} bytes", object.len());
    result.map_err(|problems| {
        assert!(problems.len() < 1000);
        problems.into_iter().map(|it| it.code).collect()
    })
}

fn processor_seconds() -> i64 {
    clock_gettime(ClockId::ThreadCPUTime).tv_sec
}

/// A struct of many members that no map has.
fn faulty(maps: &mut Maps, count: u32) -> TypeId {
    let names: Vec<String> = (0..count).map(|index| format!("field_{index}")).collect();
    let int = maps.int();
    let members: Vec<_> = names.iter().map(|name| (name.as_str(), int)).collect();
    maps.structure(None, &members)
}

/// A HASH map from `int` to `value`.
fn hash(maps: &mut Maps, name: &str, value: TypeId) {
    let members = [
        ("type", maps.number(uapi::BPF_MAP_TYPE_HASH)),
        ("max_entries", maps.number(4)),
        ("key", maps.pointer(maps.int())),
        ("value", maps.pointer(value)),
    ];
    let ty = maps.structure(None, &members);
    maps.variable(name, ty, 32);
}

#[test]
fn many_maps_of_one_faulty_struct() {
    let mut maps = Maps::new();
    let ty = faulty(&mut maps, 20_000);
    if let Some(Type::Struct(composite)) = maps.types.last_mut() {
        composite.size = 8; // So that the variables take little room.
    }
    for index in 0..20_000 {
        maps.variable(&format!("map_{index}"), ty, 8);
    }
    let codes = compiled(&maps).unwrap_err();
    assert_eq!(codes[0], codes::UNKNOWN_FIELD);
}

#[test]
fn many_outer_maps_of_one_faulty_template() {
    let mut maps = Maps::new();
    let inner = faulty(&mut maps, 20_000);
    for index in 0..2_000 {
        let members = [
            ("type", maps.number(uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS)),
            ("max_entries", maps.number(4)),
            ("values", maps.values(inner)),
        ];
        let ty = maps.structure(None, &members);
        maps.variable(&format!("map_{index}"), ty, 32);
    }
    let codes = compiled(&maps).unwrap_err();
    assert_eq!(codes[0], codes::UNKNOWN_FIELD);
}

#[test]
fn many_maps_behind_one_long_chain() {
    let mut maps = Maps::new();
    let mut ty = maps.array_struct();
    for _ in 0..60_000 {
        ty = maps.add(Type::Const { to: ty });
    }
    for index in 0..60_000 {
        maps.variable(&format!("map_{index}"), ty, 32);
    }
    assert_eq!(compiled(&maps).unwrap().plan.maps.len(), 60_000);
}

#[test]
fn many_members_behind_one_long_chain() {
    let mut maps = Maps::new();
    let mut number = maps.number(uapi::BPF_MAP_TYPE_ARRAY);
    for _ in 0..60_000 {
        number = maps.add(Type::Const { to: number });
    }
    let members: Vec<_> = (0..60_000).map(|_| ("type", number)).collect();
    let ty = maps.structure(None, &members);
    maps.variable("table", ty, 8 * 60_000);
    compiled(&maps).unwrap();
}

#[test]
fn many_members_of_one_long_name() {
    let mut maps = Maps::new();
    let long = "x".repeat(1 << 14);
    let members: Vec<_> = (0..1_000).map(|_| (long.as_str(), maps.int())).collect();
    let value = maps.structure(Some(&long), &members);
    hash(&mut maps, "table", value);
    let plan = compiled(&maps).unwrap().plan;
    assert!(format!("{plan:?}").len() < 2_000_000);
}

#[test]
fn many_tags_on_one_struct() {
    let mut maps = Maps::new();
    let value = maps.structure(Some("value"), &[("a", maps.int())]);
    for index in 0..60_000 {
        maps.add(Type::DeclTag {
            value: format!("contains:node_{index}:link"),
            to: value,
            component: Some(0),
            attribute: false,
        });
    }
    for index in 0..2_000 {
        hash(&mut maps, &format!("map_{index}"), value);
    }
    compiled(&maps).unwrap();
}

#[test]
fn many_slots() {
    let mut maps = Maps::new();
    maps.array("table");
    let inner = maps.array_struct();
    let count = 50_000;
    let members = [
        ("type", maps.number(uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS)),
        ("max_entries", maps.number(count)),
        ("key", maps.pointer(maps.int())),
        ("values", maps.values(inner)),
    ];
    let ty = maps.structure(None, &members);
    let values = 24 + maps.variable("outer", ty, 24 + 8 * count);
    for index in 0..count {
        maps.relocation(values + 8 * index, "table");
    }
    let plan = compiled(&maps).unwrap().plan;
    assert_eq!(plan.maps[1].slots.len(), 50_000);
}

#[test]
fn many_sections_over_the_same_relocations() {
    let mut maps = Maps::new();
    maps.array("table");
    let values = maps.outer("outer");
    for _ in 0..20_000 {
        maps.relocation(values, "table");
    }
    let object = repeated(&maps.object(), ".rel.maps", 60_000);
    let codes = compiled_object(&object).unwrap_err();
    assert_eq!(codes, [codes::BAD_SECTION]);
}

#[test]
fn many_sections_of_global_data() {
    let mut maps = Maps::new();
    maps.section = ".data.x";
    let int = maps.int();
    maps.variable("number", int, 4);
    let object = repeated(&maps.object(), ".data.x", 200_000);
    let codes = compiled_object(&object).unwrap_err();
    assert_eq!(codes[0], codes::DUPLICATE_NAME);
}

#[test]
fn many_struct_ops_sections_and_relocations_of_one() {
    let mut maps = Maps::new();
    maps.section = ".struct_ops";
    let ty = maps.structure(Some("ops"), &[("number", maps.int())]);
    for index in 0..60_000 {
        maps.variable(&format!("ops_{index}"), ty, 8);
    }
    maps.relocation(0, "function");
    let object = maps.object();
    let codes = compiled_object(&repeated(&object, ".struct_ops", 100)).unwrap_err();
    assert_eq!(codes[0], codes::BAD_STRUCT_OPS);
    let codes = compiled_object(&repeated(&object, ".rel.struct_ops", 60_000)).unwrap_err();
    assert_eq!(codes[0], codes::BAD_STRUCT_OPS_RELOCATION);
}

#[test]
fn many_maps_of_values_with_one_large_struct() {
    let mut maps = Maps::new();
    let members: Vec<_> = (0..60_000).map(|_| ("", maps.int())).collect();
    let large = maps.structure(Some("large"), &members);
    for index in 0..10_000 {
        let value = maps.structure(None, &[("inside", large)]);
        if let Some(Type::Struct(composite)) = maps.types.last_mut() {
            composite.size = 8 * 60_000;
        }
        hash(&mut maps, &format!("map_{index}"), value);
    }
    let plan = compiled(&maps).unwrap().plan;
    let start = processor_seconds();
    assert_eq!(rules::lint(&plan, &[]), []);
    assert!(processor_seconds() - start < LIMIT);
}

/// The part behind its length.
fn sized(part: &[u8]) -> Vec<u8> {
    let length = u32::try_from(part.len()).unwrap();
    [&length.to_le_bytes(), part].concat()
}

/// Entries of four bytes can stand for file names of two kilobytes, over and over.
#[test]
fn many_variables_in_two_files_of_long_names() {
    const UNITS: usize = 200;
    let mut maps = Maps::new();
    let mut names = Vec::new();
    let mut offsets = Vec::new();
    let mut entries = Vec::new();
    for index in 0..10_000_u16 {
        let name = format!("map_{index}");
        maps.array(&name);
        offsets.extend(u32::try_from(names.len()).unwrap().to_le_bytes());
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        let [low, high] = index.to_le_bytes();
        entries.extend([2, low, high, low % 2]);
    }
    let byte = |number: u16| u8::try_from(number).unwrap();
    let pairs = |pairs: &[(u16, u16)]| -> Vec<u8> {
        pairs
            .iter()
            .flat_map(|(one, two)| [byte(*one), byte(*two)])
            .collect()
    };
    let unit = pairs(&[
        (1, dwarf::DW_TAG_compile_unit.0),
        (1, dwarf::DW_AT_str_offsets_base.0),
        (dwarf::DW_FORM_sec_offset.0, dwarf::DW_AT_stmt_list.0),
        (dwarf::DW_FORM_sec_offset.0, 0),
    ]);
    let variable = pairs(&[
        (0, 2),
        (dwarf::DW_TAG_variable.0, 0),
        (dwarf::DW_AT_name.0, dwarf::DW_FORM_strx2.0),
        (dwarf::DW_AT_decl_file.0, dwarf::DW_FORM_data1.0),
        (dwarf::DW_AT_decl_line.0, dwarf::DW_FORM_implicit_const.0),
        (7, dwarf::DW_AT_external.0),
        (dwarf::DW_FORM_flag_present.0, 0),
        (0, 0),
    ]);
    // Version 5, a compile unit, addresses of 8 bytes, abbreviations from 0 on; then the root.
    let header = [
        &[5, 0, 1, 8, 0, 0, 0, 0, 1, 8, 0, 0, 0, 0, 0, 0, 0][..],
        &entries,
        &[0],
    ];
    let info = sized(&header.concat()).repeat(UNITS);
    // One directory format (a path) and two directories, one file format and two files in the
    // second directory; all of them have the same name.
    let path = byte(dwarf::DW_FORM_line_strp.0);
    let files = [
        &[1, 1, 1, 0xfb, 14, 1][..],
        &[1, 1, path, 2, 0, 0, 0, 0, 0, 0, 0, 0],
        &[2, 1, path, 2, byte(dwarf::DW_FORM_data1.0), 2],
        &[0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
    ];
    let line = [&[5, 0, 8, 0][..], &sized(&files.concat())].concat();
    let long = [&[b'd'; 1000][..], &[0]].concat();
    maps.others = vec![
        (".debug_abbrev", [unit, variable].concat()),
        (".debug_info", info),
        (".debug_line", sized(&line)),
        (".debug_line_str", long),
        (".debug_str", names),
        (
            ".debug_str_offsets",
            sized(&[&[5, 0, 0, 0][..], &offsets].concat()),
        ),
    ];
    let plan = compiled(&maps).unwrap().plan;
    let source = plan.maps[0].source.as_ref().unwrap();
    assert_eq!((source.file.len(), source.line), (2001, 7));
    let files = plan.maps.iter().flat_map(|map| &map.source);
    let files: HashSet<_> = files.map(|source| source.file.as_ptr()).collect();
    assert_eq!(files.len(), 2);
}
