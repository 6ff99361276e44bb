//! Every single call of a load fails once, and every step is interrupted once; afterwards nothing
//! is left, and the message says where it happened.

// A test may panic: that is how it fails.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "support/privilege.rs"]
#[allow(dead_code)]
mod privilege;
#[path = "support/release.rs"]
mod release;
mod sample;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bpfplan_compiler::{Options, compile};
use bpfplan_loader::{
    Errno, ErrorKind, FailingKernel, Fault, Kernel, LoadError, LoadOptions, Loaded, RealKernel,
    RecordingKernel, codes, load, load_with, record, unload,
};
use bpfplan_plan::rules::{KernelVersion, Target, errno_name};
use bpfplan_plan::{Diagnostic, Plan};
use libtest_mimic::{Arguments, Failed, Trial};
use sample::PinDir;
use sample::maps::{descriptors, left_of};

/// Errors that a call may give: by mistake, by lack of rights, of memory, of support.
const ERRORS: [Errno; 4] = [
    Errno::EINVAL,
    Errno::EPERM,
    Errno(libc::ENOMEM),
    Errno::ENOTSUPP,
];

/// Fixtures with global data, maps of maps, ring buffers, BTF, special fields and values of the machine.
const FIXTURES: [&str; 7] = [
    "data_sections",
    "device_tables",
    "field_spin_lock",
    "hash_of_maps_sparse",
    "inner_anonymous",
    "outer_several",
    "ringbuf_slots",
];

fn main() {
    let mut arguments = Arguments::from_args();
    // The tests count the descriptors of the process.
    arguments.test_threads = Some(1);
    let missing = privilege::missing().filter(|_| std::env::var_os("CI").is_none());
    if let Some(why) = &missing {
        eprintln!("skipped: {why}");
    }
    let mut trials = Vec::new();
    for (name, plan) in plans() {
        let recorded = plan.clone();
        trials.push(Trial::test(format!("recording::{name}"), move || {
            recording(&recorded)
        }));
        let threaded = plan.clone();
        trials.push(Trial::test(format!("threads::{name}"), move || {
            on_threads(&threaded)
        }));
        if name == "many_slots" {
            continue;
        }
        let mut real = |what: &str, test: fn(&Plan) -> Result<(), Failed>| {
            let plan = plan.clone();
            let skipped = missing.clone().or_else(|| match name.as_str() {
                "field_spin_lock" => {
                    release::lacks(release::LOCKED_TEMPLATES, "spin locks in inner maps")
                }
                _ => None,
            });
            let name = format!("{what}::{name}");
            trials.push(release::unless(skipped, &name, move || test(&plan)));
        };
        real("real", on_the_real_kernel);
        real("interrupted", interrupted);
        if plan.maps.iter().any(|map| !map.slots.is_empty()) {
            real("slot_by_slot", slot_by_slot);
        }
    }
    libtest_mimic::run(&arguments, trials).exit()
}

/// The samples, and some fixtures.
fn plans() -> Vec<(String, Plan)> {
    let samples = sample::all().map(|(name, plan)| (name.to_owned(), plan));
    let fixtures = FIXTURES.iter().map(|name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj");
        let file = format!("{name}.bpf.o");
        let object = std::fs::read(path.join(&file)).expect("the fixture is there");
        let compiled = compile(&object, &file, &Options::default()).expect("the fixture compiles");
        ((*name).to_owned(), compiled.plan)
    });
    samples.into_iter().chain(fixtures).collect()
}

fn recording(plan: &Plan) -> Result<(), Failed> {
    on_recordings(plan, |kernel| kernel)
}

