//! What `BPF_MAP_CREATE` refuses on every kernel that knows the type, as a list of rules.

use std::borrow::Cow;

use super::errno::{E2BIG, EINVAL, ENOTSUPP, ERANGE};
use super::flags::flag_names;
use super::table::{self, Entries, Extra, Size, TypeRules, rules};
use crate::model::{Map, MapType, MaxEntries};
use crate::uapi;

/// Why the kernel refuses an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The attribute, by its name in the declaration.
    pub field: &'static str,
    /// What the kernel answers.
    pub errno: i32,
    /// The reason, as part of a sentence.
    pub reason: String,
    /// What to do.
    pub help: Option<String>,
}

/// The attributes of a map or template that the kernel looks at.
pub(crate) struct Attributes<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) map_type: MapType,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    /// `None`: the number of possible CPUs.
    pub(crate) entries: Option<u32>,
    pub(crate) flags: u32,
    pub(crate) extra: u64,
    pub(crate) numa_node: u32,
}

impl<'a> Attributes<'a> {
    pub(crate) fn of<I>(map: &'a Map<I>) -> Self {
        Self {
            name: map.kernel_name(),
            map_type: map.map_type,
            key_size: map.key_size,
            value_size: map.value_size,
            entries: match map.max_entries {
                MaxEntries::Count(count) => Some(count),
                MaxEntries::PossibleCpus => None,
            },
            flags: map.map_flags,
            extra: map.map_extra,
            numa_node: map.numa_node,
        }
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether a NUMA node is asked for: -1 is none (`NUMA_NO_NODE`).
    fn wants_node(&self) -> bool {
        self.has(uapi::BPF_F_NUMA_NODE) && self.numa_node != u32::MAX
    }
}

type Rule = fn(&Attributes<'_>, &TypeRules) -> Option<Refusal>;

const RULES: &[Rule] = &[
    name,
    key_size,
    value_size,
    hash_element,
    entries,
    unknown_flags,
    missing_flags,
    access_flags,
    lru_prealloc,
    percpu_node,
    node_number,
    extra,
];

/// Everything in the map's attributes that the kernel refuses; empty for types that are not in
/// the table. BTF and the inner template are not looked at.
#[must_use]
pub fn refusals<I>(map: &Map<I>) -> Vec<Refusal> {
    let attributes = Attributes::of(map);
    let Some(row) = rules(map.map_type) else {
        return Vec::new();
    };
    RULES
        .iter()
        .filter_map(|rule| rule(&attributes, row))
        .collect()
}

fn refuse(field: &'static str, errno: i32, reason: String) -> Option<Refusal> {
    Some(Refusal {
        field,
        errno,
        reason,
        help: None,
    })
}

impl Refusal {
    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

fn name(map: &Attributes<'_>, _: &TypeRules) -> Option<Refusal> {
    let odd = map
        .name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')))?;
    refuse(
        "name",
        EINVAL,
        format!("the name has {odd:?}, names have letters, digits, _ and ."),
    )
}

fn key_size(map: &Attributes<'_>, row: &TypeRules) -> Option<Refusal> {
    size("key_size", map.key_size, row.key, map)
}

fn value_size(map: &Attributes<'_>, row: &TypeRules) -> Option<Refusal> {
    size("value_size", map.value_size, row.value, map)
}

fn size(field: &'static str, size: u32, rule: Size, map: &Attributes<'_>) -> Option<Refusal> {
    let (errno, wanted) = match rule {
        Size::OneOf(sizes) => (!sizes.contains(&size)).then(|| (EINVAL, one_of(sizes)))?,
        Size::Range(min, _, _) if size < min => (EINVAL, format!("at least {min}")),
        Size::Range(min, max, errno) => (size > max).then(|| (errno, format!("{min} to {max}")))?,
        Size::Stack => return stack_size(map),
    };
    refuse(
        field,
        errno,
        format!("{field} is {size}, {} takes {wanted}", map.map_type),
    )
}

fn one_of(sizes: &[u32]) -> String {
    let sizes: Vec<_> = sizes.iter().map(u32::to_string).collect();
    sizes.join(" or ")
}

/// The depth is bounded by the sysctl `kernel.perf_event_max_stack`, 127 unless changed.
fn stack_size(map: &Attributes<'_>) -> Option<Refusal> {
    const DEPTH: u32 = 127;
    // struct bpf_stack_build_id has 32 bytes, a plain address 8.
    let entry = if map.has(uapi::BPF_F_STACK_BUILD_ID) {
        32
    } else {
        8
    };
    let size = map.value_size;
    if size == 0 || !size.is_multiple_of(entry) {
        let reason = format!("value_size is {size}, this stack_trace takes a multiple of {entry}");
        return refuse("value_size", EINVAL, reason);
    }
    if size / entry <= DEPTH {
        return None;
    }
    let reason = format!(
        "value_size is {size}, {} frames; stack_trace takes up to {DEPTH} frames of {entry} bytes \
         unless the sysctl kernel.perf_event_max_stack was raised",
        size / entry
    );
    refuse("value_size", EINVAL, reason)
}

/// Keys and values of hash maps share one allocation with a header of 48 bytes.
fn hash_element(map: &Attributes<'_>, row: &TypeRules) -> Option<Refusal> {
    const LIMIT: u64 = table::KMALLOC_MAX as u64 - 48;
    if !is_hash(row.map_type) {
        return None;
    }
    let size = u64::from(map.key_size) + u64::from(map.value_size);
    if size < LIMIT {
        return None;
    }
    let reason =
        format!("key and value together have {size} bytes, the kernel takes less than {LIMIT}");
    refuse("value_size", E2BIG, reason)
}

fn is_hash(map_type: u32) -> bool {
    matches!(
        map_type,
        uapi::BPF_MAP_TYPE_HASH
            | uapi::BPF_MAP_TYPE_PERCPU_HASH
            | uapi::BPF_MAP_TYPE_LRU_HASH
            | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH
            | uapi::BPF_MAP_TYPE_HASH_OF_MAPS
    )
}

fn entries(map: &Attributes<'_>, row: &TypeRules) -> Option<Refusal> {
    /// `CONFIG_NR_CPUS` has no larger value on any architecture.
    const NR_CPUS: u32 = 8192;
    let count = map.entries?;
    let (errno, wanted) = match row.entries {
        Entries::UpTo(..) | Entries::Cpus if count == 0 => (EINVAL, "at least 1".to_owned()),
        Entries::UpTo(max, errno) if count > max => (errno, format!("up to {max}")),
        Entries::Cpus if count > NR_CPUS => (
            E2BIG,
            format!("up to the CPUs that the kernel is built for, {NR_CPUS} at most"),
        ),
        Entries::None if count != 0 => (EINVAL, "0".to_owned()),
        Entries::One if count != 1 => (EINVAL, "1".to_owned()),
        Entries::Ring if !count.is_power_of_two() || count < 4096 => (
            EINVAL,
            "a power of two that is a multiple of the page size".to_owned(),
        ),
        _ => return None,
    };
    let reason = format!("max_entries is {count}, {} takes {wanted}", map.map_type);
    refuse("max_entries", errno, reason)
}

fn unknown_flags(map: &Attributes<'_>, row: &TypeRules) -> Option<Refusal> {
    let unknown = map.flags & !row.flags;
    if unknown == 0 {
        return None;
    }
    let reason = format!(
        "{} does not take {}",
        map.map_type,
        flag_names(unknown).join(", ")
    );
    refuse("map_flags", EINVAL, reason)
}

fn missing_flags(map: &Attributes<'_>, row: &TypeRules) -> Option<Refusal> {
    let missing = row.required_flags & !map.flags;
    if missing == 0 {
        return None;
    }
    let names = flag_names(missing).join(" and ");
    let refusal = refuse(
        "map_flags",
        EINVAL,
        format!("{} needs {names}", map.map_type),
    )?;
    Some(refusal.help(format!("add __uint(map_flags, {names})")))
}

fn access_flags(map: &Attributes<'_>, _: &TypeRules) -> Option<Refusal> {
    let pairs = [
        uapi::BPF_F_RDONLY | uapi::BPF_F_WRONLY,
        uapi::BPF_F_RDONLY_PROG | uapi::BPF_F_WRONLY_PROG,
    ];
    let pair = pairs.into_iter().find(|pair| map.flags & pair == *pair)?;
    let reason = format!("{} exclude each other", flag_names(pair).join(" and "));
    refuse("map_flags", EINVAL, reason)
}

fn lru_prealloc(map: &Attributes<'_>, row: &TypeRules) -> Option<Refusal> {
    let lru = matches!(
        row.map_type,
        uapi::BPF_MAP_TYPE_LRU_HASH | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH
    );
    if !lru || !map.has(uapi::BPF_F_NO_PREALLOC) {
        return None;
    }
    let reason = format!(
        "{} is always preallocated: BPF_F_NO_PREALLOC is refused",
        map.map_type
    );
    refuse("map_flags", ENOTSUPP, reason)
}

/// Per-CPU memory is spread over the nodes by nature.
fn percpu_node(map: &Attributes<'_>, row: &TypeRules) -> Option<Refusal> {
    let percpu = matches!(
        row.map_type,
        uapi::BPF_MAP_TYPE_PERCPU_ARRAY
            | uapi::BPF_MAP_TYPE_PERCPU_HASH
            | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH
    ) || map.has(uapi::BPF_F_NO_COMMON_LRU);
    if !percpu || !map.wants_node() {
        return None;
    }
    let reason = "memory per CPU cannot be bound to a NUMA node".to_owned();
    Some(refuse("numa_node", EINVAL, reason)?.help("leave out BPF_F_NUMA_NODE and numa_node"))
}

fn node_number(map: &Attributes<'_>, _: &TypeRules) -> Option<Refusal> {
    /// `MAX_NUMNODES` of the largest configurations.
    const NODES: u32 = 1024;
    if !map.wants_node() || map.numa_node < NODES {
        return None;
    }
    let reason = format!(
        "numa_node is {}, Linux has up to {NODES} nodes",
        map.numa_node
    );
    refuse("numa_node", EINVAL, reason)
}

fn extra(map: &Attributes<'_>, row: &TypeRules) -> Option<Refusal> {
    const PAGE: u64 = 4096;
    let extra = map.extra;
    let (errno, reason) = match row.extra {
        Extra::None if extra != 0 => (
            EINVAL,
            format!(
                "{} has no use for map_extra, which is {extra}",
                map.map_type
            ),
        ),
        Extra::HashFunctions if extra > 15 => (
            EINVAL,
            format!("map_extra is {extra:#x}, a bloom_filter takes 0 to 15 hash functions"),
        ),
        Extra::Address if !extra.is_multiple_of(PAGE) => (
            EINVAL,
            format!("map_extra is {extra:#x}, an arena's address is page-aligned"),
        ),
        Extra::Address if extra != 0 && crosses_4g(extra, u64::from(map.entries?) * PAGE) => (
            ERANGE,
            format!(
                "an arena at {extra:#x} crosses a 4 GiB boundary with its {} pages",
                map.entries?
            ),
        ),
        _ => return None,
    };
    refuse("map_extra", errno, reason)
}

fn crosses_4g(start: u64, length: u64) -> bool {
    let last = start.wrapping_add(length.saturating_sub(1));
    start >> 32 != last >> 32
}

/// The size that libbpf gives a ring buffer (`adjust_ringbuf_sz`): the smallest power of two of
/// pages that is greater, unless it is one already. 0 and what cannot be rounded stay as they are.
#[must_use]
pub fn ring_buffer_size(bytes: u32, page_size: u32) -> u32 {
    if bytes == 0 || page_size == 0 {
        return bytes;
    }
    if bytes.is_multiple_of(page_size) && (bytes / page_size).is_power_of_two() {
        return bytes;
    }
    (0..u32::BITS)
        .map_while(|shift| page_size.checked_mul(1 << shift))
        .find(|size| *size > bytes)
        .unwrap_or(bytes)
}
