//! Maps that are there already, and what a load makes of them.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use bpfplan_loader::record::Record;
use bpfplan_loader::{
    BtfCache, Errno, ErrorKind, Kernel as _, LoadOptions, RealKernel, codes, load, unload,
};
use bpfplan_plan::types::Member;
use bpfplan_plan::{Plan, Severity, Type, uapi};
use libtest_mimic::Failed;

use crate::sample::{self, PinDir, map, maps, plan};
use crate::{
    array, clean, codes_of, counting, entries, held, ids, loaded, named, outer_by_name, refused,
    root,
};

pub(crate) fn the_second_load_reuses() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let plan = plan(vec![named(array("kept")), array("fresh")]);
    let first = load(&plan, &kernel, &held(&directory))?;
    assert!(!first.maps[0].reused && first.maps[0].pinned == Some(directory.0.join("kept")));
    assert_eq!(first.maps[1].pinned, None);
    assert_eq!(first.record, None, "by name alone leaves no record");
    assert_eq!(entries(&directory.0), ["kept"]);
    kernel.write(&first.maps[0].fd, 3, &[7; 8])?;
    let before = ids(&first);
    drop(first);

    let counted = counting();
    let second = load(&plan, &counted, &held(&directory))?;
    assert_eq!(second.diagnostics, []);
    assert_eq!(
        counted.created().len(),
        1,
        "only the map that is not pinned"
    );
    assert_eq!(second.maps[0].id().expect("the kernel tells it"), before[0]);
    assert_ne!(second.maps[1].id().expect("the kernel tells it"), before[1]);
    assert!(second.maps[0].reused && !second.maps[1].reused);
    assert!(second.maps[0].btf);
    assert_eq!(second.maps[0].max_entries, 16);
    assert_eq!(second.maps[0].pinned, Some(directory.0.join("kept")));
    drop(second);
    let third = load(&plan, &kernel, &held(&directory))?;
    assert_eq!(kernel.read(&third.maps[0].fd, 3)?, [7; 8], "contents stay");
    // The descriptor is there to be written through.
    kernel.write(&third.maps[0].fd, 3, &[8; 8])?;
    kernel.unlink(&directory.0.join("kept"))?;
    kernel.remove_dir(&directory.0)?;
    Ok(())
}

/// A load in which every map is pinned by name needs nothing else; one other map is enough.
pub(crate) fn nothing_is_lost_without_hold() -> Result<(), Failed> {
    let directory = PinDir::new();
    let both = plan(vec![named(array("kept")), array("lost")]);
    let error = refused(&both, &root(&directory));
    assert_eq!(error.kind, ErrorKind::NotKept);
    assert!(error.diagnostics[0].message.contains("'lost'"), "{error}");
    assert!(!directory.0.exists());
    let one = plan(vec![named(array("kept"))]);
    let first = ids(&load(&one, &RealKernel::new(), &root(&directory))?);
    let counted = counting();
    let second = ids(&load(&one, &counted, &root(&directory))?);
    assert_eq!(first, second);
    assert_eq!(counted.created(), [0; 0]);
    Ok(())
}

pub(crate) fn differences_are_all_named() -> Result<(), Failed> {
    let directory = PinDir::new();
    let pinned = plan(vec![
        named(array("one")),
        named(array("two")),
        named(array("three")),
    ]);
    let before = ids(&load(&pinned, &RealKernel::new(), &root(&directory))?);
    let mut other = pinned.clone();
    other.maps[0] = named(map("one", uapi::BPF_MAP_TYPE_HASH, [4, 8], 17));
    other.maps[2].map_flags = uapi::BPF_F_MMAPABLE;
    other.maps.insert(0, named(array("another")));
    let error = refused(&other, &root(&directory));
    assert_eq!(error.kind, ErrorKind::Refused);
    assert_eq!(codes_of(&error.diagnostics), [codes::PIN_MISMATCH; 2]);
    let paths = |index: usize| -> Vec<String> {
        let differences = error.diagnostics[index].differences.iter();
        differences.map(ToString::to_string).collect()
    };
    assert_eq!(error.diagnostics[0].map.as_deref(), Some("one"));
    assert_eq!(
        paths(0),
        [
            "type: declared hash, pinned array",
            "max_entries: declared 17, pinned 16"
        ]
    );
    assert_eq!(error.diagnostics[1].map.as_deref(), Some("three"));
    assert_eq!(paths(1), ["map_flags: declared BPF_F_MMAPABLE, pinned 0"]);
    assert_eq!(entries(&directory.0), ["one", "three", "two"]);
    let after = ids(&load(&pinned, &RealKernel::new(), &root(&directory))?);
    assert_eq!(before, after);
    Ok(())
}

