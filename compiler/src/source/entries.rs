//! Goes over the entries of a unit of DWARF. Most of them are passed over, which takes no more
//! than a look at their abbreviation where its attributes have fixed sizes.

use gimli::{
    Abbreviation, Abbreviations, AttributeValue, EntriesRaw, Reader as _, UnitHeader, UnitOffset,
    constants,
};

use crate::dwarf::Reader;

/// Abbreviations below this number take one byte, and are remembered.
const SHORT: usize = 0x80;

/// What all entries of an abbreviation share.
#[derive(Debug, Clone, Copy)]
struct Shape<'t> {
    abbreviation: &'t Abbreviation,
    /// What reading an entry costs: itself and its attributes.
    cost: usize,
    /// Whether such entries are looked at.
    wanted: bool,
    /// Whether what stands in it is visible from outside.
    open: bool,
    /// Whether others stand in it.
    parent: bool,
    /// Bytes of its attributes, if they are always as many.
    size: Option<usize>,
}

/// An entry that is looked at; its attributes come next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'t> {
    pub(super) tag: constants::DwTag,
    abbreviation: &'t Abbreviation,
    offset: usize,
}

/// What the root entry of a unit tells.
#[derive(Debug, Default)]
pub(super) struct Root {
    /// Where its string offsets are.
    pub(super) strings: Option<gimli::DebugStrOffsetsBase>,
    /// Offset of its file table.
    pub(super) files: Option<usize>,
}

/// A variable or function.
#[derive(Debug, Default)]
pub(super) struct Variable<'s> {
    pub(super) offset: usize,
    pub(super) name: Option<AttributeValue<Reader<'s>>>,
    pub(super) linkage_name: Option<AttributeValue<Reader<'s>>>,
    pub(super) file: Option<u64>,
    pub(super) line: Option<u64>,
    pub(super) declaration: bool,
    pub(super) external: bool,
    /// Offset of the declaration.
    pub(super) specification: Option<usize>,
}

/// The root entry of a unit and those of its variables that stand in no function and no type.
pub(super) struct Entries<'h, 't, 's> {
    header: &'h UnitHeader<Reader<'s>>,
    abbreviations: &'t Abbreviations,
    /// Whether functions are looked at as well.
    functions: bool,
    /// By number.
    shapes: [Option<Shape<'t>>; SHORT],
    rest: Reader<'s>,
    /// Offset of the end in the unit.
    end: usize,
    depth: isize,
    /// Entries below this depth stand in a function, a type ...
    inside: isize,
}

impl<'h, 't, 's> Entries<'h, 't, 's> {
    pub(super) fn new(
        header: &'h UnitHeader<Reader<'s>>,
        abbreviations: &'t Abbreviations,
        functions: bool,
    ) -> Option<Self> {
        let start = header.size_of_header();
        let rest = header.range_from(UnitOffset(start)..).ok()?;
        Some(Self {
            header,
            abbreviations,
            functions,
            shapes: [None; SHORT],
            end: start.checked_add(rest.len())?,
            rest,
            depth: 0,
            inside: isize::MAX,
        })
    }

