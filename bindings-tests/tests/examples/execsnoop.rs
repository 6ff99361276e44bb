//! `examples/execsnoop`: ring buffers in slots, read from user space.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::project::{Project, root};

pub(crate) fn shows_programs_of_all_cpus() {
    let project = Project::new("execsnoop", "execsnoop");
    assert_shows(&project);
}

pub(crate) fn makes_rings_that_are_not_declared() {
    let project = Project::new("execsnoop", "execsnoop-one-ring");
    let source = "src/bpf/execsnoop.bpf.c";
    project.edit(source, "[0] = &ring_0, [1] = &ring_1", "[0] = &ring_0");
    project.edit(source, ", ring_1 SEC(\".maps\")", "");
    assert_shows(&project);
}

/// Starts programs on every CPU, and expects to see each of them with its CPU and its id.
fn assert_shows(project: &Project) {
    let snoop = Snoop::start(project.program());
    let programs = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..3 {
        for cpu in cpus() {
            let name = format!("bpfplan-{cpu}-{round}");
            let path = programs.path().join(&name);
            symlink("/bin/true", &path).unwrap();
            let mut child = Command::new("taskset")
                .args(["-c", &cpu.to_string()])
                .arg(&path)
                .spawn()
                .unwrap();
            expected.push(format!("{cpu:3}  {:7}  {name}", child.id()));
            assert!(child.wait().unwrap().success());
        }
    }
    while !expected.is_empty() {
        let line = snoop.line();
        assert!(is_event(&line), "{line}");
        expected.retain(|expected| *expected != line);
    }
}

pub(crate) fn ends_after_as_many_events_as_asked_for() {
    let mut program = Project::new("execsnoop", "execsnoop").program();
    program.arg("5");
    let mut snoop = Snoop::start(program);
    let mut shown = 0;
    let last = loop {
        Command::new("/bin/true").status().unwrap();
        let line = snoop.line();
        if !is_event(&line) {
            break line;
        }
        shown += 1;
    };
    assert!(shown >= 5, "{shown}");
    assert_eq!(last, format!("{shown} shown, 0 lost"));
    assert!(snoop.child.wait().unwrap().success());
}

/// The program while it runs; it does not outlive the test.
struct Snoop {
    child: Child,
    lines: Receiver<String>,
}

impl Snoop {
    fn start(mut program: Command) -> Self {
        let mut child = program.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines() {
                let _ = sender.send(line.unwrap());
            }
        });
        let this = Self { child, lines };
        let first = this.line();
        assert!(is_head(&first), "{first}");
        this
    }

    /// The next line; a test that waits for one that never comes fails.
    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(60)).unwrap()
    }
}

impl Drop for Snoop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPUs on which this process may run.
fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect()
}

fn is_head(line: &str) -> bool {
    let rings = line.strip_prefix("CPU      PID  COMMAND  (");
    rings.is_some_and(|rings| rings.ends_with(" rings)"))
}

fn is_event(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let numbers = words
        .by_ref()
        .take(2)
        .all(|word| word.parse::<u32>().is_ok());
    numbers && line.get(14..).is_some_and(|command| !command.is_empty())
}

pub(crate) fn is_built_again_if_a_header_changes() {
    let project = Project::new("execsnoop", "execsnoop-header");
    assert!(project.build().1);
    let (said, _) = project.build();
    assert!(!said.contains("Compiling execsnoop"), "{said}");
    let header = "src/bpf/execsnoop.h";
    project.edit(header, "char command[16];", "char name[16];");
    let (said, built) = project.build();
    assert!(
        !built && said.contains("no member named 'command'"),
        "{said}"
    );
}

pub(crate) fn a_bad_declaration_is_an_error() {
    let project = Project::new("execsnoop", "execsnoop-bad");
    project.edit("src/bpf/execsnoop.bpf.c", "[1] = &ring_1", "[7] = &ring_1");
    let (said, built) = project.build();
    assert!(!built, "{said}");
    for line in shown("error: execsnoop@0.1.0: ") {
        assert!(said.contains(&line), "{line}\n{said}");
    }
}

pub(crate) fn clang_is_heard() {
    let project = Project::new("execsnoop", "execsnoop-clang");
    project.edit("src/bpf/execsnoop.bpf.c", "event->cpu", "event->cqu");
    let (said, built) = project.build();
    assert!(!built, "{said}");
    for line in [
        "no member named 'cqu' in 'struct event'",
        "error: execsnoop@0.1.0: [BP1004] ",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

/// Lines of the README that begin so.
fn shown(beginning: &str) -> Vec<String> {
    let lines = readme().lines().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = lines
        .into_iter()
        .filter(|line| line.starts_with(beginning))
        .collect();
    assert!(!lines.is_empty(), "the README shows no {beginning}");
    lines
}

/// What the README shows looks like what is printed.
pub(crate) fn the_readme_shows_what_is_printed() {
    let readme = readme();
    let mut lines = readme.lines().skip_while(|line| !is_head(line)).skip(1);
    let events = lines.by_ref().take_while(|line| is_event(line)).count();
    let printed: Vec<&str> = readme.lines().skip_while(|line| !is_head(line)).collect();
    assert!(
        events > 0 && printed[events + 1] == format!("{events} shown, 0 lost"),
        "{printed:?}"
    );
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}
