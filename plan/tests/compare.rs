//! Maps that exist, compared with declared ones.

// A test may panic: that is how it fails.
#![allow(clippy::indexing_slicing, clippy::needless_pass_by_value)]

use bpfplan_plan::compare::{Attributes, Difference, Existing, MOST, MapTypes, compare, template};
use bpfplan_plan::model::NoTemplate;
use bpfplan_plan::rules::Target;
use bpfplan_plan::types::{Composite, Enum, Enumerator, IntEncoding, Linkage, Member, SecVar};
use bpfplan_plan::{Data, Map, MapType, MaxEntries, Pinning, Severity, Type, TypeId, uapi};

const MACHINE: Target = Target {
    page_size: 16384,
    possible_cpus: 4,
};

fn map(map_type: u32, max_entries: u32, map_flags: u32) -> Map<NoTemplate> {
    Map {
        map_flags,
        pinning: Pinning::ByName,
        ..Map::new("m", MapType(map_type), 4, 8, MaxEntries::Count(max_entries))
    }
}

/// What the kernel says of a map with these numbers.
fn pinned(map_type: u32, max_entries: u32, map_flags: u32) -> Attributes {
    Attributes {
        map_type: MapType(map_type),
        key_size: 4,
        value_size: 8,
        max_entries,
        map_flags,
        map_extra: 0,
    }
}

fn numbers(map: &Map<NoTemplate>, attributes: Attributes) -> Vec<String> {
    let existing = Existing {
        attributes,
        types: None,
        frozen: None,
    };
    lines(&compare(map, &[], &existing, &MACHINE))
}

/// With `!` before errors and `?` before warnings.
fn lines(found: &[Difference]) -> Vec<String> {
    let line = |difference: &Difference| {
        let mark = if difference.severity == Severity::Error {
            '!'
        } else {
            '?'
        };
        format!("{mark}{difference}")
    };
    found.iter().map(line).collect()
}

#[test]
fn every_number_is_compared() {
    use uapi::*;
    let declared = map(BPF_MAP_TYPE_HASH, 16, 0);
    let same = pinned(BPF_MAP_TYPE_HASH, 16, 0);
    assert_eq!(numbers(&declared, same), [""; 0]);
    let other = Attributes {
        map_type: MapType(BPF_MAP_TYPE_LRU_HASH),
        key_size: 8,
        value_size: 4,
        max_entries: 17,
        map_flags: BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE,
        map_extra: 0x10,
    };
    assert_eq!(
        numbers(&declared, other),
        [
            "!type: declared hash, pinned lru_hash",
            "!key_size: declared 4, pinned 8",
            "!value_size: declared 8, pinned 4",
            "!max_entries: declared 16, pinned 17",
            "!map_flags: declared 0, pinned BPF_F_NO_PREALLOC|BPF_F_NUMA_NODE",
            "!map_extra: declared 0x0, pinned 0x10",
        ]
    );
}

/// What the kernel makes of the numbers is no difference, and nothing else passes for it.
#[test]
fn what_the_kernel_changes_is_known() {
    use uapi::*;
    let lru = map(BPF_MAP_TYPE_LRU_HASH, 7, BPF_F_NO_COMMON_LRU);
    let of_lru = |entries| pinned(BPF_MAP_TYPE_LRU_HASH, entries, BPF_F_NO_COMMON_LRU);
    assert_eq!(numbers(&lru, of_lru(8)), [""; 0]);
    assert_eq!(
        numbers(&lru, of_lru(7)),
        ["!max_entries: declared 7 (8 on this machine), pinned 7"]
    );
    let ring = map(BPF_MAP_TYPE_RINGBUF, 4096, 0);
    let of_ring = |entries| pinned(BPF_MAP_TYPE_RINGBUF, entries, 0);
    assert_eq!(numbers(&ring, of_ring(16384)), [""; 0]);
    assert_eq!(numbers(&ring, of_ring(4096)).len(), 1);
    let mut events = map(BPF_MAP_TYPE_PERF_EVENT_ARRAY, 0, 0);
    events.max_entries = MaxEntries::PossibleCpus;
    let of_events = |entries| pinned(BPF_MAP_TYPE_PERF_EVENT_ARRAY, entries, 0);
    assert_eq!(numbers(&events, of_events(4)), [""; 0]);
    assert_eq!(
        numbers(&events, of_events(2)),
        ["!max_entries: declared 4 (the number of possible CPUs), pinned 2"]
    );
    let flags = BPF_F_RDONLY | BPF_F_TOKEN_FD;
    let hash = map(BPF_MAP_TYPE_HASH, 7, flags);
    assert_eq!(numbers(&hash, pinned(BPF_MAP_TYPE_HASH, 7, 0)), [""; 0]);
    let devices = map(BPF_MAP_TYPE_DEVMAP, 7, 0);
    let of_devices = pinned(BPF_MAP_TYPE_DEVMAP, 7, BPF_F_RDONLY_PROG);
    assert_eq!(numbers(&devices, of_devices), [""; 0]);
    let read_only = pinned(BPF_MAP_TYPE_HASH, 7, BPF_F_RDONLY_PROG);
    assert_eq!(
        numbers(&hash, read_only),
        ["!map_flags: declared 0, pinned BPF_F_RDONLY_PROG"]
    );
}

