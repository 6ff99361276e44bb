//! Why a call failed: the rules that hold before a call, read after it.

use super::errno::{
    E2BIG, EACCES, EBADF, EBUSY, EEXIST, EINVAL, EMFILE, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC,
    ENOSYS, ENOTDIR, ENOTSUPP, EOPNOTSUPP, EPERM, EROFS, ESRCH,
};
use super::special::SpecialFields;
use super::table::{Btf, Entries, Inner, TypeRules, rules};
use super::{KernelVersion, btf, create, needs};
use crate::model::Map;
use crate::types::Type;
use crate::uapi;

/// A system call of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `BPF_BTF_LOAD`.
    BtfLoad,
    /// `BPF_MAP_CREATE`.
    MapCreate,
    /// `BPF_MAP_UPDATE_BATCH`.
    UpdateBatch,
    /// `BPF_MAP_UPDATE_ELEM` of an outer map.
    UpdateElem,
    /// `BPF_MAP_UPDATE_ELEM` of an array, to write initial contents.
    Write,
    /// `BPF_MAP_UPDATE_ELEM` of a program array.
    ProgramSlot,
    /// `BPF_PROG_LOAD`, with all that libbpf does around it.
    ProgLoad,
    /// `BPF_OBJ_PIN`.
    Pin,
    /// `BPF_MAP_FREEZE`.
    Freeze,
}

/// Why `call` failed with `errno`: sentences without a full stop, most likely first; may be empty.
///
/// `map` is the map that was created, pinned or frozen, or the outer map that was filled; `kernel`
/// is the running one.
#[must_use]
pub fn explain<I>(
    call: Call,
    errno: i32,
    map: Option<&Map<I>>,
    types: &[Type],
    kernel: Option<KernelVersion>,
) -> Vec<String> {
    let mut reasons = match (call, map) {
        (Call::MapCreate, Some(map)) => create(errno, map, types, kernel),
        _ => Vec::new(),
    };
    let general = GENERAL
        .iter()
        .filter(|(when, number, _)| *number == errno && when.contains(&call))
        .map(|(_, _, reason)| (*reason).to_owned());
    reasons.extend(general);
    let outdated = OUTDATED
        .iter()
        .filter(|(when, number, since, _)| {
            *number == errno && when.contains(&call) && kernel.is_none_or(|kernel| kernel < *since)
        })
        .map(|(.., reason)| (*reason).to_owned());
    reasons.extend(outdated);
    reasons
}

const ANY: &[Call] = &[
    Call::BtfLoad,
    Call::MapCreate,
    Call::UpdateBatch,
    Call::UpdateElem,
    Call::ProgramSlot,
    Call::ProgLoad,
    Call::Write,
    Call::Pin,
    Call::Freeze,
];
const UPDATE: &[Call] = &[Call::UpdateBatch, Call::UpdateElem];

/// Reasons that do not depend on the map, and no longer hold from a version on.
const OUTDATED: &[(&[Call], i32, KernelVersion, &str)] = &[
    (
        &[Call::BtfLoad, Call::MapCreate],
        EPERM,
        version(5, 11),
        "before Linux 5.11 the memory counts against RLIMIT_MEMLOCK (ulimit -l)",
    ),
    (
        &[Call::UpdateBatch],
        EINVAL,
        version(5, 6),
        "this kernel has no batches at all (Linux 5.6)",
    ),
    (
        &[Call::Freeze],
        EINVAL,
        version(5, 2),
        "this kernel cannot freeze maps (Linux 5.2)",
    ),
];

const fn version(major: u16, minor: u16) -> KernelVersion {
    KernelVersion { major, minor }
}

