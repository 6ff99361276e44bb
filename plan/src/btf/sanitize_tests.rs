use super::{Features, sanitize};
use crate::types::{Composite, Enum, Enumerator, IntEncoding, Linkage, SecVar, Type, TypeId};

fn int() -> Type {
    Type::Int {
        name: "int".into(),
        size: 4,
        bits: 32,
        bit_offset: 0,
        encoding: IntEncoding::Signed,
    }
}

fn byte(name: &str) -> Type {
    Type::Int {
        name: name.into(),
        size: 1,
        bits: 8,
        bit_offset: 0,
        encoding: IntEncoding::Unsigned,
    }
}

fn variants() -> Vec<Enumerator> {
    ["LOW", "HIGH"]
        .map(|name| Enumerator {
            name: name.into(),
            value: u64::MAX,
        })
        .to_vec()
}

fn all_kinds() -> Vec<Type> {
    let vars = vec![SecVar {
        var: TypeId(2),
        offset: 4,
        size: 4,
    }];
    vec![
        int(),
        Type::Var {
            name: "counter".into(),
            to: TypeId(1),
            linkage: Linkage::Global,
        },
        Type::Datasec {
            name: "?.data.x".into(),
            size: 8,
            vars,
        },
        Type::DeclTag {
            value: "contains:node:link".into(),
            to: TypeId(1),
            component: None,
            attribute: false,
        },
        Type::TypeTag {
            value: "kptr".into(),
            to: TypeId(1),
            attribute: false,
        },
        Type::Float {
            name: "double".into(),
            size: 8,
        },
        Type::Enum(Enum {
            name: None,
            size: 4,
            signed: true,
            variants: variants(),
        }),
        Type::Enum64(Enum {
            name: Some("e".into()),
            size: 8,
            signed: true,
            variants: variants(),
        }),
    ]
}

#[test]
fn a_kernel_with_everything_gets_the_types_unchanged() {
    assert_eq!(sanitize(&all_kinds(), &Features::ALL), all_kinds());
}

#[test]
fn every_rewriting_keeps_ids_and_sizes() {
    let types = sanitize(&all_kinds(), &Features::NONE);
    assert_eq!(
        types.len(),
        all_kinds().len() + 1,
        "one placeholder is appended"
    );
    assert_eq!(types[0], int());
    assert_eq!(types[1], byte("counter"));
    let Type::Struct(section) = &types[2] else {
        panic!("{:?}", types[2])
    };
    assert_eq!(section.name.as_deref(), Some("__data_x"));
    assert_eq!((section.size, section.members.len()), (8, 1));
    let member = &section.members[0];
    assert_eq!(
        (member.name.as_deref(), member.ty.0, member.bit_offset),
        (Some("counter"), 2, 32)
    );
    assert_eq!(types[3], byte("contains:node:link"));
    assert_eq!(types[4], Type::Const { to: TypeId(1) });
    assert_eq!(
        types[5],
        Type::Struct(Composite {
            name: None,
            size: 8,
            members: vec![]
        })
    );
    assert_eq!(
        types[6],
        Type::Enum(Enum {
            name: None,
            size: 4,
            signed: false,
            variants: variants()
        })
    );
    let Type::Union(union) = &types[7] else {
        panic!("{:?}", types[7])
    };
    assert_eq!((union.name.as_deref(), union.size), (Some("e"), 8));
    let members: Vec<_> = union
        .members
        .iter()
        .map(|m| (m.name.as_deref(), m.ty.0))
        .collect();
    assert_eq!(members, [(Some("LOW"), 9), (Some("HIGH"), 9)]);
    assert_eq!(types[8], byte("enum64_placeholder"));
}

#[test]
fn only_the_missing_kind_is_rewritten() {
    let one = |missing: fn(&mut Features)| {
        let mut features = Features::ALL;
        missing(&mut features);
        let changed = sanitize(&all_kinds(), &features);
        let pairs = changed.iter().zip(all_kinds()).enumerate();
        pairs
            .filter(|(_, (new, old))| *new != old)
            .map(|(index, _)| index + 1)
            .collect::<Vec<_>>()
    };
    assert_eq!(one(|features| features.datasec = false), [2, 3]);
    assert_eq!(one(|features| features.question_mark = false), [3]);
    assert_eq!(one(|features| features.decl_tag = false), [4]);
    assert_eq!(one(|features| features.type_tag = false), [5]);
    assert_eq!(one(|features| features.float = false), [6]);
    assert_eq!(one(|features| features.enum64 = false), [7, 8]);
}

#[test]
fn a_section_whose_variable_is_missing_does_no_harm() {
    let vars = vec![SecVar {
        var: TypeId(77),
        offset: u32::MAX,
        size: 4,
    }];
    let types = [Type::Datasec {
        name: ".data".into(),
        size: 8,
        vars,
    }];
    let Some(Type::Struct(section)) = sanitize(&types, &Features::NONE).into_iter().next() else {
        panic!("a struct")
    };
    assert_eq!(section.members[0].name, None);
}
