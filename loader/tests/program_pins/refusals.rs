//! What is refused, and that nothing is left then.

use std::ops::ControlFlow;

use bpfplan_loader::{
    ErrorKind, Kernel as _, LoadError, LoadOptions, Pinned, Programs, RealKernel, RecordingKernel,
    SlotPolicy, codes, load, load_with, unload,
};
use bpfplan_plan::rules::Target;
use bpfplan_plan::{Code, Pinning, Plan, WithPrograms};

use crate::sample::{PinDir, maps, program};
use crate::{Outcome, fixture, options};

fn refused(plan: &Plan, options: &LoadOptions) -> LoadError {
    let before = maps::descriptors();
    let error = load(plan, &RealKernel::new(), options).expect_err("it is refused");
    assert_eq!(maps::descriptors(), before);
    error
}

fn codes_of(error: &LoadError) -> Vec<Code> {
    error.diagnostics.iter().map(|said| said.code).collect()
}

/// The verifier's log comes through whole, its end first, with the program's name.
pub(crate) fn the_verifier_refuses() -> Outcome {
    let directory = PinDir::new();
    let (plan, object) = fixture("programs_verifier");
    let error = refused(&plan, &options(&object, Some(&directory), Some(&directory)));
    assert_eq!(error.kind, ErrorKind::Kernel);
    assert!(!directory.0.exists());
    let said = &error.diagnostics[0];
    assert_eq!(said.code, codes::PROGRAMS_REFUSED);
    assert_eq!(said.program.as_deref(), Some("careless"));
    assert!(said.message.contains("`xdp`") && said.message.contains("EACCES"));
    let log = said.log.as_ref().expect("a log");
    assert!(log.contains("invalid access to packet"), "{log}");
    assert!(log.lines().count() > 20, "{log}");
    let first = said.notes.first().expect("the end of the log");
    assert!(first.starts_with("the verifier: "), "{first}");
    let end = log.lines().last().expect("a last line");
    assert!(said.notes.iter().any(|note| note.ends_with(end)));
    assert!(!said.notes.iter().any(|note| note.contains("BEGIN PROG")));

    let (plan, object) = fixture("programs_core");
    let error = refused(&plan, &options(&object, Some(&directory), Some(&directory)));
    let log = error.diagnostics[0].log.as_ref().expect("a log");
    assert!(log.contains("<invalid CO-RE relocation>"), "{log}");

    let (plan, object) = fixture("programs_freplace");
    let error = refused(&plan, &options(&object, Some(&directory), Some(&directory)));
    let help = error.diagnostics[0].help.as_deref().unwrap_or_default();
    assert!(help.contains("target") && help.contains("`?`"), "{error}");

    let (plan, object) = fixture("programs_kfunc_missing");
    let error = refused(&plan, &options(&object, Some(&directory), Some(&directory)));
    let said = &error.diagnostics[0];
    let named = |note: &String| note.contains("no_kernel_has_this_function");
    assert!(said.log.is_none() && said.notes.iter().any(named), "{said}");
    Ok(())
}

/// What neither a pin nor a pinned program holds would be gone, or empty.
pub(crate) fn maps_not_kept() -> Outcome {
    let directory = PinDir::new();
    let (plan, object) = fixture("programs_several");
    let error = refused(&plan, &options(&object, None, Some(&directory)));
    assert_eq!(error.kind, ErrorKind::NotKept);
    assert_eq!(codes_of(&error)[0], codes::NOT_KEPT);
    let message = &error.diagnostics[0].message;
    assert!(message.contains("gone as soon as the load is done: only_optional;"));
    assert!(message.contains("empty as soon as the load is done: jumps"));
    assert!(!directory.0.exists());

    // What the programs use, they hold; slots of outer maps keep what is in them.
    let (plan, object) = fixture("subprograms");
    let loaded = load(
        &plan,
        &RealKernel::new(),
        &options(&object, None, Some(&directory)),
    )?;
    let id = loaded.maps[0].id().expect("the kernel tells it");
    assert_eq!(loaded.maps[0].pinned, None);
    drop(loaded);
    assert!(maps::open(id).is_some(), "the program holds it");
    unload(&RealKernel::new(), &directory.0)?;
    assert_eq!(maps::left_of(&[id]), [0; 0]);
    Ok(())
}

