//! The rules without a kernel; the loader's tests compare them with one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "a test that meets the unexpected has to fail"
)]

mod support;

use bpfplan_plan::rules::{
    Call, KernelVersion, Target, btf_refusal, errno_name, explain, lint, memory, needs,
    ring_buffer_size, slot_errors, wants_btf,
};
use bpfplan_plan::types::{Composite, Member, Type};
use bpfplan_plan::{
    BtfIds, Code, Diagnostic, Map, MapType, MaxEntries, Plan, Severity, Template, TypeId, codes,
    uapi,
};
use support::sample;

fn plan(maps: Vec<Map>) -> Plan {
    Plan {
        maps,
        ..sample::plan()
    }
}

fn version(text: &str) -> KernelVersion {
    text.parse().unwrap()
}

fn array(name: &str) -> Map {
    sample::map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 8, 4])
}

fn outer(template: Template) -> Map {
    let map = sample::map("outer", uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS, [4, 4, 4]);
    Map {
        inner: Some(Box::new(template)),
        ..map
    }
}

#[track_caller]
fn one(found: Vec<Diagnostic>, code: Code, severity: Severity) -> Diagnostic {
    let [one] = found.as_slice() else {
        panic!("not one finding: {found:#?}")
    };
    assert_eq!((one.code, one.severity), (code, severity), "{one}");
    one.clone()
}

#[test]
fn versions() {
    assert_eq!(version("5.15"), KernelVersion::new(5, 15));
    assert_eq!(version("6.18.44"), KernelVersion::new(6, 18));
    assert_eq!(version("5.4").to_string(), "5.4");
    assert!(version("5.15") < version("6.1") && version("5.9") < version("5.15"));
    for wrong in [
        "", "5", "5.", ".5", "5.x", "5.15.", "5.15-rc1", "-5.1", "5.99999", "5.15.1.2",
    ] {
        assert!(wrong.parse::<KernelVersion>().is_err(), "{wrong}");
    }
    let release = KernelVersion::from_release;
    assert_eq!(release("6.18.44-generic"), Some(version("6.18")));
    assert_eq!(release("5.15-rc1"), Some(version("5.15")));
    assert_eq!(release("mainline"), None);
}

/// `adjust_ringbuf_sz` of libbpf, measured.
#[test]
fn ring_buffers_are_rounded_as_libbpf_does() {
    for (declared, rounded) in [
        (0, 0),
        (1, 4096),
        (4096, 4096),
        (5000, 8192),
        (8192, 8192),
        (12_288, 16_384),
        (0x8000_0000, 0x8000_0000),
        (0x8000_0001, 0x8000_0001),
        (u32::MAX, u32::MAX),
    ] {
        assert_eq!(ring_buffer_size(declared, 4096), rounded, "{declared}");
    }
    assert_eq!(ring_buffer_size(4096, 65_536), 65_536);
    assert_eq!(ring_buffer_size(4096, 0), 4096, "no page size, no rounding");
}

#[test]
fn errors_have_names() {
    assert_eq!(errno_name(22), "EINVAL");
    assert_eq!(errno_name(524), "ENOTSUPP");
    assert_eq!(errno_name(-7), "errno -7");
}

/// libbpf's list in `bpf_object__create_map`, written out.
#[test]
fn types_without_btf_are_libbpfs() {
    let never: Vec<String> = uapi::MAP_TYPES
        .iter()
        .map(|(number, _)| MapType(*number))
        .filter(|map_type| !wants_btf(*map_type))
        .map(|map_type| map_type.to_string())
        .collect();
    let mut expected = [
        "perf_event_array",
        "cgroup_array",
        "stack_trace",
        "array_of_maps",
        "hash_of_maps",
        "devmap",
        "devmap_hash",
        "cpumap",
        "xskmap",
        "sockmap",
        "sockhash",
        "queue",
        "stack",
        "arena",
        "struct_ops",
    ];
    expected.sort_by_key(|name| MapType::from_name(name).map(|map_type| map_type.0));
    assert_eq!(never, expected);
}

#[test]
fn a_sound_plan_has_no_findings() {
    assert_eq!(
        lint(&plan(vec![array("a"), array("b")]), &[version("6.18")]),
        []
    );
}

