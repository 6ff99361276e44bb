//! Random attributes around the boundaries of the rules, for every map type.

use std::os::fd::OwnedFd;

use bpfplan_plan::rules::create::Refusal;
use bpfplan_plan::rules::{self, Call, KernelVersion, Target};
use bpfplan_plan::types::{IntEncoding, Type};
use bpfplan_plan::{Endianness, Map, MaxEntries, Template, TypeId, btf, uapi};
use libtest_mimic::Failed;

use crate::kernel::{self, Btf};
use crate::random::Random;
use crate::types::{VALID, map, needs_btf};

/// Cases per map type.
const CASES: usize = 600;
/// Memory of all maps of a type together: the kernel frees them later, in its own time.
const BUDGET: u64 = 24 << 20;
/// Largest map that is tried where the kernel should refuse it before it allocates anything.
const RISK: u64 = 256 << 20;

const SIZES: &[u32] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    12,
    16,
    17,
    24,
    32,
    33,
    64,
    260,
    261,
    512,
    513,
    1016,
    1024,
    4064,
    4096,
    32_761,
    32_768,
    32_769,
    65_407,
    65_408,
    4_194_024,
    4_194_025,
    4_194_240,
    4_194_252,
    4_194_255,
    4_194_304,
    4_194_305,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX,
];
const ENTRIES: &[u32] = &[
    0,
    1,
    2,
    3,
    5,
    7,
    64,
    4095,
    4096,
    5000,
    8192,
    8193,
    12_288,
    65_536,
    1 << 20,
    (1 << 20) + 1,
    1 << 27,
    (1 << 27) + 1,
    1 << 31,
    (1 << 31) + 1,
    u32::MAX,
];
const EXTRAS: &[u64] = &[
    1,
    5,
    15,
    16,
    4095,
    4096,
    0x1_0000_0000,
    0x1_ffff_f000,
    u64::MAX,
];
const NODES: &[u32] = &[0, 0, 1024, u32::MAX];
const NAMES: &[&str] = &[
    "ok.name",
    "has$dollar",
    "sp ace",
    "fifteen_chars_x",
    "longer_than_fifteen",
    "ö",
];

/// The number of maps created and refused.
#[derive(Default)]
struct Count {
    accepted: usize,
    refused: usize,
    /// Bytes of all maps that were created.
    memory: u64,
}

pub fn agree(running: KernelVersion) -> Result<(), Failed> {
    let mut random = Random::new(0x6270_6670_6c61_6e21);
    let template = kernel::create(&map::<Template>(&VALID[1]), None, None).map_err(errno)?;
    let (mut count, mut problems) = (Count::default(), Vec::new());
    for valid in VALID {
        let mut of_type = Count::default();
        for _ in 0..CASES {
            let map = mutate(map(valid), &mut random);
            let before = problems.len();
            problems.extend(check(&map, &template, running, &mut of_type));
            assert!(
                problems.len() == before || problems.len() < 50,
                "{}",
                problems.join("\n")
            );
        }
        let known =
            rules::needs(&map::<Template>(valid), &[]).is_some_and(|(since, _)| running >= since);
        if known && (of_type.accepted < 20 || of_type.refused < 20) {
            problems.push(format!(
                "only {} accepted and {} refused of type {}",
                of_type.accepted, of_type.refused, valid.0
            ));
        }
        count.accepted += of_type.accepted;
        count.refused += of_type.refused;
    }
    eprintln!(
        "attributes: {} accepted, {} refused as foreseen",
        count.accepted, count.refused
    );
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n").into())
    }
}

fn mutate(mut map: Map<Template>, random: &mut Random) -> Map<Template> {
    for _ in 0..random.below(4) {
        match random.below(12) {
            0 | 1 => map.key_size = random.pick(SIZES),
            2 | 3 => map.value_size = random.pick(SIZES),
            4 | 5 => map.max_entries = MaxEntries::Count(random.pick(ENTRIES)),
            6..=8 => map.map_flags ^= random.pick(uapi::MAP_FLAGS).0,
            9 => map.map_extra = random.pick(EXTRAS),
            10 => {
                map.numa_node = random.pick(NODES);
                map.map_flags |= uapi::BPF_F_NUMA_NODE;
            }
            _ => random.pick(NAMES).clone_into(&mut map.name),
        }
    }
    map
}

