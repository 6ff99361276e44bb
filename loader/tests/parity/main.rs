//! Random objects through bpfplan's compiler and through libbpf's open, in the same run.
//!
//! Both answer the same: they refuse an object, or open it and see the same maps, attributes,
//! templates and slots in the same order. Every exception is a line of a table in `accepted.rs`.
//!
//! The cases are the same in every run. `BPFPLAN_PARITY=declarations:17` runs one of them and
//! prints all about it, `BPFPLAN_PARITY=fixtures:4000..90000` runs others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has to fail"
)]

#[path = "../../../compiler/tests/builder/mod.rs"]
mod builder;
#[path = "../support/mod.rs"]
mod support;

mod accepted;
mod damage;
mod declarations;
mod libbpf;
mod linking;
#[path = "../support/random.rs"]
mod random;
mod types;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;

use bpfplan_compiler::{Compiled, compile, compile_without_places, read_without_dwarf};
use bpfplan_plan::types::{Type, TypeId};
use bpfplan_plan::{Diagnostic, Endianness, Plan, SlotTarget, Template, btf, validate};
use libtest_mimic::{Arguments, Failed, Trial};
use random::Random;
use support::btf_compare::{self, Graph};
use support::fixtures;
use support::libbpf::from_plan;
use support::release;

use accepted::{DIES, LIBBPF_REFUSES, WE_REFUSE};
use declarations::Generator;
use libbpf::{Answer, Slots};

/// Where the cases of each trial start from.
const SEED: u64 = 0x6270_6670_6c61_6e21;
/// Fewer cases opened than this, and the objects are too broken to compare anything.
const LEAST_OPENED: usize = 5;

fn main() {
    let mut arguments = Arguments::from_args();
    // libbpf runs in forked children, which is safe with one thread only.
    arguments.test_threads = Some(1);
    let mut slots = Trial::test("slots", || run("slots", 60, filled));
    if let Some(why) = support::privilege::missing()
        && std::env::var_os("CI").is_none()
    {
        eprintln!("slots skipped: {why}");
        slots = slots.with_ignored_flag(true);
    }
    let trials = vec![
        Trial::test("declarations", || run("declarations", 3000, declared)),
        Trial::test("fixtures", || {
            let fixtures: Vec<Vec<u8>> = fixtures::all().iter().map(|it| it.bytes()).collect();
            run("fixtures", 3000, move |random| damaged(&fixtures, random))
        }),
        Trial::test("skimmed", || {
            let fixtures: Vec<Vec<u8>> = fixtures::all().iter().map(|it| it.bytes()).collect();
            let make = move |random: &mut Random| {
                let mut object = damaged(&fixtures, random);
                object.resize(object.len().max(1 << 16), 0);
                object
            };
            run_each("skimmed", 1500, make, |object| compare_skimmed(object))
        }),
        Trial::test("linked", || {
            let paths: Vec<_> = fixtures::all().into_iter().map(|it| it.object).collect();
            run("linked", 400, move |random| linked(&paths, random))
        }),
        Trial::test("linking", || {
            let fixtures: Vec<(String, Vec<u8>)> = fixtures::all()
                .into_iter()
                .map(|it| (it.name.clone(), it.bytes()))
                .collect();
            let make = move |random: &mut Random| linking::objects(&fixtures, random);
            run_each("linking", 1000, make, |objects| linking::compare(objects))
        }),
        Trial::test("types", || run("types", 1000, good)),
        slots,
    ];
    libtest_mimic::run(&arguments, trials).exit()
}

/// An object with random declarations, some of them wrong or damaged.
fn declared(random: &mut Random) -> Vec<u8> {
    let careless = random.below(2) == 0;
    let mut object = written(random, careless, |it| it.declare());
    if random.below(4) == 0 {
        damage::change(&mut object, random);
    }
    object
}

/// An object with good declarations.
fn good(random: &mut Random) -> Vec<u8> {
    written(random, false, |it| it.declare())
}

/// An object with good declarations and many slots.
fn filled(random: &mut Random) -> Vec<u8> {
    written(random, false, |it| it.declare_slots())
}

