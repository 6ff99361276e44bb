//! Every fixture through bpfplan and through the real libbpf, in the same run.
//!
//! Compared: accept or refuse, each map's attributes, the kernel's own view of each map, the
//! types of keys and values by structure, the contents of every slot, and the calls themselves.
//!
//! The permitted differences between the two call sequences, all written down in `sequence.rs`:
//! no probes, the small BTF with ids of its own (and no `btf_fd` beside ids of 0), slots filled
//! after all creates and in batches, no second create that could be foreseen.

#[path = "../support/mod.rs"]
mod support;

mod overrides;
#[path = "../support/recorder.rs"]
mod recorder;
mod sequence;

use std::os::fd::{AsFd, AsRawFd};

use bpfplan_compiler::{Compiled, compile};
use bpfplan_loader::{LoadOptions, Loaded, RealKernel, load};
use bpfplan_plan::{Endianness, Pinning, Plan, WithPrograms};
use libtest_mimic::{Failed, Trial};
use support::btf_compare::{self, Graph};
use support::fixtures::{self, Expectation, Fixture};
use support::kernel_view;
use support::libbpf::{self, Declared, Object, from_plan};
use support::release;

fn main() {
    if support::privilege::missing().is_none() {
        let_libbpf_probe();
    }
    let mut trials: Vec<Trial> = fixtures::all()
        .into_iter()
        .map(|fixture| {
            Trial::test(format!("like_libbpf::{}", fixture.name), move || {
                like_libbpf(&fixture)
            })
        })
        .collect();
    trials.push(Trial::test(
        "the_recorder_sees_both",
        the_recorder_sees_both,
    ));
    trials.extend(overrides::trials());
    support::privilege::run(trials)
}

/// libbpf probes the kernel's BTF once a process, when it first loads an object, and an older
/// kernel refuses the BTF of some probes. Which test comes first must not matter;
/// `the_recorder_sees_both` shows whether it does.
fn let_libbpf_probe() {
    if let Ok(object) = Object::open(&fixtures::named("ringbuf_slots").object) {
        let _ = load_theirs(&object);
    }
}

type Outcome = Result<(), Failed>;

fn fail<T>(what: impl Into<Failed>) -> Result<T, Failed> {
    Err(what.into())
}

fn like_libbpf(fixture: &Fixture) -> Outcome {
    let theirs = Object::open(&fixture.object);
    let ours = compile(&fixture.bytes(), &fixture.file_name(), &Default::default());
    let (theirs, compiled) = match (theirs, ours) {
        (Err(_), Err(_)) => return expect(fixture, Expectation::RefusedAtOpen),
        (Ok(theirs), Ok(compiled)) => (theirs, compiled),
        (Ok(theirs), Err(diagnostics)) => {
            // Slots that the kernel would refuse are refused by the compiler already.
            return refused_early(fixture, &theirs, &diagnostics);
        }
        (Err(_), Ok(compiled)) if compiled.plan.object.legacy_maps => {
            // libbpf 1.x opens no object with legacy maps.
            expect(fixture, Expectation::RefusedAtOpen)?;
            return legacy(fixture, &compiled.plan);
        }
        (Err(errno), Ok(_)) => {
            return fail(format!(
                "libbpf refuses to open it (errno {errno}), bpfplan compiles it"
            ));
        }
    };
    same_declarations(&compiled.plan, &theirs)?;
    if compiled.plan.object.endianness != Endianness::NATIVE {
        return both_refuse(&compiled.plan, &theirs);
    }
    if let Some(why) = not_comparable(&compiled.plan) {
        return match try_load(&compiled.plan) {
            Err(_) => Ok(()),
            Ok(_) => fail(format!("bpfplan loads it although {why}")),
        };
    }
    compare_loads(fixture, &compiled, &theirs)
}

/// The maps of a legacy object are loaded, slots included.
fn legacy(fixture: &Fixture, plan: &Plan) -> Outcome {
    if plan.object.endianness != Endianness::NATIVE {
        return match try_load(plan) {
            Err(_) => Ok(()),
            Ok(_) => fail("bpfplan loads an object of the other byte order"),
        };
    }
    let loaded = try_load(plan)?;
    for (map, made) in plan.maps.iter().zip(&loaded.maps) {
        let fd = made.fd.as_fd().as_raw_fd();
        let view = kernel_view::view(fd);
        if (view.map_type, view.key_size, view.value_size)
            != (map.map_type.0, map.key_size, map.value_size)
        {
            return fail(format!("'{}' is {view:?}", map.name));
        }
        if map.is_outer() {
            let wanted = fixture
                .slots
                .iter()
                .filter(|(outer, ..)| *outer == map.name);
            let wanted: std::collections::BTreeMap<u32, String> = wanted
                .map(|(_, index, name)| (*index, name.clone()))
                .collect();
            if kernel_view::slots(fd) != wanted {
                return fail(format!("slots {:?}", kernel_view::slots(fd)));
            }
        }
    }
    Ok(())
}

