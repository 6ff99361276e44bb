//! The load plan of bpfplan: what a compiled BPF object declares, as data.
//!
//! A [`Plan`] is declarative. It names the object, the BTF that the maps need and the maps in
//! libbpf's order; what has to be *done* is derived from it by [`Plan::steps`], and the renderer
//! prints exactly the steps that the loader executes.
//!
//! This crate knows neither ELF nor system calls. The compiler (`bpfplan-compiler`) makes plans,
//! the loader (`bpfplan-loader`) executes them, and both share this data model, its file format
//! ([`mod@format`]), its validation ([`validate`]) and the kernel's rules about map attributes
//! ([`rules`]).

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod btf;
pub mod c_type;
pub mod codes;
pub mod compare;
pub mod contents;
pub mod diagnostic;
pub mod format;
pub mod globals;
pub mod model;
pub mod number;
pub mod overrides;
mod plain;
pub mod rules;
pub mod steps;
mod trim;
pub mod types;
#[allow(missing_docs)]
pub mod uapi;
pub mod validate;

pub use ::bytes::Bytes;
pub use diagnostic::{Code, Diagnostic, Label, Severity};
pub use model::{
    BtfIds, Contents, Data, Endianness, Extern, ExternKind, Map, MapType, MaxEntries, Object,
    Pinning, Plan, Program, Slot, SlotTarget, Source, Template, WithPrograms,
};
pub use plain::plain;
pub use steps::Step;
pub use types::{Type, TypeId};
