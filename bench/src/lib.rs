//! What the bench program and the benches share: a clock, bpfplan's way and libbpf's.
//!
//! The program `bpfplan-bench` has the command line that a measuring harness wants; the benches
//! (`cargo bench -p bpfplan-bench`) time the parts and print ratios to libbpf.

#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod clock;
pub mod libbpf;
pub mod ours;
