//! Programs mode of `load`: needs root, BPF and a bpffs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panic"
)]

#[path = "support/kernel.rs"]
mod kernel;
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Output, Stdio};

use kernel::Pins;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{bpfplan, code, root, run, run_with, stderr, stdout};

const OBJECT: &str = "fixtures/obj/programs_several.bpf.o";
const REFUSED: &str = "fixtures/obj/programs_verifier.bpf.o";

fn main() {
    kernel::run_tests(&[
        ("an_object_loads_whole", an_object_loads_whole),
        ("a_plan_needs_its_object", a_plan_needs_its_object),
        ("several_objects_load_linked", several_objects_load_linked),
        ("usage", usage),
        ("maps_that_nobody_would_hold", maps_that_nobody_would_hold),
        ("a_refused_program_comes_with_its_log", a_refused_program),
        ("a_dry_run_shows_the_calls", a_dry_run_shows_the_calls),
        ("verbose_says_each_step", verbose_says_each_step),
        ("holding_ends_with_a_signal", holding_ends_with_a_signal),
    ]);
}

fn json(output: &Output) -> Value {
    let document: Value = serde_json::from_str(stdout(output)).unwrap();
    let of = if code(output) == 0 {
        "load"
    } else {
        "diagnostics"
    };
    let schema = run(["schema", of]);
    let schema: Value = serde_json::from_str(stdout(&schema)).unwrap();
    assert!(jsonschema::is_valid(&schema, &document), "{document:#}");
    document
}

fn an_object_loads_whole() {
    let [maps, programs] = [Pins::new(), Pins::new()];
    let arguments = [
        "load",
        OBJECT,
        "--pin-maps",
        maps.path(),
        "--pin-progs",
        programs.path(),
    ];
    let output = run(arguments.iter().chain(&["--format", "json"]));
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    let document = json(&output);
    let loaded = document["programs"].as_array().unwrap();
    let names: Vec<&str> = loaded
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["first", "second", "enter", "classify"]);
    for program in loaded {
        assert!(program["id"].as_u64().unwrap() > 0);
        let pin = programs.0.join(program["name"].as_str().unwrap());
        assert_eq!(program["pinned"], pin.to_str().unwrap());
        assert!(pin.exists());
    }
    assert_eq!(document["maps"][0]["name"], "jumps");
    assert_eq!(document["maps"][0]["filled"], 2);
    assert_eq!(document["warnings"][0]["code"], "BP0814");

    for pins in [&maps, &programs] {
        let output = run(["unload", pins.path()]);
        assert_eq!((code(&output), stderr(&output)), (0, ""));
        assert!(!pins.0.exists());
    }

    let output = run(arguments);
    assert_eq!(code(&output), 0);
    let text = stdout(&output);
    let enter = text.lines().find(|line| line.contains("  enter ")).unwrap();
    assert!(
        enter.contains("program") && enter.ends_with("/enter"),
        "{text}"
    );
    let last = format!(
        "5 maps created, 2 slots filled, 4 programs loaded; `bpfplan unload {}` and \
         `bpfplan unload {}` remove the pins.\n",
        maps.path(),
        programs.path()
    );
    assert!(text.ends_with(&last), "{text}");
}

fn a_plan_needs_its_object() {
    let pins = Pins::new();
    for format in ["binary", "json"] {
        let plan = run(["compile", OBJECT, "-o", "-", "--format", format]);
        let load = |more: &[&str]| {
            let arguments = [
                "load",
                "-",
                "--pin-maps",
                pins.path(),
                "--pin-progs",
                pins.path(),
            ];
            run_with(arguments.iter().chain(more), &plan.stdout)
        };
        let output = load(&[]);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(stderr(&output).contains("--object FILE"));
        let output = load(&["--object", REFUSED]);
        assert_eq!(code(&output), 1);
        let said = stderr(&output);
        assert!(said.contains("BP0811"), "{said}");
        assert_eq!(said.matches("SHA-256").count(), 2, "{said}");
        for missing in ["/nowhere", "fixtures"] {
            let output = load(&["--object", missing]);
            assert_eq!(code(&output), 1, "{}", stderr(&output));
        }
        assert!(!pins.0.exists());
        let output = load(&["--object", OBJECT]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(pins.0.join("enter").exists());
        assert_eq!(code(&run(["unload", pins.path()])), 0);
    }
    // A plan that does not know its object could get another one's programs.
    let plan = run(["plan", OBJECT, "--format", "json"]);
    let arguments = ["load", "-", "--pin-progs", pins.path(), "--object", OBJECT];
    let mut plan: Value = serde_json::from_str(stdout(&plan)).unwrap();
    plan["object"]["sha256"] = Value::Null;
    let output = run_with(arguments, plan.to_string().as_bytes());
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("BP0923"), "{}", stderr(&output));
    assert!(!pins.0.exists());
}