    /// The next entry, whose attributes have to be read before the next call; `None` at the end,
    /// and where something cannot be read. `budget` is what may still be read.
    pub(super) fn next(&mut self, budget: &mut usize) -> Option<Entry<'t>> {
        loop {
            let offset = self.end.checked_sub(self.rest.len())?;
            let code = match *self.rest.slice() {
                [code, ..] if usize::from(code) < SHORT => {
                    self.rest.skip(1).ok()?;
                    u64::from(code)
                }
                _ => self.rest.read_uleb128().ok()?,
            };
            if code == 0 {
                self.depth = self.depth.checked_sub(1)?;
                continue;
            }
            let shape = self.shape(code)?;
            *budget = budget.checked_sub(shape.cost)?;
            let depth = self.depth;
            if shape.parent {
                self.depth = depth.checked_add(1)?;
            }
            let visible = depth <= self.inside;
            if visible {
                self.inside = if shape.open { isize::MAX } else { depth };
            }
            if visible && shape.wanted {
                return Some(Entry {
                    tag: shape.abbreviation.tag(),
                    abbreviation: shape.abbreviation,
                    offset,
                });
            }
            match shape.size {
                Some(size) => self.rest.skip(size).ok()?,
                None => self.read(shape.abbreviation, |_| false, |_, _| ())?,
            }
        }
    }

    fn shape(&mut self, code: u64) -> Option<Shape<'t>> {
        let short = usize::try_from(code).ok();
        let known = short.and_then(|code| self.shapes.get(code).copied().flatten());
        known.or_else(|| self.new_shape(code))
    }

    #[cold]
    fn new_shape(&mut self, code: u64) -> Option<Shape<'t>> {
        let abbreviation = self.abbreviations.get(code)?;
        let attributes = abbreviation.attributes();
        let sizes = attributes.iter().map(|it| it.size(self.header));
        let tag = abbreviation.tag();
        let shape = Shape {
            abbreviation,
            cost: attributes.len().saturating_add(1),
            wanted: match tag {
                constants::DW_TAG_compile_unit | constants::DW_TAG_variable => true,
                constants::DW_TAG_subprogram => self.functions,
                _ => false,
            },
            open: matches!(
                tag,
                constants::DW_TAG_compile_unit
                    | constants::DW_TAG_namespace
                    | constants::DW_TAG_module
            ),
            parent: abbreviation.has_children(),
            size: sizes.sum(),
        };
        let short = usize::try_from(code).ok();
        if let Some(place) = short.and_then(|code| self.shapes.get_mut(code)) {
            *place = Some(shape);
        }
        Some(shape)
    }

    /// Reads the root entry.
    pub(super) fn root(&mut self, entry: &Entry<'t>) -> Option<Root> {
        let mut root = Root::default();
        let wanted = |name| {
            matches!(
                name,
                constants::DW_AT_str_offsets_base | constants::DW_AT_stmt_list
            )
        };
        self.read(entry.abbreviation, wanted, |name, value| {
            match (name, value) {
                (constants::DW_AT_str_offsets_base, AttributeValue::DebugStrOffsetsBase(base)) => {
                    root.strings.get_or_insert(base);
                }
                (constants::DW_AT_stmt_list, AttributeValue::DebugLineRef(offset)) => {
                    root.files.get_or_insert(offset.0);
                }
                _ => {}
            }
        })?;
        Some(root)
    }

    /// Reads a variable or function. Of attributes that are there twice, the first counts.
    pub(super) fn variable(&mut self, entry: &Entry<'t>) -> Option<Variable<'s>> {
        let mut variable = Variable {
            offset: entry.offset,
            ..Variable::default()
        };
        let wanted = |name| {
            matches!(
                name,
                constants::DW_AT_name
                    | constants::DW_AT_linkage_name
                    | constants::DW_AT_decl_file
                    | constants::DW_AT_decl_line
                    | constants::DW_AT_declaration
                    | constants::DW_AT_external
                    | constants::DW_AT_specification
            )
        };
        self.read(entry.abbreviation, wanted, |name, value| {
            let flag = matches!(value, AttributeValue::Flag(true));
            match name {
                constants::DW_AT_name => variable.name = variable.name.or(Some(value)),
                constants::DW_AT_linkage_name => {
                    variable.linkage_name = variable.linkage_name.or(Some(value));
                }
                constants::DW_AT_decl_file => {
                    variable.file = variable.file.or_else(|| number(&value));
                }
                constants::DW_AT_decl_line => {
                    variable.line = variable.line.or_else(|| number(&value));
                }
                constants::DW_AT_declaration => variable.declaration |= flag,
                constants::DW_AT_external => variable.external |= flag,
                constants::DW_AT_specification => {
                    if let AttributeValue::UnitRef(offset) = value {
                        variable.specification = variable.specification.or(Some(offset.0));
                    }
                }
                _ => {}
            }
        })?;
        Some(variable)
    }

    /// Reads the attributes that are wanted, and passes over the others.
    #[inline]
    fn read(
        &mut self,
        abbreviation: &Abbreviation,
        wanted: impl Fn(constants::DwAt) -> bool,
        mut each: impl FnMut(constants::DwAt, AttributeValue<Reader<'s>>),
    ) -> Option<()> {
        let offset = UnitOffset(self.end.checked_sub(self.rest.len())?);
        let encoding = self.header.encoding();
        let mut raw = EntriesRaw::new(self.rest, encoding, self.abbreviations, offset);
        for specification in abbreviation.attributes() {
            if wanted(specification.name()) {
                let attribute = raw.read_attribute_inline(*specification).ok()?;
                each(attribute.name(), attribute.value());
            } else {
                raw.skip_attributes(std::slice::from_ref(specification))
                    .ok()?;
            }
        }
        let read = raw.next_offset().0.checked_sub(offset.0)?;
        self.rest.skip(read).ok()
    }
}

fn number(value: &AttributeValue<Reader<'_>>) -> Option<u64> {
    match value {
        AttributeValue::FileIndex(index) => Some(*index),
        value => value.udata_value(),
    }
}
