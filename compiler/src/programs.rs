//! Relocations of programs: resolving them is libbpf's, but those that its open refuses
//! (`bpf_object__collect_prog_relos`) are refused here too.

use bpfplan_plan::Diagnostic;
use object::elf::{SHN_LORESERVE, STB_LOCAL, STT_FUNC, STT_SECTION};

use crate::bytes::{text, u32_at};
use crate::codes;
use crate::elf::{Elf, Entry, Program, Role, Section, Symbol};
use crate::fixup::Variable;
use crate::problems::Problems;

/// Size of `struct bpf_insn`.
const INSTRUCTION: u64 = 8;
/// Opcodes: load of a 64-bit constant, call.
const LOAD: u8 = 0x18;
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_CALL` in the source register: a call of a function in the object.
const PSEUDO_CALL: u8 = 1;

/// The programs in libbpf's order. Functions in `.text` are called by others, unless there is
/// only one function at all (`prog_is_subprog` of libbpf).
pub(crate) fn list(elf: &Elf<'_>) -> Vec<bpfplan_plan::Program> {
    let alone = elf.programs.len() == 1;
    let programs = elf.programs.iter();
    programs
        .filter(|program| program.entry_point || alone)
        .map(|program| bpfplan_plan::Program {
            name: text(program.name),
            section: elf
                .sections
                .get(program.section)
                .map_or_else(String::new, |section| text(section.name)),
        })
        .collect()
}

/// Bytes of the jump tables; of several sections libbpf takes the last.
pub(crate) fn jump_tables(elf: &Elf<'_>) -> u64 {
    let tables = elf.sections.iter().rfind(|it| it.role == Role::JumpTables);
    tables.map_or(0, |section| section.size)
}

/// Checks the relocations of all sections with instructions. `maps` are those of `.maps`, sorted
/// by offset.
pub(crate) fn check(elf: &Elf<'_>, maps: &[Variable<'_>], problems: &mut Problems) {
    for section in elf
        .sections
        .iter()
        .filter(|section| section.role == Role::Relocations)
    {
        let index = usize::try_from(section.info).unwrap_or(usize::MAX);
        let Some(target) = elf.sections.get(index) else {
            continue;
        };
        if elf.maps == Some(index) || target.role == Role::StructOps {
            continue;
        }
        for (number, entry) in elf.relocations(section).enumerate() {
            if let Err(what) = check_one(elf, maps, index, target, &entry) {
                let message = format!(
                    "relocation {number} of section {} {what}",
                    text(target.name)
                );
                problems.add(Diagnostic::error(codes::BAD_PROGRAM_RELOCATION, message));
            }
        }
    }
}

fn check_one(
    elf: &Elf<'_>,
    maps: &[Variable<'_>],
    index: usize,
    target: &Section<'_>,
    entry: &Entry,
) -> Result<(), String> {
    let symbol = elf.symbols.get(entry.symbol).ok_or("has no symbol")?;
    let home = usize::from(symbol.section);
    let Some(section) = elf.sections.get(home) else {
        return Err(
            "is against a symbol in a special section; is a variable undefined?".to_owned(),
        );
    };
    if !entry.offset.is_multiple_of(INSTRUCTION) || entry.offset >= target.size {
        return Err(format!(
            "is at byte {}, where no instruction is",
            entry.offset
        ));
    }
    let Some(program) = program_at(elf, index, entry.offset) else {
        return Ok(()); // An overridden weak function: libbpf skips it.
    };
    let start = usize::try_from(entry.offset).unwrap_or(usize::MAX);
    let instruction = target.data.get(start..).and_then(<[u8]>::first_chunk::<8>);
    let [opcode, registers, ..] = *instruction.ok_or("is outside of the section")?;
    let immediate = u32_at(target.data, start.saturating_add(4), elf.endianness);
    let against = |what: &str| {
        let program = text(program.name);
        let name = text(
            symbol
                .name()
                .filter(|name| !name.is_empty())
                .unwrap_or(section.name),
        );
        format!(
            "(program {program}) {what} '{name}' in section {}",
            text(section.name)
        )
    };
    if opcode != LOAD && opcode != CALL {
        return Err(against("is neither at a load nor at a call, against"));
    }
    if symbol.is_extern() {
        let named = symbol.name().is_some_and(|name| !name.is_empty());
        return if named {
            Ok(())
        } else {
            Err("is against an extern without name".to_owned())
        };
    }
    if opcode == CALL {
        let source = match elf.endianness {
            bpfplan_plan::Endianness::Little => registers >> 4,
            bpfplan_plan::Endianness::Big => registers & 0xf,
        };
        let called = elf.text == Some(home);
        return match source == PSEUDO_CALL && called && symbol.value.is_multiple_of(INSTRUCTION) {
            true => Ok(()),
            false => Err(against("calls what is no function in .text:")),
        };
    }
    if home == 0 || symbol.section >= SHN_LORESERVE {
        return Err(against("is against the undefined"));
    }
    if elf.text == Some(home) && is_subprogram(&symbol) {
        let aligned = symbol.value.is_multiple_of(INSTRUCTION)
            && immediate.is_some_and(|it| u64::from(it).is_multiple_of(INSTRUCTION));
        return if aligned {
            Ok(())
        } else {
            Err(against("is against the middle of"))
        };
    }
    match section.role {
        Role::Arena | Role::JumpTables | Role::Data | Role::Rodata => Ok(()),
        Role::Bss if section.size > 0 => Ok(()),
        Role::Maps if starts_map(maps, symbol.value) => Ok(()),
        // All other symbols of this section stand for maps.
        Role::LegacyMaps if symbol.kind != STT_SECTION => Ok(()),
        Role::Maps => Err(against("is not against the start of a map:")),
        _ => Err(against("is against what is neither a map nor global data:")),
    }
}

fn starts_map(maps: &[Variable<'_>], offset: u64) -> bool {
    let place = maps.binary_search_by_key(&offset, |map| map.offset.into());
    place.is_ok()
}

/// The program or subprogram around an instruction.
pub(crate) fn program_at<'e, 'a>(
    elf: &'e Elf<'a>,
    section: usize,
    offset: u64,
) -> Option<&'e Program<'a>> {
    let key = (section, offset);
    let after = elf
        .programs
        .partition_point(|it| (it.section, it.offset) <= key);
    let program = elf.programs.get(after.checked_sub(1)?)?;
    let inside = program.section == section && offset < program.offset.saturating_add(program.size);
    inside.then_some(program)
}

/// Whether a symbol of `.text` stands for a subprogram (`sym_is_subprog`).
fn is_subprogram(symbol: &Symbol<'_>) -> bool {
    let kind = symbol.kind;
    symbol.bind == STB_LOCAL && kind == STT_SECTION || symbol.is_global() && kind == STT_FUNC
}
