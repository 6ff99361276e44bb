//! One row per map type: what `BPF_MAP_CREATE` demands of its attributes.
//!
//! Measured on Linux 6.18; first kernel versions are from the kernel's history. A type that is
//! not in the table is left to the kernel.

use super::KernelVersion;
use super::errno::{E2BIG, EINVAL, ENOTSUPP};
use crate::model::MapType;
use crate::uapi::*;

/// What the kernel demands of maps of one type.
#[derive(Debug, Clone, Copy)]
pub struct TypeRules {
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// First kernel with this type.
    pub since: KernelVersion,
    /// Sizes of keys.
    pub key: Size,
    /// Sizes of values.
    pub value: Size,
    /// Numbers of entries.
    pub entries: Entries,
    /// Flags that are taken.
    pub flags: u32,
    /// Flags that must be set.
    pub required_flags: u32,
    /// What `map_extra` means.
    pub extra: Extra,
    /// Whether maps of this type may be in maps.
    pub inner: Inner,
    /// Which BTF ids are taken.
    pub btf: Btf,
    /// What an entry costs.
    pub cost: Cost,
    /// Capability that creating one takes besides what `unprivileged_bpf_disabled` demands.
    pub capability: Option<&'static str>,
}

/// Sizes of a key or value, in bytes.
#[derive(Debug, Clone, Copy)]
pub enum Size {
    /// One of these; 0 is for maps without.
    OneOf(&'static [u32]),
    /// From the first to the second; above that the kernel answers with the error number.
    Range(u32, u32, i32),
    /// A stack trace: see `rules::create`.
    Stack,
}

/// Numbers of entries.
#[derive(Debug, Clone, Copy)]
pub enum Entries {
    /// From 1 to the number; above that the kernel answers with the error number.
    UpTo(u32, i32),
    /// 0: entries come and go with what they belong to.
    None,
    /// 1.
    One,
    /// Bytes of a ring: a power of two, and a multiple of the page size.
    Ring,
    /// Up to the `NR_CPUS` that the kernel was built with.
    Cpus,
}

/// What `map_extra` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Nothing: it must be 0.
    None,
    /// Number of hash functions, 0 to 15.
    HashFunctions,
    /// User address of the arena, aligned to pages.
    Address,
}

/// Whether maps of a type may be templates and in slots (`map_meta_equal`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// They may, with any number of entries.
    Yes,
    /// They may; the number of entries is the template's unless `BPF_F_INNER_MAP` is set.
    SameEntriesUnlessFlag,
    /// They may; the number of entries is the template's.
    SameEntries,
    /// They may not, with the kernel's error number.
    No(i32),
}

/// Which BTF ids the kernel takes for a type (`map_check_btf`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Btf {
    /// libbpf passes none for this type (`bpf_object__create_map`).
    Never,
    /// Any types of the right size, key and value.
    Any,
    /// The key is a 32-bit int; without a key, the value is a DATASEC and there is one entry.
    ArrayKey,
    /// The key is a struct.
    StructKey,
    /// The key is a 64-bit int or looks like `struct bpf_cgroup_storage_key`.
    CgroupStorageKey,
    /// The key is a 32-bit int, and the map cannot be created without both types.
    Required,
    /// A value without a key.
    ValueOnly,
}

/// What a map costs: see `rules::memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// An array of values.
    Array,
    /// An array of values per CPU.
    PercpuArray,
    /// An array of pointers.
    Pointers,
    /// Hash buckets and elements.
    Hash,
    /// Hash buckets and elements with values per CPU.
    PercpuHash,
    /// Hash buckets and elements that hold a pointer.
    HashOfPointers,
    /// Tree nodes.
    Trie,
    /// Buckets and elements that hold a stack.
    Stack,
    /// Values one after the other.
    Queue,
    /// A bit field.
    Bloom,
    /// A ring of bytes with its pages.
    Ring,
    /// Pages that are there from their first use on.
    Arena,
    /// Entries belong to sockets, tasks, inodes or cgroups.
    Local,
}

/// Largest allocation of the kernel's `kmalloc` on machines with 4 KiB pages.
pub(crate) const KMALLOC_MAX: u32 = 4 << 20;
/// `PCPU_MIN_UNIT_SIZE`: the largest value of per-CPU maps.
const PERCPU_MAX: u32 = 32 << 10;
/// Largest value in local storage: what a 16-bit size leaves after the element's header.
const LOCAL_STORAGE_MAX: u32 = 65_407;

const NUMA: u32 = BPF_F_NUMA_NODE;
const ACCESS: u32 = BPF_F_RDONLY | BPF_F_WRONLY;
const PROG: u32 = BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
const HASH: u32 = BPF_F_NO_PREALLOC | ACCESS | PROG | BPF_F_ZERO_SEED;

