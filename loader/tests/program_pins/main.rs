//! Loads of programs: their pins, what is refused, and that nothing of a failed one is left.

// A test may panic: that is how it fails.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "../sample/mod.rs"]
mod sample;
#[path = "../support/mod.rs"]
mod support;

mod faults;
mod refusals;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bpfplan_compiler::{Options, compile};
use bpfplan_loader::record::Record;
use bpfplan_loader::{
    Kernel as _, LoadOptions, ProgramOptions, Programs, Progress, RealKernel, SlotPolicy, codes,
    load, load_with, unload,
};
use bpfplan_plan::{Pinning, Plan};
use libtest_mimic::{Failed, Trial};
use sample::{PinDir, maps, program};
use support::{libbpf, release};

type Outcome = Result<(), Failed>;
type Test = (&'static str, fn() -> Outcome);

fn main() {
    let tests: [Test; 13] = [
        ("pins_and_unload", pins_and_unload),
        ("two_directories_have_two_records", two_directories),
        ("unload_leaves_what_is_not_its_own", unload_leaves_others),
        ("programs_may_be_held", programs_may_be_held),
        ("program_arrays_are_reused", program_arrays_are_reused),
        ("each_call_fails_recorded", faults::recorded),
        ("the_verifier_refuses", refusals::the_verifier_refuses),
        ("maps_that_nobody_would_hold", refusals::maps_not_kept),
        (
            "slots_that_hold_nothing_new",
            refusals::maps_not_kept_in_slots,
        ),
        ("names_that_collide", refusals::names_that_collide),
        ("existing_pins_stay", refusals::existing_pins_stay),
        ("other_objects", refusals::other_objects),
        ("programs_left_out", refusals::left_out),
    ];
    let trials = tests.map(|(name, test)| Trial::test(name, test));
    let mut trials = Vec::from(trials);
    for (name, fixtures, test) in [
        (
            "maps_that_come_with_programs",
            &WITH_PROGRAMS[..],
            maps_that_come_with_programs as fn(&str) -> Outcome,
        ),
        (
            "each_call_fails",
            &faults::FIXTURES[..],
            faults::on_the_real_kernel,
        ),
        (
            "each_step_is_interrupted",
            &faults::FIXTURES[..],
            faults::interrupted,
        ),
    ] {
        trials.extend(fixtures.iter().copied().map(|fixture| {
            let skipped = libbpf::refused_by_this_kernel(&path(fixture));
            let name = format!("{name}::{fixture}");
            release::unless(skipped, &name, move || test(fixture))
        }));
    }
    support::privilege::run(trials)
}

/// Graph roots and an object of a program's own in maps: they want the programs' BTF.
const WITH_PROGRAMS: [&str; 3] = ["field_list", "field_kptr_local", "field_list_in_global"];

fn path(fixture: &str) -> PathBuf {
    let objects = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj");
    objects.join(format!("{fixture}.bpf.o"))
}

/// A fixture: its plan with the hash of its object, and the object.
fn fixture(name: &str) -> (Plan, Vec<u8>) {
    let file = format!("{name}.bpf.o");
    let object = std::fs::read(path(name)).expect("the fixture is there");
    let compiled = compile(&object, &file, &Options { hash: true }).expect("it compiles");
    (compiled.plan, object)
}

/// Options that pin maps and programs, each if there is a directory for them.
fn options(object: &[u8], maps: Option<&PinDir>, programs: Option<&PinDir>) -> LoadOptions {
    LoadOptions {
        pin_maps: maps.map(|directory| directory.0.clone()),
        programs: Programs::Load(ProgramOptions {
            object: object.to_vec(),
            pin: programs.map(|directory| directory.0.clone()),
        }),
        ..LoadOptions::default()
    }
}

fn pins_and_unload() -> Outcome {
    let kernel = RealKernel::new();
    let directory = PinDir::new();
    let (plan, object) = fixture("programs_several");
    let options = options(&object, Some(&directory), Some(&directory));
    let loaded = load(&plan, &kernel, &options)?;
    let names: Vec<&str> = loaded.programs.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["first", "second", "enter", "classify"]);
    assert_eq!(loaded.map("jumps").expect("the map").filled, 2);
    let notes = &loaded.diagnostics;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(notes[0].code, codes::NOT_AUTOLOADED);
    for program in &loaded.programs {
        let path = program.pinned.as_ref().expect("it is pinned");
        assert_eq!(*path, directory.0.join(&program.name));
        assert_eq!(kernel.pinned_program(path)?, program.id);
    }
    let map = loaded.map("counts").expect("the map").pinned.clone();
    let map = map.expect("it is pinned");
    assert!(kernel.pinned_program(&map).is_err(), "a map is no program");
    let ids: Vec<u32> = loaded
        .maps
        .iter()
        .map(|map| map.id().expect("the kernel tells it"))
        .collect();
    let programs: Vec<u32> = loaded.programs.iter().map(|it| it.id).collect();
    drop(loaded);
    let jumps = maps::open(ids[0]).expect("the pin keeps it");
    for (index, program) in [(0, programs[0]), (3, programs[1])] {
        assert_eq!(maps::slot(&jumps, index), Some(program));
    }
    drop(jumps);

    let record = Record::open(&kernel, &directory.0)?;
    let recorded: Vec<u32> = record.programs.iter().map(|it| it.id).collect();
    assert_eq!(recorded, programs);
    assert_eq!(record.maps.len(), 5);
    let error = load(&plan, &kernel, &options).expect_err("the directory is taken");
    assert_eq!(error.diagnostics[0].code, codes::RECORD_EXISTS);

    let unloaded = unload(&kernel, &directory.0)?;
    assert_eq!(unloaded.diagnostics, []);
    assert_eq!(unloaded.removed.len(), 5 + 4 + 1);
    assert!(!directory.0.exists());
    assert_eq!(maps::left_of(&ids), [0; 0]);
    Ok(())
}

