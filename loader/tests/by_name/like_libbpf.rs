//! The same answer as `bpf_object__reuse_map` of libbpf, attribute by attribute.

use std::path::Path;

use bpfplan_compiler::{Options, compile};
use bpfplan_loader::kernel::MapAttributes;
use bpfplan_loader::{Kernel as _, LoadOptions, RealKernel, codes, load};
use bpfplan_plan::{Map, MapType, MaxEntries, uapi};
use libtest_mimic::Failed;

use crate::sample::{PinDir, map, plan};
use crate::support::kernel_view::map_id;
use crate::support::libbpf::Object;
use crate::{codes_of, named, root};

#[path = "../support/random.rs"]
mod random;
use random::Random;

const FIXTURE: &str = "../fixtures/obj/pin_by_name.bpf.o";

/// Types with sizes, `max_entries` and flags that the kernel takes.
const DECLARATIONS: [(u32, [u32; 2], u32, u32); 16] = {
    use uapi::*;
    [
        (BPF_MAP_TYPE_HASH, [4, 8], 16, 0),
        (BPF_MAP_TYPE_HASH, [8, 4], 16, BPF_F_NO_PREALLOC),
        (BPF_MAP_TYPE_ARRAY, [4, 8], 16, 0),
        (BPF_MAP_TYPE_ARRAY, [4, 8], 16, BPF_F_MMAPABLE),
        (BPF_MAP_TYPE_ARRAY, [4, 8], 16, BPF_F_RDONLY_PROG),
        (BPF_MAP_TYPE_PERCPU_ARRAY, [4, 8], 16, 0),
        (BPF_MAP_TYPE_LRU_HASH, [4, 8], 16, 0),
        (BPF_MAP_TYPE_LRU_HASH, [4, 8], 16, BPF_F_NO_COMMON_LRU),
        (BPF_MAP_TYPE_LPM_TRIE, [8, 8], 16, BPF_F_NO_PREALLOC),
        (BPF_MAP_TYPE_DEVMAP, [4, 8], 16, 0),
        (BPF_MAP_TYPE_DEVMAP_HASH, [4, 8], 16, 0),
        (BPF_MAP_TYPE_CPUMAP, [4, 8], 2, 0),
        (BPF_MAP_TYPE_QUEUE, [0, 8], 16, 0),
        (BPF_MAP_TYPE_RINGBUF, [0, 0], 4096, 0),
        (BPF_MAP_TYPE_BLOOM_FILTER, [0, 8], 16, 0),
        (BPF_MAP_TYPE_STACK_TRACE, [4, 8], 16, 0),
    ]
};

fn declaration(random: &mut Random) -> Map {
    let (map_type, sizes, max_entries, flags) = random.pick(&DECLARATIONS);
    let mut map = named(map("shared_state", map_type, sizes, max_entries));
    map.map_flags = flags;
    (map.key_type, map.value_type, map.btf) = (None, None, None);
    if map_type == uapi::BPF_MAP_TYPE_BLOOM_FILTER {
        map.map_extra = random.pick(&[0, 3]);
    }
    map
}

/// Changes one number, or none.
fn disturb(map: &mut Map, random: &mut Random) {
    let MaxEntries::Count(count) = map.max_entries else {
        panic!("a number")
    };
    match random.below(8) {
        0 => {
            map.max_entries = MaxEntries::Count(random.pick(&[count + 1, count + 2, count * 2, 3]))
        }
        1 => map.key_size = random.pick(&[4, 8, 12]),
        2 => map.value_size = random.pick(&[4, 8, 16]),
        3 => map.map_flags ^= 1 << random.below(13),
        4 => map.map_type = MapType(random.pick(&DECLARATIONS).0),
        5 => map.map_extra ^= random.pick(&[1, 4]),
        6 => map.map_flags ^= random.pick(&[uapi::BPF_F_RDONLY, uapi::BPF_F_WRONLY]),
        _ => {}
    }
}

/// Creates the map and pins it; `None` if the kernel does not take it.
fn pinned(map: &Map, path: &Path) -> Option<u32> {
    let kernel = RealKernel::new();
    let MaxEntries::Count(max_entries) = map.max_entries else {
        panic!("a number")
    };
    let attributes = MapAttributes {
        map_type: map.map_type,
        name: "shared_state",
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries,
        map_flags: map.map_flags,
        map_extra: map.map_extra,
        numa_node: 0,
        inner: None,
        btf: None,
    };
    let made = kernel.create_map(&attributes).ok()?;
    kernel.pin(&made, path).expect("nothing is there");
    Some(kernel.info(&made).expect("it is open").id)
}

/// Loads an object with one map of these numbers, pinned there, with libbpf; gives its id.
fn theirs(map: &Map, path: &Path) -> Result<u32, i32> {
    let object = Object::open(Path::new(FIXTURE))?;
    for theirs in object.maps() {
        if theirs.name() == "shared_state" {
            theirs.declare(map);
            theirs.set_pin_path(path);
        }
    }
    object.load()?;
    let maps = object.maps();
    let mut shared = maps.iter().filter(|map| map.name() == "shared_state");
    Ok(map_id(shared.next().expect("it is there").fd()))
}

