//! One of the objects that are to be linked: what it defines and what it only declares.

use std::collections::HashMap;
use std::rc::Rc;

use bpfplan_plan::uapi::{
    BTF_FUNC_STATIC, BTF_KIND_DATASEC, BTF_KIND_FUNC, BTF_KIND_STRUCT, BTF_KIND_VAR, BTF_VAR_STATIC,
};
use bpfplan_plan::{Diagnostic, Source};
use object::elf::{SHN_LORESERVE, STB_WEAK};

use super::{Input, sound};
use crate::btf::ext;
use crate::btf::raw::{Raw, RawType};
use crate::btf::shape::kind;
use crate::bytes::text;
use crate::codes;
use crate::definition::{Definition, Definitions};
use crate::elf::{self, Elf, Role, Stage};
use crate::fixup::{self, Linkage, Variable};
use crate::names::Names;
use crate::problems::Problems;
use crate::slots::Owners;
use crate::{declaration, source};

/// Name of the DATASEC of maps.
const MAPS: &[u8] = b".maps";

/// An object that is to be linked.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// What diagnostics call it.
    pub(super) name: &'a str,
    pub(super) elf: Elf<'a>,
    pub(super) raw: Option<Raw<'a>>,
    /// What other objects can see, in the order of the symbols.
    pub(super) globals: Vec<Global<'a>>,
    /// The maps by name, those included that are only declared.
    pub(super) maps: HashMap<String, Rc<Definition>>,
    /// Where all of them are declared.
    pub(super) sources: HashMap<String, Source>,
}

/// A symbol that other objects can see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Global<'a> {
    pub(super) name: &'a [u8],
    /// Whether it is only declared.
    pub(super) declared: bool,
    pub(super) weak: bool,
    /// The name of its DATASEC, if it has one.
    pub(super) section: Option<&'a [u8]>,
    /// Id of its VAR or FUNC, if it has BTF.
    pub(super) id: Option<u32>,
    /// Index of its section in ELF.
    place: usize,
}

impl Global<'_> {
    /// Whether it is a map.
    pub(super) fn is_map(&self) -> bool {
        self.section == Some(MAPS)
    }
}

impl Part<'_> {
    /// Where something is declared.
    pub(super) fn source(&self, name: &[u8]) -> Option<&Source> {
        self.sources.get(&text(name))
    }
}

/// Reads an object; what has been found wrong is worthless if there are problems.
pub(super) fn read<'a>(input: &Input<'a>, problems: &mut Problems) -> Option<Part<'a>> {
    let mut elf = elf::read(input.bytes, problems)?;
    elf.stage = Stage::Part;
    sound::check_elf(&elf, problems);
    let raw = read_btf(&elf, problems)?;
    let globals = globals(&elf, raw.as_ref(), problems);
    let mut part = Part {
        name: input.name,
        elf,
        raw,
        globals,
        maps: HashMap::new(),
        sources: HashMap::new(),
    };
    check_types(&part, problems);
    if let Some(raw) = &part.raw {
        sound::check_btf(&part.elf, raw, &part.globals, problems);
    }
    if problems.failed() {
        return None;
    }
    let names: Vec<String> = part.globals.iter().map(|it| text(it.name)).collect();
    let sources = source::find_all(&part.elf, &Names::new(names.iter().map(String::as_str)));
    part.sources = names
        .into_iter()
        .zip(sources)
        .filter_map(|(name, source)| Some((name, source?)))
        .collect();
    if let Some(raw) = &part.raw {
        let mut own = Problems::default();
        part.maps = maps(&part.elf, raw, &part.sources, &mut own)
            .map_err(|diagnostic| own.add(diagnostic))
            .unwrap_or_default();
        // A type that is incomplete here may be complete in another object; if it is not, the
        // linked object has the same problem.
        let open = |it: &Diagnostic| it.code == codes::UNSIZED || it.code == codes::BAD_ELEMENT;
        let found = own.into_list().into_iter().filter(|it| !open(it));
        found.for_each(|diagnostic| problems.add(diagnostic));
    }
    Some(part)
}

