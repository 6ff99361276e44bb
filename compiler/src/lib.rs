//! Compiles the map declarations of a BPF object into a load plan.
//!
//! [`compile`] takes the bytes of an object and gives a [`Plan`] or diagnostics. The stages, each
//! a module that takes the previous one's value:
//!
//! ELF file (`elf`) → checked BTF (`btf::raw`) → variables of `.maps` and of global data (`fixup`,
//! `globals`) → the types that they reach (`btf::trim`, `btf::view`) → declarations
//! (`declaration`) → slots (`slots`) → plan (`assemble`).
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
mod globals;
mod kconfig;
mod not_planned;
mod problems;
mod programs;
mod slots;
mod source;
mod types;

use std::collections::HashSet;

use bpfplan_plan::types::{Linkage as VarLinkage, SecVar, Type, TypeId};
use bpfplan_plan::{Diagnostic, Map, Object, Plan, format, rules};
use sha2::{Digest, Sha256};

use assemble::Maps;
use btf::raw::Raw;
use btf::reach::{Form, Node};
use btf::view::View;
use elf::Elf;
use fixup::{Datasec, Linkage, Variable};
use globals::Global;
use kconfig::Kconfig;
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
    let name = file_name(name);
    let maps = read_maps(&elf, raw.as_ref(), kconfig.as_ref(), &name, problems).unwrap_or_default();
    if elf.maps.is_none() {
        programs::check(&elf, &HashSet::new(), problems);
    }
    not_planned::check_arena(&elf, &maps.maps, problems);
    let plan = Plan {
        version: format::VERSION,
        object: Object {
            name,
            sha256: options.hash.then(|| hash(object)),
            endianness: elf.endianness,
        },
        maps: maps.maps,
        programs: programs::list(&elf),
        not_planned: not_planned::list(&elf),
        types: maps.types,
        kernel_types: maps.kernel_types,
        btf: maps.btf,
        contents: maps.contents,
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

fn read_maps(
    elf: &Elf<'_>,
    raw: Option<&Raw<'_>>,
    kconfig: Option<&Kconfig<'_>>,
    object: &str,
    problems: &mut Problems,
) -> Option<Maps> {
    let datasecs = raw.map(|raw| fixup::datasecs(elf, raw, problems));
    let datasecs = datasecs.unwrap_or_default();
    let globals = globals::read(elf, raw, &datasecs, object, problems);
    let variables = read_definitions(elf, raw, &datasecs, problems)?;
    let typed = kconfig.filter(|kconfig| kconfig.typed);
    let sections: Vec<&Datasec<'_>> = globals
        .iter()
        .filter_map(|global| datasecs.get(global.datasec?))
        .chain(typed.map(|kconfig| &kconfig.datasec))
        .collect();
    let types = raw.map(|raw| decode(raw, variables, &sections));
    let types = types
        .unwrap_or_else(|| Ok(Types::default()))
        .map_err(|diagnostic| problems.add(diagnostic))
        .ok()?;
    let mut maps = declared_maps(elf, &types, variables, problems);
    let mut ids = types.sections.iter().copied();
    maps.extend(globals.iter().map(|global| {
        let datasec = global.datasec.and_then(|place| datasecs.get(place));
        global.map(datasec.and_then(|_| ids.next()), datasec)
    }));
    maps.extend(kconfig.map(|kconfig| kconfig.map(ids.next(), object)));
    globals::check_names(&maps, problems);
    let contents = globals.iter().filter_map(Global::contents).collect();
    let (view, tags) = (&types.view, &types.tags);
    let maps = assemble::assemble(view, tags, maps, elf.endianness, problems);
    Some(Maps { contents, ..maps })
}

/// The variables of `.maps`, none if there is no such section.
fn read_definitions<'d>(
    elf: &Elf<'_>,
    raw: Option<&Raw<'_>>,
    datasecs: &'d [Datasec<'_>],
    problems: &mut Problems,
) -> Option<&'d [Variable]> {
    if elf.maps.is_none() {
        return Some(&[]);
    }
    // What is wrong with the BTF was said.
    raw?;
    let datasec = datasecs.iter().find(|datasec| datasec.name == b".maps");
    if datasec.is_none() {
        let message = "the object has a section .maps, but no BTF about it";
        problems.add(
            Diagnostic::error(codes::NO_MAPS_DATASEC, message)
                .help("declare maps as global variables with SEC(\".maps\") and compile with -g"),
        );
    }
    datasec.map(|datasec| datasec.variables.as_slice())
}

