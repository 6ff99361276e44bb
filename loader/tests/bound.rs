//! Maps whose values hold what only the programs' own BTF has: many maps, and many of such fields.

// A test may panic: that is how it fails.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod sample;

use bpfplan_loader::{LoadOptions, RecordingKernel, codes, load};
use bpfplan_plan::rules::Target;
use bpfplan_plan::types::{Composite, Member};
use bpfplan_plan::{BtfIds, Diagnostic, Map, Plan, Type, TypeId, uapi};
use sample::{U32, map, plan, with_types};

fn structure(name: &str, members: &[TypeId]) -> Type {
    let size = u32::try_from(8 * members.len()).expect("few members");
    let members = (0..).step_by(64).zip(members);
    let members = members.map(|(bit_offset, ty)| Member {
        name: None,
        ty: *ty,
        bit_offset,
        bitfield_size: None,
    });
    Type::Struct(Composite {
        name: Some(name.to_owned()),
        size,
        members: members.collect(),
    })
}

/// So many maps, each with a struct of its own around one that holds so many references.
fn references(maps: u32, references: u32) -> Plan {
    let plan = plan(vec![map("first", uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 1)]);
    let mut types = plan.types.clone();
    let mut add = |ty: Type| {
        types.push(ty);
        TypeId(u32::try_from(types.len()).expect("few types"))
    };
    let pointers = (0..references).map(|index| {
        let to = add(structure(&format!("own_{index:05}"), &[]));
        let tag = Type::TypeTag {
            value: "kptr".to_owned(),
            to,
            attribute: false,
        };
        let to = add(tag);
        add(Type::Ptr { to })
    });
    let pointers: Vec<TypeId> = pointers.collect();
    let large = add(structure("large", &pointers));
    let maps = (0..maps).map(|index| {
        let Type::Struct(mut around) = structure(&format!("around_{index}"), &[large]) else {
            panic!("it is a struct")
        };
        around.size = 8 * references;
        let value = add(Type::Struct(around));
        Map {
            key_type: Some(U32),
            value_type: Some(value),
            btf: Some(BtfIds {
                key_type_id: U32.0,
                value_type_id: value.0,
            }),
            value_size: 8 * references,
            ..map(&format!("map_{index}"), uapi::BPF_MAP_TYPE_HASH, [4, 4], 1)
        }
    });
    let maps = maps.collect();
    with_types(sample::plan(maps), types)
}

fn warnings(plan: &Plan) -> Vec<Diagnostic> {
    let target = Target {
        page_size: 4096,
        possible_cpus: 2,
    };
    let nobodys = |names: &[&str]| Some(vec![false; names.len()]);
    let kernel = RecordingKernel::new(target).with_structs(nobodys);
    let options = LoadOptions {
        hold: true,
        ..LoadOptions::default()
    };
    let mut said = load(plan, &kernel, &options).expect("it loads").diagnostics;
    said.retain(|diagnostic| diagnostic.code == codes::PROGRAM_BTF);
    said
}

#[test]
fn what_binds_a_map_is_named() {
    let said = warnings(&references(1, 2));
    assert_eq!(said.len(), 1);
    assert_eq!(
        said[0].message,
        "programs that use struct own_00000, struct own_00001 in its values will not load over \
         this map"
    );
}

/// What is remembered and said of many maps with many references is no product of both.
#[test]
fn many_maps_with_many_references_are_told_of_in_few_words() {
    let plan = references(300, 400);
    let said = warnings(&plan);
    assert_eq!(said.len(), plan.maps.len());
    for warning in said {
        let message = warning.message;
        assert!(
            message.len() < 300,
            "{} bytes: {message:.300}",
            message.len()
        );
        assert!(
            message.contains("struct own_00007 or others in"),
            "{message}"
        );
    }
}

/// Many maps may have one type, and its name is said of each.
#[test]
fn long_names_are_cut() {
    let plan = references(1, 1);
    let mut types = plan.types.clone();
    for ty in &mut types {
        if let Type::Struct(composite) = ty
            && let Some(name) = &mut composite.name
        {
            name.push_str(&"x".repeat(100_000));
        }
    }
    let said = warnings(&with_types(plan, types));
    assert!(said[0].message.contains("struct own_00000xxx"));
    assert!(said[0].message.len() < 300);
}
