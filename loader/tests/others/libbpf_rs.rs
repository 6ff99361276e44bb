//! libbpf-rs takes the maps over by descriptor and by pin, and its programs work with them.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use bpfplan_loader::{Loaded, RealKernel, codes};
use bpfplan_plan::{Diagnostic, uapi};
use libbpf_rs::{
    MapCore as _, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput, RingBufferBuilder,
};
use libtest_mimic::{Failed, Trial};

use crate::fixtures;
use crate::loads::{self, Event, PACKET, PASS, Pinned, STEP, Tenants, Usage};
use crate::with_libbpf_rs::{over_loaded, over_pins};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("libbpf_rs::takes_descriptors", takes_descriptors),
        Trial::test("libbpf_rs::takes_pins", takes_pins),
        Trial::test("libbpf_rs::reuses_pins", reuses_pins),
        Trial::test(
            "libbpf_rs::takes_the_pins_of_all_fixtures",
            takes_the_pins_of_all_fixtures,
        ),
        Trial::test("libbpf_rs::misses_a_pin", misses_a_pin),
        Trial::test(
            "libbpf_rs::has_a_copy_of_variables",
            has_a_copy_of_variables,
        ),
        Trial::test("libbpf_rs::opens_single_maps", opens_single_maps),
    ]
}

fn takes_descriptors() -> Result<(), Failed> {
    let loaded = Tenants::held();
    let object = over_loaded(&loads::object(), &loaded)?;
    runs_on(&object, &loaded)?;
    // The maps stay, with what is in them, when bpfplan's descriptors go.
    let packets = loads::read::<Usage>(&loaded, "usages", 0).packets;
    drop(loaded);
    account(&object)?;
    let usages = object.maps().find(|map| map.name() == "usages");
    let usage = usages.unwrap().lookup(&[0; 4], MapFlags::ANY)?.unwrap();
    let now = u64::from_ne_bytes(usage[..8].try_into()?);
    assert_eq!(now, packets + u64::from(STEP));
    Ok(())
}

fn takes_pins() -> Result<(), Failed> {
    let tenants = Tenants::new();
    let object = over_pins(&loads::object(), &tenants.pins)?;
    runs_on(&object, &tenants.loaded)?;
    drop(object);
    let object = over_loaded(&loads::object(), &tenants.loaded)?;
    account(&object)
}

fn reuses_pins() -> Result<(), Failed> {
    let tenants = Tenants::new();
    let object = reused(&loads::object(), &tenants.pins)?;
    runs_on(&object, &tenants.loaded)
}

/// Without a comparison.
fn reused(object: &Path, pins: &Path) -> libbpf_rs::Result<Object> {
    let mut open = ObjectBuilder::default().open_file(object)?;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().replace('.', "_");
        map.reuse_pinned_map(pins.join(name))?;
    }
    open.load()
}

/// libbpf compares before it takes a pin: what bpfplan pins is what libbpf would have pinned.
fn takes_the_pins_of_all_fixtures() -> Result<(), Failed> {
    let mut taken = 0;
    libbpf_rs::set_print(None);
    for fixture in fixtures::all() {
        let Some(plan) = loads::plan_to_pin(&fixture) else {
            continue;
        };
        // Older kernels refuse some programs.
        let mut open = ObjectBuilder::default();
        if open.open_file(&fixture.object)?.load().is_err() {
            continue;
        }
        let pinned = Pinned::new(&plan).map_err(|e| format!("{}: {e}", fixture.name))?;
        let for_programs = |d: &Diagnostic| d.code == codes::PROGRAM_BTF;
        if pinned.loaded.diagnostics.iter().any(for_programs) {
            continue;
        }
        // The kernel forgets that user space may only read or only write, which libbpf takes for
        // another map, its own included.
        let forgotten = uapi::BPF_F_RDONLY | uapi::BPF_F_WRONLY;
        let forgets = plan.maps.iter().any(|map| map.map_flags & forgotten != 0);
        let over_pins = over_pins(&fixture.object, &pinned.pins);
        assert_eq!(over_pins.is_err(), forgets, "{}", fixture.name);
        reused(&fixture.object, &pinned.pins).map_err(|e| format!("{}: {e}", fixture.name))?;
        taken += 1;
    }
    assert!(taken >= 50, "only {taken} fixtures could be tried");
    Ok(())
}

/// What is not there is not made in silence.
fn misses_a_pin() -> Result<(), Failed> {
    let tenants = Tenants::new();
    let elsewhere = tenants.pins.join("elsewhere");
    let error = over_pins(&loads::object(), &elsewhere).expect_err("there is no pin");
    assert_eq!(error.kind(), libbpf_rs::ErrorKind::NotFound);
    Ok(())
}

