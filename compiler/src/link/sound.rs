//! What libbpf's linker relies on without looking: without these checks a corrupt object would
//! make it write to, or read from, where it must not, or never come to an end.

use std::collections::HashSet;

use bpfplan_plan::Diagnostic;
use bpfplan_plan::uapi::BTF_KIND_DATASEC;
use object::elf::{
    EM_BPF, SHN_LORESERVE, SHT_NOBITS, SHT_PROGBITS, SHT_REL, STT_OBJECT, STT_SECTION,
};

use super::part::{Global, is_visible};
use crate::btf::raw::Raw;
use crate::btf::reach::index;
use crate::bytes::{MAX_NAME, text};
use crate::codes;
use crate::elf::{Elf, Role, Section};
use crate::problems::Problems;

/// Size of `struct bpf_insn`.
const INSTRUCTION: u64 = 8;
/// So many typedefs and modifiers may stand before a type: the linker follows them one by one,
/// every time.
const MAX_MODIFIERS: usize = 256;
/// The largest alignment that a section may ask for.
const MAX_ALIGNMENT: u64 = 4096;

fn unsound(message: String) -> Diagnostic {
    Diagnostic::error(codes::UNSOUND_PART, message).note("libbpf's linker relies on it")
}

/// Sections, symbols and relocations.
pub(super) fn check_elf(elf: &Elf<'_>, problems: &mut Problems) {
    if elf.machine != EM_BPF {
        problems.add(unsound(
            "the object does not say that it is for BPF".to_owned(),
        ));
    }
    for section in elf.sections.iter().skip(1) {
        if let Err(what) = check_section(section) {
            problems.add(unsound(format!("section {} {what}", text(section.name))));
        }
        if let Err(what) = check_relocations(elf, section) {
            problems.add(unsound(format!(
                "a relocation in section {} {what}",
                text(section.name)
            )));
        }
    }
    for symbol in elf.symbols.iter() {
        let nowhere = symbol.section >= SHN_LORESERVE && symbol.kind == STT_SECTION;
        let missing =
            symbol.section < SHN_LORESERVE && usize::from(symbol.section) >= elf.sections.len();
        if nowhere || missing {
            let name = text(symbol.name().unwrap_or_default());
            problems.add(unsound(format!(
                "the symbol '{name}' is in a section that is not there"
            )));
        }
        let section = elf.sections.get(usize::from(symbol.section));
        let end = symbol.value.checked_add(symbol.size);
        let outside = |section: &Section<'_>| end.is_none_or(|end| end > section.size);
        let variable = symbol.kind == STT_OBJECT && symbol.is_global();
        if variable && section.is_some_and(outside) {
            let name = text(symbol.name().unwrap_or_default());
            problems.add(unsound(format!(
                "the variable '{name}' does not lie in its section"
            )));
        }
        if symbol.name().is_some_and(|name| name.len() > MAX_NAME) {
            problems.add(unsound(format!(
                "a symbol's name has more than {MAX_NAME} bytes"
            )));
        }
    }
}

fn check_section(section: &Section<'_>) -> Result<(), &'static str> {
    let empty = section.kind == SHT_NOBITS;
    if section.role == Role::Ignored {
        return Ok(());
    }
    if section.alignment > MAX_ALIGNMENT {
        return Err("asks for an alignment of more than 4096 bytes");
    }
    if empty && (section.executable || matches!(section.name, b"license" | b"version")) {
        return Err("has no bytes in the file");
    }
    if section.name.len() > MAX_NAME {
        return Err("has too long a name");
    }
    let whole = u64::try_from(section.data.len()) == Ok(section.size);
    if section.kind == SHT_PROGBITS && !whole {
        return Err("is cut short");
    }
    Ok(())
}

/// The linker writes into instructions without asking whether they are there.
fn check_relocations(elf: &Elf<'_>, section: &Section<'_>) -> Result<(), &'static str> {
    if section.kind != SHT_REL || section.role == Role::Ignored {
        return Ok(());
    }
    let index = usize::try_from(section.info).unwrap_or(usize::MAX);
    let Some(target) = elf.sections.get(index).filter(|_| index != 0) else {
        return Err("is for a section that is not there");
    };
    if target.role == Role::Ignored {
        return Ok(());
    }
    for entry in elf.relocations(section) {
        if elf.symbols.get(entry.symbol).is_none() {
            return Err("has no symbol");
        }
        let inside = entry
            .offset
            .checked_add(INSTRUCTION)
            .is_some_and(|end| end <= target.size);
        if target.executable && (!inside || !entry.offset.is_multiple_of(INSTRUCTION)) {
            return Err("is at no instruction");
        }
    }
    Ok(())
}