/// A reused outer map keeps its slots, so it does not hold what would be in them.
pub(crate) fn maps_not_kept_in_slots() -> Outcome {
    let kernel = RealKernel::new();
    let [root, programs] = [PinDir::new(), PinDir::new()];
    let (mut plan, object) = fixture("tenants");
    let outer = plan.maps.iter_mut().find(|map| map.name == "limits");
    outer.expect("the outer map").pinning = Pinning::ByName;
    let options = |slots| LoadOptions {
        pin_root: Some(root.0.clone()),
        slots,
        ..options(&object, None, Some(&programs))
    };
    drop(load(&plan, &kernel, &options(None))?);
    unload(&kernel, &programs.0)?;
    let Pinned::Map(outer) = kernel.reuse_pin(&root.0.join("limits"), 0)? else {
        panic!("it is a map");
    };
    let slots = || [0, 1].map(|index| kernel.slot(&outer, index).expect("a look"));
    let first = slots();

    for policy in [None, Some(SlotPolicy::Keep), Some(SlotPolicy::FillEmpty)] {
        let error = refused(&plan, &options(policy));
        assert_eq!(error.kind, ErrorKind::NotKept, "{policy:?}");
        let message = &error.diagnostics[0].message;
        assert!(
            message.ends_with("limits_small, limits_large"),
            "{policy:?}: {message}"
        );
        assert!(!programs.0.exists());
        assert_eq!(slots(), first, "{policy:?}");
    }
    drop(load(&plan, &kernel, &options(Some(SlotPolicy::Overwrite)))?);
    unload(&kernel, &programs.0)?;
    assert!(slots().iter().zip(first).all(|(now, old)| *now != old));

    for index in [0, 1] {
        kernel.clear_slot(&outer, index)?;
    }
    drop(load(&plan, &kernel, &options(Some(SlotPolicy::FillEmpty)))?);
    assert!(slots().iter().all(Option::is_some));
    unload(&kernel, &programs.0)?;
    kernel.unlink(&root.0.join("limits"))?;
    kernel.remove_dir(&root.0)?;
    Ok(())
}

pub(crate) fn names_that_collide() -> Outcome {
    let [maps, programs] = [PinDir::new(), PinDir::new()];
    let (mut plan, object) = fixture("subprograms");
    plan.maps[0].name = "check".to_owned();
    let error = refused(&plan, &options(&object, Some(&maps), Some(&maps)));
    assert_eq!(codes_of(&error), [codes::PIN_NAMES_COLLIDE]);
    assert_eq!(error.diagnostics[0].program.as_deref(), Some("check"));
    // In two directories they do not meet; but the object has no such map.
    let error = refused(&plan, &options(&object, Some(&maps), Some(&programs)));
    assert_eq!(codes_of(&error), [codes::PROGRAMS_REFUSED]);

    let (mut plan, object) = fixture("subprograms");
    for (name, code) in [
        ("a/b", codes::PIN_NAME),
        ("", codes::PIN_NAME),
        ("bpfplan_record", codes::PIN_NAME),
        ("other", codes::PROGRAMS_REFUSED),
    ] {
        plan.programs[0].name = name.to_owned();
        let error = refused(&plan, &options(&object, None, Some(&programs)));
        assert_eq!(codes_of(&error), [code], "{name:?}");
    }
    let (mut plan, object) = fixture("programs_several");
    plan.programs[1].name = plan.programs[0].name.clone();
    let error = refused(&plan, &options(&object, Some(&maps), Some(&programs)));
    assert!(!codes_of(&error).is_empty());
    assert!(!maps.0.exists() && !programs.0.exists());
    Ok(())
}

