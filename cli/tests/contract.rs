//! The command-line contract: exit status, streams, formats, input of every kind.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panic"
)]

mod support;

use std::fs;
use std::process::Stdio;

use serde_json::Value;
use support::{bpfplan, code, root, run, run_with, stderr, stdout};

const OBJECT: &str = "fixtures/obj/ringbuf_slots.bpf.o";
const REFUSED: &str = "fixtures/obj/bad_many_problems.bpf.o";
/// libbpf opens it, the kernel refuses it.
const REFUSED_AT_LOAD: &str = "fixtures/obj/bad_load_no_entries.bpf.o";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn read(path: &str) -> Vec<u8> {
    fs::read(root().join(path)).unwrap()
}

#[test]
fn wrong_usage_is_2() {
    for args in [
        &[][..],
        &["frob"],
        &["plan"],
        &["plan", "-", "-"],
        &["load", "-", OBJECT, "-", "--hold"],
        &["plan", OBJECT, "--format", "yaml"],
        &["plan", OBJECT, "--kernel", "new"],
        &["check"],
        &["check", OBJECT, "--max-memory", "lots"],
        &["compile", OBJECT],
        &["load"],
        &["load", OBJECT, "--pin-root", "/sys/fs/bpf"],
        &["schema", "everything"],
        &["slot"],
        &["slot", "list"],
        &["slot", "set", "/sys/fs/bpf/a", "1"],
        &[
            "slot",
            "set",
            "/sys/fs/bpf/a",
            "1",
            "--new",
            "--map",
            "/sys/fs/bpf/b",
        ],
        &[
            "slot",
            "set",
            "/sys/fs/bpf/a",
            "1",
            "--map",
            "/sys/fs/bpf/b",
            "--max-entries",
            "2",
        ],
        &[
            "slot",
            "set",
            "/sys/fs/bpf/a",
            "1",
            "--new",
            "--max-entries",
            "-1",
        ],
        &["slot", "clear", "/sys/fs/bpf/a"],
        &["man", "frob"],
        &["completions", "tcl"],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 2, "{args:?}");
        assert_eq!(stdout(&output), "", "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_load_that_keeps_nothing_is_wrong_usage() {
    let output = run(["load", OBJECT]);
    assert_eq!((code(&output), stdout(&output)), (2, ""));
    assert!(stderr(&output).contains("--pin-maps") && stderr(&output).contains("--hold"));
    let output = run(["load", OBJECT, "--format", "json"]);
    assert_eq!((code(&output), stderr(&output)), (2, ""));
    assert_eq!(json(stdout(&output))["diagnostics"][0]["severity"], "error");
    assert_eq!(code(&run(["load", OBJECT, "--dry-run"])), 0);
}

#[test]
fn a_plan_is_the_result_and_nothing_else_is() {
    let output = run(["plan", OBJECT]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert!(stdout(&output).contains("rings"));
}

#[test]
fn a_refusal_talks_on_standard_error() {
    for args in [
        &["plan", REFUSED][..],
        &["compile", REFUSED, "-o", "-"],
        &["load", REFUSED, "--dry-run"],
        &["check", REFUSED],
        &["check", "--format", "short", REFUSED],
    ] {
        let output = run(args);
        assert_eq!((code(&output), stdout(&output)), (1, ""), "{args:?}");
        for map in ["unknown_field", "no_type", "two_mistakes", "sized_values"] {
            assert!(
                stderr(&output).contains(map),
                "{args:?} does not name {map}"
            );
        }
    }
}

#[test]
fn a_refusal_in_json_is_a_document() {
    for args in [
        &["plan", "--format", "json", REFUSED][..],
        &["compile", "--format", "json", REFUSED, "-o", "-"],
        &["load", "--format", "json", REFUSED, "--dry-run"],
        &["check", "--format", "json", REFUSED],
    ] {
        let output = run(args);
        assert_eq!((code(&output), stderr(&output)), (1, ""), "{args:?}");
        let document = json(stdout(&output));
        let diagnostics = document["diagnostics"].as_array().unwrap();
        assert!(diagnostics.len() >= 4, "{args:?}");
        for diagnostic in diagnostics {
            assert_eq!(diagnostic["object"], REFUSED);
            assert!(diagnostic["code"].as_str().unwrap().starts_with("BP"));
        }
    }
}

#[test]
fn check_takes_each_file_by_itself() {
    let output = run(["check", OBJECT]);
    assert_eq!(
        (code(&output), stdout(&output), stderr(&output)),
        (0, "", "")
    );
    let output = run(["check", "--format", "json", OBJECT, REFUSED, OBJECT]);
    assert_eq!(code(&output), 1);
    let document = json(stdout(&output));
    assert!(
        document["diagnostics"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["object"] == REFUSED)
    );
    let output = run(["check", "--format", "json", OBJECT]);
    assert_eq!(code(&output), 0);
    assert_eq!(
        json(stdout(&output)),
        serde_json::json!({"diagnostics": []})
    );
}

#[test]
fn check_formats_have_one_line_per_diagnostic() {
    let count = json(stdout(&run(["check", "--format", "json", REFUSED])))["diagnostics"]
        .as_array()
        .unwrap()
        .len();
    let short = run(["check", "--format", "short", REFUSED]);
    assert_eq!(stderr(&short).lines().count(), count);
    let github = run(["check", "--format", "github", REFUSED]);
    assert_eq!((code(&github), stderr(&github)), (1, ""));
    assert_eq!(stdout(&github).lines().count(), count);
    for line in stdout(&github).lines() {
        assert!(
            line.starts_with("::error file=fixtures/bad_many_problems.bpf.c,line="),
            "{line}"
        );
    }
}

#[test]
fn what_the_kernel_refuses_fails_a_check_and_not_a_plan() {
    let plan = run(["plan", REFUSED_AT_LOAD]);
    assert_eq!(code(&plan), 0);
    assert!(stderr(&plan).starts_with("warning["), "{}", stderr(&plan));
    let check = run(["check", REFUSED_AT_LOAD]);
    assert_eq!(code(&check), 1);
    assert!(stderr(&check).starts_with("error["), "{}", stderr(&check));
}

#[test]
fn an_old_kernel_is_checked_for() {
    let check = |versions: &[&str]| {
        let kernels = versions.iter().flat_map(|version| ["--kernel", version]);
        code(&run(["check", OBJECT].into_iter().chain(kernels)))
    };
    assert_eq!(check(&["6.18"]), 0);
    assert_eq!(check(&["4.9"]), 1, "ring buffers came with 5.8");
    assert_eq!(check(&["6.18", "4.9"]), 1);
    let plan = run(["plan", OBJECT, "--kernel", "4.9"]);
    assert_eq!(code(&plan), 0);
    assert!(stderr(&plan).starts_with("warning["), "{}", stderr(&plan));
}

#[test]
fn memory_is_limited_on_request() {
    assert_eq!(code(&run(["check", OBJECT, "--max-memory", "10M"])), 0);
    let output = run(["check", OBJECT, "--max-memory", "1Ki"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("--max-memory"));
}

#[test]
fn standard_input_is_read() {
    let from_file = run(["plan", "--format", "json", OBJECT]);
    let from_stdin = run_with(["plan", "--format", "json", "-"], &read(OBJECT));
    assert_eq!(code(&from_stdin), 0);
    let (mut file, mut stdin) = (json(stdout(&from_file)), json(stdout(&from_stdin)));
    assert_eq!(file["object"]["name"].take(), "ringbuf_slots.bpf.o");
    assert_eq!(stdin["object"]["name"].take(), "stdin");
    assert_eq!(file, stdin);
}

#[test]
fn a_written_plan_reads_like_its_object() {
    let directory = tempfile::tempdir().unwrap();
    for format in ["binary", "json"] {
        let file = directory.path().join(format).to_str().unwrap().to_owned();
        let output = run(["compile", OBJECT, "-o", &file, "--format", format]);
        assert_eq!(
            (code(&output), stdout(&output), stderr(&output)),
            (0, "", "")
        );
        for output in ["text", "json", "dot", "mermaid"] {
            let of_object = run(["plan", OBJECT, "--format", output]);
            let of_plan = run(["plan", &file, "--format", output]);
            assert_eq!(
                stdout(&of_plan),
                stdout(&of_object),
                "{format} plan as {output}"
            );
        }
        let dry = run(["load", "--dry-run", &file]);
        assert_eq!(stdout(&dry), stdout(&run(["load", "--dry-run", OBJECT])));
        let again = run(["compile", &file, "-o", "-"]);
        assert_eq!(
            (code(&again), stdout(&again)),
            (1, ""),
            "a plan is not compiled again"
        );
    }
}

#[test]
fn compile_leaves_nothing_half_done() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("old.plan");
    fs::write(&file, "old").unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(code(&run(["compile", REFUSED, "-o", path])), 1);
    assert_eq!(fs::read(&file).unwrap(), b"old");
    assert_eq!(code(&run(["compile", OBJECT, "-o", path])), 0);
    assert!(fs::read(&file).unwrap().starts_with(b"bpfplan\0"));

    let missing = directory.path().join("no/such/file");
    let output = run(["compile", OBJECT, "-o", missing.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("no/such/file"));
    assert!(
        !stderr(&output).contains(".bpfplan-"),
        "the temporary file means nothing to a reader"
    );
    let output = run(["compile", OBJECT, "-o", directory.path().to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert_eq!(
        directory.path().read_dir().unwrap().count(),
        1,
        "only the plan is there"
    );
}

#[test]
fn compile_writes_through_a_link_and_to_a_device() {
    let directory = tempfile::tempdir().unwrap();
    let (target, link) = (
        directory.path().join("target"),
        directory.path().join("link"),
    );
    fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert_eq!(
        code(&run(["compile", OBJECT, "-o", link.to_str().unwrap()])),
        0
    );
    assert!(link.is_symlink());
    assert!(fs::read(&target).unwrap().starts_with(b"bpfplan\0"));
    assert_eq!(code(&run(["compile", OBJECT, "-o", "/dev/null"])), 0);
    assert!(!std::path::Path::new("/dev/null").is_file());
}

#[test]
fn bad_input_is_one_diagnostic() {
    let directory = tempfile::tempdir().unwrap();
    let object = read(OBJECT);
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let here = directory.path().to_str().unwrap().to_owned();
    for path in [
        format!("{here}/missing"),
        here.clone(),
        "/dev/zero".to_owned(),
        file("empty", b""),
        file("text", b"This is not an object.\n"),
        file("half", &object[..object.len() / 2]),
        file("header", &object[..20]),
        file("open_brace", b"{"),
        file("other_json", b"{\"version\": 1}"),
        file("newer", b"{\"version\": 999999}"),
        file(
            "deep",
            &[b"{\"version\":1,\"a\":".as_slice(), &[b'['; 100_000]].concat(),
        ),
        file("binary", b"bpfplan\0\x01\0\0\0"),
        file("binary_version", b"bpfplan\0\xff\xff\xff\xff"),
        file("name\x1b[2J\n", b"x"),
    ] {
        for command in ["plan", "check", "load"] {
            let output = run([command, path.as_str()]);
            assert_eq!(
                (code(&output), stdout(&output)),
                (1, ""),
                "{command} {path:?}"
            );
            let text = stderr(&output);
            assert_eq!(
                text.matches("error[BP").count(),
                1,
                "{command} {path:?}: {text}"
            );
            assert!(
                !text.contains('\x1b') && !text.contains("panicked"),
                "{text}"
            );
        }
    }
    let output = run_with(["plan", "-"], b"");
    assert_eq!(code(&output), 1);
}

#[test]
fn hostile_names_reach_no_terminal() {
    let mut plan = json(stdout(&run(["plan", "--format", "json", OBJECT])));
    let evil = "x\u{1b}]0;owned\u{7}\u{202e}\n::error::\"]; y";
    plan["object"]["name"] = evil.into();
    for map in plan["maps"].as_array_mut().unwrap() {
        if map["name"] == "ring_a" {
            map["name"] = evil.into();
        }
        for slot in map["slots"].as_array_mut().unwrap() {
            if slot["map"] == "ring_a" {
                slot["map"] = evil.into();
            }
        }
    }
    let plan = plan.to_string();
    for args in [
        &["plan", "-"][..],
        &["plan", "-", "--format", "dot"],
        &["plan", "-", "--format", "mermaid"],
        &["check", "-"],
        &["check", "-", "--format", "short"],
        &["check", "-", "--format", "github"],
        &["load", "-", "--dry-run"],
    ] {
        let output = run_with(args, plan.as_bytes());
        for text in [stdout(&output), stderr(&output)] {
            let harmless = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
            assert!(text.chars().all(harmless), "{args:?}: {text:?}");
            assert!(
                !text.lines().any(|line| line.starts_with("::error::\"")),
                "{args:?}: {text}"
            );
        }
    }
}

#[test]
fn long_names_do_not_make_wide_rows() {
    let mut plan = json(stdout(&run(["plan", "--format", "json", OBJECT])));
    let long = "a_name_that_is_longer_than_any_column_should_ever_become";
    plan["maps"][2]["name"] = long.into();
    let text = run_with(["plan", "-"], plan.to_string().as_bytes());
    let row: Vec<&str> = stdout(&text)
        .lines()
        .skip_while(|line| !line.contains(&format!("create   {long}")))
        .take(2)
        .collect();
    let [name, facts] = row[..] else {
        panic!("no row of {long}");
    };
    assert!(name.ends_with(long), "{name}");
    assert!(facts.contains("  array_of_maps  "), "{facts}");
    assert!(facts.chars().count() < 100, "{facts}");
}

#[test]
fn a_broken_pipe_is_quiet() {
    for args in [
        &["plan", "-"][..],
        &["plan", "-", "--format", "json"],
        &["compile", "-", "-o", "-"],
    ] {
        let mut child = bpfplan(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &read(OBJECT)).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), stderr(&output)), (0, ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_not() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = bpfplan(["plan", OBJECT]).stdout(full).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("cannot be written"));
}

#[test]
fn help_teaches() {
    let output = run(["--help"]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    for command in [
        "plan",
        "check",
        "compile",
        "load",
        "unload",
        "slot",
        "schema",
        "completions",
        "man",
    ] {
        assert!(
            stdout(&output).contains(&format!("\n  {command} ")),
            "{command}"
        );
        let help = run([command, "--help"]);
        assert_eq!(code(&help), 0);
    }
    for command in ["plan", "check", "compile", "load", "unload", "slot"] {
        assert!(
            stdout(&run([command, "--help"])).contains("Example"),
            "{command}"
        );
    }
}

#[test]
fn completions_and_pages_come_from_the_same_definitions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("pin-maps"), "{shell}");
    }
    assert!(stdout(&run(["man"])).contains(".TH BPFPLAN 1"));
    let page = run(["man", "load"]);
    let page = stdout(&page);
    assert!(page.contains("\\-\\-pin\\-maps"));
    assert!(page.contains(".SH SYNOPSIS\n.nf\n\\&bpfplan load [OPTIONS]"));
    assert!(page.contains(".SH EXAMPLES\n.nf\n\\&bpfplan load "));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("man1");
    assert_eq!(code(&run(["man", "--out", path.to_str().unwrap()])), 0);
    let mut pages: Vec<String> = path
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    assert_eq!(pages.len(), 13, "{pages:?}");
    assert!(pages.contains(&"bpfplan-slot-set.1".to_owned()));
    let page = run(["man", "slot-set"]);
    assert!(stdout(&page).contains("\\&bpfplan slot set [OPTIONS]"));
    assert_eq!(pages[0], "bpfplan-check.1");
}
