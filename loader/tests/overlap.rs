//! What is done while slots wait for a grace period: programs load, or large maps are created. A
//! failure on either side leaves nothing, and where calls do not overlap they have their old order.

// A test may panic: that is how it fails.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod sample;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use bpfplan_loader::{
    Errno, ErrorKind, FailingKernel, Fault, LoadError, LoadOptions, ProgramOptions, Programs,
    Progress, RecordedCall, RecordingKernel, codes, load_with,
};
use bpfplan_plan::rules::{KernelVersion, Target};
use bpfplan_plan::{Map, Plan, Program, Type, WithPrograms, uapi};
use sample::{map, outer, plan};

/// A test that waits so long has failed.
const GIVE_UP: Duration = Duration::from_secs(20);

/// Two calls that are to be under way at the same time.
type Pair = [&'static str; 2];
const PROGRAMS: Pair = ["load_programs", "update_batch"];
const LARGE: Pair = ["create_map of large_0", "update_batch"];

/// Calls that have begun, by name, and for maps by name and subject.
#[derive(Default)]
struct Begun(Mutex<BTreeSet<String>>, Condvar);

impl Begun {
    /// Says that it has begun, and waits until its partner has; whether it has.
    fn meet(&self, call: &str, [one, other]: Pair) -> bool {
        let partner = match call {
            call if call == one => other,
            call if call == other => one,
            _ => return true,
        };
        let mut begun = self.0.lock().expect("nobody panics");
        begun.insert(call.to_owned());
        self.1.notify_all();
        let waiting = |begun: &mut BTreeSet<String>| !begun.contains(partner);
        let waited = self.1.wait_timeout_while(begun, GIVE_UP, waiting);
        !waited.expect("nobody panics").1.timed_out()
    }
}

/// What becomes of a load.
struct Seen {
    result: Result<Vec<String>, LoadError>,
    calls: Vec<RecordedCall>,
    /// Number of slots that were filled one by one.
    singles: usize,
    /// Whether the pair met.
    met: bool,
    open: usize,
}

impl Seen {
    fn error(&self) -> &LoadError {
        self.result.as_ref().expect_err("something failed")
    }

    fn place(&self, wanted: impl Fn(&RecordedCall) -> bool) -> Option<usize> {
        self.calls.iter().position(wanted)
    }
}

/// How a kernel and its user behave.
#[derive(Clone, Copy, Default)]
struct Behaviour {
    /// Calls that are to meet; without them, nothing happens at the same time.
    pair: Option<Pair>,
    /// Calls that fail, and with what.
    fails: &'static [(&'static str, Errno)],
    /// Outer maps have no batch.
    no_batch: bool,
    /// The user ends it when slots are filled.
    interrupts: bool,
}

