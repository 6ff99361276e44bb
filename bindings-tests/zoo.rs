//! Plans that no compiler makes: names that are hard for Rust, and types at random.

use bpfplan_plan::types::{Composite, Enum, Enumerator, IntEncoding, Member};
use bpfplan_plan::{Map, Object, Plan, Program, Type, TypeId};

/// A plan like `base`, of arrays with these values; no type is for the kernel.
fn plan(base: &Plan, name: &str, types: Vec<Type>, values: &[(&str, u32, u32)]) -> Plan {
    let maps = values.iter().map(|(name, value, size)| Map {
        name: (*name).to_owned(),
        value_size: *size,
        key_type: None,
        value_type: Some(TypeId(*value)),
        btf: None,
        source: None,
        ..base.maps[0].clone()
    });
    Plan {
        object: Object {
            name: format!("{name}.bpf.o"),
            ..base.object.clone()
        },
        maps: maps.collect(),
        types,
        kernel_types: 0,
        btf: bpfplan_plan::Bytes::new(),
        ..base.clone()
    }
}

fn int(size: u32, encoding: IntEncoding) -> Type {
    Type::Int {
        name: "int".to_owned(),
        size,
        bits: u8::try_from(size * 8).unwrap_or(0),
        bit_offset: 0,
        encoding,
    }
}

fn member(name: &str, ty: u32, bit_offset: u32, bits: Option<u8>) -> Member {
    Member {
        name: Some(name.to_owned()),
        ty: TypeId(ty),
        bit_offset,
        bitfield_size: bits,
    }
}

fn composite(name: Option<&str>, size: u32, members: Vec<Member>) -> Composite {
    Composite {
        name: name.map(ToOwned::to_owned),
        size,
        members,
    }
}

/// Names that are keywords, primitives, equal, empty, odd or very long.
pub(crate) fn names(base: &Plan) -> Plan {
    let long = "x".repeat(300);
    let words = [
        "type",
        "self",
        "Self",
        "crate",
        "_",
        "u32",
        "str",
        "FromBytes",
        "Clone",
        "Default",
        "Option",
        "gen",
        "a.b",
        "8",
        "größe",
        "new",
        "len",
        "clone",
        "from_x",
        "into_x",
        "to_x",
        "bytes",
        "_pad0",
        "_bits0",
        &long,
    ];
    let mut types = vec![int(4, IntEncoding::Unsigned)];
    let mut values = Vec::new();
    for name in words {
        // Twice the same name with another content, and once more with the same one.
        for size in [4_u32, 8, 8] {
            let members = words
                .iter()
                .zip(0_u32..)
                .map(|(name, index)| member(name, 1, index * 32, None))
                .take(usize::try_from(size / 4).unwrap_or(0));
            types.push(Type::Struct(composite(Some(name), size, members.collect())));
        }
        types.push(Type::Union(composite(
            Some(name),
            4,
            words.iter().map(|name| member(name, 1, 0, None)).collect(),
        )));
        types.push(Type::Struct(composite(
            Some(name),
            8,
            words
                .iter()
                .zip(0_u32..)
                .map(|(name, index)| member(name, 1, index * 2, Some(2)))
                .collect(),
        )));
        types.push(Type::Enum(Enum {
            name: Some(name.to_owned()),
            size: 4,
            signed: false,
            variants: words
                .iter()
                .zip(0_u64..)
                .map(|(name, value)| Enumerator {
                    name: (*name).to_owned(),
                    value: value / 2,
                })
                .collect(),
        }));
    }
    // Everything at once, so that all of it is reached.
    let mut offset = 0;
    let mut members = Vec::new();
    for (ty, id) in types.iter().zip(1_u32..) {
        let size = match ty {
            Type::Struct(composite) | Type::Union(composite) => composite.size,
            _ => 4,
        };
        members.push(member(
            words[id as usize % words.len()],
            id,
            offset * 8,
            None,
        ));
        offset += size;
    }
    types.push(Type::Struct(composite(Some("everything"), offset, members)));
    let last = u32::try_from(types.len()).unwrap_or(0);
    for name in [
        "type", "self", "Maps", "OpenHard", "report", "plan", "a$b", "8", &long,
    ] {
        values.push((name, last, offset));
    }
    plan(base, "hard", types, &values)
}

