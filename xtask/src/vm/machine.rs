//! One virtual machine: boots, shows what the jobs print, and tells how they ended.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::job::{Job, Program};

/// For the whole machine; a job has a limit of its own.
const LIMIT: Duration = Duration::from_secs(90 * 60);

/// How a job ended.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Its exit status, what it said of its tests, and how long it took.
    Ended {
        status: u32,
        tests: Option<String>,
        seconds: u64,
    },
    /// A test binary that ran no test proves nothing.
    Nothing,
    /// The machine stopped before the job ended.
    Lost,
}

impl Verdict {
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Ended { status: 0, .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended {
                status,
                tests,
                seconds,
            } => {
                match status {
                    0 => write!(f, "ok")?,
                    // As busybox says it.
                    143 => write!(f, "failed: out of time")?,
                    other => write!(f, "failed: exit status {other}")?,
                }
                if let Some(tests) = tests {
                    write!(f, ", {tests}")?;
                }
                write!(f, " ({seconds} s)")
            }
            Self::Nothing => write!(f, "failed: no test ran"),
            Self::Lost => write!(f, "failed: the machine stopped before it ended"),
        }
    }
}

/// What a machine has to tell.
pub(super) struct Outcome {
    /// In the order of the jobs.
    pub(super) verdicts: Vec<Verdict>,
    /// What `vm-bench` found.
    pub(super) figures: Vec<String>,
    /// Lines of the kernel's log that should not be there.
    pub(super) complaints: Vec<String>,
}

impl Outcome {
    /// How many jobs the machine has tried, the one that it stopped in among them. One that ends
    /// no job will not do better with the others: they count as tried.
    pub(super) fn tried(&self) -> usize {
        let mut verdicts = self.verdicts.iter();
        match verdicts.position(|verdict| matches!(verdict, Verdict::Lost)) {
            None | Some(0) => self.verdicts.len(),
            Some(lost) => lost + 1,
        }
    }
}

/// Boots the kernel with the image and shows the console until the machine is off.
pub(super) fn run(kernel: &Path, image: &Path, jobs: &[Job]) -> Result<Outcome> {
    let mut machine = Machine::start(kernel, image)?;
    let console = machine.console()?;
    let end = Instant::now() + LIMIT;
    let mut watch = Watch::new(jobs);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match console.recv_timeout(left) {
            Ok(line) if line == "vm: done" => break,
            Ok(line) => watch.line(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!(
                    "the machine took more than {} minutes",
                    LIMIT.as_secs() / 60
                );
                break;
            }
        }
    }
    Ok(watch.outcome)
}

/// QEMU, which ends with this value.
struct Machine(Child);

impl Machine {
    fn start(kernel: &Path, image: &Path) -> Result<Self> {
        let child = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "3G"])
            .args(["-display", "none", "-serial", "stdio", "-monitor", "none"])
            .args(["-nodefaults", "-no-reboot"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(image)
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run qemu-system-x86_64")?;
        Ok(Self(child))
    }

    /// The lines of the serial console, read by a thread so that waiting for one can end.
    fn console(&mut self) -> Result<mpsc::Receiver<String>> {
        let Some(output) = self.0.stdout.take() else {
            bail!("the machine has no console");
        };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                if sender.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It is off already, or has to go.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the console.
struct Watch<'a> {
    jobs: &'a [Job],
    /// The first that has not ended: two may have one name, with different filters.
    next: usize,
    outcome: Outcome,
    started: Instant,
    tests: Option<String>,
}

impl<'a> Watch<'a> {
    fn new(jobs: &'a [Job]) -> Self {
        let outcome = Outcome {
            verdicts: vec![Verdict::Lost; jobs.len()],
            figures: Vec::new(),
            complaints: Vec::new(),
        };
        Self {
            jobs,
            next: 0,
            outcome,
            started: Instant::now(),
            tests: None,
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("vm: start ") {
            println!("-- {name}");
            self.started = Instant::now();
            self.tests = None;
        } else if let Some(ended) = line.strip_prefix("vm: status ") {
            self.ended(ended);
        } else if let Some(complaint) = line.strip_prefix("vm: kernel ") {
            self.outcome.complaints.push(complaint.to_owned());
        } else {
            if let Some(figure) = line.strip_prefix("vm-bench: ") {
                self.outcome.figures.push(figure.to_owned());
            }
            if let Some(result) = line.strip_prefix("test result: ") {
                self.tests = Some(counts(result));
            }
            println!("{line}");
        }
    }

    fn ended(&mut self, ended: &str) {
        let Some((name, status)) = ended.rsplit_once(' ') else {
            return;
        };
        let Ok(status) = status.parse() else { return };
        let mut rest = self.jobs.iter().enumerate().skip(self.next);
        let Some((index, job)) = rest.find(|(_, job)| job.name == name) else {
            return;
        };
        self.next = index + 1;
        let Some(verdict) = self.outcome.verdicts.get_mut(index) else {
            return;
        };
        let tests = self.tests.take();
        let is_test = matches!(job.program, Program::Test(_));
        let idle = tests.as_ref().is_none_or(|t| t.starts_with("0 passed"));
        *verdict = if is_test && status == 0 && idle {
            Verdict::Nothing
        } else {
            Verdict::Ended {
                status,
                tests,
                seconds: self.started.elapsed().as_secs(),
            }
        };
    }
}

/// `ok. 12 passed; 0 failed; 1 ignored; 0 measured; ...` without what is always so.
fn counts(result: &str) -> String {
    let counts = result.split_once(". ").map_or(result, |(_, counts)| counts);
    let counts: Vec<&str> = counts.split("; ").take(3).collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_does_what_comes_after_the_job_that_stopped_one() {
        let jobs = ["codes", "kconfig", "maps", "smoke"].map(Job::of_nothing);
        let mut watch = Watch::new(&jobs);
        watch.line("vm: start codes");
        assert_eq!(watch.outcome.tried(), 4, "it stops all");
        watch.line("vm: status codes 0");
        watch.line("vm: start kconfig");
        assert_eq!(watch.outcome.tried(), 2);
        for job in ["kconfig", "maps", "smoke"] {
            watch.line(&format!("vm: status {job} 0"));
        }
        assert_eq!(watch.outcome.tried(), 4);
    }

    #[test]
    fn one_test_with_two_filters_is_two_jobs() {
        let jobs = ["maps:rings", "maps:inner", "smoke"].map(Job::of_nothing);
        let mut watch = Watch::new(&jobs);
        for line in [
            "vm: start maps",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored",
            "vm: status maps 101",
            "vm: start maps",
            "test result: ok. 2 passed; 0 failed; 0 ignored",
            "vm: status maps 0",
        ] {
            watch.line(line);
        }
        let good = watch.outcome.verdicts.iter().map(Verdict::is_good);
        assert_eq!(good.collect::<Vec<_>>(), [false, true, false]);
    }
}
