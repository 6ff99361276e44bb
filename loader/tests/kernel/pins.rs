//! Pins, the record of a load, and `unload`.

use std::sync::atomic::{AtomicBool, Ordering};

use bpfplan_loader::record::{self, Record};
use bpfplan_loader::{
    Errno, ErrorKind, FailingKernel, Fault, Kernel, RealKernel, codes, load, unload,
};
use bpfplan_plan::{Code, uapi};
use libtest_mimic::Failed;

use crate::sample::{PinDir, array_of_maps, map, maps, plan, program};
use crate::{gone, loaded, pin};

pub(crate) fn pins_and_unload() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let mut plan = array_of_maps();
    plan.object.sha256 = Some("0".repeat(64));
    let loaded = load(&plan, &kernel, &pin(&directory))?;
    let ids: Vec<u32> = loaded
        .maps
        .iter()
        .map(|map| map.id().expect("the kernel tells it"))
        .collect();
    for map in &loaded.maps {
        let path = directory.0.join(&map.name);
        assert_eq!(map.pinned.as_deref(), Some(path.as_path()));
        assert_eq!(
            kernel.info(&kernel.open_pin(&path)?)?.id,
            map.id().expect("the kernel tells it")
        );
    }
    drop(loaded);
    assert!(
        ids.iter().all(|id| maps::open(*id).is_some()),
        "pins keep maps"
    );

    let record = Record::open(&kernel, &directory.0)?;
    assert_eq!(record.sha256, plan.object.sha256);
    let recorded: Vec<u32> = record.maps.iter().map(|map| map.id).collect();
    assert_eq!(recorded, ids);
    let pinned = kernel.open_pin(&directory.0.join(record::NAME))?;
    assert_eq!(kernel.is_frozen(&pinned)?, Some(true));
    drop(pinned);

    let error = load(&plan, &kernel, &pin(&directory)).expect_err("the directory is taken");
    assert_eq!(error.diagnostics[0].code, codes::RECORD_EXISTS);

    let unloaded = unload(&kernel, &directory.0)?;
    assert_eq!(unloaded.diagnostics, []);
    assert_eq!(unloaded.removed.len(), 4);
    assert!(!directory.0.exists());
    gone(&ids);
    Ok(())
}

pub(crate) fn unload_leaves_what_is_not_its_own() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    let loaded = load(&array_of_maps(), &kernel, &pin(&directory))?;
    let path = |name: &str| directory.0.join(name);
    // One pin is replaced, one removed, one becomes a link, and there is one more.
    let other = crate::loaded(&plan(vec![map("o", uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1)]))?;
    kernel.unlink(&path("lut_0"))?;
    kernel.pin(&other.maps[0].fd, &path("lut_0"))?;
    kernel.unlink(&path("luts"))?;
    kernel.unlink(&path("lut_1"))?;
    kernel.pin(&loaded.maps[2].fd, &path("elsewhere"))?;
    std::os::unix::fs::symlink(path("elsewhere"), path("lut_1"))?;

    let unloaded = unload(&kernel, &directory.0)?;
    let codes: Vec<Code> = unloaded
        .diagnostics
        .iter()
        .map(|found| found.code)
        .collect();
    assert_eq!(
        codes,
        [
            codes::NOT_OURS,
            codes::PIN_GONE,
            codes::NOT_OURS,
            codes::NOT_REMOVED
        ]
    );
    assert_eq!(unloaded.removed, [path(record::NAME)]);
    assert_eq!(
        kernel.info(&kernel.open_pin(&path("lut_0"))?)?.id,
        other.maps[0].id().expect("the kernel tells it")
    );
    for name in ["elsewhere", "lut_0", "lut_1"] {
        kernel.unlink(&path(name))?;
    }
    kernel.remove_dir(&directory.0)?;
    Ok(())
}

pub(crate) fn unload_can_be_run_again() -> Result<(), Failed> {
    let directory = PinDir::new();
    drop(load(
        &array_of_maps(),
        &RealKernel::new(),
        &pin(&directory),
    )?);
    let failing = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
        (fault.call == "unlink" && fault.index > 6).then_some(Errno(libc::EACCES))
    });
    let error = unload(&failing, &directory.0).expect_err("a pin could not be removed");
    assert_eq!(error.kind, ErrorKind::Kernel);
    assert_eq!(error.diagnostics[0].code, codes::NOT_REMOVED);
    assert!(directory.0.join(record::NAME).exists());
    let unloaded = unload(&RealKernel::new(), &directory.0)?;
    assert!(!directory.0.exists(), "{unloaded:?}");
    Ok(())
}

