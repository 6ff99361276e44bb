//! Legacy map definitions: hostile sections, and the declarations that diagnostics propose.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panic"
)]

mod builder;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpfplan_compiler::{Compiled, Options, codes, compile, link};
use bpfplan_plan::{Code, Diagnostic, Map, Plan};
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn fixture(name: &str) -> Vec<u8> {
    let path = root().join("fixtures/obj").join(format!("{name}.bpf.o"));
    std::fs::read(path).unwrap()
}

fn ours(object: &[u8]) -> Result<Compiled, Vec<Diagnostic>> {
    compile(object, "x.bpf.o", &Options::default())
}

/// An object with the given section `maps` and its symbols: name, offset, whether it is global.
fn object(section: &[u32], symbols: &[(&str, u64, bool)]) -> Vec<u8> {
    let endianness = object::Endianness::Little;
    let mut file = Object::new(BinaryFormat::Elf, Architecture::Bpf, endianness);
    let maps = file.add_section(Vec::new(), b"maps".to_vec(), SectionKind::Data);
    let bytes: Vec<u8> = section.iter().flat_map(|word| word.to_le_bytes()).collect();
    file.append_section_data(maps, &bytes, 4);
    for (name, value, global) in symbols {
        file.add_symbol(Symbol {
            name: name.as_bytes().to_vec(),
            value: *value,
            size: 0,
            kind: SymbolKind::Data,
            scope: if *global {
                SymbolScope::Dynamic
            } else {
                SymbolScope::Compilation
            },
            weak: false,
            section: SymbolSection::Section(maps),
            flags: SymbolFlags::None,
        });
    }
    file.write().unwrap()
}

const HASH: [u32; 5] = [1, 4, 8, 16, 0];

fn two() -> Vec<u32> {
    [HASH, HASH].concat()
}

fn errors(result: Result<Compiled, Vec<Diagnostic>>) -> Vec<Code> {
    let problems = result.err().unwrap_or_default();
    let errors = problems.iter().filter(|it| it.is_error());
    errors.map(|it| it.code).collect()
}