/// The checked BTF; `None` if it is broken, and `Some(None)` if there is none.
fn read_btf<'a>(elf: &Elf<'a>, problems: &mut Problems) -> Option<Option<Raw<'a>>> {
    if let Some(Err(diagnostic)) = elf.btf_ext.map(ext::check) {
        problems.add(diagnostic);
        return None;
    }
    let Some(section) = elf.btf else {
        if elf.maps.is_some() {
            problems.add(crate::no_btf());
            return None;
        }
        return Some(None);
    };
    Raw::parse(section)
        .map_err(|diagnostic| problems.add(diagnostic))
        .ok()
        .map(Some)
}

/// Variables and functions of BTF by name, as the linker looks for them (`find_glob_sym_btf`).
fn by_name<'a>(raw: &Raw<'a>) -> HashMap<&'a [u8], (Option<&'a [u8]>, u32)> {
    let mut found: HashMap<&[u8], (Option<&[u8]>, u32)> = HashMap::new();
    let visible = |id: u32| raw.get(id).filter(|ty| is_visible(ty));
    for (id, ty) in raw.types() {
        if is_visible(&ty) {
            found.entry(raw.name(ty.name)).or_insert((None, id)).1 = id;
        }
    }
    // A member of a section counts before one that is in none, the first before all others.
    for (_, section) in raw.of_kind(BTF_KIND_DATASEC) {
        let place = raw.name(section.name);
        for [id, _, _] in section.parts() {
            if let Some(ty) = visible(id) {
                let known = found.entry(raw.name(ty.name)).or_insert((None, id));
                if known.0.is_none() {
                    *known = (Some(place), id);
                }
            }
        }
    }
    found
}

/// Whether other objects can see a variable or function.
pub(super) fn is_visible(ty: &RawType<'_>) -> bool {
    match ty.kind {
        BTF_KIND_VAR => ty.word() != BTF_VAR_STATIC,
        BTF_KIND_FUNC => u32::from(ty.vlen) != BTF_FUNC_STATIC,
        _ => false,
    }
}

fn globals<'a>(elf: &Elf<'a>, raw: Option<&Raw<'a>>, problems: &mut Problems) -> Vec<Global<'a>> {
    let types = raw.map(by_name).unwrap_or_default();
    let mut globals = Vec::new();
    for symbol in elf.symbols.iter().skip(1).filter(|it| it.is_global()) {
        let Some(name) = symbol.name().filter(|name| !name.is_empty()) else {
            let message = "a global symbol has no readable name";
            problems.add(Diagnostic::error(codes::UNSOUND_PART, message));
            continue;
        };
        if symbol.section >= SHN_LORESERVE {
            let message = format!("the global symbol '{}' is in no section", text(name));
            problems.add(Diagnostic::error(codes::UNSOUND_PART, message));
            continue;
        }
        let section = elf.sections.get(usize::from(symbol.section));
        // The linker keeps one of these, and drops the symbols of those that it skips.
        let dropped = section.is_some_and(|section| {
            section.role == Role::Ignored || matches!(section.name, b"license" | b"version")
        });
        if dropped && symbol.section != 0 {
            continue;
        }
        let ty = types.get(name);
        globals.push(Global {
            name,
            declared: symbol.section == 0,
            weak: symbol.bind == STB_WEAK,
            section: ty.and_then(|(section, _)| *section),
            id: ty.map(|(_, id)| *id),
            place: usize::from(symbol.section),
        });
    }
    globals
}

/// The linker wants BTF about all that other objects can see (`find_glob_sym_btf`).
fn check_types(part: &Part<'_>, problems: &mut Problems) {
    let jump_table = |global: &Global<'_>| {
        let section = part.elf.sections.get(global.place);
        section.is_some_and(|section| section.role == Role::JumpTables)
    };
    let typeless = |global: &&Global<'_>| global.id.is_none() && !jump_table(global);
    let report = |message: String| {
        Diagnostic::error(codes::UNSOUND_PART, message)
            .note("libbpf's linker relies on it")
            .help("compile with -g and strip with llvm-strip -g only, which keeps .BTF")
    };
    let mut globals = part.globals.iter().filter(typeless).peekable();
    if part.raw.is_none() && globals.peek().is_some() {
        problems.add(report("the object has no BTF".to_owned()));
        return;
    }
    for global in globals {
        let name = text(global.name);
        problems.add(report(format!("the global symbol '{name}' has no BTF")));
    }
}

