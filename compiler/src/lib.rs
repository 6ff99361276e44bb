//! Compiles the map declarations of a BPF object into a load plan.
//!
//! [`compile`] takes the bytes of an object and gives a [`Plan`] or diagnostics. The stages, each
//! a module that takes the previous one's value:
//!
//! ELF file (`elf`) → checked BTF (`btf::raw`) → variables of `.maps` (`fixup`) → the types that
//! they reach (`btf::trim`, `btf::view`) → declarations (`declaration`) → slots (`slots`) → plan
//! (`assemble`).
//!
//! It answers as libbpf's `bpf_object__open` does, without asking a kernel: the same object gives
//! the same plan on every machine.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod assemble;
mod btf;
mod bytes;
pub mod codes;
mod declaration;
mod definition;
mod dwarf;
mod elf;
mod externs;
mod fixup;
mod not_planned;
mod problems;
mod programs;
mod slots;
mod source;
mod types;

use std::collections::HashSet;

use bpfplan_plan::types::TypeId;
use bpfplan_plan::{Diagnostic, Object, Plan, format, rules};
use sha2::{Digest, Sha256};

use assemble::Maps;
use btf::raw::Raw;
use btf::view::View;
use elf::Elf;
use fixup::Variable;
use problems::Problems;

/// How to compile.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether the plan gets the object's SHA-256; only plans that are written need it.
    pub hash: bool,
}

/// A plan, with what is to be said about it.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The plan.
    pub plan: Plan,
    /// Diagnostics that are not errors.
    pub warnings: Vec<Diagnostic>,
}

/// Compiles the bytes of an object. `name` is its file name; directories in it are left out.
///
/// # Errors
/// All problems of the object, warnings included, if at least one of them is an error.
pub fn compile(object: &[u8], name: &str, options: &Options) -> Result<Compiled, Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let plan = plan(object, name, options, &mut problems);
    match plan {
        Some(plan) if !problems.failed() => Ok(Compiled {
            plan,
            warnings: problems.into_list(),
        }),
        _ => Err(problems.into_list()),
    }
}

fn plan(object: &[u8], name: &str, options: &Options, problems: &mut Problems) -> Option<Plan> {
    let elf = elf::read(object, problems)?;
    let raw = read_btf(&elf, problems);
    let kconfig = externs::check(&elf, raw.as_ref(), problems);
    let maps = raw
        .and_then(|raw| read_maps(&elf, &raw, problems))
        .unwrap_or_default();
    if elf.maps.is_none() {
        programs::check(&elf, &HashSet::new(), problems);
    }
    not_planned::check_arena(&elf, &maps.maps, problems);
    let plan = Plan {
        version: format::VERSION,
        object: Object {
            name: file_name(name),
            sha256: options.hash.then(|| hash(object)),
            endianness: elf.endianness,
        },
        maps: maps.maps,
        not_planned: not_planned::list(&elf, kconfig),
        types: maps.types,
        kernel_types: maps.kernel_types,
        btf: maps.btf,
    };
    rules::slot_errors(&plan)
        .into_iter()
        .for_each(|diagnostic| problems.add(diagnostic));
    Some(plan)
}

/// The checked BTF of the object, if it has any.
fn read_btf<'a>(elf: &Elf<'a>, problems: &mut Problems) -> Option<Raw<'a>> {
    let needed = elf.needs_btf();
    let Some(section) = elf.btf else {
        if needed {
            let message = "the object declares maps, but has no BTF to describe them";
            problems.add(
                Diagnostic::error(codes::NO_BTF, message)
                    .help("compile with -g and strip with llvm-strip -g only, which keeps .BTF"),
            );
        }
        return None;
    };
    // libbpf goes on without BTF that it does not need.
    match Raw::parse(section) {
        Ok(raw) => {
            if let Some(Err(diagnostic)) = elf.btf_ext.filter(|_| needed).map(btf::ext::check) {
                problems.add(diagnostic);
            }
            Some(raw)
        }
        Err(diagnostic) => {
            if needed {
                problems.add(diagnostic);
            }
            None
        }
    }
}

fn read_maps(elf: &Elf<'_>, raw: &Raw<'_>, problems: &mut Problems) -> Option<Maps> {
    let variables = fixup::maps(elf, raw, problems);
    let section = elf.maps.and_then(|maps| elf.sections.get(maps))?;
    let Some(variables) = variables else {
        let message = "the object has a section .maps, but no BTF about it";
        problems.add(
            Diagnostic::error(codes::NO_MAPS_DATASEC, message)
                .help("declare maps as global variables with SEC(\".maps\") and compile with -g"),
        );
        return None;
    };
    let view = decode(raw, &variables)
        .map_err(|diagnostic| problems.add(diagnostic))
        .ok()?;
    let (view, tags, ids) = view;
    let sources = source::find(elf, &variables);
    let typed: Vec<(Variable, TypeId)> = variables.iter().cloned().zip(ids).collect();
    let declarations = declaration::read(&view, &typed, section.size, &sources, problems);
    let slots = slots::collect(elf, &variables, &declarations, problems);
    let offsets = variables
        .iter()
        .map(|variable| u64::from(variable.offset))
        .collect();
    programs::check(elf, &offsets, problems);
    Some(assemble::assemble(
        &view,
        &tags,
        &declarations,
        slots,
        elf.endianness,
        problems,
    ))
}

type Decoded = (View, types::Tags, Vec<TypeId>);

/// The types that the variables reach, and the variables' ids among them.
fn decode(raw: &Raw<'_>, variables: &[Variable]) -> Result<Decoded, Diagnostic> {
    let ids: Vec<u32> = variables.iter().map(|variable| variable.id).collect();
    let trimmed = btf::trim::trim(raw, &ids)?;
    let mut view = View::decode(&trimmed)?;
    btf::cycles::check(&view)?;
    view.follow_modifiers();
    let tags = types::Tags::new(&view, &trimmed);
    Ok((
        view,
        tags,
        trimmed.variables.into_iter().map(TypeId).collect(),
    ))
}

fn file_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.replace('\0', "")
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
