//! Which types a plan holds: pruning, order, and what the kernel gets.
// Tests fail by panicking.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod builder;

use bpfplan_compiler::{Options, codes, compile};
use bpfplan_plan::types::{Composite, Enum, Enumerator, Member, Param, Type, TypeId};
use bpfplan_plan::{Endianness, Plan, btf, uapi};
use builder::Maps;

fn plan(maps: &Maps) -> Plan {
    let object = maps.object();
    let compiled = compile(&object, "test.bpf.o", &Options::default()).unwrap();
    bpfplan_plan::validate::validate(&compiled.plan).unwrap();
    compiled.plan
}

/// A HASH map from `int` to the given type of `size` bytes.
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

fn tag(maps: &mut Maps, value: &str, to: TypeId) -> TypeId {
    maps.add(Type::TypeTag {
        value: value.to_owned(),
        to,
        attribute: false,
    })
}

/// The plan's structs by name.
fn structs(plan: &Plan) -> Vec<String> {
    let name = |ty: &Type| match ty {
        Type::Struct(composite) => composite.name.clone(),
        _ => None,
    };
    plan.types.iter().filter_map(name).collect()
}

fn forwards(plan: &Plan) -> Vec<String> {
    let name = |ty: &Type| match ty {
        Type::Fwd { name, .. } => Some(name.clone()),
        _ => None,
    };
    plan.types.iter().filter_map(name).collect()
}

#[test]
fn plain_pointers_keep_a_name() {
    let mut maps = Maps::new();
    let big = maps.structure(Some("big"), &[("a", maps.int()), ("b", maps.int())]);
    let constant = maps.add(Type::Const { to: big });
    let named = maps.add(Type::Typedef {
        name: "big_t".to_owned(),
        to: constant,
    });
    let members = [
        ("direct", maps.pointer(big)),
        ("named", maps.pointer(named)),
        ("again", maps.pointer(big)),
    ];
    let value = maps.structure(Some("value"), &members);
    hash(&mut maps, "table", value);
    let plan = plan(&maps);
    assert_eq!(structs(&plan), ["value"]);
    assert_eq!(forwards(&plan), ["big"], "one declaration for all pointers");
    assert!(
        plan.types
            .iter()
            .any(|ty| matches!(ty, Type::Typedef { name, .. } if name == "big_t"))
    );
}

#[test]
fn tagged_pointers_keep_their_struct() {
    for kind in ["kptr", "kptr_untrusted", "percpu_kptr", "rcu", "user"] {
        let mut maps = Maps::new();
        let inner = maps.structure(Some("inner"), &[("a", maps.int())]);
        let members = [("plain", maps.pointer(inner)), ("number", maps.int())];
        let target = maps.structure(Some("target"), &members);
        let tagged = tag(&mut maps, kind, target);
        let held = maps.pointer(tagged);
        let value = maps.structure(Some("value"), &[("held", held)]);
        hash(&mut maps, "table", value);
        let plan = plan(&maps);
        assert_eq!(structs(&plan), ["value", "target"], "{kind}");
        assert_eq!(forwards(&plan), ["inner"], "{kind}");
    }
}

#[test]
fn a_struct_can_be_whole_and_forward() {
    let mut maps = Maps::new();
    let this = TypeId(u32::try_from(maps.types.len()).unwrap() + 2);
    let next = maps.pointer(this);
    let node = maps.structure(Some("node"), &[("next", next)]);
    hash(&mut maps, "table", node);
    let plan = plan(&maps);
    assert_eq!(structs(&plan), ["node"]);
    assert_eq!(forwards(&plan), ["node"]);
}

#[test]
fn anonymous_pointees_and_values_stay() {
    let mut maps = Maps::new();
    let anonymous = maps.structure(None, &[("a", maps.int())]);
    let whole = maps.structure(Some("whole"), &[("a", maps.int())]);
    let row = maps.add(Type::Array {
        element: whole,
        index: maps.int(),
        length: 2,
    });
    let members = [
        ("pointer", maps.pointer(anonymous)),
        ("row", maps.pointer(row)),
    ];
    let value = maps.structure(Some("value"), &members);
    hash(&mut maps, "table", value);
    let plan = plan(&maps);
    assert_eq!(
        structs(&plan),
        ["value", "whole"],
        "an array's elements need a size"
    );
    assert!(forwards(&plan).is_empty());
}

#[test]
fn tags_count_through_qualifiers_and_typedefs() {
    type Wrap = fn(&mut Maps, TypeId) -> TypeId;
    let wraps: [Wrap; 4] = [
        |maps, to| maps.add(Type::Const { to }),
        |maps, to| maps.add(Type::Volatile { to }),
        |maps, to| {
            maps.add(Type::Typedef {
                name: "target_t".to_owned(),
                to,
            })
        },
        |maps, to| {
            let to = maps.add(Type::Const { to });
            maps.add(Type::Volatile { to })
        },
    ];
    for wrap in wraps {
        // Around the pointee, and around the pointer.
        let mut maps = Maps::new();
        let target = maps.structure(Some("target"), &[("number", maps.int())]);
        let target = wrap(&mut maps, target);
        let tagged = tag(&mut maps, "kptr", target);
        let pointer = maps.pointer(tagged);
        let held = wrap(&mut maps, pointer);
        let value = maps.structure(Some("value"), &[("held", held)]);
        hash(&mut maps, "table", value);
        assert_eq!(structs(&plan(&maps)), ["value", "target"]);
    }
}

