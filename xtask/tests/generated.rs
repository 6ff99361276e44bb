//! What is generated and committed is what its sources make: UAPI constants and fixture objects.

use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = check("uapi", 2);
    trials.extend(check("fixtures", 100));
    libtest_mimic::run(&arguments, trials).exit();
}

/// Runs `xtask WHAT --check` and makes a trial of every line `NAME: OUTCOME` that it prints;
/// fewer lines than `at_least` are a failure of their own.
fn check(what: &str, at_least: usize) -> Vec<Trial> {
    let command = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args([what, "--check"])
        .output();
    let output = match command {
        Ok(output) => output,
        Err(error) => return vec![failing(what, format!("cannot run xtask: {error}"))],
    };
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut trials: Vec<Trial> = outcomes(&stdout)
        .map(|(name, outcome)| trial(&format!("{what} {name}"), outcome))
        .collect();
    let skipped = stdout.lines().any(|line| line.contains(": skipped: "));
    let enough = trials.len() >= at_least || skipped;
    trials.push(Trial::test(what.to_owned(), move || {
        if output.status.success() && enough {
            return Ok(());
        }
        Err(Failed::from(format!("{stdout}{stderr}")))
    }));
    trials
}

/// The lines that report one file each; compilers' messages follow on further lines.
fn outcomes(stdout: &str) -> impl Iterator<Item = (&str, &str)> {
    stdout
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(_, outcome)| {
            ["up to date", "stale", "skipped", "failed"]
                .iter()
                .any(|word| outcome.starts_with(word))
        })
}

fn trial(name: &str, outcome: &str) -> Trial {
    if outcome == "up to date" {
        return Trial::test(name.to_owned(), || Ok(()));
    }
    // Where everything is supposed to be installed, a missing tool is a failure. Another version
    // of a compiler is not: it makes other bytes of the same source.
    let missing = outcome.ends_with("is not installed") && std::env::var_os("CI").is_some();
    let skipped = outcome.starts_with("skipped") && !missing;
    let name = if skipped {
        format!("{name}: {outcome}")
    } else {
        name.to_owned()
    };
    failing(&name, outcome.to_owned()).with_ignored_flag(skipped)
}

fn failing(name: &str, message: String) -> Trial {
    Trial::test(name.to_owned(), move || Err(Failed::from(message)))
}
