//! Colour: on a terminal, and only there, and never against `NO_COLOR`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panic"
)]

mod support;

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::process::Command;

use libtest_mimic::{Arguments, Trial};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::{bpfplan, run};

const OBJECT: &str = "fixtures/obj/ringbuf_slots.bpf.o";
const REFUSED: &str = "fixtures/obj/bad_no_type.bpf.o";

fn main() {
    // A container may have no pseudo-terminals. In CI that is a failure.
    let missing = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).err();
    let missing = missing.filter(|_| std::env::var_os("CI").is_none());
    if let Some(why) = &missing {
        println!("skipped: there is no pseudo-terminal here ({why})");
    }
    let tests: [(&str, fn()); 4] = [
        ("a_terminal_gets_colour", a_terminal_gets_colour),
        ("no_color_is_obeyed", no_color_is_obeyed),
        ("a_dumb_terminal_gets_none", a_dumb_terminal_gets_none),
        ("a_terminal_gets_no_binary", a_terminal_gets_no_binary),
    ];
    let on_terminals = tests.map(|test| trial(test).with_ignored_flag(missing.is_some()));
    let mut trials = Vec::from(on_terminals);
    trials.push(trial(("a_pipe_gets_no_colour", a_pipe_gets_no_colour)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn trial((name, body): (&'static str, fn())) -> Trial {
    Trial::test(name, move || {
        body();
        Ok(())
    })
}

/// What the command writes to a terminal.
fn on_terminal(command: &mut Command) -> String {
    if command.get_envs().all(|(name, _)| name != "TERM") {
        command.env("TERM", "xterm");
    }
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    command.stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    // The last descriptors of the terminal's other side, so that reading comes to an end.
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut text = Vec::new();
    let mut part = [0; 4096];
    let mut master = File::from(master);
    // A terminal whose other side is closed reads as an error (EIO).
    while let Ok(length @ 1..) = master.read(&mut part) {
        text.extend_from_slice(&part[..length]);
    }
    child.wait().unwrap();
    String::from_utf8(text).unwrap()
}

fn a_terminal_gets_colour() {
    assert!(on_terminal(&mut bpfplan(["plan", OBJECT])).contains("\x1b[32m"));
    assert!(on_terminal(&mut bpfplan(["plan", REFUSED])).contains("\x1b["));
}

fn no_color_is_obeyed() {
    for file in [OBJECT, REFUSED] {
        let text = on_terminal(bpfplan(["plan", file]).env("NO_COLOR", "1"));
        assert!(!text.is_empty());
        assert!(!text.contains('\x1b'), "{text}");
    }
    // As no-color.org says, an empty variable does not count.
    let text = on_terminal(bpfplan(["plan", OBJECT]).env("NO_COLOR", ""));
    assert!(text.contains("\x1b["));
}

fn a_dumb_terminal_gets_none() {
    let text = on_terminal(bpfplan(["plan", OBJECT]).env("TERM", "dumb"));
    assert!(!text.is_empty() && !text.contains('\x1b'), "{text}");
}

fn a_terminal_gets_no_binary() {
    let mut command = bpfplan(["compile", OBJECT, "-o", "-"]);
    let text = on_terminal(&mut command);
    assert!(text.starts_with("error: "), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    let json = on_terminal(&mut bpfplan([
        "compile", OBJECT, "-o", "-", "--format", "json",
    ]));
    assert!(json.starts_with('{'), "{json}");
}

fn a_pipe_gets_no_colour() {
    for file in [OBJECT, REFUSED] {
        let output = run(["plan", file]);
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b));
    }
}
