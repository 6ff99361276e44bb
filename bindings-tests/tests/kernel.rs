//! Generated modules against the running kernel.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

use bpfplan_bindings_tests as fixtures;
use bpfplan_loader::bindings::{LoadedPlan, OpenPlan, Ptr};
use bpfplan_loader::maps::{MapHandle as _, RawMap, RingBuf, Update};
use bpfplan_loader::{ErrorKind, LoadOptions, ProgramOptions, Programs, RealKernel, unload};
use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: only root can load");
    }
    assert!(
        root || std::env::var_os("CI").is_none(),
        "CI must be able to load"
    );
    let tests: [(&str, fn()); 14] = [
        ("programs_have_names", programs_have_names),
        ("all_maps_have_names", all_maps_have_names),
        ("new_inner_maps_are_typed", new_inner_maps_are_typed),
        (
            "a_load_that_pins_leaves_a_record",
            a_load_that_pins_leaves_a_record,
        ),
        (
            "pins_go_if_a_handle_cannot_be_made",
            pins_go_if_a_handle_cannot_be_made,
        ),
        (
            "a_plan_of_another_version_is_refused",
            a_plan_of_another_version_is_refused,
        ),
        ("global_data_is_set", global_data_is_set),
        ("entries_are_set", entries_are_set),
        ("keys_and_values_come_back", keys_and_values_come_back),
        ("unknown_values_of_enums_stay", unknown_values_of_enums_stay),
        ("inner_maps_are_typed", inner_maps_are_typed),
        ("a_map_that_holds_no_data", a_map_that_holds_no_data),
        ("every_kind_has_a_handle", every_kind_has_a_handle),
        ("a_bad_change_is_refused", a_bad_change_is_refused),
    ];
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(!root)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn global_data_is_set() {
    let mut open = fixtures::data_values::DataValues::open().unwrap();
    open.rodata.tiny = 7;
    open.rodata.enabled = false.into();
    open.data.rule.set_high(-5);
    open.bss.none[3] = 9;
    let loaded = open.load(&LoadOptions::default()).unwrap();
    let rodata = loaded.maps.rodata.get().unwrap();
    assert_eq!((rodata.tiny, rodata.port), (7, 8080));
    assert_eq!(rodata.enabled, false);
    let data = loaded.maps.data.get().unwrap();
    let rule = data.rule;
    assert_eq!((rule.low(), rule.middle(), rule.high()), (5, 200_000, -5));
    let bss = loaded.maps.bss.get().unwrap();
    assert_eq!(bss.none, [0, 0, 0, 9]);
    // Constants are frozen, the others are not.
    assert!(loaded.maps.rodata.set(&rodata).is_err());
    loaded.maps.bss.set(&Default::default()).unwrap();
}

fn entries_are_set() {
    let mut open = fixtures::types_hash::TypesHash::open().unwrap();
    open.maps.hash.set_max_entries(8).set_max_entries(77);
    let loaded = open.load(&LoadOptions::default()).unwrap();
    assert_eq!(loaded.maps.hash.info().max_entries, 77);
}

fn keys_and_values_come_back() {
    use fixtures::value_scalars::types::scalars;

    let open = fixtures::value_scalars::ValueScalars::open().unwrap();
    let loaded = open.load(&LoadOptions::default()).unwrap();
    let value = scalars {
        single: 0.5,
        twice: -0.25,
        huge: -(1 << 100),
        unsigned_huge: u128::MAX,
        letter: b'x',
        small: -1,
        truth: true.into(),
        narrow: -2,
        native: i64::MIN,
        anything: Ptr(0xffff_0000),
        ..scalars::default()
    };
    let table = &loaded.maps.table;
    table.update(&3, &value, Update::NoExist).unwrap();
    assert_eq!(table.lookup(&3).unwrap(), Some(value));
    assert_eq!(table.lookup(&4).unwrap(), None);
    loaded.maps.ratios.set(1, &0.125).unwrap();
    assert_eq!(loaded.maps.ratios.get(1).unwrap(), Some(0.125));
}

fn unknown_values_of_enums_stay() {
    use fixtures::value_enums::types::{direction, wide};

    let open = fixtures::value_enums::ValueEnums::open().unwrap();
    let loaded = open.load(&LoadOptions::default()).unwrap();
    let map = &loaded.maps.by_direction;
    map.update(&direction::INBOUND, &wide(77), Update::Any)
        .unwrap();
    assert_eq!(map.lookup(&direction(-1)).unwrap(), Some(wide(77)));
    assert_eq!(format!("{:?} {:?}", wide::LAST, wide(77)), "LAST wide(77)");
}

fn inner_maps_are_typed() {
    let open = fixtures::device_tables::DeviceTables::open().unwrap();
    let loaded = open.load(&LoadOptions::default()).unwrap();
    let inner = loaded.maps.device_tables.get(&1).unwrap().unwrap();
    assert_eq!(inner.id(), loaded.maps.downlinks.id());
}

fn a_map_that_holds_no_data() {
    let open = fixtures::no_maps::NoMaps::open().unwrap();
    let loaded = open.load(&LoadOptions::default()).unwrap();
    assert!(loaded.report.diagnostics.is_empty());
}

