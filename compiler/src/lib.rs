//! Compiles the map declarations of a BPF object into a load plan.
//!
//! [`compile`] takes the bytes of an object and gives a [`Plan`] or diagnostics. The stages, each
//! a module that takes the previous one's value:
//!
//! ELF file (`elf`) → checked BTF (`btf::raw`) → variables of `.maps` and of global data (`fixup`,
//! `globals`) → the types that they reach (`btf::trim`, `btf::view`) → declarations
//! (`declaration`) → slots (`slots`) → plan (`assemble`).
//!
//! From a plan, [`bindings`] makes a Rust module with typed handles; [`build`] does all of it in a
//! build script.
//!
//! It answers as libbpf's `bpf_object__open` does, without asking a kernel: the same object gives
//! the same plan on every machine.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod arena;
mod assemble;
pub mod bindings;
mod btf;
pub mod build;
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
mod legacy;
pub mod link;
mod names;
mod problems;
mod programs;
mod skim;
mod slots;
mod source;
mod struct_ops;
mod types;

use bpfplan_plan::contents::MAX_TOTAL;
use bpfplan_plan::types::{Linkage as VarLinkage, SecVar, Type, TypeId};
use bpfplan_plan::{Contents, Diagnostic, Map, Object, Plan, Source, format, rules};
use foldhash::HashMap;
use sha2::{Digest, Sha256};

pub use skim::read_without_dwarf;

use assemble::Maps;
use btf::raw::Raw;
use btf::reach::{Form, Node, index};
use btf::view::View;
use declaration::Declarations;
use elf::{Elf, Stage};
use fixup::{Datasec, Linkage, Variable};
use globals::Global;
use kconfig::Kconfig;
use names::Names;
use problems::Problems;
use struct_ops::StructOps;

/// How to compile.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether the plan gets the SHA-256 of the object and of initial contents; only plans that
    /// are written need it.
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
    compile_as(object, name, options, Stage::Whole)
}

/// As [`compile`], without a look at the DWARF: a map's place in the source is
/// [`Source::later`](bpfplan_plan::Source::later), which [`find_places`] finds when there is something
/// to say about it. `object` may be what [`read_without_dwarf`] gives.
///
/// # Errors
/// As [`compile`].
pub fn compile_without_places(
    object: &[u8],
    name: &str,
    options: &Options,
) -> Result<Compiled, Vec<Diagnostic>> {
    compile_as(object, name, options, Stage::WithoutPlaces)
}

/// Puts the places in the source into diagnostics about a plan that was compiled without them, from
/// the whole object; what its DWARF does not tell is left out.
pub fn find_places(object: &[u8], name: &str, diagnostics: &mut [Diagnostic]) {
    let compiled = compile(object, name, &Options::default());
    let maps = compiled.map_or_else(|_| Vec::new(), |compiled| compiled.plan.maps);
    let places: HashMap<String, Source> = maps
        .into_iter()
        .filter_map(|map| Some((map.name, map.source?)))
        .collect();
    for diagnostic in diagnostics {
        diagnostic.find_places(|variable| places.get(variable).cloned());
    }
}

fn compile_as(
    object: &[u8],
    name: &str,
    options: &Options,
    stage: Stage<'_>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let elf = elf::read(object, &mut problems);
    let plan = elf.and_then(|elf| {
        let elf = Elf { stage, ..elf };
        plan(&elf, object, name, options, &mut problems)
    });
    match plan {
        Some(plan) if !problems.failed() => Ok(Compiled {
            plan,
            warnings: problems.into_list(),
        }),
        _ => Err(problems.into_list()),
    }
}

