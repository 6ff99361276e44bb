//! The fixture, loaded, and what its program leaves in the maps.

use std::ffi::c_void;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use bpfplan_compiler::compile;
use bpfplan_loader::{LoadError, LoadOptions, Loaded, LoadedMap, RealKernel, load, unload};
use bpfplan_plan::overrides::Overrides;
use bpfplan_plan::{Endianness, Map, Pinning, Plan, Slot, SlotTarget, uapi};

use crate::fixtures::{Expectation, Fixture};

/// What the plan says a packet counts; the object that the others load says 1.
pub(crate) const STEP: u32 = 7;

/// A packet of the smallest size that the kernel takes.
pub(crate) const PACKET: [u8; 64] = [0; 64];

/// `XDP_PASS`: the program has found all of its maps.
pub(crate) const PASS: u32 = 2;

/// `struct usage` of the fixture.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) packets: u64,
    pub(crate) last_limit: u32,
    pub(crate) step: u32,
}

/// `struct event` of the fixture: tenant and limit.
pub(crate) type Event = [u32; 2];

pub(crate) fn object() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj/tenants.bpf.o")
}

/// The plan of the fixture, with another constant than its object has.
fn plan() -> Plan {
    let bytes = std::fs::read(object()).expect("the fixture is built");
    let plan = compile(&bytes, "tenants.bpf.o", &Default::default())
        .expect("the fixture compiles")
        .plan;
    Overrides::default()
        .set(".rodata.step", STEP)
        .apply(&plan)
        .expect("the plan has the constant")
        .plan
}

/// The plan of another fixture, if libbpf loads it as well and `--pin-maps` is all it needs.
pub(crate) fn plan_to_pin(fixture: &Fixture) -> Option<Plan> {
    let options = Default::default();
    let plan = compile(&fixture.bytes(), &fixture.file_name(), &options);
    let plan = plan.ok()?.plan;
    let by_maps = |slot: &Slot| matches!(slot.target, SlotTarget::Map(_));
    let plain = |map: &Map| {
        map.pinning == Pinning::None
            && map.with_programs.is_none()
            && map.externs.is_empty()
            // libbpf maps arenas that it makes, not those that it reuses, and programs fail then.
            && map.map_type.0 != uapi::BPF_MAP_TYPE_ARENA
            && map.slots.iter().all(by_maps)
    };
    let fits = fixture.expectation == Expectation::Loads
        && fixture.deviates.is_none()
        && plan.object.endianness == Endianness::NATIVE
        && plan.maps.iter().all(plain);
    fits.then_some(plan)
}

/// A load that is pinned in a directory of its own, and unloaded in the end.
pub(crate) struct Pinned {
    pub(crate) loaded: Loaded<RealKernel>,
    pub(crate) pins: PathBuf,
}

impl Pinned {
    pub(crate) fn new(plan: &Plan) -> Result<Self, LoadError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let pins = format!("/sys/fs/bpf/bpfplan-others-{}-{number}", std::process::id());
        let pins = PathBuf::from(pins);
        let options = LoadOptions {
            pin_maps: Some(pins.clone()),
            ..LoadOptions::default()
        };
        let loaded = load(plan, &RealKernel::new(), &options)?;
        Ok(Self { loaded, pins })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let unloaded = unload(&RealKernel::new(), &self.pins);
        if !std::thread::panicking() {
            let unloaded = unloaded.expect("what was loaded can be unloaded");
            assert_eq!(unloaded.diagnostics, [], "nobody has changed the pins");
            assert!(!self.pins.exists(), "nobody has added a pin");
        }
    }
}

/// The fixture of these tests, loaded and pinned.
pub(crate) struct Tenants(Pinned);

impl Deref for Tenants {
    type Target = Pinned;

    fn deref(&self) -> &Pinned {
        &self.0
    }
}

impl Tenants {
    pub(crate) fn new() -> Self {
        Self(Pinned::new(&plan()).expect("the fixture loads"))
    }

    /// Without pins.
    pub(crate) fn held() -> Loaded<RealKernel> {
        let options = LoadOptions {
            hold: true,
            ..LoadOptions::default()
        };
        load(&plan(), &RealKernel::new(), &options).expect("the fixture loads")
    }

    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        self.pins.join(name)
    }

    pub(crate) fn id(&self, name: &str) -> u32 {
        map(&self.loaded, name).id().expect("the kernel tells it")
    }

    pub(crate) fn read<V: Plain>(&self, name: &str, key: u32) -> V {
        read(&self.loaded, name, key)
    }

    pub(crate) fn write<V: Plain>(&self, name: &str, key: u32, value: V) {
        write(&self.loaded, name, key, value);
    }
}

pub(crate) fn map<'a>(
    loaded: &'a Loaded<RealKernel>,
    name: &str,
) -> &'a LoadedMap<<RealKernel as bpfplan_loader::Kernel>::Fd> {
    loaded.map(name).expect("the fixture has this map")
}

/// Values whose every pattern of bytes is one, without padding.
pub(crate) trait Plain: Default + Copy {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for [u32; 2] {}
impl Plain for Usage {}

/// What the kernel has, through none of the peers.
pub(crate) fn read<V: Plain>(loaded: &Loaded<RealKernel>, name: &str, key: u32) -> V {
    let map = map(loaded, name);
    assert_eq!(value_size(map), size_of::<V>(), "values of '{name}'");
    let mut value = V::default();
    // SAFETY: all keys of the fixture are 4 bytes long, and the value's size has been compared.
    let result = unsafe {
        libbpf_sys::bpf_map_lookup_elem(
            map.as_fd().as_raw_fd(),
            (&raw const key).cast::<c_void>(),
            (&raw mut value).cast::<c_void>(),
        )
    };
    assert_eq!(result, 0, "'{name}' has {key}");
    value
}

pub(crate) fn write<V: Plain>(loaded: &Loaded<RealKernel>, name: &str, key: u32, value: V) {
    let map = map(loaded, name);
    assert_eq!(value_size(map), size_of::<V>(), "values of '{name}'");
    // SAFETY: all keys of the fixture are 4 bytes long, and the value's size has been compared.
    let result = unsafe {
        libbpf_sys::bpf_map_update_elem(
            map.as_fd().as_raw_fd(),
            (&raw const key).cast::<c_void>(),
            (&raw const value).cast::<c_void>(),
            0,
        )
    };
    assert_eq!(result, 0, "'{name}' takes {key}");
}

fn value_size(map: &impl AsFd) -> usize {
    let mut info = libbpf_sys::bpf_map_info::default();
    let mut size = u32::try_from(size_of_val(&info)).unwrap();
    // SAFETY: `info` is as large as `size` says and has no pointers set.
    let result = unsafe {
        libbpf_sys::bpf_map_get_info_by_fd(map.as_fd().as_raw_fd(), &raw mut info, &raw mut size)
    };
    assert_eq!(result, 0, "the kernel describes a map that is open");
    usize::try_from(info.value_size).unwrap()
}
