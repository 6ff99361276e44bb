//! What modules that `bpfplan bindings` and the build API generate are made with.
//!
//! [`OpenPlan`], [`OpenMap`] and [`LoadedPlan`] are the life cycle of an embedded plan, [`Section`]
//! is a handle of global data; [`Bool`], [`Ptr`] and the functions here stand for what types of C
//! have and Rust has not. All of it can be used by hand, but is made for generated code.

mod bits;
mod bytes;
mod open;
mod scalars;
mod section;

pub use bits::{Bits, read_bits, write_bits};
pub use bytes::{read, write};
pub use open::{LoadedPlan, OpenMap, OpenPlan, Program, Report};
pub use scalars::{Bool, Ptr};
pub use section::Section;

/// Version of the plans that this loader reads ([`bpfplan_plan::format::VERSION`]). Generated modules
/// compare it with that of their plan when they are compiled.
pub const PLAN_VERSION: u32 = bpfplan_plan::format::VERSION;
