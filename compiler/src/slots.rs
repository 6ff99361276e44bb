//! Static slots from the relocations of `.maps` (`bpf_object__collect_map_relos`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use bpfplan_plan::{Code, Diagnostic, Endianness, Slot, SlotTarget, Source, uapi};
use foldhash::HashMap;
use object::elf::{SHT_CREL, SHT_REL, SHT_RELA};

use crate::bytes::{borrowed_text, text};
use crate::codes;
use crate::declaration::Declaration;
use crate::elf::{self, Elf, Role, Section, Symbol};
use crate::fixup::Variable;
use crate::names::Names;
use crate::problems::Problems;

/// Size of a pointer in BPF.
const POINTER: u32 = 8;
/// `R_BPF_DATA_64`, gcc's relocation for a pointer.
const R_BPF_DATA_64: u64 = 12;

/// Gives the declarations their slots, by index.
///
/// `variables` are all of `.maps`, those included whose declaration has an error; `names` are
/// theirs.
pub(crate) fn fill(
    elf: &Elf<'_>,
    variables: &[Variable<'_>],
    names: &Names<'_>,
    declarations: &mut [Declaration],
    problems: &mut Problems,
) {
    let mut late = Late::default();
    let sections: Vec<_> = elf
        .sections
        .iter()
        .filter(|section| is_for_maps(elf, section))
        .collect();
    if sections.is_empty() {
        return;
    }
    let targets = Targets::new(elf, variables, names, declarations);
    let owners = Owners::new(variables);
    for section in sections {
        if section.kind != SHT_REL {
            problems.add(unreadable_kind(section));
        } else if section.role == Role::Relocations {
            for (number, entry) in elf.relocations(section).enumerate() {
                let relocation = match Relocation::new(elf, number, &entry) {
                    Ok(relocation) => relocation,
                    Err(diagnostic) => {
                        problems.add(*diagnostic);
                        continue;
                    }
                };
                let Some(owner) = owners.find(relocation.offset) else {
                    problems.add(relocation.error(
                        codes::NO_OWNER,
                        &format!("byte {} of .maps, which is in no map", relocation.offset),
                    ));
                    continue;
                };
                let Some(place) = targets.declaration(owner) else {
                    continue;
                };
                let Some(declaration) = declarations.get_mut(place) else {
                    continue;
                };
                match slot(elf, &targets, declaration, &relocation, problems) {
                    Ok(Some(slot)) => {
                        let index = slot.index;
                        let map = &mut declaration.map;
                        if late.insert(place, &mut map.slots, slot) {
                            problems.add(
                                Diagnostic::warning(codes::SLOT_TWICE, "two relocations fill it")
                                    .map(&map.name)
                                    .field(format!("values[{index}]"))
                                    .note("the last one counts, as in libbpf"),
                            );
                        }
                    }
                    Ok(None) => {}
                    Err(diagnostic) => problems.add(*diagnostic),
                }
            }
        }
    }
    for (place, others) in late.0 {
        if let Some(declaration) = declarations.get_mut(place) {
            let slots = &mut declaration.map.slots;
            slots.extend(
                others
                    .into_iter()
                    .map(|(index, target)| Slot { index, target }),
            );
            slots.sort_by_key(|slot| slot.index);
        }
    }
}

/// Slots that do not come in the order of their indices, as compilers write them, by the place of
/// the declaration.
#[derive(Default)]
struct Late(HashMap<usize, BTreeMap<u32, SlotTarget>>);

impl Late {
    /// Adds a slot to those of a declaration; says whether it was filled before.
    fn insert(&mut self, place: usize, filled: &mut Vec<Slot>, slot: Slot) -> bool {
        if filled.last().is_none_or(|last| last.index < slot.index) {
            filled.push(slot);
            return false;
        }
        let found = filled.binary_search_by_key(&slot.index, |slot| slot.index);
        match found.ok().and_then(|found| filled.get_mut(found)) {
            Some(known) => {
                known.target = slot.target;
                true
            }
            None => {
                let others = self.0.entry(place).or_default();
                others.insert(slot.index, slot.target).is_some()
            }
        }
    }
}

fn is_for_maps(elf: &Elf<'_>, section: &Section<'_>) -> bool {
    let relocates = matches!(section.kind, SHT_REL | SHT_RELA | SHT_CREL);
    relocates
        && elf
            .maps
            .is_some_and(|maps| usize::try_from(section.info) == Ok(maps))
}

fn unreadable_kind(section: &Section<'_>) -> Diagnostic {
    let message = format!(
        "the relocations in {} have explicit addends, which libbpf ignores: all slots stay empty",
        text(section.name)
    );
    Diagnostic::error(codes::RELA, message).help("let the compiler write SHT_REL, as clang does")
}

/// A relocation of `.maps`.
struct Relocation<'a> {
    number: usize,
    offset: u64,
    kind: u64,
    symbol: Symbol<'a>,
    name: Cow<'a, str>,
}

