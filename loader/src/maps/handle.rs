//! What all handles have in common.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bpfplan_plan::{Diagnostic, MapType};

use super::{Info, MapError, RawMap};
use crate::codes;
use crate::loaded::LoadedMap;

/// A handle of a map: how it is made, and what is below it.
pub trait MapHandle: AsFd + Sized {
    /// Takes a map, if it is what the handle says.
    ///
    /// # Errors
    /// [`codes::MAP_MISMATCH`] if its kind or the size of its keys or values is another one.
    fn from_map(map: RawMap) -> Result<Self, MapError>;

    /// The map as bytes.
    fn map(&self) -> &RawMap;

    /// The map as bytes, owned.
    fn into_map(self) -> RawMap;

    /// A handle of a map that was loaded; it has a descriptor of its own.
    ///
    /// # Errors
    /// As [`MapHandle::from_map`]; those of duplicating the descriptor.
    fn from_loaded<F: AsFd>(map: &LoadedMap<F>) -> Result<Self, MapError> {
        Self::from_map(RawMap::from_loaded(map)?)
    }

    /// Opens a pin for reading and writing.
    ///
    /// # Errors
    /// As [`MapHandle::from_map`]; [`codes::MAP_NOT_OPENED`] if the kernel does not open it or it
    /// is not the pin of a map.
    fn from_pin(path: impl AsRef<Path>) -> Result<Self, MapError> {
        Self::from_map(RawMap::from_pin(path)?)
    }

    /// Opens a map by the kernel's id (`BPF_MAP_GET_FD_BY_ID`), which needs CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// As [`MapHandle::from_pin`].
    fn from_id(id: u32) -> Result<Self, MapError> {
        Self::from_map(RawMap::from_id(id)?)
    }

    /// Takes a descriptor from elsewhere.
    ///
    /// # Errors
    /// As [`MapHandle::from_pin`].
    fn from_fd(fd: OwnedFd) -> Result<Self, MapError> {
        Self::from_map(RawMap::from_fd(fd)?)
    }

    /// What the kernel says about the map.
    fn info(&self) -> &Info {
        self.map().info()
    }

    /// The kernel's id of the map.
    fn id(&self) -> u32 {
        self.info().id
    }
}

/// What a handle wants of a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Kinds of maps.
    pub(crate) types: &'static [u32],
    /// Bytes of a key.
    pub(crate) key: usize,
    /// Bytes of a value, of one CPU's where there is one for each.
    pub(crate) value: usize,
}

impl Wanted {
    /// Compares it with the map.
    pub(crate) fn check(&self, map: RawMap) -> Result<RawMap, MapError> {
        let info = map.info();
        let mut problems = Vec::new();
        if !self.types.contains(&info.map_type.0) {
            let types: Vec<_> = self
                .types
                .iter()
                .map(|ty| MapType(*ty).to_string())
                .collect();
            let problem = format!(
                "its kind is {}, wanted is {}",
                info.map_type,
                types.join(" or ")
            );
            problems.push(problem);
        }
        for (what, found, wanted) in [
            ("keys", info.key_size, self.key),
            ("values", info.value_size, self.value),
        ] {
            if usize::try_from(found) != Ok(wanted) {
                problems.push(format!(
                    "its {what} have {found} bytes, the type of the handle has {wanted}"
                ));
            }
        }
        if problems.is_empty() {
            return Ok(map);
        }
        let diagnostic = Diagnostic::error(
            codes::MAP_MISMATCH,
            format!(
                "the map is not what its handle says: {}",
                problems.join("; ")
            ),
        )
        .map(map.described())
        .note(format!("the kernel has: {info}"))
        .help("make bindings from the object that was loaded, or open another map");
        Err(MapError::new(diagnostic))
    }
}

/// What a handle wants of a map whose values may have any size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnySize {
    /// Kinds of maps.
    pub(crate) types: &'static [u32],
    /// Bytes of a key.
    pub(crate) key: usize,
}

impl AnySize {
    /// Compares it with the map.
    pub(crate) fn check(&self, map: RawMap) -> Result<RawMap, MapError> {
        let value = usize::try_from(map.info().value_size).unwrap_or(usize::MAX);
        Wanted {
            types: self.types,
            key: self.key,
            value,
        }
        .check(map)
    }
}

/// The parts of a handle that are the same for all: a map, and types that it does not hold.
macro_rules! handle {
    ($name:ident $(<$($param:ident: $bound:ident),*>)?, $wanted:expr) => {
        impl$(<$($param: $bound),*>)? $crate::maps::MapHandle for $name$(<$($param),*>)? {
            fn from_map(map: $crate::maps::RawMap) -> Result<Self, $crate::maps::MapError> {
                Self::made($wanted.check(map)?)
            }

            fn map(&self) -> &$crate::maps::RawMap {
                &self.map
            }

            fn into_map(self) -> $crate::maps::RawMap {
                self.map
            }
        }

        impl$(<$($param),*>)? std::os::fd::AsFd for $name$(<$($param),*>)? {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(&self.map)
            }
        }

        impl$(<$($param),*>)? std::fmt::Debug for $name$(<$($param),*>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.map).finish()
            }
        }
    };
}

pub(crate) use handle;
