//! Overrides: what they set, what they refuse, and that no plan comes out that is not valid.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "a test that meets the unexpected has to fail"
)]

mod fields;
mod hostile;
#[path = "../support/mod.rs"]
mod support;
mod values;

use bpfplan_plan::overrides::{Overridden, Overrides};
use bpfplan_plan::types::{
    Composite, Enum, Enumerator, IntEncoding, Linkage, Member, SecVar, Type,
};
use bpfplan_plan::{
    BtfIds, Data, Diagnostic, Endianness, Map, MaxEntries, Pinning, Plan, Slot, SlotTarget, TypeId,
    btf, codes, globals, uapi, validate,
};
use support::sample;

const ID_INT: TypeId = TypeId(1);

/// A plan with a section of one variable of each of these types, and some maps.
fn plan(types: Vec<Type>, variables: &[(&str, u32)], endianness: Endianness) -> Plan {
    let mut plan = Plan {
        types,
        contents: Vec::new(),
        maps: vec![
            sample::map("flows", uapi::BPF_MAP_TYPE_HASH, [4, 8, 100]),
            sample::map("ring", uapi::BPF_MAP_TYPE_RINGBUF, [0, 0, 4096]),
            sample::map("events", uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY, [4, 4, 8]),
            sample::map("table", uapi::BPF_MAP_TYPE_ARRAY, [4, 4, 4]),
            Map {
                inner: Some(Box::new(sample::map(
                    "tables.inner",
                    uapi::BPF_MAP_TYPE_ARRAY,
                    [4, 4, 4],
                ))),
                slots: vec![Slot {
                    index: 2,
                    target: SlotTarget::Map("table".into()),
                }],
                ..sample::map("tables", uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS, [4, 4, 4])
            },
        ],
        ..sample::plan()
    };
    plan.object.endianness = endianness;
    let mut offset = 0;
    let mut vars = Vec::new();
    for (name, ty) in variables {
        plan.types.push(Type::Var {
            name: (*name).to_owned(),
            to: TypeId(*ty),
            linkage: Linkage::Global,
        });
        let size = plan.size_of(TypeId(*ty)).unwrap();
        let var = TypeId(u32::try_from(plan.types.len()).unwrap());
        vars.push(SecVar { var, offset, size });
        offset += size.next_multiple_of(8);
    }
    let last = vars.last().unwrap();
    let size = last.offset + last.size;
    plan.types.push(Type::Datasec {
        name: ".rodata".into(),
        size,
        vars,
    });
    let section = u32::try_from(plan.types.len()).unwrap();
    plan.kernel_types = section;
    plan.btf = btf::encode(&plan.types, endianness).unwrap().into();
    plan.maps.push(Map {
        map_flags: uapi::BPF_F_RDONLY_PROG,
        value_type: Some(TypeId(section)),
        btf: Some(BtfIds {
            key_type_id: 0,
            value_type_id: section,
        }),
        data: Some(Data::new(&[], size, true)),
        ..sample::map("flow.rodata", uapi::BPF_MAP_TYPE_ARRAY, [4, size, 1])
    });
    validate::validate(&plan).unwrap();
    plan
}

fn int(name: &str, size: u32, encoding: IntEncoding) -> Type {
    Type::Int {
        name: name.into(),
        size,
        bits: u8::try_from(size * 8).unwrap(),
        bit_offset: 0,
        encoding,
    }
}

fn array(element: u32, length: u32) -> Type {
    Type::Array {
        element: TypeId(element),
        index: ID_INT,
        length,
    }
}

/// Variables of many types. Ids: see the list.
fn configured(endianness: Endianness) -> Plan {
    let mode = Enum {
        name: Some("mode".into()),
        size: 4,
        signed: true,
        variants: vec![
            Enumerator {
                name: "OFF".into(),
                value: u64::MAX,
            },
            Enumerator {
                name: "LEARN".into(),
                value: 7,
            },
        ],
    };
    let mut types = vec![
        int("int", 4, IntEncoding::Signed),                  // 1
        int("unsigned short", 2, IntEncoding::Unsigned),     // 2
        int("char", 1, IntEncoding::Signed),                 // 3
        int("_Bool", 1, IntEncoding::Bool),                  // 4
        int("unsigned __int128", 16, IntEncoding::Unsigned), // 5
        Type::Enum(mode),                                    // 6
        Type::Float {
            name: "double".into(),
            size: 8,
        }, // 7
        array(3, 8),                                         // 8: char[8]
        array(2, 4),                                         // 9: unsigned short[4]
        array(8, 2),                                         // 10: char[2][8]
        Type::Ptr { to: TypeId(1) },                         // 11
        Type::Volatile { to: TypeId(1) },                    // 12
        Type::Const { to: TypeId(12) },                      // 13
        array(1, 2),                                         // 14: int[2]
        int("unsigned char", 1, IntEncoding::Unsigned),      // 15
        array(15, 6),                                        // 16: unsigned char[6]
    ];
    let Some(Type::Struct(mut pair)) = sample::plan().types.get(2).cloned() else {
        panic!("the sample has a struct")
    };
    pair.members[0].ty = TypeId(1);
    pair.members[1].ty = TypeId(1);
    types.push(Type::Struct(pair)); // 17: { packets, bytes }
    types.push(array(17, 2)); // 18
    let variables = [
        ("count", 1),
        ("port", 2),
        ("letter", 3),
        ("on", 4),
        ("wide", 5),
        ("mode", 6),
        ("ratio", 7),
        ("device", 8),
        ("ports", 9),
        ("names", 10),
        ("pointer", 11),
        ("limit", 13),
        ("address", 16),
        ("flow", 17),
        ("flows", 18),
        ("value_size", 1),
        ("check.calls", 1),
        ("tail", 14),
    ];
    plan(types, &variables, endianness)
}

fn little() -> Plan {
    configured(Endianness::Little)
}

fn set(texts: &[&str]) -> Overrides {
    texts.iter().fold(Overrides::default(), |all, text| {
        all.with(text.parse().unwrap())
    })
}

#[track_caller]
fn applied(plan: &Plan, overrides: &Overrides) -> Overridden {
    let done = overrides
        .apply(plan)
        .unwrap_or_else(|found| panic!("{found:#?}"));
    validate::validate(&done.plan).unwrap();
    done
}

#[track_caller]
fn refused(plan: &Plan, overrides: &Overrides) -> Diagnostic {
    let found = overrides.apply(plan).expect_err("it is refused");
    let [one] = found.as_slice() else {
        panic!("not one problem: {found:#?}")
    };
    one.clone()
}

/// The bytes of a variable after an override.
#[track_caller]
fn bytes_after(plan: &Plan, text: &str, variable: &str) -> Vec<u8> {
    let done = applied(plan, &set(&[text]));
    let map = done.plan.map("flow.rodata").unwrap();
    assert!(map.data.as_ref().unwrap().frozen);
    let contents = done.plan.contents_by_map();
    let contents = contents.get("flow.rodata").copied().unwrap_or_default();
    let variable = globals::variables(&done.plan, map, contents)
        .find(|it| it.name == variable)
        .unwrap();
    let mut bytes = variable.bytes.to_vec();
    bytes.resize(variable.size as usize, 0);
    bytes
}