fn run(plan: &Plan, programs: Programs, behaviour: Behaviour) -> Seen {
    let target = Target {
        page_size: 4096,
        possible_cpus: 2,
    };
    let begun = Begun::default();
    let (missed, singles) = (Mutex::new(false), Mutex::new(0));
    let kernel = FailingKernel::new(RecordingKernel::new(target), |fault: Fault<'_>| {
        let call = match fault.call {
            "create_map" => format!("create_map of {}", fault.subject),
            call => call.to_owned(),
        };
        if behaviour.pair.is_some_and(|pair| !begun.meet(&call, pair)) {
            *missed.lock().expect("nobody panics") = true;
        }
        if call == "update_slot" {
            *singles.lock().expect("nobody panics") += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        if call == "update_batch" && behaviour.no_batch {
            return Some(Errno::ENOTSUPP);
        }
        let mut fails = behaviour.fails.iter();
        fails
            .find(|(name, _)| *name == call)
            .map(|(_, errno)| *errno)
    })
    .with_version(KernelVersion {
        major: 6,
        minor: 12,
    })
    .with_patience(GIVE_UP);
    let kernel = match behaviour.pair {
        Some(_) => kernel.with_threads(),
        None => kernel,
    };
    let options = LoadOptions {
        hold: true,
        programs,
        ..LoadOptions::default()
    };
    let result = load_with(plan, &kernel, &options, &mut |next| match next {
        Progress::GoOn if behaviour.interrupts => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let calls = kernel.inner().calls();
    let result = result.map(|loaded| {
        for (map, made) in plan.maps.iter().zip(&loaded.maps) {
            assert_eq!(
                (&map.name, map.slots.len()),
                (&made.name, made.filled as usize)
            );
        }
        let notes = loaded.diagnostics.iter().map(|note| note.code.to_string());
        notes.collect()
    });
    let open = kernel.live();
    drop(kernel);
    Seen {
        result,
        calls,
        singles: singles.into_inner().expect("nobody panics"),
        met: !missed.into_inner().expect("nobody panics"),
        open,
    }
}

fn array(name: &str) -> Map {
    map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1)
}

fn table(name: &str, slots: u32, target: &str) -> Map {
    let slots: Vec<(u32, &str)> = (0..slots).map(|slot| (slot, target)).collect();
    let template = map("", uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1);
    let size = u32::try_from(slots.len()).expect("few slots");
    outer(
        name,
        uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
        size,
        template,
        &slots,
    )
}

/// An outer map over a map, with a program.
fn with_programs(slots: u32) -> (Plan, Programs) {
    let mut plan = plan(vec![array("lut"), table("luts", slots, "lut")]);
    plan.programs = vec![Program {
        name: "enter".to_owned(),
        section: "xdp".to_owned(),
    }];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj");
    // The recording kernel does not look at it.
    let object = std::fs::read(path.join("outer_several.bpf.o")).expect("the fixture is there");
    let programs = Programs::Load(ProgramOptions { object, pin: None });
    (plan, programs)
}

/// An outer map over a small map, and maps that are worth a thread of their own.
fn with_large() -> Plan {
    let large = |name| map(name, uapi::BPF_MAP_TYPE_HASH, [4, 8], 1 << 18);
    plan(vec![
        large("large_0"),
        array("lut"),
        table("luts", 8, "lut"),
        large("large_1"),
    ])
}

const FAILS_PROGRAMS: (&str, Errno) = ("load_programs", Errno::EACCES);
const FAILS_SLOTS: (&str, Errno) = ("update_batch", Errno::EPERM);
const FAILS_LARGE: (&str, Errno) = ("create_map of large_0", Errno::EPERM);

#[test]
fn programs_load_while_slots_wait() {
    let (plan, programs) = with_programs(64);
    let pair = Some(PROGRAMS);
    let seen = run(
        &plan,
        programs,
        Behaviour {
            pair,
            ..Behaviour::default()
        },
    );
    assert!(seen.met);
    assert_eq!(seen.result.expect("it loads"), [""; 0]);
}

#[test]
fn a_failure_of_programs_stops_the_slots() {
    let (plan, programs) = with_programs(60_000);
    let seen = run(
        &plan,
        programs,
        Behaviour {
            pair: Some(PROGRAMS),
            fails: &[FAILS_PROGRAMS],
            no_batch: true,
            interrupts: false,
        },
    );
    assert!(seen.met);
    assert_eq!(seen.error().diagnostics[0].code, codes::PROGRAMS_REFUSED);
    assert!(seen.error().diagnostics[0].message.contains("EACCES"));
    assert_eq!(seen.error().kind, ErrorKind::Kernel);
    assert!(seen.singles < 60_000, "{}", seen.singles);
    assert_eq!(seen.open, 0);
}

#[test]
fn a_failure_of_slots_leaves_no_program() {
    let (plan, programs) = with_programs(64);
    let seen = run(
        &plan,
        programs,
        Behaviour {
            pair: Some(PROGRAMS),
            fails: &[FAILS_SLOTS],
            ..Behaviour::default()
        },
    );
    assert!(seen.met);
    let first = &seen.error().diagnostics[0];
    assert_eq!(first.code, codes::SLOT_REFUSED);
    assert_eq!(first.map.as_deref(), Some("luts"));
    let loaded = seen.place(|call| matches!(call, RecordedCall::LoadProgram { .. }));
    assert!(loaded.is_some(), "nobody can stop libbpf");
    assert_eq!(seen.open, 0);
}

#[test]
fn of_two_failures_that_of_the_programs_is_told() {
    let (plan, programs) = with_programs(64);
    let seen = run(
        &plan,
        programs,
        Behaviour {
            pair: Some(PROGRAMS),
            fails: &[FAILS_PROGRAMS, FAILS_SLOTS],
            ..Behaviour::default()
        },
    );
    assert!(seen.met);
    assert_eq!(seen.error().diagnostics.len(), 1);
    assert_eq!(seen.error().diagnostics[0].code, codes::PROGRAMS_REFUSED);
    assert_eq!(seen.open, 0);
}

#[test]
fn an_interruption_is_told_before_all_failures() {
    for fails in [&[][..], &[FAILS_PROGRAMS]] {
        let (plan, programs) = with_programs(64);
        let seen = run(
            &plan,
            programs,
            Behaviour {
                // A failure of the programs may come first; whoever waits for it sees that.
                pair: Some(if fails.is_empty() { PROGRAMS } else { [""; 2] }),
                fails,
                no_batch: false,
                interrupts: true,
            },
        );
        let first = &seen.error().diagnostics[0];
        match seen.error().kind {
            ErrorKind::Interrupted => assert_eq!(first.code, codes::INTERRUPTED),
            _ => assert!(
                !fails.is_empty() && first.code == codes::PROGRAMS_REFUSED,
                "{first}"
            ),
        }
        assert_eq!(seen.open, 0);
    }
}

/// Slots of maps that come with the programs wait for them; others do not.
#[test]
fn slots_of_maps_of_programs_come_after_them() {
    let (mut plan, programs) = with_programs(8);
    let graph = |name: &str| map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 1);
    let outer_type = uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS;
    let template = map("", uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 1);
    let graphs = outer("graphs", outer_type, 3, template, &[(1, "graph")]);
    plan.maps.extend([graph("graph"), graphs].map(|map| Map {
        with_programs: Some(WithPrograms::GraphRoot),
        ..map
    }));
    let mut plan = Plan {
        programs: plan.programs,
        ..sample::plan(plan.maps)
    };
    let mut types = plan.types.clone();
    let Some(Type::Struct(pair)) = types.get_mut(1) else {
        panic!("type 2 is the struct")
    };
    pair.name = Some("bpf_list_head".to_owned());
    plan = sample::with_types(plan, types);
    let seen = run(
        &plan,
        programs,
        Behaviour {
            pair: Some(PROGRAMS),
            ..Behaviour::default()
        },
    );
    assert!(seen.met);
    assert_eq!(seen.result.as_ref().expect("it loads"), &[""; 0]);
    let made = seen.place(|call| matches!(call, RecordedCall::MakeMap { .. }));
    let filled = seen
        .place(|call| matches!(call, RecordedCall::UpdateBatch { slots, .. } if slots.len() == 1));
    assert!(made.is_some() && made < filled, "{:?}", seen.calls);
}

