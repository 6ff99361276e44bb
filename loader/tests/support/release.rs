//! Which kernel runs the tests, and what older ones lack.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use bpfplan_plan::rules::KernelVersion;
use libtest_mimic::{Failed, Trial};

/// The kernel that the expectations of the fixtures and the rules were measured on.
pub(crate) const MEASURED: KernelVersion = KernelVersion::new(6, 18);

/// The first kernel whose inner maps may have spin locks.
pub(crate) const LOCKED_TEMPLATES: KernelVersion = KernelVersion::new(6, 2);

/// The first kernel with storage at cgroups.
pub(crate) const CGROUP_STORAGE: KernelVersion = KernelVersion::new(6, 2);

/// The first kernel that takes `-` and `?` in the name of a DATASEC.
pub(crate) const SECTION_NAMES: KernelVersion = KernelVersion::new(6, 9);

/// The running kernel.
pub(crate) fn running() -> KernelVersion {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel release");
    KernelVersion::from_release(&release).expect("a kernel version")
}

/// As [`older`], with what is missing.
pub(crate) fn lacks(version: KernelVersion, what: &str) -> Option<String> {
    let running = running();
    (running < version).then(|| format!("Linux {running} has no {what}"))
}

/// Why a test cannot run before `version`, if this kernel is older.
pub(crate) fn older(version: KernelVersion) -> Option<String> {
    let running = running();
    (running < version).then(|| format!("this is Linux {running}, it needs {version}"))
}

/// A trial, or with a reason one that is ignored, whose name gives the reason.
///
/// An older kernel is no defect of the machine, so that this holds with `CI` set as well.
pub(crate) fn unless(
    skipped: Option<String>,
    name: &str,
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    match skipped {
        Some(why) => Trial::test(format!("{name}: skipped: {why}"), test).with_ignored_flag(true),
        None => Trial::test(name, test),
    }
}
