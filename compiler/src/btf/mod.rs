//! BTF: from the bytes of `.BTF` to the types that the maps reach.
//!
//! [`raw`] checks the section as libbpf does, [`trim`] copies what the maps reach into a small
//! blob, [`view`] decodes that with btf-rs, and [`cycles`] refuses what nothing could resolve.

pub(crate) mod cycles;
pub(crate) mod ext;
pub(crate) mod raw;
pub(crate) mod reach;
pub(crate) mod shape;
pub(crate) mod trim;
pub(crate) mod view;
