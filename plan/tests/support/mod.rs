//! Plans for tests: one that is valid and has a bit of everything, and arbitrary ones.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

pub mod sample;
pub mod strategy;
