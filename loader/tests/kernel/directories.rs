//! Directories for pins: which ones are refused, and who works in one at a time.

use std::path::Path;
use std::sync::Barrier;

use bpfplan_loader::{
    Errno, ErrorKind, FailingKernel, Fault, Kernel, LoadOptions, RealKernel, codes, load, unload,
};
use libtest_mimic::Failed;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::pin;
use crate::sample::{PinDir, array_of_maps};

pub(crate) fn directories_are_looked_at_first() -> Result<(), Failed> {
    let missing = PinDir::new();
    let file = tempfile::NamedTempFile::new()?;
    let plain = tempfile::tempdir()?;
    let link = plain.path().join("link");
    std::os::unix::fs::symlink("/sys/fs/bpf", &link)?;
    let deep = missing.0.join("deeper");
    let dotted = missing.0.with_extension("d");
    let below = dotted.join("below");
    let slash = link.join("");
    let paths: [&Path; 7] = [
        file.path(),
        plain.path(),
        &link,
        &slash,
        &deep,
        &dotted,
        &below,
    ];
    for path in paths {
        let options = LoadOptions {
            pin_maps: Some(path.to_owned()),
            ..LoadOptions::default()
        };
        let error = load(&array_of_maps(), &RealKernel::new(), &options).expect_err("no pins");
        assert_eq!(error.kind, ErrorKind::Refused);
        assert_eq!(
            error.diagnostics[0].code,
            codes::PIN_DIRECTORY,
            "{}: {error}",
            path.display()
        );
        assert!(error.diagnostics[0].help.is_some(), "{error}");
    }
    assert!(!missing.0.exists());
    // A link on the way is followed, and the pins are where it leads.
    let directory = PinDir::new();
    let through = link.join(directory.0.file_name().expect("it has a name"));
    let options = LoadOptions {
        pin_maps: Some(through.clone()),
        ..LoadOptions::default()
    };
    let loaded = load(&array_of_maps(), &RealKernel::new(), &options)?;
    assert_eq!(loaded.maps[0].pinned, Some(directory.0.join("lut_0")));
    unload(&RealKernel::new(), &through)?;
    assert!(!directory.0.exists());
    Ok(())
}

/// The loser says so, and its maps are gone; the winner's can be unloaded, directory and all.
pub(crate) fn of_two_loads_one_wins() -> Result<(), Failed> {
    for _ in 0..10 {
        let directory = PinDir::new();
        let options = pin(&directory);
        let start = Barrier::new(2);
        let race = || {
            start.wait();
            load(&array_of_maps(), &RealKernel::new(), &options).map(drop)
        };
        let results = std::thread::scope(|scope| {
            let other = scope.spawn(race);
            [race(), other.join().expect("the other load does not panic")]
        });
        let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        let [error] = errors.as_slice() else {
            panic!("one of two loads must win: {errors:?}")
        };
        assert_eq!(error.diagnostics.len(), 1, "{error}");
        assert_eq!(error.diagnostics[0].code, codes::RECORD_EXISTS);
        let unloaded = unload(&RealKernel::new(), &directory.0)?;
        assert_eq!(unloaded.diagnostics, []);
        assert!(!directory.0.exists());
    }
    Ok(())
}

pub(crate) fn loads_and_unloads_wait_for_each_other() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    drop(load(&array_of_maps(), &kernel, &pin(&directory))?);
    let lock = kernel.lock_dir(&directory.0)?;
    let error = unload(&kernel, &directory.0).expect_err("somebody is at work");
    assert_eq!(error.diagnostics[0].code, codes::DIRECTORY_BUSY);
    assert!(directory.0.join("lut_0").exists());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| unload(&kernel, &directory.0));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(directory.0.join("lut_0").exists(), "it waits");
        drop(lock);
        waiting.join().expect("the unload does not panic").map(drop)
    })?;
    assert!(!directory.0.exists());

    // A load keeps the lock from the first pin on, until everything is pinned or undone.
    let during = FailingKernel::new(kernel, |fault: Fault<'_>| {
        let busy = || kernel.lock_dir(&directory.0).err() == Some(Errno::EWOULDBLOCK);
        match (fault.call, fault.subject) {
            ("pin", "lut_0") => {
                assert!(busy(), "while pinning");
                Some(Errno::EINVAL)
            }
            ("unlink", _) => {
                assert!(busy(), "while undoing");
                None
            }
            _ => None,
        }
    });
    let error = load(&array_of_maps(), &during, &pin(&directory)).expect_err("no pin");
    assert_eq!(error.diagnostics[0].code, codes::PIN_REFUSED);
    assert!(!directory.0.exists());
    Ok(())
}

/// A BPF file system of the test's own, gone when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    fn read_only() -> Result<Self, Failed> {
        let place = tempfile::tempdir()?;
        mount("bpf", place.path(), "bpf", MountFlags::RDONLY, None)?;
        Ok(Self(place))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Without it, the directory stays, which tells.
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

pub(crate) fn a_read_only_bpffs_takes_no_pin() -> Result<(), Failed> {
    let mounted = Mount::read_only()?;
    let place = mounted.0.path();
    for (directory, code) in [
        (place.to_owned(), codes::RECORD_REFUSED),
        (place.join("new"), codes::PIN_DIRECTORY),
    ] {
        let kernel = FailingKernel::new(RealKernel::new(), |_: Fault<'_>| None);
        let options = LoadOptions {
            pin_maps: Some(directory),
            ..LoadOptions::default()
        };
        let error = load(&array_of_maps(), &kernel, &options).expect_err("nothing can be made");
        let first = &error.diagnostics[0];
        assert_eq!(first.code, code, "{error}");
        assert!(first.message.contains("EROFS"), "{first}");
        assert_eq!(first.notes, ["the bpf file system is mounted read-only"]);
        crate::gone(&kernel.created());
    }
    Ok(())
}

pub(crate) fn what_cannot_be_undone_is_said() -> Result<(), Failed> {
    let directory = PinDir::new();
    let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| match fault.call {
        "pin" if fault.subject == "lut_1" => Some(Errno(libc::ENOSPC)),
        "unlink" if fault.subject.ends_with("/luts") => Some(Errno(libc::EACCES)),
        _ => None,
    });
    let error = load(&array_of_maps(), &kernel, &pin(&directory)).expect_err("a pin fails");
    assert_eq!(error.kind, ErrorKind::Kernel);
    assert_eq!(error.diagnostics[0].code, codes::PIN_REFUSED);
    let [_, left] = error.diagnostics.as_slice() else {
        panic!("{error}")
    };
    assert_eq!(left.code, codes::NOT_UNDONE);
    let path = directory.0.join("luts");
    assert!(left.message.contains(&path.display().to_string()), "{left}");
    assert!(left.message.contains("EACCES"), "{left}");
    let names: Vec<_> = std::fs::read_dir(&directory.0)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    assert_eq!(names, std::slice::from_ref(&path));
    RealKernel::new().unlink(&path)?;
    std::fs::remove_dir(&directory.0)?;
    Ok(())
}