/// The comments of the fixtures speak of one kernel. An older one may lack a feature, or a check;
/// there it is enough that bpfplan and libbpf agree.
fn expect(fixture: &Fixture, seen: Expectation) -> Outcome {
    let opens = |expectation| expectation != Expectation::RefusedAtOpen;
    let older = release::running() < release::MEASURED;
    if fixture.expectation == seen || older && opens(fixture.expectation) && opens(seen) {
        Ok(())
    } else {
        fail(format!(
            "its source expects {:?}, seen was {seen:?}",
            fixture.expectation
        ))
    }
}

/// What this version says it does not load yet, where libbpf does.
fn not_comparable(plan: &Plan) -> Option<&'static str> {
    if plan.maps.iter().any(|map| map.has_program_slots()) {
        return Some("its slots want programs");
    }
    let with_programs = plan.maps.iter().filter_map(|map| map.with_programs);
    with_programs
        .filter(|why| *why != WithPrograms::OptionalStructOps)
        .any(WithPrograms::is_libbpfs)
        .then_some("a map of it comes with the programs")
}

fn try_load(plan: &Plan) -> Result<Loaded<RealKernel>, String> {
    let options = LoadOptions {
        hold: true,
        ..LoadOptions::default()
    };
    // What is pinned by name is compared elsewhere; here, nobody pins.
    let mut plan = plan.clone();
    for map in &mut plan.maps {
        map.pinning = Pinning::None;
    }
    load(&plan, &RealKernel::new(), &options).map_err(|error| error.to_string())
}

fn load_theirs(object: &Object) -> Result<(), i32> {
    object.without_programs();
    for map in object.maps() {
        map.clear_pin_path();
    }
    object.load()
}

fn refused_early(
    fixture: &Fixture,
    theirs: &Object,
    diagnostics: &[bpfplan_plan::Diagnostic],
) -> Outcome {
    // So are names that the kernel does not take.
    let foreseen = |d: &bpfplan_plan::Diagnostic| {
        d.code.0.starts_with("BP03") || d.code == bpfplan_compiler::codes::BAD_NAME
    };
    if !diagnostics.iter().filter(|d| d.is_error()).all(foreseen) {
        return fail(format!(
            "libbpf opens it, bpfplan does not: {diagnostics:#?}"
        ));
    }
    match load_theirs(theirs) {
        Err(_) => expect(fixture, Expectation::RefusedAtLoad),
        Ok(()) => fail(format!(
            "libbpf loads it, bpfplan refuses: {diagnostics:#?}"
        )),
    }
}

fn both_refuse(plan: &Plan, theirs: &Object) -> Outcome {
    match (try_load(plan), load_theirs(theirs)) {
        (Err(_), Err(_)) => Ok(()),
        (Ok(_), _) => fail("bpfplan loads an object of the other byte order"),
        (_, Ok(())) => fail("libbpf loads an object of the other byte order"),
    }
}

/// The plan's maps against libbpf's getters after open, templates included.
fn same_declarations(plan: &Plan, theirs: &Object) -> Outcome {
    let theirs: Vec<Declared> = theirs.maps().iter().map(|map| map.declared()).collect();
    let ours: Vec<Declared> = plan
        .maps
        .iter()
        .map(|map| from_plan(map, map.inner.as_deref()))
        .collect();
    if ours == theirs {
        Ok(())
    } else {
        fail(format!(
            "declarations differ\nours:   {ours:#?}\ntheirs: {theirs:#?}"
        ))
    }
}

fn compare_loads(fixture: &Fixture, compiled: &Compiled, theirs: &Object) -> Outcome {
    let (our_result, our_calls) = recorder::record(|| try_load(&compiled.plan));
    let (mut their_result, mut their_calls) = recorder::record(|| load_theirs(theirs));
    let optional;
    let mut theirs = theirs;
    let older = release::running() < release::MEASURED;
    let only_theirs = our_result.is_ok() && their_result.is_err();
    if older && only_theirs && sequence::creates(&their_calls).is_empty() {
        // libbpf looks for the kfuncs of all programs, those that it leaves out as well, and a
        // kernel without one of them gets no map. Only the maps are compared here.
        optional = Object::open_bytes(&libbpf::with_optional_externs(fixture.bytes()))
            .map_err(|errno| format!("with optional externs: errno {errno}"))?;
        (their_result, their_calls) = recorder::record(|| load_theirs(&optional));
        theirs = &optional;
    }
    let ours = match (our_result, their_result) {
        (Err(_), Err(_)) => return expect(fixture, Expectation::RefusedAtLoad),
        (Ok(_), Err(_)) if fixture.deviates.is_some() => {
            return expect(fixture, Expectation::RefusedAtLoad);
        }
        (Ok(_), Err(errno)) => return fail(format!("only libbpf refuses to load it: {errno}")),
        (Err(why), Ok(())) => return fail(format!("only bpfplan refuses to load it: {why}")),
        (Ok(ours), Ok(())) => ours,
    };
    expect(fixture, Expectation::Loads)?;
    let withheld = if older {
        withheld(compiled)
    } else {
        Vec::new()
    };
    let externs = compiled.plan.maps.iter().flat_map(|map| &map.externs);
    let probes = externs
        .filter(|it| it.name == "LINUX_HAS_BPF_COOKIE")
        .count();
    sequence::compare(&our_calls, &their_calls, &withheld, probes)?;
    let btf_was_refused = sequence::btf_was_refused(&their_calls);
    let theirs: Vec<_> = theirs.maps();
    if ours.maps.len() != theirs.len() {
        return fail(format!("{} maps against {}", ours.maps.len(), theirs.len()));
    }
    for (ours, theirs) in ours.maps.iter().zip(&theirs) {
        let fd = ours.fd.as_fd().as_raw_fd();
        let compare_types = !btf_was_refused && !withheld.contains(&ours.name.as_str());
        same_map(fixture, &ours.name, fd, theirs.fd(), compare_types).map_err(|why| {
            Failed::from(format!(
                "map '{}': {}",
                ours.name,
                why.message().unwrap_or_default()
            ))
        })?;
    }
    Ok(())
}

