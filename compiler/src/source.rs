//! Where maps are declared, from DWARF: file and line, or nothing, but never a guess.

use std::collections::BTreeSet;

use bpfplan_plan::Source;
use foldhash::{HashMap, HashMapExt as _};
use gimli::{
    Abbreviations, Attribute, AttributeValue, DebugAbbrev, DebugInfo, DebugLine, UnitHeader,
    UnitOffset, constants,
};

use crate::dwarf::{Reader, Sections, UnitStrings};
use crate::elf::{Elf, Stage};
use crate::fixup::Variable;

/// The places of those variables that DWARF tells.
pub(crate) fn find<'v>(elf: &Elf<'_>, variables: &'v [Variable]) -> HashMap<&'v str, Source> {
    find_names(elf, variables.iter().map(|variable| variable.name.as_str()))
}

/// As [`find`], by their names.
pub(crate) fn find_names<'v>(
    elf: &Elf<'_>,
    names: impl Iterator<Item = &'v str>,
) -> HashMap<&'v str, Source> {
    if let Stage::Linked(known) = elf.stage {
        return names
            .filter_map(|name| Some((name, known.get(name)?.clone())))
            .collect();
    }
    search(elf, names, false)
}

/// The places of variables and functions that DWARF tells: of their definitions, or else of a
/// declaration.
pub(crate) fn find_all<'v>(
    elf: &Elf<'_>,
    names: impl Iterator<Item = &'v str>,
) -> HashMap<&'v str, Source> {
    search(elf, names, true)
}

fn search<'v>(
    elf: &Elf<'_>,
    names: impl Iterator<Item = &'v str>,
    all: bool,
) -> HashMap<&'v str, Source> {
    let sections = Sections::new(elf);
    let wanted: HashMap<&[u8], &str> = names.map(|name| (name.as_bytes(), name)).collect();
    let mut search = Search {
        sections: &sections,
        found: HashMap::with_capacity(wanted.len()),
        declared: HashMap::default(),
        wanted,
        all,
        files: HashMap::default(),
        last_file: None,
        budget: sections
            .info
            .len()
            .saturating_mul(8)
            .saturating_add(1 << 20),
        file_budget: sections.line.len().saturating_mul(4),
    };
    search.units();
    let mut found = search.declared;
    found.extend(search.found);
    let found = found.into_iter();
    found
        .filter_map(|(name, source)| Some((name, source?)))
        .collect()
}

/// An entry whose attributes were read.
struct Entry<'e, 's> {
    offset: UnitOffset,
    attributes: &'e [Attribute<Reader<'s>>],
}

impl<'s> Entry<'_, 's> {
    fn value(&self, name: constants::DwAt) -> Option<AttributeValue<Reader<'s>>> {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|attribute| attribute.name() == name);
        found.map(Attribute::value)
    }
}

struct Search<'s, 'v> {
    sections: &'s Sections<'s>,
    wanted: HashMap<&'v [u8], &'v str>,
    /// `None` for variables that have two different places.
    found: HashMap<&'v str, Option<Source>>,
    /// The first declaration that is no definition.
    declared: HashMap<&'v str, Option<Source>>,
    /// Whether functions and declarations are looked for as well.
    all: bool,
    /// The file tables by their offset, `None` if they cannot be read.
    files: HashMap<usize, Option<gimli::LineProgramHeader<Reader<'s>>>>,
    /// The file that was asked for last, by its table and number: neighbours share it.
    last_file: Option<((usize, u64), Option<String>)>,
    /// Entries and attributes that may still be read: abbreviations can make a byte into many.
    budget: usize,
    /// Bytes of file tables that may still be read: hostile tables can overlap.
    file_budget: usize,
}

/// A variable that is declared here and defined further on.
#[derive(Clone, Copy)]
struct Declared<'v> {
    name: &'v str,
    file: Option<u64>,
    line: Option<u64>,
}

/// A compilation unit, as far as its root entry tells.
struct Unit {
    strings: UnitStrings,
    files: Option<usize>,
    address_size: u8,
}

impl Unit {
    /// Reads the root entry.
    fn root(&mut self, entry: &Entry<'_, '_>) {
        if let Some(AttributeValue::DebugStrOffsetsBase(base)) =
            entry.value(constants::DW_AT_str_offsets_base)
        {
            self.strings.base = base;
        }
        if let Some(AttributeValue::DebugLineRef(offset)) = entry.value(constants::DW_AT_stmt_list)
        {
            self.files = Some(offset.0);
        }
    }
}

impl<'s, 'v> Search<'s, 'v> {
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

