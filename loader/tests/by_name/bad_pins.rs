//! What is no map, what cannot be opened, and where nothing can be pinned.

use std::path::Path;

use bpfplan_loader::{
    Errno, ErrorKind, FailingKernel, Fault, Kernel as _, LoadOptions, RealKernel, codes, load,
};
use bpfplan_plan::{MaxEntries, uapi};
use libtest_mimic::Failed;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::sample::{PinDir, maps, plan, program};
use crate::{array, codes_of, entries, held, named, refused, root};

pub(crate) fn no_map_at_the_pin() -> Result<(), Failed> {
    let directory = PinDir::new();
    std::fs::create_dir(&directory.0)?;
    let path = directory.0.join("kept");
    let plan = plan(vec![named(array("kept")), named(array("other"))]);
    let check = |what: &str| {
        let error = refused(&plan, &root(&directory));
        assert_eq!(
            codes_of(&error.diagnostics),
            [codes::PIN_NOT_A_MAP],
            "{error}"
        );
        assert_eq!(error.diagnostics[0].map.as_deref(), Some("kept"));
        let message = &error.diagnostics[0].message;
        assert!(
            message.ends_with(&format!("is {what}, not a map")),
            "{message}"
        );
        assert_eq!(entries(&directory.0), ["kept"]);
    };
    program::pin(&path);
    check("a program");
    std::fs::remove_file(&path)?;
    std::os::unix::fs::symlink("/sys/fs/bpf/nowhere", &path)?;
    check("a symbolic link");
    std::fs::remove_file(&path)?;
    std::fs::create_dir(&path)?;
    check("a directory");
    std::fs::remove_dir(&path)?;
    program::pin_link(&path);
    check("a link");
    Ok(())
}

pub(crate) fn roots_are_looked_at_first() -> Result<(), Failed> {
    let missing = PinDir::new();
    let plain = tempfile::tempdir()?;
    let link = plain.path().join("link");
    std::os::unix::fs::symlink("/sys/fs/bpf", &link)?;
    let deep = missing.0.join("deeper");
    let dotted = missing.0.with_extension("d");
    let roots: [&Path; 4] = [plain.path(), &link, &deep, &dotted];
    for path in roots {
        let options = LoadOptions {
            pin_root: Some(path.to_owned()),
            ..LoadOptions::default()
        };
        let error = refused(&plan(vec![named(array("kept"))]), &options);
        assert_eq!(error.kind, ErrorKind::Refused);
        assert_eq!(
            codes_of(&error.diagnostics),
            [codes::PIN_DIRECTORY],
            "{error}"
        );
        // Without such maps nobody looks.
        let options = LoadOptions {
            hold: true,
            ..options
        };
        load(&plan(vec![array("other")]), &RealKernel::new(), &options)?;
    }
    assert!(!missing.0.exists());
    Ok(())
}

/// A BPF file system of the test's own, gone when dropped.
struct Mount(tempfile::TempDir);

