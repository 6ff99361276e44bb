//! What `docs/build-systems.md` shows, done line by line.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

mod github;
mod page;
mod project;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;

use libtest_mimic::{Arguments, Trial};

use project::{Project, clang, find};

fn main() {
    let arguments = Arguments::from_args();
    type Test = (&'static str, &'static [&'static str], fn());
    let tests: [Test; 4] = [
        ("make", &["make"], || build_system("Make")),
        ("cmake", &["make", "cmake"], || build_system("CMake")),
        ("meson", &["meson", "ninja"], || build_system("Meson")),
        ("github", &["make", "bash"], github::workflow),
    ];
    let trials = tests.into_iter().map(|(name, needs, test)| {
        let missing = missing(needs);
        if let Some(missing) = &missing {
            println!("skipped: {name}: there is no {missing}");
        }
        assert!(
            missing.is_none() || std::env::var_os("CI").is_none(),
            "CI must have {missing:?}"
        );
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn missing(needs: &[&str]) -> Option<String> {
    if clang().is_none() {
        return Some("clang".to_owned());
    }
    if !Path::new("/usr/include/bpf/bpf_helpers.h").exists() {
        return Some("libbpf-dev".to_owned());
    }
    let missing = needs.iter().find(|name| find(name).is_none());
    missing.map(|name| (*name).to_owned())
}

/// A project is built, built again after changes and not without, and not with a mistake.
fn build_system(heading: &str) {
    let project = Project::new(heading);
    project.tool("bpfplan", Path::new(env!("CARGO_BIN_EXE_bpfplan")));
    for line in project.commands() {
        let (done, said) = project.run(line, &[]);
        assert!(done, "{line}: {said}");
    }
    let build = project.commands().last().unwrap();
    let rebuilt = || {
        let before = project.times();
        let (done, said) = project.run(build, &[]);
        assert!(done, "{said}");
        let after = project.times();
        assert_eq!(before[0] == after[0], before[1] == after[1], "{said}");
        before != after
    };
    fs::write(project.directory.join("src/other.h"), "").unwrap();
    assert!(!rebuilt());

    let source = "src/flow.bpf.c";
    for (file, from, to) in [
        (
            "src/flow.h",
            "__u64 bytes;",
            "__u64 bytes;\n    __u64 drops;",
        ),
        (source, "max_entries, 1024", "max_entries, 2048"),
    ] {
        let before = project.plan();
        project.edit(file, from, to);
        assert!(rebuilt(), "{file} has changed");
        assert_ne!(before, project.plan(), "{file} has changed");
        assert!(!rebuilt());
    }

    // An arena, which Linux has since 6.9: `compile` takes it.
    let before = project.plan();
    let arena = "struct {\n    __uint(type, 33);\n    __uint(map_flags, 1 << 10);\n    \
                 __uint(max_entries, 1);\n} pages SEC(\".maps\");\n\nstruct table {";
    project.edit(source, "struct table {", arena);
    let (done, said) = project.run(build, &[]);
    assert!(!done && said.contains("map 'pages'"), "{said}");
    assert_eq!(before, project.plan());
    let (done, said) = project.run(build, &[]);
    assert!(!done && said.contains("map 'pages'"), "again: {said}");
    project.edit(source, arena, "struct table {");
    assert!(rebuilt());
    assert_eq!(before, project.plan());
}
