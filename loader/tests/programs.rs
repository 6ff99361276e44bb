//! Programs, loaded by libbpf over maps that bpfplan created: creating a map proves nothing about
//! the BTF that came with it, because the kernel looks at much of it only when a program uses the
//! map.

mod support;

use std::os::fd::{AsFd, AsRawFd};

use bpfplan_compiler::compile;
use bpfplan_loader::{LoadOptions, RealKernel, load};
use bpfplan_plan::overrides::Overrides;
use bpfplan_plan::{Endianness, Pinning, Plan, SlotTarget};
use libtest_mimic::{Failed, Trial};
use support::fixtures::{self, Expectation, Fixture};
use support::libbpf::Object;
use support::release;

fn main() {
    let mut trials = Vec::new();
    for fixture in fixtures::all() {
        if fixture.expectation == Expectation::Loads && wants_a_trial(&fixture) {
            let name = format!("programs_accept_our_maps::{}", fixture.name);
            let skipped = refused_by_this_kernel(&fixture);
            trials.push(release::unless(skipped, &name, move || {
                programs_accept_our_maps(&fixture)
            }));
        }
    }
    trials.push(Trial::test(
        "programs_accept_overridden_maps",
        programs_accept_overridden_maps,
    ));
    assert!(
        trials.len() >= 10,
        "only {} fixtures have programs",
        trials.len()
    );
    support::privilege::run(trials)
}

/// Why a kernel older than the fixtures refuses the programs, with libbpf's own maps as well.
fn refused_by_this_kernel(fixture: &Fixture) -> Option<String> {
    let running = release::running();
    if running >= release::MEASURED {
        return None;
    }
    let errno = Object::open(&fixture.object).ok()?.load().err()?;
    Some(format!(
        "Linux {running} refuses the programs with libbpf's own maps as well (errno {errno})"
    ))
}

/// Little-endian fixtures with programs, all of whose maps this version creates.
fn wants_a_trial(fixture: &Fixture) -> bool {
    let Ok(compiled) = compile(&fixture.bytes(), &fixture.file_name(), &Default::default()) else {
        return false;
    };
    let plan = compiled.plan;
    let loadable = plan.object.endianness == Endianness::NATIVE
        && plan.not_planned.is_empty()
        && plan.maps.iter().all(|map| {
            map.pinning == Pinning::None
                && map
                    .slots
                    .iter()
                    .all(|slot| matches!(slot.target, SlotTarget::Map(_)))
        });
    loadable
        && !plan.maps.is_empty()
        && Object::open(&fixture.object).is_ok_and(|o| o.programs() > 0)
}

fn programs_accept_our_maps(fixture: &Fixture) -> Result<(), Failed> {
    let compiled = compile(&fixture.bytes(), &fixture.file_name(), &Default::default())
        .map_err(|problems| format!("{problems:#?}"))?;
    accept(fixture, &compiled.plan)
}

/// Other sizes and values of global data are those that the programs see.
fn programs_accept_overridden_maps() -> Result<(), Failed> {
    let fixture = fixtures::named("override_data");
    let compiled = compile(&fixture.bytes(), &fixture.file_name(), &Default::default())
        .map_err(|problems| format!("{problems:#?}"))?;
    let overrides = Overrides::default()
        .set(".rodata:max_entries", 1000)
        .set(".rodata.deep.strict", false)
        .set(".data.names.value_size", 4 + 8 * 1000)
        .set(".data.names.names[999]", "last");
    let done = overrides.apply(&compiled.plan);
    let done = done.map_err(|problems| format!("{problems:#?}"))?;
    accept(&fixture, &done.plan)
}

fn accept(fixture: &Fixture, plan: &Plan) -> Result<(), Failed> {
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
        .any(|d| d.code == bpfplan_loader::codes::PROGRAM_BTF);
    match (object.load(), warned) {
        (Ok(()), false) => Ok(()),
        // Graph roots and local kptrs: the kernel wants the programs' own BTF object, and the
        // load has said so.
        (Err(_), true) => Ok(()),
        (Err(errno), false) => Err(format!("programs refuse our maps: errno {errno}").into()),
        (Ok(()), true) => Err("bpfplan warned that no program can use the maps; one does".into()),
    }
}
