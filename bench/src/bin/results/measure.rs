//! Runs bpfplan and its peers: all of them in turn within each round, each in a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bpfplan_bench::program;

use crate::figures::{Figures, Loader, Measured, Object, slots};
use crate::machine::Machine;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Of every loader in turn.
    pub(crate) rounds: usize,
    /// Nothing but load times.
    pub(crate) only_time: bool,
}

/// More slots than these take a peer a minute, so that only the time is measured, and once.
const MANY: u32 = 1024;

/// Measures these objects, `NAME.bpf.o` in a directory.
pub(crate) fn all(directory: &Path, names: &[String], effort: Effort) -> Result<Figures> {
    let machine = Machine::here()?;
    let work = tempfile::tempdir().context("cannot make a temporary directory")?;
    let mut objects = Vec::new();
    for name in names {
        eprintln!("measuring {name}");
        let subject = Subject::new(directory, name, work.path())?;
        objects.push(subject.measure(effort)?);
    }
    Ok(Figures { machine, objects })
}

/// One object, and what is known about it before.
struct Subject<'a> {
    name: &'a str,
    object: PathBuf,
    /// Its plan, compiled ahead.
    plan: PathBuf,
    slots: u32,
    /// So many processes are kept by the kernel until it has freed the last one's maps.
    nap: Duration,
    work: &'a Path,
}

impl<'a> Subject<'a> {
    fn new(directory: &Path, name: &'a str, work: &'a Path) -> Result<Self> {
        let object = directory.join(format!("{name}.bpf.o"));
        let plan = work.join(format!("{name}.plan"));
        let made = Command::new(sibling("bpfplan-bench")?)
            .arg("prep")
            .args([&object, &plan])
            .status()
            .context("cannot run bpfplan-bench")?;
        if !made.success() {
            bail!("{name} cannot be planned");
        }
        let slots = slots(name).unwrap_or(0);
        let size = name.split_once('-').and_then(|(_, size)| size.parse().ok());
        let maps = u64::from(slots.max(size.unwrap_or(0)));
        Ok(Self {
            name,
            object,
            plan,
            slots,
            nap: Duration::from_millis(50 + maps / 20),
            work,
        })
    }

    fn measure(&self, effort: Effort) -> Result<Object> {
        let mut loaders: Vec<(Loader, Measured)> = Loader::ALL
            .map(|loader| (loader, Measured::default()))
            .into();
        for _ in 0..self.rounds(effort) {
            for (loader, measured) in &mut loaders {
                measured.load_ms.push(self.load_ms(*loader)?);
            }
        }
        if !effort.only_time && self.slots <= MANY {
            for (loader, measured) in &mut loaders {
                if *loader != Loader::Ahead {
                    measured.open_instructions = Some(self.instructions(*loader)?);
                }
                measured.calls = Some(self.calls(*loader)?);
                thread::sleep(self.nap);
                measured.peak_kib = Some(self.peak_kib(*loader)?);
                thread::sleep(self.nap);
            }
        }
        Ok(Object {
            name: self.name.to_owned(),
            loaders: loaders.into_iter().collect(),
        })
    }

    /// What takes seconds varies little.
    fn rounds(&self, effort: Effort) -> usize {
        match self.slots {
            0..=64 => effort.rounds,
            65..=MANY => effort.rounds.min(3),
            _ => 1,
        }
    }

    fn repetitions(&self, loader: Loader) -> usize {
        match self.slots {
            ..=8 => 7,
            _ if !loader.one_by_one() => 5,
            _ => 1,
        }
    }

    /// The process that does so many loads.
    fn load(&self, loader: Loader, repetitions: usize) -> Result<Command> {
        let (mode, file) = match loader {
            Loader::Ahead => ("exec", &self.plan),
            _ => ("load", &self.object),
        };
        self.process(loader, mode, file, repetitions)
    }