#[test]
fn refused_attributes_name_the_field() {
    let map = Map {
        key_size: 8,
        ..array("a")
    };
    let found = one(
        lint(&plan(vec![map]), &[]),
        codes::ATTRIBUTE_REFUSED,
        Severity::Error,
    );
    assert_eq!(found.message, "key_size is 8, array takes 4");
    assert_eq!(
        (found.map.as_deref(), found.field.as_deref()),
        (Some("a"), Some("key_size"))
    );
    assert_eq!(found.notes, ["the kernel answers EINVAL"]);

    let trie = sample::map("t", uapi::BPF_MAP_TYPE_LPM_TRIE, [8, 8, 4]);
    let found = one(
        lint(&plan(vec![trie]), &[]),
        codes::ATTRIBUTE_REFUSED,
        Severity::Error,
    );
    assert_eq!(
        found.help.as_deref(),
        Some("add __uint(map_flags, BPF_F_NO_PREALLOC)")
    );

    let template = Template {
        value_size: 0,
        ..sample::map("o.inner", 2, [4, 0, 4])
    };
    let found = one(
        lint(&plan(vec![outer(template)]), &[]),
        codes::ATTRIBUTE_REFUSED,
        Severity::Error,
    );
    assert_eq!(found.field.as_deref(), Some("values.value_size"));
    assert!(found.message.starts_with("the template: "), "{found}");
}

#[test]
fn old_kernels_are_named() {
    let map = Map {
        map_flags: uapi::BPF_F_MMAPABLE,
        ..array("a")
    };
    assert_eq!(
        needs(&map, &[]),
        Some((version("5.5"), "BPF_F_MMAPABLE".to_owned()))
    );
    let kernels = [version("5.4"), version("5.5")];
    let found = one(
        lint(&plan(vec![map]), &kernels),
        codes::KERNEL_TOO_OLD,
        Severity::Error,
    );
    assert_eq!(found.message, "BPF_F_MMAPABLE needs Linux 5.5, not 5.4");
    assert_eq!(
        needs(&array("a"), &[]),
        Some((version("3.19"), "array".to_owned()))
    );

    // Before 5.10 every inner map had as many entries as the template.
    let target = sample::map("in", uapi::BPF_MAP_TYPE_HASH, [4, 8, 5]);
    let mut outer = outer(sample::map("o.inner", uapi::BPF_MAP_TYPE_HASH, [4, 8, 4]));
    outer.slots = sample::plan().maps[2].slots[..1].to_vec();
    outer.slots[0].target = bpfplan_plan::SlotTarget::Map("in".into());
    let plan = plan(vec![target, outer]);
    assert_eq!(slot_errors(&plan), []);
    assert_eq!(lint(&plan, &[version("5.10")]), []);
    one(
        lint(&plan, &[version("5.9")]),
        codes::KERNEL_TOO_OLD,
        Severity::Error,
    );
}

#[test]
fn ignored_attributes_are_warned_about() {
    let map = Map {
        numa_node: 1,
        ..array("a")
    };
    one(
        lint(&plan(vec![map]), &[]),
        codes::ATTRIBUTE_IGNORED,
        Severity::Warning,
    );
}

#[test]
fn outer_maps_need_a_template_that_may_be_inside() {
    let map = Map {
        inner: None,
        ..outer(sample::map("x", 2, [4, 8, 4]))
    };
    one(
        lint(&plan(vec![map]), &[]),
        codes::NO_TEMPLATE,
        Severity::Error,
    );
    let map = outer(sample::map(
        "outer.inner",
        uapi::BPF_MAP_TYPE_PROG_ARRAY,
        [4, 4, 4],
    ));
    let found = one(
        lint(&plan(vec![map]), &[]),
        codes::TEMPLATE_TYPE_REFUSED,
        Severity::Error,
    );
    assert_eq!(found.notes, ["the kernel answers ENOTSUPP"]);
}

#[test]
fn names_that_the_kernel_cuts_to_one() {
    let maps = vec![array("a_very_long_name_1"), array("a_very_long_name_2")];
    let found = one(
        lint(&plan(maps), &[]),
        codes::KERNEL_NAME_SHARED,
        Severity::Warning,
    );
    assert_eq!(found.map.as_deref(), Some("a_very_long_name_2"));
}

#[test]
fn types_that_the_kernel_does_not_take() {
    let types = sample::plan().types;
    let typed = |key: u32, value: u32| Map {
        key_type: Some(TypeId(key)),
        value_type: Some(TypeId(value)),
        btf: Some(BtfIds {
            key_type_id: key,
            value_type_id: value,
        }),
        ..array("a")
    };
    assert_eq!(btf_refusal(&typed(1, 4), &types), None);
    // The enum of 4 bytes is not an int.
    let reason = btf_refusal(&typed(10, 4), &types).unwrap();
    assert_eq!(
        reason,
        "the key type of array must be a 32-bit integer, it is enum verdict"
    );
    let found = lint(&plan(vec![typed(10, 4)]), &[]);
    one(found, codes::BTF_REFUSED, Severity::Warning);
    let without_btf = Map {
        btf: None,
        ..typed(10, 4)
    };
    assert_eq!(lint(&plan(vec![without_btf]), &[]), []);
    let only_key = Map {
        value_type: None,
        ..typed(1, 4)
    };
    assert!(
        btf_refusal(&only_key, &types)
            .unwrap()
            .contains("needs a value type")
    );
    assert!(
        btf_refusal(&typed(1, 1), &types)
            .unwrap()
            .contains("value_size is 8")
    );
    assert!(
        btf_refusal(&typed(1, 12), &types)
            .unwrap()
            .contains("only declared")
    );
    assert!(
        btf_refusal(&typed(1, 4000), &types).is_some(),
        "a type that is not there"
    );

    // Storage needs both, whatever libbpf would retry.
    let storage = Map {
        map_flags: uapi::BPF_F_NO_PREALLOC,
        ..sample::map("s", uapi::BPF_MAP_TYPE_TASK_STORAGE, [4, 8, 0])
    };
    one(
        lint(&plan(vec![storage]), &[]),
        codes::BTF_REFUSED,
        Severity::Error,
    );
}

