//! Every fixture is accepted or refused as the comment at the top of its source says.
// Tests fail by panicking.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpfplan_compiler::{Options, codes, compile};
use bpfplan_plan::validate::validate;
use bpfplan_plan::{Code, Diagnostic, Plan, SlotTarget};

/// What a source expects of its objects.
#[derive(Debug, Default)]
struct Expectation {
    loads: bool,
    deviates: bool,
    refused_at_open: bool,
    refused_at_load: bool,
    /// `outer[2] = inner`.
    slots: Vec<String>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// The sources by name.
fn sources() -> BTreeMap<String, Expectation> {
    let mut sources = BTreeMap::new();
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some((name, "c" | "s" | "rs")) = file.split_once(".bpf.") else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        sources.insert(name.to_owned(), expectation(&text));
    }
    sources
}

fn expectation(source: &str) -> Expectation {
    let mut this = Expectation::default();
    let lines = source
        .lines()
        .filter_map(|line| line.split_once("expect: "));
    for (_, line) in lines {
        if let Some(slot) = line.strip_prefix("slot ") {
            this.slots.push(slot.trim().to_owned());
        }
        this.loads |= line.starts_with("loads");
        this.deviates |= line.starts_with("deviates");
        this.refused_at_open |= line.starts_with("refused at open");
        this.refused_at_load |= line.starts_with("refused at load");
    }
    this.slots.sort();
    this
}

/// Name of the source and bytes of every object.
fn objects() -> BTreeMap<String, (String, Vec<u8>)> {
    let mut objects = BTreeMap::new();
    for entry in std::fs::read_dir(fixtures().join("obj")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(stem) = file.strip_suffix(".bpf.o") else {
            continue;
        };
        let source = stem.split('.').next().unwrap().to_owned();
        objects.insert(file, (source, std::fs::read(&path).unwrap()));
    }
    objects
}

fn slots(plan: &Plan) -> Vec<String> {
    let mut slots = Vec::new();
    for map in &plan.maps {
        for slot in &map.slots {
            let (SlotTarget::Map(target) | SlotTarget::Program(target)) = &slot.target;
            slots.push(format!("{}[{}] = {target}", map.name, slot.index));
        }
    }
    slots.sort();
    slots
}

/// What may be refused here although libbpf leaves it to the kernel.
fn is_early(code: Code) -> bool {
    code.0.starts_with("BP03") || code == codes::BAD_NAME
}

fn check(expectation: &Expectation, object: &[u8], name: &str) -> Result<(), String> {
    let result = compile(object, name, &Options::default());
    let planned = expectation.loads || expectation.deviates;
    let compiled = match result {
        Ok(compiled) if expectation.refused_at_open && !expectation.deviates => {
            return Err(format!("accepted: {} maps", compiled.plan.maps.len()));
        }
        Ok(compiled) => compiled,
        Err(problems) => {
            let errors: Vec<_> = problems.iter().filter(|it| it.is_error()).collect();
            let early = errors.iter().all(|it| is_early(it.code));
            let expected =
                !planned && (expectation.refused_at_open || expectation.refused_at_load && early);
            let text: Vec<_> = errors.iter().map(ToString::to_string).collect();
            return match expected && !errors.is_empty() {
                true => Ok(()),
                false => Err(format!("refused: {text:?}")),
            };
        }
    };
    validate(&compiled.plan).map_err(|problems| format!("invalid plan: {problems:?}"))?;
    let found = slots(&compiled.plan);
    if planned && found != expectation.slots {
        return Err(format!("slots {found:?}, expected {:?}", expectation.slots));
    }
    Ok(())
}