#[test]
fn function_pointers_keep_what_they_take_by_value() {
    let mut maps = Maps::new();
    let taken = maps.structure(Some("taken"), &[("a", maps.int())]);
    let given = maps.structure(Some("given"), &[("a", maps.int())]);
    let seen = maps.structure(Some("seen"), &[("a", maps.int())]);
    let param = |ty| Param { name: None, ty };
    let params = vec![param(taken), param(maps.pointer(seen)), param(TypeId::VOID)];
    let proto = maps.add(Type::FuncProto {
        returns: given,
        params,
    });
    let value = maps.pointer(proto);
    let value = maps.structure(Some("value"), &[("call", value)]);
    hash(&mut maps, "table", value);
    let plan = plan(&maps);
    assert_eq!(structs(&plan), ["value", "given", "taken"]);
    assert_eq!(forwards(&plan), ["seen"]);
}

#[test]
fn pointers_behind_pointers_and_in_arrays_are_cut() {
    let mut maps = Maps::new();
    let target = maps.structure(Some("target"), &[("a", maps.int())]);
    let named = maps.add(Type::Typedef {
        name: "target_t".to_owned(),
        to: target,
    });
    let pointer = maps.pointer(named);
    let twice = maps.pointer(pointer);
    let row = maps.add(Type::Array {
        element: pointer,
        index: maps.int(),
        length: 3,
    });
    let value = maps.structure(Some("value"), &[("twice", twice), ("row", row)]);
    hash(&mut maps, "table", value);
    let plan = plan(&maps);
    assert_eq!(structs(&plan), ["value"]);
    assert_eq!(forwards(&plan), ["target"]);
    let typedefs = plan.types.iter();
    let typedefs = typedefs.filter(|ty| matches!(ty, Type::Typedef { .. }));
    assert_eq!(typedefs.count(), 1);
}

#[test]
fn types_of_one_name_stay_apart() {
    let mut maps = Maps::new();
    let one = maps.structure(Some("foo"), &[("a", maps.int())]);
    let other = maps.structure(Some("foo"), &[("b", maps.int())]);
    let union = maps.add(Type::Union(Composite {
        name: Some("foo".to_owned()),
        size: 8,
        members: Vec::new(),
    }));
    let members = [
        ("one", one),
        ("other", other),
        ("to_one", maps.pointer(one)),
        ("to_other", maps.pointer(other)),
        ("to_union", maps.pointer(union)),
    ];
    let value = maps.structure(Some("value"), &members);
    hash(&mut maps, "table", value);
    let plan = plan(&maps);
    assert_eq!(structs(&plan), ["value", "foo", "foo"]);
    let forwards: Vec<bool> = plan
        .types
        .iter()
        .filter_map(|ty| match ty {
            Type::Fwd { union, .. } => Some(*union),
            _ => None,
        })
        .collect();
    assert_eq!(forwards, [false, true], "one struct, one union");
}

#[test]
fn bits_and_wide_enums_survive() {
    let mut maps = Maps::new();
    let wide = maps.add(Type::Enum64(Enum {
        name: Some("wide".to_owned()),
        size: 8,
        signed: true,
        variants: vec![Enumerator {
            name: "LEAST".to_owned(),
            value: i64::MIN.cast_unsigned(),
        }],
    }));
    let member = |name: &str, ty, bit_offset, bitfield_size| Member {
        name: Some(name.to_owned()),
        ty,
        bit_offset,
        bitfield_size,
    };
    let value = Composite {
        name: Some("value".to_owned()),
        size: 16,
        members: vec![
            member("low", maps.int(), 0, Some(3)),
            member("high", maps.int(), 3, Some(29)),
            member("wide", wide, 64, None),
        ],
    };
    let id = maps.add(Type::Struct(value.clone()));
    hash(&mut maps, "table", id);
    let plan = plan(&maps);
    let found = plan.types.iter().find_map(|ty| match ty {
        Type::Struct(composite) => Some(composite.members.clone()),
        _ => None,
    });
    let places = |members: &[Member]| -> Vec<_> {
        let places = members.iter();
        places.map(|it| (it.bit_offset, it.bitfield_size)).collect()
    };
    assert_eq!(places(&found.unwrap()), places(&value.members));
    let wide = plan.types.iter().find_map(|ty| match ty {
        Type::Enum64(list) => Some((list.signed, list.variants[0].value)),
        _ => None,
    });
    assert_eq!(wide, Some((true, i64::MIN.cast_unsigned())));
}

