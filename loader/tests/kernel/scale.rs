//! Plans that need more descriptors than a process may have at first.

use std::ops::ControlFlow;
use std::os::fd::AsRawFd as _;
use std::process::Command;

use bpfplan_loader::{
    ErrorKind, FailingKernel, Fault, Kernel as _, LoadOptions, Progress, RealKernel, codes, load,
    load_with, unload,
};
use bpfplan_plan::{Map, Pinning, Plan, Step, uapi};
use libtest_mimic::Failed;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::hold;
use crate::sample::{PinDir, map, maps, outer, plan};

const MAPS: u32 = 20_000;
const SLOTS: u32 = 100_000;

/// What most processes begin with.
const FEW: u64 = 1024;

/// An outer map whose slots hold the others in turn.
fn large(inner_maps: u32, slots: u32) -> Plan {
    const ARRAY: u32 = uapi::BPF_MAP_TYPE_ARRAY;
    let names: Vec<String> = (0..inner_maps).map(|index| format!("in_{index}")).collect();
    let values = names.iter().cycle().map(String::as_str);
    let values: Vec<(u32, &str)> = (0..slots).zip(values).collect();
    let outer_type = uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS;
    let table = outer(
        "table",
        outer_type,
        slots,
        map("", ARRAY, [4, 4], 1),
        &values,
    );
    let arrays = names.iter().map(|name| map(name, ARRAY, [4, 4], 1));
    let mut maps: Vec<_> = arrays.collect();
    maps.push(table);
    plan(maps)
}

fn raising() -> LoadOptions {
    LoadOptions {
        raise_nofile: true,
        ..hold()
    }
}

/// The limit is raised, and the slots are filled in batches that the kernel can take.
pub(crate) fn many_maps_and_slots_are_loaded() -> Result<(), Failed> {
    let before = getrlimit(Resource::Nofile);
    let most = before.maximum.unwrap_or(u64::MAX);
    let mut inner_maps = MAPS;
    if !capabilities(None)?
        .effective
        .contains(CapabilitySet::SYS_RESOURCE)
    {
        // This process may have no more.
        inner_maps = inner_maps.min(u32::try_from(most.saturating_sub(100)).unwrap_or(MAPS));
    }
    let plan = large(inner_maps, SLOTS);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(FEW),
            ..before
        },
    )?;
    let loaded = load(&plan, &RealKernel::new(), &raising())?;
    assert_eq!(loaded.maps.len(), inner_maps as usize + 1);
    let table = loaded.map("table").ok_or("no outer map")?;
    assert_eq!(table.filled, SLOTS);
    // The ends, and where one batch may end and the next one begin.
    for slot in [0, 1, 65_535, 65_536, SLOTS - 1] {
        let wanted = loaded.maps[(slot % inner_maps) as usize].id()?;
        assert_eq!(maps::slot(table, slot), Some(wanted), "slot {slot}");
    }
    drop(loaded);
    let after = Rlimit {
        current: before.current,
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, after)?;
    Ok(())
}

/// Says that the process is the child of the test.
const CHILD: &str = "BPFPLAN_TEST_FEW_DESCRIPTORS";

/// Runs a test in a child process: a limit that is given up does not come back.
fn in_child(name: &str, test: fn() -> Result<(), Failed>) -> Result<(), Failed> {
    if std::env::var_os(CHILD).is_some() {
        return test();
    }
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", name])
        .env(CHILD, "1")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    Ok(())
}

/// Who may not raise the limit is told how many are needed, before anything is made.
pub(crate) fn too_few_descriptors_are_told() -> Result<(), Failed> {
    in_child("too_few_descriptors_are_told", with_few_descriptors)
}

/// Nobody on this thread, which is the one that loads, may have more descriptors.
fn limit_descriptors(most: u64) -> Result<(), Failed> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::Nofile, limit)?;
    let mut sets = capabilities(None)?;
    sets.effective -= CapabilitySet::SYS_RESOURCE;
    set_capabilities(None, sets)?;
    Ok(())
}

/// Maps in slots are closed when their outer map holds them, so that others can be opened.
pub(crate) fn more_maps_than_descriptors_are_loaded() -> Result<(), Failed> {
    in_child("more_maps_than_descriptors_are_loaded", || {
        const MAPS: u32 = 3000;
        limit_descriptors(1000)?;
        let kernel = RealKernel::new();
        let directory = PinDir::new();
        let options = LoadOptions {
            pin_maps: Some(directory.0.clone()),
            raise_nofile: true,
            ..LoadOptions::default()
        };
        let plan = large(MAPS, 2 * MAPS);
        let loaded = load(&plan, &kernel, &options)?;
        assert_eq!(loaded.closed.len(), MAPS as usize);
        let table = loaded.map("table").ok_or("no outer map")?;
        assert_eq!(table.filled, 2 * MAPS);
        // On old kernels a look waits as well.
        for slot in (0..2 * MAPS).step_by(97) {
            let map = &loaded.closed[(slot % MAPS) as usize];
            assert_eq!(maps::slot(table, slot), Some(map.id), "slot {slot}");
        }
        for map in &loaded.closed {
            assert_eq!(kernel.info(&kernel.open_pin(&map.pinned)?)?.id, map.id);
        }
        let ids: Vec<u32> = loaded.closed.iter().map(|map| map.id).collect();
        drop(loaded);
        let unloaded = unload(&kernel, &directory.0)?;
        assert_eq!(unloaded.removed.len(), plan.maps.len() + 1);
        assert_eq!(maps::left_of(&ids), [0; 0]);
        Ok(())
    })
}

