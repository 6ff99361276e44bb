//! What tests against the running kernel have in common.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use libtest_mimic::{Arguments, Trial};

use crate::support::run;

const BPFFS: &str = "/sys/fs/bpf";

/// Runs tests that need root, BPF and a bpffs; elsewhere they are ignored, except in CI.
pub(crate) fn run_tests(tests: &[(&str, fn())]) -> ! {
    let arguments = Arguments::from_args();
    let missing = missing();
    if let Some(why) = &missing {
        println!("skipped: {why}");
    }
    let ignored = missing.is_some();
    assert!(
        !ignored || std::env::var_os("CI").is_none(),
        "CI must be able to load: {missing:?}"
    );
    let trials = tests.iter().map(|(name, body)| {
        let body = *body;
        Trial::test(*name, move || {
            body();
            Ok(())
        })
        .with_ignored_flag(ignored)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// Why this machine cannot load.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can load".to_owned());
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let bpffs = mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(BPFFS));
    (!bpffs).then(|| format!("no bpffs is mounted on {BPFFS}"))
}

/// A pin directory of this test's own, unloaded in the end whatever happens.
pub(crate) struct Pins(pub(crate) PathBuf);

impl Pins {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Path::new(BPFFS).join(format!("bpfplan-cli-test-{}-{n}", std::process::id())))
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    #[allow(dead_code, reason = "each test binary uses its part")]
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .0
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.0.exists() {
            let _ = run(["unload", self.path()]);
        }
    }
}