#[test]
fn frozen_maps_are_told_apart() {
    let mut declared = map(uapi::BPF_MAP_TYPE_ARRAY, 1, 0);
    let compare = |map: &Map<NoTemplate>, frozen| {
        let existing = Existing {
            attributes: pinned(uapi::BPF_MAP_TYPE_ARRAY, 1, 0),
            types: None,
            frozen,
        };
        lines(&compare(map, &[], &existing, &MACHINE))
    };
    assert_eq!(compare(&declared, None), [""; 0]);
    assert_eq!(compare(&declared, Some(false)), [""; 0]);
    assert_eq!(
        compare(&declared, Some(true)),
        ["?frozen: declared not frozen, pinned frozen"]
    );
    declared.data = Some(Data::new(&[], 8, true));
    assert_eq!(compare(&declared, Some(true)), [""; 0]);
    assert_eq!(compare(&declared, Some(false)).len(), 1);
}

#[test]
fn a_template_is_compared_as_the_kernel_does() {
    use uapi::*;
    let differ = |declared: &Map<NoTemplate>, attributes| {
        let existing = Existing {
            attributes,
            types: None,
            frozen: None,
        };
        lines(&template(declared, &[], &existing, &MACHINE))
    };
    let array = map(BPF_MAP_TYPE_ARRAY, 4, 0);
    assert_eq!(
        differ(&array, pinned(BPF_MAP_TYPE_ARRAY, 5, 0)),
        ["!inner.max_entries: declared 4, pinned 5"]
    );
    let free = map(BPF_MAP_TYPE_ARRAY, 4, BPF_F_INNER_MAP);
    assert_eq!(
        differ(&free, pinned(BPF_MAP_TYPE_ARRAY, 5, BPF_F_INNER_MAP)),
        [""; 0]
    );
    let hash = map(BPF_MAP_TYPE_HASH, 4, 0);
    assert_eq!(differ(&hash, pinned(BPF_MAP_TYPE_HASH, 5, 0)), [""; 0]);
    assert_eq!(
        differ(&hash, pinned(BPF_MAP_TYPE_LRU_HASH, 5, 1)),
        [
            "!inner.type: declared hash, pinned lru_hash",
            "!inner.map_flags: declared 0, pinned BPF_F_NO_PREALLOC"
        ]
    );
}

/// Compares two lists of types, of which the last is the value's.
fn values(declared: Vec<Type>, pinned: Vec<Type>) -> Vec<String> {
    let last = |types: &[Type]| TypeId(u32::try_from(types.len()).unwrap_or_default());
    let mut map = map(uapi::BPF_MAP_TYPE_HASH, 16, 0);
    map.value_type = Some(last(&declared));
    let types = MapTypes {
        key: TypeId::VOID,
        value: last(&pinned),
        types: pinned,
    };
    let existing = Existing {
        attributes: self::pinned(uapi::BPF_MAP_TYPE_HASH, 16, 0),
        types: Some(&types),
        frozen: None,
    };
    lines(&compare(&map, &declared, &existing, &MACHINE))
}

