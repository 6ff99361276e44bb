//! Validation: the sample passes, and each thing that is wrong has its code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "a test that meets the unexpected has to fail"
)]

mod support;

use bpfplan_plan::types::{Composite, Member, SecVar, Type};
use bpfplan_plan::{
    BtfIds, Bytes, Code, Contents, Data, Diagnostic, Extern, ExternKind, Map, MapType, MaxEntries,
    Pinning, Plan, Slot, SlotTarget, Step, TypeId, WithPrograms, btf, codes, uapi, validate,
};
use support::sample;

fn problems(change: impl FnOnce(&mut Plan)) -> Vec<Diagnostic> {
    let mut plan = sample::plan();
    change(&mut plan);
    validate::validate(&plan).err().unwrap_or_default()
}

/// Exactly one problem, with this code.
#[track_caller]
fn refused(code: Code, change: impl FnOnce(&mut Plan)) -> Diagnostic {
    let found = problems(change);
    let [one] = found.as_slice() else {
        panic!("not one problem: {found:#?}")
    };
    assert_eq!(one.code, code, "{one}");
    one.clone()
}

/// Changes bytes that plans share.
fn edit(bytes: &mut Bytes, change: impl FnOnce(&mut Vec<u8>)) {
    let mut changed = bytes.to_vec();
    change(&mut changed);
    *bytes = changed.into();
}

/// Adds types that the kernel does not get.
fn describe(plan: &mut Plan, types: impl IntoIterator<Item = Type>) {
    plan.types.extend(types);
}

fn structure(members: &[u32]) -> Type {
    let members = members
        .iter()
        .map(|id| Member {
            name: None,
            ty: TypeId(*id),
            bit_offset: 0,
            bitfield_size: None,
        })
        .collect();
    Type::Struct(Composite {
        name: None,
        size: 4,
        members,
    })
}

#[test]
fn the_sample_is_valid() {
    assert_eq!(problems(|_| {}), []);
}

#[test]
fn header() {
    refused(codes::PLAN_HEADER, |plan| plan.version = 2);
    refused(codes::PLAN_HEADER, |plan| plan.object.name.clear());
    refused(codes::PLAN_HEADER, |plan| {
        plan.object.name = "../flow.bpf.o".into()
    });
    refused(codes::PLAN_HEADER, |plan| {
        plan.object.sha256 = Some("A".repeat(64))
    });
    refused(codes::PLAN_HEADER, |plan| {
        plan.object.sha256 = Some("0".repeat(63))
    });
}

#[test]
fn names() {
    let found = refused(codes::PLAN_NAME, |plan| plan.maps[5].name = "later".into());
    assert_eq!(found.field.as_deref(), Some("name"));
    refused(codes::PLAN_NAME, |plan| plan.maps[5].name.clear());
    refused(codes::PLAN_NAME, |plan| plan.maps[5].name = "a\0b".into());
    // Every slot that is wrong is reported with the name of its map.
    refused(codes::PLAN_NAME, |plan| plan.maps[5].name = "a".repeat(518));
}

#[test]
fn maps() {
    refused(codes::PLAN_MAP, |plan| {
        plan.maps[5].inner = plan.maps[2].inner.clone()
    });
    refused(codes::PLAN_MAP, |plan| {
        plan.maps[5].max_entries = MaxEntries::PossibleCpus
    });
    let template = |plan: &mut Plan| *plan.maps[2].inner.clone().unwrap();
    refused(codes::PLAN_MAP, |plan| {
        let pinned = bpfplan_plan::Template {
            pinning: Pinning::ByName,
            ..template(plan)
        };
        plan.maps[2].inner = Some(Box::new(pinned));
    });
    let found = problems(|plan| {
        let slots = vec![Slot {
            index: 0,
            target: SlotTarget::Map("lut_0".into()),
        }];
        plan.maps[2].inner = Some(Box::new(bpfplan_plan::Template {
            slots,
            ..template(plan)
        }));
    });
    assert!(
        found
            .iter()
            .all(|problem| problem.map.as_deref() == Some("luts.inner")),
        "{found:#?}"
    );
}

