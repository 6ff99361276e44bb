//! Plans made by hand, so that the loader is tested without a compiler.

#![allow(dead_code)] // every test uses some of it

pub(crate) mod maps;
pub(crate) mod program;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use bpfplan_plan::types::{Composite, IntEncoding, Member};
use bpfplan_plan::{
    BtfIds, Contents, Data, Endianness, Map, MapType, MaxEntries, Object, Plan, Slot, SlotTarget,
    Source, Template, Type, TypeId, btf, format, uapi,
};

/// `unsigned int`.
pub(crate) const U32: TypeId = TypeId(1);
/// `struct pair { unsigned int a, b; }`.
pub(crate) const PAIR: TypeId = TypeId(2);

/// A map without slots; its type ids go to the kernel.
pub(crate) fn map<I>(name: &str, map_type: u32, sizes: [u32; 2], max_entries: u32) -> Map<I> {
    let ids = (sizes == [4, 8]).then_some((U32, PAIR));
    Map {
        key_type: ids.map(|ids| ids.0),
        value_type: ids.map(|ids| ids.1),
        btf: ids.map(|ids| BtfIds {
            key_type_id: ids.0.0,
            value_type_id: ids.1.0,
        }),
        source: Some(Source {
            file: "sample.bpf.c".into(),
            line: 7,
        }),
        ..Map::new(
            name,
            MapType(map_type),
            sizes[0],
            sizes[1],
            MaxEntries::Count(max_entries),
        )
    }
}

/// An outer map with slots.
pub(crate) fn outer(
    name: &str,
    map_type: u32,
    max_entries: u32,
    template: Template,
    slots: &[(u32, &str)],
) -> Map {
    let slots = slots.iter().map(|(index, target)| Slot {
        index: *index,
        target: SlotTarget::Map((*target).to_owned()),
    });
    let mut template = template;
    template.name = format!("{name}.inner");
    template.source = None;
    Map {
        inner: Some(Box::new(template)),
        slots: slots.collect(),
        ..map(name, map_type, [4, 4], max_entries)
    }
}

/// A plan with these maps, with BTF if one of them wants it.
pub(crate) fn plan(maps: Vec<Map>) -> Plan {
    let wants_btf = maps.iter().any(|map| {
        map.btf.is_some()
            || map
                .inner
                .as_deref()
                .is_some_and(|inner| inner.btf.is_some())
    });
    let types = if wants_btf { types() } else { Vec::new() };
    let btf = if wants_btf {
        btf::encode(&types, Endianness::NATIVE).expect("the sample types encode")
    } else {
        Vec::new()
    };
    Plan {
        version: format::VERSION,
        object: Object {
            name: "sample.bpf.o".to_owned(),
            sha256: None,
            endianness: Endianness::NATIVE,
            legacy_maps: false,
        },
        maps,
        programs: Vec::new(),
        jump_tables: 0,
        kernel_types: types.len().try_into().expect("few types"),
        types,
        btf: btf.into(),
        contents: Vec::new(),
    }
}

/// Two maps of global data, without types: a writable one and a read-only one.
pub(crate) fn global_data() -> Plan {
    let array = |name: &str, flags, data: Data| Map {
        map_flags: flags,
        data: Some(data),
        source: None,
        ..map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 12], 1)
    };
    let (writable, constant) = (vec![1, 2, 3], vec![4; 12]);
    let read_only = uapi::BPF_F_MMAPABLE | uapi::BPF_F_RDONLY_PROG;
    let mut plan = plan(vec![
        array(
            "sample.data",
            uapi::BPF_F_MMAPABLE,
            Data::new(&writable, 12, false),
        ),
        array("sample.rodata", read_only, Data::new(&constant, 12, true)),
        array(
            "sample.bss",
            uapi::BPF_F_MMAPABLE,
            Data::new(&[], 12, false),
        ),
    ]);
    plan.contents = vec![
        Contents {
            map: "sample.data".to_owned(),
            bytes: writable.into(),
        },
        Contents {
            map: "sample.rodata".to_owned(),
            bytes: constant.into(),
        },
    ];
    plan
}

fn types() -> Vec<Type> {
    let member = |name: &str, bit_offset| Member {
        name: Some(name.to_owned()),
        ty: U32,
        bit_offset,
        bitfield_size: None,
    };
    vec![
        Type::Int {
            name: "unsigned int".to_owned(),
            size: 4,
            bits: 32,
            bit_offset: 0,
            encoding: IntEncoding::Unsigned,
        },
        Type::Struct(Composite {
            name: Some("pair".to_owned()),
            size: 8,
            members: vec![member("a", 0), member("b", 32)],
        }),
    ]
}

