//! `cargo xtask instructions`: how many instructions parts of bpfplan take on small objects, beside
//! the numbers on record in `bench/instructions.json`.
//!
//! The record is worth something only if the same program gives the same number everywhere. So the
//! objects are committed, and what else could change a count is taken away: see [`Machine::count`].

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{bench_objects, cargo, repo};

const RECORD: &str = "bench/instructions.json";
const OBJECT_DIR: &str = "bench/obj";

/// Few maps, many, a map of maps, and a large BTF beside few maps.
const OBJECTS: [&str; 4] = ["plain-10", "plain-100", "slots-64", "types-100"];

/// Objects that are committed for benches only.
const FOR_BENCHES: [&str; 1] = ["programs-64x20"];

/// As `bpfplan-count` calls them: object to plan, binary plan to plan, plan to recorded calls.
const PARTS: [&str; 3] = ["open", "decode", "dry"];

/// The peer's part that `open` stands beside.
const PEER: &str = "libbpf";

/// Objects that bpfplan must open with fewer instructions than libbpf.
const BELOW_PEER: [&str; 2] = ["plain-100", "slots-64"];

/// How much a count may grow without a new record, in percent.
const ALLOWED: u64 = 5;

/// glibc's choices that a machine, an address or an order would make differently each time.
///
/// String functions, whose variants a machine, a length or an alignment may choose; that they have
/// changed a count was not seen, only suspected. The heap, which was: what a hash table's random seed
/// frees in another order is merged and split in another way, up to a percent of all; with room in
/// the thread's cache for everything, each call costs the same. Nothing is mapped or given back.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-SSSE3\
                        :glibc.malloc.tcache_count=65535\
                        :glibc.malloc.mmap_threshold=1073741824\
                        :glibc.malloc.trim_threshold=1073741824\
                        :glibc.malloc.top_pad=16777216";

#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Record {
    /// First line of `rustc --version`: another compiler makes another program.
    rustc: String,
    /// First line of `--version` of the compiler that made the objects.
    clang: String,
    /// Object, part, instructions of one repetition.
    instructions: BTreeMap<String, Counts>,
}

type Counts = BTreeMap<String, u64>;

/// Counts and compares, or with `update` writes the objects and the record anew.
///
/// Prints a line for each object and each count: `NAME: up to date`, `failed: why`, or
/// `skipped: why`.
pub(crate) fn run(update: bool) -> Result<()> {
    let root = repo::root()?;
    let machine = match Machine::find()? {
        Ok(machine) => machine,
        // What is meant to be complete must not shrink without a word.
        Err(why) if update || std::env::var_os("CI").is_some() => bail!("{why}"),
        Err(why) => {
            println!("instructions: skipped: {why}");
            return Ok(());
        }
    };
    let rustc = version("rustc")?;
    let clang = bench_objects::COMPILER.version();
    let old = match std::fs::read(root.join(RECORD)) {
        Ok(text) => Some(serde_json::from_slice(&text).with_context(|| format!("in {RECORD}"))?),
        Err(_) if update => None,
        Err(error) => return Err(error).context(RECORD),
    };
    let old: Option<&Record> = old.as_ref();
    let mut failed = objects(&root, old, clang.as_deref(), update)?;
    let program = Program::build()?;
    let counts = machine.count_all(&root, &program)?;
    if update {
        let record = Record {
            rustc,
            clang: clang.context("no compiler made the objects")?,
            instructions: counts,
        };
        let text = serde_json::to_string_pretty(&record)? + "\n";
        return repo::write_or_check(RECORD, &text, false);
    }
    let old = old.with_context(|| format!("there is no {RECORD}"))?;
    if old.rustc != rustc {
        println!(
            "instructions: skipped: recorded with {}, here is {rustc}",
            old.rustc
        );
        return Ok(());
    }
    for (object, counts) in &counts {
        let known = old.instructions.get(object);
        for (part, count) in counts {
            let known = known.and_then(|known| known.get(part)).copied();
            let verdict = if part == PEER {
                beside_peer(object, counts)
            } else {
                compare(*count, known)
            };
            println!("{object} {part}: {}", verdict.text);
            failed += usize::from(verdict.failed);
        }
    }
    if failed > 0 {
        bail!(
            "{failed} counts or objects are not as recorded: where that is meant, run `cargo xtask \
             instructions --update` and commit {RECORD} with the change"
        );
    }
    Ok(())
}

struct Verdict {
    failed: bool,
    text: String,
}

fn compare(count: u64, known: Option<u64>) -> Verdict {
    let Some(known) = known.filter(|known| *known > 0) else {
        return Verdict {
            failed: true,
            text: format!("failed: {count} instructions, none on record"),
        };
    };
    // In hundredths of a percent, so that small changes show.
    let change = (i128::from(count) - i128::from(known)) * 10_000 / i128::from(known);
    let sign = if change < 0 { '-' } else { '+' };
    let change = change.unsigned_abs();
    let numbers = format!(
        "{count} instructions, {known} on record ({sign}{}.{:02} %)",
        change / 100,
        change % 100
    );
    let failed = count > known && change > u128::from(ALLOWED) * 100;
    let text = match (failed, change > u128::from(ALLOWED) * 100) {
        (true, _) => format!("failed: {numbers}"),
        (false, true) => format!("up to date: {numbers}; `--update` keeps it that low"),
        (false, false) => format!("up to date: {numbers}"),
    };
    Verdict { failed, text }
}

fn beside_peer(object: &str, counts: &Counts) -> Verdict {
    let count = |part| counts.get(part).copied().unwrap_or_default();
    let (ours, theirs) = (count("open"), count(PEER));
    let failed = BELOW_PEER.contains(&object) && ours >= theirs;
    let outcome = if failed { "failed" } else { "up to date" };
    Verdict {
        failed,
        text: format!("{outcome}: {theirs} instructions, bpfplan {ours}"),
    }
}