fn plan(
    elf: &Elf<'_>,
    object: &[u8],
    name: &str,
    options: &Options,
    problems: &mut Problems,
) -> Option<Plan> {
    let raw = read_btf(elf, problems);
    let kconfig = externs::check(elf, raw.as_ref(), problems);
    let name = file_name(name);
    let maps = read_maps(elf, raw.as_ref(), kconfig.as_ref(), &name, problems).unwrap_or_default();
    if elf.maps.is_none() {
        programs::check(elf, &[], problems);
    }
    let mut plan = Plan {
        version: format::VERSION,
        object: Object {
            name,
            sha256: options.hash.then(|| hash(object)),
            endianness: elf.endianness,
            legacy_maps: legacy::has_section(elf),
        },
        maps: maps.maps,
        programs: programs::list(elf),
        jump_tables: programs::jump_tables(elf),
        types: maps.types,
        kernel_types: maps.kernel_types,
        btf: maps.btf.into(),
        contents: maps.contents,
    };
    if options.hash {
        plan.hash_contents();
    }
    rules::each_slot_error(&plan, |diagnostic| problems.add(diagnostic));
    Some(plan)
}

/// The checked BTF of the object, if it has any.
fn read_btf<'a>(elf: &Elf<'a>, problems: &mut Problems) -> Option<Raw<'a>> {
    let needed = elf.needs_btf();
    let Some(section) = elf.btf else {
        if needed {
            problems.add(no_btf());
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

fn no_btf() -> Diagnostic {
    let message = "the object declares maps, but has no BTF to describe them";
    Diagnostic::error(codes::NO_BTF, message)
        .help("compile with -g and strip with llvm-strip -g only, which keeps .BTF")
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
    let names = Names::new(variables.iter().map(|variable| &*variable.name));
    let typed = kconfig.filter(|kconfig| kconfig.typed);
    let in_arena = arena::section(elf);
    let sections: Vec<&Datasec<'_>> = globals
        .iter()
        .filter_map(|global| datasecs.get(global.datasec?))
        .chain(typed.map(|kconfig| &kconfig.datasec))
        .chain(in_arena.and_then(|section| arena::datasec(section, &datasecs)))
        .collect();
    let declarations = raw.map(|raw| declarations(elf, raw, variables, &names, problems));
    let mut declarations = declarations.unwrap_or_default();
    let legacy = legacy::read(elf, raw, &declarations.list, problems);
    let struct_ops = raw.map(|raw| struct_ops::read(elf, raw, &datasecs, problems));
    let struct_ops = struct_ops.unwrap_or_default();
    declarations.types.extend(&legacy.types);
    declarations.types.extend(struct_ops.iter().map(|it| it.ty));
    let types = raw.map(|raw| decode(raw, &declarations.types, &sections));
    let types = types
        .unwrap_or_else(|| Ok(Types::default()))
        .map_err(|diagnostic| problems.add(diagnostic))
        .ok()?;
    slots::fill(elf, variables, &names, &mut declarations.list, problems);
    let declared = declarations.list.into_iter();
    let mut maps: Vec<Map> = declared.map(|declaration| declaration.map).collect();
    maps.splice(0..0, legacy.maps);
    for map in &mut maps {
        assemble::find_types(map, &|id| types.id(id.0));
        if let Some(inner) = &mut map.inner {
            assemble::find_types(inner, &|id| types.id(id.0));
        }
    }
    let mut ids = types.sections.iter().copied();
    maps.extend(globals.iter().map(|global| {
        let datasec = global.datasec.and_then(|place| datasecs.get(place));
        global.map(datasec.and_then(|_| ids.next()), datasec)
    }));
    maps.extend(kconfig.map(|kconfig| kconfig.map(typed.and_then(|_| ids.next()), object)));
    let in_arena =
        in_arena.and_then(|section| arena::attach(section, ids.next(), &mut maps, problems));
    maps.extend(struct_ops_maps(elf, &struct_ops, &types));
    globals::check_names(&maps, problems);
    let mut contents: Vec<Contents> = in_arena.into_iter().collect();
    contents.extend(globals.iter().filter_map(Global::contents));
    check_total(&maps, problems);
    let maps = assemble::assemble(types.view, &types.tags, maps, elf.endianness, problems);
    Some(Maps { contents, ..maps })
}

/// The struct_ops maps.
fn struct_ops_maps(elf: &Elf<'_>, found: &[StructOps<'_>], types: &Types) -> Vec<Map> {
    if found.is_empty() {
        return Vec::new();
    }
    let names = Names::new(found.iter().map(|it| &*it.variable.name));
    let sources = source::find(elf, &names);
    let maps = found.iter().map(|it| {
        let place = names.find(it.variable.name.as_bytes());
        let source = place.and_then(|place| sources.get(place)?.clone());
        it.map(types.id(it.ty), source)
    });
    maps.collect()
}

/// Contents of all kinds together are as bounded as those of each.
fn check_total(maps: &[Map], problems: &mut Problems) {
    let sizes = maps.iter().filter_map(|map| map.data.as_ref());
    let total: u64 = sizes.map(|data| u64::from(data.size)).sum();
    if total > MAX_TOTAL {
        let message = format!("the global data has {total} bytes");
        problems.add(Diagnostic::error(codes::DATA_TOO_LARGE, message));
    }
}

/// The variables of `.maps`, none if there is no such section.
fn read_definitions<'d, 'a>(
    elf: &Elf<'_>,
    raw: Option<&Raw<'_>>,
    datasecs: &'d [Datasec<'a>],
    problems: &mut Problems,
) -> Option<&'d [Variable<'a>]> {
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

/// What is declared in `.maps`.
fn declarations(
    elf: &Elf<'_>,
    raw: &Raw<'_>,
    variables: &[Variable<'_>],
    names: &Names<'_>,
    problems: &mut Problems,
) -> Declarations {
    let Some(section) = elf.maps.and_then(|maps| elf.sections.get(maps)) else {
        return Declarations::default();
    };
    let sources = source::find(elf, names);
    let size = section.size;
    let declarations = declaration::read(raw, variables, names, size, sources, |_, _| (), problems);
    programs::check(elf, variables, problems);
    declarations
}

/// The types that maps and global data reach.
#[derive(Debug, Default)]
struct Types {
    view: View,
    tags: types::Tags,
    /// The view's ids by those of the section; 0 for what is no key and no value.
    ids: Vec<u32>,
    /// The DATASECs of the sections of global data.
    sections: Vec<TypeId>,
}

impl Types {
    /// The view's id of a type of a key or value.
    fn id(&self, id: u32) -> TypeId {
        TypeId(self.ids.get(index(id)).copied().unwrap_or_default())
    }
}

/// Decodes the types of keys and values, `types`, and those of global data.
fn decode(raw: &Raw<'_>, types: &[u32], sections: &[&Datasec<'_>]) -> Result<Types, Diagnostic> {
    let node = |form| move |id| Node { id, form };
    let globals = sections.iter().flat_map(|section| &section.variables);
    let nodes: Vec<Node> = types
        .iter()
        .copied()
        .map(node(Form::Full))
        .chain(globals.map(|variable| variable.id).map(node(Form::Global)))
        .collect();
    let trimmed = btf::trim::trim(raw, &nodes)?;
    let mut view = View::decode(raw, &trimmed)?;
    btf::cycles::check(&view)?;
    let tags = types::Tags::new(&view, &trimmed);
    let mut roots = trimmed.roots.iter().copied().map(TypeId);
    let mut ids = vec![0; raw.len().saturating_add(1)];
    for (id, root) in types.iter().zip(roots.by_ref()) {
        if let Some(place) = ids.get_mut(index(*id)) {
            *place = root.0;
        }
    }
    let sections = sections
        .iter()
        .map(|section| add_datasec(&mut view, section, &mut roots))
        .collect();
    btf::cycles::check_depth(&view)?;
    Ok(Types {
        view,
        tags,
        ids,
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
