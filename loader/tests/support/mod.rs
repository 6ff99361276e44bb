//! What the integration tests share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test that meets the unexpected has to fail"
)]

pub mod btf_compare;
pub mod fixtures;
pub mod kernel_view;
pub mod libbpf;
pub mod privilege;
pub mod release;
