//! Fields of maps, sections of another size, and maps that are left out.

use super::*;

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
fn names_with_dots_are_not_pinned() {
    let plan = little();
    for map in [".rodata", "flow.rodata"] {
        let found = refused(&plan, &set(&[&format!("{map}.pinning=by_name")]));
        assert_eq!(found.code, codes::OVERRIDE_REFUSED, "{found}");
        applied(&plan, &set(&[&format!("{map}.pinning=none")]));
    }
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
