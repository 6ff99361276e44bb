//! Resolves names across objects as libbpf's linker does (`linker_append_elf_sym`), and reports
//! what it would refuse, with the places of both declarations.

use std::collections::HashMap;

use bpfplan_plan::{Diagnostic, Source};

use super::differences::{self, Declared};
use super::part::{Global, Part};
use super::types::{self, Budget};
use crate::bytes::text;
use crate::codes;
use crate::externs::{KCONFIG, KSYMS};
use crate::problems::Problems;

/// Sections of which the linker wants the same bytes in every object that has them.
const SHARED: [&str; 2] = ["license", "version"];

/// What a name stands for so far.
#[derive(Clone, Copy)]
struct Holder<'p, 'a> {
    part: &'p Part<'a>,
    global: &'p Global<'a>,
    /// Whether a strong definition may still replace it.
    weak: bool,
}

/// Reports everything that keeps the objects from being linked; gives the places of all maps.
pub(super) fn check(parts: &[Part<'_>], problems: &mut Problems) -> HashMap<String, Source> {
    check_headers(parts, problems);
    let mut budget = Budget::new();
    let mut names: HashMap<&[u8], Holder<'_, '_>> = HashMap::new();
    let mut order: Vec<&[u8]> = Vec::new();
    for part in parts {
        for global in &part.globals {
            let newcomer = Holder {
                part,
                global,
                weak: global.weak,
            };
            match names.get_mut(global.name) {
                Some(holder) => meet(holder, newcomer, &mut budget, problems),
                None => {
                    order.push(global.name);
                    names.insert(global.name, newcomer);
                }
            }
        }
    }
    let mut sources = HashMap::new();
    for holder in order.iter().filter_map(|name| names.get(name)) {
        if holder.global.declared {
            check_undefined(holder, problems);
        } else if let Some(source) = holder.part.source(holder.global.name) {
            sources.insert(text(holder.global.name), source.clone());
        }
    }
    sources
}

/// Byte order, and sections that must be the same everywhere.
fn check_headers(parts: &[Part<'_>], problems: &mut Problems) {
    let Some(first) = parts.first() else {
        return;
    };
    for part in parts {
        if part.elf.endianness != first.elf.endianness {
            let message = format!(
                "{} is {}, {} is {}",
                first.name, first.elf.endianness, part.name, part.elf.endianness
            );
            let mut diagnostic = Diagnostic::error(codes::MIXED_BYTE_ORDER, message)
                .help("compile all objects for one byte order: -target bpfel or -target bpfeb");
            diagnostic.object = Some(part.name.to_owned());
            problems.add(diagnostic);
        }
    }
    for name in SHARED {
        let sections = |part| section(part, name).map(|data| (part, data));
        let mut holders = parts.iter().filter_map(sections);
        let Some((holder, data)) = holders.next() else {
            continue;
        };
        for (part, other) in holders.filter(|(_, other)| *other != data) {
            let shown = |data: &[u8]| match name {
                "license" => text(data.split(|byte| *byte == 0).next().unwrap_or_default()),
                _ => format!("{data:02x?}"),
            };
            let message = format!(
                "section {name} is '{}' in {} and '{}' in {}",
                shown(data),
                holder.name,
                shown(other),
                part.name
            );
            let mut diagnostic = Diagnostic::error(codes::SECTIONS_DIFFER, message)
                .help(format!("give all objects the same {name}"));
            diagnostic.object = Some(part.name.to_owned());
            problems.add(diagnostic);
        }
    }
}

fn section<'a>(part: &Part<'a>, name: &str) -> Option<&'a [u8]> {
    part.elf.section(name.as_bytes()).map(|it| it.data)
}

/// A name is met again.
fn meet<'p, 'a>(
    holder: &mut Holder<'p, 'a>,
    newcomer: Holder<'p, 'a>,
    budget: &mut Budget,
    problems: &mut Problems,
) {
    let both_defined = !holder.global.declared && !newcomer.global.declared;
    if both_defined && !holder.weak && !newcomer.weak {
        problems.add(conflict(holder, &newcomer));
        return;
    }
    // What differs is defined all the same: that is not to be missed as well.
    mismatch(holder, &newcomer, budget)
        .into_iter()
        .for_each(|diagnostic| problems.add(diagnostic));
    // A strong declaration makes a weak definition strong.
    holder.weak &= newcomer.global.weak;
    let loses = newcomer.global.declared || !holder.global.declared && newcomer.global.weak;
    if !loses {
        *holder = Holder {
            weak: holder.weak,
            ..newcomer
        };
    }
}

/// What a name is, in words.
fn noun(holder: &Holder<'_, '_>) -> &'static str {
    let ty = holder.global.id.zip(holder.part.raw.as_ref());
    match ty.and_then(|(id, raw)| raw.get(id)) {
        _ if holder.global.is_map() => "map",
        Some(ty) if ty.kind == bpfplan_plan::uapi::BTF_KIND_FUNC => "function",
        Some(_) => "variable",
        None => "symbol",
    }
}

fn says(holder: &Holder<'_, '_>) -> &'static str {
    match (holder.global.declared, holder.global.weak) {
        (true, _) => "declared",
        (false, true) => "weakly defined",
        (false, false) => "defined",
    }
}