    fn process(
        &self,
        loader: Loader,
        mode: &str,
        file: &Path,
        repetitions: usize,
    ) -> Result<Command> {
        let mut command = match loader {
            Loader::Bpfplan | Loader::Ahead => Command::new(sibling("bpfplan-bench")?),
            peer => {
                let mut command = Command::new(sibling("bpfplan-peer")?);
                command.arg(peer.name());
                command
            }
        };
        command.arg(mode).arg(file).arg(repetitions.to_string());
        if mode != "open" {
            command.arg(self.nap.as_millis().to_string());
        }
        command.stdin(Stdio::null());
        Ok(command)
    }

    fn load_ms(&self, loader: Loader) -> Result<f64> {
        let said = said(&mut self.load(loader, self.repetitions(loader))?)?;
        // METRIC MEDIAN_US MIN_US MAX_US REPS
        let total = said
            .out
            .lines()
            .find_map(|line| line.strip_prefix("total "));
        let median = total.and_then(|total| total.split(' ').next()?.parse::<f64>().ok());
        let microseconds = median.with_context(|| {
            format!("{} did not load {}: {}", loader.name(), self.name, said.err)
        })?;
        Ok(microseconds / 1e3)
    }

    /// Of a process that opens once, less those of one that does not.
    fn instructions(&self, loader: Loader) -> Result<u64> {
        let [none, one] = [0, 1].map(|repetitions| {
            let process = self.process(loader, "open", &self.object, repetitions)?;
            let mut command = under(
                Command::new("valgrind")
                    .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]),
                &process,
            );
            let said = said(&mut command)?;
            let counted = said
                .err
                .lines()
                .find_map(|line| line.split_once("Collected : "));
            let counted = counted.and_then(|(_, count)| count.trim().parse::<u64>().ok());
            counted.with_context(|| format!("valgrind counted nothing: {}", said.err))
        });
        Ok(one?.saturating_sub(none?))
    }

    /// `bpf` calls and all others of a process that loads once, less those of one that does not.
    fn calls(&self, loader: Loader) -> Result<(u64, u64)> {
        let [none, one] = [0, 1].map(|repetitions| self.calls_of(loader, repetitions));
        let ((bpf, others), (idle_bpf, idle_others)) = (one?, none?);
        Ok((
            bpf.saturating_sub(idle_bpf),
            others.saturating_sub(idle_others),
        ))
    }

    fn calls_of(&self, loader: Loader, repetitions: usize) -> Result<(u64, u64)> {
        let log = self.work.join("strace");
        let mut command = under(
            Command::new("strace").args(["-f", "-qq", "-o"]).arg(&log),
            &self.load(loader, repetitions)?,
        );
        said(&mut command)?;
        let (mut bpf, mut others) = (0, 0);
        for line in fs::read_to_string(&log)?.lines() {
            // PID NAME(ARGUMENTS, or PID <... NAME resumed>
            let call = line
                .split_once(' ')
                .map_or("", |(_, call)| call.trim_start());
            match call.split_once('(') {
                Some(("bpf", _)) => bpf += 1,
                Some((name, _)) if !name.contains(['<', ' ']) => others += 1,
                _ => {}
            }
        }
        Ok((bpf, others))
    }

    fn peak_kib(&self, loader: Loader) -> Result<u64> {
        let said = said(self.load(loader, 1)?.env(program::PEAK, "1"))?;
        let peak = said.err.lines().find_map(|line| line.strip_prefix("peak "));
        let peak = peak.and_then(|peak| peak.trim().parse().ok());
        peak.with_context(|| format!("no peak memory is known: {}", said.err))
    }
}

struct Said {
    out: String,
    err: String,
}

fn said(command: &mut Command) -> Result<Said> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Said {
        out: text(&output.stdout),
        err: text(&output.stderr),
    };
    if !output.status.success() {
        bail!("{command:?} failed: {}", said.err.trim());
    }
    Ok(said)
}

/// A tool that runs a process.
fn under(tool: &mut Command, process: &Command) -> Command {
    let mut command = Command::new(tool.get_program());
    command
        .args(tool.get_args())
        .arg(process.get_program())
        .args(process.get_args())
        .stdin(Stdio::null());
    command
}

/// A program that was built together with this one.
fn sibling(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("where is this program?")?;
    Ok(here.with_file_name(name))
}