/// Large maps are created, and slots are filled, at the same time.
fn on_threads(plan: &Plan) -> Result<(), Failed> {
    on_recordings(plan, |kernel| {
        FailingKernel::new(kernel, |_: Fault<'_>| None).with_threads()
    })
}

fn on_recordings<K: Kernel + Recorded>(
    plan: &Plan,
    wrapped: impl Fn(RecordingKernel) -> K,
) -> Result<(), Failed> {
    let target = Target {
        page_size: 4096,
        possible_cpus: 2,
    };
    let options = LoadOptions {
        pin_maps: Some("/sys/fs/bpf/sample".into()),
        raise_nofile: true,
        ..LoadOptions::default()
    };
    each_call_fails(
        plan,
        &options,
        || wrapped(RecordingKernel::new(target).with_directory("/sys/fs/bpf")),
        |kernel, _| {
            let kernel = kernel.recorded();
            let (open, pins) = (kernel.open_descriptors(), kernel.pins());
            match (open, pins.as_slice(), kernel.directories().as_slice()) {
                (0, [], [_]) => Ok(()),
                (open, pins, directories) => {
                    Err(format!("left: {open} descriptors, {pins:?}, {directories:?}").into())
                }
            }
        },
    )
}

/// The recording below.
trait Recorded {
    fn recorded(&self) -> &RecordingKernel;
}

impl Recorded for RecordingKernel {
    fn recorded(&self) -> &RecordingKernel {
        self
    }
}

impl<D: Fn(Fault<'_>) -> Option<Errno> + Sync> Recorded for FailingKernel<RecordingKernel, D> {
    fn recorded(&self) -> &RecordingKernel {
        self.inner()
    }
}

fn on_the_real_kernel(plan: &Plan) -> Result<(), Failed> {
    let directory = PinDir::new();
    let check = nothing_left(&directory);
    each_call_fails(plan, &pinned(&directory), RealKernel::new, |_, ids| {
        check(ids)
    })
}

/// A kernel that has batches, but none for outer maps.
fn slot_by_slot(plan: &Plan) -> Result<(), Failed> {
    let directory = PinDir::new();
    let check = nothing_left(&directory);
    let old = || {
        FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
            (fault.call == "update_batch").then_some(Errno::ENOTSUPP)
        })
        .with_version(KernelVersion {
            major: 5,
            minor: 15,
        })
    };
    each_call_fails(plan, &pinned(&directory), old, |_, ids| check(ids))
}

