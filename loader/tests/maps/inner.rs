//! Inner maps that are made while everything runs.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bpfplan_compiler::{Options, compile};
use bpfplan_loader::maps::{
    Array, ArrayOfMaps, Hash, HashOfMaps, InnerTemplate, MapError, MapHandle, OuterMap, RawMap,
    Update,
};
use bpfplan_loader::{Errno, Kernel, LoadOptions, RealKernel, codes, load, unload};
use bpfplan_plan::{Map, MaxEntries, Plan, Template, uapi};
use libtest_mimic::Failed;

use crate::recorder::{self, Call};
use crate::sample::{self, PinDir, array_of_maps};
use crate::{loaded, made, outer, raw};

pub(crate) fn pin(directory: &PinDir) -> LoadOptions {
    LoadOptions {
        pin_maps: Some(directory.0.clone()),
        ..LoadOptions::default()
    }
}

type Pairs = Array<[u32; 2]>;

fn hash(key: u32, value: u32, entries: u32) -> Template {
    let mut map = sample::map("", uapi::BPF_MAP_TYPE_HASH, [key, value], entries);
    (map.btf, map.key_type, map.value_type) = (None, None, None);
    map
}

pub(crate) fn new_inner_maps_fit() -> Result<(), Failed> {
    let loaded = loaded(&array_of_maps());
    let luts: ArrayOfMaps<Pairs> = ArrayOfMaps::from_loaded(loaded.map("luts").unwrap())?;
    assert_eq!((luts.len(), luts.is_empty()), (4, false));
    let builder = luts.template()?.name("fresh-one.of many");
    assert_eq!(builder.template().attributes().value_size, 8);
    let fresh = builder.create()?;
    assert_eq!(fresh.info().name, "fresh_one.of_ma");
    assert_eq!((fresh.len(), fresh.info().btf_value_type_id), (16, 2));
    fresh.set(3, &[1, 2])?;
    luts.insert(&1, &fresh)?;
    assert_eq!(luts.id_at(&1)?, Some(fresh.id()));
    let inside = luts.get(&1)?.expect("slot 1 is filled");
    assert_eq!(inside.get(3)?, Some([1, 2]));
    assert!(luts.get(&3)?.is_none());
    let ids: Vec<(u32, u32)> = luts.ids().collect::<Result<_, _>>()?;
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[1], (1, fresh.id()));
    assert!(luts.remove(&1)?);
    assert!(!luts.remove(&1)?);
    Ok(())
}

pub(crate) fn swapping_gives_the_old_map() -> Result<(), Failed> {
    let loaded = loaded(&array_of_maps());
    let luts: ArrayOfMaps<Pairs> = ArrayOfMaps::from_loaded(loaded.map("luts").unwrap())?;
    let builder = luts.template()?;
    let first = loaded
        .map("lut_0")
        .unwrap()
        .id()
        .expect("the kernel tells it");
    let (blue, green) = (builder.create()?, builder.create()?);
    let old = luts.swap(&0, &blue)?.expect("slot 0 was filled");
    assert_eq!(old.id(), first);
    let old = luts.swap(&0, &green)?.expect("slot 0 was filled");
    assert_eq!(old.id(), blue.id());
    assert!(luts.swap(&3, &blue)?.is_none());
    let error = luts.swap(&4, &blue).unwrap_err();
    assert_eq!(error.code(), codes::SLOT_BEYOND_END, "{error}");
    Ok(())
}

/// There is one batch for all of them. A kernel that waits for each element shows it, and gets the
/// others one by one; that these wait at the same time is tested on a kernel of ours (`insert_all`).
pub(crate) fn many_inserts_are_one_batch() -> Result<(), Failed> {
    const SLOTS: u32 = 256;
    let template = sample::map("", uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1);
    let loaded = outer(uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS, SLOTS, template);
    let outer: ArrayOfMaps<Array<u32>> = ArrayOfMaps::from_loaded(&loaded.maps[0])?;
    let builder = outer.template()?;
    let inner: Vec<Array<u32>> = (0..SLOTS)
        .map(|_| builder.create())
        .collect::<Result<_, _>>()?;
    let slots: Vec<(u32, &Array<u32>)> = (0..SLOTS).zip(&inner).collect();
    let (result, calls) = recorder::record(|| outer.insert_all(&slots));
    result?;
    let wanted: Vec<(u32, u32)> = (0..).zip(inner.iter().map(MapHandle::id)).collect();
    assert_eq!(outer.ids().collect::<Result<Vec<_>, _>>()?, wanted);
    let batches = calls.iter().filter_map(|call| match call {
        Call::Batch { slots, .. } => Some(*slots),
        _ => None,
    });
    assert_eq!(batches.collect::<Vec<_>>(), [SLOTS as usize]);
    let mut filled: Vec<u32> = calls.iter().filter_map(slot).collect();
    filled.sort_unstable();
    assert_eq!(filled, (0..SLOTS).collect::<Vec<_>>(), "each slot once");
    // Of two for one slot the last counts.
    outer.insert_all(&[(0, &inner[5]), (1, &inner[6]), (0, &inner[7])])?;
    assert_eq!(outer.id_at(&0)?, Some(inner[7].id()));
    outer.insert_all(&[])?;
    Ok(())
}