fn written(random: &mut Random, careless: bool, declare: fn(&mut Generator<'_>)) -> Vec<u8> {
    let mut generator = Generator {
        careless,
        random,
        maps: builder::Maps::new(),
        plain: Vec::new(),
    };
    declare(&mut generator);
    generator.maps.object()
}

/// A damaged fixture.
fn damaged(fixtures: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut object = fixtures[random.below(fixtures.len())].clone();
    damage::change(&mut object, random);
    object
}

/// Some fixtures as the static linker puts them together, most often undamaged. Where it does not
/// take them (two maps of one name), the first one alone.
fn linked(fixtures: &[PathBuf], random: &mut Random) -> Vec<u8> {
    let mut pick = || fixtures[random.below(fixtures.len())].as_path();
    let some = [pick(), pick()];
    let linked = libbpf::link(&some).or_else(|| libbpf::link(&some[..1]));
    let mut object = linked.unwrap_or_else(|| std::fs::read(some[0]).unwrap());
    if random.below(3) == 0 {
        damage::change(&mut object, random);
    }
    object
}

type Outcome = Result<(), Failed>;

fn run(trial: &str, cases: u64, make: impl FnMut(&mut Random) -> Vec<u8>) -> Outcome {
    run_each(trial, cases, make, |object| match trial {
        "slots" => compare_slots(object),
        "types" => compare_types(object),
        _ => compare(object),
    })
}

fn run_each<T: Explain>(
    trial: &str,
    cases: u64,
    mut make: impl FnMut(&mut Random) -> T,
    compare: impl Fn(&T) -> Result<String, String>,
) -> Outcome {
    let only = only(trial);
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in only.clone().unwrap_or(0..cases) {
        let made = make(&mut Random::new(SEED.wrapping_add(case << 32)));
        if only.as_ref().is_some_and(|only| only.end - only.start == 1) {
            made.explain(case);
        }
        match compare(&made) {
            Ok(kind) => seen.entry(kind).or_default().push(case),
            Err(why) => failures.push(format!("BPFPLAN_PARITY={trial}:{case}: {why}")),
        }
    }
    for (kind, cases) in &seen {
        println!("{trial}: {:5} × {kind}", cases.len());
    }
    let opened = seen.get("both open it").map_or(0, Vec::len);
    if only.is_none() && opened * 100 < LEAST_OPENED * usize::try_from(cases).unwrap() {
        failures.push(format!("only {opened} of {cases} objects were opened"));
    }
    if failures.is_empty() {
        return Ok(());
    }
    let count = failures.len();
    failures.truncate(20);
    Err(format!("{count} cases differ\n{}", failures.join("\n")).into())
}

/// The cases that the environment asks for; none of a trial that it does not ask for.
fn only(trial: &str) -> Option<Range<u64>> {
    let cases = std::env::var("BPFPLAN_PARITY").ok()?;
    let Some((_, cases)) = cases.split_once(':').filter(|it| it.0 == trial) else {
        return Some(0..0);
    };
    let number = |text: &str| -> u64 { text.parse().expect("BPFPLAN_PARITY=trial:case") };
    Some(match cases.split_once("..") {
        Some((start, end)) => number(start)..number(end),
        None => number(cases)..number(cases) + 1,
    })
}

/// Prints one case and keeps it for other tools.
trait Explain {
    fn explain(&self, case: u64);
}

impl Explain for Vec<u8> {
    fn explain(&self, case: u64) {
        keep(self, &format!("parity-{case}.bpf.o"));
        let theirs = format!("{:#?}", libbpf::opens(self));
        println!("libbpf: {}", theirs.replace("\\n", "\n"));
        println!("bpfplan: {:#?}", ours(self));
    }
}

impl Explain for Vec<Vec<u8>> {
    fn explain(&self, case: u64) {
        for (number, object) in self.iter().enumerate() {
            keep(object, &format!("parity-{case}-{number}.bpf.o"));
        }
    }
}

fn keep(object: &[u8], name: &str) {
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, object).expect("the object can be kept");
    println!("{}", path.display());
}

fn ours(object: &[u8]) -> Result<Compiled, Vec<Diagnostic>> {
    compile(object, "random.bpf.o", &Default::default())
}