fn two_directories() -> Outcome {
    let kernel = RealKernel::new();
    let [maps, programs] = [PinDir::new(), PinDir::new()];
    let (plan, object) = fixture("programs_several");
    let loaded = load(
        &plan,
        &kernel,
        &options(&object, Some(&maps), Some(&programs)),
    )?;
    assert!(loaded.record.is_some() && loaded.program_record.is_some());
    drop(loaded);
    let record = Record::open(&kernel, &maps.0)?;
    assert_eq!((record.maps.len(), record.programs.len()), (5, 0));
    let record = Record::open(&kernel, &programs.0)?;
    assert_eq!((record.maps.len(), record.programs.len()), (0, 4));
    assert_eq!(unload(&kernel, &maps.0)?.removed.len(), 6);
    assert!(programs.0.join("enter").exists());
    assert_eq!(unload(&kernel, &programs.0)?.removed.len(), 5);
    assert!(!maps.0.exists() && !programs.0.exists());
    Ok(())
}

fn unload_leaves_others() -> Outcome {
    let kernel = RealKernel::new();
    let directory = PinDir::new();
    let (plan, object) = fixture("subprograms");
    let options = options(&object, None, Some(&directory));
    drop(load(&plan, &kernel, &options)?);
    let path = directory.0.join("check");
    kernel.unlink(&path)?;
    program::pin(&path);
    let unloaded = unload(&kernel, &directory.0)?;
    let said: Vec<_> = unloaded.diagnostics.iter().map(|it| it.code).collect();
    assert_eq!(said, [codes::NOT_OURS, codes::NOT_REMOVED]);
    assert_eq!(unloaded.diagnostics[0].program.as_deref(), Some("check"));
    assert!(path.exists());
    kernel.unlink(&path)?;
    kernel.remove_dir(&directory.0)?;
    Ok(())
}

fn programs_may_be_held() -> Outcome {
    let (plan, object) = fixture("programs_several");
    let kernel = RealKernel::new();
    let error = load(&plan, &kernel, &options(&object, None, None)).expect_err("nobody holds");
    assert_eq!(error.kind, bpfplan_loader::ErrorKind::NotKept);
    let held = LoadOptions {
        hold: true,
        ..options(&object, None, None)
    };
    let before = maps::descriptors();
    let loaded = load(&plan, &kernel, &held)?;
    assert_eq!(loaded.programs.len(), 4);
    assert_eq!(
        maps::descriptors() - before,
        loaded.programs.len() + loaded.maps.len(),
        "libbpf has kept nothing"
    );
    drop(loaded);
    assert_eq!(maps::descriptors(), before);
    Ok(())
}

/// A program array that is pinned by name is written anew, unless the caller wants it kept, and
/// put back if the load fails later.
fn program_arrays_are_reused() -> Outcome {
    let kernel = RealKernel::new();
    let [root, programs] = [PinDir::new(), PinDir::new()];
    let (mut plan, object) = fixture("prog_array_values");
    plan.maps[0].pinning = Pinning::ByName;
    let held = |slots| LoadOptions {
        pin_root: Some(root.0.clone()),
        slots,
        hold: true,
        ..options(&object, None, None)
    };
    let first = load(&plan, &kernel, &held(None))?;
    let id = first.maps[0].id().expect("the kernel tells it");
    let array = maps::open(id).expect("it is pinned");
    let slots = || [0, 1, 2].map(|index| maps::slot(&array, index));
    let of = |loaded: &bpfplan_loader::Loaded<RealKernel>| {
        let program = |name| Some(loaded.program(name).expect("it is loaded").id);
        [program("drop"), None, program("pass")]
    };
    assert_eq!(slots(), of(&first));

    let kept = load(&plan, &kernel, &held(Some(SlotPolicy::Keep)))?;
    assert!(kept.maps[0].reused && kept.maps[0].id().expect("the kernel tells it") == id);
    assert_eq!(slots(), of(&first));
    let said: Vec<_> = kept.diagnostics.iter().map(|it| it.code).collect();
    assert_eq!(said, [codes::SLOTS_KEPT]);

    let second = load(&plan, &kernel, &held(None))?;
    assert_eq!(slots(), of(&second));
    assert_eq!(second.maps[0].filled, 2);

    let pinned = LoadOptions {
        pin_root: Some(root.0.clone()),
        ..options(&object, None, Some(&programs))
    };
    let result = load_with(&plan, &kernel, &pinned, &mut |next| match next {
        Progress::PinProgram { name: "enter", .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(result.is_err());
    assert_eq!(slots(), of(&second), "what was there is put back");
    assert!(!programs.0.exists());
    drop((first, kept, second, array));
    kernel.unlink(&root.0.join("jumps"))?;
    kernel.remove_dir(&root.0)?;
    Ok(())
}

/// libbpf makes such a map, and it is reported like others.
fn maps_that_come_with_programs(name: &str) -> Outcome {
    let kernel = RealKernel::new();
    let directory = PinDir::new();
    let (plan, object) = fixture(name);
    let loaded = load(
        &plan,
        &kernel,
        &options(&object, Some(&directory), Some(&directory)),
    )?;
    assert_eq!(loaded.maps.len(), plan.maps.len());
    assert_eq!(loaded.diagnostics, []);
    for map in &loaded.maps {
        let path = map.pinned.as_ref().expect("it is pinned");
        assert_eq!(
            kernel.info(&kernel.open_pin(path)?)?.id,
            map.id().expect("the kernel tells it")
        );
    }
    drop(loaded);
    unload(&kernel, &directory.0)?;
    Ok(())
}
