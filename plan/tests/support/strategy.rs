//! Arbitrary plans: of the right shape, with any contents.

use bpfplan_plan::types::{
    Composite, Enum, Enumerator, IntEncoding, Linkage, Member, Param, SecVar, Type,
};
use bpfplan_plan::{
    BtfIds, Contents, Data, Endianness, Extern, ExternKind, Map, MapType, MaxEntries, Object,
    Pinning, Plan, Program, Slot, SlotTarget, Source, Template, TypeId, WithPrograms, format, uapi,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub fn plan() -> impl Strategy<Value = Plan> {
    (
        object(),
        vec(map(), 0..5),
        vec(
            (text(), text()).prop_map(|(name, section)| Program { name, section }),
            0..3,
        ),
        vec(ty(), 0..12),
        (any::<u32>(), any::<u64>()),
        vec(any::<u8>(), 0..200),
        vec(contents(), 0..3),
    )
        .prop_map(
            |(object, maps, programs, types, numbers, btf, contents)| Plan {
                version: format::VERSION,
                object,
                maps,
                programs,
                jump_tables: numbers.1,
                types,
                kernel_types: numbers.0,
                btf: btf.into(),
                contents,
            },
        )
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_]{0,12}", ".{0,6}"]
}

fn id() -> impl Strategy<Value = TypeId> {
    prop_oneof![0..20_u32, any::<u32>()].prop_map(TypeId)
}

fn object() -> impl Strategy<Value = Object> {
    let fields = (text(), option::of(text()), any::<bool>(), any::<bool>());
    fields.prop_map(|(name, sha256, big, legacy_maps)| Object {
        name,
        sha256,
        legacy_maps,
        endianness: if big {
            Endianness::Big
        } else {
            Endianness::Little
        },
    })
}

fn map() -> impl Strategy<Value = Map> {
    (any_map(), option::of(any_map())).prop_map(|(map, template): (Map, Option<Template>)| Map {
        inner: template.map(Box::new),
        ..map
    })
}

fn extern_value() -> impl Strategy<Value = Extern> {
    let kind = prop_oneof![
        Just(ExternKind::Bool),
        Just(ExternKind::Char),
        Just(ExternKind::UnsignedChar),
        Just(ExternKind::Tristate),
        Just(ExternKind::Signed),
        Just(ExternKind::Unsigned),
        Just(ExternKind::String),
    ];
    let source = option::of(source());
    (text(), kind, any::<[u32; 2]>(), any::<bool>(), source).prop_map(
        |(name, kind, [offset, size], weak, source)| Extern {
            name,
            kind,
            offset,
            size,
            weak,
            source,
        },
    )
}

/// A map without a template.
fn any_map<I: std::fmt::Debug>() -> impl Strategy<Value = Map<I>> {
    let numbers = (
        any::<[u32; 4]>(),
        any::<u64>(),
        map_type(),
        option::of(any::<u32>()),
    );
    let types = (
        option::of(id()),
        option::of(id()),
        option::of(any::<[u32; 2]>()),
    );
    let rest = (
        vec(slot(), 0..4),
        option::of(data()),
        option::of(source()),
        any::<bool>(),
        vec(extern_value(), 0..3),
        option::of(prop_oneof![
            Just(WithPrograms::StructOps),
            Just(WithPrograms::OptionalStructOps),
            Just(WithPrograms::ArenaData),
            Just(WithPrograms::GraphRoot),
        ]),
    );
    (text(), numbers, types, rest).prop_map(|(name, numbers, types, rest)| {
        let ([key_size, value_size, map_flags, numa_node], map_extra, map_type, entries) = numbers;
        let (key_type, value_type, ids) = types;
        let (slots, data, source, pinned, externs, with_programs) = rest;
        Map {
            name,
            map_type,
            key_size,
            value_size,
            max_entries: entries.map_or(MaxEntries::PossibleCpus, MaxEntries::Count),
            map_flags,
            map_extra,
            numa_node,
            pinning: if pinned {
                Pinning::ByName
            } else {
                Pinning::None
            },
            key_type,
            value_type,
            btf: ids.map(|[key_type_id, value_type_id]| BtfIds {
                key_type_id,
                value_type_id,
            }),
            inner: None,
            slots,
            data,
            externs,
            with_programs,
            source,
        }
    })
}

fn map_type() -> impl Strategy<Value = MapType> {
    prop_oneof![0..=uapi::BPF_MAP_TYPE_INSN_ARRAY, any::<u32>()].prop_map(MapType)
}

