//! What a load asks of the kernel, call by call, and what it refuses to ask.

// A test may panic: that is how it fails.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod sample;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use bpfplan_loader::record::{self, Record};
use bpfplan_loader::{
    Errno, ErrorKind, FailingKernel, Fault, LoadError, LoadOptions, RecordingKernel, codes, load,
    unload,
};
use bpfplan_plan::rules::Target;
use bpfplan_plan::{Code, Endianness, MaxEntries, Plan, SlotTarget, uapi};
use sample::{array_of_maps, map, mixed, plan};

const DIR: &str = "/sys/fs/bpf/sample";

fn kernel() -> RecordingKernel {
    RecordingKernel::new(Target {
        page_size: 4096,
        possible_cpus: 3,
    })
    .with_directory("/sys/fs/bpf")
}

fn hold() -> LoadOptions {
    LoadOptions {
        hold: true,
        ..LoadOptions::default()
    }
}

fn pin() -> LoadOptions {
    LoadOptions {
        pin_maps: Some(DIR.into()),
        ..LoadOptions::default()
    }
}

fn lines(kernel: &RecordingKernel) -> Vec<String> {
    kernel.calls().iter().map(ToString::to_string).collect()
}

fn refusal(plan: &Plan, options: &LoadOptions) -> LoadError {
    let kernel = kernel();
    let error = load(plan, &kernel, options).expect_err("the load is refused");
    assert_eq!(lines(&kernel), [""; 0], "nothing is created");
    error
}

fn codes_of(error: &LoadError) -> Vec<Code> {
    error
        .diagnostics
        .iter()
        .map(|diagnostic| diagnostic.code)
        .collect()
}

#[test]
fn fills_slots_after_all_maps_exist() {
    let kernel = kernel();
    let plan = array_of_maps();
    let loaded = load(&plan, &kernel, &hold()).expect("the load works");
    let size = plan.btf.len();
    let inner = "key_size 4, value_size 8, max_entries 16, btf_key_type_id 1, \
                 btf_value_type_id 2, btf_fd #3";
    assert_eq!(
        lines(&kernel),
        [
            format!("btf_load({size} bytes) = #3"),
            format!("map_create(array, name \"lut_0\", {inner}) = #4"),
            format!("map_create(array, name \"luts.inner\", {inner}) = #5"),
            "map_create(array_of_maps, name \"luts\", key_size 4, value_size 4, max_entries 4, \
             inner_map_fd #5) = #6"
                .to_owned(),
            "close(#5)".to_owned(),
            format!("map_create(array, name \"lut_1\", {inner}) = #7"),
            "map_update_batch(#6, [0: #4, 2: #7])".to_owned(),
            "close(#3)".to_owned(),
        ]
    );
    let filled: Vec<u32> = loaded.maps.iter().map(|map| map.filled).collect();
    assert_eq!(filled, [0, 2, 0]);
    drop(loaded);
    assert_eq!(kernel.open_descriptors(), 0);
}

#[test]
fn resolves_what_only_the_machine_knows() {
    let kernel = RecordingKernel::new(Target {
        page_size: 16384,
        possible_cpus: 3,
    });
    let loaded = load(&mixed(), &kernel, &hold()).expect("the load works");
    assert_eq!(loaded.map("events").map(|map| map.max_entries), Some(3));
    assert_eq!(loaded.map("ring").map(|map| map.max_entries), Some(16384));
    let notes: Vec<String> = loaded
        .diagnostics
        .iter()
        .map(|note| note.message.clone())
        .collect();
    assert_eq!(
        notes,
        [
            "max_entries is 16384 here: 4096 rounded up for pages of 16384 bytes",
            "max_entries is 3 here: the number of possible CPUs",
        ]
    );
}

#[test]
fn pins_the_record_first_and_unload_removes_it_last() {
    let kernel = kernel();
    let mut plan = array_of_maps();
    plan.maps[0].name = "lut.0".to_owned();
    plan.maps[1].slots[0].target = SlotTarget::Map("lut.0".to_owned());
    let loaded = load(&plan, &kernel, &pin()).expect("the load works");
    assert_eq!(
        loaded.maps[0].pinned,
        Some(PathBuf::from(format!("{DIR}/lut_0")))
    );
    drop(loaded);
    let pins: Vec<String> = lines(&kernel)
        .into_iter()
        .filter(|line| line.starts_with("mkdir") || line.starts_with("obj_pin"))
        .collect();
    assert_eq!(
        pins,
        [
            format!("mkdir(\"{DIR}\", 0700)"),
            format!("obj_pin(#8, \"{DIR}/bpfplan_record\")"),
            format!("obj_pin(#4, \"{DIR}/lut_0\")"),
            format!("obj_pin(#6, \"{DIR}/luts\")"),
            format!("obj_pin(#7, \"{DIR}/lut_1\")"),
        ]
    );

    let record = Record::open(&kernel, DIR.as_ref()).expect("the record reads");
    assert!(record.made_directory);
    assert_eq!(record.maps.len(), 3);
    let template = record.maps[1]
        .template
        .as_ref()
        .expect("an outer map has a template");
    assert_eq!(
        (template.map_type, template.value_size),
        (uapi::BPF_MAP_TYPE_ARRAY, 8)
    );

    let unloaded = unload(&kernel, DIR.as_ref()).expect("the unload works");
    assert_eq!(unloaded.diagnostics, []);
    assert_eq!(
        unloaded.removed,
        ["lut_1", "luts", "lut_0", "bpfplan_record"].map(|name| PathBuf::from(DIR).join(name))
    );
    assert_eq!(unloaded.directory, Some(PathBuf::from(DIR)));
    assert_eq!(kernel.pins(), [""; 0].map(PathBuf::from));
    assert_eq!(kernel.open_descriptors(), 0);
}

