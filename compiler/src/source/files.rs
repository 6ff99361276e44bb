//! The file tables of DWARF.

use std::sync::Arc;

use foldhash::HashMap;
use gimli::{DebugLine, DebugLineOffset, LineProgramHeader};

use crate::dwarf::{Reader, Sections, UnitStrings};

/// A file: offset of its table, and its number there.
type Key = (usize, u64);

/// The files that were asked for.
pub(super) struct Files<'s> {
    sections: &'s Sections<'s>,
    names: Vec<Arc<str>>,
    /// The file tables by their offset, `None` if they cannot be read.
    tables: HashMap<usize, Option<LineProgramHeader<Reader<'s>>>>,
    /// The places in `names` of all files that were asked for.
    known: HashMap<Key, Option<usize>>,
    /// The file that was asked for last: neighbours share it.
    last: Option<(Key, Option<usize>)>,
    /// Bytes of file tables and names that may still be read: hostile tables can overlap, and
    /// their files share one long name.
    budget: usize,
}

impl<'s> Files<'s> {
    pub(super) fn new(sections: &'s Sections<'s>) -> Self {
        Self {
            sections,
            names: Vec::new(),
            tables: HashMap::default(),
            known: HashMap::default(),
            last: None,
            budget: sections
                .line
                .len()
                .saturating_mul(4)
                .saturating_add(1 << 20),
        }
    }

    /// The name of a file that [`Files::find`] found.
    pub(super) fn name(&self, file: usize) -> Option<&Arc<str>> {
        self.names.get(file)
    }

    /// The file of that table and number; `None` if its name cannot be told.
    pub(super) fn find(
        &mut self,
        key: Key,
        address_size: u8,
        strings: &UnitStrings,
    ) -> Option<usize> {
        if let Some((last, file)) = self.last
            && last == key
        {
            return file;
        }
        let file = match self.known.get(&key) {
            Some(known) => *known,
            None => self.read(key, address_size, strings).map(|name| {
                self.names.push(name.into());
                self.names.len() - 1
            }),
        };
        self.known.insert(key, file);
        self.last = Some((key, file));
        file
    }

    /// The name of a file as it was recorded, with its directory if it is not the compiler's.
    fn read(
        &mut self,
        (offset, index): Key,
        address_size: u8,
        strings: &UnitStrings,
    ) -> Option<String> {
        let sections = self.sections;
        if !self.tables.contains_key(&offset) {
            let table = self.read_table(offset, address_size);
            self.tables.insert(offset, table);
        }
        let table = self.tables.get(&offset)?.as_ref()?;
        if index == 0 && table.version() <= 4 {
            return None;
        }
        let file = table.file(index)?;
        let name = sections.string(&file.path_name(), strings)?;
        let mut path = clean(name)?.to_owned();
        if !path.starts_with('/') && file.directory_index() != 0 {
            let directory = table.directory(file.directory_index())?;
            let directory = clean(sections.string(&directory, strings)?)?;
            path = format!("{}/{path}", directory.trim_end_matches('/'));
        }
        self.budget = self.budget.checked_sub(path.len())?;
        Some(path)
    }

    fn read_table(
        &mut self,
        offset: usize,
        address_size: u8,
    ) -> Option<LineProgramHeader<Reader<'s>>> {
        if self.budget == 0 {
            return None;
        }
        let lines = DebugLine::from(Reader::new(&self.sections.line, self.sections.endian));
        let program = lines
            .program(DebugLineOffset(offset), address_size, None, None)
            .ok()?;
        let header = program.header().clone();
        self.budget = self.budget.saturating_sub(header.header_length());
        Some(header)
    }
}

/// A path that can be shown.
fn clean(path: &[u8]) -> Option<&str> {
    let path = str::from_utf8(path).ok()?;
    (!path.is_empty() && !path.chars().any(char::is_control)).then_some(path)
}
