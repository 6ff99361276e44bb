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

use bpfplan_compiler::{Compiled, Options, codes, compile};
use bpfplan_plan::types::{Type, TypeId};
use bpfplan_plan::{Code, rules, uapi};
use builder::{Maps, repeated};
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