/// The memory that a skeleton shows as variables belongs to libbpf alone when the map was reused:
/// README says so.
fn has_a_copy_of_variables() -> Result<(), Failed> {
    use libbpf_rs::AsRawLibbpf as _;

    let tenants = Tenants::new();
    prepare(&tenants.loaded);
    let object = over_pins(&loads::object(), &tenants.pins)?;
    account(&object)?;
    assert_eq!(tenants.read::<u64>("tenants.bss", 0), 1);
    let bss = object.maps().find(|map| map.name() == "tenants.bss");
    let mut size = 0;
    // SAFETY: the map belongs to a loaded object; its memory is as long as libbpf says.
    let copy = unsafe {
        let raw = bss.unwrap().as_libbpf_object();
        let data = libbpf_sys::bpf_map__initial_value(raw.as_ptr(), &raw mut size);
        assert_eq!((data.is_null(), size), (false, 8));
        data.cast::<u64>().read()
    };
    assert_eq!(copy, 0, "libbpf maps reused data: say so in the README");
    Ok(())
}

fn opens_single_maps() -> Result<(), Failed> {
    let tenants = Tenants::new();
    let by_pin = MapHandle::from_pinned_path(tenants.pin("usages"))?;
    let usage = [5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0];
    by_pin.update(&3u32.to_ne_bytes(), &usage, MapFlags::NO_EXIST)?;
    let by_id = MapHandle::from_map_id(tenants.id("usages"))?;
    assert_eq!(
        by_id.lookup(&3u32.to_ne_bytes(), MapFlags::ANY)?.unwrap(),
        usage
    );
    let usage = Usage {
        packets: 5,
        last_limit: 6,
        step: 7,
    };
    assert_eq!(tenants.read::<Usage>("usages", 3), usage);

    let constants = MapHandle::from_pinned_path(tenants.pin("tenants_rodata"))?;
    let refused = constants.update(&[0; 4], &[0; 4], MapFlags::ANY);
    let refused = refused.expect_err("bpfplan has frozen the constants");
    assert_eq!(refused.kind(), libbpf_rs::ErrorKind::PermissionDenied);
    Ok(())
}

/// Rows for the tenants, and limits behind the outer map's slots.
fn prepare(loaded: &Loaded<RealKernel>) {
    for tenant in [0, 1] {
        loads::write(loaded, "usages", tenant, Usage::default());
    }
    loads::write(loaded, "limits_small", 0, 10u32);
    loads::write(loaded, "limits_large", 0, 42u32);
}

/// Runs the program once on a packet.
fn account(object: &Object) -> Result<(), Failed> {
    let program = object
        .progs_mut()
        .find(|program| program.name() == "account");
    let input = ProgramInput {
        data_in: Some(&PACKET),
        ..ProgramInput::default()
    };
    let output = program.unwrap().test_run(input)?;
    assert_eq!(output.return_value, PASS);
    Ok(())
}

/// The program runs, reads what is in our maps and writes to them.
fn runs_on(object: &Object, loaded: &Loaded<RealKernel>) -> Result<(), Failed> {
    for map in object.maps() {
        let name = map.name().to_string_lossy().into_owned();
        assert_eq!(
            map.info()?.info.id,
            loads::map(loaded, &name).id().expect("the kernel tells it"),
            "{name}"
        );
    }
    assert_eq!(object.maps().count(), loaded.maps.len());
    prepare(loaded);
    account(object)?;
    let large = Usage {
        packets: u64::from(STEP),
        last_limit: 42,
        step: STEP,
    };
    assert_eq!(loads::read::<Usage>(loaded, "usages", 1), large);
    // A variable steers it to the other slot.
    loads::write(loaded, "tenants.data", 0, 0u32);
    account(object)?;
    let small = Usage {
        last_limit: 10,
        ..large
    };
    assert_eq!(loads::read::<Usage>(loaded, "usages", 0), small);
    assert_eq!(loads::read::<[u32; 2]>(loaded, "turns", 0)[1], 2);
    assert_eq!(loads::read::<u64>(loaded, "tenants.bss", 0), 2);

    let events = RefCell::new(Vec::<Event>::new());
    let ours = MapHandle::from_map_id(
        loads::map(loaded, "events")
            .id()
            .expect("the kernel tells it"),
    )?;
    let mut rings = RingBufferBuilder::new();
    rings.add(&ours, |bytes| {
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        events.borrow_mut().push([word(0), word(4)]);
        0
    })?;
    rings.build()?.poll(Duration::ZERO)?;
    assert_eq!(events.into_inner(), [[1, 42], [0, 10]]);
    Ok(())
}
