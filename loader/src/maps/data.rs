//! What keys and values are.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A type whose values are plain bytes, so that the kernel can read and write them: no padding,
/// no invalid bit patterns, no pointers of Rust.
///
/// It comes by itself for everything that derives [`FromBytes`], [`IntoBytes`], [`Immutable`] and
/// [`KnownLayout`]: integers, arrays of them, and structs of `#[repr(C)]` without padding.
///
/// ```
/// use bpfplan_loader::maps::MapData;
/// use bpfplan_loader::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// struct Key {
///     address: [u8; 4],
///     port: u16,
///     padding: [u8; 2],
/// }
///
/// fn fits<T: MapData>() {}
/// fits::<Key>();
/// fits::<[u64; 8]>();
/// ```
pub trait MapData: FromBytes + IntoBytes + Immutable + KnownLayout {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout> MapData for T {}
