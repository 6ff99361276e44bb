//! The modules that bpfplan generates for its fixtures, as strict crates compile them.

#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub)]
#![deny(clippy::all)]
#![forbid(unsafe_code)]

include!(concat!(env!("OUT_DIR"), "/modules.rs"));