#[test]
fn where_calls_do_not_overlap_programs_come_first() {
    let (plan, programs) = with_programs(8);
    let seen = run(&plan, programs, Behaviour::default());
    let slots = seen.place(|call| matches!(call, RecordedCall::UpdateBatch { .. }));
    let loaded = seen.place(|call| matches!(call, RecordedCall::LoadProgram { .. }));
    assert!(loaded.is_some() && loaded < slots, "{:?}", seen.calls);
}

#[test]
fn large_maps_are_created_while_slots_wait() {
    let pair = Some(LARGE);
    let behaviour = Behaviour {
        pair,
        ..Behaviour::default()
    };
    let seen = run(&with_large(), Programs::Unneeded, behaviour);
    assert!(seen.met);
    assert_eq!(seen.result.expect("it loads"), [""; 0]);
}

#[test]
fn a_failure_beside_slots_leaves_nothing() {
    for (fails, told, map) in [
        (&[FAILS_LARGE][..], codes::MAP_REFUSED, "large_0"),
        (&[FAILS_SLOTS], codes::SLOT_REFUSED, "luts"),
        // The slots came first.
        (&[FAILS_LARGE, FAILS_SLOTS], codes::SLOT_REFUSED, "luts"),
    ] {
        let seen = run(
            &with_large(),
            Programs::Unneeded,
            Behaviour {
                pair: Some(LARGE),
                fails,
                ..Behaviour::default()
            },
        );
        assert!(seen.met);
        let first = &seen.error().diagnostics[0];
        assert_eq!(
            (first.code, first.map.as_deref()),
            (told, Some(map)),
            "{first}"
        );
        assert_eq!(seen.open, 0);
    }
}

