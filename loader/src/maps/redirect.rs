//! Maps that programs redirect packets with: to devices, CPUs and sockets.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use bpfplan_plan::uapi;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::handle::handle;
use super::slots::{self, AnyOf};
use super::{Keys, MapData, MapError, RawMap, Update, typed};

/// Values without and with a program.
const SIZES: &[usize] = &[4, 8];

/// A `DEVMAP`: slots for network devices.
pub struct DevMap {
    map: RawMap,
}

handle!(
    DevMap,
    AnyOf {
        types: &[uapi::BPF_MAP_TYPE_DEVMAP],
        key: 4,
        values: SIZES,
    }
);

/// A `DEVMAP_HASH`: network devices by a number of 32 bits.
pub struct DevMapHash {
    map: RawMap,
}

handle!(
    DevMapHash,
    AnyOf {
        types: &[uapi::BPF_MAP_TYPE_DEVMAP_HASH],
        key: 4,
        values: SIZES,
    }
);

/// A `CPUMAP`: queues on other CPUs, by the number of the CPU.
pub struct CpuMap {
    map: RawMap,
}

handle!(
    CpuMap,
    AnyOf {
        types: &[uapi::BPF_MAP_TYPE_CPUMAP],
        key: 4,
        values: SIZES,
    }
);

/// What a slot of a [`DevMap`], [`DevMapHash`] or [`CpuMap`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect {
    /// Index of the network device, or length of the CPU's queue in packets.
    pub target: u32,
    /// The kernel's id of the program that runs on what was redirected, if there is one.
    pub program_id: Option<u32>,
}

/// `struct bpf_devmap_val` and `struct bpf_cpumap_val`: a descriptor is written, an id is read.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct WithProgram {
    target: u32,
    program: u32,
}

fn get(map: &RawMap, key: u32) -> Result<Option<Redirect>, MapError> {
    if map.value_bytes() == size_of::<u32>() {
        let target = typed::lookup::<u32>(map, key.as_bytes())?;
        return Ok(target.map(|target| Redirect {
            target,
            program_id: None,
        }));
    }
    let value = typed::lookup::<WithProgram>(map, key.as_bytes())?;
    Ok(value.map(|value| Redirect {
        target: value.target,
        program_id: (value.program != 0).then_some(value.program),
    }))
}

fn set(
    map: &RawMap,
    key: u32,
    target: u32,
    program: Option<BorrowedFd<'_>>,
) -> Result<(), MapError> {
    if map.value_bytes() == size_of::<u32>() && program.is_none() {
        return map.update(key.as_bytes(), target.as_bytes(), Update::Any);
    }
    // The kernel takes 0 and below for none; a map without room for a program refuses the size.
    let program = program.map_or(0, |program| program.as_raw_fd().cast_unsigned());
    let value = WithProgram { target, program };
    map.update(key.as_bytes(), value.as_bytes(), Update::Any)
}

macro_rules! redirects {
    ($name:ident, $key:ident, $target:ident, $what:literal) => {
        impl $name {
            fn made(map: RawMap) -> Result<Self, MapError> {
                Ok(Self { map })
            }

            /// What is there, `None` if nothing is.
            ///
            /// # Errors
            /// The kernel's.
            pub fn get(&self, $key: u32) -> Result<Option<Redirect>, MapError> {
                get(&self.map, $key)
            }

            #[doc = concat!("Sets ", $what, ".")]
            ///
            /// # Errors
            /// The kernel's: `E2BIG` beyond the end or if the map is full, `EINVAL` if there is
            /// no such target.
            pub fn set(&self, $key: u32, $target: u32) -> Result<(), MapError> {
                set(&self.map, $key, $target, None)
            }

            #[doc = concat!("Sets ", $what, ", and a program that runs on what was redirected")]
            /// there.
            ///
            /// # Errors
            /// As [`Self::set`]; `EINVAL` if values have 4 bytes, where no program fits, or if it
            /// is a program for something else.
            pub fn set_with_program(
                &self,
                $key: u32,
                $target: u32,
                program: impl AsFd,
            ) -> Result<(), MapError> {
                set(&self.map, $key, $target, Some(program.as_fd()))
            }

            /// Removes what is there. That nothing is there is no error.
            ///
            /// # Errors
            /// The kernel's.
            pub fn clear(&self, $key: u32) -> Result<(), MapError> {
                slots::clear(&self.map, $key)
            }
        }
    };
}

redirects!(DevMap, index, device, "the index of a device");
redirects!(DevMapHash, key, device, "the index of a device");
redirects!(CpuMap, cpu, queue, "the length of a CPU's queue in packets");

/// A `SOCKHASH` with keys of type `K`, which holds sockets.
pub struct SockHash<K> {
    map: RawMap,
    keys: PhantomData<fn() -> K>,
}

handle!(SockHash<K: MapData>, AnyOf {
    types: &[uapi::BPF_MAP_TYPE_SOCKHASH],
    key: size_of::<K>(),
    values: SIZES,
});

impl<K: MapData> SockHash<K> {
    fn made(map: RawMap) -> Result<Self, MapError> {
        Ok(Self {
            map,
            keys: PhantomData,
        })
    }

    /// Puts a socket there.
    ///
    /// # Errors
    /// The kernel's: `EEXIST` or `ENOENT` as `when` says, `E2BIG` if the map is full,
    /// `EOPNOTSUPP` for a socket of a kind or state that it does not take.
    pub fn update(&self, key: &K, socket: impl AsFd, when: Update) -> Result<(), MapError> {
        let value = slots::descriptor(&self.map, socket.as_fd().as_raw_fd());
        self.map.update(key.as_bytes(), &value, when)
    }

    /// The cookie of a socket (`SO_COOKIE`), `None` if there is none.
    ///
    /// # Errors
    /// The kernel's: `ENOSPC` if values have 4 bytes, which hold no cookie.
    pub fn cookie(&self, key: &K) -> Result<Option<u64>, MapError> {
        slots::cookie(&self.map, key.as_bytes())
    }

    /// Removes a socket; says whether it was there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete(&self, key: &K) -> Result<bool, MapError> {
        self.map.delete(key.as_bytes())
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> Keys<'_, K> {
        Keys::typed(&self.map)
    }
}