/// The maps that are declared in `.maps`.
fn declared_maps(
    elf: &Elf<'_>,
    types: &Types,
    variables: &[Variable],
    problems: &mut Problems,
) -> Vec<Map> {
    let Some(section) = elf.maps.and_then(|maps| elf.sections.get(maps)) else {
        return Vec::new();
    };
    let sources = source::find(elf, variables);
    let typed = variables
        .iter()
        .cloned()
        .zip(types.variables.iter().copied());
    let typed: Vec<(Variable, TypeId)> = typed.collect();
    let declarations = declaration::read(&types.view, &typed, section.size, &sources, problems);
    let slots = slots::collect(elf, variables, &declarations, problems);
    let offsets = variables
        .iter()
        .map(|variable| u64::from(variable.offset))
        .collect();
    programs::check(elf, &offsets, problems);
    let declared = declarations.iter().zip(slots);
    declared
        .map(|(declaration, slots)| assemble::declared(declaration, slots))
        .collect()
}

/// The types that maps and global data reach.
#[derive(Debug, Default)]
struct Types {
    view: View,
    tags: types::Tags,
    /// The variables of `.maps`.
    variables: Vec<TypeId>,
    /// The DATASECs of the sections of global data.
    sections: Vec<TypeId>,
}

fn decode(
    raw: &Raw<'_>,
    variables: &[Variable],
    sections: &[&Datasec<'_>],
) -> Result<Types, Diagnostic> {
    let node = |form| {
        move |variable: &Variable| Node {
            id: variable.id,
            form,
        }
    };
    let globals = sections.iter().flat_map(|section| &section.variables);
    let nodes: Vec<Node> = variables
        .iter()
        .map(node(Form::Definition))
        .chain(globals.map(node(Form::Global)))
        .collect();
    let trimmed = btf::trim::trim(raw, &nodes)?;
    let mut view = View::decode(&trimmed)?;
    btf::cycles::check(&view)?;
    let tags = types::Tags::new(&view, &trimmed);
    let mut ids = trimmed.variables.iter().copied().map(TypeId);
    let variables = ids.by_ref().take(variables.len()).collect();
    let sections = sections
        .iter()
        .map(|section| add_datasec(&mut view, section, &mut ids))
        .collect();
    view.follow_modifiers();
    Ok(Types {
        view,
        tags,
        variables,
        sections,
    })
}

/// Adds a section with its places as they are after the fix-up; `ids` has its variables' ids.
fn add_datasec(
    view: &mut View,
    section: &Datasec<'_>,
    ids: &mut impl Iterator<Item = TypeId>,
) -> TypeId {
    let mut vars = Vec::with_capacity(section.variables.len());
    for (variable, id) in section.variables.iter().zip(ids) {
        match variable.linkage {
            Linkage::Hidden => view.set_linkage(id, VarLinkage::Static),
            // An extern in `.kconfig` is a variable of the map that is made for it.
            Linkage::Global => view.set_linkage(id, VarLinkage::Global),
            Linkage::Static | Linkage::Extern | Linkage::Unknown => {}
        }
        vars.push(SecVar {
            var: id,
            offset: variable.offset,
            size: variable.size,
        });
    }
    view.push(Type::Datasec {
        name: bytes::text(section.name),
        size: section.size,
        vars,
    })
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
