//! Extern symbols: what libbpf demands of them (`bpf_object__collect_externs`).

use bpfplan_plan::Diagnostic;
use bpfplan_plan::uapi::{
    BTF_FUNC_EXTERN, BTF_KIND_DATASEC, BTF_KIND_FUNC, BTF_KIND_VAR, BTF_VAR_GLOBAL_EXTERN,
};
use foldhash::{HashMap, HashSet};

use crate::btf::raw::{Raw, RawType};
use crate::bytes::text;
use crate::codes;
use crate::elf::{Elf, Symbol};
use crate::kconfig::{self, Kconfig};
use crate::problems::Problems;

/// The DATASEC of kernel configuration values.
pub(crate) const KCONFIG: &[u8] = b".kconfig";
/// The DATASEC of kernel symbols.
pub(crate) const KSYMS: &[u8] = b".ksyms";
/// The DATASEC of maps.
const MAPS: &[u8] = b".maps";

/// Checks every extern symbol.
///
/// Returns the kernel configuration values, if there are some: libbpf makes a map of them.
pub(crate) fn check<'a>(
    elf: &Elf<'_>,
    raw: Option<&Raw<'a>>,
    problems: &mut Problems,
) -> Option<Kconfig<'a>> {
    let symbols = elf.symbols.iter();
    let externs: Vec<_> = symbols
        .filter_map(|symbol| Some((extern_name(&symbol)?, symbol.is_weak())))
        .collect();
    let names: HashSet<&[u8]> = externs.iter().map(|(name, _)| *name).collect();
    if externs.is_empty() {
        return None;
    }
    let Some(raw) = raw else {
        for (name, _) in externs {
            problems.add(bad(name, "has no BTF, because the object has none"));
        }
        return None;
    };
    let index = Index::new(elf, raw);
    let mut kconfig = Vec::new();
    for (name, weak) in externs {
        match index.check(raw, name) {
            Ok(Place { section, var }) if section.name == KCONFIG => {
                kconfig.push(kconfig::Symbol {
                    name,
                    var,
                    section: section.id,
                    weak,
                });
            }
            Ok(_) => {}
            Err(what) => problems.add(bad(name, what)),
        }
    }
    if !kconfig.is_empty() {
        index.check_members(raw, KCONFIG, &names, problems);
    }
    index.check_members(raw, KSYMS, &names, problems);
    kconfig::lay_out(raw, &kconfig, problems)
}

fn extern_name<'a>(symbol: &Symbol<'a>) -> Option<&'a [u8]> {
    let named = || symbol.name().filter(|name| !name.is_empty());
    symbol.is_extern().then(named).flatten()
}

fn bad(name: &[u8], what: &str) -> Diagnostic {
    Diagnostic::error(codes::BAD_EXTERN, format!("extern '{}' {what}", text(name)))
}

/// A section of externs.
#[derive(Debug, Clone, Copy)]
struct Section<'a> {
    id: u32,
    name: &'a [u8],
}

/// Where an extern is.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    section: Section<'a>,
    var: u32,
}

/// Finds variables, functions and their sections by name and id.
struct Index<'a> {
    /// The first variable or function of every name.
    by_name: HashMap<&'a [u8], u32>,
    /// The first DATASEC that has a variable or function.
    sections: HashMap<u32, u32>,
    /// The DATASEC of the section `.maps`, if the object has both.
    maps: Option<u32>,
}

impl<'a> Index<'a> {
    fn new(elf: &Elf<'_>, raw: &Raw<'a>) -> Self {
        let maps =
            |(_, ty): &(u32, RawType<'_>)| ty.kind == BTF_KIND_DATASEC && raw.name(ty.name) == MAPS;
        let mut this = Self {
            by_name: HashMap::default(),
            sections: HashMap::default(),
            maps: raw
                .types()
                .find(maps)
                .map(|(id, _)| id)
                .filter(|_| elf.maps.is_some()),
        };
        for (id, ty) in raw.types() {
            match ty.kind {
                BTF_KIND_VAR | BTF_KIND_FUNC => {
                    this.by_name.entry(raw.name(ty.name)).or_insert(id);
                }
                BTF_KIND_DATASEC => {
                    for [member, _, _] in ty.parts() {
                        this.sections.entry(member).or_insert(id);
                    }
                }
                _ => {}
            }
        }
        this
    }

    /// The variable or function of an extern and its DATASEC.
    fn check(&self, raw: &Raw<'a>, name: &[u8]) -> Result<Place<'a>, &'static str> {
        let id = self.by_name.get(name).copied().ok_or("has no BTF")?;
        let ty = raw.get(id).ok_or("has no BTF")?;
        let linkage = match ty.kind {
            BTF_KIND_VAR => ty.word() == BTF_VAR_GLOBAL_EXTERN,
            _ => u32::from(ty.vlen) == BTF_FUNC_EXTERN,
        };
        if !linkage {
            return Err("is not extern in BTF");
        }
        let section = self.sections.get(&id).copied();
        let is_map = ty.kind == BTF_KIND_VAR && section.is_some() && section == self.maps;
        let section = section.and_then(|id| {
            let name = raw.name(raw.get(id)?.name);
            Some(Section { id, name })
        });
        match section.map(|section| section.name) {
            // It is reported with all that is wrong with declarations.
            Some(_) if is_map => section
                .map(|section| Place { section, var: id })
                .ok_or("has no section"),
            None => Err("is declared without a section, such as .kconfig or .ksyms"),
            Some(KCONFIG) if ty.kind == BTF_KIND_FUNC => {
                Err("is a function, .kconfig holds values")
            }
            Some(KCONFIG) if kconfig::shape(raw, &ty).is_none() => {
                Err("has a type that no kernel configuration value has")
            }
            Some(KCONFIG | KSYMS) => section
                .map(|section| Place { section, var: id })
                .ok_or("has no section"),
            Some(MAPS) => {
                Err("is a map of another object, name both: plan, compile and load link them")
            }
            Some(_) => Err("is in a section that has no externs: they go to .kconfig or .ksyms"),
        }
    }

    /// Every member of an extern section must have a symbol (`-ESRCH`).
    fn check_members(
        &self,
        raw: &Raw<'a>,
        name: &[u8],
        symbols: &HashSet<&[u8]>,
        problems: &mut Problems,
    ) {
        let mut used: Vec<u32> = symbols
            .iter()
            .filter_map(|name| self.sections.get(self.by_name.get(name)?).copied())
            .collect();
        used.sort_unstable();
        used.dedup();
        let sections = used.into_iter().filter_map(|id| raw.get(id));
        for section in sections.filter(|section| raw.name(section.name) == name) {
            for [member, _, _] in section.parts() {
                let member = raw.get(member).map_or(&b""[..], |ty| raw.name(ty.name));
                if !symbols.contains(member) {
                    problems.add(bad(member, "has BTF, but no symbol"));
                }
            }
        }
    }
}
