//! The examples as projects of their own: built by cargo with clang, and run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

mod blue_green;
mod execsnoop;
mod project;

use libtest_mimic::{Arguments, Trial};
use project::Project;

fn main() {
    let mut arguments = Arguments::from_args();
    // They build in one target directory.
    arguments.test_threads = Some(1);
    let missing = missing();
    if let Some(why) = &missing {
        println!("skipped: {why}");
    }
    assert!(
        missing.is_none() || std::env::var_os("CI").is_none(),
        "CI must be able to build and load: {missing:?}"
    );
    let tests: [(&str, fn()); 10] = [
        ("both_are_tidy", both_are_tidy),
        (
            "execsnoop_shows_programs_of_all_cpus",
            execsnoop::shows_programs_of_all_cpus,
        ),
        (
            "execsnoop_makes_rings_that_are_not_declared",
            execsnoop::makes_rings_that_are_not_declared,
        ),
        (
            "execsnoop_ends_after_as_many_events_as_asked_for",
            execsnoop::ends_after_as_many_events_as_asked_for,
        ),
        (
            "execsnoop_is_in_the_readme",
            execsnoop::the_readme_shows_what_is_printed,
        ),
        (
            "execsnoop_is_built_again_if_a_header_changes",
            execsnoop::is_built_again_if_a_header_changes,
        ),
        (
            "execsnoop_with_a_bad_declaration_is_an_error",
            execsnoop::a_bad_declaration_is_an_error,
        ),
        ("execsnoop_clang_is_heard", execsnoop::clang_is_heard),
        ("blue_green_loses_nothing", blue_green::loses_nothing),
        (
            "blue_green_would_see_what_is_torn",
            blue_green::would_see_what_is_torn,
        ),
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

fn both_are_tidy() {
    for example in ["execsnoop", "blue_green"] {
        Project::new(example, &format!("{example}_tidy")).assert_tidy();
    }
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