/// The slot that a call filled.
fn slot(call: &Call) -> Option<u32> {
    match call {
        Call::Slot { key, .. } => Some(*key),
        _ => None,
    }
}

pub(crate) fn the_slot_that_fails_is_named() -> Result<(), Failed> {
    let loaded = outer(uapi::BPF_MAP_TYPE_HASH_OF_MAPS, 3, hash(4, 4, 8));
    let outer: HashOfMaps<u32, RawMap> = HashOfMaps::from_loaded(&loaded.maps[0])?;
    let good: RawMap = raw(uapi::BPF_MAP_TYPE_HASH, [4, 4], 8, 0);
    let bad: RawMap = raw(uapi::BPF_MAP_TYPE_HASH, [4, 8], 8, 0);
    // The template is known: nothing is touched.
    let slots = [(1, &good), (2, &bad), (3, &good)];
    let error = outer.insert_all(&slots).unwrap_err();
    assert_eq!(error.code(), codes::INNER_DOES_NOT_FIT, "{error}");
    assert!(
        error
            .to_string()
            .contains("slot 2: value_size is 8, the template has 4")
    );
    assert_eq!(outer.ids().count(), 0);
    // It is not: the kernel finds it.
    let blind: HashOfMaps<u32, RawMap> = HashOfMaps::from_id(outer.id())?;
    let error = blind.insert_all(&slots).unwrap_err();
    assert_eq!(error.code(), codes::INNER_DOES_NOT_FIT, "{error}");
    assert_eq!(
        (error.done(), error.errno()),
        (Some(1), Some(Errno::EINVAL))
    );
    assert!(
        error.to_string().contains("slot 2: value_size is 8"),
        "{error}"
    );
    assert_eq!(outer.ids().count(), 1);
    // The map is full.
    let slots: Vec<(u32, &RawMap)> = (10..20).map(|key| (key, &good)).collect();
    let error = outer.insert_all(&slots).unwrap_err();
    assert_eq!((error.code(), error.done()), (codes::SLOT_REFUSED, Some(2)));
    assert!(
        error.to_string().contains("slot 12 failed: E2BIG"),
        "{error}"
    );
    // Beyond the end nothing is asked.
    let array = loaded_array_of_maps()?;
    let error = array.insert_all(&[(4, &good), (0, &good)]).unwrap_err();
    assert_eq!(
        (error.code(), error.errno()),
        (codes::SLOT_BEYOND_END, None)
    );
    Ok(())
}

fn loaded_array_of_maps() -> Result<ArrayOfMaps<RawMap>, Failed> {
    let loaded = loaded(&array_of_maps());
    Ok(ArrayOfMaps::from_loaded(loaded.map("luts").unwrap())?)
}

pub(crate) fn what_does_not_fit_is_explained() -> Result<(), Failed> {
    use uapi::*;
    let template = sample::map("", BPF_MAP_TYPE_ARRAY, [4, 12], 16);
    let loaded = outer(BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, template);
    let outer: ArrayOfMaps<RawMap> = ArrayOfMaps::from_loaded(&loaded.maps[0])?;
    let fits = raw(BPF_MAP_TYPE_ARRAY, [4, 12], 16, 0);
    let unknown: ArrayOfMaps<RawMap> = ArrayOfMaps::from_id(outer.id())?;
    let hash = raw(BPF_MAP_TYPE_HASH, [4, 12], 16, 0);
    let error = unknown.insert(&0, &hash).unwrap_err().to_string();
    assert!(error.contains("the template is not known"), "{error}");
    outer.insert(&1, &fits)?;
    for (map, why) in [
        (hash, "type is hash, the template has array"),
        (
            raw(BPF_MAP_TYPE_ARRAY, [4, 4], 16, 0),
            "value_size is 4, the template has 12",
        ),
        (
            raw(BPF_MAP_TYPE_ARRAY, [4, 12], 15, 0),
            "max_entries is 15, the template has 16",
        ),
        (
            raw(BPF_MAP_TYPE_ARRAY, [4, 12], 16, BPF_F_MMAPABLE),
            "map_flags is BPF_F_MMAPABLE, the template has 0",
        ),
        (
            outer.map().try_clone()?,
            "the kernel nests maps one level deep",
        ),
    ] {
        // From the load, and from the map that is in slot 1.
        for outer in [&outer, &unknown] {
            let error = outer.insert(&2, &map).unwrap_err();
            assert_eq!(error.code(), codes::INNER_DOES_NOT_FIT, "{error}");
            assert_eq!(error.errno(), Some(Errno::EINVAL));
            assert!(error.to_string().contains(why), "{error}");
        }
    }
    Ok(())
}

