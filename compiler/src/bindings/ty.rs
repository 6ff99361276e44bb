//! Types of Rust that stand for types of C.

/// A type of Rust.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Ty {
    /// A number, such as `u32`.
    Primitive(&'static str),
    /// A type of `bpfplan_loader::bindings`, such as `Ptr`.
    Support(&'static str),
    /// An item of the generated module, by its index.
    Item(usize),
    /// An array.
    Array(Box<Ty>, u32),
}

/// A type with what layouts need to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) ty: Ty,
    /// Size in bytes.
    pub(super) size: u32,
    /// Alignment in bytes: at least that of the Rust type on any machine.
    pub(super) align: u32,
    /// Whether values have a total equality: not with floating-point numbers.
    pub(super) eq: bool,
}

impl Shape {
    /// A number of `size` bytes.
    pub(super) fn primitive(name: &'static str, size: u32) -> Self {
        Self {
            ty: Ty::Primitive(name),
            size,
            align: size,
            eq: !matches!(name, "f32" | "f64"),
        }
    }

    /// Bytes that nothing more is known of.
    pub(super) fn bytes(size: u32) -> Self {
        Self::primitive("u8", 1).array(size, size)
    }

    /// An array of this, of `size` bytes.
    pub(super) fn array(self, length: u32, size: u32) -> Self {
        Self {
            ty: Ty::Array(Box::new(self.ty), length),
            size,
            align: self.align,
            eq: self.eq,
        }
    }

    /// The unsigned integer of that many bytes, if Rust has it.
    pub(super) fn unsigned(size: u32) -> Option<Self> {
        let name = match size {
            1 => "u8",
            2 => "u16",
            4 => "u32",
            8 => "u64",
            16 => "u128",
            _ => return None,
        };
        Some(Self::primitive(name, size))
    }

    /// The signed integer of that many bytes, if Rust has it.
    pub(super) fn signed(size: u32) -> Option<Self> {
        let name = match size {
            1 => "i8",
            2 => "i16",
            4 => "i32",
            8 => "i64",
            16 => "i128",
            _ => return None,
        };
        Some(Self::primitive(name, size))
    }
}

/// The path of the module that generated code needs.
pub(super) const SUPPORT: &str = "::bpfplan_loader::bindings";

impl Ty {
    /// The type as Rust spells it; `names` has the paths of the items.
    pub(super) fn render(&self, names: &dyn Fn(usize) -> String) -> String {
        match self {
            Self::Primitive(name) => (*name).to_owned(),
            Self::Support(name) => format!("{SUPPORT}::{name}"),
            Self::Item(index) => names(*index),
            Self::Array(element, length) => format!("[{}; {length}]", element.render(names)),
        }
    }
}
