//! Programs: those of every fixture through bpfplan's programs mode and through libbpf alone, and
//! by libbpf over maps that bpfplan created without programs.
//!
//! Creating a map proves nothing about the BTF that came with it, because the kernel looks at much
//! of it only when a program uses the map.

// A test may panic: that is how it fails.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::os::fd::{AsFd, AsRawFd};

use bpfplan_compiler::compile;
use bpfplan_loader::{
    LoadError, LoadOptions, Loaded, ProgramOptions, Programs, RealKernel, codes, load,
};
use bpfplan_plan::overrides::Overrides;
use bpfplan_plan::{Endianness, Pinning, Plan, SlotTarget, uapi};
use libtest_mimic::Failed;
use support::fixtures::{self, Expectation, Fixture};
use support::kernel_view;
use support::libbpf::{self, Object};
use support::release;

fn main() {
    let mut trials = Vec::new();
    let (mut over_our_maps, mut like_libbpf) = (0, 0);
    for fixture in fixtures::all() {
        let Some(plan) = plan_with_programs(&fixture) else {
            continue;
        };
        if fixture.expectation == Expectation::Loads
            && expected_refusal(&fixture).is_none()
            && needs_no_programs(&plan)
        {
            let name = format!("programs_accept_our_maps::{}", fixture.name);
            let (fixture, plan) = (fixture.clone(), plan.clone());
            let skipped = libbpf::refused_by_this_kernel(&fixture.object);
            over_our_maps += 1;
            trials.push(release::unless(skipped, &name, move || {
                programs_accept_our_maps(&fixture, &plan)
            }));
        }
        let name = format!("like_libbpf::{}", fixture.name);
        like_libbpf += 1;
        trials.push(libtest_mimic::Trial::test(name, move || {
            same_as_libbpf(&fixture, &plan)
        }));
    }
    for (name, test) in [
        (
            "programs_accept_overridden_maps",
            overridden_data as fn() -> _,
        ),
        ("global_data_may_grow", large_data),
        ("skipped_maps_are_left_out", skipped_maps),
    ] {
        trials.push(libtest_mimic::Trial::test(name, test));
    }
    assert!(over_our_maps >= 10, "only {over_our_maps} fixtures");
    assert!(like_libbpf >= 30, "only {like_libbpf} fixtures");
    support::privilege::run(trials)
}

/// What the source says that libbpf answers when the programs are loaded, too.
fn expected_refusal(fixture: &Fixture) -> Option<&str> {
    fixture.programs_refused.as_deref()
}

/// The plan of a fixture of this machine's byte order that has programs and does not pin.
fn plan_with_programs(fixture: &Fixture) -> Option<Plan> {
    let compiled = compile(&fixture.bytes(), &fixture.file_name(), &Default::default()).ok()?;
    let plan = compiled.plan;
    let wanted = plan.object.endianness == Endianness::NATIVE
        && plan.maps.iter().all(|map| map.pinning == Pinning::None)
        && !plan.programs.is_empty();
    (wanted && Object::open(&fixture.object).is_ok()).then_some(plan)
}

/// Whether all maps of the plan are made without programs.
fn needs_no_programs(plan: &Plan) -> bool {
    let of_maps = |target: &SlotTarget| matches!(target, SlotTarget::Map(_));
    let mut slots = plan.maps.iter().flat_map(|map| &map.slots);
    !plan.maps.is_empty()
        && slots.all(|slot| of_maps(&slot.target))
        && plan
            .maps
            .iter()
            .all(|map| !map.is_arena() && map.with_programs.is_none_or(|why| !why.is_libbpfs()))
}

fn load_with_programs(fixture: &Fixture, plan: &Plan) -> Result<Loaded<RealKernel>, LoadError> {
    let options = LoadOptions {
        hold: true,
        programs: Programs::Load(ProgramOptions {
            object: fixture.bytes(),
            pin: None,
        }),
        ..LoadOptions::default()
    };
    load(plan, &RealKernel::new(), &options)
}

