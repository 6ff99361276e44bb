//! Maps that bpfplan has loaded, in the hands of others: libbpf-rs, aya and bpftool. All work on
//! the same fixture, whose program runs for real.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected has to fail"
)]

mod aya;
mod bpftool;
#[path = "../support/fixtures.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests use more of it")]
mod fixtures;
mod libbpf_rs;
mod loads;
#[path = "../support/privilege.rs"]
mod privilege;
#[path = "../../examples/with_aya.rs"]
#[allow(unreachable_pub, reason = "it is a program of its own as well")]
mod with_aya;
#[path = "../../examples/with_libbpf_rs.rs"]
#[allow(unreachable_pub, reason = "it is a program of its own as well")]
mod with_libbpf_rs;

fn main() {
    let mut trials = libbpf_rs::trials();
    trials.extend(aya::trials());
    trials.extend(bpftool::trials());
    privilege::run(trials)
}