#[test]
fn a_second_load_into_the_directory_is_refused() {
    let kernel = kernel();
    drop(load(&array_of_maps(), &kernel, &pin()).expect("the first load works"));
    let calls = kernel.calls().len();
    let error = load(&mixed(), &kernel, &pin()).expect_err("the second is refused");
    assert_eq!(codes_of(&error), [codes::RECORD_EXISTS]);
    assert_eq!(kernel.calls().len(), calls);
}

#[test]
fn refuses_what_would_survive_nowhere() {
    let error = refusal(&array_of_maps(), &LoadOptions::default());
    assert_eq!(error.kind, ErrorKind::NotKept);
    assert_eq!(codes_of(&error), [codes::NOT_KEPT]);
    let kernel = kernel();
    load(&plan(Vec::new()), &kernel, &LoadOptions::default()).expect("no map can be lost");
}

#[test]
fn refuses_what_it_does_not_load() {
    let foreign = match Endianness::NATIVE {
        Endianness::Little => Endianness::Big,
        Endianness::Big => Endianness::Little,
    };
    let mut plan = mixed();
    plan.object.endianness = foreign;
    let mut programs = map("tails", uapi::BPF_MAP_TYPE_PROG_ARRAY, [4, 4], 2);
    programs.slots = vec![bpfplan_plan::Slot {
        index: 1,
        target: SlotTarget::Program("tail_1".to_owned()),
    }];
    plan.maps.push(programs);
    let error = refusal(&plan, &hold());
    assert_eq!(error.kind, ErrorKind::Refused);
    assert_eq!(
        codes_of(&error),
        [codes::FOREIGN_ENDIANNESS, codes::PROGRAM_SLOTS]
    );
    assert_eq!(error.diagnostics[1].map.as_deref(), Some("tails"));
    assert_eq!(error.diagnostics[1].labels.len(), 1);
}

#[test]
fn refuses_an_invalid_plan() {
    let mut plan = array_of_maps();
    let mut btf = plan.btf.to_vec();
    btf[0] ^= 1;
    plan.btf = btf.into();
    assert_eq!(refusal(&plan, &hold()).kind, ErrorKind::Plan);
    let mut plan = array_of_maps();
    plan.maps[1].slots[0].target = SlotTarget::Map("nobody".to_owned());
    assert_eq!(refusal(&plan, &hold()).kind, ErrorKind::Plan);
}

#[test]
fn refuses_slots_with_other_keys() {
    let mut plan = mixed();
    plan.maps[2].key_size = 8;
    let error = refusal(&plan, &hold());
    assert!(
        matches!(error.kind, ErrorKind::Refused | ErrorKind::Plan),
        "{error}"
    );
    plan.maps[2].slots.clear();
    load(&plan, &kernel(), &hold()).expect("without slots any key will do");
}

#[test]
fn refuses_names_that_cannot_be_pins() {
    let named = |names: &[&str]| {
        let maps = names
            .iter()
            .map(|name| map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1));
        plan(maps.collect())
    };
    let long = "x".repeat(256);
    for name in ["a/b", "a\u{1b}b", record::NAME, "../x", long.as_str()] {
        let error = refusal(&named(&[name]), &pin());
        // What even a plan must not hold is refused as a plan.
        if error.kind == ErrorKind::Refused {
            assert_eq!(codes_of(&error), [codes::PIN_NAME], "{name:?}");
        }
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
    let error = refusal(&named(&["a.b", "a_b", "a.c", "a_c"]), &pin());
    assert_eq!(codes_of(&error), [codes::PIN_NAMES_COLLIDE; 2]);
    load(&named(&["a.b", "a_b"]), &kernel(), &hold()).expect("without pins they do not collide");
}