/// Where libbpf refuses what it has pinned itself: the kernel rounds `max_entries`, or does not
/// keep a flag.
fn is_known(map: &Map) -> bool {
    map.map_flags & (uapi::BPF_F_RDONLY | uapi::BPF_F_WRONLY) != 0
        || map.map_flags & uapi::BPF_F_NO_COMMON_LRU != 0
}

pub(crate) fn libbpf_says_the_same() -> Result<(), Failed> {
    let mut random = Random::new(0x5eed);
    let directory = PinDir::new();
    std::fs::create_dir(&directory.0)?;
    let path = directory.0.join("shared_state");
    let (mut accepted, mut refused, mut deviations) = (0, 0, 0);
    for _ in 0..1500 {
        let declared = declaration(&mut random);
        let mut there = declared.clone();
        let mut declared = declared;
        disturb(&mut there, &mut random);
        if random.below(3) == 0 {
            disturb(&mut declared, &mut random);
        }
        let Some(id) = pinned(&there, &path) else {
            continue;
        };
        let theirs = theirs(&declared, &path);
        let ours = load(
            &plan(vec![declared.clone()]),
            &RealKernel::new(),
            &root(&directory),
        );
        RealKernel::new().unlink(&path)?;
        let what = || format!("declared {declared:?}\npinned {there:?}\nlibbpf {theirs:?}");
        match (ours, &theirs) {
            (Ok(loaded), Ok(their_id)) => {
                accepted += 1;
                assert!(loaded.maps[0].reused, "{}", what());
                assert_eq!(
                    (loaded.maps[0].id().expect("the kernel tells it"), *their_id),
                    (id, id),
                    "{}",
                    what()
                );
            }
            (Err(error), Err(errno)) => {
                refused += 1;
                assert_eq!(*errno, libc::EINVAL, "{}", what());
                assert_eq!(
                    codes_of(&error.diagnostics),
                    [codes::PIN_MISMATCH],
                    "{error}"
                );
            }
            (Ok(loaded), Err(_)) => {
                deviations += 1;
                assert!(is_known(&declared), "only we reuse it: {}", what());
                assert_eq!(loaded.maps[0].id().expect("the kernel tells it"), id);
            }
            (Err(error), Ok(_)) => panic!("only libbpf reuses it: {}\n{error}", what()),
        }
    }
    println!("{accepted} reused, {refused} refused, {deviations} reused by us only");
    assert!(accepted > 100 && refused > 100 && deviations > 10);
    Ok(())
}

/// What libbpf has pinned, bpfplan reuses without a word, and the other way round: types of an
/// object's whole BTF and of a plan's small one are the same.
pub(crate) fn pins_go_both_ways() -> Result<(), Failed> {
    for fixture in [
        "pin_by_name",
        "pin_maps_of_maps",
        "pin_maps_of_maps.nodwarf",
        "pin_maps_of_maps.clang19",
    ] {
        let path = format!("../fixtures/obj/{fixture}.bpf.o");
        both_ways(Path::new(&path)).map_err(|why| format!("{fixture}: {:?}", why.message()))?;
    }
    Ok(())
}

/// Ids of the maps that are pinned by name.
type Ids = Vec<(String, u32)>;

fn both_ways(object: &Path) -> Result<(), Failed> {
    let bytes = std::fs::read(object)?;
    let compiled =
        compile(&bytes, "pins.bpf.o", &Options::default()).map_err(|found| format!("{found:?}"))?;
    let kernel = RealKernel::new();
    let by_libbpf = |directory: &PinDir| -> Result<Ids, Failed> {
        let object = Object::open(object).map_err(|errno| format!("open: {errno}"))?;
        let maps = object.maps();
        let named = maps.iter().filter(|map| map.declared().pinned_by_name);
        let named: Vec<_> = named.collect();
        for map in &named {
            map.set_pin_path(&directory.0.join(map.name()));
        }
        object.load().map_err(|errno| format!("load: {errno}"))?;
        let ids = named.iter().map(|map| (map.name(), map_id(map.fd())));
        Ok(ids.collect())
    };
    let by_us = |directory: &PinDir| -> Result<Ids, Failed> {
        let options = LoadOptions {
            hold: true,
            ..root(directory)
        };
        let loaded = load(&compiled.plan, &kernel, &options)?;
        let warnings = loaded.diagnostics.iter();
        let warnings: Vec<_> = warnings
            .filter(|said| said.code == codes::REUSED_DIFFERS)
            .collect();
        assert_eq!(warnings, [] as [&bpfplan_plan::Diagnostic; 0]);
        let named = loaded.maps.iter().filter(|map| map.pinned.is_some());
        let ids = named.map(|map| (map.name.clone(), map.id().expect("the kernel tells it")));
        Ok(ids.collect())
    };
    let directory = PinDir::new();
    let first = by_libbpf(&directory)?;
    assert!(!first.is_empty());
    assert_eq!(by_us(&directory)?, first);
    assert_eq!(by_libbpf(&directory)?, first);
    let directory = PinDir::new();
    let first = by_us(&directory)?;
    assert_eq!(by_libbpf(&directory)?, first);
    assert_eq!(by_us(&directory)?, first);
    Ok(())
}