/// The maps by name, after the checks that they get in an object of its own.
fn maps(
    elf: &Elf<'_>,
    raw: &Raw<'_>,
    sources: &HashMap<String, Source>,
    problems: &mut Problems,
) -> Result<HashMap<String, Rc<Definition>>, Diagnostic> {
    let datasecs = fixup::datasecs(elf, raw, problems);
    let Some(datasec) = datasecs.iter().find(|datasec| datasec.name == MAPS) else {
        return Ok(HashMap::new());
    };
    let is_extern = |variable: &Variable<'_>| variable.linkage == Linkage::Extern;
    let variables = datasec.variables.iter().cloned();
    let (declared, defined): (Vec<_>, Vec<_>) = variables.partition(is_extern);
    let section = elf.maps.and_then(|maps| elf.sections.get(maps));
    let size = section.map_or(0, |section| section.size);
    let names = Names::new(defined.iter().map(|variable| &*variable.name));
    let known = defined.iter().map(|it| sources.get(&*it.name).cloned());
    let mut maps = HashMap::new();
    let keep = |name: &str, definition: &Rc<Definition>| {
        maps.insert(name.to_owned(), Rc::clone(definition));
    };
    let declarations =
        declaration::read(raw, &defined, &names, size, known.collect(), keep, problems);
    let mut types = declarations.types;
    let declared = extern_maps(raw, &declared, sources, &mut types, problems);
    // Refuses circles of types.
    crate::decode(raw, &types, &[])?;
    // Of a name that is there twice, the definition counts.
    for (name, definition) in declared {
        maps.entry(name).or_insert(definition);
    }
    check_slots(elf, &defined, problems);
    Ok(maps)
}

/// Reads maps that are only declared: the linker wants them complete.
fn extern_maps(
    raw: &Raw<'_>,
    declared: &[Variable<'_>],
    sources: &HashMap<String, Source>,
    types: &mut Vec<u32>,
    problems: &mut Problems,
) -> HashMap<String, Rc<Definition>> {
    let mut definitions = Definitions::new(raw);
    let mut maps = HashMap::new();
    for variable in declared {
        let name = &*variable.name;
        let source = sources.get(name);
        let to = raw.get(variable.id).map_or(0, |var| var.last);
        let (id, ty) = match definitions.skip_modifiers(to) {
            Ok(end) => end,
            Err(diagnostic) => {
                problems.add(diagnostic.map(name).at(source, "declared here"));
                continue;
            }
        };
        if ty.is_none_or(|ty| ty.kind != BTF_KIND_STRUCT) {
            let message = format!("it is {}, maps are declared as structs", kind(ty));
            problems.add(
                Diagnostic::error(codes::NOT_A_STRUCT, message)
                    .map(name)
                    .at(source, "declared here")
                    .help("an extern map is declared in full, as the object that defines it does"),
            );
            continue;
        }
        let (definition, faults) = definitions.get(id);
        if problems.is_full() {
            problems.count(faults.errors);
        } else {
            for fault in faults.iter() {
                problems.add(fault.diagnostic(name, source));
            }
        }
        maps.extend(definition.map(|definition| (name.to_owned(), definition)));
    }
    types.extend(definitions.into_types());
    maps
}

/// Every slot must stand in a map: those that do not in the linked object then are leftovers.
fn check_slots(elf: &Elf<'_>, variables: &[Variable<'_>], problems: &mut Problems) {
    let owners = Owners::new(variables);
    let sections = elf.sections.iter();
    for section in sections.filter(|it| it.name == b".rel.maps" && it.role == Role::Relocations) {
        for (number, entry) in elf.relocations(section).enumerate() {
            if owners.find(entry.offset).is_none() {
                let message = format!(
                    "relocation {number} of .maps is at byte {}, which is in no map",
                    entry.offset
                );
                problems.add(Diagnostic::error(codes::NO_OWNER, message));
            }
        }
    }
}
