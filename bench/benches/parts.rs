//! The parts of a load, one by one, and whole loads beside libbpf's with their ratio.

// A bench may panic: that is how it fails.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bpfplan_bench::clock::Series;
use bpfplan_bench::{libbpf, ours};
use bpfplan_loader::{Kernel, LoadOptions, RealKernel, load, unload};
use bpfplan_plan::{Endianness, Plan, btf, format};
use divan::Bencher;

/// Few maps, many, a full map of maps, several of them, many types.
const OBJECTS: [&str; 5] = [
    "plain-10",
    "plain-100",
    "slots-64",
    "outer_several",
    "types-100",
];

/// Pairs of ours and libbpf's in turn, so that both see the same machine.
const ROUNDS: usize = 5;

/// The kernel frees maps later, and its work for that would be in the next load's way.
const NAP: Duration = Duration::from_millis(50);

/// Samples of what asks the kernel: slots wait for grace periods.
const SAMPLES: u32 = 10;

fn main() {
    divan::main();
    // `cargo bench -- --list` and filters are about the parts only.
    if std::env::args()
        .skip(1)
        .all(|argument| argument == "--bench")
    {
        ratios();
    }
}

/// Bench objects come from a rule, fixtures from their sources.
fn object(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = format!("{name}.bpf.o");
    fs::read(root.join("obj").join(&file))
        .or_else(|_| fs::read(root.join("../fixtures/obj").join(file)))
        .expect("the object is there")
}

fn plan(name: &str) -> Plan {
    ours::open(&object(name)).expect("it compiles")
}

#[divan::bench(args = OBJECTS)]
fn compile(bencher: Bencher<'_, '_>, name: &str) {
    let object = object(name);
    bencher.bench(|| ours::open(&object).expect("it compiles"));
}

#[divan::bench(args = OBJECTS)]
fn open_by_libbpf(bencher: Bencher<'_, '_>, name: &str) {
    let object = object(name);
    bencher.bench(|| libbpf::Object::open(&object).expect("it opens"));
}

#[divan::bench(args = OBJECTS)]
fn read_json(bencher: Bencher<'_, '_>, name: &str) {
    let text = format::to_json(&plan(name)).expect("it is written");
    bencher.bench(|| format::read(text.as_bytes()).expect("it reads"));
}

#[divan::bench(args = OBJECTS)]
fn read_binary(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = ours::prepare(&object(name)).expect("it is written");
    bencher.bench(|| format::read(&bytes).expect("it reads"));
}

#[divan::bench(args = OBJECTS)]
fn encode_btf(bencher: Bencher<'_, '_>, name: &str) {
    let plan = plan(name);
    bencher.bench(|| btf::encode(&plan.types, Endianness::NATIVE).expect("it encodes"));
}

/// The types that keys and values reach, as the kernel gets them.
#[divan::bench(args = OBJECTS)]
fn load_btf(bencher: Bencher<'_, '_>, name: &str) {
    let Some(kernel) = kernel() else { return };
    let plan = plan(name);
    let blob = btf::encode(&plan.types, Endianness::NATIVE).expect("it encodes");
    bencher.bench(|| kernel.load_btf(&blob, None).expect("the kernel takes it"));
}

/// All that a load does but the kernel's part.
#[divan::bench(args = OBJECTS)]
fn record_calls(bencher: Bencher<'_, '_>, name: &str) {
    let plan = plan(name);
    bencher.bench(|| ours::dry(&plan).expect("it loads"));
}

#[divan::bench(args = OBJECTS, sample_count = SAMPLES, sample_size = 1)]
fn execute(bencher: Bencher<'_, '_>, name: &str) {
    if kernel().is_none() {
        return;
    }
    let plan = plan(name);
    bencher.bench(|| ours::execute(&plan).expect("it loads"));
}

#[divan::bench(args = OBJECTS, sample_count = SAMPLES, sample_size = 1)]
fn open_and_load_by_libbpf(bencher: Bencher<'_, '_>, name: &str) {
    if kernel().is_none() {
        return;
    }
    let object = object(name);
    bencher.bench(|| {
        let mut object = libbpf::Object::open(&object).expect("it opens");
        object.load().expect("it loads");
        object
    });
}

/// A load that pins every map and leaves its record, and the unload that removes both.
#[divan::bench(args = OBJECTS, sample_count = SAMPLES, sample_size = 1)]
fn pin_and_unload(bencher: Bencher<'_, '_>, name: &str) {
    let Some(kernel) = kernel() else { return };
    let directory = PathBuf::from(format!("/sys/fs/bpf/bpfplan-bench-{}", std::process::id()));
    let plan = plan(name);
    let options = LoadOptions {
        pin_maps: Some(directory.clone()),
        raise_nofile: true,
        ..LoadOptions::default()
    };
    bencher.bench(|| {
        load(&plan, &kernel, &options).expect("it loads");
        unload(&kernel, &directory).expect("the pins are there")
    });
}

/// The running kernel, if maps can be created there.
fn kernel() -> Option<RealKernel> {
    match ours::execute(&plan("plain-10")) {
        Ok(_) => Some(RealKernel::new()),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

/// Whole ways beside libbpf's: object to plan, object to maps, plan compiled ahead to maps.
fn ratios() {
    println!(
        "\nlibbpf's time over ours ({} rounds in turn, libbpf {})",
        ROUNDS,
        libbpf::version()
    );
    println!(
        "{:16} {:>10} {:>10} {:>10}",
        "object", "open", "load", "ahead"
    );
    for name in OBJECTS {
        let object = object(name);
        let ahead = ours::prepare(&object).expect("it is written");
        let [
            mut ours_open,
            mut open,
            mut ours_load,
            mut load,
            mut ours_ahead,
        ] = [const { Vec::<Series>::new() }; 5].map(|_| Series::default());
        let mut refused = None;
        for _ in 0..ROUNDS {
            let opened = time(&mut ours_open, || ours::open(&object));
            opened.expect("it compiles");
            let opened = time(&mut open, || libbpf::Object::open(&object));
            opened.expect("it opens");
            let mine = time(&mut ours_load, || {
                ours::open(&object).and_then(|plan| ours::execute(&plan))
            });
            if let Err(why) = mine {
                refused = Some(why);
                break;
            }
            let theirs = time(&mut load, || {
                let mut object = libbpf::Object::open(&object)?;
                object.load()?;
                Ok::<_, anyhow::Error>(object)
            });
            theirs.expect("libbpf loads it as well");
            let ahead = time(&mut ours_ahead, || ours::execute(&format::read(&ahead)?));
            ahead.expect("the plan loads");
        }
        let [whole, ahead] =
            [(&load, &ours_load), (&load, &ours_ahead)].map(|(theirs, ours)| ratio(theirs, ours));
        println!(
            "{name:16} {:>10} {whole:>10} {ahead:>10}",
            ratio(&open, &ours_open)
        );
        if let Some(why) = refused {
            println!("  no loads: {why}");
        }
    }
}

/// Times one call; what it gives is dropped outside the clock.
fn time<T>(series: &mut Series, call: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<()> {
    let start = Instant::now();
    let made = call();
    series.add(start);
    drop(made?);
    std::thread::sleep(NAP);
    Ok(())
}

fn ratio(theirs: &Series, ours: &Series) -> String {
    match (theirs.median(), ours.median()) {
        (Some(theirs), Some(ours)) => format!("{:.2}", theirs.as_secs_f64() / ours.as_secs_f64()),
        _ => "-".to_owned(),
    }
}