#[test]
fn objects_without_btf_are_planned() {
    let compiled = ours(&object(&two(), &[("b", 20, true), ("a", 0, true)])).unwrap();
    let names: Vec<&str> = compiled
        .plan
        .maps
        .iter()
        .map(|map| map.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"], "in the order of the section");
    assert!(compiled.plan.object.legacy_maps);
    assert_eq!(compiled.warnings.len(), 2);
}

#[test]
fn sections_that_cannot_be_are_refused() {
    let section = [codes::LEGACY_SECTION];
    for (words, symbols, expected) in [
        // No symbols; sizes that are uneven or too small.
        (two(), &[][..], &section[..]),
        (
            two(),
            &[("a", 0, true), ("b", 12, true), ("c", 24, true)],
            &section,
        ),
        (vec![1, 4, 8], &[("a", 0, true)], &section),
        // Not one behind the other: overlapping, outside, twice at one place.
        (two(), &[("a", 0, true), ("b", 4, true)], &section),
        (two(), &[("a", 0, true), ("b", 40, true)], &section),
        (two(), &[("a", 0, true), ("b", u64::MAX, true)], &section),
        (two(), &[("a", 0, true), ("b", 0, true)], &section),
        // Far too large for one map.
        (vec![0; 4096], &[("a", 0, true)], &section),
        // Non-zero where nobody had a field.
        (vec![1, 4, 8, 16, 0, 7], &[("a", 0, true)], &section),
        (
            vec![1, 4, 8, 16, 0, 0, 0, 0, 0, 1],
            &[("a", 0, true)],
            &section,
        ),
        // Names.
        (
            two(),
            &[("a", 0, true), ("a", 20, true)],
            &[codes::DUPLICATE_NAME],
        ),
        (
            two(),
            &[("a", 0, true), ("b$", 20, true)],
            &[codes::BAD_NAME],
        ),
        (
            two(),
            &[("a", 0, true), ("b", 20, false)],
            &[codes::NOT_GLOBAL],
        ),
    ] {
        assert_eq!(
            errors(ours(&object(&words, symbols))),
            expected,
            "{words:?} {symbols:?}"
        );
    }
}

#[test]
fn slots_are_checked() {
    let outer = [12, 4, 4, 2, 0, 0, 0, 9, 0];
    let inner = |slot| [2, 4, 8, 16, 0, 9, 0, 0, slot];
    let symbols = [("outer", 0, true), ("a", 36, true), ("b", 72, true)];
    let compile = |slots: [u32; 2]| {
        let words = [outer, inner(slots[0]), inner(slots[1])].concat();
        ours(&object(&words, &symbols))
    };
    let compiled = compile([1, u32::MAX]).unwrap();
    let slots = &compiled.plan.map("outer").unwrap().slots;
    assert_eq!(slots.iter().map(|slot| slot.index).collect::<Vec<_>>(), [1]);
    assert_eq!(
        errors(compile([0, 2])),
        [bpfplan_plan::codes::SLOT_BEYOND_END]
    );
    let twice = compile([1, 1]).unwrap();
    assert!(twice.warnings.iter().any(|it| it.code == codes::SLOT_TWICE));
    // The outer map names itself.
    let words = [12, 4, 4, 2, 0, 9, 0, 9, 0];
    let itself = ours(&object(&words, &[("outer", 0, true)]));
    assert!(itself.is_ok_and(|it| it.plan.maps[0].slots.is_empty()));
}

/// A map in the section `maps` and one in `.maps` cannot have one name.
#[test]
fn sections_of_other_loaders_are_not_missed_in_silence() {
    let endianness = object::Endianness::Little;
    let mut file = Object::new(BinaryFormat::Elf, Architecture::Bpf, endianness);
    let maps = file.add_section(Vec::new(), b"maps/flows".to_vec(), SectionKind::Data);
    file.append_section_data(maps, &[0; 20], 4);
    let compiled = ours(&file.write().unwrap()).unwrap();
    assert!(compiled.plan.maps.is_empty());
    let [warning] = compiled.warnings.as_slice() else {
        panic!("{:#?}", compiled.warnings);
    };
    assert_eq!(warning.code, codes::LEGACY_OTHER);
    assert!(warning.message.contains("maps/flows"), "{warning}");
}

/// libbpf's linker wants BTF about every symbol; all objects without are named at once.
#[test]
fn objects_without_btf_cannot_be_linked() {
    let objects = ["a", "b"].map(|name| (name, object(&HASH, &[(name, 0, true)])));
    let inputs = objects
        .each_ref()
        .map(|(name, bytes)| link::Input { name, bytes });
    let problems = link::check(&inputs).unwrap_err();
    let said: Vec<_> = problems
        .iter()
        .map(|it| (it.code, it.object.as_deref(), it.help.is_some()))
        .collect();
    let expected = ["a", "b"].map(|name| (codes::UNSOUND_PART, Some(name), true));
    assert_eq!(said, expected);
}

/// Text about a proposed declaration stands only where there is one.
#[test]
fn what_is_not_proposed_is_not_mentioned() {
    // 36 bytes are iproute2's: a hash that is pinned for all programs.
    let pinned = [1, 4, 8, 16, 0, 0, 2, 0, 0];
    for (name, proposed) in [("flows", true), ("fl.ows", false)] {
        let warnings = ours(&object(&pinned, &[(name, 0, true)])).unwrap().warnings;
        let help = |code| {
            let found = warnings.iter().find(|it: &&Diagnostic| it.code == code);
            found.unwrap().help.as_deref().unwrap_or_default()
        };
        assert_eq!(help(codes::LEGACY_MAP).contains("write instead"), proposed);
        assert_eq!(
            help(codes::LEGACY_PINNING).contains("as proposed"),
            proposed
        );
    }
}

#[test]
fn names_are_unique_in_both_sections() {
    let mut object = fixture("legacy_maps");
    let strings = builder::section(&object, ".strtab").unwrap();
    let at = object[strings.clone()]
        .windows(10)
        .position(|it| it == b"old_table\0");
    let btf = builder::section(&object, ".BTF").unwrap();
    let in_btf = object[btf.clone()]
        .windows(10)
        .position(|it| it == b"old_table\0");
    for at in [strings.start + at.unwrap(), btf.start + in_btf.unwrap()] {
        object[at..at + 3].copy_from_slice(b"new");
    }
    assert!(errors(ours(&object)).contains(&codes::DUPLICATE_NAME));
}

#[test]
fn damaged_objects_are_refused_or_planned() {
    let mut seed = 0x6c65_6761_6379_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % u64::try_from(below).unwrap()).unwrap()
    };
    let mut planned = 0;
    for round in 0..3000 {
        let name = ["legacy_plain", "legacy_iproute2", "legacy_maps"][round % 3];
        let mut object = fixture(name);
        let places = places(&object);
        for _ in 0..1 + random(3) {
            let place = &places[random(4)];
            let at = place.start + random(place.len());
            object[at] = match random(3) {
                0 => 0,
                1 => 0xff,
                _ => object[at] ^ 1 << random(8),
            };
        }
        if let Ok(compiled) = ours(&object) {
            bpfplan_plan::validate::validate(&compiled.plan).unwrap();
            planned += 1;
        }
    }
    assert!(planned > 300, "only {planned} were planned");
}