#[test]
fn contents() {
    let place = |plan: &Plan, name: &str| plan.maps.iter().position(|map| map.name == name);
    let wrong = |change: fn(&mut Map)| {
        refused(codes::PLAN_CONTENTS, |plan| {
            let index = place(plan, "flow.data").unwrap();
            change(&mut plan.maps[index]);
        });
    };
    wrong(|map| map.map_type = MapType(uapi::BPF_MAP_TYPE_HASH));
    wrong(|map| map.key_size = 8);
    wrong(|map| map.max_entries = MaxEntries::Count(2));
    wrong(|map| map.value_size = 16);
    wrong(|map| map.map_flags |= uapi::BPF_F_RDONLY_PROG);
    wrong(|map| map.map_flags |= uapi::BPF_F_INNER_MAP);
    wrong(|map| map.key_type = Some(TypeId(1)));
    wrong(|map| map.data.as_mut().unwrap().frozen = true);
    wrong(|map| map.data.as_mut().unwrap().sha256 = Some("0".repeat(64)));
    wrong(|map| {
        let hash = map.data.as_mut().unwrap().sha256.as_mut();
        hash.unwrap().make_ascii_uppercase();
    });
    wrong(|map| {
        *map = Map {
            value_size: 2,
            data: Some(Data::new(&[7, 0, 1], 2, false)),
            ..map.clone()
        }
    });
    refused(codes::PLAN_CONTENTS, |plan| {
        edit(&mut plan.contents[0].bytes, |bytes| bytes[0] = 8)
    });
    refused(codes::PLAN_CONTENTS, |plan| {
        edit(&mut plan.contents[0].bytes, |bytes| bytes.push(0))
    });
    refused(codes::PLAN_CONTENTS, |plan| plan.contents.swap(0, 1));
    refused(codes::PLAN_CONTENTS, |plan| {
        plan.contents.push(Contents {
            map: "flow.bss".into(),
            bytes: Bytes::new(),
        });
    });
    refused(codes::PLAN_CONTENTS, |plan| {
        plan.contents.push(Contents {
            map: "lut_0".into(),
            bytes: vec![1].into(),
        });
    });
    // Said before anything of that size is hashed or allocated.
    refused(codes::PLAN_CONTENTS, |plan| {
        let index = place(plan, "flow.bss").unwrap();
        plan.maps[index].value_size = u32::MAX;
        plan.maps[index].data.as_mut().unwrap().size = u32::MAX;
    });
    refused(codes::PLAN_MAP, |plan| {
        let inner = plan.maps[2].inner.as_mut().unwrap();
        inner.data = Some(Data::new(&[], 8, false));
    });
}

#[test]
fn data_is_written_and_frozen_after_its_map_is_created() {
    let plan = sample::plan();
    let index = |name: &str| plan.maps.iter().position(|map| map.name == name).unwrap();
    let steps = plan.steps();
    let of = |map: usize| -> Vec<Step> {
        let steps = steps.iter().filter(|step| step.map_index() == Some(map));
        steps.copied().collect()
    };
    let map = index("flow.data");
    let written = [Step::CreateMap { map }, Step::WriteContents { map }];
    assert_eq!(of(map), written);
    let map = index(".rodata.limits");
    let frozen = [
        Step::CreateMap { map },
        Step::WriteContents { map },
        Step::Freeze { map },
    ];
    assert_eq!(of(map), frozen);
    let first = steps
        .iter()
        .position(|step| matches!(step, Step::FillSlots { .. }));
    let last = steps
        .iter()
        .rposition(|step| matches!(step, Step::Freeze { .. }));
    assert!(first > last);
}

#[test]
fn kernel_names_of_data_are_made_of_what_the_kernel_takes() {
    let name = |name: &str, data: bool| {
        let mut map: Map = sample::map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 8, 1]);
        map.data = data.then(|| Data::new(&[], 8, false));
        map.kernel_name().into_owned()
    };
    assert_eq!(name(".rodata.abracadabra_long", true), ".rodata.abracad");
    assert_eq!(name(".data.a-b", true), ".data.a_b");
    assert_eq!(name(".data.größe", true), ".data.gr____e");
    assert_eq!(name("a-b", false), "a-b");
}

#[test]
fn an_outer_map_may_lack_its_template() {
    assert_eq!(
        problems(|plan| plan.maps[2].inner = None),
        [],
        "the kernel says so itself"
    );
}

