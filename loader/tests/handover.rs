//! Handing maps over to libbpf-rs and aya, by the features of their names.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panic"
)]

#[path = "support/privilege.rs"]
mod privilege;
#[path = "sample/mod.rs"]
mod sample;

use std::os::fd::AsFd as _;

use aya::maps::HashMap;
use bpfplan_compiler::{Options, compile};
use bpfplan_loader::libbpf_rs::{map_handle, reuse_maps};
use bpfplan_loader::maps::{Hash, MapHandle as _, RawMap, Update};
use bpfplan_loader::{LoadOptions, Loaded, RealKernel, load, unload};
use libbpf_rs::{MapCore as _, MapFlags, ObjectBuilder};
use libtest_mimic::{Failed, Trial};

fn main() {
    privilege::run(vec![
        Trial::test("libbpf_rs_reuses_maps", libbpf_rs_reuses_maps),
        Trial::test("libbpf_rs_reuses_pins", libbpf_rs_reuses_pins),
        Trial::test("single_maps_are_handed_over", single_maps_are_handed_over),
    ])
}

/// A fixture's object and its maps.
fn fixture(name: &str, options: &LoadOptions) -> (Vec<u8>, Loaded<RealKernel>) {
    let objects = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj");
    let object = std::fs::read(objects.join(format!("{name}.bpf.o"))).unwrap();
    let plan = compile(&object, name, &Options::default()).unwrap().plan;
    let loaded = load(&plan, &RealKernel::new(), options).unwrap();
    (object, loaded)
}

/// libbpf's object has the very maps of the load.
fn has_them(object: &libbpf_rs::Object, loaded: &Loaded<RealKernel>) {
    let mut count = 0;
    for map in object.maps() {
        let id = map.info().unwrap().info.id;
        assert!(
            loaded.maps.iter().any(|ours| ours.id() == Ok(id)),
            "{map:?}"
        );
        count += 1;
    }
    assert_eq!(count, loaded.maps.len());
}

const FIXTURES: [&str; 4] = [
    "types_hash",
    "device_tables",
    "data_values",
    "pin_maps_of_maps",
];

fn libbpf_rs_reuses_maps() -> Result<(), Failed> {
    for name in FIXTURES {
        let pins = sample::PinDir::new();
        let options = LoadOptions {
            hold: true,
            pin_root: Some(pins.0.clone()),
            ..LoadOptions::default()
        };
        let (object, loaded) = fixture(name, &options);
        let raw: Vec<RawMap> = loaded
            .maps
            .iter()
            .map(|map| RawMap::from_loaded(map).unwrap())
            .collect();
        let mut open = ObjectBuilder::default().open_memory(&object)?;
        let left = reuse_maps(&mut open, &raw)?;
        assert_eq!(left, [""; 0]);
        has_them(&open.load()?, &loaded);
        drop(raw);
        for map in &loaded.maps {
            if let Some(pin) = &map.pinned {
                std::fs::remove_file(pin)?;
            }
        }
    }
    Ok(())
}

fn libbpf_rs_reuses_pins() -> Result<(), Failed> {
    for name in &FIXTURES[..3] {
        let pins = sample::PinDir::new();
        let options = LoadOptions {
            pin_maps: Some(pins.0.clone()),
            ..LoadOptions::default()
        };
        let (object, loaded) = fixture(name, &options);
        let mut open = ObjectBuilder::default().open_memory(&object)?;
        // The last one is left out.
        let (last, others) = loaded.maps.split_last().unwrap();
        assert_eq!(reuse_maps(&mut open, others)?.len(), 1, "{}", last.name);
        let mut open = ObjectBuilder::default().open_memory(&object)?;
        reuse_maps(&mut open, &loaded.maps)?;
        has_them(&open.load()?, &loaded);
        unload(&RealKernel::new(), &pins.0)?;
    }
    Ok(())
}

fn single_maps_are_handed_over() -> Result<(), Failed> {
    let options = LoadOptions {
        hold: true,
        ..LoadOptions::default()
    };
    let plan = sample::plan(vec![sample::map(
        "numbers",
        bpfplan_plan::uapi::BPF_MAP_TYPE_HASH,
        [4, 8],
        8,
    )]);
    let loaded = load(&plan, &RealKernel::new(), &options)?;
    let ours: Hash<u32, u64> = Hash::from_loaded(&loaded.maps[0])?;
    ours.update(&1, &10, Update::Any)?;

    let theirs = map_handle(&ours)?;
    let value = theirs.lookup(&1u32.to_ne_bytes(), MapFlags::ANY)?;
    assert_eq!(value, Some(10u64.to_ne_bytes().to_vec()));

    let mut theirs: HashMap<_, u32, u64> = HashMap::try_from(bpfplan_loader::aya::map(&ours)?)?;
    assert_eq!(theirs.get(&1, 0)?, 10);
    theirs.insert(2, 20, 0)?;
    assert_eq!(ours.lookup(&2)?, Some(20));
    let data = bpfplan_loader::aya::map_data(ours.as_fd())?;
    assert_eq!(data.info()?.id(), ours.id());
    let other = std::fs::File::open("/dev/null")?;
    assert!(bpfplan_loader::aya::map_data(&other).is_err());
    Ok(())
}