/// Things at the record's place that are no records, or none to be believed.
pub(crate) fn unload_refuses_forged_records() -> Result<(), Failed> {
    let kernel = RealKernel::new();
    let genuine = PinDir::new();
    let first = load(&array_of_maps(), &kernel, &pin(&genuine))?;
    let pinned = kernel.open_pin(&genuine.0.join(record::NAME))?;
    let bytes = kernel.read(&pinned, 0)?;
    let mut truncated = bytes.clone();
    truncated.pop();
    let mut trailing = bytes.clone();
    trailing.extend([0; 8]);
    let mut newer = bytes.clone();
    newer[8] = (record::VERSION + 1) as u8;
    let forged: [(&str, u32, Vec<u8>, bool); 7] = [
        ("hash", uapi::BPF_MAP_TYPE_HASH, bytes.clone(), true),
        ("not frozen", uapi::BPF_MAP_TYPE_ARRAY, bytes.clone(), false),
        ("short", uapi::BPF_MAP_TYPE_ARRAY, vec![0; 4], true),
        ("zeros", uapi::BPF_MAP_TYPE_ARRAY, vec![0; 64], true),
        ("truncated", uapi::BPF_MAP_TYPE_ARRAY, truncated, true),
        ("trailing", uapi::BPF_MAP_TYPE_ARRAY, trailing, true),
        ("newer", uapi::BPF_MAP_TYPE_ARRAY, newer, true),
    ];
    for (what, map_type, bytes, freeze) in forged {
        let directory = PinDir::new();
        std::fs::create_dir(&directory.0)?;
        let path = directory.0.join(record::NAME);
        let size = bytes.len().try_into()?;
        let forged = loaded(&plan(vec![map("forged", map_type, [4, size], 1)]))?;
        if map_type == uapi::BPF_MAP_TYPE_ARRAY {
            kernel.write(&forged.maps[0].fd, 0, &bytes)?;
        }
        if freeze {
            kernel.freeze(&forged.maps[0].fd)?;
        }
        kernel.pin(&forged.maps[0].fd, &path)?;
        let error = unload(&kernel, &directory.0).expect_err(what);
        assert_eq!(error.diagnostics.len(), 1, "{error}");
        assert_eq!(
            error.diagnostics[0].code,
            codes::RECORD_INVALID,
            "{what}: {error}"
        );
        assert!(path.exists());
        kernel.unlink(&path)?;
        kernel.remove_dir(&directory.0)?;
    }
    drop(first);
    unload(&kernel, &genuine.0)?;
    Ok(())
}

pub(crate) fn existing_pins_stay() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    std::fs::create_dir(&directory.0)?;
    let path = directory.0.join("lut_1");
    let other = loaded(&plan(vec![map("o", uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1)]))?;
    kernel.pin(&other.maps[0].fd, &path)?;
    let error = load(&array_of_maps(), &kernel, &pin(&directory)).expect_err("a pin is there");
    assert_eq!(error.kind, ErrorKind::Refused);
    assert_eq!(error.diagnostics[0].code, codes::PIN_EXISTS);
    // The same, but the pin appears between the look and the pinning.
    let created = AtomicBool::new(false);
    let racing = FailingKernel::new(kernel, |fault: Fault<'_>| {
        created.fetch_or(fault.call == "create_map", Ordering::Relaxed);
        let looks = fault.call == "inspect" && fault.index > 0;
        (looks && !created.load(Ordering::Relaxed)).then_some(Errno::ENOENT)
    });
    let error = load(&array_of_maps(), &racing, &pin(&directory)).expect_err("a pin is there");
    assert!(created.load(Ordering::Relaxed), "it went as far as that");
    assert_eq!(error.kind, ErrorKind::Refused, "it began again");
    assert_eq!(error.diagnostics.len(), 1, "{error}");
    assert_eq!(error.diagnostics[0].code, codes::PIN_EXISTS);
    assert_eq!(error.diagnostics[0].map.as_deref(), Some("lut_1"));
    assert_eq!(
        kernel.info(&kernel.open_pin(&path)?)?.id,
        other.maps[0].id().expect("the kernel tells it")
    );
    assert_eq!(
        std::fs::read_dir(&directory.0)?.count(),
        1,
        "only the other's pin is left"
    );
    kernel.unlink(&path)?;
    kernel.remove_dir(&directory.0)?;
    Ok(())
}

/// A program's id may be the number of a map's, and the kernel opens its pin as gladly.
pub(crate) fn pins_of_programs_are_no_maps() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    drop(load(&array_of_maps(), &kernel, &pin(&directory))?);
    let path = directory.0.join("lut_0");
    kernel.unlink(&path)?;
    program::pin(&path);
    assert_eq!(kernel.open_pin(&path).err(), Some(Errno::EINVAL));
    let unloaded = unload(&kernel, &directory.0)?;
    assert_eq!(unloaded.diagnostics[0].code, codes::NOT_OURS);
    let error = load(&array_of_maps(), &kernel, &pin(&directory)).expect_err("a pin is there");
    assert_eq!(error.diagnostics[0].code, codes::PIN_EXISTS);
    let record = directory.0.join(record::NAME);
    std::fs::rename(&path, &record)?;
    let error = unload(&kernel, &directory.0).expect_err("a program is no record");
    assert_eq!(error.diagnostics[0].code, codes::RECORD_INVALID);
    assert!(record.exists());
    kernel.unlink(&record)?;
    kernel.remove_dir(&directory.0)?;
    Ok(())
}
