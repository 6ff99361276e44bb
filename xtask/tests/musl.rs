//! The static command: built, looked at, and used on the running kernel.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panic")]

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let missing = missing();
    if let Some(why) = &missing {
        println!("skipped: {why}");
    }
    assert!(
        missing.is_none() || std::env::var_os("CI").is_none(),
        "CI must be able to build and load: {missing:?}"
    );
    let trial = Trial::test("the_static_command_works", || {
        let command = build();
        assert_static(&command);
        assert_works(&command);
        Ok(())
    });
    let trials = vec![trial.with_ignored_flag(missing.is_some())];
    libtest_mimic::run(&arguments, trials).exit();
}

/// What `xtask/setup musl` would have to install, which a test does not.
fn missing() -> Option<String> {
    let found = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    };
    let programs = [
        "musl-gcc",
        "autoreconf",
        "autopoint",
        "bison",
        "flex",
        "gawk",
    ];
    if let Some(program) = programs.into_iter().find(|program| !found(program)) {
        return Some(format!("there is no {program}: see xtask/setup musl"));
    }
    let target = format!(
        "lib/rustlib/{}-unknown-linux-musl/lib",
        std::env::consts::ARCH
    );
    let sysroot = stdout(Command::new("rustc").args(["--print", "sysroot"]));
    let source = "/usr/lib/rustlib/src/rust/library/std";
    let library = Path::new(sysroot.trim()).join(target);
    if !library.exists() && !Path::new(source).exists() {
        return Some("there is no standard library for musl: see xtask/setup musl".to_owned());
    }
    let id = stdout(Command::new("id").arg("-u"));
    (id.trim() != "0").then(|| "only root can load".to_owned())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// Runs a command that must succeed.
fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
    let printed = stdout(
        Command::new(root().join("xtask/musl"))
            // Optimising takes most of the time and changes nothing that is looked at here.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_TARGET_DIR", target.canonicalize().unwrap())
            .env_remove("RUSTFLAGS"),
    );
    PathBuf::from(printed.trim_end())
}

/// It needs no shared library, and no program that would load one.
fn assert_static(command: &Path) {
    let readelf = |option| stdout(Command::new("readelf").arg(option).arg(command));
    let (dynamic, segments) = (readelf("--dynamic"), readelf("--program-headers"));
    assert!(!dynamic.contains("(NEEDED)"), "{dynamic}");
    assert!(segments.contains("LOAD"), "{segments}");
    assert!(!segments.contains("INTERP"), "{segments}");
}

/// It reads objects, with programs through libbpf and its libelf, and loads them.
fn assert_works(command: &Path) {
    let run =
        |arguments: &[&str]| stdout(Command::new(command).args(arguments).current_dir(root()));
    let directory = tempfile::tempdir().unwrap();
    let plan = directory.path().join("tables.plan");
    let plan = plan.to_str().unwrap();
    let object = "fixtures/obj/device_tables.bpf.o";
    assert!(run(&["plan", object]).contains("3 maps to create, 2 slots to fill"));
    run(&["compile", object, "-o", plan]);
    let pins = format!("/sys/fs/bpf/bpfplan-musl-{}", std::process::id());
    let programs = "fixtures/obj/prog_array_values.bpf.o";
    for load in [
        &["load", plan, "--pin-maps", &pins][..],
        &["load", programs, "--pin-maps", &pins, "--pin-progs", &pins],
    ] {
        let loaded = run(load);
        let unloaded = run(&["unload", &pins]);
        assert!(loaded.contains(" created, 2 slots filled"), "{loaded}");
        assert!(
            unloaded.contains(&format!("removed {pins}\n")),
            "{unloaded}"
        );
    }
}