#[test]
fn slots() {
    let to = |index, name: &str| Slot {
        index,
        target: SlotTarget::Map(name.into()),
    };
    refused(codes::PLAN_SLOTS, |plan| plan.maps[2].slots.reverse());
    refused(codes::PLAN_SLOTS, |plan| plan.maps[2].slots[1].index = 0);
    refused(codes::PLAN_SLOTS, |plan| {
        plan.maps[5].slots = vec![to(0, "lut_0")]
    });
    refused(codes::PLAN_SLOTS, |plan| {
        plan.maps[2].slots[0].target = SlotTarget::Program("tail".into());
    });
    refused(codes::PLAN_SLOTS, |plan| {
        plan.maps[4].slots = vec![to(0, "lut_0")]
    });
    refused(codes::PLAN_SLOTS, |plan| {
        plan.maps[4].slots[0].target = SlotTarget::Program(String::new());
    });
    refused(codes::PLAN_SLOTS, |plan| {
        plan.maps[2].map_type.0 = uapi::BPF_MAP_TYPE_HASH_OF_MAPS;
        plan.maps[2].key_size = 8;
    });
    refused(codes::SLOT_TARGET_MISSING, |plan| {
        plan.maps[2].slots[1] = to(3, "lut_2")
    });
    refused(codes::SLOT_BEYOND_END, |plan| {
        plan.maps[2].slots[1].index = 4
    });
    refused(codes::SLOT_DOES_NOT_FIT, |plan| {
        plan.maps[1].value_size = 16
    });
}

