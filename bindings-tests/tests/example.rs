//! The example as a project of its own: built by cargo with clang, and run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut arguments = Arguments::from_args();
    // They build one program in one target directory.
    arguments.test_threads = Some(1);
    let missing = missing();
    if let Some(why) = &missing {
        println!("skipped: {why}");
    }
    assert!(
        missing.is_none() || std::env::var_os("CI").is_none(),
        "CI must be able to build and load: {missing:?}"
    );
    let tests: [(&str, fn()); 3] = [
        ("it_runs", it_runs),
        (
            "a_bad_declaration_is_an_error",
            a_bad_declaration_is_an_error,
        ),
        ("clang_is_heard", clang_is_heard),
    ];
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can load");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let clang = std::env::split_paths(&path).any(|directory| {
        let names = directory.read_dir().into_iter().flatten().flatten();
        names.into_iter().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name == "clang"
                || name
                    .strip_prefix("clang-")
                    .is_some_and(|n| n.parse::<u32>().is_ok())
        })
    });
    (!clang).then_some("there is no clang")
}

fn it_runs() {
    let project = Project::new("it-runs");
    let output = project.cargo("run");
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    let expected =
        "Some(counters { packets: 1, bytes: 100 }) of 4096\none packet in 10\n2 tenants\n";
    assert_eq!(stdout, expected);
    // Nothing has changed, so nothing is built again; then a header does.
    assert!(
        !text(&project.cargo("build"))
            .1
            .contains("Compiling flow-example")
    );
    project.edit(
        "src/bpf/flow.h",
        "__u64 bytes;",
        "__u64 bytes;\n    __u64 drops;",
    );
    let (_, stderr) = text(&project.cargo("build"));
    assert!(stderr.contains("missing field `drops`"), "{stderr}");
}

fn a_bad_declaration_is_an_error() {
    let project = Project::new("a-bad-declaration-is-an-error");
    project.edit("src/bpf/flow.bpf.c", "[0] = &tenant_0", "[7] = &tenant_0");
    let output = project.cargo("build");
    let (_, stderr) = text(&output);
    assert!(!output.status.success(), "{stderr}");
    for line in [
        "error: flow-example@0.1.0: [BP0301] map 'tenants', values[7]: ",
        "error: flow-example@0.1.0:   --> src/bpf/flow.bpf.c:30: the outer map",
    ] {
        assert!(stderr.contains(line), "{line}\n{stderr}");
    }
}

fn clang_is_heard() {
    let project = Project::new("clang-is-heard");
    project.edit("src/bpf/flow.bpf.c", "return device[0]", "return devise[0]");
    let output = project.cargo("build");
    let (_, stderr) = text(&output);
    assert!(!output.status.success(), "{stderr}");
    for line in [
        "use of undeclared identifier 'devise'",
        "error: flow-example@0.1.0: [BP1004] ",
    ] {
        assert!(stderr.contains(line), "{line}\n{stderr}");
    }
}

/// A copy of the example, which shares what is built already.
struct Project {
    directory: PathBuf,
}

impl Project {
    /// In a directory that is the same every time, so that what cargo keeps does not pile up.
    fn new(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        let root = root();
        let example = root.join("examples/flow");
        for file in [
            "build.rs",
            "src/main.rs",
            "src/bpf/flow.bpf.c",
            "src/bpf/flow.h",
        ] {
            let to = directory.join(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(example.join(file), to).unwrap();
        }
        let manifest = fs::read_to_string(example.join("Cargo.toml")).unwrap();
        let manifest = manifest.replace("../..", root.to_str().unwrap());
        fs::write(directory.join("Cargo.toml"), manifest).unwrap();
        // The versions of the workspace, which are there without a network.
        fs::copy(root.join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
        Self { directory }
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.directory.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    fn cargo(&self, command: &str) -> Output {
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
        Command::new(env!("CARGO"))
            .args([command, "--offline", "--color", "never"])
            .current_dir(&self.directory)
            .env("CARGO_TARGET_DIR", profile)
            // As in the workspace, so that nothing is built twice.
            .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