fn first_error(problems: &[Diagnostic]) -> &'static str {
    let error = problems.iter().find(|it| it.is_error());
    error.map_or("no error", |it| it.code.0)
}

/// What the two make of an object, in words; an error if they differ in a way that is in no table.
fn compare(object: &[u8]) -> Result<String, String> {
    let ours = ours(object);
    if let Ok(compiled) = &ours {
        validate::validate(&compiled.plan).map_err(|why| format!("invalid plan: {why:?}"))?;
    }
    match (libbpf::opens(object), ours) {
        (Answer::Opens(theirs), Ok(compiled)) => {
            let maps = compiled.plan.maps.iter();
            let ours: Vec<_> = maps
                .map(|map| from_plan(map, map.inner.as_deref()))
                .collect();
            let ours = format!("{ours:#?}");
            if ours != theirs {
                return Err(format!("ours: {ours}\ntheirs: {theirs}"));
            }
            if compiled.plan.object.endianness == Endianness::NATIVE {
                accepted_by_kernel(&compiled.plan)?;
            }
            Ok("both open it".to_owned())
        }
        (Answer::Refuses(..), Err(problems)) => {
            Ok(format!("both refuse it: {}", first_error(&problems)))
        }
        (Answer::Opens(_), Err(problems)) => {
            let mut reasons = Vec::new();
            for problem in problems.iter().filter(|it| it.is_error()) {
                let mut known = WE_REFUSE.iter().filter(|it| it.code == problem.code);
                let Some(known) = known.find(|it| (it.holds)(object)) else {
                    return Err(format!("only we refuse it: {problem}"));
                };
                reasons.push(format!("{}, {}", known.code.0, known.reason));
            }
            let first = reasons.first().ok_or("no error")?;
            Ok(format!("only we refuse it: {first}"))
        }
        (Answer::Refuses(errno, warning), Ok(compiled)) => {
            let known = LIBBPF_REFUSES
                .iter()
                .find(|it| warning.starts_with(it.warning) && (it.holds)(&compiled.plan, object));
            match known {
                Some(known) => Ok(format!("only libbpf refuses it: {}", known.reason)),
                None => Err(format!("only libbpf refuses it: {errno} '{warning}'")),
            }
        }
        (Answer::Dies(signal), Err(problems)) => Ok(format!(
            "signal {signal} ends libbpf, we refuse it: {}",
            first_error(&problems)
        )),
        (Answer::Dies(signal), Ok(_)) => match DIES.iter().find(|it| it.0 == signal) {
            Some((_, reason)) => Ok(format!("signal {signal} ends libbpf, we open it: {reason}")),
            None => Err(format!("signal {signal} ends libbpf, we open it")),
        },
    }
}

/// Compares what the slots hold once libbpf has loaded the object, where it can.
fn compare_slots(object: &[u8]) -> Result<String, String> {
    let Ok(compiled) = ours(object) else {
        return Err("we refuse it".to_owned());
    };
    let maps = &compiled.plan.maps;
    let in_slots = |target: &SlotTarget| match target {
        SlotTarget::Map(name) => Some(name.chars().take(15).collect::<String>()),
        SlotTarget::Program(_) => None,
    };
    let slots: Slots = maps
        .iter()
        .filter(|map| map.map_type.is_outer())
        .map(|map| {
            let slots = map.slots.iter();
            let slots = slots.filter_map(|it| Some((it.index, in_slots(&it.target)?)));
            (map.name.clone(), slots.collect())
        })
        .collect();
    let filled = slots.iter().any(|(_, slots)| !slots.is_empty());
    if !filled || compiled.plan.object.endianness != Endianness::NATIVE {
        return Ok("not compared: no slots".to_owned());
    }
    match libbpf::loads(object) {
        Answer::Opens(theirs) if theirs == format!("{slots:#?}") => Ok("both open it".to_owned()),
        Answer::Opens(theirs) => Err(format!("slots: {slots:#?}\ntheirs: {theirs}")),
        Answer::Refuses(errno, warning) => Err(format!("libbpf refuses it: {errno} '{warning}'")),
        Answer::Dies(signal) => Err(format!("signal {signal} ends libbpf")),
    }
}

