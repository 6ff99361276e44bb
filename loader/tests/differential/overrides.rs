//! Overridden loads against libbpf with the same set by its functions.

use bpfplan_compiler::compile;
use bpfplan_plan::overrides::Overrides;
use bpfplan_plan::uapi;
use libtest_mimic::{Failed, Trial};
use std::os::fd::{AsFd as _, AsRawFd as _};

use crate::support::fixtures;
use crate::support::kernel_view;
use crate::support::libbpf::Object;
use crate::support::release;
use crate::{Outcome, fail, load_theirs, recorder, same_map, sequence, try_load};

/// One thing that is set: the text for us, and what libbpf is asked for.
enum Set {
    MaxEntries(&'static str, u32),
    Flags(&'static str, u32),
    NumaNode(&'static str, u32),
    ValueSize(&'static str, u32),
    Skip(&'static str),
    /// Map, text of the override behind it, and the bytes that libbpf puts at an offset.
    Value(&'static str, &'static str, usize, &'static [u8]),
}

use Set::{Flags, MaxEntries, NumaNode, Skip, Value, ValueSize};

/// What becomes of the types that libbpf loads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Types {
    Same,
    /// The kernel refuses libbpf's BTF as a whole. Ours lacks only what it refuses.
    LibbpfLosesAll,
}

struct Case {
    name: &'static str,
    fixture: &'static str,
    set: Vec<Set>,
    types: Types,
}

pub(crate) fn trials() -> Vec<Trial> {
    let cases = cases().into_iter().map(|case| {
        Trial::test(format!("overridden::{}", case.name), move || {
            like_libbpf(&case)
        })
    });
    let refused = refused().into_iter().map(|case| {
        Trial::test(
            format!("overridden_and_refused::{}", case.name),
            move || both_refuse(&case),
        )
    });
    cases.chain(refused).collect()
}

fn case(name: &'static str, fixture: &'static str, set: Vec<Set>) -> Case {
    Case {
        name,
        fixture,
        set,
        types: Types::Same,
    }
}

fn cases() -> Vec<Case> {
    let no_prealloc = uapi::BPF_F_NO_PREALLOC | uapi::BPF_F_NUMA_NODE;
    vec![
        case(
            "sizes_that_are_left_open",
            "override_required",
            vec![
                MaxEntries("flows", 65536),
                MaxEntries("records", 5000),
                MaxEntries("sides", 3),
                Skip("shards"),
            ],
        ),
        case(
            "flags_and_node",
            "types_hash",
            vec![
                Flags("hash", no_prealloc),
                NumaNode("hash", 0),
                Flags("hash_no_prealloc", 0),
                NumaNode("lru_hash", 1),
            ],
        ),
        case(
            "lock_in_a_read_only_map",
            "field_spin_lock",
            vec![Flags("counters", uapi::BPF_F_RDONLY_PROG)],
        ),
        case("cpus", "types_fd_arrays", vec![MaxEntries("two_events", 0)]),
        case(
            "outer_map_left_out",
            "device_tables",
            vec![Skip("device_tables")],
        ),
        case(
            "everything_left_out",
            "device_tables",
            vec![Skip("device_tables"), Skip("uplinks"), Skip("downlinks")],
        ),
        case(
            "inner_maps_of_other_sizes",
            "device_tables",
            vec![MaxEntries("uplinks", 5), MaxEntries("device_tables", 64)],
        ),
        case(
            "values",
            "override_data",
            vec![
                Value(".rodata", ":max_entries=0x01020304", 0, &[4, 3, 2, 1]),
                Value(".rodata", ".limits.burst[1]=9", 14, &[9, 0]),
                Value(".rodata", ".limits.text=wide", 24, b"wide\0\0\0\0"),
                Value(".rodata", ".device=wlan0", 32, b"wlan0\0"),
                Value(".rodata", ".ports=[8080]", 48, &[0x90, 0x1f, 0, 0]),
                Value(".rodata.deep", ".strict=false", 0, &[0]),
                Value(".rodata.deep", ".offset=-2", 8, &[0xfe]),
                Value(".data", ".total=1Ki", 0, &[0, 4]),
                Value(".bss", ".counters[3]=1", 32, &[1]),
                Value(".bss", ".calls=5", 0, &[5]),
            ],
        ),
        case(
            "section_that_grows",
            "override_data",
            vec![
                ValueSize(".data.names", 4 + 8 * 8),
                Value(".data.names", ".names[6]=six", 52, b"six\0"),
            ],
        ),
        case(
            "section_that_is_cut",
            "override_data",
            vec![ValueSize(".data.names", 4 + 8)],
        ),
        case(
            "section_that_is_larger_than_a_page",
            "override_data",
            vec![ValueSize(".rodata", 52 - 4 + 2 * 5000)],
        ),
        case(
            "section_without_an_array",
            "override_data",
            vec![ValueSize(".data", 64), ValueSize(".rodata.deep", 20)],
        ),
        case(
            "section_with_parts_of_elements",
            "override_data",
            vec![ValueSize(".data.names", 40)],
        ),
        Case {
            types: Types::LibbpfLosesAll,
            ..case(
                "section_without_its_array",
                "override_data",
                vec![ValueSize(".data.names", 4)],
            )
        },
        case(
            "section_that_is_not_mapped",
            "override_data",
            vec![Flags(".data", 0), Flags(".bss", uapi::BPF_F_NUMA_NODE)],
        ),
        case(
            "sections_left_out",
            "override_data",
            vec![Skip(".bss"), Skip(".rodata.deep"), Skip(".data.names")],
        ),
    ]
}

fn refused() -> Vec<Case> {
    vec![
        case(
            "open_sizes",
            "override_required",
            vec![MaxEntries("flows", 1)],
        ),
        case(
            "slot_beyond_the_end",
            "device_tables",
            vec![MaxEntries("device_tables", 1)],
        ),
        case("target_left_out", "device_tables", vec![Skip("uplinks")]),
        case("no_entries", "types_hash", vec![MaxEntries("hash", 0)]),
        case(
            "flag_of_another_type",
            "types_hash",
            vec![Flags("hash", uapi::BPF_F_MMAPABLE)],
        ),
        case("no_bytes", "override_data", vec![ValueSize(".data", 0)]),
    ]
}

impl Set {
    fn text(&self) -> Option<String> {
        match self {
            MaxEntries(map, count) => Some(format!("{map}/max_entries={count}")),
            Flags(map, flags) => Some(format!("{map}/map_flags={flags:#x}")),
            NumaNode(map, node) => Some(format!("{map}/numa_node={node}")),
            ValueSize(map, size) => Some(format!("{map}/value_size={size}")),
            Skip(_) => None,
            Value(map, text, ..) => Some(format!("{map}{text}")),
        }
    }

    fn map(&self) -> &'static str {
        match self {
            MaxEntries(map, _)
            | Flags(map, _)
            | NumaNode(map, _)
            | ValueSize(map, _)
            | Skip(map)
            | Value(map, ..) => map,
        }
    }

    fn apply(&self, object: &Object) {
        let map = object.map(self.map());
        match self {
            MaxEntries(_, count) => map.set_max_entries(*count),
            Flags(_, flags) => map.set_map_flags(*flags),
            NumaNode(_, node) => map.set_numa_node(*node),
            ValueSize(_, size) => map.set_value_size(*size),
            Skip(_) => map.skip(),
            Value(_, _, offset, bytes) => map.set_bytes(*offset, bytes),
        }
    }
}

impl Case {
    fn overrides(&self) -> Result<Overrides, Failed> {
        let mut overrides = Overrides::default();
        for set in &self.set {
            match set.text() {
                Some(text) => overrides.set.push(text.parse()?),
                None => overrides.skip.push(set.map().to_owned()),
            }
        }
        Ok(overrides)
    }
}

fn like_libbpf(case: &Case) -> Outcome {
    let fixture = fixtures::named(case.fixture);
    let compiled = compile(&fixture.bytes(), &fixture.file_name(), &Default::default());
    let compiled = compiled.map_err(|found| format!("{found:#?}"))?;
    let done = case.overrides()?.apply(&compiled.plan);
    let done = done.map_err(|found| format!("{found:#?}"))?;
    let theirs = Object::open(&fixture.object).map_err(|errno| format!("errno {errno}"))?;
    for set in &case.set {
        set.apply(&theirs);
    }
    let (ours, our_calls) = recorder::record(|| try_load(&done.plan));
    let (result, their_calls) = recorder::record(|| load_theirs(&theirs));
    if ours.is_err() && result.is_err() && release::running() < release::MEASURED {
        // An older kernel lacks something that the fixture has anyway.
        return Ok(());
    }
    let ours = ours?;
    result.map_err(|errno| format!("only libbpf refuses to load it: {errno}"))?;
    sequence::compare(&our_calls, &their_calls, &[], 0)?;
    let same_types = case.types == Types::Same;
    if same_types == sequence::btf_was_refused(&their_calls) {
        return fail("libbpf's BTF does not fare as expected");
    }
    let skipped = case.set.iter().filter(|set| matches!(set, Skip(_))).count();
    if ours.maps.len() + skipped != theirs.maps().len() {
        return fail(format!("{} maps are loaded", ours.maps.len()));
    }
    for map in &ours.maps {
        let fd = map.fd.as_fd().as_raw_fd();
        let other = theirs.map(&map.name).fd();
        same_map(&fixture, &map.name, fd, other, same_types)
            .map_err(|why| format!("map '{}': {}", map.name, why.message().unwrap_or_default()))?;
        let resized = case
            .set
            .iter()
            .any(|set| theirs.map(set.map()).name() == map.name);
        if !same_types && resized && kernel_view::types(fd).is_some() {
            return fail(format!("map '{}' has types", map.name));
        }
    }
    Ok(())
}

fn both_refuse(case: &Case) -> Outcome {
    let fixture = fixtures::named(case.fixture);
    let compiled = compile(&fixture.bytes(), &fixture.file_name(), &Default::default());
    let compiled = compiled.map_err(|found| format!("{found:#?}"))?;
    if let Ok(done) = case.overrides()?.apply(&compiled.plan)
        && try_load(&done.plan).is_ok()
    {
        return fail("bpfplan loads it");
    }
    let theirs = Object::open(&fixture.object).map_err(|errno| format!("errno {errno}"))?;
    let refused = case.set.iter().any(|set| match set {
        // libbpf refuses this at once.
        ValueSize(map, 0) => !theirs.map(map).takes_value_size(0),
        set => {
            set.apply(&theirs);
            false
        }
    });
    if !refused && load_theirs(&theirs).is_ok() {
        return fail("libbpf loads it");
    }
    Ok(())
}