/// The members of `struct pair`, changed.
fn with_pair(plan: &Plan, change: impl FnOnce(&mut Vec<Member>)) -> Plan {
    let mut types = plan.types.clone();
    let Some(Type::Struct(pair)) = types.get_mut(1) else {
        panic!("type 2 is the struct")
    };
    change(&mut pair.members);
    sample::with_types(plan.clone(), types)
}

pub(crate) fn types_come_from_the_kernel() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let pinned = plan(vec![named(array("kept"))]);
    load(&pinned, &kernel, &root(&directory))?;

    let renamed = with_pair(&pinned, |members| members[1].name = Some("c".to_owned()));
    let loaded = load(&renamed, &kernel, &root(&directory))?;
    assert_eq!(codes_of(&loaded.diagnostics), [codes::REUSED_DIFFERS]);
    let warning = &loaded.diagnostics[0];
    assert_eq!(warning.severity, Severity::Warning);
    assert_eq!(warning.map.as_deref(), Some("kept"));
    assert_eq!(
        warning.differences[0].to_string(),
        "value.b: declared c, pinned b".replace("value.b", "value.c")
    );

    let moved = with_pair(&pinned, |members| {
        members[0].bit_offset = 32;
        members[1].bit_offset = 0;
        members.swap(0, 1);
    });
    let error = refused(&moved, &root(&directory));
    assert_eq!(codes_of(&error.diagnostics), [codes::PIN_MISMATCH]);
    let paths: Vec<&str> = error.diagnostics[0]
        .differences
        .iter()
        .map(|difference| difference.path.as_str())
        .collect();
    assert_eq!(paths, ["value.b", "value.a"]);

    // A map without types says so.
    let mut bare = pinned.clone();
    bare.maps[0].name = "bare".to_owned();
    bare.maps[0].btf = None;
    load(&bare, &kernel, &root(&directory))?;
    let mut typed = pinned.clone();
    typed.maps[0].name = "bare".to_owned();
    let loaded = load(&typed, &kernel, &root(&directory))?;
    assert_eq!(
        loaded.diagnostics[0].differences[0].to_string(),
        "BTF: declared of key and value, pinned none"
    );
    assert!(!loaded.maps[0].btf);
    Ok(())
}