/// Values of 16 bytes: a timer alone, and two locks.
fn special() -> Vec<Type> {
    let member = |ty: u32, offset: u32| Member {
        name: Some(format!("m{offset}")),
        ty: TypeId(ty),
        bit_offset: offset * 8,
        bitfield_size: None,
    };
    let structure = |name: &str, size: u32, members: Vec<Member>| {
        Type::Struct(Composite {
            name: Some(name.into()),
            size,
            members,
        })
    };
    let int = sample::plan().types[0].clone();
    vec![
        int,
        structure("bpf_timer", 16, vec![]),
        structure("with_timer", 16, vec![member(2, 0)]),
        structure("bpf_spin_lock", 4, vec![member(1, 0)]),
        structure("two_locks", 16, vec![member(4, 0), member(4, 4)]),
    ]
}

#[test]
fn special_fields_belong_in_some_maps_only() {
    let typed = |map_type, value: u32| Map {
        key_type: Some(TypeId(1)),
        value_type: Some(TypeId(value)),
        btf: Some(BtfIds {
            key_type_id: 1,
            value_type_id: value,
        }),
        ..sample::map("m", map_type, [4, 16, 4])
    };
    let types = special();
    assert_eq!(
        btf_refusal::<Template>(&typed(uapi::BPF_MAP_TYPE_ARRAY, 3), &types),
        None
    );
    let refused: Map = typed(uapi::BPF_MAP_TYPE_PERCPU_ARRAY, 3);
    let reason = btf_refusal(&refused, &types).unwrap();
    assert_eq!(reason, "values of percpu_array cannot have bpf_timer");
    let read_only = Map {
        map_flags: uapi::BPF_F_RDONLY_PROG,
        ..typed(uapi::BPF_MAP_TYPE_ARRAY, 3)
    };
    assert!(
        btf_refusal::<Template>(&read_only, &types)
            .unwrap()
            .contains("BPF_F_RDONLY_PROG")
    );
    let plan = Plan {
        types,
        ..plan(vec![typed(uapi::BPF_MAP_TYPE_ARRAY, 5)])
    };
    one(
        lint(&plan, &[]),
        codes::SPECIAL_FIELDS_MALFORMED,
        Severity::Warning,
    );
}

#[test]
fn special_fields_need_kernels_whose_programs_know_them() {
    let timer: Map = Map {
        key_type: Some(TypeId(1)),
        value_type: Some(TypeId(3)),
        btf: Some(BtfIds {
            key_type_id: 1,
            value_type_id: 3,
        }),
        ..sample::map("m", uapi::BPF_MAP_TYPE_ARRAY, [4, 16, 4])
    };
    let types = special();
    let untyped = Map {
        btf: None,
        ..timer.clone()
    };
    assert_eq!(
        needs(&untyped, &types),
        Some((version("3.19"), "array".to_owned()))
    );
    let wanted = (version("5.15"), "bpf_timer in its values".to_owned());
    assert_eq!(needs(&timer, &types), Some(wanted));
    let plan = Plan {
        types,
        ..plan(vec![timer])
    };
    assert_eq!(lint(&plan, &[version("5.15")]), []);
    one(
        lint(&plan, &[version("5.14"), version("5.15")]),
        codes::KERNEL_TOO_OLD,
        Severity::Warning,
    );
}

#[test]
fn unknown_types_are_said_to_be_unknown() {
    let map: Map = sample::map("m", 4000, [4, 4, 1]);
    assert_eq!(needs(&map, &[]), None);
    one(
        lint(&plan(vec![map]), &[]),
        codes::TYPE_UNKNOWN,
        Severity::Error,
    );
}