pub(crate) fn entries_differ_where_they_may() -> Result<(), Failed> {
    use uapi::*;
    let fixed = outer(
        BPF_MAP_TYPE_ARRAY_OF_MAPS,
        2,
        sample::map("", BPF_MAP_TYPE_ARRAY, [4, 4], 16),
    );
    let fixed: ArrayOfMaps<Array<u32>> = ArrayOfMaps::from_loaded(&fixed.maps[0])?;
    let error = fixed.template()?.max_entries(17).create().unwrap_err();
    assert_eq!((error.code(), error.errno()), (codes::INNER_ENTRIES, None));
    assert!(error.to_string().contains("BPF_F_INNER_MAP"), "{error}");
    assert_eq!(fixed.template()?.max_entries(16).create()?.len(), 16);

    let mut template: Template = sample::map("", BPF_MAP_TYPE_ARRAY, [4, 4], 16);
    template.map_flags = BPF_F_INNER_MAP;
    let free = outer(BPF_MAP_TYPE_ARRAY_OF_MAPS, 2, template);
    let free: ArrayOfMaps<Array<u32>> = ArrayOfMaps::from_loaded(&free.maps[0])?;
    let larger = free.template()?.max_entries(1000).create()?;
    assert_eq!(larger.len(), 1000);
    free.insert(&0, &larger)?;

    let hashes = outer(BPF_MAP_TYPE_ARRAY_OF_MAPS, 2, hash(4, 4, 8));
    let hashes: ArrayOfMaps<Hash<u32, u32>> = ArrayOfMaps::from_loaded(&hashes.maps[0])?;
    let smaller = hashes.template()?.max_entries(1).create()?;
    hashes.insert(&0, &smaller)?;
    // The kernel's rules say why.
    let error = hashes.template()?.max_entries(0).create().unwrap_err();
    assert_eq!(error.code(), codes::INNER_REFUSED);
    assert!(error.to_string().contains("max_entries"), "{error}");
    Ok(())
}

pub(crate) fn records_know_the_template() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let plan = sample::with_spin_lock(array_of_maps());
    drop(load(&plan, &kernel, &pin(&directory))?);
    let luts: ArrayOfMaps<Pairs> = ArrayOfMaps::from_pin(directory.0.join("luts"))?;
    let fresh = luts.template()?.create()?;
    luts.insert(&1, &fresh)?;
    assert_ne!(fresh.info().btf_id, 0);
    assert_eq!(luts.template()?.template().attributes().name, "luts.inner");
    // Relative paths work as well.
    let relative = directory.0.strip_prefix("/").unwrap();
    let from_root = Path::new("/proc/self/root").join(relative).join("luts");
    let again = OuterMap::from_pin(from_root)?;
    assert!(again.template()?.create().is_ok());
    unload(&kernel, &directory.0)?;
    Ok(())
}

