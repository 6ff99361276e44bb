//! Loads under bad conditions: signals, closed streams, few descriptors, no rights. Whatever
//! happens, a load is complete and has its record, or nothing of it is left.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panic"
)]

#[path = "support/kernel.rs"]
mod kernel;
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};

use kernel::Pins;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{bpfplan, code, run, run_with, stderr, stdout};
use tempfile::TempDir;

const OBJECT: &str = "fixtures/obj/device_tables.bpf.o";

/// Maps in a plan that talks more than a pipe holds, so that it waits until somebody reads on.
const MANY: usize = 400;

fn main() {
    kernel::run_tests(&[
        ("a_signal_undoes_a_load", a_signal_undoes_a_load),
        (
            "what_a_killed_load_leaves_can_be_unloaded",
            what_a_killed_load_leaves_can_be_unloaded,
        ),
        (
            "a_signal_at_any_moment_is_all_or_nothing",
            a_signal_at_any_moment_is_all_or_nothing,
        ),
        ("holding_needs_no_output", holding_needs_no_output),
        ("ignored_signals_stay_ignored", ignored_signals_stay_ignored),
        ("standard_streams_may_be_closed", closed_streams),
        (
            "few_descriptors_are_told_before_anything_is_made",
            few_descriptors,
        ),
        (
            "without_rights_the_capability_is_named",
            without_rights_the_capability_is_named,
        ),
    ]);
}

/// A plan with many maps of long names, and a file that holds it.
fn long_plan() -> (TempDir, String) {
    let output = run([
        "plan",
        "fixtures/obj/outer_several.bpf.o",
        "--format",
        "json",
    ]);
    let mut plan: Value = serde_json::from_str(stdout(&output)).unwrap();
    let maps = plan["maps"].as_array().unwrap();
    let map = maps.iter().find(|map| map["inner"].is_null()).unwrap();
    let maps: Vec<Value> = (0..MANY)
        .map(|index| {
            let mut map = map.clone();
            map["name"] = format!("m{index:0220}").into();
            map
        })
        .collect();
    plan["maps"] = maps.into();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("long.json");
    fs::write(&file, plan.to_string()).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (directory, path)
}