#[test]
fn warns_of_names_that_the_kernel_cuts_to_the_same() {
    let names = ["a_name_of_15_byt_1", "a_name_of_15_byt_2", "other"];
    let maps = names
        .iter()
        .map(|name| map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1));
    let loaded = load(&plan(maps.collect()), &kernel(), &hold()).expect("the load works");
    let codes: Vec<Code> = loaded
        .diagnostics
        .iter()
        .map(|warning| warning.code)
        .collect();
    assert_eq!(codes, [codes::KERNEL_NAMES_COLLIDE]);
}

#[test]
fn refuses_directories_that_cannot_hold_pins() {
    for directory in [
        "",
        "/",
        "..",
        "/sys/fs/bpf/a.b",
        "/sys/fs/bpf/missing/sample",
        "/elsewhere/x",
    ] {
        let options = LoadOptions {
            pin_maps: Some(directory.into()),
            ..LoadOptions::default()
        };
        let error = refusal(&array_of_maps(), &options);
        assert_eq!(codes_of(&error), [codes::PIN_DIRECTORY], "{directory:?}");
    }
    for directory in ["/sys/fs/bpf/sample/", "/sys/fs//bpf/./sample"] {
        let kernel = kernel();
        let options = LoadOptions {
            pin_maps: Some(directory.into()),
            ..LoadOptions::default()
        };
        drop(load(&array_of_maps(), &kernel, &options).expect("the load works"));
        assert_eq!(
            kernel.directories(),
            ["/sys/fs/bpf", DIR].map(PathBuf::from)
        );
    }
}

#[test]
fn unload_says_what_is_missing() {
    let kernel = kernel().with_directory(DIR);
    let error = unload(&kernel, DIR.as_ref()).expect_err("there is no record");
    assert_eq!(codes_of(&error), [codes::RECORD_MISSING]);
    let error = unload(&kernel, "/sys/fs/bpf/nowhere".as_ref()).expect_err("there is nothing");
    assert_eq!(codes_of(&error), [codes::PIN_DIRECTORY]);
}

#[test]
fn a_ring_buffer_is_rounded_as_libbpf_rounds() {
    let mut plan = plan(vec![map("ring", uapi::BPF_MAP_TYPE_RINGBUF, [0, 0], 5000)]);
    plan.maps[0].max_entries = MaxEntries::Count(5000);
    let loaded = load(&plan, &kernel(), &hold()).expect("the load works");
    assert_eq!(loaded.maps[0].max_entries, 8192);
}

#[test]
fn many_wrong_names_are_not_all_reported() {
    let names: Vec<String> = (0..500).map(|index| format!("{index}/x")).collect();
    let maps = names
        .iter()
        .map(|name| map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1));
    let error = refusal(&plan(maps.collect()), &pin());
    assert_eq!(error.diagnostics.len(), 101);
    assert!(error.diagnostics[100].message.contains("more"), "{error}");
}

#[test]
fn a_map_that_does_not_fit_says_how_large_it_is() {
    let large = map("large", uapi::BPF_MAP_TYPE_ARRAY, [4, 4096], 1 << 20);
    let failing = FailingKernel::new(kernel(), |fault: Fault<'_>| {
        (fault.subject == "large").then_some(Errno(libc::ENOMEM))
    });
    let error = load(&plan(vec![large]), &failing, &hold()).expect_err("4 GiB are too much");
    let notes = error.diagnostics[0].notes.join("; ");
    assert!(notes.contains("about 4096 MiB"), "{notes}");
}

#[test]
fn sizes_that_are_left_open_are_refused_before_anything_is_created() {
    let mut plan = array_of_maps();
    for map in &mut plan.maps {
        map.max_entries = MaxEntries::Count(0);
    }
    let error = refusal(&plan, &hold());
    assert_eq!(error.kind, ErrorKind::Refused);
    let required = bpfplan_plan::codes::ENTRIES_REQUIRED;
    assert_eq!(codes_of(&error), vec![required; plan.maps.len()]);
    for (map, found) in plan.maps.iter().zip(&error.diagnostics) {
        let help = found.help.as_deref().unwrap_or_default();
        assert!(
            help.contains(&format!("--set {}.max_entries=N", map.name)),
            "{help}"
        );
    }
}

#[test]
fn a_large_map_that_is_refused_stops_those_that_are_created_beside_it() {
    let hash = |index| {
        map(
            &format!("hash_{index}"),
            uapi::BPF_MAP_TYPE_HASH,
            [4, 8],
            65_536,
        )
    };
    let plan = plan((0..100).map(hash).collect());
    let creates = AtomicUsize::new(0);
    let kernel = FailingKernel::new(kernel(), |fault: Fault<'_>| {
        (fault.call == "create_map").then(|| {
            creates.fetch_add(1, Ordering::SeqCst);
            Errno(libc::ENOMEM)
        })
    });
    let error = load(&plan, &kernel.with_threads(), &hold()).expect_err("the maps are refused");
    assert_eq!(codes_of(&error), [codes::MAP_REFUSED]);
    // One on each of two threads, and the first map in its turn, if it was not one of these.
    assert!(creates.into_inner() <= 3);
}
