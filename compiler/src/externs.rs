//! Extern symbols: what libbpf demands of them (`bpf_object__collect_externs`).

use bpfplan_plan::Diagnostic;
use bpfplan_plan::uapi::{
    BTF_FUNC_EXTERN, BTF_KIND_ARRAY, BTF_KIND_DATASEC, BTF_KIND_ENUM, BTF_KIND_ENUM64,
    BTF_KIND_FUNC, BTF_KIND_INT, BTF_KIND_VAR, BTF_VAR_GLOBAL_EXTERN,
};
use foldhash::HashMap;

use crate::btf::raw::{Raw, RawType};
use crate::bytes::text;
use crate::codes;
use crate::elf::{Elf, Symbol};
use crate::problems::Problems;

/// The DATASEC of kernel configuration values.
pub(crate) const KCONFIG: &[u8] = b".kconfig";
/// The DATASEC of kernel symbols.
pub(crate) const KSYMS: &[u8] = b".ksyms";
/// The DATASEC of maps.
const MAPS: &[u8] = b".maps";

/// Checks every extern symbol.
///
/// Returns whether some are kernel configuration values, for which libbpf makes a map.
pub(crate) fn check(elf: &Elf<'_>, raw: Option<&Raw<'_>>, problems: &mut Problems) -> bool {
    let externs: Vec<_> = elf.symbols.iter().filter_map(extern_name).collect();
    if externs.is_empty() {
        return false;
    }
    let Some(raw) = raw else {
        for name in externs {
            problems.add(bad(name, "has no BTF, because the object has none"));
        }
        return false;
    };
    let index = Index::new(elf, raw);
    let mut kconfig = false;
    for name in &externs {
        match index.check(raw, name) {
            Ok(section) => kconfig |= section == KCONFIG,
            Err(what) => problems.add(bad(name, what)),
        }
    }
    if kconfig {
        index.check_members(raw, KCONFIG, &externs, problems);
    }
    index.check_members(raw, KSYMS, &externs, problems);
    kconfig
}

fn extern_name<'a>(symbol: &Symbol<'a>) -> Option<&'a [u8]> {
    symbol
        .name
        .filter(|name| symbol.is_extern() && !name.is_empty())
}

fn bad(name: &[u8], what: &str) -> Diagnostic {
    Diagnostic::error(codes::BAD_EXTERN, format!("extern '{}' {what}", text(name)))
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
        let maps = |(_, ty): &(u32, &RawType<'_>)| {
            ty.kind == BTF_KIND_DATASEC && raw.name(ty.name) == MAPS
        };
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

    /// The name of the DATASEC of an extern.
    fn check(&self, raw: &Raw<'a>, name: &[u8]) -> Result<&'a [u8], &'static str> {
        let id = self.by_name.get(name).copied().ok_or("has no BTF")?;
        let ty = raw.get(id).ok_or("has no BTF")?;
        let linkage = match ty.kind {
            BTF_KIND_VAR => ty.word() == BTF_VAR_GLOBAL_EXTERN,
            _ => u32::from(ty.vlen) == BTF_FUNC_EXTERN,
        };
        if !linkage {
            return Err("is not extern in BTF");
        }
        let section = self.sections.get(&id);
        let is_map = ty.kind == BTF_KIND_VAR && section.is_some() && section == self.maps.as_ref();
        if is_map {
            return Ok(MAPS); // It is reported with all that is wrong with declarations.
        }
        let section = section.and_then(|id| raw.get(*id));
        let section = section.map(|section| raw.name(section.name));
        match section {
            None => Err("is declared without a section, such as .kconfig or .ksyms"),
            Some(KCONFIG) if ty.kind == BTF_KIND_FUNC => {
                Err("is a function, .kconfig holds values")
            }
            Some(KCONFIG) if !is_kconfig_type(raw, ty) => {
                Err("has a type that no kernel configuration value has")
            }
            Some(section @ (KCONFIG | KSYMS)) => Ok(section),
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
        externs: &[&[u8]],
        problems: &mut Problems,
    ) {
        let symbols: foldhash::HashSet<_> = externs.iter().copied().collect();
        let mut used: Vec<u32> = externs
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

/// Whether libbpf knows how to fill such a value (`find_kcfg_type`).
fn is_kconfig_type(raw: &Raw<'_>, var: &RawType<'_>) -> bool {
    let skip = |start: u32| {
        let mut id = start;
        // A chain longer than all types is a circle.
        for _ in 0..=raw.len() {
            match raw.get(id).filter(|ty| ty.is_modifier()) {
                Some(ty) => id = ty.last,
                None => return raw.get(id),
            }
        }
        None
    };
    let tristate = |ty: &RawType<'_>| raw.name(ty.name) == b"libbpf_tristate";
    let is_bool = |ty: &RawType<'_>| (ty.word() >> 24) & bpfplan_plan::uapi::BTF_INT_BOOL != 0;
    let Some(ty) = skip(var.last) else {
        return false;
    };
    match ty.kind {
        BTF_KIND_INT if is_bool(ty) => ty.last == 1,
        BTF_KIND_INT => matches!(ty.last, 1 | 2 | 4 | 8),
        BTF_KIND_ENUM => ty.last == 4 && tristate(ty),
        BTF_KIND_ENUM64 => tristate(ty),
        BTF_KIND_ARRAY => {
            let [element, _, length] = ty.array();
            let element = skip(element);
            length > 0
                && element.is_some_and(|it| it.kind == BTF_KIND_INT && it.last == 1 && !is_bool(it))
        }
        _ => false,
    }
}
