//! Where maps are declared, from DWARF: file and line, or nothing, but never a guess.

mod entries;
mod files;

use std::collections::{self, BTreeSet};
use std::sync::Arc;

use bpfplan_plan::Source;
use foldhash::HashMap;
use gimli::{Abbreviations, DebugAbbrev, DebugInfo, UnitHeader, constants};

use crate::dwarf::{Reader, Sections, UnitStrings};
use crate::elf::{Elf, Stage};
use crate::names::Names;
use entries::{Entries, Variable};
use files::Files;

/// The places of those variables that DWARF tells; of a name that is there twice, at its first
/// place in the list.
pub(crate) fn find(elf: &Elf<'_>, names: &Names<'_>) -> Vec<Option<Source>> {
    match elf.stage {
        Stage::Linked(known) => linked(known, names),
        Stage::WithoutPlaces => later(names),
        Stage::Whole | Stage::Part => search(elf, names, false),
    }
}

/// The places of variables and functions that DWARF tells: of their definitions, or else of a
/// declaration.
pub(crate) fn find_all(elf: &Elf<'_>, names: &Names<'_>) -> Vec<Option<Source>> {
    search(elf, names, true)
}

fn later(names: &Names<'_>) -> Vec<Option<Source>> {
    let mut found = vec![None; names.len()];
    for (name, place) in names.iter() {
        let name = std::str::from_utf8(name).ok();
        if let Some(place) = found.get_mut(place) {
            *place = name.map(Source::later);
        }
    }
    found
}

fn linked(known: &collections::HashMap<String, Source>, names: &Names<'_>) -> Vec<Option<Source>> {
    let mut found = vec![None; names.len()];
    for (name, source) in known {
        let place = names.find(name.as_bytes());
        if let Some(place) = place.and_then(|place| found.get_mut(place)) {
            *place = Some(source.clone());
        }
    }
    found
}

fn search(elf: &Elf<'_>, names: &Names<'_>, all: bool) -> Vec<Option<Source>> {
    let sections = Sections::new(elf);
    let mut search = Search {
        sections: &sections,
        wanted: names,
        found: vec![Found::Nothing; names.len()],
        all,
        files: Files::new(&sections),
        budget: sections
            .info
            .len()
            .saturating_mul(8)
            .saturating_add(1 << 20),
    };
    search.units();
    let files = search.files;
    let found = search.found.into_iter();
    found
        .map(|found| match found {
            Found::Declared(place) | Found::Defined(place) => {
                let place = place?;
                Some(Source {
                    file: Arc::clone(files.name(place.file)?),
                    line: place.line,
                })
            }
            Found::Nothing => None,
        })
        .collect()
}

/// What is known of a name; a place of `None` cannot be told, or there are two.
#[derive(Debug, Clone, Copy)]
enum Found {
    Nothing,
    /// The first declaration that is no definition.
    Declared(Option<Place>),
    Defined(Option<Place>),
}

/// A line of a file, by its number in [`Files`].
#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    line: u32,
}

struct Search<'s, 'n> {
    sections: &'s Sections<'s>,
    wanted: &'n Names<'n>,
    /// By the places of the names.
    found: Vec<Found>,
    /// Whether functions and declarations are looked for as well.
    all: bool,
    files: Files<'s>,
    /// Entries and attributes that may still be read: abbreviations can make a byte into many.
    budget: usize,
}

/// A variable that is declared here and defined further on.
#[derive(Clone, Copy)]
struct Declared {
    name: usize,
    file: Option<u64>,
    line: Option<u64>,
}

/// A compilation unit, as far as its root entry tells.
struct Unit {
    strings: UnitStrings,
    files: Option<usize>,
    address_size: u8,
    /// The declarations by the offsets of their entries.
    declarations: HashMap<usize, Declared>,
}