/// The maps of an object have one BTF, which is read once for all of them.
pub(crate) fn types_are_read_once() -> Result<(), Failed> {
    let kernel = RealKernel::new();
    let loaded = loaded(&plan(vec![array("gone")]))?;
    let info = kernel.info(&loaded.maps[0].fd)?;
    let mut blobs = BtfCache::default();
    let types = kernel.map_types(&info, &mut blobs)?;
    assert!(types.is_some());
    drop(loaded);
    // The kernel lets go of a map's BTF some time after the map.
    let deadline = Instant::now() + Duration::from_secs(30);
    while kernel.map_types(&info, &mut BtfCache::default()) != Err(Errno::ENOENT) {
        assert!(Instant::now() < deadline, "the BTF is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(kernel.map_types(&info, &mut blobs)?, types);
    Ok(())
}

/// The template is in the record of the load, else it shows in a slot, else nobody knows it.
pub(crate) fn templates_are_compared() -> Result<(), Failed> {
    let other = |value_size: u32| {
        let mut plan = outer_by_name(&[]);
        let inner = plan.maps[0].inner.as_mut().expect("it is an outer map");
        inner.value_size = value_size;
        (inner.key_type, inner.value_type, inner.btf) = (None, None, None);
        plan
    };
    let kernel = RealKernel::new();
    for (inner, recorded) in [(&["a"][..], true), (&["a"][..], false), (&[][..], false)] {
        let directory = PinDir::new();
        let mut options = held(&directory);
        if recorded {
            options.pin_maps = Some(directory.0.clone());
        }
        let first = load(&outer_by_name(inner), &kernel, &options)?;
        options.pin_maps = None;
        let known = recorded || !inner.is_empty();
        match load(&other(4), &kernel, &options) {
            Err(error) if known => {
                assert_eq!(codes_of(&error.diagnostics), [codes::PIN_MISMATCH]);
                assert_eq!(
                    error.diagnostics[0].differences[0].to_string(),
                    "inner.value_size: declared 4, pinned 8"
                );
            }
            Ok(loaded) if !known => assert!(loaded.maps[0].reused),
            result => panic!(
                "{recorded} {inner:?}: {:?}",
                result.map(|loaded| loaded.diagnostics)
            ),
        }
        let same = load(&other(8), &kernel, &options)?;
        assert_eq!(
            same.maps[0].id().expect("the kernel tells it"),
            first
                .map("luts")
                .expect("it was made")
                .id()
                .expect("the kernel tells it")
        );
        drop(first);
        if recorded {
            clean(&directory)?;
            assert!(!directory.0.exists());
        }
    }
    Ok(())
}

/// `BPF_F_RDONLY` is a property of descriptors: the map does not keep it, so libbpf refuses its own
/// pin, and would write where the declaration forbids it.
pub(crate) fn descriptors_are_as_declared() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let mut map = named(array("read"));
    map.map_flags = uapi::BPF_F_RDONLY;
    let plan = plan(vec![map]);
    for reused in [false, true] {
        let loaded = load(&plan, &kernel, &root(&directory))?;
        assert_eq!(loaded.maps[0].reused, reused);
        let written = kernel.write(&loaded.maps[0].fd, 0, &[1; 8]);
        assert_eq!(written, Err(Errno::EPERM));
        assert_eq!(kernel.read(&loaded.maps[0].fd, 0)?, [0; 8]);
        let flags = rustix::io::fcntl_getfd(loaded.maps[0].as_fd())?;
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
    Ok(())
}

pub(crate) fn rounded_entries_are_reused() -> Result<(), Failed> {
    let directory = PinDir::new();
    let mut lru = named(map("lru", uapi::BPF_MAP_TYPE_LRU_HASH, [4, 4], 3));
    lru.map_flags = uapi::BPF_F_NO_COMMON_LRU;
    let mut events = named(map(
        "events",
        uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY,
        [4, 4],
        0,
    ));
    events.max_entries = bpfplan_plan::MaxEntries::PossibleCpus;
    let devices = named(map("devices", uapi::BPF_MAP_TYPE_DEVMAP, [4, 4], 8));
    let ring = named(map("ring", uapi::BPF_MAP_TYPE_RINGBUF, [0, 0], 4096));
    let plan = plan(vec![lru, events, devices, ring]);
    let first = ids(&load(&plan, &RealKernel::new(), &root(&directory))?);
    let second = load(&plan, &RealKernel::new(), &root(&directory))?;
    assert_eq!(ids(&second), first);
    assert_eq!(second.diagnostics, []);
    assert!(second.maps.iter().all(|map| map.reused));
    Ok(())
}

/// `unload` removes what the load made in its directory; pins elsewhere, and maps that were there
/// before, stay.
pub(crate) fn records_have_what_a_load_made() -> Result<(), Failed> {
    let kernel = RealKernel::new();
    let (directory, elsewhere) = (PinDir::new(), PinDir::new());
    let recorded = |options: &LoadOptions, maps: &Plan| -> Result<Vec<String>, Failed> {
        load(maps, &kernel, options)?;
        let record = Record::open(&kernel, &directory.0)?;
        Ok(record.maps.into_iter().map(|map| map.pin).collect())
    };
    let both = plan(vec![named(array("named")), array("other")]);
    let apart = LoadOptions {
        pin_maps: Some(directory.0.clone()),
        ..root(&elsewhere)
    };
    assert_eq!(recorded(&apart, &both)?, ["other"]);
    assert_eq!(entries(&elsewhere.0), ["named"]);
    unload(&kernel, &directory.0)?;
    assert_eq!(entries(&elsewhere.0), ["named"]);

    let together = LoadOptions {
        pin_maps: Some(directory.0.clone()),
        ..root(&directory)
    };
    assert_eq!(recorded(&together, &both)?, ["named", "other"]);
    let unloaded = unload(&kernel, &directory.0)?;
    assert_eq!(unloaded.removed.len(), 3);
    assert!(!directory.0.exists());

    // This one is there before the load.
    let one = plan(vec![named(array("named"))]);
    load(&one, &kernel, &root(&directory))?;
    assert_eq!(recorded(&together, &both)?, ["other"]);
    let unloaded = unload(&kernel, &directory.0)?;
    assert_eq!(unloaded.diagnostics, []);
    assert_eq!(entries(&directory.0), ["named"]);
    Ok(())
}

/// Global data that is pinned by name keeps what it holds, and stays as frozen as it is.
pub(crate) fn contents_stay() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let mut data = sample::global_data();
    for map in &mut data.maps {
        map.name = map.name.replace('.', "_");
        map.pinning = bpfplan_plan::Pinning::ByName;
    }
    for contents in &mut data.contents {
        contents.map = contents.map.replace('.', "_");
    }
    let first = load(&data, &kernel, &root(&directory))?;
    kernel.write(&first.maps[0].fd, 0, &[9; 12])?;
    let second = load(&data, &kernel, &root(&directory))?;
    assert_eq!(codes_of(&second.diagnostics), [codes::REUSED_DIFFERS; 3]);
    assert_eq!(kernel.read(&second.maps[0].fd, 0)?, [9; 12]);
    assert_eq!(kernel.is_frozen(&second.maps[1].fd)?, Some(true));
    assert_eq!(
        maps::info(&second.maps[1]).id,
        first.maps[1].id().expect("the kernel tells it")
    );
    Ok(())
}