/// What is damaged: definitions, symbols, types, section headers.
fn places(object: &[u8]) -> [Range<usize>; 4] {
    let place = |name: &str| builder::section(object, name).unwrap();
    let headers = u64::from_le_bytes(object[40..48].try_into().unwrap());
    let headers = usize::try_from(headers).unwrap();
    [
        place("maps"),
        place(".symtab"),
        place(".BTF"),
        headers..object.len(),
    ]
}

/// The proposed declarations, compiled, declare the same maps.
#[test]
fn the_advice_compiles_to_the_same_maps() {
    let Some(clang) = clang() else {
        assert!(std::env::var_os("CI").is_none(), "there is no clang");
        eprintln!("skipped: there is no clang");
        return;
    };
    for name in ["legacy_plain", "legacy_iproute2", "legacy_maps"] {
        let legacy = ours(&fixture(name)).unwrap();
        let mut advice: Vec<(bool, &str)> = legacy
            .warnings
            .iter()
            .filter_map(|it| it.help.as_deref()?.strip_prefix("write instead"))
            .map(
                |text| match text.strip_prefix(", below the maps that it holds: ") {
                    Some(text) => (true, text),
                    None => (false, text.strip_prefix(": ").unwrap()),
                },
            )
            .collect();
        advice.sort();
        let advice: Vec<&str> = advice.into_iter().map(|(_, text)| text).collect();
        let types = "struct flow { __u32 source, target; };\n\
                     struct flow_stats { __u64 packets, bytes; };\n";
        let source = format!(
            "#include \"bpfplan_fixture.h\"\n{types}{}\n",
            advice.join("\n")
        );
        let today = ours(&built(&clang, &source)).unwrap().plan;
        assert!(!today.object.legacy_maps);
        assert_eq!(today.maps.len(), advice.len());
        for map in &today.maps {
            let old = legacy.plan.map(&map.name).unwrap();
            assert_eq!(facts(&today, map), facts(&legacy.plan, old), "{}", map.name);
        }
    }
}

fn facts(plan: &Plan, map: &Map) -> String {
    let key = map.key_type.and_then(|id| plan.type_by_id(id));
    let inner = map
        .inner
        .as_ref()
        .map(|it| (it.map_type, it.value_size, it.max_entries));
    format!(
        "{:?} {} {} {:?} {} {inner:?} {:?} {}",
        map.map_type,
        map.key_size,
        map.value_size,
        map.max_entries,
        map.map_flags,
        map.slots,
        key.is_some(),
    )
}

fn clang() -> Option<PathBuf> {
    let runs = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    ["clang-22", "clang"]
        .iter()
        .find(|it| runs(it))
        .map(PathBuf::from)
}

fn built(clang: &Path, source: &str) -> Vec<u8> {
    let directory = std::env::temp_dir().join(format!("bpfplan-legacy-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (input, output) = (
        directory.join("advice.bpf.c"),
        directory.join("advice.bpf.o"),
    );
    std::fs::write(&input, source).unwrap();
    let result = Command::new(clang)
        .args([
            "-target", "bpf", "-O2", "-g", "-Wall", "-Werror", "-c", "-I",
        ])
        .arg(root().join("fixtures/include"))
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .output()
        .unwrap();
    let object = std::fs::read(&output);
    std::fs::remove_dir_all(&directory).unwrap();
    let said = String::from_utf8_lossy(&result.stderr).into_owned();
    object.unwrap_or_else(|_| panic!("{said}\n{source}"))
}
