//! `examples/blue_green`: tables are replaced under readers.

use crate::project::{Project, text};

/// Not one lookup finds nothing, or parts of two tables.
pub(crate) fn loses_nothing() {
    let (tables, readers) = run(&[]);
    assert!(tables >= 5000, "{tables} swaps");
    for [lookups, missing, torn] in readers {
        assert!(lookups > 1000, "{lookups} lookups");
        assert_eq!(torn, 0);
        if atomic() {
            assert_eq!(missing, 0);
        } else {
            println!(
                "skipped: before Linux 6.16 a lookup may miss a key beside one that is replaced"
            );
        }
    }
}

/// The same readers, if tables are written to while they are in use.
pub(crate) fn would_see_what_is_torn() {
    let (_, readers) = run(&["--in-place"]);
    let torn: u64 = readers.iter().map(|[_, _, torn]| torn).sum();
    assert!(torn > 0, "{readers:?}");
}

/// Tables that were replaced; lookups, those that found nothing, and those that were torn, as the
/// program in the kernel counts them and the process.
fn run(arguments: &[&str]) -> (u64, [[u64; 3]; 2]) {
    let mut program = Project::new("blue_green", "blue-green").program();
    let output = program.args(arguments).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    println!("{stdout}");
    let lines: Vec<&str> = stdout.lines().collect();
    let [tables, program, process] = lines[..] else {
        panic!("{stdout}");
    };
    assert!(program.starts_with("program: ") && process.starts_with("process: "));
    let counts = |line| <[u64; 3]>::try_from(numbers(line)).unwrap();
    (numbers(tables)[0], [counts(program), counts(process)])
}

fn numbers(line: &str) -> Vec<u64> {
    let words = line.split(' ');
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Whether the kernel replaces elements of a `HASH_OF_MAPS` in one step.
fn atomic() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    (version.0.unwrap(), version.1.unwrap()) >= (6, 16)
}