/// Where threads share the table of descriptors, the kernel waits each time it grows.
pub(crate) fn the_descriptor_table_grows_once() -> Result<(), Failed> {
    in_child("the_descriptor_table_grows_once", || {
        const MAPS: u32 = 1500;
        let limit = getrlimit(Resource::Nofile);
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(FEW),
                ..limit
            },
        )?;
        let mut sizes = vec![descriptor_table()?];
        let loaded = load_with(
            &large(MAPS, MAPS),
            &RealKernel::new(),
            &raising(),
            &mut |next| {
                if matches!(next, Progress::Step(Step::CreateMap { .. })) {
                    sizes.extend(descriptor_table());
                }
                ControlFlow::Continue(())
            },
        )?;
        assert_eq!(loaded.maps.len(), MAPS as usize + 1);
        assert_eq!(sizes.len(), MAPS as usize + 2);
        sizes.dedup();
        assert!(
            matches!(*sizes, [small, large] if small < u64::from(MAPS) && large > u64::from(MAPS)),
            "{sizes:?}"
        );
        Ok(())
    })
}

/// How many descriptors the process has room for.
fn descriptor_table() -> Result<u64, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    Ok(size.ok_or("no FDSize")?.trim().parse()?)
}

/// A pin is looked at before it is removed, which takes a descriptor.
pub(crate) fn a_load_is_undone_without_a_descriptor_to_spare() -> Result<(), Failed> {
    in_child("a_load_is_undone_without_a_descriptor_to_spare", || {
        let root = PinDir::new();
        std::fs::create_dir(&root.0)?;
        let named = |name: &str| Map {
            pinning: Pinning::ByName,
            ..map(name, uapi::BPF_MAP_TYPE_ARRAY, [4, 4], 1)
        };
        let options = LoadOptions {
            pin_root: Some(root.0.clone()),
            ..LoadOptions::default()
        };
        let plan = plan(vec![named("first"), named("second")]);
        let limit = getrlimit(Resource::Nofile);
        let result = load_with(&plan, &RealKernel::new(), &options, &mut |next| {
            if let Progress::Pin { map: 0, .. } = next {
                // Somebody else takes the other name, and all descriptors that are left.
                let free = std::fs::create_dir(root.0.join("second"))
                    .and_then(|()| std::fs::File::open("/"))
                    .map(|file| u64::from(file.as_raw_fd().unsigned_abs()));
                let current = free.ok();
                let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
            }
            ControlFlow::Continue(())
        });
        setrlimit(Resource::Nofile, limit)?;
        let error = result.err().ok_or("the name was taken")?;
        let codes: Vec<_> = error.diagnostics.iter().map(|it| it.code).collect();
        assert!(!codes.contains(&codes::NOT_UNDONE), "{error}");
        assert!(!root.0.join("first").exists(), "{error}");
        std::fs::remove_dir(root.0.join("second"))?;
        Ok(())
    })
}

fn with_few_descriptors() -> Result<(), Failed> {
    limit_descriptors(200)?;
    let kernel = RealKernel::new();
    let error = load(&large(300, 300), &kernel, &raising()).expect_err("there are too few");
    assert_eq!(error.kind, ErrorKind::Refused);
    let first = &error.diagnostics[0];
    assert_eq!(first.code, codes::TOO_FEW_DESCRIPTORS, "{first}");
    let help = first.help.as_deref().unwrap_or_default();
    let wanted = help.split("ulimit -n ").nth(1).unwrap_or_default();
    let wanted = wanted
        .split('`')
        .next()
        .unwrap_or_default()
        .parse::<u64>()?;
    assert!((301..400).contains(&wanted), "{help}");

    // A library's user has to ask for it.
    let kernel = FailingKernel::new(kernel, |_: Fault<'_>| None);
    let error = load(&large(300, 300), &kernel, &hold()).expect_err("there are too few");
    let first = &error.diagnostics[0];
    assert_eq!(error.kind, ErrorKind::Kernel);
    assert!(first.message.contains("EMFILE"), "{first}");
    let help = first.help.as_deref().unwrap_or_default();
    assert!(help.contains("raise_nofile"), "{help}");
    assert!(kernel.created().len() > 100);
    assert_eq!(maps::left_of(&kernel.created()), [0; 0]);
    Ok(())
}
