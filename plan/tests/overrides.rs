//! Overrides: what they set, what they refuse, and that no plan comes out that is not valid.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "a test that meets the unexpected has to fail"
)]

mod support;

use bpfplan_plan::overrides::{Overridden, Override, Overrides, ParseError, Value};
use bpfplan_plan::types::{
    Composite, Enum, Enumerator, IntEncoding, Linkage, Member, SecVar, Type,
};
use bpfplan_plan::{
    BtfIds, Data, Diagnostic, Endianness, Map, MaxEntries, Pinning, Plan, Slot, SlotTarget, TypeId,
    btf, codes, globals, uapi, validate,
};
use proptest::prelude::*;
use support::{sample, strategy};

const ID_INT: TypeId = TypeId(1);

/// A plan with a section of one variable of each of these types, and some maps.
fn plan(types: Vec<Type>, variables: &[(&str, u32)], endianness: Endianness) -> Plan {
    let mut plan = Plan {
        types,
        not_planned: Vec::new(),
        contents: Vec::new(),
        maps: vec![
            sample::map("flows", uapi::BPF_MAP_TYPE_HASH, [4, 8, 100]),
            sample::map("ring", uapi::BPF_MAP_TYPE_RINGBUF, [0, 0, 4096]),
            sample::map("events", uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY, [4, 4, 8]),
            sample::map("table", uapi::BPF_MAP_TYPE_ARRAY, [4, 4, 4]),
            Map {
                inner: Some(sample::map(
                    "tables.inner",
                    uapi::BPF_MAP_TYPE_ARRAY,
                    [4, 4, 4],
                )),
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
    plan.btf = btf::encode(&plan.types, endianness).unwrap();
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

#[test]
fn values_of_every_type_are_written() {
    let plan = little();
    for (text, variable, bytes) in [
        ("count=-2", "count", &[0xfe, 0xff, 0xff, 0xff][..]),
        ("count=0x7fffffff", "count", &[0xff, 0xff, 0xff, 0x7f]),
        ("count=2Ki", "count", &[0, 8, 0, 0]),
        ("count='A'", "count", &[65, 0, 0, 0]),
        ("count=-0", "count", &[0, 0, 0, 0]),
        ("port=8080", "port", &[0x90, 0x1f]),
        ("letter='\\xff'", "letter", &[0xff]),
        ("letter=-128", "letter", &[0x80]),
        ("on=true", "on", &[1]),
        ("on=0", "on", &[0]),
        (
            "wide=340282366920938463463374607431768211455",
            "wide",
            &[0xff; 16],
        ),
        ("mode=OFF", "mode", &[0xff; 4]),
        ("mode=5", "mode", &[5, 0, 0, 0]),
        ("mode=-3", "mode", &[0xfd, 0xff, 0xff, 0xff]),
        ("ratio=0.75", "ratio", &[0, 0, 0, 0, 0, 0, 0xe8, 0x3f]),
        ("device=eth0", "device", b"eth0\0\0\0\0"),
        ("device=", "device", &[0; 8]),
        ("device=\"a\\nb\"", "device", b"a\nb\0\0\0\0\0"),
        ("device=[1, 'x']", "device", b"\x01x\0\0\0\0\0\0"),
        ("ports=[80, 0x1bb]", "ports", &[80, 0, 0xbb, 1, 0, 0, 0, 0]),
        ("ports[3]=1", "ports", &[0, 0, 0, 0, 0, 0, 1, 0]),
        (
            "names=[\"a\", b]",
            "names",
            b"a\0\0\0\0\0\0\0b\0\0\0\0\0\0\0",
        ),
        ("names[1]=b", "names", b"\0\0\0\0\0\0\0\0b\0\0\0\0\0\0\0"),
        ("limit=3", "limit", &[3, 0, 0, 0]),
        ("address=[2, 0, 0, 0, 0, 1]", "address", &[2, 0, 0, 0, 0, 1]),
        ("address=\"ab\"", "address", b"ab\0\0\0\0"),
        ("flow.bytes=9", "flow", &[0, 0, 0, 0, 9, 0, 0, 0]),
        ("check.calls=6", "check.calls", &[6, 0, 0, 0]),
    ] {
        let found = bytes_after(&plan, &format!(".rodata.{text}"), variable);
        assert_eq!(found, bytes, "{text}");
        for prefix in ["flow.rodata.", "flow.rodata:", ".rodata:"] {
            let again = bytes_after(&plan, &format!("{prefix}{text}"), variable);
            assert_eq!(again, bytes, "{prefix}{text}");
        }
    }
    let flows = bytes_after(&plan, ".rodata.flows[1].packets=5", "flows");
    assert_eq!(flows, [0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn values_have_the_byte_order_of_the_object() {
    let plan = configured(Endianness::Big);
    for (text, variable, bytes) in [
        (".rodata.count=-2", "count", &[0xff, 0xff, 0xff, 0xfe][..]),
        (".rodata.port=8080", "port", &[0x1f, 0x90]),
        (
            ".rodata.ratio=0.75",
            "ratio",
            &[0x3f, 0xe8, 0, 0, 0, 0, 0, 0],
        ),
        (
            ".rodata.ports=[80, 443]",
            "ports",
            &[0, 80, 1, 0xbb, 0, 0, 0, 0],
        ),
        (".rodata.mode=LEARN", "mode", &[0, 0, 0, 7]),
        (".rodata.device=eth0", "device", b"eth0\0\0\0\0"),
    ] {
        assert_eq!(bytes_after(&plan, text, variable), bytes, "{text}");
    }
}

#[test]
fn what_a_target_cannot_hold_is_refused() {
    use codes::{OVERRIDE_NAME, OVERRIDE_REFUSED, OVERRIDE_VALUE};
    let plan = little();
    for (text, code) in [
        (".rodata.count=2147483648", OVERRIDE_VALUE),
        (".rodata.count=-2147483649", OVERRIDE_VALUE),
        (
            ".rodata.count=99999999999999999999999999999999999999999",
            OVERRIDE_VALUE,
        ),
        (".rodata.count=", OVERRIDE_VALUE),
        (".rodata.count=ten", OVERRIDE_VALUE),
        (".rodata.count=010", OVERRIDE_VALUE),
        (".rodata.count=\"1\"", OVERRIDE_VALUE),
        (".rodata.count=[1]", OVERRIDE_VALUE),
        (".rodata.port=-1", OVERRIDE_VALUE),
        (".rodata.port=65536", OVERRIDE_VALUE),
        (".rodata.letter=128", OVERRIDE_VALUE),
        (".rodata.on=2", OVERRIDE_VALUE),
        (".rodata.on=yes", OVERRIDE_VALUE),
        (".rodata.mode=LEARNT", OVERRIDE_VALUE),
        (".rodata.mode=2147483648", OVERRIDE_VALUE),
        (".rodata.ratio=fast", OVERRIDE_VALUE),
        (".rodata.ratio=1e999", OVERRIDE_VALUE),
        (".rodata.ratio=inf", OVERRIDE_VALUE),
        (".rodata.device=12345678", OVERRIDE_VALUE),
        (".rodata.device=[1,2,3,4,5,6,7,8,9]", OVERRIDE_VALUE),
        (".rodata.ports=80", OVERRIDE_VALUE),
        (".rodata.ports=\"ab\"", OVERRIDE_VALUE),
        (".rodata.ports=[80, x]", OVERRIDE_VALUE),
        (".rodata.ports=[[80]]", OVERRIDE_VALUE),
        (".rodata.address=ab", OVERRIDE_VALUE),
        (".rodata.pointer=0", OVERRIDE_REFUSED),
        (".rodata.flow=1", OVERRIDE_REFUSED),
        (".rodata.ports[4]=1", OVERRIDE_NAME),
        (".rodata.ports[x]=1", OVERRIDE_NAME),
        (".rodata.ports[1=1", OVERRIDE_NAME),
        (".rodata.ports[-1]=1", OVERRIDE_NAME),
        (".rodata.count[0]=1", OVERRIDE_NAME),
        (".rodata.count.x=1", OVERRIDE_NAME),
        (".rodata.flow.packet=1", OVERRIDE_NAME),
        (".rodata.flow.=1", OVERRIDE_NAME),
        (".rodata.prot=1", OVERRIDE_NAME),
        (".rodata.=1", OVERRIDE_NAME),
        (".rodata/count=1", OVERRIDE_NAME),
        (".rodata=1", OVERRIDE_NAME),
        (".bss.count=1", OVERRIDE_NAME),
        ("count=1", OVERRIDE_NAME),
        ("flows.count=1", OVERRIDE_NAME),
        ("flows:count=1", OVERRIDE_NAME),
        ("flows.key_size=1", OVERRIDE_NAME),
        ("flows.inner.max_entries=1", OVERRIDE_NAME),
        ("tables.inner.key_size=1", OVERRIDE_NAME),
        ("tables.inner.pinning=none", OVERRIDE_REFUSED),
        ("flows.value_size=1", OVERRIDE_REFUSED),
        ("flows.max_entries=-1", OVERRIDE_VALUE),
        ("flows.max_entries=4294967296", OVERRIDE_VALUE),
        ("flows.max_entries=4Gi", OVERRIDE_VALUE),
        ("flows.max_entries=[1]", OVERRIDE_VALUE),
        ("flows.map_flags=BPF_F_NO_PREALOC", OVERRIDE_VALUE),
        ("flows.map_flags=", OVERRIDE_VALUE),
        ("flows.map_flags=1|", OVERRIDE_VALUE),
        ("flows.pinning=1", OVERRIDE_VALUE),
        (".rodata.max_entries=2", OVERRIDE_REFUSED),
        (".rodata.map_flags=0", OVERRIDE_REFUSED),
        (".rodata/value_size=0", OVERRIDE_REFUSED),
        (".rodata/value_size=1Gi", OVERRIDE_REFUSED),
        (".kconfig.CONFIG_HZ=100", OVERRIDE_REFUSED),
        ("flow.kconfig.CONFIG_HZ=100", OVERRIDE_REFUSED),
    ] {
        let found = refused(&plan, &set(&[text]));
        assert_eq!(found.code, code, "{text}: {found}");
        assert!(
            found.notes.iter().any(|note| note.contains("override")),
            "{text}"
        );
    }
}

#[test]
fn near_names_are_offered() {
    let plan = little();
    for (text, help) in [
        ("flwos.max_entries=1", "did you mean 'flows'?"),
        ("flows.max_entrys=1", "did you mean 'max_entries'?"),
        ("flows.map_flags=NO_PREALOC", "did you mean 'NO_PREALLOC'?"),
        (".rodata.prot=1", "did you mean 'port'?"),
        (".rodata.flow.packet=1", "did you mean 'packets'?"),
        (".rodata.mode=LERN", "did you mean 'LEARN'?"),
        (".rodat.port=1", "did you mean '.rodata'?"),
    ] {
        assert_eq!(
            refused(&plan, &set(&[text])).help.as_deref(),
            Some(help),
            "{text}"
        );
    }
    let found = refused(&plan, &Overrides::default().skip("tabel"));
    assert_eq!(found.help.as_deref(), Some("did you mean 'table'?"));
}

#[test]
fn fields_are_set() {
    let done = applied(
        &little(),
        &set(&[
            "flows.max_entries=64Ki",
            "flows.map_flags=BPF_F_NO_PREALLOC|NUMA_NODE|0x40",
            "flows.numa_node=0",
            "flows.pinning=by_name",
            "ring.max_entries=5000",
            "events.max_entries=0",
            "tables.inner.max_entries=4",
            "tables.max_entries=3",
            ".rodata.map_flags=RDONLY_PROG|MMAPABLE|NUMA_NODE",
        ]),
    );
    let map = |name| done.plan.map(name).unwrap();
    let flows = map("flows");
    assert_eq!(flows.max_entries, MaxEntries::Count(65536));
    assert_eq!(
        flows.map_flags,
        uapi::BPF_F_NO_PREALLOC | uapi::BPF_F_NUMA_NODE | uapi::BPF_F_ZERO_SEED
    );
    assert_eq!(flows.pinning, Pinning::ByName);
    assert_eq!(map("ring").max_entries, MaxEntries::Count(8192));
    assert_eq!(map("events").max_entries, MaxEntries::PossibleCpus);
    assert_eq!(map("tables").max_entries, MaxEntries::Count(3));
    assert_eq!(done.warnings, []);
    let again = applied(&done.plan, &set(&["flows.pinning=none"]));
    assert_eq!(again.plan.map("flows").unwrap().pinning, Pinning::None);
}

#[test]
fn what_the_kernel_would_refuse_is_refused() {
    let plan = little();
    for (texts, code) in [
        (&["flows.max_entries=0"][..], codes::ENTRIES_REQUIRED),
        (
            &["flows.map_flags=BPF_F_MMAPABLE"],
            codes::ATTRIBUTE_REFUSED,
        ),
        (
            &["flows.map_flags=BPF_F_RDONLY|BPF_F_WRONLY"],
            codes::ATTRIBUTE_REFUSED,
        ),
        (
            &["flows.map_flags=4", "flows.numa_node=5000"],
            codes::ATTRIBUTE_REFUSED,
        ),
        (&["tables.max_entries=2"], codes::SLOT_BEYOND_END),
        (&["table.max_entries=5"], codes::SLOT_DOES_NOT_FIT),
        (&["tables.inner.max_entries=5"], codes::SLOT_DOES_NOT_FIT),
        (&["tables.inner.max_entries=0"], codes::ENTRIES_REQUIRED),
        (
            &["table.map_flags=BPF_F_INNER_MAP"],
            codes::SLOT_DOES_NOT_FIT,
        ),
    ] {
        let found = refused(&plan, &set(texts));
        assert_eq!(found.code, code, "{texts:?}: {found}");
        let last = texts.last().unwrap();
        assert!(
            found.notes.iter().any(|note| note.ends_with(last)),
            "{found:#?}"
        );
    }
    // Both sides of a slot together are fine.
    let done = set(&["table.max_entries=5", "tables.inner.max_entries=5"]);
    applied(&plan, &done);
    let flags = set(&[
        "table.map_flags=INNER_MAP",
        "tables.inner.map_flags=INNER_MAP",
        "table.max_entries=9",
    ]);
    applied(&plan, &flags);
}

#[test]
fn only_new_problems_are_the_overrides_doing() {
    let mut plan = little();
    plan.maps[0].max_entries = MaxEntries::Count(0);
    plan.maps[0].map_flags = uapi::BPF_F_MMAPABLE;
    applied(&plan, &set(&["flows.max_entries=5"]));
    applied(&plan, &set(&["ring.max_entries=4096"]));
    refused(&plan, &set(&["flows.map_flags=BPF_F_MMAPABLE"]));
}

#[test]
fn ignored_attributes_are_warned_about() {
    let done = applied(&little(), &set(&["flows.numa_node=1"]));
    let [warning] = done.warnings.as_slice() else {
        panic!("{:#?}", done.warnings)
    };
    assert_eq!(warning.code, codes::ATTRIBUTE_IGNORED);
}

#[test]
fn names_that_are_fields_and_variables_need_an_unambiguous_spelling() {
    let plan = little();
    let found = refused(&plan, &set(&[".rodata.value_size=4"]));
    assert_eq!(found.code, codes::OVERRIDE_AMBIGUOUS);
    let help = found.help.unwrap();
    assert!(help.contains(".rodata:value_size") && help.contains(".rodata/value_size"));
    assert_eq!(
        bytes_after(&plan, ".rodata:value_size=4", "value_size"),
        [4, 0, 0, 0]
    );
    let size = plan.map("flow.rodata").unwrap().value_size;
    let text = format!(".rodata/value_size={}", size + 4);
    let done = applied(&plan, &set(&[&text]));
    assert_eq!(done.plan.map("flow.rodata").unwrap().value_size, size + 4);
}

#[test]
fn nothing_is_set_twice() {
    let plan = little();
    for texts in [
        &["flows.max_entries=1", "flows.max_entries=1"][..],
        &["flows.max_entries=1", "flows/max_entries=2"],
        &[".rodata.count=1", "flow.rodata:count=1"],
        &[".rodata.ports=[1]", ".rodata.ports[3]=1"],
        &[".rodata.flows[1].bytes=1", ".rodata.flows[1].bytes=1"],
    ] {
        assert_eq!(
            refused(&plan, &set(texts)).code,
            codes::OVERRIDE_TWICE,
            "{texts:?}"
        );
    }
    let apart = set(&[
        ".rodata.ports[0]=1",
        ".rodata.ports[1]=2",
        ".rodata.ports[2]=3",
    ]);
    applied(&plan, &apart);
}

#[test]
fn all_problems_are_told_at_once() {
    let overrides = set(&[
        "flwos.max_entries=1",
        ".rodata.port=-1",
        "flows.numa_node=x",
    ])
    .skip("no");
    assert_eq!(overrides.apply(&little()).unwrap_err().len(), 4);
    let many = (0..1000).fold(Overrides::default(), |all, n| {
        all.set(format!("m{n}.x"), 1_u8)
    });
    let found = many.apply(&little()).unwrap_err();
    assert_eq!(found.len(), 101);
    assert_eq!(found.last().unwrap().code, codes::PLAN_MORE);
}

#[test]
fn the_last_array_grows_and_shrinks_with_its_section() {
    let plan = little();
    let before = plan.map("flow.rodata").unwrap().value_size;
    for (size, length) in [(before + 40, 12), (before - 4, 1), (before, 2)] {
        let text = format!(".rodata/value_size={size}");
        let done = applied(&plan, &set(&[&text, ".rodata.tail=[1]"]));
        assert_eq!(done.warnings, [], "{size}");
        let map = done.plan.map("flow.rodata").unwrap();
        let ids = map.btf.unwrap();
        assert_eq!(Some(TypeId(ids.value_type_id)), map.value_type);
        assert_eq!(done.plan.size_of(map.value_type.unwrap()), Some(size));
        assert_eq!(map.data.as_ref().unwrap().size, size);
        let tail = globals::variables(&done.plan, map, &[]).last().unwrap();
        assert_eq!(tail.size, length * 4);
        assert_eq!(done.plan.size_of(tail.ty), Some(length * 4));
    }
    // What was there stays, what is cut is gone.
    let filled = applied(&plan, &set(&[".rodata.tail=[1, 2]"])).plan;
    let text = format!(".rodata/value_size={}", before - 4);
    let cut = applied(&filled, &set(&[&text])).plan;
    let contents = cut.contents_by_map()["flow.rodata"];
    assert_eq!(
        (u32::try_from(contents.len()), contents.last()),
        (Ok(before - 7), Some(&1))
    );
}

#[test]
fn sections_that_cannot_be_resized_lose_their_types() {
    let plan = little();
    let before = plan.map("flow.rodata").unwrap().value_size;
    for size in [before + 1, 4, before - 8] {
        let done = applied(&plan, &set(&[&format!(".rodata/value_size={size}")]));
        let [warning] = done.warnings.as_slice() else {
            panic!("{:#?}", done.warnings)
        };
        assert_eq!(warning.code, codes::OVERRIDE_TYPES);
        let map = done.plan.map("flow.rodata").unwrap();
        assert_eq!((map.btf, map.value_size), (None, size));
        assert!(done.plan.btf.is_empty(), "nothing else has types");
    }
    // A variable beyond the new end is not there any more.
    let found = refused(&plan, &set(&[".rodata/value_size=4", ".rodata.tail=[1]"]));
    assert_eq!(found.code, codes::OVERRIDE_REFUSED);
}

#[test]
fn flags_decide_about_types() {
    let composite = |name: &str, size, members: &[(&str, u32)]| {
        let members = members.iter().zip(0..).map(|((name, ty), place)| Member {
            name: Some((*name).to_owned()),
            ty: TypeId(*ty),
            bit_offset: place * 32,
            bitfield_size: None,
        });
        Type::Struct(Composite {
            name: Some(name.into()),
            size,
            members: members.collect(),
        })
    };
    let types = vec![
        int("int", 4, IntEncoding::Signed),
        composite("bpf_spin_lock", 4, &[("val", 1)]),
        composite("guarded", 8, &[("lock", 2), ("count", 1)]),
    ];
    let mut before = plan(types, &[("count", 1)], Endianness::Little);
    before.maps[0] = Map {
        key_type: Some(TypeId(1)),
        value_type: Some(TypeId(3)),
        btf: Some(BtfIds {
            key_type_id: 1,
            value_type_id: 3,
        }),
        ..sample::map("flows", uapi::BPF_MAP_TYPE_HASH, [4, 8, 100])
    };
    let before = applied(&before, &set(&["ring.max_entries=4096"])).plan;
    assert_eq!(before.types.len(), 5);
    // The kernel refuses a lock that programs cannot take.
    let done = applied(&before, &set(&["flows.map_flags=BPF_F_RDONLY_PROG"]));
    let [warning] = done.warnings.as_slice() else {
        panic!("{:#?}", done.warnings)
    };
    assert_eq!(warning.code, codes::OVERRIDE_TYPES);
    assert_eq!(done.plan.map("flows").unwrap().btf, None);
    assert_eq!((done.plan.kernel_types, done.plan.types.len()), (3, 5));
    // The types are described all the same, so they can come back.
    let again = applied(&done.plan, &set(&["flows.map_flags=0"]));
    assert_eq!((again.plan, again.warnings), (before, Vec::new()));
}

#[test]
fn maps_are_left_out() {
    let plan = little();
    let done = applied(
        &plan,
        &Overrides::default()
            .skip("flows")
            .skip("ring")
            .skip("flows"),
    );
    let names: Vec<&str> = done.plan.maps.iter().map(|map| map.name.as_str()).collect();
    assert_eq!(names, ["events", "table", "tables", "flow.rodata"]);
    let done = applied(&plan, &set(&[".rodata.count=1"]));
    let done = applied(&done.plan, &Overrides::default().skip(".rodata"));
    assert_eq!(
        (done.plan.map("flow.rodata"), done.plan.contents.len()),
        (None, 0)
    );
    assert!(done.plan.types.is_empty() && done.plan.btf.is_empty());
    applied(&plan, &Overrides::default().skip("tables"));
    applied(&plan, &Overrides::default().skip("table").skip("tables"));
    let found = refused(&plan, &Overrides::default().skip("table"));
    assert_eq!(found.code, codes::OVERRIDE_SKIPPED);
    assert!(found.message.contains("slot 2 of 'tables'"), "{found}");
    let found = refused(&plan, &set(&["flows.max_entries=1"]).skip("flows"));
    assert_eq!(found.code, codes::OVERRIDE_SKIPPED);
}

#[test]
fn the_longest_name_of_a_map_wins() {
    let mut plan = little();
    let mut other = plan.map("flow.rodata").unwrap().clone();
    other.name = ".rodata.flow".into();
    other.value_type = None;
    other.btf = None;
    plan.maps.push(other);
    validate::validate(&plan).unwrap();
    // `.rodata.flow` is a map now, so its variables are meant.
    let found = refused(&plan, &set(&[".rodata.flow.bytes=1"]));
    assert_eq!(found.map.as_deref(), Some(".rodata.flow"));
    assert_eq!(bytes_after(&plan, ".rodata:flow.bytes=1", "flow")[4], 1);
}

#[test]
fn sections_are_found_without_types() {
    let mut plan = little();
    let map = plan.maps.last_mut().unwrap();
    (map.value_type, map.btf) = (None, None);
    let found = refused(&plan, &set(&[".rodata.count=1"]));
    assert!(found.help.unwrap().contains("-g"));
    let done = applied(&plan, &set(&[".rodata.value_size=4096"]));
    assert_eq!(
        (
            done.plan.map("flow.rodata").unwrap().value_size,
            done.warnings.len()
        ),
        (4096, 0)
    );
}

#[test]
fn what_does_not_read_is_no_override() {
    for (text, error) in [
        ("", ParseError::NoTarget),
        ("flows.max_entries", ParseError::NoTarget),
        ("=5", ParseError::NoTarget),
    ] {
        assert_eq!(text.parse::<Override>(), Err(error), "{text}");
    }
    let long = format!("{}=1", "x".repeat(4097));
    assert_eq!(long.parse::<Override>(), Err(ParseError::TooLong));
    let long = format!("x={}", "1".repeat(1 << 20));
    assert_eq!(long.parse::<Override>(), Err(ParseError::TooLong));
    assert!(matches!(
        "x=[".parse::<Override>(),
        Err(ParseError::Value(_))
    ));
    let twice: Override = "x=a=b".parse().unwrap();
    assert_eq!((twice.target(), twice.value()), ("x", &Value::from("a=b")));
}

#[test]
fn hostile_text_takes_little_time() {
    let plan = little();
    let elements = format!("[{}0]", "0,".repeat((1 << 19) - 40));
    for text in [
        format!(".rodata.ports={elements}"),
        format!(".rodata.device={}", "x".repeat((1 << 20) - 100)),
        format!(".rodata.count={}", "9".repeat((1 << 20) - 100)),
        format!("flows.map_flags={}", "1|".repeat(1 << 18)),
        format!("{}=1", ".".repeat(4096)),
        format!(".rodata.{}=1", "a.".repeat(2000)),
        format!(".rodata.flows{}=1", "[0]".repeat(1000)),
    ] {
        let overrides = Overrides::default().with(text.parse().unwrap());
        for problem in overrides.apply(&plan).unwrap_err() {
            let shown = format!("{problem:?}");
            assert!(shown.len() < 4000, "a message of {} bytes", shown.len());
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[-a-zA-Z0-9_.|]{1,12}".prop_map(Value::Plain),
        any::<u8>().prop_map(Value::Char),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        proptest::collection::vec(inner, 0..6).prop_map(Value::List)
    })
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        "(flows|ring|tables|tables.inner|table|.rodata)[.:/](max_entries|map_flags|numa_node|pinning|value_size)",
        "(.rodata|flow.rodata)[.:](count|port|on|wide|mode|ratio|device|ports|names|flow|flows|tail)(\\[[0-3]\\])?(.bytes)?",
        ".{0,20}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,5}(Ki)?",
        "-?0x[0-9a-f]{1,8}",
        "\\[[0-9, ]{0,12}\\]",
        "(true|none|by_name|LEARN|MMAPABLE|RDONLY_PROG\\|MMAPABLE)",
        "[ -~]{0,12}",
    ]
}

proptest! {
    #[test]
    fn overrides_read_as_they_are_written(target in "[^=]{1,20}", value in value()) {
        let written = Override::new(target, value);
        prop_assert_eq!(written.to_string().parse::<Override>(), Ok(written));
    }

    #[test]
    fn no_text_panics(text in ".{0,80}") {
        if let Ok(set) = text.parse::<Override>() {
            let _ = Overrides::default().with(set).apply(&little());
        }
    }

    #[test]
    fn what_is_applied_is_a_valid_plan(
        texts in proptest::collection::vec((target(), text()), 0..6),
        skip in proptest::collection::vec("flows|ring|events|table|tables|.rodata", 0..2),
    ) {
        let plan = little();
        let overrides = Overrides {
            set: texts.iter().filter_map(|(target, text)| format!("{target}={text}").parse().ok()).collect(),
            skip,
        };
        if let Ok(done) = overrides.apply(&plan) {
            prop_assert_eq!(validate::validate(&done.plan), Ok(()));
            let again = Overrides::default().apply(&done.plan);
            prop_assert_eq!(again.map(|done| done.plan), Ok(done.plan));
        }
    }

    #[test]
    fn hostile_plans_do_not_panic(plan in strategy::plan(), target in target(), text in text()) {
        let mut overrides = Overrides::default();
        for map in &plan.maps {
            overrides = overrides.set(format!("{}.max_entries", map.name), 5_u8);
            overrides = overrides.set(format!("{}/value_size", map.name), 64_u8);
            overrides = overrides.set(format!("{}/map_flags", map.name), 0_u8);
        }
        if let Ok(set) = format!("{target}={text}").parse() {
            overrides = overrides.with(set);
        }
        let empty = overrides.is_empty();
        if let Ok(done) = overrides.apply(&plan) {
            prop_assert!(empty || validate::validate(&done.plan).is_ok());
        }
    }
}

#[test]
fn work_is_in_proportion() {
    const COUNT: u32 = 20_000;
    let mut plan = little();
    let template = plan.maps[4].clone();
    for number in 0..COUNT {
        let name = format!("m{number}");
        plan.maps
            .push(sample::map(&name, uapi::BPF_MAP_TYPE_ARRAY, [4, 4, 4]));
    }
    let slots = (0..COUNT).map(|index| Slot {
        index,
        target: SlotTarget::Map(format!("m{index}")),
    });
    plan.maps.push(Map {
        name: "many".into(),
        max_entries: MaxEntries::Count(COUNT),
        slots: slots.collect(),
        ..template
    });
    let mut overrides = Overrides::default();
    for number in 0..COUNT {
        overrides = overrides.set(format!("m{number}.max_entries"), number % 10 + 1);
    }
    let start = std::time::Instant::now();
    // Most of them do not fit the template any more.
    assert_eq!(overrides.apply(&plan).unwrap_err().len(), 101);
    overrides.skip = vec!["many".into()];
    applied(&plan, &overrides);
    overrides.set.clear();
    overrides
        .skip
        .extend((0..COUNT).map(|number| format!("m{number}")));
    assert_eq!(applied(&plan, &overrides).plan.maps.len(), 6);
    overrides.skip.remove(0);
    assert_eq!(overrides.apply(&plan).unwrap_err().len(), 101);
    let names = (0..COUNT).map(|number| format!("no{number}"));
    overrides.skip = names.collect();
    assert_eq!(overrides.apply(&plan).unwrap_err().len(), 101);
    // About a second; each against each would be minutes.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