pub(crate) fn unknown_templates_say_so() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let plan = array_of_maps();
    let others = loaded(&plan);
    drop(load(&plan, &kernel, &pin(&directory))?);
    let unknown = |outer: &OuterMap, why: &str| {
        let error = outer.template().unwrap_err();
        assert_eq!(error.code(), codes::TEMPLATE_UNKNOWN);
        assert!(error.to_string().contains(why), "{error}");
        assert!(error.diagnostic().help.is_some());
        Ok::<(), Failed>(())
    };
    let by_id = OuterMap::from_id(
        others
            .map("luts")
            .unwrap()
            .id()
            .expect("the kernel tells it"),
    )?;
    unknown(&by_id, "opened neither from a load nor from a pin")?;
    // A pin of another map beside the record.
    let stranger = directory.0.join("stranger");
    kernel.pin(&others.map("luts").unwrap().fd, &stranger)?;
    unknown(&OuterMap::from_pin(&stranger)?, "is of other maps")?;
    // A map of the record in place of another one has no template.
    std::fs::remove_file(&stranger)?;
    // No record.
    std::fs::remove_file(directory.0.join("bpfplan_record"))?;
    let pinned = OuterMap::from_pin(directory.0.join("luts"))?;
    unknown(&pinned, "has no record of a load")?;

    let told = by_id
        .into_map()
        .with_template(InnerTemplate::from_plan(&plan, "luts")?);
    let told = OuterMap::from_map(told)?;
    let fresh = told.template()?.create()?;
    told.insert(&3u32.to_ne_bytes(), &fresh)?;
    for (name, why) in [
        ("none", "the plan has no such map"),
        ("lut_0", "it holds no maps"),
    ] {
        let error = InnerTemplate::from_plan(&plan, name).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    // An example is as good.
    let like = InnerTemplate::like(&fresh);
    let told = OuterMap::from_map(pinned.into_map().with_template(like))?;
    told.insert(&3u32.to_ne_bytes(), &told.template()?.create()?)?;
    Ok(())
}

/// Without the lock of the template no map fits, and what is missing is said.
pub(crate) fn special_fields_are_kept() -> Result<(), Failed> {
    let plan = sample::with_spin_lock(array_of_maps());
    let loaded = loaded(&plan);
    let luts: ArrayOfMaps<Pairs> = ArrayOfMaps::from_loaded(loaded.map("luts").unwrap())?;
    luts.insert(&1, &luts.template()?.create()?)?;
    let plain: Pairs = made(uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 16);
    let error = luts.insert(&3, &plain).unwrap_err();
    assert!(error.to_string().contains("special fields"), "{error}");
    Ok(())
}

/// An outer map around maps whose values hold list heads.
fn lists(slots: &[(u32, &str)]) -> Plan {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj/field_list.bpf.o");
    let object = std::fs::read(root).expect("the fixture is there");
    let compiled = compile(&object, "field_list.bpf.o", &Options::default());
    let mut plan = compiled.expect("it compiles").plan;
    let queues = plan.maps[0].clone();
    let template = Template {
        inner: None,
        ..template_of(queues)
    };
    plan.maps.push(sample::outer(
        "lists",
        uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
        4,
        template,
        slots,
    ));
    let comes_with = plan.maps[0].with_programs;
    let outer = plan.maps.last_mut().unwrap();
    (outer.btf, outer.key_type, outer.value_type) = (None, None, None);
    outer.with_programs = comes_with;
    plan.programs.clear();
    plan
}

fn template_of(map: Map) -> Template {
    Map {
        map_flags: map.map_flags,
        map_extra: map.map_extra,
        numa_node: map.numa_node,
        pinning: map.pinning,
        key_type: map.key_type,
        value_type: map.value_type,
        btf: map.btf,
        ..Map::new(
            map.name,
            map.map_type,
            map.key_size,
            map.value_size,
            map.max_entries,
        )
    }
}

/// From the load and from its record: the BTF of the map in slot 0; without one, a refusal.
pub(crate) fn graph_roots_take_the_btf_of_others() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let mut options = pin(&directory);
    options.hold = true;
    let loaded = load(&lists(&[(0, "queues")]), &kernel, &options)?;
    let handles: [Result<OuterMap, MapError>; 2] = [
        OuterMap::from_loaded(loaded.map("lists").unwrap()),
        OuterMap::from_pin(directory.0.join("lists")),
    ];
    let [live, recorded] = handles.map(|handle| handle.expect("it opens"));
    for (key, outer) in (1u32..).zip([&live, &recorded]) {
        let fresh = outer.template()?.create()?;
        outer.insert(&key.to_ne_bytes(), &fresh)?;
        assert_eq!(outer.id_at(&key.to_ne_bytes())?, Some(fresh.id()));
    }
    for key in 0u32..3 {
        assert!(live.remove(&key.to_ne_bytes())?);
    }
    let error = live.template()?.create().unwrap_err();
    assert_eq!(error.code(), codes::INNER_BTF, "{error}");
    assert!(
        error.to_string().contains("the very same BTF object"),
        "{error}"
    );
    // The record does not tell that these values hold roots: the kernel does.
    let fresh = recorded.template()?.create()?;
    let error = recorded.insert(&0u32.to_ne_bytes(), &fresh).unwrap_err();
    assert_eq!(error.code(), codes::INNER_DOES_NOT_FIT, "{error}");
    assert!(
        error.to_string().contains("the very same BTF object"),
        "{error}"
    );
    unload(&kernel, &directory.0)?;
    Ok(())
}