/// Compares what an object gives that is read without its DWARF: all but the places.
fn compare_skimmed(object: &[u8]) -> Result<String, String> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(object).unwrap();
    let Some(skimmed) = read_without_dwarf(&file, object.len()).map_err(|why| why.to_string())?
    else {
        return Ok("read whole".to_owned());
    };
    let quick = compile_without_places(&skimmed, "random.bpf.o", &Default::default());
    let said = |diagnostics: &[Diagnostic]| {
        let said: Vec<_> = diagnostics
            .iter()
            .map(|it| (it.code, it.map.clone(), it.message.clone()))
            .collect();
        format!("{said:?}")
    };
    let plan = |mut compiled: Compiled| {
        for map in &mut compiled.plan.maps {
            map.source = None;
        }
        (said(&compiled.warnings), compiled.plan)
    };
    match (ours(object), quick) {
        (Ok(whole), Ok(quick)) if plan(whole.clone()) == plan(quick.clone()) => {
            Ok("both open it".to_owned())
        }
        (Err(whole), Err(quick)) if said(&whole) == said(&quick) => {
            Ok(format!("both refuse it: {}", first_error(&whole)))
        }
        (whole, quick) => Err(format!("whole: {whole:?}\nskimmed: {quick:?}")),
    }
}

/// Compares the types of keys and values by structure.
fn compare_types(object: &[u8]) -> Result<String, String> {
    let Ok(compiled) = ours(object) else {
        return Ok("not compared: we refuse it".to_owned());
    };
    let plan = &compiled.plan;
    let Answer::Opens(theirs) = libbpf::types(object) else {
        return Err("libbpf refuses it".to_owned());
    };
    let id = |id: Option<TypeId>| id.map_or(0, |id| id.0);
    let ours = plan.maps.iter().flat_map(|map| {
        let inner = map.inner.as_deref();
        let of_inner = |of: fn(&Template) -> Option<TypeId>| inner.and_then(of);
        [
            id(map.key_type),
            id(map.value_type),
            id(of_inner(|it| it.key_type)),
            id(of_inner(|it| it.value_type)),
        ]
    });
    let theirs: Vec<u32> = theirs
        .split(|char: char| !char.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    let blob = btf::encode(&plan.types, Endianness::NATIVE).unwrap();
    let section = builder::section(object, ".BTF").unwrap();
    let (a, b) = (Graph::new(&blob), Graph::new(&object[section]));
    let ours: Vec<u32> = ours.collect();
    if ours.len() != theirs.len() {
        return Err(format!("types {ours:?} against {theirs:?}"));
    }
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        btf_compare::same((&a, ours), (&b, theirs))?;
    }
    Ok("both open it".to_owned())
}

/// The kernel's verifier must take the BTF of a plan: what it refuses should not be in there.
fn accepted_by_kernel(plan: &Plan) -> Result<(), String> {
    let graphs = |ty: &Type| matches!(ty, Type::Struct(it) if is_graph(it.name.as_deref()));
    match libbpf::load_btf(&btf_for_kernel(plan)?) {
        None | Some(Ok(())) => Ok(()),
        // Graphs with a corrupt tag are not foreseen; loading goes on without BTF, as in libbpf.
        Some(Err(_)) if plan.types.iter().any(graphs) => Ok(()),
        Some(Err(log)) => Err(format!("the kernel refuses our BTF: {log}")),
    }
}

/// The plan's BTF, in the form in which the loader loads it where names of sections are limited.
fn btf_for_kernel(plan: &Plan) -> Result<Vec<u8>, String> {
    if plan.btf.is_empty() || release::running() >= release::SECTION_NAMES {
        return Ok(plan.btf.to_vec());
    }
    let features = btf::Features {
        question_mark: false,
        ..btf::Features::ALL
    };
    let types = &plan.types[..plan.kernel_types as usize];
    let types = btf::sanitize(types, &features);
    btf::encode(&types, plan.object.endianness).map_err(|why| format!("{why:?}"))
}

fn is_graph(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.starts_with("bpf_list_") || name.starts_with("bpf_rb_"))
}
