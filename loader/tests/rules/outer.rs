//! Templates and slots of outer maps.

use std::collections::BTreeMap;

use bpfplan_plan::model::NoTemplate;
use bpfplan_plan::rules::{self, KernelVersion};
use bpfplan_plan::types::{Composite, IntEncoding, Member, Type};
use bpfplan_plan::{
    BtfIds, Code, Endianness, Map, MaxEntries, Object, Plan, Slot, SlotTarget, Template, TypeId,
    btf, codes, format, uapi,
};
use libtest_mimic::Failed;

use crate::kernel::{self, Btf};
use crate::random::Random;
use crate::types::{VALID, map, needs_btf};

const ARRAY_OF_MAPS: (u32, u32, u32, u32, u32) = (uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 4, 0);

/// Every map type as a template: the lint says which ones the kernel takes.
pub fn templates_agree(running: KernelVersion) -> Result<(), Failed> {
    let array =
        kernel::create(&map::<Template>(&VALID[1]), None, None).map_err(rules::errno_name)?;
    let mut problems = Vec::new();
    let mut compared = 0;
    for valid in VALID {
        let template = map::<NoTemplate>(valid);
        if rules::needs(&template, &[]).is_none_or(|(since, _)| since > running) {
            continue;
        }
        let mut found = plan(vec![outer(template.clone(), Vec::new())]);
        let (types, ids) = int_and_bytes();
        let blob = btf::encode(&types, Endianness::NATIVE).map_err(|error| error.to_string())?;
        let fd = kernel::load_btf(&blob).map_err(rules::errno_name)?;
        found.types = types;
        let btf = needs_btf(template.map_type).then_some(Btf {
            fd: &fd,
            key: ids.0,
            value: ids.1,
        });
        let nested = template.is_outer().then_some(&array);
        let inner = kernel::create(&template, nested, btf).map_err(rules::errno_name)?;
        let answer = kernel::create(&map::<Template>(&ARRAY_OF_MAPS), Some(&inner), None);
        let refused = has(&rules::lint(&found, &[]), codes::TEMPLATE_TYPE_REFUSED);
        compared += 1;
        if refused != answer.is_err() {
            let answer = answer.map(|_| ()).map_err(rules::errno_name);
            problems.push(format!(
                "{}: {answer:?}, predicted refused {refused}",
                template.map_type
            ));
        }
    }
    eprintln!("templates: {compared} types compared");
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n").into())
    }
}

type Attributes = (u32, u32, u32, u32, u32);

const BASES: &[Attributes] = &[
    (uapi::BPF_MAP_TYPE_ARRAY, 4, 8, 2, 0),
    (uapi::BPF_MAP_TYPE_ARRAY, 4, 8, 2, uapi::BPF_F_INNER_MAP),
    (uapi::BPF_MAP_TYPE_HASH, 4, 8, 2, 0),
    (uapi::BPF_MAP_TYPE_XSKMAP, 4, 4, 2, 0),
    (uapi::BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 2, 0),
    (uapi::BPF_MAP_TYPE_RINGBUF, 0, 0, 4096, 0),
    (uapi::BPF_MAP_TYPE_DEVMAP, 4, 4, 2, 0),
    (uapi::BPF_MAP_TYPE_BLOOM_FILTER, 0, 8, 2, 0),
];

