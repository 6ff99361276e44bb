//! The kernel's rules about maps: what it takes, since when, and why it refuses.
//!
//! One table ([`table`]) says what `BPF_MAP_CREATE` demands of each map type, one list of rules
//! ([`create`]) turns it into reasons. The same reasons serve before a call ([`lint()`]) and after
//! one that failed ([`explain()`]).

pub mod btf;
pub mod create;
pub mod errno;
pub mod explain;
pub mod flags;
pub mod inner;
pub(crate) mod layout;
pub mod lint;
pub mod memory;
pub(crate) mod metas;
pub mod needs;
pub mod programs;
pub mod required;
pub mod slots;
pub(crate) mod special;
pub mod table;
pub mod verifier;
pub mod version;

pub use btf::{btf_refusal, wants_btf};
pub use create::ring_buffer_size;
pub use errno::errno_name;
pub use explain::{Call, explain};
pub use inner::{InnerShape, SameEntries, misfit, same_entries};
pub use lint::lint;
pub use memory::{Target, memory};
pub use needs::needs;
pub use programs::ProgramNeeds;
pub use required::{entries_required, required};
pub use slots::{each_slot_error, slot_errors};
pub use special::SpecialFields;
pub use verifier::type_refusal;
pub use version::KernelVersion;