fn slot() -> impl Strategy<Value = Slot> {
    (any::<u32>(), text(), any::<bool>()).prop_map(|(index, name, program)| Slot {
        index,
        target: if program {
            SlotTarget::Program(name)
        } else {
            SlotTarget::Map(name)
        },
    })
}

fn data() -> impl Strategy<Value = Data> {
    let hash = text().prop_map(|hash| Some(hash).filter(|hash| !hash.is_empty()));
    (any::<u32>(), hash, any::<bool>()).prop_map(|(size, sha256, frozen)| Data {
        size,
        sha256,
        frozen,
    })
}

fn contents() -> impl Strategy<Value = Contents> {
    (text(), vec(any::<u8>(), 0..100)).prop_map(|(map, bytes)| Contents {
        map,
        bytes: bytes.into(),
    })
}

fn source() -> impl Strategy<Value = Source> {
    (text(), any::<u32>()).prop_map(|(file, line)| Source {
        file: file.into(),
        line,
    })
}

fn composite() -> impl Strategy<Value = Composite> {
    let member = (
        option::of(text()),
        id(),
        any::<u32>(),
        option::of(any::<u8>()),
    )
        .prop_map(|(name, ty, bit_offset, bitfield_size)| Member {
            name,
            ty,
            bit_offset,
            bitfield_size,
        });
    (option::of(text()), any::<u32>(), vec(member, 0..4)).prop_map(|(name, size, members)| {
        Composite {
            name,
            size,
            members,
        }
    })
}

fn enumeration() -> impl Strategy<Value = Enum> {
    let variant = (text(), any::<u64>()).prop_map(|(name, value)| Enumerator { name, value });
    (
        option::of(text()),
        any::<u32>(),
        any::<bool>(),
        vec(variant, 0..4),
    )
        .prop_map(|(name, size, signed, variants)| Enum {
            name,
            size,
            signed,
            variants,
        })
}

fn int() -> impl Strategy<Value = Type> {
    let encoding = prop_oneof![
        Just(IntEncoding::Unsigned),
        Just(IntEncoding::Signed),
        Just(IntEncoding::Char),
        Just(IntEncoding::Bool),
    ];
    (text(), any::<u32>(), any::<u8>(), any::<u8>(), encoding).prop_map(
        |(name, size, bits, bit_offset, encoding)| Type::Int {
            name,
            size,
            bits,
            bit_offset,
            encoding,
        },
    )
}

fn section() -> impl Strategy<Value = Type> {
    let var = (id(), any::<u32>(), any::<u32>()).prop_map(|(var, offset, size)| SecVar {
        var,
        offset,
        size,
    });
    (text(), any::<u32>(), vec(var, 0..4)).prop_map(|(name, size, vars)| Type::Datasec {
        name,
        size,
        vars,
    })
}

fn variable() -> impl Strategy<Value = Type> {
    let linkage = prop_oneof![
        Just(Linkage::Static),
        Just(Linkage::Global),
        Just(Linkage::Extern)
    ];
    (text(), id(), linkage).prop_map(|(name, to, linkage)| Type::Var { name, to, linkage })
}

fn proto() -> impl Strategy<Value = Type> {
    let param = (option::of(text()), id()).prop_map(|(name, ty)| Param { name, ty });
    (id(), vec(param, 0..4)).prop_map(|(returns, params)| Type::FuncProto { returns, params })
}

pub fn ty() -> impl Strategy<Value = Type> {
    let tagged = (text(), id(), option::of(any::<u32>()), any::<bool>());
    prop_oneof![
        int(),
        id().prop_map(|to| Type::Ptr { to }),
        (id(), id(), any::<u32>()).prop_map(|(element, index, length)| Type::Array {
            element,
            index,
            length
        }),
        composite().prop_map(Type::Struct),
        composite().prop_map(Type::Union),
        enumeration().prop_map(Type::Enum),
        enumeration().prop_map(Type::Enum64),
        (text(), any::<bool>()).prop_map(|(name, union)| Type::Fwd { name, union }),
        (text(), id()).prop_map(|(name, to)| Type::Typedef { name, to }),
        id().prop_map(|to| Type::Volatile { to }),
        id().prop_map(|to| Type::Const { to }),
        id().prop_map(|to| Type::Restrict { to }),
        proto(),
        variable(),
        section(),
        (text(), any::<u32>()).prop_map(|(name, size)| Type::Float { name, size }),
        tagged.prop_map(|(value, to, component, attribute)| Type::DeclTag {
            value,
            to,
            component,
            attribute,
        }),
        (text(), id(), any::<bool>()).prop_map(|(value, to, attribute)| Type::TypeTag {
            value,
            to,
            attribute
        }),
    ]
}