fn int(name: &str, size: u32, encoding: IntEncoding) -> Type {
    Type::Int {
        name: name.to_owned(),
        size,
        bits: u8::try_from(size * 8).unwrap_or(64),
        bit_offset: 0,
        encoding,
    }
}

fn u32() -> Type {
    int("unsigned int", 4, IntEncoding::Unsigned)
}

fn u64() -> Type {
    int("unsigned long", 8, IntEncoding::Unsigned)
}

fn member(name: &str, ty: u32, offset: u32) -> Member {
    Member {
        name: Some(name.to_owned()).filter(|name| !name.is_empty()),
        ty: TypeId(ty),
        bit_offset: offset * 8,
        bitfield_size: None,
    }
}

fn composite(name: &str, size: u32, members: Vec<Member>) -> Composite {
    Composite {
        name: Some(name.to_owned()).filter(|name| !name.is_empty()),
        size,
        members,
    }
}

fn structure(name: &str, size: u32, members: Vec<Member>) -> Type {
    Type::Struct(composite(name, size, members))
}

fn pair(first: &str, second: &str) -> Type {
    structure("pair", 8, vec![member(first, 1, 0), member(second, 1, 4)])
}

#[test]
fn structure_counts_and_ids_do_not() {
    let typedef = Type::Typedef {
        name: "__u32".to_owned(),
        to: TypeId(2),
    };
    let qualified = vec![
        typedef,
        u32(),
        Type::Const { to: TypeId(1) },
        structure("pair", 8, vec![member("a", 3, 0), member("b", 1, 4)]),
    ];
    assert_eq!(values(vec![u32(), pair("a", "b")], qualified), [""; 0]);
}

#[test]
fn members_are_matched_by_place_and_name() {
    let declared = || vec![u32(), pair("a", "b")];
    assert_eq!(
        values(declared(), vec![u32(), pair("a", "c")]),
        ["?value.b: declared b, pinned c"]
    );
    assert_eq!(
        values(declared(), vec![u32(), pair("b", "a")]),
        [
            "!value.a: declared unsigned int at 0, pinned unsigned int at 4",
            "!value.b: declared unsigned int at 4, pinned unsigned int at 0"
        ]
    );
    let moved = structure("pair", 8, vec![member("b", 1, 4)]);
    assert_eq!(
        values(declared(), vec![u32(), moved]),
        ["!value.a: declared unsigned int at 0, pinned none"]
    );
    let more = structure(
        "pair",
        8,
        vec![member("a", 1, 0), member("b", 1, 4), member("c", 1, 2)],
    );
    assert_eq!(
        values(declared(), vec![u32(), more]),
        ["!value.c: declared none, pinned unsigned int at 2"]
    );
    let apart = structure("pair", 8, vec![member("b", 1, 2), member("a", 1, 0)]);
    assert_eq!(
        values(declared(), vec![u32(), apart]),
        ["!value.b: declared unsigned int at 4, pinned unsigned int at 2"]
    );
    let merged = structure("pair", 8, vec![member("a", 1, 0)]);
    assert_eq!(
        values(declared(), vec![u64(), merged]),
        [
            "!value.a: declared unsigned int, pinned unsigned long",
            "!value.b: declared unsigned int at 4, pinned none"
        ]
    );
}

#[test]
fn differences_have_a_path() {
    let nested = |port: Type, length: u32| {
        vec![
            port,
            structure("addr", 8, vec![member("ip", 1, 0), member("port", 1, 4)]),
            Type::Array {
                element: TypeId(2),
                index: TypeId(1),
                length,
            },
            structure("flow", 40, vec![member("to", 3, 0), member("from", 2, 32)]),
        ]
    };
    assert_eq!(values(nested(u32(), 4), nested(u32(), 4)), [""; 0]);
    assert_eq!(
        values(nested(u32(), 4), nested(u32(), 3)),
        ["!value.to: declared struct addr[4], pinned struct addr[3]"]
    );
    let signed = int("int", 4, IntEncoding::Signed);
    assert_eq!(
        values(nested(u32(), 4), nested(signed, 4)),
        [
            "?value.to[].ip: declared unsigned int, pinned int",
            "?value.to[].port: declared unsigned int, pinned int",
            "?value.from.ip: declared unsigned int, pinned int",
            "?value.from.port: declared unsigned int, pinned int",
        ]
    );
}