impl Drop for Mount {
    fn drop(&mut self) {
        // Without it, the directory stays, which tells.
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

pub(crate) fn a_read_only_root_takes_no_pin() -> Result<(), Failed> {
    let place = tempfile::tempdir()?;
    mount("bpf", place.path(), "bpf", MountFlags::RDONLY, None)?;
    let mounted = Mount(place);
    for (root, code) in [
        (mounted.0.path().to_owned(), codes::PIN_REFUSED),
        (mounted.0.path().join("new"), codes::PIN_DIRECTORY),
    ] {
        let kernel = FailingKernel::new(RealKernel::new(), |_: Fault<'_>| None);
        let options = LoadOptions {
            pin_root: Some(root),
            ..LoadOptions::default()
        };
        let plan = plan(vec![named(array("kept"))]);
        let error = load(&plan, &kernel, &options).expect_err("nothing can be made");
        assert_eq!(codes_of(&error.diagnostics), [code], "{error}");
        let first = &error.diagnostics[0];
        assert!(first.message.contains("EROFS"), "{first}");
        assert_eq!(first.notes, ["the bpf file system is mounted read-only"]);
        assert_eq!(maps::left_of(&kernel.created()), [0; 0]);
    }
    Ok(())
}

pub(crate) fn pins_of_a_read_only_root() -> Result<(), Failed> {
    let place = tempfile::tempdir()?;
    mount("bpf", place.path(), "bpf", MountFlags::empty(), None)?;
    let mounted = Mount(place);
    let options = LoadOptions {
        pin_root: Some(mounted.0.path().to_owned()),
        ..LoadOptions::default()
    };
    let mut maps = ["one", "two", "three"].map(|name| named(array(name)));
    load(&plan(maps.to_vec()), &RealKernel::new(), &options)?;
    mount_remount(mounted.0.path(), MountFlags::RDONLY, "")?;
    let kernel = FailingKernel::new(RealKernel::new(), |_: Fault<'_>| None);
    let error = load(&plan(maps.to_vec()), &kernel, &options).expect_err("none can be opened");
    assert_eq!(
        codes_of(&error.diagnostics),
        [codes::PIN_UNREADABLE],
        "{error}"
    );
    let first = &error.diagnostics[0];
    assert!(first.message.contains("EROFS"), "{first}");
    assert!(first.notes[0].contains("read-only"), "{first}");
    // What may be opened for reading only is there, and wrong.
    maps[2].map_flags |= uapi::BPF_F_RDONLY;
    maps[2].max_entries = MaxEntries::Count(99);
    let error = load(&plan(maps.to_vec()), &kernel, &options).expect_err("it differs as well");
    assert_eq!(
        codes_of(&error.diagnostics),
        [codes::PIN_UNREADABLE, codes::PIN_MISMATCH],
        "{error}"
    );
    assert_eq!(kernel.created(), [0; 0]);
    Ok(())
}

pub(crate) fn pins_without_permission() -> Result<(), Failed> {
    let directory = PinDir::new();
    let plan = plan(vec![named(array("kept"))]);
    load(&plan, &RealKernel::new(), &root(&directory))?;
    let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
        (fault.call == "reuse_pin").then_some(Errno::EACCES)
    });
    let error = load(&plan, &kernel, &root(&directory)).expect_err("it may not");
    assert_eq!(codes_of(&error.diagnostics), [codes::PIN_UNREADABLE]);
    assert!(error.diagnostics[0].message.contains("EACCES"), "{error}");
    assert_eq!(kernel.created(), [0; 0]);
    assert_eq!(entries(&directory.0), ["kept"]);
    // Who may open the pin but not list its directory reuses the map all the same.
    let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
        (fault.call == "lock_dir").then_some(Errno::EACCES)
    });
    assert!(load(&plan, &kernel, &root(&directory))?.maps[0].reused);
    RealKernel::new().unlink(&directory.0.join("kept"))?;
    let error = load(&plan, &kernel, &root(&directory)).expect_err("a pin is to be made");
    assert_eq!(codes_of(&error.diagnostics), [codes::PIN_DIRECTORY]);
    Ok(())
}

pub(crate) fn names_that_are_no_pins() -> Result<(), Failed> {
    let directory = PinDir::new();
    for name in ["a.b", "a/b", "bpfplan_record", &"x".repeat(256)] {
        let plan = plan(vec![named(array(name))]);
        let error = load(&plan, &RealKernel::new(), &held(&directory)).expect_err(name);
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert_eq!(codes_of(&error.diagnostics), [codes::PIN_NAME], "{error}");
    }
    let twice = plan(vec![named(array("kept")), named(array("kept"))]);
    let error = refused(&twice, &held(&directory));
    assert_eq!(error.kind, ErrorKind::Plan, "{error}");
    // `.` becomes `_` in the directory of the other maps, which may be the pin root.
    let options = LoadOptions {
        pin_maps: Some(directory.0.clone()),
        ..root(&directory)
    };
    let both = plan(vec![named(array("a_b")), array("a.b")]);
    let error = refused(&both, &options);
    assert_eq!(codes_of(&error.diagnostics), [codes::PIN_NAMES_COLLIDE]);
    // The directory for the others has the name of a pin.
    let options = LoadOptions {
        pin_maps: Some(directory.0.clone()),
        pin_root: Some("/sys/fs/bpf".into()),
        ..LoadOptions::default()
    };
    let name = directory.0.file_name().and_then(|name| name.to_str());
    let error = refused(&plan(vec![named(array(name.expect("UTF-8")))]), &options);
    assert_eq!(codes_of(&error.diagnostics), [codes::PIN_NAMES_COLLIDE]);
    assert!(!directory.0.exists());
    Ok(())
}