/// The same answer, the same programs, and the same contents of all maps.
fn same_as_libbpf(fixture: &Fixture, plan: &Plan) -> Result<(), Failed> {
    let theirs = Object::open(&fixture.object).map_err(|errno| format!("open: errno {errno}"))?;
    let answer = theirs.load();
    let ours = load_with_programs(fixture, plan);
    let measured = release::running() >= release::MEASURED;
    let ours = match (ours, answer) {
        (Err(error), Err(errno)) => {
            let first = error.diagnostics.first().ok_or("no diagnostic")?;
            if measured && expected_refusal(fixture).is_none() && maps_load(fixture) {
                return Err(format!("its source expects programs that load: {errno}").into());
            }
            let name = bpfplan_plan::rules::errno_name(errno);
            let said = first.notes.iter().any(|note| note.contains(&name));
            // libbpf has got no further than the maps, which bpfplan makes on purpose; what an older
            // kernel says of the programs, it says to bpfplan alone.
            if !measured && fixture.deviates.is_some() && !maps_load(fixture) {
                return Ok(());
            }
            // What the kernel would refuse is foreseen now and then, with another reason.
            if first.code == codes::PROGRAMS_REFUSED && !first.message.contains(&name)
                || first.code == codes::PROGRAM_NOT_LOADED && !said
            {
                return Err(format!("libbpf says {name}: {first:?}").into());
            }
            return Ok(());
        }
        // On purpose, and about the maps.
        (Ok(_), Err(_)) if fixture.deviates.is_some() && !maps_load(fixture) => return Ok(()),
        (Ok(_), Err(errno)) => {
            return Err(format!("only libbpf refuses the programs: errno {errno}").into());
        }
        (Err(error), Ok(())) => return Err(format!("only bpfplan refuses: {error}").into()),
        (Ok(ours), Ok(())) => ours,
    };
    if let Some(why) = expected_refusal(fixture).filter(|_| measured) {
        return Err(format!("its source expects a refusal: {why}").into());
    }
    same_programs(&ours, &theirs)?;
    // What libbpf leaves out has a descriptor of no map.
    let theirs: Vec<_> = theirs.maps();
    let theirs: Vec<_> = theirs.iter().filter(|map| map.is_created()).collect();
    for map in &theirs {
        // Names of maps are cut off in a reused map, so the kernel's are compared.
        let fd = map.fd();
        let view = kernel_view::view(fd);
        let mut found = ours.maps.iter().filter(|ours| {
            kernel_view::view(ours.fd.as_fd().as_raw_fd()) == view && ours.name == map.name()
        });
        let ours = found
            .next()
            .ok_or_else(|| format!("bpfplan made no map '{}' like {view:?}", map.name()))?;
        same_contents(ours.fd.as_fd().as_raw_fd(), fd)
            .map_err(|why| format!("map '{}': {why}", ours.name))?;
    }
    if ours.maps.len() != theirs.len() {
        return Err("bpfplan made other maps as well".into());
    }
    Ok(())
}

/// Whether libbpf takes the object without its programs.
fn maps_load(fixture: &Fixture) -> bool {
    fixture.expectation == Expectation::Loads
}

fn same_programs(ours: &Loaded<RealKernel>, theirs: &Object) -> Result<(), Failed> {
    let ours: Vec<_> = ours
        .programs
        .iter()
        .map(|program| {
            let fd = program.fd.as_fd().as_raw_fd();
            (program.name.clone(), kernel_view::program(fd))
        })
        .collect();
    let theirs: Vec<_> = theirs
        .loaded_programs()
        .into_iter()
        .map(|(name, fd)| (name, kernel_view::program(fd)))
        .collect();
    if ours == theirs {
        Ok(())
    } else {
        Err(format!("programs differ\nours:   {ours:#?}\ntheirs: {theirs:#?}").into())
    }
}

fn same_contents(ours: i32, theirs: i32) -> Result<(), String> {
    let differ = |what: &str, ours: String, theirs: String| {
        if ours == theirs {
            Ok(())
        } else {
            Err(format!("{what}: {ours} against {theirs}"))
        }
    };
    let kind = kernel_view::view(ours).map_type;
    match kind {
        uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS | uapi::BPF_MAP_TYPE_HASH_OF_MAPS => {
            let [ours, theirs] = [ours, theirs].map(kernel_view::slots);
            differ("slots", format!("{ours:?}"), format!("{theirs:?}"))?;
        }
        uapi::BPF_MAP_TYPE_PROG_ARRAY => {
            let [ours, theirs] = [ours, theirs].map(kernel_view::program_slots);
            differ("programs", format!("{ours:?}"), format!("{theirs:?}"))?;
        }
        uapi::BPF_MAP_TYPE_ARRAY => {
            let [ours, theirs] = [ours, theirs].map(kernel_view::element);
            differ("element 0", format!("{ours:?}"), format!("{theirs:?}"))?;
        }
        _ => {}
    }
    let [ours, theirs] = [ours, theirs].map(kernel_view::frozen);
    differ("frozen", ours.to_string(), theirs.to_string())
}