/// Compiles the objects: writes them, or compares and returns how many are stale.
fn objects(root: &Path, old: Option<&Record>, clang: Option<&str>, update: bool) -> Result<usize> {
    let recorded = old.map(|record| record.clang.as_str());
    let why = match clang {
        None => Some(format!(
            "{} is not installed",
            bench_objects::COMPILER.program()
        )),
        Some(clang) if !update && recorded != Some(clang) => Some(format!(
            "it was built with {}, here is {clang}",
            recorded.unwrap_or("nothing")
        )),
        Some(_) => None,
    };
    let work = tempfile::tempdir().context("cannot make a temporary directory")?;
    let mut stale = 0;
    for name in OBJECTS.into_iter().chain(FOR_BENCHES) {
        if let Some(why) = &why {
            println!("{name}.bpf.o: skipped: {why}");
            continue;
        }
        let fresh = std::fs::read(bench_objects::compile(root, name, work.path())?)?;
        let committed = object_path(root, name);
        let same = std::fs::read(&committed).is_ok_and(|bytes| bytes == fresh);
        let outcome = match (same, update) {
            (true, _) => "up to date",
            (false, true) => {
                std::fs::create_dir_all(root.join(OBJECT_DIR))?;
                std::fs::write(&committed, fresh)?;
                "built"
            }
            (false, false) => {
                stale += 1;
                "stale"
            }
        };
        println!("{name}.bpf.o: {outcome}");
    }
    Ok(stale)
}

fn object_path(root: &Path, name: &str) -> PathBuf {
    root.join(OBJECT_DIR).join(format!("{name}.bpf.o"))
}

/// `bpfplan-count`, in a directory where nothing else is.
struct Program {
    directory: tempfile::TempDir,
}

impl Program {
    const FILE: &str = "bpfplan-count";

    fn build() -> Result<Self> {
        let built = cargo::plain_executable(&[
            "build",
            "--release",
            "--locked",
            "--package",
            "bpfplan-bench",
            "--no-default-features",
            "--bin",
            Self::FILE,
        ])?;
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        std::fs::copy(&built, directory.path().join(Self::FILE))
            .with_context(|| format!("cannot copy {}", built.display()))?;
        Ok(Self { directory })
    }
}

/// The tools that count.
struct Machine {
    setarch: PathBuf,
    valgrind: PathBuf,
}

impl Machine {
    /// The tools, or why there can be no counts here.
    fn find() -> Result<Result<Self, String>> {
        if !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
            return Ok(Err(
                "the counts on record are those of x86-64 with glibc".to_owned()
            ));
        }
        let (Ok(setarch), Ok(valgrind)) = (repo::which("setarch"), repo::which("valgrind")) else {
            return Ok(Err(
                "setarch or valgrind is not installed: run `xtask/setup test`".to_owned(),
            ));
        };
        let fixed = Command::new(&setarch).args(["-R", "true"]).output();
        if !fixed.is_ok_and(|output| output.status.success()) {
            return Ok(Err("`setarch -R` does not work here".to_owned()));
        }
        Ok(Ok(Self { setarch, valgrind }))
    }

    fn count_all(&self, root: &Path, program: &Program) -> Result<BTreeMap<String, Counts>> {
        let mut all = BTreeMap::new();
        for name in OBJECTS {
            let object = object_path(root, name);
            let mut counts = Counts::new();
            for part in PARTS.into_iter().chain([PEER]) {
                let count = self
                    .count(program, part, &object)
                    .with_context(|| format!("{name}: cannot count {part}"))?;
                counts.insert(part.to_owned(), count);
            }
            all.insert(name.to_owned(), counts);
        }
        Ok(all)
    }

    /// Instructions of one repetition, on average.
    ///
    /// The process has no environment, the same arguments, no random addresses, and its symbols are
    /// bound at the start; [`TUNABLES`] does the rest.
    fn count(&self, program: &Program, part: &str, object: &Path) -> Result<u64> {
        let object = File::open(object).with_context(|| object.display().to_string())?;
        let output = Command::new(&self.setarch)
            .arg("-R")
            .arg(&self.valgrind)
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg("--toggle-collect=*counted_repetitions*")
            .args([&format!("./{}", Program::FILE), part])
            .current_dir(&program.directory)
            .stdin(object)
            .env_clear()
            .env("LD_BIND_NOW", "1")
            .env("GLIBC_TUNABLES", TUNABLES)
            .output()
            .context("cannot run valgrind")?;
        let log = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{}", log.trim());
        }
        let repetitions: u64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
        let collected = log
            .lines()
            .find_map(|line| line.split_once("Collected : "))
            .and_then(|(_, count)| count.trim().parse::<u64>().ok());
        match (collected, repetitions) {
            (Some(1..), 1..) => Ok(collected.unwrap_or_default() / repetitions),
            _ => bail!("valgrind counted nothing:\n{}", log.trim()),
        }
    }
}

fn version(program: &str) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_by_more_than_five_percent_fails() {
        for (count, known, failed) in [
            (105_000, Some(100_000), false),
            (105_011, Some(100_000), true),
            (10_000, Some(100_000), false),
            (100_000, None, true),
            (100_000, Some(0), true),
        ] {
            let verdict = compare(count, known);
            assert_eq!(verdict.failed, failed, "{}", verdict.text);
            assert_eq!(verdict.text.starts_with("failed"), failed);
        }
        assert!(compare(10_000, Some(100_000)).text.contains("--update"));
    }
}