/// Whoever asks the load to stop finds nothing of it, whenever that is.
fn interrupted(plan: &Plan) -> Result<(), Failed> {
    let directory = PinDir::new();
    let check = nothing_left(&directory);
    for moment in 0.. {
        let kernel = FailingKernel::new(RealKernel::new(), |_: Fault<'_>| None);
        let mut steps = 0;
        let result = load_with(plan, &kernel, &pinned(&directory), &mut |_| {
            steps += 1;
            if steps > moment {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let Err(error) = result else {
            // The load was over before that moment.
            let steps_of_pins = plan.maps.len() + 2;
            assert!(moment >= plan.steps().len() + steps_of_pins);
            return remove(&kernel, &pinned(&directory));
        };
        assert_eq!(error.kind, ErrorKind::Interrupted);
        assert_eq!(error.diagnostics[0].code, codes::INTERRUPTED);
        assert_eq!(kernel.live(), 0);
        check(&kernel.created()).map_err(|left| format!("step {moment}: {:?}", left.message()))?;
    }
    Ok(())
}

fn pinned(directory: &PinDir) -> LoadOptions {
    LoadOptions {
        pin_maps: Some(directory.0.clone()),
        ..LoadOptions::default()
    }
}

/// A check that no descriptor, no pin and none of the maps with the given ids is left.
fn nothing_left(directory: &PinDir) -> impl Fn(&[u32]) -> Result<(), Failed> {
    let (before, directory) = (descriptors(), directory.0.clone());
    move |ids| {
        if descriptors() != before {
            return Err(format!("{} descriptors instead of {before}", descriptors()).into());
        }
        if directory.exists() {
            return Err(format!("{} is left", directory.display()).into());
        }
        match left_of(ids).as_slice() {
            [] => Ok(()),
            ids => Err(format!("maps are left: {ids:?}").into()),
        }
    }
}

/// Lets each call fail with each error; `check` sees whether something is left, and the ids of
/// the maps that were made.
fn each_call_fails<K: Kernel>(
    plan: &Plan,
    options: &LoadOptions,
    fresh: impl Fn() -> K,
    check: impl Fn(&K, &[u32]) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let undisturbed = FailingKernel::new(fresh(), |_: Fault<'_>| None);
    let loaded = load(plan, &undisturbed, options).map_err(|error| error.to_string())?;
    let calls = undisturbed.calls();
    let templates = plan.maps.iter().filter(|map| map.inner.is_some()).count();
    let outers = plan.maps.iter().filter(|map| !map.slots.is_empty()).count();
    assert_eq!(
        undisturbed.created().len(),
        plan.maps.len() + templates + 1,
        "the maps, the templates and the record are looked for"
    );
    drop(loaded);
    remove(&undisturbed, options)?;
    check(undisturbed.inner(), &undisturbed.created())?;
    let (mut refused, mut survived) = (0, 0);
    for index in 0..calls {
        for errno in ERRORS {
            let failed = Mutex::new(("", String::new()));
            let loading = AtomicBool::new(true);
            let kernel = FailingKernel::new(fresh(), |fault: Fault<'_>| {
                let here = fault.index == index && loading.load(Ordering::SeqCst);
                here.then(|| {
                    *failed.lock().expect("nobody panics") = (fault.call, fault.subject.to_owned());
                    errno
                })
            });
            let result = load(plan, &kernel, options);
            loading.store(false, Ordering::SeqCst);
            let (call, subject) = failed.lock().expect("nobody panics").clone();
            let failure = Failure {
                call,
                subject: &subject,
                errno,
            };
            let what = format!("call {index}, {call} of '{subject}', {errno}");
            let verdict = match result {
                // Batches that begin at the same time need not all find out that there are none.
                Ok(loaded) if call.is_empty() => {
                    assert!(index + outers > calls, "{what}: no such call");
                    drop(loaded);
                    remove(&kernel, options).map_err(|why| format!("{:?}", why.message()))
                }
                Ok(loaded) => {
                    survived += 1;
                    let verdict = failure.may_go_on(plan, &loaded, kernel.version());
                    drop(loaded);
                    remove(&kernel, options)?;
                    verdict
                }
                Err(error) => {
                    refused += 1;
                    failure.is_told(&error)
                }
            };
            verdict.map_err(|why| format!("{what}: {why}"))?;
            if kernel.live() != 0 {
                return Err(format!("{what}: {} descriptors are open", kernel.live()).into());
            }
            check(kernel.inner(), &kernel.created())
                .map_err(|left| format!("{what}: {:?}", left.message()))?;
        }
    }
    assert!(
        refused > calls,
        "{refused} of {calls} calls were refused, {survived} were not"
    );
    Ok(())
}

fn remove<K: Kernel>(kernel: &K, options: &LoadOptions) -> Result<(), Failed> {
    let directory = options.pin_maps.as_ref().expect("the tests pin");
    let unloaded = unload(kernel, directory).map_err(|error| error.to_string())?;
    assert_eq!(unloaded.diagnostics, []);
    Ok(())
}

/// A call that was made to fail.
struct Failure<'a> {
    call: &'static str,
    /// The kernel's name of the map, or a path.
    subject: &'a str,
    errno: Errno,
}

impl Failure<'_> {
    /// Whether the load may have gone on, and has said so about the right map.
    fn may_go_on<K: Kernel>(
        &self,
        plan: &Plan,
        loaded: &Loaded<K>,
        version: Option<KernelVersion>,
    ) -> Result<(), String> {
        let said = |code| {
            let mut about = loaded.diagnostics.iter().filter(|said| said.code == code);
            about.any(|said| self.is_about(said))
        };
        match self.call {
            // BTF is tried twice, and then all is well.
            "load_btf" => {
                let mut maps = plan.maps.iter().zip(&loaded.maps);
                maps.all(|(map, made)| map.btf.is_some() == made.btf)
                    .then_some(())
                    .ok_or_else(|| "a map has no BTF".to_owned())
            }
            "create_map" if said(codes::MAP_WITHOUT_BTF) => Ok(()),
            // Where the kernel below has no batch, none is begun and no element of it fails.
            "update_batch" | "batch_element"
                if said(codes::NO_BATCH)
                    && (self.call == "batch_element"
                        || self.errno == Errno::ENOTSUPP
                        || (self.errno == Errno::EINVAL && version.is_none())) =>
            {
                let mut maps = plan.maps.iter().zip(&loaded.maps);
                maps.all(|(map, made)| map.slots.len() == made.filled as usize)
                    .then_some(())
                    .ok_or_else(|| "a slot is empty".to_owned())
            }
            _ => Err(format!("the load goes on: {:?}", loaded.diagnostics)),
        }
    }

    /// Whether the messages name the error, the step and the map.
    fn is_told(&self, error: &LoadError) -> Result<(), String> {
        let Some(first) = error.diagnostics.first() else {
            return Err("no message".to_owned());
        };
        let names_error = |said: &Diagnostic| said.message.contains(&errno_name(self.errno.0));
        let lost = |said: &Diagnostic| {
            said.code == codes::MAP_WITHOUT_BTF && self.is_about(said) && names_error(said)
        };
        if self.call == "create_map" && error.diagnostics.iter().any(lost) {
            // Made without its BTF, the map lost its special fields, and fits into no slot or its
            // slots take no map.
            let told = first.code == codes::SLOT_REFUSED
                && first.map.is_some()
                && first.message.contains("filling slot")
                && first.message.contains("EINVAL");
            return if told {
                Ok(())
            } else {
                Err(format!("the consequence is not explained: {first:?}"))
            };
        }
        if !names_error(first) {
            return Err(format!("the message does not name the error: {first}"));
        }
        let of_the_record = self.subject == record::NAME;
        let step = match self.call {
            "create_map" if of_the_record => "creating the record",
            "create_map" if self.is_template(first) => "creating the inner template",
            "create_map" => "creating the map",
            "info" if of_the_record => "reading the id of the record",
            "info" => "reading its id",
            "batch_element" => "filling slot",
            "update_batch" | "update_slot" => "filling",
            "write" if of_the_record => "writing the record",
            "write" => "bytes of initial contents",
            "freeze" if of_the_record => "freezing the record",
            "freeze" => "freezing it",
            "pin" if of_the_record => "pinning the record",
            "pin" => "pinning it to",
            "make_dir" => "making",
            "lock_dir" => "locking",
            "possible_cpus" => "reading /sys/devices/system/cpu/possible",
            "reserve_fds" => "raising the limit",
            "inspect" | "canonical" => "cannot be used",
            other => return Err(format!("nobody knows the call {other}")),
        };
        if !first.message.contains(step) {
            return Err(format!("the message does not name the step: {first}"));
        }
        let named = match self.call {
            "possible_cpus" | "reserve_fds" => true,
            "make_dir" | "lock_dir" | "inspect" | "canonical" => {
                first.message.contains(self.subject)
            }
            _ if of_the_record => first.message.contains(record::NAME),
            // Sections are declared nowhere.
            _ if self.is_section(first) => self.is_about(first),
            _ => self.is_about(first) && !first.labels.is_empty(),
        };
        if named {
            Ok(())
        } else {
            Err(format!("the message names another map: {first:?}"))
        }
    }

    /// Whether a diagnostic is about the map of the call; the kernel's name of it is cut off.
    fn is_about(&self, said: &Diagnostic) -> bool {
        let name = said.map.as_deref();
        name.is_some_and(|name| name.get(..15).unwrap_or(name) == self.subject)
    }

    fn is_section(&self, said: &Diagnostic) -> bool {
        self.subject.contains('.') && !self.is_template(said)
    }

    fn is_template(&self, said: &Diagnostic) -> bool {
        let name = said.map.as_deref();
        name.is_some_and(|name| name.ends_with(".inner"))
    }
}
