//! Handles of maps that hold things of the kernel.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};

use bpfplan_compiler::{Options, compile};
use bpfplan_loader::maps::{
    Array, CgroupArray, CpuMap, DevMap, DevMapHash, LocalStorage, MapError, MapHandle, PerCpuArray,
    PerCpuHash, PerfEventArray, RawMap, Redirect, ReuseportSockArray, SockHash, SockMap,
    StackTrace, Update, UserRingBuf, XskMap,
};
use bpfplan_loader::zerocopy::FromBytes as _;
use bpfplan_loader::{Errno, LoadOptions, Loaded, ProgramOptions, Programs, RealKernel, load};
use bpfplan_plan::uapi;
use libtest_mimic::Failed;

use crate::ring_program::run_raw;
use crate::{loaded, made, made_with, raw, sample};

/// The loopback device of every network namespace.
const LOOPBACK: u32 = 1;

/// The object of a fixture.
fn object(name: &str) -> Vec<u8> {
    let objects = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj");
    std::fs::read(objects.join(format!("{name}.bpf.o"))).expect("the fixture is there")
}

/// The maps of a fixture, and its programs if they are asked for.
fn fixture(name: &str, programs: bool) -> Loaded<RealKernel> {
    let object = object(name);
    let plan = compile(&object, name, &Options::default())
        .expect("it compiles")
        .plan;
    let options = LoadOptions {
        hold: true,
        programs: if programs {
            Programs::Load(ProgramOptions { object, pin: None })
        } else {
            Programs::Unneeded
        },
        ..LoadOptions::default()
    };
    load(&plan, &RealKernel::new(), &options).expect("it loads")
}

fn handle<M: MapHandle>(loaded: &Loaded<RealKernel>, name: &str) -> M {
    let map = loaded.map(name).expect("the map is there");
    M::from_loaded(map).expect("the handle fits")
}

fn errno<T>(result: Result<T, MapError>) -> Option<Errno> {
    result.err().and_then(|error| error.errno())
}

pub(crate) fn messages_reach_programs() -> Result<(), Failed> {
    let loaded = fixture("user_ring", true);
    let mut commands: UserRingBuf = handle(&loaded, "commands");
    let data: Array<[u64; 2]> = handle(&loaded, "user_rin.bss");
    let drain = loaded.program("drain").expect("it is loaded");
    let message = |add: u32, times: u32| [add.to_ne_bytes(), times.to_ne_bytes()].concat();
    let mut sum = 0;
    let mut pushed = 0;
    // Many more than the ring holds, so that messages go round its end.
    for round in 1..=1000u32 {
        assert!(commands.push(&message(round, 3))?);
        pushed += 1;
        sum += u64::from(round) * 3;
        if round % 100 == 0 {
            run_raw(drain);
            let [drained, found] = data.get(0)?.expect("the section is there");
            assert_eq!((found, drained), (sum, pushed));
            pushed = 0;
        }
    }
    // Messages of odd lengths are whole, though this program does not read them.
    assert!(commands.push(&[])? && commands.push(&[7; 13])?);
    // 4096 bytes, less what is in it.
    assert!(!commands.push(&[0; 4096 - 8])?);
    assert_eq!(
        errno(commands.push(&[0; 4096 - 7])),
        Some(Errno(libc::E2BIG))
    );
    while commands.push(&message(1, 1))? {}
    assert!(!commands.push(&[])? || !commands.push(&[])?);
    Ok(())
}

pub(crate) fn stacks_are_read() -> Result<(), Failed> {
    let loaded = fixture("user_ring", true);
    let stacks: StackTrace = handle(&loaded, "stacks");
    assert_eq!((stacks.depth(), stacks.ids().count()), (32, 0));
    assert_eq!((stacks.get(3)?, stacks.get(1 << 20)?), (None, None));
    run_raw(loaded.program("record").expect("it is loaded"));
    let data: RawMap = handle(&loaded, "user_rin.data");
    let mut id = vec![0; data.value_bytes()];
    data.lookup(&[0; 4], &mut id)?;
    let (id, _) = u32::read_from_prefix(&id).expect("8 bytes");
    assert_eq!(stacks.ids().collect::<Result<Vec<_>, _>>()?, [id]);
    let stack = stacks.get(id)?.expect("it was recorded");
    assert!(!stack.is_empty() && !stack.contains(&0), "{stack:x?}");
    assert!(stacks.delete(id)?);
    assert!(!stacks.delete(id)?);
    let flags = uapi::BPF_F_STACK_BUILD_ID;
    let map = raw(uapi::BPF_MAP_TYPE_STACK_TRACE, [4, 32 * 4], 16, flags);
    let error = StackTrace::from_map(map).unwrap_err();
    assert!(error.to_string().contains("build ids"), "{error}");
    Ok(())
}

