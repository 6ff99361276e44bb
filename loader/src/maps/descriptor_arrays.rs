//! Arrays whose slots hold what a descriptor stands for: sockets, cgroups, perf events.

use std::os::fd::{AsFd, AsRawFd as _};

use bpfplan_plan::uapi;
use zerocopy::IntoBytes as _;

use super::handle::handle;
use super::slots::{self, AnyOf};
use super::{MapError, RawMap, Update};

/// Where a handle wants 4 bytes or, for those that give cookies back, 8.
const ONE: &[usize] = &[4];
const TWO: &[usize] = &[4, 8];

/// A `PERF_EVENT_ARRAY`: slots for perf events, which programs write to or read.
///
/// Its slots are filled here; a reader of the events' memory is `libbpf_rs::PerfBufferBuilder`, or
/// `PerfEventArray` of aya. New programs use a [`super::RingBuf`].
pub struct PerfEventArray {
    map: RawMap,
}

handle!(
    PerfEventArray,
    AnyOf {
        types: &[uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY],
        key: 4,
        values: ONE,
    }
);

/// A `CGROUP_ARRAY`: slots for cgroups, which are descriptors of their directories.
pub struct CgroupArray {
    map: RawMap,
}

handle!(
    CgroupArray,
    AnyOf {
        types: &[uapi::BPF_MAP_TYPE_CGROUP_ARRAY],
        key: 4,
        values: ONE,
    }
);

/// An `XSKMAP`: slots for AF_XDP sockets.
pub struct XskMap {
    map: RawMap,
}

handle!(
    XskMap,
    AnyOf {
        types: &[uapi::BPF_MAP_TYPE_XSKMAP],
        key: 4,
        values: ONE,
    }
);

/// A `SOCKMAP`: slots for TCP, UDP and other sockets.
pub struct SockMap {
    map: RawMap,
}

handle!(
    SockMap,
    AnyOf {
        types: &[uapi::BPF_MAP_TYPE_SOCKMAP],
        key: 4,
        values: TWO,
    }
);

/// A `REUSEPORT_SOCKARRAY`: slots for sockets of one group of `SO_REUSEPORT`.
pub struct ReuseportSockArray {
    map: RawMap,
}

handle!(
    ReuseportSockArray,
    AnyOf {
        types: &[uapi::BPF_MAP_TYPE_REUSEPORT_SOCKARRAY],
        key: 4,
        values: TWO,
    }
);

macro_rules! slots {
    ($name:ident, $held:literal) => {
        impl $name {
            fn made(map: RawMap) -> Result<Self, MapError> {
                Ok(Self { map })
            }

            /// Number of slots.
            #[must_use]
            pub fn len(&self) -> u32 {
                self.map.info().max_entries
            }

            /// Whether it has no slots, which the kernel does not allow.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            #[doc = concat!("Puts ", $held, " into a slot, whatever is in it.")]
            ///
            /// # Errors
            /// The kernel's: `E2BIG` beyond the end, and those for a descriptor of something else.
            pub fn set(&self, index: u32, held: impl AsFd) -> Result<(), MapError> {
                let value = slots::descriptor(&self.map, held.as_fd().as_raw_fd());
                self.map.update(index.as_bytes(), &value, Update::Any)
            }

            /// Empties a slot. That it is empty already is no error.
            ///
            /// # Errors
            /// The kernel's: beyond the end, one that depends on the kind of map.
            pub fn clear(&self, index: u32) -> Result<(), MapError> {
                slots::clear(&self.map, index)
            }
        }
    };
}

slots!(PerfEventArray, "a perf event");
slots!(CgroupArray, "a cgroup");
slots!(XskMap, "a socket");
slots!(SockMap, "a socket");
slots!(ReuseportSockArray, "a socket");

macro_rules! cookies {
    ($name:ident) => {
        impl $name {
            /// The cookie of the socket in a slot (`SO_COOKIE`), `None` if the slot is empty.
            ///
            /// # Errors
            /// The kernel's: `ENOSPC` if values have 4 bytes, which hold no cookie.
            pub fn cookie(&self, index: u32) -> Result<Option<u64>, MapError> {
                slots::cookie(&self.map, index.as_bytes())
            }
        }
    };
}

cookies!(SockMap);
cookies!(ReuseportSockArray);