#[test]
fn bitfields_beside_a_lock_cost_one_map_its_types() {
    let mut maps = Maps::new();
    let lock = maps.structure(Some("bpf_spin_lock"), &[("val", maps.int())]);
    if let Some(Type::Struct(lock)) = maps.types.last_mut() {
        lock.size = 4;
    }
    let member = |ty, bit_offset, bitfield_size| Member {
        name: None,
        ty,
        bit_offset,
        bitfield_size,
    };
    let value = maps.add(Type::Struct(Composite {
        name: Some("value".to_owned()),
        size: 12,
        members: vec![
            member(maps.int(), 0, Some(3)),
            member(maps.int(), 3, Some(5)),
            member(lock, 64, None),
        ],
    }));
    hash(&mut maps, "locked", value);
    let number = maps.int();
    hash(&mut maps, "plain", number);
    let compiled = compile(&maps.object(), "x", &Options::default()).unwrap();
    let btf: Vec<bool> = compiled
        .plan
        .maps
        .iter()
        .map(|it| it.btf.is_some())
        .collect();
    assert_eq!(
        btf,
        [false, true],
        "the kernel refuses BTF with that struct"
    );
    let codes: Vec<_> = compiled.warnings.iter().map(|it| it.code).collect();
    assert_eq!(codes, [codes::BTF_DROPPED]);
}

#[test]
fn decl_tags_follow_what_they_tag() {
    let mut maps = Maps::new();
    let list = Composite {
        name: Some("bpf_list_head".to_owned()),
        size: 16,
        members: vec![Member {
            name: Some("opaque".to_owned()),
            ty: maps.int(),
            bit_offset: 0,
            bitfield_size: None,
        }],
    };
    let head = maps.add(Type::Struct(list));
    let value = maps.structure(Some("value"), &[("rest", maps.int()), ("head", head)]);
    maps.structure(Some("item"), &[("link", maps.int())]);
    maps.structure(Some("other"), &[("link", maps.int())]);
    let contains = Type::DeclTag {
        value: "contains:item:link".to_owned(),
        to: value,
        component: Some(1),
        attribute: false,
    };
    maps.add(contains);
    hash(&mut maps, "table", value);
    let plan = plan(&maps);
    let mut names = structs(&plan);
    names.sort();
    assert_eq!(names, ["bpf_list_head", "item", "value"]);
    let tags = plan
        .types
        .iter()
        .filter_map(|ty| match ty {
            Type::DeclTag { component, .. } => Some(*component),
            _ => None,
        })
        .collect::<Vec<_>>();
    assert_eq!(tags, [Some(1)]);
}

#[test]
fn what_the_kernel_does_not_get_is_described() {
    let mut maps = Maps::new();
    let value = maps.structure(Some("message"), &[("a", maps.int())]);
    // A QUEUE takes no BTF.
    let members = [
        ("type", maps.number(uapi::BPF_MAP_TYPE_QUEUE)),
        ("max_entries", maps.number(4)),
        ("value", maps.pointer(value)),
    ];
    let ty = maps.structure(None, &members);
    maps.variable("queue", ty, 24);
    let number = maps.int();
    hash(&mut maps, "table", number);
    let plan = plan(&maps);
    assert_eq!(plan.kernel_types, 1);
    assert_eq!(plan.types.len(), 2, "{:?}", plan.types);
    assert!(
        matches!(plan.types[0], Type::Int { .. }),
        "the kernel's types come first"
    );
    assert_eq!(plan.maps[0].btf, None);
    assert_eq!(plan.maps[0].value_type, Some(TypeId(2)));
    let ids = plan.maps[1].btf.unwrap();
    assert_eq!((ids.key_type_id, ids.value_type_id), (1, 1));
    assert_eq!(
        plan.btf,
        btf::encode(&plan.types[..1], Endianness::Little).unwrap()
    );
}

#[test]
fn dropped_types_are_said() {
    let mut maps = Maps::new();
    let key = maps.structure(Some("key"), &[("a", maps.int())]);
    let members = [
        ("type", maps.number(uapi::BPF_MAP_TYPE_HASH)),
        ("max_entries", maps.number(4)),
        ("key", maps.pointer(key)),
        ("value_size", maps.number(4)),
    ];
    let ty = maps.structure(None, &members);
    maps.variable("table", ty, 32);
    let compiled = compile(&maps.object(), "x", &Options::default()).unwrap();
    assert_eq!(compiled.plan.maps[0].btf, None);
    assert!(compiled.plan.btf.is_empty());
    let codes: Vec<_> = compiled.warnings.iter().map(|it| it.code).collect();
    assert_eq!(codes, [codes::BTF_DROPPED]);
}

#[test]
fn both_byte_orders_give_the_same_types() {
    let make = |endianness| {
        let mut maps = Maps::new();
        maps.endianness = endianness;
        maps.array("table");
        maps.outer("outer");
        plan(&maps)
    };
    let (little, big) = (make(Endianness::Little), make(Endianness::Big));
    assert_eq!(little.types, big.types);
    assert_eq!(little.maps, big.maps);
    assert_ne!(little.btf, big.btf);
}

#[test]
fn codes_are_unique_and_ascending() {
    let all: Vec<&str> = codes::ALL.iter().map(|(code, _)| code.0).collect();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(all, sorted);
}
