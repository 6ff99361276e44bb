//! aya takes pins of declared maps over, and opens single maps by pin, descriptor and id. What it
//! cannot take is tested as well, so that the README stays true.

use std::error::Error;
use std::io;

use aya::maps::ring_buf::RingBuf;
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use libtest_mimic::{Failed, Trial};

use crate::loads::{self, PACKET, PASS, Tenants, Usage};
use crate::with_aya::{counters, over_pins};

// SAFETY: two integers of 4 bytes behind one of 8: there is no padding, and all bytes are values.
unsafe impl aya::Pod for Usage {}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("aya::takes_pins", takes_pins),
        Trial::test("aya::opens_single_maps", opens_single_maps),
        Trial::test("aya::cannot_take_constants", cannot_take_constants),
        Trial::test("aya::resets_variables", resets_variables),
        Trial::test("aya::fills_no_slots", fills_no_slots),
        Trial::test("aya::does_not_compare_pins", does_not_compare_pins),
    ]
}

/// The program uses our declared maps, and global data of aya's own.
fn takes_pins() -> Result<(), Failed> {
    let tenants = Tenants::new();
    let mut ebpf = over_pins(&loads::object(), &tenants.pins)?;
    let mut usages: HashMap<_, u32, Usage> = HashMap::try_from(ebpf.take_map("usages").unwrap())?;
    usages.insert(1, Usage::default(), 0)?;
    tenants.write("limits_large", 0, 42u32);
    account(&mut ebpf)?;

    let large = Usage {
        packets: 1,
        last_limit: 42,
        step: 1,
    };
    assert_eq!(tenants.read::<Usage>("usages", 1), large);
    assert_eq!(usages.get(&1, 0)?, large);
    assert_eq!(tenants.read::<[u32; 2]>("turns", 0)[1], 1);
    assert_eq!(tenants.read::<u64>("tenants.bss", 0), 0);

    let mut events = RingBuf::try_from(pinned(&tenants, "events")?)?;
    let event = [1u32.to_ne_bytes(), 42u32.to_ne_bytes()].concat();
    assert_eq!(events.next().as_deref(), Some(event.as_slice()));
    assert!(events.next().is_none());
    Ok(())
}

fn opens_single_maps() -> Result<(), Failed> {
    let tenants = Tenants::new();
    let mut usages: HashMap<_, u32, Usage> = HashMap::try_from(pinned(&tenants, "usages")?)?;
    let usage = Usage {
        packets: 5,
        last_limit: 6,
        step: 7,
    };
    usages.insert(3, usage, 0)?;
    assert_eq!(tenants.read::<Usage>("usages", 3), usage);
    assert!(HashMap::<_, u32, u64>::try_from(pinned(&tenants, "usages")?).is_err());

    let mut small = counters(loads::map(&tenants.loaded, "limits_small"))?;
    small.set(1, 11, 0)?;
    assert_eq!(tenants.read::<u32>("limits_small", 1), 11);
    tenants.write("limits_large", 1, 12u32);
    let large = Map::from_map_data(MapData::from_id(tenants.id("limits_large"))?)?;
    assert_eq!(Array::<_, u32>::try_from(large)?.get(&1, 0)?, 12);

    let limits: ArrayOfMaps<_, Array<MapData, u32>> =
        ArrayOfMaps::try_from(pinned(&tenants, "limits")?)?;
    assert_eq!(limits.len(), 4);
    assert_eq!(limits.get(&0, 0)?.get(&1, 0)?, 11);
    assert_eq!(limits.get(&1, 0)?.get(&1, 0)?, 12);
    assert!(limits.get(&2, 0).is_err(), "nothing was declared there");

    let seen: Array<_, u64> = Array::try_from(pinned(&tenants, "tenants_bss")?)?;
    tenants.write("tenants.bss", 0, 9u64);
    assert_eq!(seen.get(&0, 0)?, 9);
    Ok(())
}

/// It writes the object's contents into all global data, and bpfplan has frozen the constants.
fn cannot_take_constants() -> Result<(), Failed> {
    let tenants = Tenants::new();
    let pin = tenants.pin("tenants_rodata");
    let refused = EbpfLoader::new()
        .map_pin_path(".rodata", pin)
        .load_file(loads::object());
    let refused = refused.expect_err("aya leaves frozen data alone: say so in the README");
    assert_eq!(errno(&refused), Some(libc::EPERM), "{refused}");
    assert_eq!(tenants.read::<u32>("tenants.rodata", 0), loads::STEP);
    Ok(())
}

/// Variables can be shared, but start anew with every load.
fn resets_variables() -> Result<(), Failed> {
    let tenants = Tenants::new();
    tenants.write("tenants.data", 0, 5u32);
    tenants.write("tenants.bss", 0, 6u64);
    tenants.write("usages", 1, Usage::default());
    let mut loader = EbpfLoader::new();
    for name in ["limits", "usages", "turns", "events"] {
        loader.map_pin_path(name, tenants.pin(name));
    }
    let mut ebpf = loader
        .map_pin_path(".data", tenants.pin("tenants_data"))
        .map_pin_path(".bss", tenants.pin("tenants_bss"))
        .override_global("step", &9u32, true)
        .load_file(loads::object())?;
    assert_eq!(tenants.read::<u32>("tenants.data", 0), 1);
    assert_eq!(tenants.read::<u64>("tenants.bss", 0), 0);
    account(&mut ebpf)?;
    assert_eq!(tenants.read::<u64>("tenants.bss", 0), 1);
    assert_eq!(tenants.read::<Usage>("usages", 1).packets, 9);
    Ok(())
}

/// Without our pin the program finds nothing in the outer map.
fn fills_no_slots() -> Result<(), Failed> {
    let mut ebpf = Ebpf::load_file(loads::object())?;
    let limits = ebpf.take_map("limits").ok_or("no outer map")?;
    let limits: ArrayOfMaps<_, Array<MapData, u32>> = ArrayOfMaps::try_from(limits)?;
    assert!(limits.get(&0, 0).is_err(), "aya fills slots");
    Ok(())
}

/// The pin of another map is taken in silence; only what the kernel cannot do shows it.
fn does_not_compare_pins() -> Result<(), Failed> {
    let tenants = Tenants::new();
    let ebpf = EbpfLoader::new()
        .map_pin_path("usages", tenants.pin("turns"))
        .load_file(loads::object())?;
    let Some(Map::HashMap(taken)) = ebpf.map("usages") else {
        return Err("aya compares what it takes: say so in the README".into());
    };
    assert_eq!(taken.info()?.id(), tenants.id("turns"));
    Ok(())
}

fn pinned(tenants: &Tenants, name: &str) -> Result<Map, Failed> {
    Ok(Map::from_map_data(MapData::from_pin(tenants.pin(name))?)?)
}

/// Loads the program and runs it once on a packet.
fn account(ebpf: &mut Ebpf) -> Result<(), Failed> {
    let program: &mut Xdp = ebpf.program_mut("account").unwrap().try_into()?;
    program.load()?;
    let mut options = TestRunOptions::new();
    options.data_in = Some(&PACKET);
    assert_eq!(program.test_run(options)?.return_value, PASS);
    Ok(())
}

/// The errno behind an error, if there is one.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let io = error.downcast_ref::<io::Error>();
    let number = io.and_then(io::Error::raw_os_error);
    number.or_else(|| errno(error.source()?))
}