/// BTF and its sections.
pub(super) fn check_btf(
    elf: &Elf<'_>,
    raw: &Raw<'_>,
    globals: &[Global<'_>],
    problems: &mut Problems,
) {
    if has_long_modifiers(raw) {
        let message = "a type in BTF has more modifiers and names than any that is meant";
        problems.add(unsound(message.to_owned()));
    }
    let sections: HashSet<&[u8]> = elf.sections.iter().skip(1).map(|it| it.name).collect();
    let symbols: HashSet<&[u8]> = globals
        .iter()
        .map(|global| global.name)
        .chain(elf.symbols.iter().filter_map(|symbol| {
            let section = elf.sections.get(usize::from(symbol.section))?;
            let shared = matches!(section.name, b"license" | b"version");
            symbol.name().filter(|_| shared && symbol.is_global())
        }))
        .collect();
    for (_, section) in raw.of_kind(BTF_KIND_DATASEC) {
        let name = raw.name(section.name);
        let reserved = name.starts_with(b".rel")
            || matches!(
                name,
                b"license" | b"version" | b".strtab" | b".symtab" | b".BTF" | b".BTF.ext"
            );
        if name.is_empty() || name.len() > MAX_NAME || reserved && !sections.contains(name) {
            let name = text(name);
            problems.add(unsound(format!(
                "BTF describes variables in a section '{name}', which cannot have any"
            )));
        }
        for [id, _, _] in section.parts() {
            let Some(member) = raw.get(id).filter(|ty| is_visible(ty)) else {
                continue;
            };
            let member = raw.name(member.name);
            if !symbols.contains(member) {
                let message = format!("'{}' has BTF, but no global symbol", text(member));
                problems.add(unsound(message));
            }
        }
    }
}

/// Whether following typedefs and modifiers from some type takes long, or never ends.
fn has_long_modifiers(raw: &Raw<'_>) -> bool {
    // By id: how many follow from there, once that is known.
    let mut known: Vec<Option<usize>> = vec![None; raw.len().saturating_add(1)];
    for (start, _) in raw.types() {
        let mut path = Vec::new();
        let mut id = start;
        let mut length = loop {
            if let Some(length) = known.get(index(id)).copied().flatten() {
                break length;
            }
            match raw.get(id).filter(|ty| ty.is_modifier()) {
                Some(ty) => {
                    path.push(id);
                    id = ty.last;
                }
                None => break 0,
            }
            if path.len() > MAX_MODIFIERS {
                return true;
            }
        };
        for id in path.into_iter().rev() {
            length += 1;
            if let Some(place) = known.get_mut(index(id)) {
                *place = Some(length);
            }
        }
        if length > MAX_MODIFIERS {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use bpfplan_plan::types::{Type, TypeId};
    use bpfplan_plan::{Endianness, btf};

    use super::*;

    fn long(types: &[Type]) -> bool {
        let blob = btf::encode(types, Endianness::NATIVE).unwrap();
        has_long_modifiers(&Raw::parse(&blob).unwrap())
    }

    /// `count` modifiers, each of the next; the last one of `end`.
    fn chain(count: u32, end: u32) -> Vec<Type> {
        let to = |id| Type::Const {
            to: TypeId(if id == count { end } else { id + 1 }),
        };
        (1..=count).map(to).collect()
    }

    #[test]
    fn chains_of_modifiers_have_an_end() {
        assert!(!long(&chain(200, 0)));
        assert!(long(&chain(1000, 0)));
        assert!(long(&chain(2, 1)));
        assert!(long(&chain(1, 1)));
        let mut backwards = chain(1000, 0);
        backwards.reverse();
        for (id, ty) in (0..).zip(&mut backwards) {
            *ty = Type::Const { to: TypeId(id) };
        }
        assert!(long(&backwards));
    }
}