fn every_kind_has_a_handle() {
    macro_rules! loads {
        ($($module:ident::$name:ident),* $(,)?) => {
            $(
                let open = fixtures::$module::$name::open().unwrap();
                open.load(&LoadOptions::default()).unwrap();
            )*
        };
    }
    loads!(
        types_array::TypesArray,
        types_hash::TypesHash,
        types_keyless::TypesKeyless,
        types_lpm_trie::TypesLpmTrie,
        types_fd_arrays::TypesFdArrays,
        types_net::TypesNet,
        ringbuf_slots::RingbufSlots,
        hash_of_maps_sparse::HashOfMapsSparse,
        inner_every_type::InnerEveryType,
        value_arrays::ValueArrays,
        value_bitfields::ValueBitfields,
        value_large::ValueLarge,
        value_unions::ValueUnions,
        key_structs::KeyStructs,
        data_kconfig::DataKconfig,
        data_named::DataNamed,
        data_strings::DataStrings,
        field_kptr::FieldKptr,
        field_spin_lock::FieldSpinLock,
        weak_map::WeakMap,
    );
}

fn programs_have_names() {
    let object = std::fs::read("../fixtures/obj/user_ring.bpf.o").unwrap();
    let options = LoadOptions {
        programs: Programs::Load(ProgramOptions { object, pin: None }),
        ..LoadOptions::default()
    };
    let open = fixtures::user_ring::UserRing::open().unwrap();
    let loaded = open.load(&options).unwrap();
    let record = loaded.programs.record.unwrap();
    assert_eq!(record.name, "record");
    assert!(record.id > 0 && loaded.programs.drain.unwrap().id > 0);
    // Without programs there are none.
    let open = fixtures::user_ring::UserRing::open().unwrap();
    let mut loaded = open.load(&LoadOptions::default()).unwrap();
    assert!(loaded.programs.record.is_none());
    assert!(loaded.maps.commands.push(b"message").unwrap());
}

fn all_maps_have_names() {
    let open = fixtures::types_hash::TypesHash::open().unwrap();
    let names: Vec<String> = open_names(fixtures::types_hash::TypesHash::PLAN);
    let loaded = open.load(&LoadOptions::default()).unwrap();
    let all = loaded.maps.all();
    let found: Vec<&str> = all.iter().map(|map| map.name()).collect();
    assert_eq!(found, names);
    assert!(all.iter().any(|map| map.id() == loaded.maps.hash.id()));
    // Maps that a load may leave out.
    let open = fixtures::arena_variables::ArenaVariables::open().unwrap();
    let options = LoadOptions {
        programs: Programs::LeftOut,
        ..LoadOptions::default()
    };
    let count = open.load(&options).unwrap().maps.all().len();
    assert_eq!(count, 0, "the arena comes with the programs");
}

fn open_names(plan: &'static [u8]) -> Vec<String> {
    let plan = OpenPlan::read(plan).unwrap();
    plan.plan()
        .maps
        .iter()
        .map(|map| map.name.clone())
        .collect()
}

fn a_bad_change_is_refused() {
    let mut open = fixtures::data_sections::DataSections::open().unwrap();
    open.maps.bss.set_max_entries(2);
    let error = open.load(&LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.to_string().contains("max_entries"), "{error}");
}

fn new_inner_maps_are_typed() {
    let open = fixtures::inner_hash_sizes::InnerHashSizes::open().unwrap();
    let loaded = open.load(&LoadOptions::default()).unwrap();
    let outer = &loaded.maps.tables;
    let inner = outer.template().unwrap().create().unwrap();
    outer.insert(&0, &inner).unwrap();
    assert_eq!(outer.get(&0).unwrap().unwrap().id(), inner.id());
}

fn a_load_that_pins_leaves_a_record() {
    let pins = std::path::Path::new("/sys/fs/bpf")
        .join(format!("bpfplan-bindings-{}", std::process::id()));
    let options = LoadOptions {
        pin_maps: Some(pins.clone()),
        ..LoadOptions::default()
    };
    let loaded = fixtures::types_hash::TypesHash::open()
        .unwrap()
        .load(&options)
        .unwrap();
    assert_eq!(
        loaded.report.record.as_deref(),
        Some(pins.join("bpfplan_record").as_path())
    );
    assert_eq!(
        loaded.maps.hash.map().pin(),
        Some(pins.join("hash").as_path())
    );
    drop(loaded);
    unload(&RealKernel::new(), &pins).unwrap();
    assert!(!pins.exists());
}

fn pins_go_if_a_handle_cannot_be_made() {
    let pins = std::path::Path::new("/sys/fs/bpf")
        .join(format!("bpfplan-bindings-none-{}", std::process::id()));
    let options = LoadOptions {
        pin_maps: Some(pins.clone()),
        ..LoadOptions::default()
    };
    let plan = OpenPlan::read(fixtures::types_hash::TypesHash::PLAN).unwrap();
    let loaded = plan.load(&options).unwrap();
    assert!(pins.exists());
    let result = LoadedPlan::finish(loaded, |loaded| {
        loaded.handle::<RawMap>("hash")?;
        loaded.handle::<RingBuf>("hash_rdonly_prog")
    });
    let error = result.unwrap_err();
    assert_eq!(error.diagnostics.len(), 1, "{error}");
    assert!(!pins.exists());
}

fn a_plan_of_another_version_is_refused() {
    let mut plan = fixtures::types_hash::TypesHash::PLAN.to_vec();
    plan[8] = 99;
    let error = OpenPlan::read(plan).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Plan);
    assert!(error.to_string().contains("version 99"), "{error}");
    assert!(
        error.diagnostics[0]
            .help
            .as_deref()
            .unwrap()
            .contains("build the program again")
    );
}
