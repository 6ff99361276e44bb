//! An embedded plan is loaded without a look at the file system, except for what the plan says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panic")]

use std::env;
use std::process::Command;

use bpfplan_bindings_tests as fixtures;
use bpfplan_loader::LoadOptions;
use libtest_mimic::{Arguments, Trial};

/// Names a load in the process that is traced.
const LOAD: &str = "BPFPLAN_TEST_LOAD";
/// What stands around the load in the trace.
const MARK: &str = "bpfplan-test: load\n";

fn main() {
    if let Some(name) = env::var_os(LOAD) {
        eprint!("{MARK}");
        load(name.to_str().unwrap());
        eprint!("{MARK}");
        return;
    }
    let arguments = Arguments::from_args();
    let missing = missing();
    if let Some(why) = missing {
        println!("skipped: {why}");
    }
    assert!(
        missing.is_none() || env::var_os("CI").is_none(),
        "CI must trace: {missing:?}"
    );
    // Files that a load may look at.
    let kconfig: &[&str] = &[
        "/proc/version_signature",
        "/boot/config-",
        "/proc/config.gz",
    ];
    let cpus: &[&str] = &["/sys/devices/system/cpu/possible"];
    let trials = [
        ("maps_of_maps", &[][..]),
        ("global_data", &[]),
        ("possible_cpus", cpus),
        ("kconfig", kconfig),
    ];
    let trials = trials.map(|(name, allowed)| {
        Trial::test(format!("files_of_{name}"), move || {
            let files = trace(name);
            for file in &files {
                let known = allowed
                    .iter()
                    .any(|path| file.contains(&format!("\"{path}")));
                assert!(known, "{file}");
            }
            // Else the test would not see what it looks for.
            assert_eq!(files.is_empty(), allowed.is_empty(), "{files:?}");
            Ok(())
        })
        .with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can load");
    }
    let strace = Command::new("strace").arg("--version").output();
    strace.is_err().then_some("there is no strace")
}

fn load(name: &str) {
    let options = LoadOptions::default();
    match name {
        "maps_of_maps" => {
            let open = fixtures::ringbuf_slots::RingbufSlots::open().unwrap();
            let maps = open.load(&options).unwrap().maps;
            let ring = maps.rings.template().unwrap().create().unwrap();
            maps.rings.insert(&0, &ring).unwrap();
        }
        "global_data" => {
            let mut open = fixtures::data_values::DataValues::open().unwrap();
            open.rodata.tiny = 7;
            let maps = open.load(&options).unwrap().maps;
            assert_eq!(maps.rodata.get().unwrap().tiny, 7);
        }
        "possible_cpus" => {
            let open = fixtures::types_fd_arrays::TypesFdArrays::open().unwrap();
            open.load(&options).unwrap();
        }
        "kconfig" => {
            let open = fixtures::data_kconfig::DataKconfig::open().unwrap();
            open.load(&options).unwrap();
        }
        _ => panic!("{name}"),
    }
}

/// The calls with names of files that a process makes while it loads.
fn trace(name: &str) -> Vec<String> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("strace")
        .args(["-f", "-e", "trace=%file,write", "-o"])
        .arg(log.path())
        .arg(env::current_exe().unwrap())
        .env(LOAD, name)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let log = std::fs::read_to_string(log.path()).unwrap();
    let mark = format!("{MARK:?}");
    let parts: Vec<Vec<&str>> = log
        .lines()
        .collect::<Vec<_>>()
        .split(|line| line.contains(&mark))
        .map(<[&str]>::to_vec)
        .collect();
    let [_, load, _] = &parts[..] else {
        panic!("{log}");
    };
    // Calls about a descriptor have an empty name.
    let calls = load
        .iter()
        .filter(|line| !line.contains("write(") && !line.contains(", \"\", "));
    calls.map(|line| (*line).to_owned()).collect()
}