/// A load that tells its steps. Whoever started the tests may have them ignore signals, as `nohup`
/// does; this load does not.
fn talking(plan: &str, pins: &Pins) -> Child {
    Command::new("env")
        .args([
            "--default-signal=HUP,INT,TERM",
            env!("CARGO_BIN_EXE_bpfplan"),
        ])
        .args(["load", plan, "--pin-maps", pins.path(), "--verbose"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends the signal when the load has come to a step; gives how it ended and what it said last.
fn signal_at(plan: &str, pins: &Pins, step: &str, signal: Signal) -> (ExitStatus, String) {
    let mut child = talking(plan, pins);
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(step) {
        line.clear();
        assert!(talk.read_line(&mut line).unwrap() > 0, "it comes to {step}");
    }
    assert!(child.try_wait().unwrap().is_none(), "the pipe is too large");
    kill_process(Pid::from_child(&child), signal).unwrap();
    let mut rest = String::new();
    talk.read_to_string(&mut rest).unwrap();
    (child.wait().unwrap(), rest)
}

fn a_signal_undoes_a_load() {
    let (_file, plan) = long_plan();
    for (step, signal) in [
        ("create ", Signal::INT),
        ("create ", Signal::TERM),
        ("pin ", Signal::HUP),
        ("pin ", Signal::INT),
    ] {
        let pins = Pins::new();
        let (status, rest) = signal_at(&plan, &pins, step, signal);
        assert_eq!(status.signal(), Some(signal.as_raw()), "{step}: {status}");
        assert!(rest.contains("BP0611"), "{rest}");
        assert!(!pins.0.exists(), "{step}: nothing is left");
    }
}

fn what_a_killed_load_leaves_can_be_unloaded() {
    let (_file, plan) = long_plan();
    let pins = Pins::new();
    let (status, _) = signal_at(&plan, &pins, "pin ", Signal::KILL);
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
    let names = pins.names();
    assert!(names.contains(&"bpfplan_record".to_owned()), "{names:?}");
    assert!(names.len() <= MANY, "it was not done");
    let again = run(["load", &plan, "--pin-maps", pins.path()]);
    assert!(stderr(&again).contains("bpfplan unload"), "{again:?}");
    let unloaded = run(["unload", pins.path()]);
    assert_eq!(code(&unloaded), 0, "{unloaded:?}");
    assert!(!pins.0.exists());
}

fn a_signal_at_any_moment_is_all_or_nothing() {
    let (_file, plan) = long_plan();
    for moment in 0..20 {
        let pins = Pins::new();
        let mut child = talking(&plan, &pins);
        let mut talk = child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            talk.read_to_end(&mut text).unwrap();
        });
        std::thread::sleep(std::time::Duration::from_millis(7 * moment));
        // It may be over already.
        let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        let status = child.wait().unwrap();
        reader.join().unwrap();
        if status.success() {
            assert_eq!(pins.names().len(), MANY + 1);
            assert_eq!(code(&run(["unload", pins.path()])), 0);
        } else {
            assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
        }
        assert!(!pins.0.exists(), "moment {moment}, {status}");
    }
}

/// Whoever reads the output may have read enough, and still need the maps.
fn holding_needs_no_output() {
    let mut child = bpfplan(["load", OBJECT, "--hold"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut line = String::new();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    talk.read_line(&mut line).unwrap();
    assert!(line.starts_with("holding"), "{line:?}");
    assert!(child.try_wait().unwrap().is_none(), "it holds");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

/// `nohup` has the process ignore SIGHUP.
fn ignored_signals_stay_ignored() {
    let mut child = Command::new("/bin/sh")
        .args(["-c", "trap '' HUP; exec \"$0\" load \"$1\" --hold"])
        .arg(bpfplan([""; 0]).get_program())
        .arg(OBJECT)
        .current_dir(support::root())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    talk.read_line(&mut line).unwrap();
    assert!(line.starts_with("holding"), "{line:?}");
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(child.try_wait().unwrap().is_none(), "it holds");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Runs a line of shell; `$0` is the command.
fn shell(line: &str, arguments: &[&str]) -> std::process::Output {
    let command = bpfplan([""; 0]);
    Command::new("/bin/sh")
        .args(["-c", line])
        .arg(command.get_program())
        .args(arguments)
        .current_dir(support::root())
        .output()
        .unwrap()
}

fn closed_streams() {
    let pins = Pins::new();
    let line = "exec \"$0\" load \"$1\" --pin-maps \"$2\" <&- >&- 2>&-";
    let output = shell(line, &[OBJECT, pins.path()]);
    assert_eq!(code(&output), 0);
    assert_eq!(pins.names().len(), 4, "three maps and the record");
    assert_eq!(code(&run(["unload", pins.path()])), 0);
}

fn few_descriptors() {
    let (_file, plan) = long_plan();
    let pins = Pins::new();
    let line = "ulimit -n \"$3\"; exec \"$0\" load \"$1\" --pin-maps \"$2\"";
    let output = shell(line, &[&plan, pins.path(), "64"]);
    if code(&output) == 0 {
        // With CAP_SYS_RESOURCE the command raises the limit itself.
        assert_eq!(pins.names().len(), MANY + 1);
        return;
    }
    let text = stderr(&output);
    assert!(text.contains("BP0807"), "{text}");
    assert!(!pins.0.exists());
    // What it says helps, and less does not.
    let (_, limit) = text.split_once("ulimit -n ").unwrap();
    let limit: u32 = limit.split('`').next().unwrap().parse().unwrap();
    let output = shell(line, &[&plan, pins.path(), &limit.to_string()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

fn without_rights_the_capability_is_named() {
    let plan = run(["compile", OBJECT, "-o", "-"]).stdout;
    // The checkout may be out of a stranger's reach.
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("bpfplan");
    // A process of its own copies: a descriptor of ours, open for writing, would slip into what
    // other tests start meanwhile, and a file that somebody writes to cannot be executed.
    let copied = Command::new("cp")
        .arg(bpfplan([""; 0]).get_program())
        .arg(&copy)
        .status();
    assert!(copied.unwrap().success());
    for path in [place.path(), &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = 65534;
    let mut child = Command::new(&copy)
        .args(["load", "-", "--hold"])
        .current_dir("/")
        .uid(nobody)
        .gid(nobody)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&plan).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!(code(&output), 1, "{text}");
    for word in [
        "map 'uplinks'",
        "EPERM",
        "CAP_NET_ADMIN",
        "CAP_BPF",
        "kernel.unprivileged_bpf_disabled",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("MEMLOCK"), "that is for old kernels: {text}");
    let same = run_with(["load", "-", "--dry-run"], &plan);
    assert_eq!(code(&same), 0, "the plan is not to blame");
}