#[test]
fn kinds_of_numbers() {
    let list = |size, names: &[&str]| {
        let variants = (0..).zip(names).map(|(value, name)| Enumerator {
            name: (*name).to_owned(),
            value,
        });
        Type::Enum(Enum {
            name: Some("e".to_owned()),
            size,
            signed: false,
            variants: variants.collect(),
        })
    };
    assert_eq!(
        values(vec![list(4, &["A", "B"])], vec![list(4, &["A", "C"])]),
        ["?value: declared B = 1, pinned C = 1"]
    );
    assert_eq!(
        values(vec![list(4, &["A"])], vec![list(4, &["A", "C"])]),
        ["?value: declared 1 enumerators, pinned C = 1"]
    );
    assert_eq!(
        values(vec![list(4, &["A"])], vec![u32()]),
        ["?value: declared enum e, pinned unsigned int"]
    );
    assert_eq!(
        values(vec![list(8, &["A"])], vec![list(4, &["A"])]).len(),
        1
    );
    let float = || Type::Float {
        name: "double".to_owned(),
        size: 8,
    };
    assert_eq!(
        values(vec![float()], vec![u64()]),
        ["!value: declared double, pinned unsigned long"]
    );
    // What is left of it for kernels that do not know floats.
    assert_eq!(
        values(vec![float()], vec![structure("double", 8, Vec::new())]),
        [""; 0]
    );
    let same_name = int("unsigned int", 4, IntEncoding::Bool);
    assert_eq!(
        values(vec![u32()], vec![same_name]),
        ["?value: declared unsigned int, unsigned, 32 bits, pinned unsigned int, bool, 32 bits"]
    );
}

#[test]
fn bitfields_have_their_place_in_bits() {
    let field = |bits, offset| {
        let member = Member {
            bit_offset: offset,
            bitfield_size: Some(bits),
            ..member("f", 1, 0)
        };
        vec![u32(), structure("s", 4, vec![member])]
    };
    assert_eq!(values(field(3, 5), field(3, 5)), [""; 0]);
    assert_eq!(
        values(field(3, 5), field(4, 5)),
        ["!value.f: declared unsigned int, 3 bits at bit 5, pinned unsigned int, 4 bits at bit 5"]
    );
}

#[test]
fn unions_and_anonymous_members() {
    let value = |inner: &str, size| {
        let inside = vec![member("word", 1, 0), member(inner, 2, 0)];
        vec![
            u32(),
            u64(),
            Type::Union(composite("", size, inside)),
            structure("s", 8, vec![member("", 3, 0)]),
        ]
    };
    assert_eq!(values(value("long", 8), value("long", 8)), [""; 0]);
    assert_eq!(
        values(value("long", 8), value("wide", 8)),
        ["?value.long: declared long, pinned wide"]
    );
    let mut other = value("long", 8);
    other[2] = structure("", 8, vec![member("word", 1, 0)]);
    assert_eq!(
        values(value("long", 8), other),
        ["!value: declared an anonymous union, pinned an anonymous struct"]
    );
}

#[test]
fn pointers_are_compared_by_name_and_tag() {
    let pointer = |tag: Option<&str>, pointee: Type| {
        let mut types = vec![pointee];
        if let Some(tag) = tag {
            types.push(Type::TypeTag {
                value: tag.to_owned(),
                to: TypeId(1),
                attribute: false,
            });
        }
        let to = TypeId(u32::try_from(types.len()).unwrap_or_default());
        types.push(Type::Ptr { to });
        let pointer = u32::try_from(types.len()).unwrap_or_default();
        types.push(structure("s", 8, vec![member("p", pointer, 0)]));
        types
    };
    let declared = |name: &str| Type::Fwd {
        name: name.to_owned(),
        union: false,
    };
    let full = |name: &str| structure(name, 64, vec![member("x", 1, 0)]);
    let cases = [
        ((None, declared("task")), (None, full("task")), ""),
        (
            (None, declared("task")),
            (None, declared("file")),
            "?value.p: declared struct task *, pinned struct file *",
        ),
        (
            (Some("kptr"), full("task")),
            (Some("kptr"), full("task")),
            "",
        ),
        (
            (Some("kptr"), full("task")),
            (Some("kptr"), declared("task")),
            "?value.p: declared struct task *, in full, pinned struct task *, only declared",
        ),
    ];
    for ((tag, pointee), (other_tag, other), expected) in cases {
        let found = values(pointer(tag, pointee), pointer(other_tag, other));
        assert_eq!(found.join("\n"), expected);
    }
    assert_eq!(
        values(
            pointer(Some("kptr"), full("task")),
            pointer(None, full("task"))
        ),
        [
            "?value.p: declared struct task __kptr *, pinned struct task *",
            "!value: special fields: declared kptr to task at 0, pinned none"
        ]
    );
}