    /// Looks at the variables of a unit that stand in no function and no type.
    fn unit(&mut self, header: &UnitHeader<Reader<'s>>, abbreviations: &Abbreviations) {
        let mut unit = Unit {
            strings: UnitStrings {
                format: header.format(),
                base: gimli::DebugStrOffsetsBase(0),
            },
            files: None,
            address_size: header.address_size(),
        };
        let mut declarations = HashMap::default();
        // Compilers define a variable once in a unit, so nothing new follows after the last one.
        let mut missing = self.wanted.len();
        // Entries below this depth stand in a function, a type ...
        let mut inside = isize::MAX;
        let Ok(mut entries) = header.entries_raw(abbreviations, None) else {
            return;
        };
        let mut attributes = Vec::new();
        while !entries.is_empty() {
            let (depth, offset) = (entries.next_depth(), entries.next_offset());
            let Ok(abbreviation) = entries.read_abbreviation() else {
                return;
            };
            let Some(abbreviation) = abbreviation else {
                continue;
            };
            let specifications = abbreviation.attributes();
            let cost = specifications.len().saturating_add(1);
            let Some(budget) = self.budget.checked_sub(cost) else {
                return;
            };
            self.budget = budget;
            let tag = abbreviation.tag();
            let wanted = match tag {
                constants::DW_TAG_compile_unit | constants::DW_TAG_variable => true,
                constants::DW_TAG_subprogram => self.all,
                _ => false,
            };
            if depth > inside || !wanted {
                if entries.skip_attributes(specifications).is_err() {
                    return;
                }
                let open = matches!(tag, constants::DW_TAG_namespace | constants::DW_TAG_module);
                if depth <= inside {
                    inside = if open { isize::MAX } else { depth };
                }
                continue;
            }
            if entries
                .read_attributes(specifications, &mut attributes)
                .is_err()
            {
                return;
            }
            let entry = Entry {
                offset,
                attributes: &attributes,
            };
            if tag == constants::DW_TAG_compile_unit {
                inside = isize::MAX;
                unit.root(&entry);
                continue;
            }
            inside = depth;
            if self.variable(&entry, &unit, &mut declarations).is_some() {
                missing = missing.saturating_sub(1);
            }
            if missing == 0 {
                return;
            }
        }
    }

    /// `None` unless it is one that is looked for and defined here.
    fn variable(
        &mut self,
        entry: &Entry<'_, 's>,
        unit: &Unit,
        declarations: &mut HashMap<usize, Declared<'v>>,
    ) -> Option<()> {
        let declared = match entry.value(constants::DW_AT_specification) {
            Some(AttributeValue::UnitRef(offset)) => declarations.get(&offset.0).copied(),
            _ => None,
        };
        let name = declared
            .map(|it| it.name)
            .or_else(|| self.name(entry, unit))?;
        // What a definition does not repeat is as its declaration says.
        let file = number(entry, constants::DW_AT_decl_file).or_else(|| declared?.file);
        let line = number(entry, constants::DW_AT_decl_line).or_else(|| declared?.line);
        let flag = |name| matches!(entry.value(name), Some(AttributeValue::Flag(true)));
        if flag(constants::DW_AT_declaration) {
            declarations.insert(entry.offset.0, Declared { name, file, line });
            if self.all && !self.declared.contains_key(name) {
                let source = self.place(unit, file, line);
                self.declared.insert(name, source);
            }
            return None;
        }
        if declared.is_none() && !flag(constants::DW_AT_external) {
            return None;
        }
        let source = self.place(unit, file, line);
        self.found
            .entry(name)
            .and_modify(|known| {
                if *known != source {
                    *known = None;
                }
            })
            .or_insert(source);
        Some(())
    }

    /// The name of the symbol that a variable has, if it is one that is looked for.
    fn name(&self, entry: &Entry<'_, 's>, unit: &Unit) -> Option<&'v str> {
        let name = entry
            .value(constants::DW_AT_linkage_name)
            .or_else(|| entry.value(constants::DW_AT_name))?;
        let name = self.sections.string(&name, &unit.strings)?;
        self.wanted.get(name).copied()
    }

    fn place(&mut self, unit: &Unit, file: Option<u64>, line: Option<u64>) -> Option<Source> {
        let line = u32::try_from(line?).ok().filter(|line| *line != 0)?;
        let file = self.file(unit, file?)?;
        Some(Source {
            file: file.into(),
            line,
        })
    }

    /// The name of a file as it was recorded, with its directory if it is not the compiler's.
    fn file(&mut self, unit: &Unit, index: u64) -> Option<String> {
        let key = (unit.files?, index);
        if let Some((last, file)) = &self.last_file
            && *last == key
        {
            return file.clone();
        }
        let file = self.find_file(unit, key);
        self.last_file = Some((key, file.clone()));
        file
    }

    fn find_file(&mut self, unit: &Unit, (offset, index): (usize, u64)) -> Option<String> {
        let sections = self.sections;
        if !self.files.contains_key(&offset) {
            let table = self.read_files(offset, unit.address_size);
            self.files.insert(offset, table);
        }
        let table = self.files.get(&offset)?.as_ref()?;
        if index == 0 && table.version() <= 4 {
            return None;
        }
        let file = table.file(index)?;
        let name = sections.string(&file.path_name(), &unit.strings)?;
        let mut path = clean(name)?.to_owned();
        if !path.starts_with('/') && file.directory_index() != 0 {
            let directory = table.directory(file.directory_index())?;
            let directory = clean(sections.string(&directory, &unit.strings)?)?;
            path = format!("{}/{path}", directory.trim_end_matches('/'));
        }
        Some(path)
    }

    fn read_files(
        &mut self,
        offset: usize,
        address_size: u8,
    ) -> Option<gimli::LineProgramHeader<Reader<'s>>> {
        if self.file_budget == 0 {
            return None;
        }
        let lines = DebugLine::from(Reader::new(&self.sections.line, self.sections.endian));
        let program = lines
            .program(gimli::DebugLineOffset(offset), address_size, None, None)
            .ok()?;
        let header = program.header().clone();
        self.file_budget = self.file_budget.saturating_sub(header.header_length());
        Some(header)
    }
}

fn number(entry: &Entry<'_, '_>, name: constants::DwAt) -> Option<u64> {
    match entry.value(name)? {
        AttributeValue::FileIndex(index) => Some(index),
        value => value.udata_value(),
    }
}

/// A path that can be shown.
fn clean(path: &[u8]) -> Option<&str> {
    let path = str::from_utf8(path).ok()?;
    (!path.is_empty() && !path.chars().any(char::is_control)).then_some(path)
}
