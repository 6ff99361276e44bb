//! The rules of the plan crate against the running kernel: what they predict is what it answers.

#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets the unexpected has to fail"
)]

mod attributes;
mod kernel;
mod memory;
mod outer;
#[path = "../support/privilege.rs"]
mod privilege;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/release.rs"]
mod release;
mod shapes;
mod types;

use libtest_mimic::Trial;
use release::MEASURED;

fn main() {
    // Should the kernel run out of memory after all, these tests are to go first.
    std::fs::write("/proc/self/oom_score_adj", "1000").ok();
    let kernel = release::running();
    let trials = vec![
        Trial::test("attributes", move || attributes::agree(kernel)),
        Trial::test("btf", move || shapes::agree(kernel)),
        Trial::test("templates", move || outer::templates_agree(kernel)),
        Trial::test("slots", outer::slots_agree),
        Trial::test("memory", memory::agrees),
    ];
    // Older ones lack checks; newer ones should agree.
    if kernel < MEASURED {
        eprintln!("skipped: this is Linux {kernel}, the rules were measured on {MEASURED}");
        let trials = trials
            .into_iter()
            .map(|trial| trial.with_ignored_flag(true))
            .collect();
        libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit();
    }
    privilege::run(trials)
}