#[test]
fn special_fields_are_what_their_name_says() {
    let lock = |name: &str| {
        vec![
            u32(),
            structure(name, 4, vec![member("val", 1, 0)]),
            structure("s", 8, vec![member("lock", 2, 0), member("n", 1, 4)]),
        ]
    };
    assert_eq!(
        values(lock("bpf_spin_lock"), lock("my_spin_lock")),
        [
            "?value.lock: declared tag bpf_spin_lock, pinned tag my_spin_lock",
            "!value: special fields: declared bpf_spin_lock at 0, pinned none"
        ]
    );
}

#[test]
fn sections_are_compared_variable_by_variable() {
    let section = |second: &str, ty| {
        let var = |name: &str| Type::Var {
            name: name.to_owned(),
            to: TypeId(ty),
            linkage: Linkage::Global,
        };
        let place = |var, offset| SecVar {
            var: TypeId(var),
            offset,
            size: 4,
        };
        let vars = vec![place(3, 0), place(4, 4)];
        vec![
            u32(),
            int("int", 4, IntEncoding::Signed),
            var("first"),
            var(second),
            Type::Datasec {
                name: ".data".to_owned(),
                size: 8,
                vars,
            },
        ]
    };
    assert_eq!(values(section("x", 1), section("x", 1)), [""; 0]);
    assert_eq!(
        values(section("x", 1), section("y", 2)),
        [
            "?value.first: declared unsigned int, pinned int",
            "?value.x: declared x, pinned y",
            "?value.x: declared unsigned int, pinned int",
        ]
    );
}

/// Types that lead nowhere, contain themselves, or branch without end.
#[test]
fn hostile_types_end() {
    let itself = || {
        vec![structure(
            "s",
            8,
            vec![member("s", 1, 0), member("t", 1, 4)],
        )]
    };
    assert_eq!(values(itself(), itself()), [""; 0]);
    let chain = || vec![Type::Const { to: TypeId(1) }];
    assert_eq!(values(chain(), chain()), [""; 0]);
    assert_eq!(
        values(vec![u32()], chain()),
        ["!value: declared unsigned int, pinned …"]
    );
    let nowhere = vec![structure("s", 8, vec![member("a", 77, 0)])];
    assert_eq!(values(nowhere.clone(), nowhere), [""; 0]);

    let doubling = |leaf: Type| {
        let mut types = vec![leaf];
        for level in 1..40_u32 {
            let size = 1 << level.min(28);
            let members = vec![member("a", level, 0), member("b", level, size)];
            types.push(structure("s", size, members));
        }
        types
    };
    assert_eq!(values(doubling(u32()), doubling(u32())), [""; 0]);
    let found = values(doubling(u32()), doubling(u64()));
    assert_eq!(found.len(), MOST);
    assert!(found[0].starts_with("!value.a.a.a."), "{}", found[0]);

    let many = |name: &str| {
        let members = (0..70_000).map(|n| member(&format!("{name}{n}"), 1, 0));
        vec![u32(), Type::Union(composite("u", 4, members.collect()))]
    };
    assert_eq!(values(many("a"), many("a")), [""; 0]);
    assert_eq!(values(many("a"), many("b")).len(), MOST);

    // Names without end make no paths without end.
    let name = "x".repeat(1 << 16);
    let deep = |leaf: Type| {
        let mut types = vec![leaf];
        for level in 1..40_u32 {
            types.push(structure(&name, 8, vec![member(&name, level, 0)]));
        }
        types
    };
    let found = values(deep(u64()), deep(u32()));
    assert_eq!(found.len(), 1);
    assert!(found[0].len() < 1000 && found[0].contains("…"), "{found:?}");
}
