//! A valid plan with a bit of everything: the one in `tests/samples/`.

use bpfplan_plan::types::{
    Composite, Enum, Enumerator, IntEncoding, Linkage, Member, Param, SecVar, Type,
};
use bpfplan_plan::{
    BtfIds, Contents, Data, Endianness, Map, MapType, MaxEntries, Object, Pinning, Plan, Program,
    Slot, SlotTarget, Source, Template, TypeId, btf, format, uapi,
};

pub fn plan() -> Plan {
    let types = types();
    let kernel_types = 4;
    Plan {
        version: format::VERSION,
        object: Object {
            name: "flow.bpf.o".into(),
            sha256: Some("0123456789abcdef".repeat(4)),
            endianness: Endianness::Little,
            legacy_maps: false,
        },
        maps: maps(),
        programs: vec![Program {
            name: "classify".into(),
            section: "xdp".into(),
        }],
        jump_tables: 24,
        btf: btf::encode(&types[..kernel_types], Endianness::Little)
            .expect("small types")
            .into(),
        types,
        kernel_types: 4,
        contents: vec![
            Contents {
                map: "flow.data".into(),
                bytes: vec![7, 0, 1].into(),
            },
            Contents {
                map: ".rodata.limits".into(),
                bytes: (1..=50).collect(),
            },
        ],
    }
}

fn types() -> Vec<Type> {
    let int = |name: &str, size: u32, encoding| Type::Int {
        name: name.into(),
        size,
        bits: u8::try_from(size * 8).expect("a small int"),
        bit_offset: 0,
        encoding,
    };
    let member = |name: &str, ty: u32, bit_offset: u32, bitfield_size| Member {
        name: Some(name.into()),
        ty: TypeId(ty),
        bit_offset,
        bitfield_size,
    };
    let variant = |name: &str, value: u64| Enumerator {
        name: name.into(),
        value,
    };
    vec![
        int("int", 4, IntEncoding::Signed),
        int("unsigned long long", 8, IntEncoding::Unsigned),
        Type::Struct(Composite {
            name: Some("flow".into()),
            size: 8,
            members: vec![member("packets", 1, 0, None), member("bytes", 1, 32, None)],
        }),
        Type::Typedef {
            name: "flow_t".into(),
            to: TypeId(3),
        },
        // From here on the types only describe.
        int("char", 1, IntEncoding::Char),
        int("_Bool", 1, IntEncoding::Bool),
        Type::Ptr { to: TypeId(3) },
        Type::Array {
            element: TypeId(5),
            index: TypeId(1),
            length: 16,
        },
        Type::Union(Composite {
            name: None,
            size: 4,
            members: vec![member("low", 1, 0, Some(3)), member("high", 1, 3, Some(29))],
        }),
        Type::Enum(Enum {
            name: Some("verdict".into()),
            size: 4,
            signed: true,
            variants: vec![variant("DROP", u64::MAX), variant("PASS", 1)],
        }),
        Type::Enum64(Enum {
            name: None,
            size: 8,
            signed: false,
            variants: vec![variant("HUGE", 1 << 40)],
        }),
        Type::Fwd {
            name: "task_struct".into(),
            union: false,
        },
        Type::Volatile { to: TypeId(1) },
        Type::Const { to: TypeId(13) },
        Type::Restrict { to: TypeId(7) },
        Type::FuncProto {
            returns: TypeId(1),
            params: vec![
                Param {
                    name: Some("ctx".into()),
                    ty: TypeId(7),
                },
                Param {
                    name: None,
                    ty: TypeId::VOID,
                },
            ],
        },
        Type::Var {
            name: "counter".into(),
            to: TypeId(2),
            linkage: Linkage::Global,
        },
        Type::Datasec {
            name: ".data".into(),
            size: 8,
            vars: vec![SecVar {
                var: TypeId(17),
                offset: 0,
                size: 8,
            }],
        },
        Type::Float {
            name: "double".into(),
            size: 8,
        },
        Type::DeclTag {
            value: "contains:node:link".into(),
            to: TypeId(3),
            component: Some(1),
            attribute: false,
        },
        Type::TypeTag {
            value: "kptr".into(),
            to: TypeId(12),
            attribute: false,
        },
    ]
}

/// A map without anything that is optional.
pub fn map<I>(name: &str, map_type: u32, sizes: [u32; 3]) -> Map<I> {
    Map::new(
        name,
        MapType(map_type),
        sizes[0],
        sizes[1],
        MaxEntries::Count(sizes[2]),
    )
}

/// Gives an 8-byte array the sample's types.
pub fn typed<I>(map: Map<I>) -> Map<I> {
    Map {
        key_type: Some(TypeId(1)),
        value_type: Some(TypeId(4)),
        btf: Some(BtfIds {
            key_type_id: 1,
            value_type_id: 4,
        }),
        ..map
    }
}

fn maps() -> Vec<Map> {
    let source = |line| {
        Some(Source {
            file: "src/flow.bpf.c".into(),
            line,
        })
    };
    let array = |name: &str, line| Map {
        source: source(line),
        ..typed(map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 8, 16]))
    };
    let template: Template = typed(map("luts.inner", uapi::BPF_MAP_TYPE_ARRAY, [4, 8, 16]));
    let slot = |index, name: &str| Slot {
        index,
        target: SlotTarget::Map(name.into()),
    };
    vec![
        array("lut_0", 12),
        array("lut_1", 13),
        Map {
            inner: Some(Box::new(template)),
            slots: vec![slot(0, "lut_0"), slot(3, "lut_1")],
            source: source(20),
            ..map("luts", uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS, [4, 4, 4])
        },
        Map {
            max_entries: MaxEntries::PossibleCpus,
            pinning: Pinning::ByName,
            ..map("events", uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY, [4, 4, 0])
        },
        Map {
            slots: vec![Slot {
                index: 1,
                target: SlotTarget::Program("tail".into()),
            }],
            ..map("tails", uapi::BPF_MAP_TYPE_PROG_ARRAY, [4, 4, 8])
        },
        Map {
            map_extra: 3,
            ..map("seen", uapi::BPF_MAP_TYPE_BLOOM_FILTER, [0, 8, 1000])
        },
        Map {
            map_flags: uapi::BPF_F_NUMA_NODE,
            numa_node: 1,
            ..map("later", 4711, [4, 8, 1000])
        },
        Map {
            map_flags: uapi::BPF_F_MMAPABLE,
            value_type: Some(TypeId(18)),
            data: Some(Data::new(&[7, 0, 1], 8, false)),
            ..map("flow.data", uapi::BPF_MAP_TYPE_ARRAY, [4, 8, 1])
        },
        Map {
            map_flags: uapi::BPF_F_RDONLY_PROG,
            data: Some(Data::new(&(1..=50).collect::<Vec<u8>>(), 64, true)),
            ..map(".rodata.limits", uapi::BPF_MAP_TYPE_ARRAY, [4, 64, 1])
        },
        Map {
            data: Some(Data::new(&[], 4096, false)),
            ..map("flow.bss", uapi::BPF_MAP_TYPE_ARRAY, [4, 4096, 1])
        },
    ]
}
