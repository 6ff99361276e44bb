//! Hostile types stay small.

use bpfplan_plan::types::{Composite, Member};
use bpfplan_plan::{Endianness, Map, MapType, MaxEntries, Object, Plan, Type, TypeId, format};

use crate::render::style::Style;

/// A plan with one map whose values are of type 1.
fn plan(types: Vec<Type>) -> Plan {
    let map = Map {
        value_type: Some(TypeId(1)),
        ..Map::new("m", MapType(1), 4, 4, MaxEntries::Count(1))
    };
    Plan {
        version: format::VERSION,
        object: Object {
            name: "o".to_owned(),
            sha256: None,
            endianness: Endianness::Little,
            legacy_maps: false,
        },
        maps: vec![map],
        programs: Vec::new(),
        jump_tables: 0,
        types,
        kernel_types: 0,
        btf: bpfplan_plan::Bytes::new(),
        contents: Vec::new(),
    }
}

fn structure(name: Option<&str>, members: &[u32]) -> Type {
    let member = |ty: &u32| Member {
        name: Some("x".to_owned()),
        ty: TypeId(*ty),
        bit_offset: 0,
        bitfield_size: None,
    };
    Type::Struct(Composite {
        name: name.map(str::to_owned),
        size: 1,
        members: members.iter().map(member).collect(),
    })
}

fn render(types: Vec<Type>) -> String {
    super::render(&plan(types), Style::new(false))
}

#[test]
fn doubling_structs_stay_small() {
    // Written out, this would be 2^60 members.
    let types = (2..62).map(|next| structure(None, &[next, next])).collect();
    let text = render(types);
    assert!(
        text.lines().count() < 20_000,
        "{} lines",
        text.lines().count()
    );
    assert!(text.contains("there is more"));
}

#[test]
fn cycles_end() {
    let ptr = |to| Type::Ptr { to: TypeId(to) };
    assert_eq!(render(vec![ptr(1)]), "");
    assert_eq!(render(vec![ptr(2), ptr(1)]), "");
    render(vec![structure(None, &[1])]);
    render(vec![structure(Some("s"), &[1])]);
    render(vec![structure(Some("s"), &[2]), structure(None, &[1])]);
    render(vec![Type::Typedef {
        name: "t".to_owned(),
        to: TypeId(1),
    }]);
    let array = Type::Array {
        element: TypeId(1),
        index: TypeId(1),
        length: 2,
    };
    render(vec![array]);
    let params = vec![
        bpfplan_plan::types::Param {
            name: None,
            ty: TypeId(1)
        };
        100
    ];
    render(vec![Type::FuncProto {
        returns: TypeId(1),
        params,
    }]);
}

#[test]
fn wide_structs_are_cut() {
    let text = render(vec![structure(Some("s"), &[0; 100_000])]);
    assert!(text.lines().count() < 5000);
}