#[test]
fn types_refer_to_types() {
    refused(codes::PLAN_TYPES, |plan| plan.kernel_types = 1000);
    refused(codes::PLAN_TYPES, |plan| {
        plan.maps[5].value_type = Some(TypeId(1000))
    });
    refused(codes::PLAN_TYPES, |plan| {
        plan.maps[5].value_type = Some(TypeId::VOID)
    });
    refused(codes::PLAN_TYPES, |plan| {
        describe(plan, [Type::Ptr { to: TypeId(1000) }])
    });
    // A section lists variables.
    refused(codes::PLAN_TYPES, |plan| {
        let vars = vec![SecVar {
            var: TypeId(1),
            offset: 0,
            size: 4,
        }];
        describe(
            plan,
            [Type::Datasec {
                name: ".data".into(),
                size: 4,
                vars,
            }],
        );
    });
    // The kernel's types refer to each other only.
    let found = problems(|plan| {
        plan.types[3] = Type::Typedef {
            name: "flow_t".into(),
            to: TypeId(5),
        };
        let blob = btf::encode(&plan.types[..4], plan.object.endianness);
        plan.btf = blob.unwrap().into();
    });
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn walking_types_ends() {
    let next = u32::try_from(sample::plan().types.len()).unwrap() + 1;
    refused(codes::PLAN_TYPES, |plan| {
        describe(plan, [structure(&[next + 1]), structure(&[1, next])]);
    });
    refused(codes::PLAN_TYPES, |plan| {
        describe(plan, [Type::Const { to: TypeId(next) }])
    });
    refused(codes::PLAN_TYPES, |plan| {
        let to = TypeId(next);
        describe(
            plan,
            [
                Type::Ptr {
                    to: TypeId(next + 1),
                },
                Type::Const { to },
            ],
        );
    });
    // A list's node points to its like: no cycle by value.
    assert_eq!(
        problems(|plan| describe(
            plan,
            [structure(&[next + 1]), Type::Ptr { to: TypeId(next) }]
        )),
        []
    );
    // A long chain is too deep, whichever way it runs.
    let chain = |back: bool| {
        problems(|plan| {
            for id in next..next + 200 {
                let last = next + 199;
                let to = match back {
                    true => TypeId(if id == next { 1 } else { id - 1 }),
                    false => TypeId(if id == last { 1 } else { id + 1 }),
                };
                describe(plan, [Type::Const { to }]);
            }
        })
    };
    assert_eq!(
        chain(true).first().map(|found| found.code),
        Some(codes::PLAN_TYPES)
    );
    assert_eq!(
        chain(false).first().map(|found| found.code),
        Some(codes::PLAN_TYPES)
    );
}

#[test]
fn the_kernel_gets_what_the_plan_shows() {
    refused(codes::PLAN_BTF, |plan| {
        edit(&mut plan.btf, |bytes| bytes[30] ^= 1)
    });
    refused(codes::PLAN_BTF, |plan| {
        edit(&mut plan.btf, |bytes| bytes.push(0))
    });
    refused(codes::PLAN_BTF, |plan| plan.btf.clear());
    refused(codes::PLAN_BTF, |plan| {
        plan.maps[0].value_type = Some(TypeId(3))
    });
    refused(codes::PLAN_BTF, |plan| {
        plan.maps[0].btf = Some(BtfIds {
            key_type_id: 2,
            value_type_id: 4,
        });
    });
    // A type that only describes is not the kernel's.
    refused(codes::PLAN_BTF, |plan| {
        plan.maps[0].value_type = Some(TypeId(6));
        plan.maps[0].btf = Some(BtfIds {
            key_type_id: 1,
            value_type_id: 6,
        });
    });
    // libbpf passes no BTF for this type.
    refused(codes::PLAN_BTF, |plan| {
        plan.maps[3].key_type = Some(TypeId(1));
        plan.maps[3].value_type = Some(TypeId(1));
        plan.maps[3].btf = Some(BtfIds {
            key_type_id: 1,
            value_type_id: 1,
        });
    });
}

#[test]
fn all_problems_at_once_but_not_without_end() {
    let found = problems(|plan| {
        plan.version = 2;
        plan.maps[5].name.clear();
        plan.maps[6].name = "\0".repeat(100_000);
        plan.btf.clear();
    });
    let codes: Vec<_> = found.iter().map(|problem| problem.code.0).collect();
    assert_eq!(codes, ["BP0501", "BP0506", "BP0502", "BP0502", "BP0502"]);
    let size: usize = found
        .iter()
        .map(|problem| format!("{problem:?}").len())
        .sum();
    assert!(size < 10_000, "long names are cut: {size}");

    let many = problems(|plan| {
        for index in 0..1000 {
            let mut map = plan.maps[5].clone();
            map.name = format!("bad\0{index}");
            plan.maps.push(map);
        }
    });
    assert_eq!(many.len(), 101);
    assert_eq!(many[100].message, "900 more problems are not shown");
}

#[test]
fn names_of_codes_are_unique() {
    let mut codes: Vec<_> = codes::ALL.iter().map(|(code, _)| code.0).collect();
    assert!(codes.is_sorted(), "{codes:?}");
    codes.dedup();
    assert_eq!(codes.len(), codes::ALL.len());
    assert!(
        codes::ALL
            .iter()
            .all(|(_, title)| !title.is_empty() && !title.ends_with('.'))
    );
}

/// A plan with a map of kernel configuration values.
fn with_kconfig(plan: &mut Plan) -> &mut Map {
    let value = |name: &str, kind, offset, size| Extern {
        name: name.into(),
        kind,
        offset,
        size,
        weak: false,
        source: None,
    };
    let index = plan.maps.iter().position(|map| map.data.is_some()).unwrap();
    let mut map = plan.maps[index].clone();
    map.name = "flow.kconfig".into();
    map.data = None;
    map.value_size = 24;
    map.map_flags = uapi::BPF_F_RDONLY_PROG | uapi::BPF_F_MMAPABLE;
    map.value_type = None;
    map.btf = None;
    map.externs = vec![
        value("CONFIG_HZ", ExternKind::Signed, 0, 4),
        value("CONFIG_BPF", ExternKind::Bool, 4, 1),
        value("CONFIG_NAME", ExternKind::String, 5, 19),
    ];
    plan.maps.push(map);
    plan.maps.last_mut().unwrap()
}

#[test]
fn kernel_configuration_values_lie_in_their_map() {
    let sound = |plan: &mut Plan| {
        with_kconfig(plan);
    };
    assert_eq!(problems(sound), []);
    let wrong = |change: fn(&mut Map)| {
        let problem = refused(codes::PLAN_EXTERNS, |plan| change(with_kconfig(plan)));
        assert_eq!(problem.map.as_deref(), Some("flow.kconfig"));
    };
    wrong(|map| map.externs[1].offset = 3);
    wrong(|map| map.externs[2].size = 20);
    wrong(|map| map.externs[2].offset = u32::MAX);
    wrong(|map| map.externs[1].kind = ExternKind::Signed);
    wrong(|map| map.externs[1].kind = ExternKind::Tristate);
    wrong(|map| map.externs[0].kind = ExternKind::Char);
    wrong(|map| map.externs[0].name = "CONFIG_BPF".into());
    wrong(|map| map.externs[0].name.clear());
    wrong(|map| map.externs[0].name.push('\0'));
    wrong(|map| map.externs.swap(0, 1));
    wrong(|map| map.map_flags = uapi::BPF_F_MMAPABLE);
    wrong(|map| map.map_flags |= uapi::BPF_F_NUMA_NODE);
    wrong(|map| map.key_size = 8);
    wrong(|map| map.max_entries = MaxEntries::Count(2));
    wrong(|map| map.value_size = u32::MAX);
    let twice = |plan: &mut Plan| {
        let mut second = with_kconfig(plan).clone();
        second.name = "again.kconfig".into();
        plan.maps.push(second);
    };
    refused(codes::PLAN_EXTERNS, twice);
    assert_eq!(
        problems(|plan| with_kconfig(plan).map_type = MapType(uapi::BPF_MAP_TYPE_HASH))[0].code,
        codes::PLAN_EXTERNS
    );
}

#[test]
fn kernel_configuration_values_are_written_and_frozen() {
    let mut plan = sample::plan();
    with_kconfig(&mut plan);
    let map = plan.maps.len() - 1;
    let steps = plan.steps();
    let of_it: Vec<Step> = steps
        .into_iter()
        .filter(|step| step.map_index() == Some(map))
        .collect();
    assert_eq!(
        of_it,
        [
            Step::CreateMap { map },
            Step::WriteContents { map },
            Step::Freeze { map }
        ]
    );
}

/// Adds an array whose value holds a list root, seen through a typedef and an array.
fn with_root(plan: &mut Plan) -> &mut Map {
    let root = Type::Struct(Composite {
        name: Some("bpf_list_head".into()),
        size: 16,
        members: Vec::new(),
    });
    let first = u32::try_from(plan.types.len()).unwrap() + 1;
    describe(
        plan,
        [
            root,
            Type::Typedef {
                name: "root_t".into(),
                to: TypeId(first),
            },
            structure(&[first + 1]),
            Type::Ptr {
                to: TypeId(first + 2),
            },
        ],
    );
    // The kernel gets all of them.
    plan.kernel_types = first + 3;
    let kernel = usize::try_from(plan.kernel_types).unwrap();
    let blob = btf::encode(&plan.types[..kernel], plan.object.endianness);
    plan.btf = blob.unwrap().into();
    let mut map = plan.maps[0].clone();
    map.name = "roots".into();
    map.map_type = MapType(uapi::BPF_MAP_TYPE_ARRAY);
    map.inner = None;
    map.slots.clear();
    map.key_type = None;
    map.value_type = Some(TypeId(first + 2));
    map.btf = Some(BtfIds {
        key_type_id: 0,
        value_type_id: first + 2,
    });
    map.with_programs = Some(WithPrograms::GraphRoot);
    plan.maps.push(map);
    plan.maps.last_mut().unwrap()
}

#[test]
fn maps_come_with_the_programs_for_a_reason() {
    let sound = |plan: &mut Plan| {
        with_root(plan);
    };
    assert_eq!(problems(sound), []);
    let wrong = |change: fn(&mut Map)| {
        let problem = refused(codes::PLAN_MAP, |plan| change(with_root(plan)));
        assert_eq!(problem.field.as_deref(), Some("with_programs"));
    };
    wrong(|map| map.with_programs = None);
    wrong(|map| map.with_programs = Some(WithPrograms::ArenaData));
    // Behind a pointer there is no root in the value, and without BTF the kernel sees none.
    wrong(|map| {
        let pointer = TypeId(map.value_type.unwrap().0 + 1);
        map.value_type = Some(pointer);
        map.btf.as_mut().unwrap().value_type_id = pointer.0;
    });
    wrong(|map| map.btf = None);
    wrong(|map| {
        map.btf = None;
        map.map_type = MapType(uapi::BPF_MAP_TYPE_STRUCT_OPS);
    });
    let optional = |plan: &mut Plan| {
        let map = with_root(plan);
        map.btf = None;
        map.map_type = MapType(uapi::BPF_MAP_TYPE_STRUCT_OPS);
        map.with_programs = Some(WithPrograms::OptionalStructOps);
    };
    assert_eq!(problems(optional), []);
}

#[test]
fn steps_with_programs() {
    let mut plan = sample::plan();
    with_root(&mut plan);
    let map = plan.maps.len() - 1;
    let of_it = |steps: Vec<Step>| {
        let steps = steps.into_iter();
        let steps =
            steps.filter(|step| step.map_index() == Some(map) || *step == Step::LoadPrograms);
        steps.collect::<Vec<_>>()
    };
    assert_eq!(of_it(plan.steps()), [Step::LoadPrograms]);
    assert_eq!(of_it(plan.steps_with(false)), [Step::CreateMap { map }]);
    // What only libbpf can make has no step of ours.
    plan.maps[map].with_programs = Some(WithPrograms::StructOps);
    assert_eq!(of_it(plan.steps_with(false)), []);
}