/// What a message is about; a map is named beside it.
fn subject(holder: &Holder<'_, '_>) -> String {
    if holder.global.is_map() {
        return "it".to_owned();
    }
    format!("the {} '{}'", noun(holder), text(holder.global.name))
}

/// A diagnostic with both places.
fn at_both(
    diagnostic: Diagnostic,
    holder: &Holder<'_, '_>,
    newcomer: &Holder<'_, '_>,
) -> Diagnostic {
    let name = newcomer.global.name;
    let here = |it: &Holder<'_, '_>| format!("{} here, in {}", says(it), it.part.name);
    let mut diagnostic = diagnostic
        .at(newcomer.part.source(name), here(newcomer))
        .at(holder.part.source(name), here(holder));
    if newcomer.global.is_map() {
        diagnostic = diagnostic.map(text(name));
    }
    diagnostic.object = Some(newcomer.part.name.to_owned());
    diagnostic
}

fn conflict(holder: &Holder<'_, '_>, newcomer: &Holder<'_, '_>) -> Diagnostic {
    let (one, other) = (holder.part.name, newcomer.part.name);
    let what = subject(newcomer);
    let message = format!("{what} is defined in {one} and in {other}");
    let diagnostic = Diagnostic::error(codes::TWO_DEFINITIONS, message);
    let diagnostic = if holder.global.weak {
        diagnostic
            .note("a declaration without __weak in between makes the weak definition a strong one")
            .help(format!("name {other} before {one}"))
    } else {
        diagnostic.help("rename one, make one __weak, or declare it extern in one of the objects")
    };
    at_both(diagnostic, holder, newcomer)
}

/// Declarations of one name must mean the same.
fn mismatch(
    holder: &Holder<'_, '_>,
    newcomer: &Holder<'_, '_>,
    budget: &mut Budget,
) -> Option<Diagnostic> {
    let (one, other) = (holder.part.name, newcomer.part.name);
    let name = text(newcomer.global.name);
    let differs = |what: &str| {
        let subject = subject(newcomer);
        let message = format!("{subject} is declared differently in {one} and in {other}: {what}");
        Diagnostic::error(codes::DECLARATIONS_DIFFER, message)
    };
    // Objects without it were refused.
    let raws = holder.part.raw.as_ref().zip(newcomer.part.raw.as_ref());
    let (raw, other_raw) = raws?;
    // Jump tables have none, and are local.
    let (id, other_id) = holder.global.id.zip(newcomer.global.id)?;
    if noun(holder) != noun(newcomer) {
        let what = differs(&format!("a {} against a {}", noun(holder), noun(newcomer)));
        return Some(at_both(what, holder, newcomer));
    }
    let sections = (holder.global.section, newcomer.global.section);
    if let (Some(section), Some(other_section)) = sections
        && section != other_section
        && section != b".extern"
        && other_section != b".extern"
    {
        let (a, b) = (text(section), text(other_section));
        let what = differs(&format!("section {a} against {b}"));
        return Some(at_both(what, holder, newcomer));
    }
    if !newcomer.global.is_map() {
        let what = types::difference((raw, id), (other_raw, other_id), budget)?;
        return Some(at_both(differs(&what), holder, newcomer));
    }
    let definitions = (holder.part.maps.get(&name), newcomer.part.maps.get(&name));
    let (Some(definition), Some(other_definition)) = definitions else {
        return Some(at_both(differs("one is unreadable"), holder, newcomer));
    };
    let found = differences::all(
        Declared {
            definition,
            raw,
            id,
        },
        Declared {
            definition: other_definition,
            raw: other_raw,
            id: other_id,
        },
        budget,
    );
    let first = found.first()?;
    let mut diagnostic = at_both(differs(&list(&found)), holder, newcomer)
        .field(first.field.clone())
        .help("declare the map in one header that all objects include");
    if found.iter().all(|it| it.field.ends_with("map_extra")) {
        let note = "libbpf's linker does not compare map_extra and takes the first";
        diagnostic = diagnostic.note(note);
    }
    Some(diagnostic)
}

fn list(found: &[differences::Difference]) -> String {
    let parts: Vec<String> = found
        .iter()
        .map(|it| format!("{} {}", it.field, it.what))
        .collect();
    parts.join("; ")
}

/// Nobody defines it. Values of the kernel are defined by the kernel.
fn check_undefined(holder: &Holder<'_, '_>, problems: &mut Problems) {
    if holder
        .global
        .section
        .is_some_and(|section| section == KCONFIG || section == KSYMS)
    {
        return;
    }
    let name = text(holder.global.name);
    let message = format!("{} is declared, but no object defines it", subject(holder));
    let place = holder.part.source(holder.global.name);
    let mut diagnostic = Diagnostic::error(codes::UNDEFINED, message)
        .at(place, format!("declared here, in {}", holder.part.name))
        .help("name the object that defines it as well");
    if holder.global.is_map() {
        diagnostic = diagnostic.map(name);
    }
    diagnostic.object = Some(holder.part.name.to_owned());
    problems.add(diagnostic);
}