#[test]
fn slots_say_what_does_not_fit() {
    let sample = sample::plan();
    assert_eq!(slot_errors(&sample), []);

    let mut larger = sample.clone();
    larger.maps[1].max_entries = MaxEntries::Count(17);
    let found = one(
        slot_errors(&larger),
        codes::SLOT_DOES_NOT_FIT,
        Severity::Error,
    );
    assert_eq!(
        found.message,
        "'lut_1' does not fit the template: max_entries is 17, the template has 16"
    );
    assert_eq!(found.field.as_deref(), Some("values[3]"));
    assert!(found.help.unwrap().contains("BPF_F_INNER_MAP"));
    assert_eq!(
        found.labels.len(),
        2,
        "the outer and the inner map's places"
    );

    let mut nested = sample.clone();
    nested.maps[2].slots[1].target = bpfplan_plan::SlotTarget::Map("luts".into());
    let found = one(
        slot_errors(&nested),
        codes::SLOT_TARGET_IS_OUTER,
        Severity::Error,
    );
    assert_eq!(found.message, "'luts' is the outer map itself");

    let mut beyond = sample;
    beyond.maps[2].max_entries = MaxEntries::Count(3);
    let found = one(
        slot_errors(&beyond),
        codes::SLOT_BEYOND_END,
        Severity::Error,
    );
    assert_eq!(
        found.help.as_deref(),
        Some("raise max_entries to 4 or more")
    );
}

#[test]
fn explanations_name_the_rule_and_the_kernel() {
    let wrong = Map {
        key_size: 8,
        ..array("a")
    };
    let reasons = explain(Call::MapCreate, 22, Some(&wrong), &[], None);
    assert_eq!(
        reasons.first().map(String::as_str),
        Some("key_size is 8, array takes 4")
    );

    let map = Map {
        map_flags: uapi::BPF_F_MMAPABLE,
        ..array("a")
    };
    let reasons = explain(Call::MapCreate, 22, Some(&map), &[], Some(version("5.4")));
    assert_eq!(reasons, ["BPF_F_MMAPABLE needs Linux 5.5"]);
    assert_eq!(
        explain(Call::MapCreate, 22, Some(&map), &[], Some(version("6.1"))),
        [""; 0]
    );

    let typed = Map {
        key_type: Some(TypeId(10)),
        value_type: Some(TypeId(4)),
        btf: Some(BtfIds {
            key_type_id: 10,
            value_type_id: 4,
        }),
        ..array("a")
    };
    let reasons = explain(
        Call::MapCreate,
        22,
        Some(&typed),
        &sample::plan().types,
        None,
    );
    assert!(reasons[0].contains("32-bit integer"), "{reasons:?}");

    let devmap: Map = sample::map("d", uapi::BPF_MAP_TYPE_DEVMAP, [4, 4, 4]);
    let reasons = explain(Call::MapCreate, 1, Some(&devmap), &[], None);
    assert!(reasons[0].contains("CAP_NET_ADMIN"), "{reasons:?}");
    let memlock = |kernel| {
        let reasons = explain(Call::MapCreate, 1, Some(&devmap), &[], kernel);
        assert!(reasons.iter().any(|reason| reason.contains("CAP_BPF")));
        reasons.iter().any(|reason| reason.contains("MEMLOCK"))
    };
    assert!(memlock(None) && memlock(Some(version("5.10"))));
    assert!(!memlock(Some(version("5.11"))));
    let orphan: Map = sample::map("o", uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS, [4, 4, 4]);
    let reasons = explain(Call::MapCreate, 9, Some(&orphan), &[], None);
    assert!(reasons[0].contains("no inner template"), "{reasons:?}");
    assert!(!explain(Call::UpdateElem, 22, Some(&devmap), &[], None).is_empty());
    assert!(!explain(Call::Pin, 17, Some(&devmap), &[], None).is_empty());
    assert_eq!(
        explain::<Template>(Call::Freeze, 9999, None, &[], None),
        [""; 0]
    );
}

#[test]
fn memory_grows_with_what_it_holds() {
    let target = Target {
        page_size: 4096,
        possible_cpus: 4,
    };
    let of = |map_type, sizes| memory::<Template>(&sample::map("m", map_type, sizes), &target);
    assert!(
        (65_536 * 8..65_536 * 8 + 4096).contains(&of(uapi::BPF_MAP_TYPE_ARRAY, [4, 4, 65_536]))
    );
    let percpu = of(uapi::BPF_MAP_TYPE_PERCPU_ARRAY, [4, 8, 1000]);
    assert!(percpu > 4 * 8 * 1000);
    assert!(of(uapi::BPF_MAP_TYPE_RINGBUF, [0, 0, 1 << 20]) > 1 << 20);
    for (map_type, _) in uapi::MAP_TYPES {
        let huge = of(*map_type, [u32::MAX; 3]);
        assert!(
            huge >= of(*map_type, [1, 1, 1]),
            "no overflow of {}",
            MapType(*map_type)
        );
    }
    assert_eq!(
        of(4711, [4, 4, 4]),
        0,
        "unknown types cost nothing that is known"
    );
}