/// Slots wait for the maps that go there, however large these are.
#[test]
fn large_maps_for_slots_come_first() {
    let mut large = with_large();
    let template = map("", uapi::BPF_MAP_TYPE_HASH, [4, 8], 1 << 18);
    let slots = [(0, "large_0"), (1, "large_1")];
    large.maps.push(outer(
        "tables",
        uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
        2,
        template,
        &slots,
    ));
    let nobody = Some([""; 2]);
    let behaviour = Behaviour {
        pair: nobody,
        ..Behaviour::default()
    };
    let seen = run(&large, Programs::Unneeded, behaviour);
    assert_eq!(seen.result.as_ref().expect("it loads"), &[""; 0]);
    let slots = seen.place(|call| matches!(call, RecordedCall::UpdateBatch { .. }));
    let maps = seen.place(|call| matches!(call, RecordedCall::CreateMap { attributes, .. } if attributes.name == "lut"));
    let large = seen.place(|call| matches!(call, RecordedCall::CreateMap { attributes, .. } if attributes.name == "large_1"));
    assert!(large < maps && maps < slots, "{:?}", seen.calls);
}

#[test]
fn where_calls_do_not_overlap_maps_keep_their_order() {
    let seen = run(&with_large(), Programs::Unneeded, Behaviour::default());
    let made = seen.calls.iter().filter_map(|call| match call {
        RecordedCall::CreateMap { attributes, .. } => Some(attributes.name.as_str()),
        RecordedCall::UpdateBatch { .. } => Some("slots"),
        _ => None,
    });
    let made: Vec<&str> = made.collect();
    assert_eq!(
        made,
        ["large_0", "lut", "luts.inner", "luts", "large_1", "slots"]
    );
}

/// A panic in a thread of the load is one of the load, which holds nothing any more.
#[test]
fn a_panic_on_either_side_leaves_nothing_open() {
    let target = Target {
        page_size: 4096,
        possible_cpus: 2,
    };
    let (plan_of_programs, programs) = with_programs(64);
    for (plan, programs, panics) in [
        (&plan_of_programs, programs.clone(), "load_programs"),
        (&plan_of_programs, programs, "update_batch"),
        (&with_large(), Programs::Unneeded, "large_0"),
        (&with_large(), Programs::Unneeded, "update_batch"),
    ] {
        let recording = RecordingKernel::new(target).with_directory("/sys/fs/bpf");
        let kernel = FailingKernel::new(recording, |fault: Fault<'_>| {
            assert!(![fault.call, fault.subject].contains(&panics), "on purpose");
            None
        })
        .with_threads();
        let options = LoadOptions {
            hold: true,
            programs,
            ..LoadOptions::default()
        };
        let load = || load_with(plan, &kernel, &options, &mut |_| ControlFlow::Continue(()));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(load));
        assert!(result.is_err(), "{panics} panics");
        assert_eq!(
            (kernel.live(), kernel.inner().pins().len()),
            (0, 0),
            "{panics}"
        );
    }
}
