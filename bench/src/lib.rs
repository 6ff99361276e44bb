//! What measured programs and benches share: a clock, bpfplan's way and those of its peers.
//!
//! The program `bpfplan-bench` has the command line that a measuring harness wants, `bpfplan-peer`
//! the same for other loaders; `bpfplan-results` runs them all (`cargo xtask bench`), and
//! `bpfplan-count` is what callgrind counts (`cargo xtask instructions`). The benches
//! (`cargo bench -p bpfplan-bench`) time the parts and print ratios to libbpf.

#![deny(missing_docs)]
#![deny(unsafe_code)]

#[cfg(feature = "peers")]
pub mod aya;
pub mod clock;
pub mod libbpf;
pub mod ours;
pub mod program;
pub mod rounds;
#[cfg(feature = "peers")]
pub mod with_libbpf_rs;