/// Maps whose BTF the compiler keeps back, because the kernel that the rules were measured on
/// refuses it. Permitted difference: an older one, which lacks the check, would take it.
fn withheld(compiled: &Compiled) -> Vec<&str> {
    compiled
        .warnings
        .iter()
        .filter(|said| said.code == bpfplan_compiler::codes::BTF_DROPPED)
        .filter_map(|said| said.map.as_deref())
        .collect()
}

fn same_map(fixture: &Fixture, name: &str, ours: i32, theirs: i32, compare_types: bool) -> Outcome {
    let (our_view, their_view) = (kernel_view::view(ours), kernel_view::view(theirs));
    if our_view != their_view {
        return fail(format!(
            "the kernel sees {our_view:?} against {their_view:?}"
        ));
    }
    if our_view.map_type == libbpf_sys::BPF_MAP_TYPE_ARRAY_OF_MAPS
        || our_view.map_type == libbpf_sys::BPF_MAP_TYPE_HASH_OF_MAPS
    {
        let (ours, theirs) = (kernel_view::slots(ours), kernel_view::slots(theirs));
        if ours != theirs {
            return fail(format!("slots {ours:?} against {theirs:?}"));
        }
        let expected: Vec<_> = fixture
            .slots
            .iter()
            .filter(|(outer, ..)| outer == name)
            .collect();
        if expected.len() != ours.len() {
            return fail(format!(
                "{} slots are filled, the source expects {expected:?}",
                ours.len()
            ));
        }
        for (_, index, target) in expected {
            let cut: String = target.chars().take(15).collect();
            if ours.get(index) != Some(&cut) {
                return fail(format!(
                    "slot {index} holds {:?}, expected {cut}",
                    ours.get(index)
                ));
            }
        }
    }
    let (our_state, their_state) = (kernel_view::frozen(ours), kernel_view::frozen(theirs));
    if our_state != their_state {
        return fail(format!("frozen: {our_state} against {their_state}"));
    }
    if our_view.map_type == libbpf_sys::BPF_MAP_TYPE_ARRAY
        && kernel_view::element(ours) != kernel_view::element(theirs)
    {
        return fail("the first element differs");
    }
    match (kernel_view::types(ours), kernel_view::types(theirs)) {
        (_, None) | (None, _) if !compare_types => Ok(()),
        (None, None) => Ok(()),
        (Some(ours), Some(theirs)) => {
            let (a, b) = (Graph::new(&ours.blob), Graph::new(&theirs.blob));
            for (what, x, y) in [
                ("key", ours.key, theirs.key),
                ("value", ours.value, theirs.value),
            ] {
                btf_compare::same((&a, x), (&b, y)).map_err(|why| format!("{what} type: {why}"))?;
            }
            Ok(())
        }
        (ours, theirs) => fail(format!(
            "BTF: {} against {}",
            if ours.is_some() { "some" } else { "none" },
            if theirs.is_some() { "some" } else { "none" },
        )),
    }
}

/// Guards the test itself: without recorded calls every comparison of sequences would pass.
fn the_recorder_sees_both() -> Outcome {
    let fixture = fixtures::named("ringbuf_slots");
    let compiled = compile(&fixture.bytes(), "ringbuf_slots.bpf.o", &Default::default())
        .map_err(|problems| format!("{problems:#?}"))?;
    let (result, ours) = recorder::record(|| try_load(&compiled.plan));
    result?;
    let object = Object::open(&fixture.object).map_err(|errno| format!("errno {errno}"))?;
    let (result, theirs) = recorder::record(|| load_theirs(&object));
    result.map_err(|errno| format!("errno {errno}"))?;
    if sequence::creates(&ours).len() < 4 || sequence::creates(&theirs).len() < 4 {
        return fail(format!("recorded {ours:#?} and {theirs:#?}"));
    }
    if sequence::slots(&ours).is_empty() || sequence::slots(&theirs).is_empty() {
        return fail("no slot was recorded");
    }
    if sequence::btf_was_refused(&theirs) {
        return fail("a probe of libbpf was recorded");
    }
    Ok(())
}