fn overridden(name: &str, overrides: &Overrides) -> Result<(Fixture, Plan), Failed> {
    let fixture = fixtures::named(name);
    let compiled = compile(&fixture.bytes(), &fixture.file_name(), &Default::default())
        .map_err(|problems| format!("{problems:#?}"))?;
    let done = overrides.apply(&compiled.plan);
    let done = done.map_err(|problems| format!("{problems:#?}"))?;
    Ok((fixture, done.plan))
}

/// Other sizes and values of global data are those that the programs see.
fn overridden_data() -> Result<(), Failed> {
    let overrides = Overrides::default()
        .set(".rodata:max_entries", 1000)
        .set(".rodata.deep.strict", false)
        .set(".data.names.value_size", 4 + 8 * 1000)
        .set(".data.names.names[999]", "last");
    let (fixture, plan) = overridden("override_data", &overrides)?;
    load_with_programs(&fixture, &plan).map_err(|error| error.to_string())?;
    programs_accept_our_maps(&fixture, &plan)
}

/// libbpf keeps the contents of global data in a mapping, and gives back as many bytes as it
/// believes the map to have: no neighbours of it may go.
fn large_data() -> Result<(), Failed> {
    let neighbours = vec![vec![7_u8; 1 << 20]; 4];
    let entries = 1 << 20;
    for entries in [entries, 3] {
        let overrides = Overrides::default().set(".data.names.value_size", 4 + 8 * entries);
        let (fixture, plan) = overridden("override_data", &overrides)?;
        let loaded = load_with_programs(&fixture, &plan).map_err(|error| error.to_string())?;
        assert_eq!(loaded.programs.len(), plan.programs.len());
    }
    let intact = |bytes: &Vec<u8>| bytes.iter().all(|byte| *byte == 7);
    assert!(neighbours.iter().all(intact));
    Ok(())
}

/// A map that is skipped is made by nobody; programs that use it are refused.
fn skipped_maps() -> Result<(), Failed> {
    let skip = |map: &str| overridden("programs_several", &Overrides::default().skip(map));
    let (fixture, plan) = skip("only_optional")?;
    let loaded = load_with_programs(&fixture, &plan).map_err(|error| error.to_string())?;
    assert_eq!((loaded.maps.len(), loaded.programs.len()), (4, 4));
    assert!(loaded.map("only_optional").is_none());
    let (fixture, plan) = skip("counts")?;
    let refused = load_with_programs(&fixture, &plan).err();
    let code = refused.and_then(|error| Some(error.diagnostics.first()?.code));
    assert_eq!(code, Some(codes::PROGRAMS_REFUSED), "programs use it");
    Ok(())
}

fn programs_accept_our_maps(fixture: &Fixture, plan: &Plan) -> Result<(), Failed> {
    let options = LoadOptions {
        hold: true,
        ..LoadOptions::default()
    };
    let loaded = load(plan, &RealKernel::new(), &options).map_err(|e| e.to_string())?;

    let alone = Object::open(&fixture.object).map_err(|errno| format!("open: errno {errno}"))?;
    alone
        .load()
        .map_err(|errno| format!("libbpf alone refuses the programs: errno {errno}"))?;

    let object = Object::open(&fixture.object).map_err(|errno| format!("open: errno {errno}"))?;
    for map in object.maps() {
        let name = map.name();
        let ours = loaded
            .map(&name)
            .ok_or(format!("bpfplan made no map '{name}'"))?;
        map.reuse(ours.fd.as_fd().as_raw_fd());
    }
    let warned = loaded
        .diagnostics
        .iter()
        .any(|d| d.code == codes::PROGRAM_BTF);
    match (object.load(), warned) {
        (Ok(()), false) => Ok(()),
        // Graph roots and local kptrs: the kernel wants the programs' own BTF object, and the
        // load has said so.
        (Err(_), true) => Ok(()),
        (Err(errno), false) => Err(format!("programs refuse our maps: errno {errno}").into()),
        (Ok(()), true) => Err("bpfplan warned that no program can use the maps; one does".into()),
    }
}