/// What is wrong with the prediction for this map.
fn check(
    map: &Map<Template>,
    template: &OwnedFd,
    running: KernelVersion,
    count: &mut Count,
) -> Option<String> {
    // Between what every kernel takes and NR_CPUS, the build decides.
    let cpus = map.map_type.0 == uapi::BPF_MAP_TYPE_CPUMAP;
    if cpus && matches!(map.max_entries, MaxEntries::Count(65..=8192)) {
        return None;
    }
    let refusals = rules::create::refusals(map);
    if !is_safe(map, &refusals, count) {
        return None;
    }
    let mut predicted: Vec<(i32, String)> = refusals
        .into_iter()
        .map(|refusal| (refusal.errno, refusal.reason))
        .collect();
    if let Some((since, what)) = rules::needs(map, &[])
        && since > running
    {
        predicted.push((libc::EINVAL, format!("{what} needs Linux {since}")));
    }
    let answer = if needs_btf(map.map_type) {
        with_btf(map)
    } else {
        kernel::create(map, map.is_outer().then_some(template), None)
    };
    let case = || {
        format!(
            "{} key {} value {} entries {:?} flags {:#x} extra {:#x} node {} name {:?}",
            map.map_type,
            map.key_size,
            map.value_size,
            map.max_entries,
            map.map_flags,
            map.map_extra,
            map.numa_node,
            map.name
        )
    };
    match answer {
        Ok(_) if predicted.is_empty() => count.accepted += 1,
        Ok(_) => return Some(format!("{}: accepted, predicted {predicted:?}", case())),
        Err(number) if predicted.iter().any(|(errno, _)| *errno == number) => {
            count.refused += 1;
            if rules::explain(Call::MapCreate, number, Some(map), &[], Some(running)).is_empty() {
                return Some(format!("{}: {number} is not explained", case()));
            }
        }
        Err(number) => {
            let name = rules::errno_name(number);
            return Some(format!("{}: {name}, predicted {predicted:?}", case()));
        }
    }
    None
}

/// Whether trying this map cannot exhaust the machine, even where a prediction is wrong.
///
/// The kernel checks a name only after it has allocated the map, sizes and flags before.
fn is_safe(map: &Map<Template>, refusals: &[Refusal], count: &mut Count) -> bool {
    // An arena has no pages until they are used.
    if map.map_type.0 == uapi::BPF_MAP_TYPE_ARENA {
        return true;
    }
    let size = rules::memory(
        map,
        &Target {
            page_size: 4096,
            possible_cpus: 8,
        },
    );
    if refusals.iter().any(|refusal| refusal.field != "name") {
        return size <= RISK;
    }
    let sum = count.memory + size;
    let fits = sum <= BUDGET;
    if fits {
        count.memory = sum;
    }
    fits
}

/// Creates the map with an int key and bytes of the value's size.
fn with_btf(map: &Map<Template>) -> Result<OwnedFd, i32> {
    let int = |name: &str, size: u32| Type::Int {
        name: name.to_owned(),
        size,
        bits: (size * 8) as u8,
        bit_offset: 0,
        encoding: IntEncoding::Signed,
    };
    let bytes = Type::Array {
        element: TypeId(2),
        index: TypeId(1),
        length: map.value_size,
    };
    let blob = btf::encode(&[int("int", 4), int("char", 1), bytes], Endianness::NATIVE).unwrap();
    let fd = kernel::load_btf(&blob).expect("the kernel takes two ints and an array");
    kernel::create(
        map,
        None,
        Some(Btf {
            fd: &fd,
            key: 1,
            value: 3,
        }),
    )
}

fn errno(number: i32) -> String {
    rules::errno_name(number)
}