const FOUR: Size = Size::OneOf(&[4]);
const FOUR_OR_EIGHT: Size = Size::OneOf(&[4, 8]);
const NONE: Size = Size::OneOf(&[0]);
/// Hash keys and values: their sum is bounded by a rule of its own.
const SOME: Size = Size::Range(1, u32::MAX, 0);
const PERCPU: Size = Size::Range(1, PERCPU_MAX, E2BIG);
const MANY: Entries = Entries::UpTo(u32::MAX, 0);
/// Buckets of 16 bytes, counted by a power of two, in less than 4 GiB.
const BUCKETS: Entries = Entries::UpTo(1 << 27, E2BIG);
const CAP_NET_ADMIN: Option<&str> = Some("CAP_NET_ADMIN");
const CAP_BPF: Option<&str> = Some("CAP_BPF");

/// An array with 4-byte keys and values, like most that hold descriptors.
const BASE: TypeRules = TypeRules {
    map_type: BPF_MAP_TYPE_UNSPEC,
    since: v(3, 19),
    key: FOUR,
    value: FOUR,
    entries: MANY,
    flags: NUMA | ACCESS,
    required_flags: 0,
    extra: Extra::None,
    inner: Inner::Yes,
    btf: Btf::Never,
    cost: Cost::Pointers,
    capability: None,
};

const BASE_HASH: TypeRules = TypeRules {
    key: SOME,
    value: SOME,
    entries: BUCKETS,
    flags: HASH | NUMA,
    btf: Btf::Any,
    cost: Cost::Hash,
    ..BASE
};

/// Storage that belongs to sockets, inodes, tasks or cgroups.
const BASE_LOCAL: TypeRules = TypeRules {
    value: Size::Range(1, LOCAL_STORAGE_MAX, E2BIG),
    entries: Entries::None,
    flags: BPF_F_NO_PREALLOC | BPF_F_CLONE,
    required_flags: BPF_F_NO_PREALLOC,
    btf: Btf::Required,
    cost: Cost::Local,
    capability: CAP_BPF,
    ..BASE
};

const BASE_QUEUE: TypeRules = TypeRules {
    since: v(4, 20),
    key: NONE,
    value: Size::Range(1, KMALLOC_MAX, E2BIG),
    flags: NUMA | ACCESS | PROG,
    cost: Cost::Queue,
    capability: CAP_BPF,
    ..BASE
};

const BASE_RING: TypeRules = TypeRules {
    key: NONE,
    value: NONE,
    entries: Entries::Ring,
    flags: NUMA,
    btf: Btf::Any,
    cost: Cost::Ring,
    ..BASE
};