/// Reasons that do not depend on the map.
const GENERAL: &[(&[Call], i32, &str)] = &[
    (
        UPDATE,
        E2BIG,
        "the index is not below max_entries, or the outer map is full",
    ),
    (
        UPDATE,
        EINVAL,
        "the inner map does not fit the template the outer map was created with",
    ),
    (
        &[Call::ProgramSlot],
        EINVAL,
        "all programs of an array are of one type and licence, and of the kind that jumps into it",
    ),
    (
        &[Call::ProgLoad],
        EACCES,
        "the verifier found an access that is not safe",
    ),
    (
        &[Call::ProgLoad],
        EINVAL,
        "the verifier found an instruction or an argument that is not valid",
    ),
    (
        &[Call::ProgLoad],
        E2BIG,
        "the program is too long, or too complex for the verifier",
    ),
    (
        &[Call::ProgLoad],
        EPERM,
        "loading programs takes CAP_BPF, and CAP_PERFMON or CAP_NET_ADMIN, usually root",
    ),
    (
        &[Call::ProgLoad],
        ESRCH,
        "the kernel lacks a function, a type or a variable that the program wants",
    ),
    (
        &[Call::ProgLoad],
        ENOENT,
        "the kernel lacks a function, a type or a variable that the program wants",
    ),
    (UPDATE, EBADF, "the inner map's descriptor is closed"),
    (
        &[Call::UpdateBatch, Call::UpdateElem, Call::Write],
        EPERM,
        "the map is frozen or was opened read-only",
    ),
    (
        UPDATE,
        EBUSY,
        "the map is being updated by its own program, or is busy for the moment",
    ),
    (
        &[Call::UpdateBatch],
        ENOTSUPP,
        "this kernel has no batches for maps of this type",
    ),
    (
        &[Call::Pin],
        EEXIST,
        "something is pinned at this path already",
    ),
    (&[Call::Pin], ENOENT, "the directory does not exist"),
    (
        &[Call::Pin],
        ENOTDIR,
        "a part of the path is not a directory",
    ),
    (
        &[Call::Pin],
        EINVAL,
        "the directory is not on a bpf file system (mount -t bpf bpf /sys/fs/bpf)",
    ),
    (
        &[Call::Pin],
        EPERM,
        "bpffs takes no '.' in names, or the directory is not on bpffs",
    ),
    (
        &[Call::Pin],
        EACCES,
        "the directory is not writable for this user",
    ),
    (
        &[Call::Pin],
        ENAMETOOLONG,
        "a name in a path has up to 255 bytes, a path up to 4095",
    ),
    (
        &[Call::Pin],
        EROFS,
        "the bpf file system is mounted read-only",
    ),
    (
        &[Call::Pin],
        ENOSPC,
        "the bpf file system has no inode left",
    ),
    (
        &[Call::Freeze],
        EPERM,
        "the map is frozen already, or was opened read-only",
    ),
    (
        &[Call::Freeze],
        EBUSY,
        "the map is being written to, or is mapped writable",
    ),
    (
        &[Call::Freeze],
        ENOTSUPP,
        "maps with special fields cannot be frozen",
    ),
    (
        &[Call::BtfLoad],
        EINVAL,
        "this kernel has no BTF (Linux 4.18), or does not know a kind or a name in it",
    ),
    (
        &[Call::BtfLoad],
        E2BIG,
        "the BTF is too large, or a struct has too many special fields",
    ),
    (
        &[Call::BtfLoad],
        EPERM,
        "loading BTF takes CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN), usually root",
    ),
    (
        &[Call::MapCreate],
        EPERM,
        "creating maps takes CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN), usually root, unless the \
         sysctl kernel.unprivileged_bpf_disabled is 0",
    ),
    (
        ANY,
        ENOMEM,
        "the kernel has no memory for this, or the memory limit of the cgroup is reached",
    ),
    (
        ANY,
        EMFILE,
        "too many open files: raise the limit (ulimit -n)",
    ),
    (
        ANY,
        ENOSYS,
        "this kernel is built without bpf(2) (CONFIG_BPF_SYSCALL)",
    ),
];

fn create<I>(
    errno: i32,
    map: &Map<I>,
    types: &[Type],
    kernel: Option<KernelVersion>,
) -> Vec<String> {
    let mut reasons: Vec<String> = create::refusals(map)
        .into_iter()
        .filter(|refusal| refusal.errno == errno)
        .map(|refusal| refusal.reason)
        .collect();
    for need in needs::all(map) {
        if kernel.is_some_and(|kernel| kernel < need.since) && matches!(errno, EINVAL | E2BIG) {
            reasons.push(format!("{} needs Linux {}", need.what, need.since));
        }
    }
    let Some(row) = rules(map.map_type) else {
        if errno == EINVAL {
            reasons.push(format!("this kernel may not know maps of {}", map.map_type));
        }
        return reasons;
    };
    if map.btf.is_some() {
        let refusal = btf::refusal(map, row, &mut SpecialFields::new(types))
            .filter(|(number, _)| *number == errno);
        reasons.extend(refusal.map(|(_, reason)| reason));
    } else if row.btf == Btf::Required && errno == EINVAL {
        reasons.push(format!("{} cannot be created without BTF", map.map_type));
    }
    if reasons.is_empty() {
        reasons.extend(by_type(errno, map, row));
    }
    reasons
}

/// What depends on the machine rather than on the declaration.
fn by_type<I>(errno: i32, map: &Map<I>, row: &TypeRules) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut add = |when: bool, reason: &str| {
        if when {
            reasons.push(reason.to_owned());
        }
    };
    let node = map.map_flags & uapi::BPF_F_NUMA_NODE != 0;
    let template = map.is_outer();
    match errno {
        EINVAL => {
            add(
                node,
                &format!("NUMA node {} may not be online", map.numa_node),
            );
            add(
                template,
                "the inner template may be of a type that cannot be in maps",
            );
            add(
                matches!(row.entries, Entries::Ring),
                "max_entries must be a power of two times this machine's page size",
            );
            add(
                map.map_type.0 == uapi::BPF_MAP_TYPE_STACK_TRACE,
                "value_size exceeds the frames of the sysctl kernel.perf_event_max_stack",
            );
        }
        E2BIG => {
            add(
                matches!(row.entries, Entries::Cpus),
                "max_entries exceeds the CPUs that this kernel was built for (CONFIG_NR_CPUS)",
            );
            add(
                true,
                "a size exceeds what the kernel can allocate, or the kernel is too old",
            );
        }
        ENOTSUPP => {
            add(
                template,
                "the inner template is of a type that cannot be in maps, or (before Linux 6.2) \
                 its values have special fields",
            );
            add(
                matches!(row.inner, Inner::No(_)) && !template,
                "this kernel does not take its BTF",
            );
        }
        EOPNOTSUPP => add(
            map.map_type.0 == uapi::BPF_MAP_TYPE_ARENA,
            "arenas need a JIT that supports them",
        ),
        EPERM => {
            if let Some(capability) = row.capability {
                add(true, &format!("maps of {} take {capability}", map.map_type));
            }
            add(
                map.map_flags & uapi::BPF_F_ZERO_SEED != 0,
                "BPF_F_ZERO_SEED takes CAP_SYS_ADMIN",
            );
        }
        EBADF => {
            let missing = map.inner.is_none();
            add(
                template && missing,
                "it has no inner template, from which the kernel learns what maps it may hold",
            );
            add(
                template && !missing,
                "the inner template's descriptor is closed",
            );
        }
        _ => {}
    }
    reasons
}