pub(crate) fn a_hash_of_maps_has_keys_of_any_size() -> Result<(), Failed> {
    let mut plan = array_of_maps();
    plan.maps.truncate(1);
    let mut map = sample::outer(
        "tenants",
        uapi::BPF_MAP_TYPE_HASH_OF_MAPS,
        8,
        hash(4, 4, 8),
        &[],
    );
    map.key_size = 6;
    map.max_entries = MaxEntries::Count(300);
    plan.maps.push(map);
    let loaded = loaded(&plan);
    let tenants: HashOfMaps<[u8; 6], Hash<u32, u32>> =
        HashOfMaps::from_loaded(loaded.map("tenants").unwrap())?;
    let builder = tenants.template()?;
    let one = builder.create()?;
    one.update(&1, &2, Update::Any)?;
    tenants.insert(b"abcdef", &one)?;
    let inside = tenants.get(b"abcdef")?.expect("it is there");
    assert_eq!(inside.lookup(&1)?, Some(2));
    let keys: Vec<[u8; 6]> = (0..300u32)
        .map(|n| {
            let [a, b, ..] = n.to_ne_bytes();
            [a, b, 0, 0, 0, 1]
        })
        .collect();
    let slots: Vec<_> = keys[1..].iter().map(|key| (*key, &one)).collect();
    tenants.insert_all(&slots)?;
    assert_eq!(tenants.ids().count(), 300);
    assert!(tenants.remove(b"abcdef")?);
    assert_eq!(
        tenants
            .swap(&keys[1], &builder.create()?)?
            .map(|map| map.id()),
        Some(one.id())
    );
    Ok(())
}

/// Tables are rebuilt off to the side and put in place under a reader, which never meets an empty
/// slot or a table that is not finished.
pub(crate) fn readers_always_find_a_whole_table() -> Result<(), Failed> {
    let loaded = outer(uapi::BPF_MAP_TYPE_HASH_OF_MAPS, 2, hash(4, 4, 64));
    let tables: HashOfMaps<u32, Hash<u32, u32>> = HashOfMaps::from_loaded(&loaded.maps[0])?;
    let builder = tables.template()?;
    let build = |round: u32| {
        let table = builder.create()?;
        let entries: Vec<(u32, u32)> = (0..64).map(|key| (key, round)).collect();
        table.update_all(&entries)?;
        Ok::<_, MapError>(table)
    };
    tables.insert(&7, &build(0)?)?;
    let (stop, rounds) = (AtomicBool::new(false), 60);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut lookups, mut last) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let table = tables.get(&7).expect("it opens").expect("it is filled");
                let entries = table.entries().collect::<Result<Vec<_>, _>>();
                let entries = entries.expect("it is read");
                assert_eq!(entries.len(), 64);
                let round = entries[0].1;
                assert!(round >= last && entries.iter().all(|(_, value)| *value == round));
                (lookups, last) = (lookups + 1, round);
            }
            lookups
        });
        for round in 1..=rounds {
            let old = tables.swap(&7, &build(round)?)?.expect("it was filled");
            assert_eq!(old.lookup(&0)?, Some(round - 1));
        }
        stop.store(true, Ordering::Relaxed);
        let lookups = reader.join().expect("no lookup is lost");
        assert!(lookups > 0);
        Ok(())
    })
}

pub(crate) fn the_example_of_the_readme_works() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj");
    let object = std::fs::read(root.join("hash_of_maps_sparse.bpf.o"))?;
    let compiled = compile(&object, "hash_of_maps_sparse.bpf.o", &Options::default());
    let plan = compiled.expect("it compiles").plan;
    drop(load(&plan, &kernel, &pin(&directory))?);
    let path = directory.0.join("by_tenant");
    assert_eq!(
        crate::example::rebuild(&path, 7, &[(1, 2), (3, 4)])?,
        Some(0)
    );
    assert_eq!(crate::example::rebuild(&path, 7, &[(1, 2)])?, Some(2));
    assert_eq!(crate::example::rebuild(&path, 8, &[])?, None);
    let outer: HashOfMaps<u32, Hash<u32, u64>> = HashOfMaps::from_pin(&path)?;
    assert_eq!(outer.get(&7)?.expect("it is filled").lookup(&1)?, Some(2));
    unload(&kernel, &directory.0)?;
    Ok(())
}
