//! Every single call fails once, and every step is interrupted once; nothing is left.

use std::ops::ControlFlow;
use std::sync::Mutex;

use bpfplan_loader::{
    Errno, ErrorKind, FailingKernel, Fault, Kernel, LoadOptions, RealKernel, RecordingKernel,
    codes, load, load_with, unload,
};
use bpfplan_plan::Plan;
use bpfplan_plan::rules::{Target, errno_name};
use libtest_mimic::Failed;

use crate::sample::{PinDir, maps};
use crate::{Outcome, fixture, options};

/// Program arrays and global data; maps that libbpf makes, one of them with contents; slots that
/// are filled while the programs load.
pub(crate) const FIXTURES: [&str; 4] = [
    "programs_several",
    "field_list",
    "field_list_in_global",
    "outer_several",
];

pub(crate) fn recorded() -> Outcome {
    let [maps, programs] = [PinDir::new(), PinDir::new()];
    for name in FIXTURES {
        let (plan, object) = fixture(name);
        let target = Target {
            page_size: 4096,
            possible_cpus: 2,
        };
        each_call_fails(
            &plan,
            &options(&object, Some(&maps), Some(&programs)),
            || RecordingKernel::new(target).with_directory("/sys/fs/bpf"),
            |kernel, _| {
                let left = (kernel.open_descriptors(), kernel.pins().len());
                assert_eq!(left, (0, 0));
                assert_eq!(kernel.directories().len(), 1);
                Ok(())
            },
        )?;
    }
    Ok(())
}

pub(crate) fn on_the_real_kernel(name: &str) -> Outcome {
    let [maps, programs] = [PinDir::new(), PinDir::new()];
    let (plan, object) = fixture(name);
    for programs in [&maps, &programs] {
        let check = nothing_left(&maps, programs);
        let options = options(&object, Some(&maps), Some(programs));
        each_call_fails(&plan, &options, RealKernel::new, |_, ids| check(ids))?;
    }
    Ok(())
}

/// A check that no descriptor, no pin and none of the maps with the given ids is left. A program
/// without either is gone as well.
fn nothing_left<'a>(
    maps: &'a PinDir,
    programs: &'a PinDir,
) -> impl Fn(&[u32]) -> Outcome + use<'a> {
    let before = maps::descriptors();
    move |ids| {
        if maps::descriptors() != before {
            return Err(format!("{} descriptors, not {before}", maps::descriptors()).into());
        }
        if maps.0.exists() || programs.0.exists() {
            return Err("a directory is left".into());
        }
        match maps::left_of(ids).as_slice() {
            [] => Ok(()),
            ids => Err(format!("maps are left: {ids:?}").into()),
        }
    }
}

/// A call: the method, what it is about, and how many of these came before it. Its place among all
/// calls is not known, as some are made at the same time.
type Call = (&'static str, String, usize);

/// The calls so far.
#[derive(Default)]
struct Calls(Mutex<Vec<Call>>);

impl Calls {
    fn add(&self, fault: Fault<'_>) -> Call {
        let mut calls = self.0.lock().expect("nobody panics");
        let same = |call: &&Call| call.0 == fault.call && call.1 == fault.subject;
        let before = calls.iter().filter(same).count();
        let call = (fault.call, fault.subject.to_owned(), before);
        calls.push(call.clone());
        call
    }
}

fn each_call_fails<K: Kernel>(
    plan: &Plan,
    options: &LoadOptions,
    fresh: impl Fn() -> K,
    check: impl Fn(&K, &[u32]) -> Outcome,
) -> Outcome {
    let all = Calls::default();
    let undisturbed = FailingKernel::new(fresh(), |fault: Fault<'_>| {
        all.add(fault);
        None
    });
    drop(load(plan, &undisturbed, options)?);
    let calls = all.0.lock().expect("nobody panics").clone();
    remove(&undisturbed, options)?;
    check(undisturbed.inner(), &undisturbed.created())?;
    let mut seen = std::collections::BTreeSet::new();
    for wanted in calls {
        let made = Calls::default();
        let kernel = FailingKernel::new(fresh(), |fault: Fault<'_>| {
            (made.add(fault) == wanted).then_some(Errno::EPERM)
        });
        let result = load(plan, &kernel, options);
        let (call, subject, before) = &wanted;
        seen.insert(*call);
        let what = format!("call {before} of {call} of '{subject}'");
        match result {
            Ok(loaded) => {
                // BTF is tried twice, and so are maps that have types.
                let again = matches!(*call, "load_btf" | "create_map");
                assert!(again, "{what}: the load goes on");
                drop(loaded);
                remove(&kernel, options)?;
            }
            Err(error) => {
                let first = &error.diagnostics[0];
                let named = first.message.contains(&errno_name(Errno::EPERM.0));
                assert!(named, "{what}: {first}");
                let program = plan.programs.iter().any(|it| it.name == *subject);
                if *call == "pin" && program {
                    assert_eq!(first.program.as_deref(), Some(subject.as_str()), "{what}");
                    assert_eq!(first.code, codes::PIN_REFUSED);
                }
            }
        }
        assert_eq!(kernel.live(), 0, "{what}");
        check(kernel.inner(), &kernel.created())
            .map_err(|left| Failed::from(format!("{what}: {:?}", left.message())))?;
    }
    for call in ["load_programs", "pin", "make_dir", "info"] {
        assert!(seen.contains(call), "no {call} failed, but {seen:?}");
    }
    Ok(())
}

fn remove<K: Kernel>(kernel: &K, options: &LoadOptions) -> Outcome {
    let maps = options.pin_maps.as_ref().expect("maps are pinned");
    let bpfplan_loader::Programs::Load(programs) = &options.programs else {
        return Err("programs are loaded".into());
    };
    let programs = programs.pin.as_ref().expect("programs are pinned");
    for directory in [maps, programs] {
        assert_eq!(unload(kernel, directory)?.diagnostics, []);
        if maps == programs {
            break;
        }
    }
    Ok(())
}

pub(crate) fn interrupted(name: &str) -> Outcome {
    let [maps, programs] = [PinDir::new(), PinDir::new()];
    let (plan, object) = fixture(name);
    let options = options(&object, Some(&maps), Some(&programs));
    let check = nothing_left(&maps, &programs);
    for moment in 0.. {
        let kernel = FailingKernel::new(RealKernel::new(), |_: Fault<'_>| None);
        let mut steps = 0;
        let result = load_with(&plan, &kernel, &options, &mut |_| {
            steps += 1;
            if steps > moment {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let Err(error) = result else {
            assert!(
                moment > plan.maps.len() + plan.programs.len() + 4,
                "{moment}"
            );
            return remove(&kernel, &options);
        };
        assert_eq!(error.kind, ErrorKind::Interrupted);
        assert_eq!(kernel.live(), 0);
        check(&kernel.created())
            .map_err(|left| Failed::from(format!("step {moment}: {:?}", left.message())))?;
    }
    Ok(())
}