/// A plan of an object of that name, with programs of names that are hard for Rust.
pub(crate) fn small(base: &Plan, name: &str) -> Plan {
    let types = vec![int(4, IntEncoding::Unsigned)];
    let programs = ["count", "type", "self", "_", "count"].map(|name| Program {
        name: name.to_owned(),
        section: "xdp`*/".to_owned(),
    });
    Plan {
        programs: programs.to_vec(),
        ..plan(base, name, types, &[("flows", 1, 4)])
    }
}

/// Structs and unions whose members are where chance puts them, overlapping ones among them.
pub(crate) fn random(base: &Plan, seed: u64) -> Plan {
    let mut state = seed;
    let mut next = move |below: u32| {
        // A linear congruential generator (Knuth's constants): the same types every time.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 33).unwrap_or(0) % below
    };
    let mut types = vec![
        int(1, IntEncoding::Bool),
        int(1, IntEncoding::Signed),
        int(2, IntEncoding::Unsigned),
        int(4, IntEncoding::Signed),
        int(8, IntEncoding::Unsigned),
        int(16, IntEncoding::Signed),
        int(3, IntEncoding::Unsigned),
        Type::Ptr { to: TypeId::VOID },
        Type::Float {
            name: "double".to_owned(),
            size: 8,
        },
        Type::Enum(Enum {
            name: None,
            size: 1,
            signed: true,
            variants: vec![Enumerator {
                name: "MINUS".to_owned(),
                value: u64::MAX,
            }],
        }),
    ];
    let mut sizes: Vec<u32> = vec![1, 1, 2, 4, 8, 16, 3, 8, 8, 1];
    let mut values = Vec::new();
    for index in 0..120_u32 {
        let count = u32::try_from(types.len()).unwrap_or(0);
        let pick = next(count);
        let (id, size) = (pick + 1, sizes[pick as usize]);
        if next(4) == 0 {
            let length = next(4);
            types.push(Type::Array {
                element: TypeId(id),
                index: TypeId(4),
                length,
            });
            sizes.push(size * length);
            continue;
        }
        let mut members = Vec::new();
        let mut end = 0;
        for name in ["a", "b", "c", "d"].into_iter().take(next(5) as usize) {
            let pick = next(count);
            let (id, size) = (pick + 1, sizes[pick as usize]);
            if size > 4000 {
                continue;
            }
            if pick < 5 && next(3) == 0 {
                let bits = 1 + next(size * 8);
                members.push(member(name, id, end, u8::try_from(bits).ok()));
                end += bits;
                continue;
            }
            let align = [8, 16, 32, 64][next(4) as usize];
            end = end.next_multiple_of(align);
            if next(10) == 0 {
                // Over the one before it.
                end = end.saturating_sub(8);
            }
            members.push(Member {
                name: (next(4) > 0).then(|| name.to_owned()),
                ..member(name, id, end, None)
            });
            end += size * 8;
        }
        let size = end.div_ceil(8) + next(3);
        let name = (next(3) > 0).then(|| format!("s{index}"));
        let body = composite(name.as_deref(), size, members);
        types.push(if next(4) == 0 {
            Type::Union(body)
        } else {
            Type::Struct(body)
        });
        sizes.push(size);
    }
    let names: Vec<String> = (0..types.len())
        .map(|index| format!("map_{index}"))
        .collect();
    for ((name, size), id) in names.iter().zip(&sizes).zip(1_u32..) {
        values.push((name.as_str(), id, *size));
    }
    plan(base, "random", types, &values)
}