pub(crate) fn existing_pins_stay() -> Outcome {
    let kernel = RealKernel::new();
    let [maps, programs] = [PinDir::new(), PinDir::new()];
    let (plan, object) = fixture("programs_several");
    let options = options(&object, Some(&maps), Some(&programs));
    kernel.make_dir(&programs.0)?;
    let path = programs.0.join("enter");
    program::pin(&path);
    let id = kernel.pinned_program(&path)?;
    let error = refused(&plan, &options);
    assert_eq!(codes_of(&error), [codes::PIN_EXISTS]);
    assert_eq!(error.diagnostics[0].program.as_deref(), Some("enter"));
    assert_eq!(kernel.pinned_program(&path)?, id);
    kernel.unlink(&path)?;

    // Programs that are not loaded have no pins, so what is in their places does not matter.
    let path_of_unloaded = programs.0.join("optional");
    program::pin(&path_of_unloaded);
    drop(load(&plan, &kernel, &options)?);
    assert_eq!(unload(&kernel, &programs.0)?.diagnostics, []);
    unload(&kernel, &maps.0)?;
    kernel.unlink(&path_of_unloaded)?;

    // Somebody is faster while the programs load: the load is undone, and that pin stays.
    let result = load_with(&plan, &kernel, &options, &mut |next| {
        if matches!(
            next,
            bpfplan_loader::Progress::PinProgram { name: "enter", .. }
        ) {
            program::pin(&path);
        }
        ControlFlow::Continue(())
    });
    let error = result.expect_err("the place is taken");
    assert_eq!(codes_of(&error)[0], codes::PIN_EXISTS, "and begun again");
    assert!(!maps.0.exists());
    let left: Vec<_> = std::fs::read_dir(&programs.0)?.collect();
    assert_eq!(left.len(), 1, "only the other pin is left");
    kernel.unlink(&path)?;
    kernel.remove_dir(&programs.0)?;
    Ok(())
}

pub(crate) fn other_objects() -> Outcome {
    let directory = PinDir::new();
    let (plan, _) = fixture("subprograms");
    let (_, other) = fixture("programs_several");
    let error = refused(&plan, &options(&other, None, Some(&directory)));
    assert_eq!(codes_of(&error), [codes::OTHER_OBJECT]);
    let hash = plan.object.sha256.clone().expect("a hash");
    assert!(
        error.diagnostics[0]
            .notes
            .iter()
            .any(|it| it.contains(&hash))
    );

    // Without a hash, the caller vouches for it; what differs is found all the same.
    let mut unmarked = plan.clone();
    unmarked.object.sha256 = None;
    for object in [&other[..], b"", b"\x7fELF", &other[..100]] {
        let error = refused(&unmarked, &options(object, None, Some(&directory)));
        assert_eq!(codes_of(&error), [codes::PROGRAMS_REFUSED]);
    }

    let (plan, object) = fixture("legacy_maps");
    let error = refused(&plan, &options(&object, Some(&directory), Some(&directory)));
    assert!(codes_of(&error).contains(&codes::LEGACY_OBJECT), "{error}");

    let (plan, object) = fixture("device_tables");
    assert!(plan.programs.is_empty());
    let error = refused(&plan, &options(&object, None, Some(&directory)));
    assert_eq!(codes_of(&error), [codes::NO_PROGRAMS]);
    assert!(!directory.0.exists());
    Ok(())
}

/// What needs programs is refused, or left out knowingly.
pub(crate) fn left_out() -> Outcome {
    let (mut plan, _) = fixture("prog_array_values");
    let mut options = LoadOptions {
        hold: true,
        ..LoadOptions::default()
    };
    let error = refused(&plan, &options);
    assert_eq!(codes_of(&error), [codes::PROGRAM_SLOTS]);
    let help = error.diagnostics[0].help.as_deref().unwrap_or_default();
    assert!(help.contains("--pin-progs") && help.contains("--no-programs"));

    options.programs = Programs::LeftOut;
    let loaded = load(&plan, &RealKernel::new(), &options)?;
    assert_eq!(loaded.maps[0].filled, 0);
    assert_eq!(loaded.diagnostics[0].code, codes::LEFT_OUT);
    assert_eq!(loaded.programs.len(), 0);

    // A map that only comes to be with programs; which, is not for this test to know.
    plan.maps[0].with_programs = Some(WithPrograms::StructOps);
    plan.maps[0].slots.clear();
    let kernel = RecordingKernel::new(Target {
        page_size: 4096,
        possible_cpus: 2,
    });
    let loaded = load(&plan, &kernel, &options);
    if let Ok(loaded) = loaded {
        assert_eq!(loaded.maps.len(), 0);
        assert_eq!(loaded.diagnostics[0].code, codes::LEFT_OUT);
        assert_eq!(kernel.calls(), []);
    }
    Ok(())
}
