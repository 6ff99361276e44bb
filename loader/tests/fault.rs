//! Every single call of a load fails once; afterwards nothing is left, and the message says where
//! it happened.

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
mod sample;

use std::path::Path;

use bpfplan_compiler::{Options, compile};
use bpfplan_loader::{
    Errno, FailingKernel, Fault, Kernel, LoadError, LoadOptions, RealKernel, RecordingKernel,
    codes, load, unload,
};
use bpfplan_plan::rules::{Target, errno_name};
use bpfplan_plan::{Diagnostic, Plan, SlotTarget};
use libtest_mimic::{Arguments, Failed, Trial};
use sample::PinDir;
use sample::maps::{descriptors, left_over};

/// Errors that a call may give: by mistake, by lack of rights, of memory, of support.
const ERRORS: [Errno; 4] = [
    Errno::EINVAL,
    Errno::EPERM,
    Errno(libc::ENOMEM),
    Errno::ENOTSUPP,
];

/// Fixtures with maps of maps, ring buffers, BTF, special fields and values of the machine.
const FIXTURES: [&str; 6] = [
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
        if name != "many_slots" {
            let plan = prefixed(plan);
            let trial = Trial::test(format!("real::{name}"), move || on_the_real_kernel(&plan));
            trials.push(trial.with_ignored_flag(missing.is_some()));
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

/// Beginning of the kernel's names of all maps of these tests.
fn prefix() -> String {
    format!("f{}_", std::process::id())
}

fn prefixed(mut plan: Plan) -> Plan {
    let prefix = prefix();
    for map in &mut plan.maps {
        map.name = format!("{prefix}{}", map.name);
        if let Some(inner) = &mut map.inner {
            inner.name = format!("{}.inner", map.name);
        }
        for slot in &mut map.slots {
            if let SlotTarget::Map(name) = &mut slot.target {
                *name = format!("{prefix}{name}");
            }
        }
    }
    plan
}

fn recording(plan: &Plan) -> Result<(), Failed> {
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
        || RecordingKernel::new(target).with_directory("/sys/fs/bpf"),
        |kernel| {
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

fn on_the_real_kernel(plan: &Plan) -> Result<(), Failed> {
    let directory = PinDir::new();
    let options = LoadOptions {
        pin_maps: Some(directory.0.clone()),
        ..LoadOptions::default()
    };
    let before = descriptors();
    each_call_fails(plan, &options, RealKernel::new, |_| {
        if descriptors() != before {
            return Err(format!("{} descriptors instead of {before}", descriptors()).into());
        }
        if directory.0.exists() {
            return Err(format!("{} is left", directory.0.display()).into());
        }
        match left_over(&prefix()).as_slice() {
            [] => Ok(()),
            maps => Err(format!("maps are left: {maps:?}").into()),
        }
    })
}

/// Lets each call fail with each error; `check` sees whether something is left.
fn each_call_fails<K: Kernel>(
    plan: &Plan,
    options: &LoadOptions,
    fresh: impl Fn() -> K,
    check: impl Fn(&K) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let undisturbed = FailingKernel::new(fresh(), |_: Fault<'_>| None);
    let loaded = load(plan, &undisturbed, options).map_err(|error| error.to_string())?;
    let calls = undisturbed.calls();
    drop(loaded);
    remove(&undisturbed, options)?;
    check(undisturbed.inner())?;
    let (mut refused, mut survived) = (0, 0);
    for index in 0..calls {
        for errno in ERRORS {
            let name = std::sync::Mutex::new("");
            let kernel = FailingKernel::new(fresh(), |fault: Fault<'_>| {
                (fault.index == index).then(|| {
                    *name.lock().expect("nobody panics") = fault.call;
                    errno
                })
            });
            let result = load(plan, &kernel, options);
            let call = *name.lock().expect("nobody panics");
            let what = format!("call {index}, {call}, {errno}");
            match result {
                Ok(loaded) => {
                    survived += 1;
                    if !has_fallback(call, errno)
                        || (loaded.diagnostics.is_empty() && call != "load_btf")
                    {
                        return Err(format!("{what}: the load goes on, without a word").into());
                    }
                    drop(loaded);
                    remove(&kernel, options)?;
                }
                Err(error) => {
                    refused += 1;
                    says_where(call, errno, &error).map_err(|why| format!("{what}: {why}"))?;
                }
            }
            if kernel.live() != 0 {
                return Err(format!("{what}: {} descriptors are open", kernel.live()).into());
            }
            check(kernel.inner()).map_err(|left| format!("{what}: {:?}", left.message()))?;
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

/// Calls after whose failure there is another way.
fn has_fallback(call: &str, errno: Errno) -> bool {
    match call {
        // The types of keys and values are not vital; BTF is tried twice, and then all is well.
        "load_btf" | "create_map" => true,
        "update_batch" => matches!(errno, Errno::ENOTSUPP | Errno::EINVAL),
        _ => false,
    }
}

/// The message has the error's name, and the map's if the call was about one.
fn says_where(call: &str, errno: Errno, error: &LoadError) -> Result<(), String> {
    // Without its BTF a map may be made all the same, and fit into no slot later.
    let consequence = |found: &Diagnostic| {
        found.code == codes::MAP_WITHOUT_BTF && found.message.contains(&errno_name(errno.0))
    };
    if error.diagnostics.iter().skip(1).any(consequence) {
        return Ok(());
    }
    let Some(first) = error.diagnostics.first() else {
        return Err("no message".to_owned());
    };
    let text = first.to_string();
    if !text.contains(&errno_name(errno.0)) {
        return Err(format!("the message does not name the error: {text}"));
    }
    let of_the_record = text.contains("bpfplan_record");
    let about_a_map = matches!(call, "create_map" | "update_batch" | "update_slot" | "pin");
    if about_a_map && !of_the_record {
        if first.map.is_none() || first.labels.is_empty() {
            return Err(format!("the message does not name the map: {first:?}"));
        }
        let step = match call {
            "create_map" => ["creating the map", "creating the inner template"].as_slice(),
            "pin" => &["pinning it to"],
            _ => &["filling"],
        };
        if !step.iter().any(|step| text.contains(step)) {
            return Err(format!("the message does not name the step: {text}"));
        }
    }
    Ok(())
}