pub(crate) fn devices_and_cpus() -> Result<(), Failed> {
    let loaded = fixture("types_net", false);
    let here = |target| {
        Some(Redirect {
            target,
            program_id: None,
        })
    };
    let devices: DevMap = handle(&loaded, "devmap");
    devices.set(2, LOOPBACK)?;
    assert_eq!((devices.get(2)?, devices.get(1)?), (here(LOOPBACK), None));
    assert_eq!(errno(devices.set(99, LOOPBACK)), Some(Errno(libc::E2BIG)));
    assert_eq!(errno(devices.set(1, 1 << 30)), Some(Errno::EINVAL));
    let none = devices.set_with_program(1, LOOPBACK, &devices);
    assert_eq!(errno(none), Some(Errno::EINVAL));
    devices.clear(2)?;
    devices.clear(2)?;
    assert_eq!(devices.get(2)?, None);
    let pairs: DevMap = handle(&loaded, "devmap_programs");
    pairs.set(0, LOOPBACK)?;
    assert_eq!(pairs.get(0)?, here(LOOPBACK));
    let hash: DevMapHash = handle(&loaded, "devmap_hash");
    hash.set(1000, LOOPBACK)?;
    assert_eq!((hash.get(1000)?, hash.get(7)?), (here(LOOPBACK), None));
    hash.clear(1000)?;
    hash.clear(1000)?;
    let cpus: CpuMap = handle(&loaded, "cpumap");
    cpus.set(0, 192)?;
    assert_eq!(cpus.get(0)?, here(192));
    cpus.clear(0)?;
    assert_eq!(cpus.get(0)?, None);
    Ok(())
}

pub(crate) fn sockets() -> Result<(), Failed> {
    let loaded = fixture("types_net", false);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let map: SockMap = handle(&loaded, "sockmap");
    assert_eq!((map.len(), map.cookie(1)?), (4, None));
    map.set(1, &socket)?;
    assert!(map.cookie(1)?.expect("it is there") > 0);
    assert!(map.set(0, File::open("/dev/null")?).is_err());
    map.clear(1)?;
    map.clear(1)?;
    assert_eq!(map.cookie(1)?, None);
    assert_eq!(errno(map.clear(99)), Some(Errno::EINVAL));
    let hash: SockHash<u32> = handle(&loaded, "sockhash");
    hash.update(&7, &socket, Update::NoExist)?;
    let present = hash.update(&7, &socket, Update::NoExist);
    assert_eq!(errno(present), Some(Errno::EEXIST));
    assert_eq!(hash.keys().collect::<Result<Vec<_>, _>>()?, [7]);
    assert_eq!(errno(hash.cookie(&7)), Some(Errno(libc::ENOSPC)));
    assert!(hash.delete(&7)? && !hash.delete(&7)?);
    let reuseport: ReuseportSockArray = handle(&loaded, "reuseport");
    // The socket is of no group.
    assert!(reuseport.set(0, &socket).is_err());
    reuseport.clear(0)?;
    assert_eq!(reuseport.cookie(0)?, None);
    let xsk: XskMap = handle(&loaded, "xskmap");
    assert!(xsk.set(0, TcpListener::bind("127.0.0.1:0")?).is_err());
    xsk.clear(3)?;
    Ok(())
}

pub(crate) fn cgroups_and_perf_events() -> Result<(), Failed> {
    let cgroups: CgroupArray = made(uapi::BPF_MAP_TYPE_CGROUP_ARRAY, [4, 4], 2);
    match File::open("/sys/fs/cgroup") {
        Ok(root) if cgroups.set(0, &root).is_ok() => cgroups.clear(0)?,
        _ => println!("there is no cgroup2 at /sys/fs/cgroup"),
    }
    cgroups.clear(1)?;
    assert!(cgroups.set(1, File::open("/dev/null")?).is_err());
    let events: PerfEventArray = made(uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY, [4, 4], 2);
    let event = perf_event();
    events.set(1, &event)?;
    events.clear(1)?;
    events.clear(1)?;
    assert_eq!(errno(events.set(2, &event)), Some(Errno(libc::E2BIG)));
    Ok(())
}

