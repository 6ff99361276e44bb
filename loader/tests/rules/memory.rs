//! The memory estimate against the kernel's own (`memlock` in fdinfo, Linux 6.4).

use std::os::fd::{AsRawFd, OwnedFd};

use bpfplan_plan::rules::{self, Target};
use bpfplan_plan::{MaxEntries, Template, uapi};
use libtest_mimic::Failed;

use crate::kernel;
use crate::types::{VALID, map, needs_btf};

pub fn agrees() -> Result<(), Failed> {
    let template =
        kernel::create(&map::<Template>(&VALID[1]), None, None).map_err(rules::errno_name)?;
    let page_size = rustix::param::page_size() as u32;
    let target = Target {
        page_size,
        possible_cpus: possible_cpus(),
    };
    let mut problems = Vec::new();
    let mut compared = 0;
    for valid in VALID {
        let mut map = map::<Template>(valid);
        // Local storage lives with its owners, arenas and tries grow as they are used.
        let grows = matches!(
            map.map_type.0,
            uapi::BPF_MAP_TYPE_ARENA | uapi::BPF_MAP_TYPE_LPM_TRIE
        );
        if valid.3 == 0 || needs_btf(map.map_type) || grows {
            continue;
        }
        let cpus = map.map_type.0 == uapi::BPF_MAP_TYPE_CPUMAP;
        if !map.map_type.is_ring_buffer() && !cpus {
            map.max_entries = MaxEntries::Count(1000);
        }
        if map.map_type.is_ring_buffer() {
            map.max_entries = MaxEntries::Count(page_size * 16);
        }
        let Ok(fd) = kernel::create(&map, map.is_outer().then_some(&template), None) else {
            continue;
        };
        let (ours, theirs) = (rules::memory(&map, &target), memlock(&fd));
        compared += 1;
        // Those report their buckets, not the elements that come later.
        let filled_later = matches!(
            map.map_type.0,
            uapi::BPF_MAP_TYPE_HASH_OF_MAPS
                | uapi::BPF_MAP_TYPE_SOCKHASH
                | uapi::BPF_MAP_TYPE_DEVMAP_HASH
        );
        if ours < theirs / 2 || (!filled_later && ours > theirs * 2) {
            problems.push(format!(
                "{}: {ours} bytes, the kernel says {theirs}",
                map.map_type
            ));
        }
    }
    eprintln!("memory: {compared} map types compared");
    if compared < 20 {
        problems.push(format!("only {compared} map types compared"));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n").into())
    }
}

fn memlock(fd: &OwnedFd) -> u64 {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let info = std::fs::read_to_string(path).expect("fdinfo");
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .expect("memlock");
    line.trim().parse().expect("a number")
}

fn possible_cpus() -> u32 {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").expect("possible CPUs");
    let last = text.trim().rsplit(['-', ',']).next().expect("a CPU");
    last.parse::<u32>().expect("a number") + 1
}
