//! Matches the DATASECs of BTF with the ELF file (`btf_fixup_datasec`).
//!
//! Compilers leave sizes and offsets to the loader; libbpf takes them from sections and symbols,
//! and fails without a word where it cannot.

use std::borrow::Cow;

use bpfplan_plan::Diagnostic;
use bpfplan_plan::uapi::{BTF_KIND_DATASEC, BTF_KIND_VAR, BTF_VAR_GLOBAL_EXTERN, BTF_VAR_STATIC};
use foldhash::{HashMap, HashMapExt as _};
use object::elf;

use crate::btf::raw::{Raw, RawType};
use crate::bytes::borrowed_text;
use crate::codes;
use crate::elf::{Elf, Stage, Symbol, Symbols};
use crate::externs::{KCONFIG, KSYMS};
use crate::problems::Problems;

/// A section that BTF describes.
#[derive(Debug)]
pub(crate) struct Datasec<'a> {
    /// Id of the `DATASEC`.
    pub(crate) id: u32,
    pub(crate) name: &'a [u8],
    pub(crate) size: u32,
    /// Its variables by offset.
    pub(crate) variables: Vec<Variable<'a>>,
}

/// A variable of a section, with its place.
#[derive(Debug, Clone)]
pub(crate) struct Variable<'a> {
    /// Id of the `VAR` in the section.
    pub(crate) id: u32,
    pub(crate) name: Cow<'a, str>,
    pub(crate) offset: u32,
    pub(crate) size: u32,
    pub(crate) linkage: Linkage,
}

/// How a variable is linked, as libbpf sees it after the fix-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linkage {
    Global,
    Static,
    /// Global, but hidden from other objects: static to libbpf.
    Hidden,
    Extern,
    Unknown,
}

/// Checks all DATASECs and returns those of the object's own sections, in the order of BTF.
pub(crate) fn datasecs<'a>(
    elf: &Elf<'_>,
    raw: &Raw<'a>,
    problems: &mut Problems,
) -> Vec<Datasec<'a>> {
    let names = Names::new(elf);
    let mut datasecs = Vec::new();
    for (id, section) in raw.of_kind(BTF_KIND_DATASEC) {
        let name = raw.name(section.name);
        if name == KCONFIG || name == KSYMS {
            continue;
        }
        // Compilers leave the size 0, linkers do not and have set the offsets as well.
        let known = names.sections.get(name).map(|size| low_half(*size));
        let size = match section.last {
            0 => known.unwrap_or(0),
            size => size,
        };
        datasecs.push(Datasec {
            id,
            name,
            size,
            variables: fix(raw, &names, &section, problems),
        });
    }
    datasecs
}

/// libbpf takes a section's size as a number of 32 bits.
fn low_half(size: u64) -> u32 {
    u32::try_from(size & u64::from(u32::MAX)).unwrap_or_default()
}

/// What DATASECs are matched with, by name.
struct Names<'a> {
    /// The first section of every name.
    sections: HashMap<&'a [u8], u64>,
    /// The number of the first global variable of every name (`find_elf_var_sym`).
    variables: HashMap<&'a [u8], usize>,
    symbols: Symbols<'a>,
    /// Whether the object is one of several that will be linked.
    part: bool,
}

impl<'a> Names<'a> {
    fn new(elf: &Elf<'a>) -> Self {
        let mut this = Self {
            sections: HashMap::default(),
            variables: HashMap::with_capacity(elf.symbols.len()),
            symbols: elf.symbols,
            part: matches!(elf.stage, Stage::Part),
        };
        for section in elf.sections.iter().skip(1) {
            this.sections.entry(section.name).or_insert(section.size);
        }
        for (number, symbol) in elf.symbols.iter().enumerate() {
            if symbol.kind == elf::STT_OBJECT
                && symbol.is_global()
                && let Some(name) = symbol.name()
            {
                this.variables.entry(name).or_insert(number);
            }
        }
        this
    }

    fn variable(&self, name: &[u8]) -> Option<Symbol<'a>> {
        self.symbols.get(*self.variables.get(name)?)
    }
}

fn fix<'a>(
    raw: &Raw<'a>,
    names: &Names<'_>,
    section: &RawType<'_>,
    problems: &mut Problems,
) -> Vec<Variable<'a>> {
    let place = borrowed_text(raw.name(section.name));
    // Linkers set size and offsets, and take the latter from the symbols when they link again.
    let from_symbols = section.last == 0 || names.part;
    let only_declares = || section.parts().all(|[id, _, _]| is_extern(raw, id));
    if from_symbols && !(names.part && only_declares()) {
        let size = names
            .sections
            .get(raw.name(section.name))
            .map(|size| low_half(*size));
        let what = match size {
            None => "the object has no such section",
            Some(0) => "that section is empty",
            Some(_) => "",
        };
        if !what.is_empty() {
            if problems.failed() && only_declares() {
                return Vec::new(); // Extern maps were refused one by one.
            }
            let message = format!("BTF describes variables in section {place}, but {what}");
            problems.add(
                Diagnostic::error(codes::BAD_DATASEC, message)
                    .note("libbpf fails with ENOENT and says nothing"),
            );
            return Vec::new();
        }
    }
    let mut variables = Vec::with_capacity(usize::from(section.vlen));
    for [id, offset, size] in section.parts() {
        let Some(var) = raw.get(id).filter(|ty| ty.kind == BTF_KIND_VAR) else {
            let message = format!("BTF of section {place}: its member [{id}] is not a variable");
            problems.add(Diagnostic::error(codes::BAD_DATASEC, message));
            continue;
        };
        let bytes = raw.name(var.name);
        let name = borrowed_text(bytes);
        let mut variable = Variable {
            id,
            name,
            offset,
            size,
            linkage: linkage(&var),
        };
        if matches!(variable.linkage, Linkage::Global | Linkage::Unknown) {
            let Some(symbol) = names.variable(bytes) else {
                let name = &variable.name;
                let message = format!("'{name}' in section {place} has no global symbol");
                problems.add(
                    Diagnostic::error(codes::NO_VARIABLE_SYMBOL, message)
                        .note("libbpf fails with ENOENT and says nothing")
                        .help("keep the symbol: it was renamed, stripped or made local"),
                );
                continue;
            };
            if from_symbols {
                // An offset beyond 4 GiB lies in no section and is refused as such.
                variable.offset = u32::try_from(symbol.value).unwrap_or(u32::MAX);
            }
            if names.part && symbol.size != 0 {
                variable.size = u32::try_from(symbol.size).unwrap_or(u32::MAX);
            }
            if symbol.is_hidden() {
                variable.linkage = Linkage::Hidden;
            }
        }
        variables.push(variable);
    }
    if !variables.is_sorted_by_key(|variable| variable.offset) {
        variables.sort_by_key(|variable| variable.offset);
    }
    variables
}

fn is_extern(raw: &Raw<'_>, id: u32) -> bool {
    raw.get(id)
        .is_some_and(|var| var.kind == BTF_KIND_VAR && linkage(&var) == Linkage::Extern)
}

fn linkage(var: &RawType<'_>) -> Linkage {
    match var.word() {
        BTF_VAR_STATIC => Linkage::Static,
        BTF_VAR_GLOBAL_EXTERN => Linkage::Extern,
        bpfplan_plan::uapi::BTF_VAR_GLOBAL_ALLOCATED => Linkage::Global,
        _ => Linkage::Unknown,
    }
}