/// A software counter of this process.
fn perf_event() -> OwnedFd {
    let mut attributes = [0_u32; 32];
    // PERF_TYPE_SOFTWARE, the size, PERF_COUNT_SW_BPF_OUTPUT.
    (attributes[0], attributes[1], attributes[2]) = (1, 128, 10);
    // SAFETY: the attributes are as large as they say, and outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), -1, 0, -1, 8) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just given it to us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

pub(crate) fn storage_by_descriptor() -> Result<(), Failed> {
    type State = [u64; 2];
    let loaded = fixture("types_local_storage", false);
    let task = rustix::process::pidfd_open(
        rustix::process::getpid(),
        rustix::process::PidfdFlags::empty(),
    )?;
    let owners: [(&str, OwnedFd); 3] = [
        ("per_socket", UdpSocket::bind("127.0.0.1:0")?.into()),
        ("per_task", task),
        ("per_cgroup", File::open("/sys/fs/cgroup")?.into()),
    ];
    for (name, owner) in &owners {
        let storage: LocalStorage<State> = handle(&loaded, name);
        let Err(error) = storage.get(owner).map(|value| assert_eq!(value, None)) else {
            storage.set(owner, &[1, 2], Update::NoExist)?;
            let again = storage.set(owner.as_fd(), &[3, 4], Update::NoExist);
            assert_eq!(errno(again), Some(Errno::EEXIST));
            assert_eq!(storage.get(owner)?, Some([1, 2]), "{name}");
            assert!(storage.delete(owner)? && !storage.delete(owner)?);
            continue;
        };
        // Where cgroups of version 2 are not mounted there.
        assert_eq!(
            (*name, error.errno()),
            ("per_cgroup", Some(Errno(libc::EBADF)))
        );
    }
    let storage: LocalStorage<State> = handle(&loaded, "per_socket");
    assert!(storage.get(File::open("/dev/null")?).is_err());
    Ok(())
}

pub(crate) fn per_cpu_batches() -> Result<(), Failed> {
    let map: PerCpuHash<u32, [u8; 3]> = made(uapi::BPF_MAP_TYPE_PERCPU_HASH, [4, 3], 100);
    let values = |byte: u32| vec![[byte as u8; 3]; map.cpus()];
    let all: Vec<_> = (0..100).map(|key| (key, values(key))).collect();
    map.update_all(&all)?;
    let mut read: Vec<_> = map.entries().collect::<Result<_, _>>()?;
    read.sort_unstable();
    assert_eq!(read, all);
    assert_eq!(map.take(&5)?, Some(values(5)));
    assert_eq!(map.take(&5)?, None);
    map.delete_all(&[4, 5, 6])?;
    assert_eq!(map.keys().count(), 97);
    let error = map
        .update_all(&[(1, values(9)), (2, Vec::new())])
        .unwrap_err();
    assert_eq!((error.done(), map.lookup(&1)?), (Some(0), Some(values(1))));

    let array: PerCpuArray<u16> = made_with(uapi::BPF_MAP_TYPE_PERCPU_ARRAY, [4, 2], 9, 0);
    let all: Vec<_> = (0..9).map(|index| (index, vec![7; array.cpus()])).collect();
    array.set_all(&all)?;
    assert_eq!(array.entries().collect::<Result<Vec<_>, _>>()?, all);
    Ok(())
}

/// What is behind a lock is read and written under it; where there is none, the kernel says so.
pub(crate) fn values_with_locks() -> Result<(), Failed> {
    // struct bpf_spin_lock and what it protects.
    let loaded = fixture("field_spin_lock", false);
    let mut tried = 0;
    for map in &loaded.maps {
        let raw = RawMap::from_loaded(map)?;
        let size = raw.value_bytes();
        let mut value = vec![1; size];
        match map.map_type.0 {
            uapi::BPF_MAP_TYPE_HASH => raw.update(&[0; 4], &value, Update::AnyLocked)?,
            uapi::BPF_MAP_TYPE_ARRAY => raw.update(&[0; 4], &value, Update::ExistLocked)?,
            _ => continue,
        }
        assert!(raw.lookup_locked(&[0; 4], &mut value)?);
        assert!(value.contains(&1) && value.contains(&0), "{value:?}");
        tried += 1;
    }
    assert!(tried > 0);
    let array: Array<u64> = made(uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 1);
    assert_eq!(errno(array.get_locked(0)), Some(Errno::EINVAL));
    assert_eq!(errno(array.set_locked(0, &1)), Some(Errno::EINVAL));
    Ok(())
}

/// Values of one of two sizes; keys of one.
pub(crate) fn other_sizes_are_refused() -> Result<(), Failed> {
    let map = sample::map("m", uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 1);
    let loaded = loaded(&sample::plan(vec![map]));
    for error in [
        DevMap::from_loaded(&loaded.maps[0]).unwrap_err(),
        SockMap::from_loaded(&loaded.maps[0]).unwrap_err(),
        CgroupArray::from_loaded(&loaded.maps[0]).unwrap_err(),
        StackTrace::from_loaded(&loaded.maps[0]).unwrap_err(),
        UserRingBuf::from_loaded(&loaded.maps[0]).unwrap_err(),
        LocalStorage::<u64>::from_loaded(&loaded.maps[0]).unwrap_err(),
    ] {
        assert!(error.to_string().contains("its kind is array"), "{error}");
    }
    Ok(())
}