impl<'a> Relocation<'a> {
    fn new(elf: &Elf<'a>, number: usize, entry: &elf::Entry) -> Result<Self, Box<Diagnostic>> {
        let Some(symbol) = elf.symbols.get(entry.symbol) else {
            let message = format!(
                "relocation {number} of .maps has no symbol ({})",
                entry.symbol
            );
            return Err(Box::new(Diagnostic::error(codes::BAD_RELOCATION, message)));
        };
        let name = borrowed_text(symbol.name().unwrap_or_default());
        Ok(Self {
            number,
            offset: entry.offset,
            kind: entry.kind,
            symbol,
            name,
        })
    }

    /// The target in words.
    fn target(&self) -> String {
        if self.name.is_empty() {
            return "a symbol without a name".to_owned();
        }
        format!("'{}'", self.name)
    }

    fn error(&self, code: Code, what: &str) -> Diagnostic {
        let message = format!(
            "relocation {} of .maps puts {} at {what}",
            self.number,
            self.target()
        );
        Diagnostic::error(code, message)
    }
}

/// What slots can refer to, by name.
struct Targets<'n, 'a> {
    /// All variables in `.maps`: the first of a name counts.
    variables: &'n [Variable<'a>],
    names: &'n Names<'n>,
    /// The places of the declarations by those of their variables.
    declarations: Vec<Option<usize>>,
    /// The first program of every name, by section and offset.
    programs: HashMap<&'n [u8], (usize, u64)>,
}

impl<'n, 'a> Targets<'n, 'a> {
    fn new(
        elf: &'n Elf<'_>,
        variables: &'n [Variable<'a>],
        names: &'n Names<'n>,
        declarations: &[Declaration],
    ) -> Self {
        let mut this = Self {
            variables,
            names,
            declarations: vec![None; variables.len()],
            programs: HashMap::default(),
        };
        for (place, declaration) in declarations.iter().enumerate() {
            if let Some(of_it) = this.declarations.get_mut(declaration.variable) {
                *of_it = Some(place);
            }
        }
        for program in elf.programs.iter().filter(|program| program.entry_point) {
            this.programs
                .entry(program.name)
                .or_insert((program.section, program.offset));
        }
        this
    }

    /// The first variable of that name with its place.
    fn variable(&self, name: &str) -> Option<(usize, &'n Variable<'a>)> {
        let place = self.names.find(name.as_bytes())?;
        Some((place, self.variables.get(place)?))
    }

    /// The place of the declaration of the name that a variable has.
    fn declaration(&self, variable: usize) -> Option<usize> {
        let name = &self.variables.get(variable)?.name;
        let own = self.declarations.get(variable).copied().flatten();
        own.or_else(|| *self.declarations.get(self.names.find(name.as_bytes())?)?)
    }
}

/// Finds the first variable around an offset, in logarithmic time even if variables overlap.
pub(crate) struct Owners {
    starts: Vec<u64>,
    /// The largest end of all variables so far.
    ends: Vec<u64>,
}

