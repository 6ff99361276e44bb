//! Executes a load plan of bpfplan against the running kernel.
//!
//! [`load()`] takes a [`bpfplan_plan::Plan`] and does exactly its steps, through the trait
//! [`Kernel`]: [`RealKernel`] asks the running kernel, [`RecordingKernel`] only writes down what
//! would be asked, [`FailingKernel`] lets one call fail. It is all or nothing: after an error no
//! pin and no descriptor of this load is left.
//!
//! ```no_run
//! use bpfplan_loader::{LoadOptions, RealKernel, load};
//!
//! let plan = bpfplan_plan::format::read(&std::fs::read("flow.plan")?)?;
//! let loaded = load(&plan, &RealKernel::new(), &LoadOptions { hold: true, ..LoadOptions::default() })?;
//! for map in &loaded.maps {
//!     println!("{} has id {}", map.name, map.id()?);
//! }
//! // The maps live as long as `loaded`.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A load that pins leaves a record of itself beside the pins ([`record`]); [`unload()`] removes
//! what the record names, by map id, and nothing else.
//!
//! Features, none of which is on by itself:
//!
//! - `programs`: libbpf loads the object's programs over the maps ([`Programs::Load`]);
//! - `link`: the module `link` makes one object of several;
//! - `libbpf-rs`, `aya`: the modules `libbpf_rs` and `aya` hand maps over to these crates.

#![deny(missing_docs)]
#![deny(unsafe_code)]

#[cfg(feature = "aya")]
pub mod aya;
pub mod bindings;
mod btf;
mod by_name;
mod chunks;
pub mod codes;
mod contents;
mod create;
mod error;
mod execute;
mod failing;
mod journal;
mod kconfig;
pub mod kernel;
#[cfg(feature = "libbpf-rs")]
pub mod libbpf_rs;
#[cfg(feature = "link")]
pub mod link;
mod loaded;
pub mod maps;
mod object_copy;
mod options;
mod outcome;
mod overlap;
mod pinning;
mod pins;
mod preflight;
mod program_load;
mod program_request;
mod program_rules;
mod programs;
mod progress;
pub mod record;
mod recording;
mod reused_programs;
mod reused_slots;
mod scarce;
mod slots;
mod sys;
mod together;
mod unload;
mod why;

pub use by_name::PIN_ROOT;
pub use error::{ErrorKind, LoadError};
pub use execute::{load, load_with};
pub use failing::{FailingFd, FailingKernel, Fault};
pub use kconfig::{ExternValue, KernelConfig, Origin, ResolvedExtern, kconfig_text};
pub use kernel::{BtfCache, Errno, Kernel, MapId, Pinned};
pub use loaded::{ClosedMap, Loaded, LoadedMap, LoadedProgram};
pub use options::{LoadOptions, ProgramOptions, Programs, SlotPolicy};
pub use progress::Progress;
pub use recording::{KernelFacts, PretendFd, RecordedAttributes, RecordedCall, RecordingKernel};
pub use slots::Way;
pub use slots::recall::Recall;
pub use sys::{Descriptor, RealKernel};
pub use unload::{Unloaded, unload};
pub use zerocopy;