const TABLE: &[TypeRules] = &[
    TypeRules {
        map_type: BPF_MAP_TYPE_HASH,
        ..BASE_HASH
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_ARRAY,
        value: Size::Range(1, i32::MAX as u32, E2BIG),
        flags: NUMA | ACCESS | PROG | BPF_F_MMAPABLE | BPF_F_INNER_MAP,
        inner: Inner::SameEntriesUnlessFlag,
        btf: Btf::ArrayKey,
        cost: Cost::Array,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_PROG_ARRAY,
        since: v(4, 2),
        inner: Inner::No(ENOTSUPP),
        btf: Btf::Any,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_PERF_EVENT_ARRAY,
        since: v(4, 3),
        flags: NUMA | ACCESS | BPF_F_PRESERVE_ELEMS,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_PERCPU_HASH,
        since: v(4, 6),
        value: PERCPU,
        cost: Cost::PercpuHash,
        ..BASE_HASH
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_PERCPU_ARRAY,
        since: v(4, 6),
        value: PERCPU,
        flags: NUMA | ACCESS | PROG,
        btf: Btf::ArrayKey,
        cost: Cost::PercpuArray,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_STACK_TRACE,
        since: v(4, 6),
        value: Size::Stack,
        entries: Entries::UpTo(1 << 31, E2BIG),
        flags: NUMA | ACCESS | BPF_F_STACK_BUILD_ID,
        cost: Cost::Stack,
        capability: CAP_BPF,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_CGROUP_ARRAY,
        since: v(4, 8),
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_LRU_HASH,
        since: v(4, 10),
        flags: HASH | NUMA | BPF_F_NO_COMMON_LRU,
        capability: CAP_BPF,
        ..BASE_HASH
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_LRU_PERCPU_HASH,
        since: v(4, 10),
        value: PERCPU,
        flags: HASH | NUMA | BPF_F_NO_COMMON_LRU,
        cost: Cost::PercpuHash,
        capability: CAP_BPF,
        ..BASE_HASH
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_LPM_TRIE,
        since: v(4, 11),
        key: Size::Range(5, 260, EINVAL),
        // A node's header and the longest key come off the largest allocation.
        value: Size::Range(1, KMALLOC_MAX - 280, EINVAL),
        flags: BPF_F_NO_PREALLOC | NUMA | ACCESS | PROG,
        required_flags: BPF_F_NO_PREALLOC,
        btf: Btf::StructKey,
        cost: Cost::Trie,
        capability: CAP_BPF,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_ARRAY_OF_MAPS,
        since: v(4, 12),
        inner: Inner::No(EINVAL),
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_HASH_OF_MAPS,
        since: v(4, 12),
        value: FOUR,
        inner: Inner::No(EINVAL),
        btf: Btf::Never,
        cost: Cost::HashOfPointers,
        ..BASE_HASH
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_DEVMAP,
        since: v(4, 14),
        value: FOUR_OR_EIGHT,
        capability: CAP_NET_ADMIN,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_SOCKMAP,
        since: v(4, 14),
        value: FOUR_OR_EIGHT,
        capability: CAP_NET_ADMIN,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_CPUMAP,
        since: v(4, 15),
        value: FOUR_OR_EIGHT,
        entries: Entries::Cpus,
        flags: NUMA,
        capability: CAP_BPF,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_XSKMAP,
        since: v(4, 18),
        inner: Inner::SameEntries,
        capability: CAP_NET_ADMIN,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_SOCKHASH,
        since: v(4, 18),
        key: Size::Range(1, 512, E2BIG),
        value: FOUR_OR_EIGHT,
        cost: Cost::HashOfPointers,
        capability: CAP_NET_ADMIN,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_CGROUP_STORAGE,
        since: v(4, 19),
        key: Size::OneOf(&[8, 16]),
        value: Size::Range(1, LOCAL_STORAGE_MAX, E2BIG),
        entries: Entries::None,
        flags: NUMA | ACCESS | PROG,
        inner: Inner::No(ENOTSUPP),
        btf: Btf::CgroupStorageKey,
        cost: Cost::Local,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_REUSEPORT_SOCKARRAY,
        since: v(4, 19),
        value: FOUR_OR_EIGHT,
        flags: NUMA | ACCESS | PROG,
        btf: Btf::Any,
        capability: CAP_BPF,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
        since: v(4, 20),
        key: Size::OneOf(&[8, 16]),
        value: PERCPU,
        entries: Entries::None,
        flags: NUMA | ACCESS | PROG,
        inner: Inner::No(ENOTSUPP),
        btf: Btf::CgroupStorageKey,
        cost: Cost::Local,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_QUEUE,
        ..BASE_QUEUE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_STACK,
        ..BASE_QUEUE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_SK_STORAGE,
        since: v(5, 2),
        ..BASE_LOCAL
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_DEVMAP_HASH,
        since: v(5, 4),
        value: FOUR_OR_EIGHT,
        entries: Entries::UpTo(1 << 31, EINVAL),
        cost: Cost::HashOfPointers,
        capability: CAP_NET_ADMIN,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_STRUCT_OPS,
        since: v(5, 6),
        value: SOME,
        entries: Entries::One,
        flags: BPF_F_LINK | BPF_F_VTYPE_BTF_OBJ_FD,
        inner: Inner::No(ENOTSUPP),
        cost: Cost::Array,
        capability: CAP_BPF,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_RINGBUF,
        since: v(5, 8),
        flags: NUMA | BPF_F_RB_OVERWRITE,
        ..BASE_RING
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_INODE_STORAGE,
        since: v(5, 10),
        ..BASE_LOCAL
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_TASK_STORAGE,
        since: v(5, 11),
        ..BASE_LOCAL
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_BLOOM_FILTER,
        since: v(5, 16),
        flags: NUMA | ACCESS | PROG | BPF_F_ZERO_SEED,
        extra: Extra::HashFunctions,
        btf: Btf::ValueOnly,
        cost: Cost::Bloom,
        ..BASE_QUEUE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_USER_RINGBUF,
        since: v(6, 1),
        ..BASE_RING
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_CGRP_STORAGE,
        since: v(6, 2),
        ..BASE_LOCAL
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_ARENA,
        since: v(6, 9),
        key: NONE,
        value: NONE,
        // 4 GiB of 4 KiB pages.
        entries: Entries::UpTo(1 << 20, E2BIG),
        flags: BPF_F_MMAPABLE | BPF_F_SEGV_ON_FAULT | BPF_F_NO_USER_CONV,
        required_flags: BPF_F_MMAPABLE,
        extra: Extra::Address,
        cost: Cost::Arena,
        capability: CAP_BPF,
        ..BASE
    },
    TypeRules {
        map_type: BPF_MAP_TYPE_INSN_ARRAY,
        since: v(6, 19),
        value: Size::OneOf(&[16]),
        flags: 0,
        btf: Btf::Any,
        cost: Cost::Array,
        capability: CAP_BPF,
        ..BASE
    },
];

/// First kernel with `map_extra`.
pub(crate) const MAP_EXTRA: KernelVersion = v(5, 16);
/// First kernel on which templates compare by more than size, so that entries may differ.
pub(crate) const FREE_INNER_ENTRIES: KernelVersion = v(5, 10);
/// First kernel that takes locks and other special fields in inner maps.
pub(crate) const INNER_SPECIAL_FIELDS: KernelVersion = v(6, 2);

const fn v(major: u16, minor: u16) -> KernelVersion {
    KernelVersion { major, minor }
}

/// The row of a map type, `None` for types that are not known here.
#[must_use]
pub fn rules(map_type: MapType) -> Option<&'static TypeRules> {
    TABLE.iter().find(|row| row.map_type == map_type.0)
}
