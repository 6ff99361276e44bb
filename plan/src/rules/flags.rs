//! Flags of `BPF_MAP_CREATE`: names and first kernels.

use super::KernelVersion;
use crate::uapi::*;

/// First kernel of each flag, where that is later than all types that take it.
const FLAGS: &[(u32, KernelVersion)] = &[
    (BPF_F_NO_PREALLOC, v(4, 6)),
    (BPF_F_NO_COMMON_LRU, v(4, 10)),
    (BPF_F_NUMA_NODE, v(4, 14)),
    (BPF_F_RDONLY, v(4, 15)),
    (BPF_F_WRONLY, v(4, 15)),
    (BPF_F_STACK_BUILD_ID, v(4, 17)),
    (BPF_F_ZERO_SEED, v(5, 0)),
    (BPF_F_RDONLY_PROG, v(5, 2)),
    (BPF_F_WRONLY_PROG, v(5, 2)),
    (BPF_F_CLONE, v(5, 4)),
    (BPF_F_MMAPABLE, v(5, 5)),
    (BPF_F_PRESERVE_ELEMS, v(5, 10)),
    (BPF_F_INNER_MAP, v(5, 10)),
    (BPF_F_LINK, v(6, 4)),
    (BPF_F_VTYPE_BTF_OBJ_FD, v(6, 9)),
    (BPF_F_SEGV_ON_FAULT, v(6, 9)),
    (BPF_F_NO_USER_CONV, v(6, 9)),
    (BPF_F_RB_OVERWRITE, v(6, 19)),
];

const fn v(major: u16, minor: u16) -> KernelVersion {
    KernelVersion { major, minor }
}

/// First kernel with that flag (one bit), `None` if it is not a flag of `BPF_MAP_CREATE`.
#[must_use]
pub fn flag_since(flag: u32) -> Option<KernelVersion> {
    FLAGS
        .iter()
        .find(|(bit, _)| *bit == flag)
        .map(|(_, since)| *since)
}

/// Names of the flags in `flags`, in the order of their bits; unknown bits as numbers.
#[must_use]
pub fn flag_names(flags: u32) -> Vec<String> {
    bits(flags)
        .map(|bit| {
            let known = MAP_FLAGS.iter().find(|(flag, _)| *flag == bit);
            known.map_or_else(|| format!("{bit:#x}"), |(_, name)| (*name).to_owned())
        })
        .collect()
}

/// The bits that are set, lowest first.
pub(crate) fn bits(flags: u32) -> impl Iterator<Item = u32> {
    (0..u32::BITS)
        .map(|bit| 1 << bit)
        .filter(move |bit| flags & bit != 0)
}