/// The programs of the linked object are those that libbpf's linker wrote.
fn several_objects_load_linked() {
    let pins = Pins::new();
    let output = run([
        "load",
        "fixtures/obj/link_table.bpf.o",
        "fixtures/obj/link_user.bpf.o",
        "--pin-maps",
        pins.path(),
        "--pin-progs",
        pins.path(),
        "--format",
        "json",
    ]);
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    assert!(!json(&output)["programs"].as_array().unwrap().is_empty());
    assert_eq!(code(&run(["unload", pins.path()])), 0);

    // And with a plan that was made from both.
    let [table, user] = [
        "fixtures/obj/link_table.bpf.o",
        "fixtures/obj/link_user.bpf.o",
    ];
    let plan = run(["compile", table, user, "-o", "-"]);
    let load = |objects: [&str; 2]| {
        let [first, second] = objects;
        let both = ["--pin-maps", pins.path(), "--pin-progs", pins.path()];
        let objects = ["--object", first, "--object", second];
        let arguments = ["load", "-"];
        run_with(arguments.iter().chain(&both).chain(&objects), &plan.stdout)
    };
    let output = load([user, table]);
    assert_eq!(code(&output), 1, "the order matters");
    assert!(stderr(&output).contains("BP0811"), "{}", stderr(&output));
    let output = load([table, user]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

fn usage() {
    let pins = Pins::new();
    for wrong in [
        &["--pin-progs", pins.path(), "--no-programs"][..],
        &["--object", OBJECT],
        &["--object", OBJECT, "--pin-progs", pins.path()],
    ] {
        let output = run(["load", OBJECT, "--hold"].iter().chain(wrong));
        assert_eq!(code(&output), 2, "{wrong:?}: {}", stderr(&output));
    }
    // It would be read for nothing, and not compared with the plan.
    let plan = run(["compile", OBJECT, "-o", "-"]);
    let arguments = ["load", "-", "--hold", "--no-programs", "--object", OBJECT];
    assert_eq!(code(&run_with(arguments, &plan.stdout)), 2);
    let none = "fixtures/obj/device_tables.bpf.o";
    let output = run([
        "load",
        none,
        "--pin-maps",
        pins.path(),
        "--pin-progs",
        pins.path(),
    ]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("BP0812"), "{}", stderr(&output));
    let output = run(["load", OBJECT, "--pin-maps", pins.path()]);
    assert_eq!(code(&output), 1);
    let said = stderr(&output);
    assert!(said.contains("--pin-progs DIR") && said.contains("--no-programs"));
    assert!(!pins.0.exists());
    let output = run(["load", OBJECT, "--pin-maps", pins.path(), "--no-programs"]);
    assert_eq!(code(&output), 0);
    assert!(stderr(&output).contains("2 slots for programs stay empty"));
}

fn maps_that_nobody_would_hold() {
    let pins = Pins::new();
    let output = run([
        "load",
        OBJECT,
        "--pin-progs",
        pins.path(),
        "--format",
        "json",
    ]);
    assert_eq!(code(&output), 2);
    let document = json(&output);
    let said = document["diagnostics"][0]["message"].as_str().unwrap();
    assert!(
        said.contains("only_optional") && said.contains("jumps"),
        "{said}"
    );
    assert!(!pins.0.exists());
    let used = "fixtures/obj/subprograms.bpf.o";
    let output = run(["load", used, "--pin-progs", pins.path()]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
}

fn a_refused_program() {
    let pins = Pins::new();
    let arguments = [
        "load",
        REFUSED,
        "--pin-maps",
        pins.path(),
        "--pin-progs",
        pins.path(),
    ];
    let output = run(arguments);
    assert_eq!((code(&output), stdout(&output)), (1, ""));
    let text = stderr(&output);
    let title = text.lines().next().unwrap();
    assert!(
        title.starts_with("error[BP0614]: program 'careless': "),
        "{title}"
    );
    assert!(title.contains("EACCES"), "{title}");
    // The end of the log first, then the whole.
    let end = "invalid access to packet";
    let (before, log) = text
        .split_once("the verifier's log of program 'careless':\n")
        .unwrap();
    assert!(before.contains(end) && log.contains(end), "{text}");
    assert!(
        log.lines().count() > 20 && log.contains("0: R1=ctx("),
        "{log}"
    );

    let output = run(arguments.iter().chain(&["--format", "json"]));
    assert_eq!((code(&output), stderr(&output)), (1, ""));
    let document = json(&output);
    let first = &document["diagnostics"][0];
    assert_eq!(first["program"], "careless");
    assert!(first["log"].as_str().unwrap().contains(end));
    assert!(!pins.0.exists());
}

fn a_dry_run_shows_the_calls() {
    let pins = Pins::new();
    let arguments = [
        "load",
        OBJECT,
        "--pin-maps",
        pins.path(),
        "--pin-progs",
        pins.path(),
        "--dry-run",
    ];
    let output = run(arguments);
    assert_eq!(code(&output), 0);
    let calls = stdout(&output);
    let size = root().join(OBJECT).metadata().unwrap().len();
    assert!(calls.contains(&format!(
        "libbpf_open({size} bytes, maps [#4, #5, #6, #7, #8])"
    )));
    assert!(calls.contains("prog_load(name \"first\", section \"xdp\") by libbpf = #9\n"));
    assert!(!calls.contains("optional\", section"), "{calls}");
    assert!(calls.contains("map_update_elem(#4, 0: #9)\n"), "{calls}");
    assert!(calls.contains(&format!("obj_pin(#9, \"{}/first\")\n", pins.path())));
    assert!(!pins.0.exists());
    // References to a program's own objects: libbpf makes the map.
    let local = "fixtures/obj/field_kptr_local.bpf.o";
    let output = run(["load", local, "--pin-progs", pins.path(), "--dry-run"]);
    let calls = stdout(&output);
    assert!(
        calls.contains("map_create(hash, name \"boxes\") by libbpf"),
        "{calls}"
    );
    // A dry run leaves out what a load would refuse for want of a holder.
    let output = run(["load", OBJECT, "--pin-progs", pins.path(), "--dry-run"]);
    assert_eq!(code(&output), 0);
}

fn verbose_says_each_step() {
    let pins = Pins::new();
    let arguments = [
        "load",
        OBJECT,
        "--pin-maps",
        pins.path(),
        "--pin-progs",
        pins.path(),
        "-v",
    ];
    let output = run(arguments);
    assert_eq!(code(&output), 0);
    let said = stderr(&output);
    for step in [
        "load 4 programs with libbpf\n".to_owned(),
        "fill jumps with programs\n".to_owned(),
        format!("pin enter to {}/enter\n", pins.path()),
    ] {
        assert!(said.contains(&step), "{step} in {said}");
    }
}

fn holding_ends_with_a_signal() {
    let pins = Pins::new();
    let mut child = bpfplan(["load", OBJECT, "--hold", "--pin-progs", pins.path()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let talk = BufReader::new(child.stderr.take().unwrap());
    let held = talk
        .lines()
        .map(Result::unwrap)
        .find(|line| line.contains("holding"));
    assert_eq!(
        held.unwrap(),
        "holding 5 maps and 4 programs; Ctrl-C or SIGTERM lets go of them"
    );
    assert!(pins.0.join("enter").exists());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}