/// Replaces the types of a plan and encodes them anew.
pub(crate) fn with_types(mut plan: Plan, types: Vec<Type>) -> Plan {
    plan.btf = btf::encode(&types, Endianness::NATIVE)
        .expect("the types encode")
        .into();
    plan.kernel_types = types.len().try_into().expect("few types");
    plan.types = types;
    plan
}

/// Makes the first member of `struct pair` a spin lock.
pub(crate) fn with_spin_lock(plan: Plan) -> Plan {
    let mut types = plan.types.clone();
    let Some(Type::Struct(pair)) = types.get_mut(1) else {
        panic!("type 2 is the struct")
    };
    pair.members[0].ty = TypeId(3);
    types.push(Type::Struct(Composite {
        name: Some("bpf_spin_lock".to_owned()),
        size: 4,
        members: vec![Member {
            name: Some("val".to_owned()),
            ty: U32,
            bit_offset: 0,
            bitfield_size: None,
        }],
    }));
    with_types(plan, types)
}

/// Two inner arrays with BTF, an outer array with slots 0 and 2 of 4, declared before the second.
pub(crate) fn array_of_maps() -> Plan {
    let inner = |name: &str| map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 16);
    let template = map("", uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 16);
    plan(vec![
        inner("lut_0"),
        outer(
            "luts",
            uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
            4,
            template,
            &[(0, "lut_0"), (2, "lut_1")],
        ),
        inner("lut_1"),
    ])
}

/// A hash of maps, ring buffers, and a map sized by the machine.
pub(crate) fn mixed() -> Plan {
    let inner = |name: &str| map(name, uapi::BPF_MAP_TYPE_HASH, [4, 4], 8);
    let mut events = map("events", uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY, [4, 4], 0);
    events.max_entries = MaxEntries::PossibleCpus;
    let template = map("", uapi::BPF_MAP_TYPE_HASH, [4, 4], 8);
    plan(vec![
        inner("in_a"),
        inner("in_b"),
        outer(
            "by_key",
            uapi::BPF_MAP_TYPE_HASH_OF_MAPS,
            8,
            template,
            &[(1, "in_a"), (5, "in_b"), (6, "in_a")],
        ),
        map("ring", uapi::BPF_MAP_TYPE_RINGBUF, [0, 0], 4096),
        events,
    ])
}

/// Two outer maps with many slots.
pub(crate) fn many_slots() -> Plan {
    let names: Vec<String> = (0..64).map(|index| format!("in_{index}")).collect();
    let mut maps: Vec<Map> = names
        .iter()
        .map(|name| map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1))
        .collect();
    let slots: Vec<(u32, &str)> = (0..)
        .zip(&names)
        .map(|(index, name)| (index, name.as_str()))
        .collect();
    for name in ["left", "right"] {
        let template = map("", uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1);
        maps.push(outer(
            name,
            uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
            64,
            template,
            &slots,
        ));
    }
    plan(maps)
}

/// Maps that are worth being created at the same time, and one that holds some of them.
pub(crate) fn large_maps() -> Plan {
    let hash = |name: &str, size| map(name, uapi::BPF_MAP_TYPE_HASH, [4, 8], size);
    let counters = |name: &str| map(name, uapi::BPF_MAP_TYPE_PERCPU_ARRAY, [4, 8], 1024);
    plan(vec![
        hash("small", 4),
        hash("left", 16_384),
        counters("counters"),
        outer(
            "tables",
            uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
            4,
            map("", uapi::BPF_MAP_TYPE_HASH, [4, 8], 16_384),
            &[(0, "left"), (2, "right")],
        ),
        hash("right", 16_384),
        counters("errors"),
    ])
}

/// Large maps that are created while slots are filled.
pub(crate) fn large_beside_slots() -> Plan {
    let hash = |name: &str| map(name, uapi::BPF_MAP_TYPE_HASH, [4, 8], 1 << 18);
    let table = |name: &str| map(name, uapi::BPF_MAP_TYPE_HASH, [4, 8], 4);
    plan(vec![
        hash("left"),
        table("table"),
        outer(
            "tables",
            uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
            4,
            map("", uapi::BPF_MAP_TYPE_HASH, [4, 8], 4),
            &[(1, "table")],
        ),
        hash("right"),
    ])
}

/// The samples with their names.
pub(crate) fn all() -> [(&'static str, Plan); 5] {
    [
        ("large_maps", large_maps()),
        ("large_beside_slots", large_beside_slots()),
        ("array_of_maps", array_of_maps()),
        ("mixed", mixed()),
        ("many_slots", many_slots()),
    ]
}

/// A pin directory that nothing else uses, removed with all that is in it when dropped.
#[derive(Debug)]
pub(crate) struct PinDir(pub(crate) PathBuf);

impl PinDir {
    /// A path in the bpffs; nothing is there yet.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bpfplan-test-{}-{number}", std::process::id());
        Self(PathBuf::from("/sys/fs/bpf").join(name))
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        // Nothing is there unless a test has failed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
