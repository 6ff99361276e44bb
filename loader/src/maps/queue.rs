//! Maps without keys: queues, stacks and bloom filters.

use std::marker::PhantomData;

use bpfplan_plan::uapi;

use super::handle::{Wanted, handle};
use super::{MapData, MapError, RawMap, Update, typed};

/// A `QUEUE` with values of type `V`: what was pushed first is popped first.
pub struct Queue<V> {
    map: RawMap,
    values: PhantomData<fn() -> V>,
}

handle!(Queue<V: MapData>, Wanted {
    types: &[uapi::BPF_MAP_TYPE_QUEUE],
    key: 0,
    value: size_of::<V>(),
});

/// A `STACK` with values of type `V`: what was pushed last is popped first.
pub struct Stack<V> {
    map: RawMap,
    values: PhantomData<fn() -> V>,
}

handle!(Stack<V: MapData>, Wanted {
    types: &[uapi::BPF_MAP_TYPE_STACK],
    key: 0,
    value: size_of::<V>(),
});

/// A `BLOOM_FILTER` with values of type `V` (Linux 5.16).
///
/// ```no_run
/// use bpfplan_loader::maps::{BloomFilter, MapHandle};
///
/// let seen: BloomFilter<[u8; 16]> = BloomFilter::from_pin("/sys/fs/bpf/flow/seen")?;
/// seen.insert(&[1; 16])?;
/// assert!(seen.may_contain(&[1; 16])?);
/// # Ok::<(), bpfplan_loader::maps::MapError>(())
/// ```
pub struct BloomFilter<V> {
    map: RawMap,
    values: PhantomData<fn() -> V>,
}

handle!(BloomFilter<V: MapData>, Wanted {
    types: &[uapi::BPF_MAP_TYPE_BLOOM_FILTER],
    key: 0,
    value: size_of::<V>(),
});

macro_rules! pushes {
    ($name:ident, $next:literal) => {
        impl<V: MapData> $name<V> {
            fn made(map: RawMap) -> Result<Self, MapError> {
                Ok(Self {
                    map,
                    values: PhantomData,
                })
            }

            /// Adds a value.
            ///
            /// # Errors
            /// The kernel's: `E2BIG` if the map is full.
            pub fn push(&self, value: &V) -> Result<(), MapError> {
                self.map.update(&[], value.as_bytes(), Update::Any)
            }

            /// Adds a value; if the map is full, the oldest one makes room.
            ///
            /// # Errors
            /// The kernel's.
            pub fn push_over(&self, value: &V) -> Result<(), MapError> {
                self.map.update(&[], value.as_bytes(), Update::Exist)
            }

            #[doc = concat!("Removes the ", $next, " value and gives it; `None` if there is none.")]
            ///
            /// # Errors
            /// The kernel's.
            pub fn pop(&self) -> Result<Option<V>, MapError> {
                typed::take(&self.map, &[])
            }

            #[doc = concat!("The ", $next, " value, which stays; `None` if there is none.")]
            ///
            /// # Errors
            /// The kernel's.
            pub fn peek(&self) -> Result<Option<V>, MapError> {
                typed::lookup(&self.map, &[])
            }
        }
    };
}

pushes!(Queue, "oldest");
pushes!(Stack, "newest");

impl<V: MapData> BloomFilter<V> {
    fn made(map: RawMap) -> Result<Self, MapError> {
        Ok(Self {
            map,
            values: PhantomData,
        })
    }

    /// Adds a value.
    ///
    /// # Errors
    /// The kernel's.
    pub fn insert(&self, value: &V) -> Result<(), MapError> {
        self.map.update(&[], value.as_bytes(), Update::Any)
    }

    /// Whether the value was added; now and then `true` although it was not, never the other way.
    ///
    /// # Errors
    /// The kernel's.
    pub fn may_contain(&self, value: &V) -> Result<bool, MapError> {
        // The kernel reads the value from where other maps write it.
        let mut bytes = value.as_bytes().to_vec();
        self.map.lookup(&[], &mut bytes)
    }
}