impl<'s> Search<'s, '_> {
    fn units(&mut self) {
        let sections = self.sections;
        let info = DebugInfo::from(Reader::new(&sections.info, sections.endian));
        let mut headers = Vec::new();
        let mut units = info.units();
        while let Ok(Some(header)) = units.next() {
            headers.push(header);
        }
        let offsets: BTreeSet<usize> = headers
            .iter()
            .map(|it| it.debug_abbrev_offset().0)
            .collect();
        let mut tables: HashMap<usize, Option<Abbreviations>> = HashMap::default();
        for header in &headers {
            let start = header.debug_abbrev_offset().0;
            let table = tables.entry(start).or_insert_with(|| {
                // Tables of compilers do not overlap; those that do are cut, so that all of them
                // together are read once.
                let end = offsets.range(start.saturating_add(1)..).next();
                let end = end.map_or(sections.abbrev.len(), |end| *end);
                let cut = sections.abbrev.get(..end)?;
                header
                    .abbreviations(&DebugAbbrev::from(Reader::new(cut, sections.endian)))
                    .ok()
            });
            if let Some(table) = table {
                self.unit(header, table);
            }
        }
    }

    /// Looks at the variables of a unit that stand in no function and no type; `None` unless all
    /// that were missing were found.
    fn unit(
        &mut self,
        header: &UnitHeader<Reader<'s>>,
        abbreviations: &Abbreviations,
    ) -> Option<()> {
        let mut unit = Unit {
            strings: UnitStrings {
                format: header.format(),
                base: gimli::DebugStrOffsetsBase(0),
            },
            files: None,
            address_size: header.address_size(),
            declarations: HashMap::default(),
        };
        // Compilers define a variable once in a unit, so nothing new follows after the last one.
        let mut missing = self.wanted.len();
        let mut entries = Entries::new(header, abbreviations, self.all)?;
        while missing > 0 {
            let entry = entries.next(&mut self.budget)?;
            if entry.tag == constants::DW_TAG_compile_unit {
                let root = entries.root(&entry)?;
                unit.strings.base = root.strings.unwrap_or(unit.strings.base);
                unit.files = root.files.or(unit.files);
                continue;
            }
            let variable = entries.variable(&entry)?;
            if self.variable(&variable, &mut unit).is_some() {
                missing = missing.saturating_sub(1);
            }
        }
        Some(())
    }

    /// `None` unless it is one that is looked for and defined here.
    fn variable(&mut self, variable: &Variable<'s>, unit: &mut Unit) -> Option<()> {
        let declared = variable.specification;
        let declared = declared.and_then(|offset| unit.declarations.get(&offset).copied());
        let name = declared
            .map(|it| it.name)
            .or_else(|| self.name(variable, unit))?;
        // What a definition does not repeat is as its declaration says.
        let file = variable.file.or_else(|| declared?.file);
        let line = variable.line.or_else(|| declared?.line);
        if variable.declaration {
            let declared = Declared { name, file, line };
            unit.declarations.insert(variable.offset, declared);
            if self.all && matches!(self.found.get(name), Some(Found::Nothing)) {
                let place = self.place(unit, file, line);
                *self.found.get_mut(name)? = Found::Declared(place);
            }
            return None;
        }
        if declared.is_none() && !variable.external {
            return None;
        }
        let place = self.place(unit, file, line);
        let found = self.found.get_mut(name)?;
        let known = match *found {
            Found::Nothing | Found::Declared(_) => place,
            Found::Defined(known) => known.filter(|known| {
                let same = |place: Place| {
                    place.line == known.line
                        && self.files.name(place.file) == self.files.name(known.file)
                };
                place.is_some_and(same)
            }),
        };
        *found = Found::Defined(known);
        Some(())
    }

    /// The place of the name that a variable has as a symbol, if it is looked for.
    fn name(&self, variable: &Variable<'s>, unit: &Unit) -> Option<usize> {
        let name = variable.linkage_name.as_ref().or(variable.name.as_ref())?;
        let name = self.sections.string(name, &unit.strings)?;
        self.wanted.find(name)
    }

    fn place(&mut self, unit: &Unit, file: Option<u64>, line: Option<u64>) -> Option<Place> {
        let line = u32::try_from(line?).ok().filter(|line| *line != 0)?;
        let table = (unit.files?, file?);
        let file = self.files.find(table, unit.address_size, &unit.strings)?;
        Some(Place { file, line })
    }
}