#[test]
fn expectations_hold() {
    let sources = sources();
    let objects = objects();
    assert!(
        sources.len() >= 25 && objects.len() >= sources.len(),
        "fixtures are missing"
    );
    let mut failures = Vec::new();
    for (file, (source, object)) in &objects {
        let Some(expectation) = sources.get(source) else {
            failures.push(format!("{file} has no source"));
            continue;
        };
        if let Err(what) = check(expectation, object, file) {
            failures.push(format!("{file}: {what}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Twins of one source have the same maps; only byte order and positions may differ.
#[test]
fn twins_agree() {
    let options = Options::default();
    let objects = objects();
    let mut compared = 0;
    for (file, (source, object)) in &objects {
        let original = format!("{source}.bpf.o");
        let (Some((_, first)), true) = (objects.get(&original), *file != original) else {
            continue;
        };
        // gcc lays variables out in another order and names some types in another way.
        if file.ends_with(".gcc.bpf.o") {
            continue;
        }
        let plan = |object: &[u8]| compile(object, "x", &options).map(|it| it.plan).ok();
        let (Some(first), Some(second)) = (plan(first), plan(object)) else {
            continue;
        };
        let attributes = |plan: &Plan| -> Vec<_> {
            let maps = plan.maps.iter().map(|map| {
                let inner = map
                    .inner
                    .as_ref()
                    .map(|it| (it.map_type, it.value_size, it.max_entries));
                let numbers = [map.key_size, map.value_size, map.map_flags, map.numa_node];
                (
                    map.name.clone(),
                    map.map_type,
                    numbers,
                    map.map_extra,
                    map.max_entries,
                    inner,
                )
            });
            maps.collect()
        };
        assert_eq!(attributes(&first), attributes(&second), "{file}");
        assert_eq!(slots(&first), slots(&second), "{file}");
        compared += 1;
    }
    assert!(compared >= 10, "only {compared} twins");
}

#[test]
fn positions_come_from_debug_information() {
    let options = Options::default();
    for (file, (source, object)) in &objects() {
        let Ok(compiled) = compile(object, file, &options) else {
            continue;
        };
        let stripped = file.contains(".nodwarf.");
        for map in &compiled.plan.maps {
            let Some(place) = &map.source else { continue };
            assert!(!stripped, "{file} has no debug information");
            let text = std::fs::read_to_string(fixtures().join("..").join(&*place.file));
            let text = text.unwrap_or_else(|error| panic!("{file}: {place}: {error}"));
            assert!(
                place.file.starts_with(&format!("fixtures/{source}.bpf.")),
                "{file}: {place}"
            );
            let line = text
                .lines()
                .nth(usize::try_from(place.line).unwrap() - 1)
                .unwrap();
            assert!(
                line.contains(&map.name),
                "{file}: {place}: '{line}' is not '{}'",
                map.name
            );
        }
        // Sections are declared nowhere.
        let declared = compiled.plan.maps.iter().filter(|map| !map.is_internal());
        let all = declared.clone().count();
        let known = declared.filter(|map| map.source.is_some()).count();
        let debug = object.windows(12).any(|bytes| bytes == b".debug_info\0");
        assert!(known == all || !debug, "{file}: {known} of {all} positions");
    }
}

#[test]
fn problems_name_their_map() {
    let (_, object) = &objects()["bad_many_problems.bpf.o"];
    let problems = compile(object, "x", &Options::default()).unwrap_err();
    assert!(problems.len() > 4);
    for problem in &problems {
        assert!(problem.map.is_some(), "{problem}");
        assert!(!problem.labels.is_empty(), "{problem}");
    }
    let fields: Vec<&Diagnostic> = problems.iter().filter(|it| it.field.is_some()).collect();
    assert!(fields.len() > 4, "{problems:?}");
}

#[test]
fn kernel_configuration_values_are_laid_out() {
    let (_, object) = &objects()["kconfig_values.bpf.o"];
    let plan = compile(object, "x.o", &Options::default()).unwrap().plan;
    let map = plan.maps.last().unwrap();
    assert_eq!(map.name, "x.kconfig");
    let places = map.externs.iter();
    let places: Vec<(&str, u32, u32, bool)> = places
        .map(|it| (it.name.as_str(), it.offset, it.size, it.weak))
        .collect();
    assert_eq!(
        places[..5],
        [
            ("CONFIG_ILLEGAL_POINTER_VALUE", 0, 8, true),
            ("CONFIG_PHYSICAL_START", 8, 8, true),
            ("LINUX_HAS_BPFPLAN", 16, 8, true),
            ("CONFIG_BPF", 24, 4, false),
            ("CONFIG_HZ", 28, 4, false),
        ]
    );
    // The last two are strings, which are aligned to nothing.
    assert_eq!(
        places[places.len() - 2..],
        [
            ("CONFIG_CC_VERSION_TEXT", 53, 4, true),
            ("CONFIG_DEFAULT_HOSTNAME", 57, 16, true),
        ]
    );
    assert_eq!(map.value_size, 73);
}

#[test]
fn hashes_only_when_asked() {
    let (_, object) = &objects()["ringbuf_slots.bpf.o"];
    let plan = |hash| compile(object, "dir/x.o", &Options { hash }).unwrap().plan;
    assert_eq!(plan(false).object.sha256, None);
    assert_eq!(plan(false).object.name, "x.o");
    assert_eq!(plan(true).object.sha256.map(|hash| hash.len()), Some(64));
}
