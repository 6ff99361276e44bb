//! The symbol table, read where it is asked for.

use object::Endianness;
use object::elf;
use object::read::elf::Sym as _;

use crate::bytes::name_at;

/// All symbols of an object; a symbol's index is its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbols<'a> {
    endian: Endianness,
    table: &'a [elf::Sym64<Endianness>],
    strings: &'a [u8],
}

/// A symbol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol<'a> {
    pub(crate) kind: elf::SymbolType,
    pub(crate) bind: elf::SymbolBind,
    pub(crate) visibility: elf::SymbolVisibility,
    pub(crate) section: u16,
    pub(crate) value: u64,
    pub(crate) size: u64,
    /// Offset of the name in `strings`.
    name: u32,
    strings: &'a [u8],
}

impl<'a> Symbols<'a> {
    pub(super) fn new(
        endian: Endianness,
        table: &'a [elf::Sym64<Endianness>],
        strings: &'a [u8],
    ) -> Self {
        Self {
            endian,
            table,
            strings,
        }
    }

    /// Number of symbols.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The symbol of that number.
    pub(crate) fn get(&self, number: usize) -> Option<Symbol<'a>> {
        self.table.get(number).map(|symbol| self.read(symbol))
    }

    /// All symbols in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Symbol<'a>> + use<'a> {
        let this = *self;
        this.table.iter().map(move |symbol| this.read(symbol))
    }

    fn read(&self, symbol: &elf::Sym64<Endianness>) -> Symbol<'a> {
        Symbol {
            kind: symbol.st_type(),
            bind: symbol.st_bind(),
            visibility: symbol.st_visibility(),
            section: symbol.st_shndx(self.endian).0,
            value: symbol.st_value.get(self.endian),
            size: symbol.st_size.get(self.endian),
            name: symbol.st_name.get(self.endian),
            strings: self.strings,
        }
    }
}

impl<'a> Symbol<'a> {
    /// The name, `None` if the string table does not have it.
    pub(crate) fn name(&self) -> Option<&'a [u8]> {
        name_at(self.strings, usize::try_from(self.name).ok()?)
    }

    /// Whether other objects can see the symbol.
    pub(crate) fn is_global(&self) -> bool {
        self.bind == elf::STB_GLOBAL || self.bind == elf::STB_WEAK
    }

    /// Whether the symbol may be missing.
    pub(crate) fn is_weak(&self) -> bool {
        self.bind == elf::STB_WEAK
    }

    /// Whether the symbol is to be found in another object or the kernel.
    pub(crate) fn is_extern(&self) -> bool {
        self.section == 0 && self.is_global() && self.kind == elf::STT_NOTYPE
    }

    /// Whether the symbol is hidden from other objects in spite of its binding.
    pub(crate) fn is_hidden(&self) -> bool {
        self.visibility == elf::STV_HIDDEN || self.visibility == elf::STV_INTERNAL
    }
}