/// Random pairs of template and target.
pub fn slots_agree() -> Result<(), Failed> {
    let mut random = Random::new(0x736c_6f74);
    let types = locks();
    let blob = btf::encode(&types, Endianness::NATIVE).map_err(|error| error.to_string())?;
    let fd = kernel::load_btf(&blob).map_err(rules::errno_name)?;
    let (mut problems, mut counts) = (Vec::new(), BTreeMap::new());
    for _ in 0..1500 {
        let template = variant(random.pick(BASES), &mut random, "t.inner");
        let like = BASES
            .iter()
            .find(|base| base.0 == template.map_type.0)
            .copied();
        let like = like
            .filter(|_| random.below(5) != 0)
            .unwrap_or_else(|| random.pick(BASES));
        let target = widen(variant(like, &mut random, "target"));
        let index = random.pick(&[0, 0, 0, 0, 1, 3, 3, 4, u32::MAX]);
        let ids = |btf: Option<BtfIds>| {
            btf.map(|ids| Btf {
                fd: &fd,
                key: ids.key_type_id,
                value: ids.value_type_id,
            })
        };
        let (Ok(inner), Ok(held)) = (
            kernel::create(&template, None, ids(template.btf)),
            kernel::create(&target, None, ids(target.btf)),
        ) else {
            problems.push(format!("not created: {template:?} or {target:?}"));
            continue;
        };
        let Ok(fd) = kernel::create(&map::<Template>(&ARRAY_OF_MAPS), Some(&inner), None) else {
            problems.push(format!("no outer map with {template:?}"));
            continue;
        };
        let slot = Slot {
            index,
            target: SlotTarget::Map("target".into()),
        };
        let mut plan = plan(vec![target, outer(template, vec![slot])]);
        plan.types.clone_from(&types);
        let predicted = rules::slot_errors(&plan);
        let answer = kernel::update(&fd, index, &held);
        *counts
            .entry((predicted.is_empty(), answer.is_ok()))
            .or_insert(0) += 1;
        if predicted.is_empty() != answer.is_ok() {
            problems.push(format!(
                "{answer:?}, predicted {predicted:?}: {:?}",
                plan.maps
            ));
        }
    }
    eprintln!("slots (fits, accepted): {counts:?}");
    for both in [true, false] {
        if counts.get(&(both, both)).is_none_or(|count| *count < 50) {
            problems.push(format!("too few with {both}: {counts:?}"));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n").into())
    }
}

/// A map whose attributes differ in one or two places from others like it.
fn variant(base: Attributes, random: &mut Random, name: &str) -> Template {
    let mut map = map::<NoTemplate>(&base);
    name.clone_into(&mut map.name);
    let array_or_hash = matches!(
        map.map_type.0,
        uapi::BPF_MAP_TYPE_ARRAY | uapi::BPF_MAP_TYPE_HASH
    );
    match random.below(20) {
        0 => map.map_flags |= uapi::BPF_F_NUMA_NODE,
        1 if !map.map_type.is_ring_buffer() => map.map_flags |= uapi::BPF_F_RDONLY,
        2 if array_or_hash => map.map_flags |= uapi::BPF_F_RDONLY_PROG,
        3 | 4 => {
            let entries = if map.map_type.is_ring_buffer() {
                8192
            } else {
                3
            };
            map.max_entries = MaxEntries::Count(entries);
        }
        5 if array_or_hash => map.value_size = 16,
        6 if map.map_type.0 == uapi::BPF_MAP_TYPE_HASH => map.key_size = 8,
        7 if map.map_type.0 == uapi::BPF_MAP_TYPE_BLOOM_FILTER => map.map_extra = 3,
        8..=11 if array_or_hash => {
            // One with a lock first, one with a lock last, one without.
            let value = random.pick(&[3, 4, 5]);
            map.key_type = Some(TypeId(1));
            map.value_type = Some(TypeId(value));
            map.btf = Some(BtfIds {
                key_type_id: 1,
                value_type_id: value,
            });
        }
        _ => {}
    }
    if map.map_type.0 == uapi::BPF_MAP_TYPE_PERCPU_ARRAY {
        map.map_flags &= !uapi::BPF_F_NUMA_NODE;
    }
    map
}

fn locks() -> Vec<Type> {
    let structure = |name: &str, size: u32, members: &[(u32, u32)]| {
        let members = members
            .iter()
            .map(|(offset, ty)| Member {
                name: Some(format!("at_{offset}")),
                ty: TypeId(*ty),
                bit_offset: offset * 8,
                bitfield_size: None,
            })
            .collect();
        Type::Struct(Composite {
            name: Some(name.into()),
            size,
            members,
        })
    };
    vec![
        int("int", 4),
        structure("bpf_spin_lock", 4, &[(0, 1)]),
        structure("lock_first", 8, &[(0, 2), (4, 1)]),
        structure("lock_last", 8, &[(0, 1), (4, 2)]),
        structure("no_lock", 8, &[(0, 1), (4, 1)]),
    ]
}

fn int(name: &str, size: u32) -> Type {
    let bits = (size * 8) as u8;
    Type::Int {
        name: name.into(),
        size,
        bits,
        bit_offset: 0,
        encoding: IntEncoding::Signed,
    }
}

/// Types for storage maps of 8 bytes, with the ids of key and value.
fn int_and_bytes() -> (Vec<Type>, (u32, u32)) {
    (vec![int("int", 4), int("long", 8)], (1, 2))
}

fn outer(template: Template, slots: Vec<Slot>) -> Map {
    let mut map = map::<Template>(&ARRAY_OF_MAPS);
    map.name = "t".into();
    Map {
        inner: Some(Box::new(template)),
        slots,
        ..map
    }
}

fn widen(map: Template) -> Map {
    Map {
        name: map.name,
        map_type: map.map_type,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        map_flags: map.map_flags,
        map_extra: map.map_extra,
        numa_node: map.numa_node,
        pinning: map.pinning,
        key_type: map.key_type,
        value_type: map.value_type,
        btf: map.btf,
        inner: None,
        slots: map.slots,
        data: map.data,
        externs: map.externs,
        with_programs: map.with_programs,
        source: map.source,
    }
}

fn plan(maps: Vec<Map>) -> Plan {
    Plan {
        version: format::VERSION,
        object: Object {
            name: "rules.bpf.o".into(),
            sha256: None,
            endianness: Endianness::NATIVE,
            legacy_maps: false,
        },
        maps,
        programs: Vec::new(),
        jump_tables: 0,
        types: Vec::new(),
        kernel_types: 0,
        btf: bpfplan_plan::Bytes::new(),
        contents: Vec::new(),
    }
}

fn has(found: &[bpfplan_plan::Diagnostic], code: Code) -> bool {
    found.iter().any(|diagnostic| diagnostic.code == code)
}