impl Owners {
    /// `variables` are sorted by offset.
    pub(crate) fn new(variables: &[Variable<'_>]) -> Self {
        let starts = variables.iter().map(|it| u64::from(it.offset)).collect();
        let mut largest = 0;
        let ends = variables.iter().map(|it| {
            largest = largest.max(u64::from(it.offset) + u64::from(it.size));
            largest
        });
        Self {
            starts,
            ends: ends.collect(),
        }
    }

    /// The first variable that holds a pointer at that offset.
    pub(crate) fn find(&self, offset: u64) -> Option<usize> {
        let end = offset.checked_add(u64::from(POINTER))?;
        // The first place where the largest end reaches `end` is a variable that ends there.
        let first = self.ends.partition_point(|largest| *largest < end);
        (*self.starts.get(first)? <= offset).then_some(first)
    }
}

/// The slot that a relocation fills; `None` if its target has an error of its own.
fn slot(
    elf: &Elf<'_>,
    targets: &Targets<'_, '_>,
    owner: &Declaration,
    relocation: &Relocation<'_>,
    problems: &mut Problems,
) -> Result<Option<Slot>, Box<Diagnostic>> {
    let at_owner = |diagnostic: Diagnostic| {
        diagnostic
            .map(&owner.map.name)
            .at(owner.map.source.as_ref(), "declared here")
    };
    let fail = |code: Code, message: String| {
        Err(Box::new(
            at_owner(Diagnostic::error(code, message)).field("values"),
        ))
    };
    let map_type = owner.map.map_type;
    let target = || relocation.target();
    let inside = relocation.offset.saturating_sub(u64::from(owner.offset));
    if !map_type.is_outer() && map_type.0 != uapi::BPF_MAP_TYPE_PROG_ARRAY {
        let message = format!(
            "{} stands in it, but it is no map of maps or program array",
            target()
        );
        return fail(codes::NO_SLOTS, message);
    }
    let values = owner.values.map(u64::from);
    let Some(place) = values.and_then(|values| inside.checked_sub(values)) else {
        let message = format!(
            "{} stands at byte {inside} of it, outside of its values",
            target()
        );
        return fail(codes::OUTSIDE_VALUES, message);
    };
    if place % u64::from(POINTER) != 0 {
        let message = format!(
            "{} stands at byte {place} of values, not at a pointer",
            target()
        );
        return fail(codes::OUTSIDE_VALUES, message);
    }
    let Ok(index) = u32::try_from(place / u64::from(POINTER)) else {
        return fail(
            codes::OUTSIDE_VALUES,
            format!("{} stands far outside of its values", target()),
        );
    };
    let fail = |code: Code, message: String, help: Option<&str>| {
        let mut diagnostic = at_owner(Diagnostic::error(code, message));
        diagnostic.help = help.map(str::to_owned);
        Err(Box::new(diagnostic.field(format!("values[{index}]"))))
    };
    let name = relocation.symbol.name().unwrap_or_default();
    let section = usize::from(relocation.symbol.section);
    let target = if map_type.is_outer() {
        if elf.maps != Some(section) {
            return fail(
                codes::NOT_A_MAP,
                format!("{} is not a map in .maps", target()),
                None,
            );
        }
        let key_size = owner.map.key_size;
        if map_type.0 == uapi::BPF_MAP_TYPE_HASH_OF_MAPS && key_size != 4 {
            return fail(
                codes::SLOT_KEY_SIZE,
                format!("its key has {key_size} bytes, static slots need four"),
                Some("fill the map at run time, or declare a key of four bytes"),
            );
        }
        let Some((place, variable)) = targets.variable(&relocation.name) else {
            return fail(
                codes::NOT_A_MAP,
                format!("{} is not the name of a map", target()),
                Some("slots refer to maps by name: keep the symbols"),
            );
        };
        warn_offset(
            elf,
            variable,
            owner.map.source.as_ref(),
            &owner.map.name,
            index,
            relocation,
            problems,
        );
        if targets.declaration(place).is_none() {
            return Ok(None);
        }
        SlotTarget::Map(relocation.name.clone().into_owned())
    } else {
        // libbpf takes a program without a name, but then nothing can say which one it is.
        let named = Some(name).filter(|name| !name.is_empty());
        let Some(place) = named.and_then(|name| targets.programs.get(name)) else {
            return fail(
                codes::NOT_A_PROGRAM,
                format!("{} is not a program", target()),
                Some("programs are global functions in a SEC() of their own"),
            );
        };
        if *place != (section, relocation.symbol.value) {
            let message = format!("{} is not the start of the program of this name", target());
            return fail(codes::NOT_A_PROGRAM, message, None);
        }
        SlotTarget::Program(relocation.name.clone().into_owned())
    };
    Ok(Some(Slot { index, target }))
}

/// libbpf goes by the target's name alone; say so where the address says something else.
fn warn_offset(
    elf: &Elf<'_>,
    target: &Variable<'_>,
    source: Option<&Source>,
    owner: &str,
    index: u32,
    relocation: &Relocation<'_>,
    problems: &mut Problems,
) {
    let data = elf
        .maps
        .and_then(|maps| elf.sections.get(maps))
        .map_or(&[][..], |it| it.data);
    let at = usize::try_from(relocation.offset).ok();
    let addend = at.and_then(|at| data.get(at..)?.first_chunk::<8>());
    let addend = addend.map_or(0, |bytes| match elf.endianness {
        Endianness::Little => u64::from_le_bytes(*bytes),
        Endianness::Big => u64::from_be_bytes(*bytes),
    });
    let start = u64::from(target.offset);
    // gcc leaves the sum of symbol and addend in place, clang the addend.
    let expected = if relocation.kind == R_BPF_DATA_64 {
        start
    } else {
        0
    };
    if relocation.symbol.value != start || addend != expected {
        let message = format!(
            "the slot points beside the start of '{}', but holds the map all the same",
            target.name
        );
        problems.add(
            Diagnostic::warning(codes::ADDEND, message)
                .map(owner)
                .field(format!("values[{index}]"))
                .at(source, "declared here")
                .note("slots refer to maps by name, the offset is ignored"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixup::Linkage;

    fn variables(places: &[(u32, u32)]) -> Vec<Variable<'static>> {
        let variable = |(offset, size): &(u32, u32)| Variable {
            id: 1,
            name: Cow::Borrowed(""),
            offset: *offset,
            size: *size,
            linkage: Linkage::Global,
        };
        places.iter().map(variable).collect()
    }

    #[test]
    fn the_first_variable_around_a_pointer_owns_it() {
        let shapes: [&[(u32, u32)]; 4] = [
            &[(0, 32), (32, 16), (48, 8)],
            &[(0, 8), (0, 64), (16, 16), (24, 100)],
            &[(0, 0), (8, 4), (8, 16), (100, 8)],
            &[],
        ];
        for shape in shapes {
            let variables = variables(shape);
            let owners = Owners::new(&variables);
            for offset in 0..140_u32 {
                let expected = shape
                    .iter()
                    .position(|(start, size)| *start <= offset && offset + 8 <= start + size);
                assert_eq!(
                    owners.find(u64::from(offset)),
                    expected,
                    "{shape:?} {offset}"
                );
            }
            assert_eq!(owners.find(u64::MAX), None);
        }
    }
}
