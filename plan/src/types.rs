//! Types as structured data: what BTF says, without a BTF parser.
//!
//! The kinds are those of `enum` `BTF_KIND_*` in `<linux/btf.h>` that keys, values and data
//! sections can reach; ids are BTF ids.

use serde::{Deserialize, Serialize};

/// Id of a type in a plan: 0 is void, `n` is `Plan::types[n - 1]`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct TypeId(pub u32);

impl TypeId {
    /// The type `void`, which no list holds.
    pub const VOID: Self = Self(0);
}

/// One type. Sizes and offsets are in bytes unless a field's name says bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Type {
    /// `BTF_KIND_INT`.
    Int {
        /// Name in C, such as `unsigned int`.
        name: String,
        /// Size in bytes.
        size: u32,
        /// Number of bits in use.
        bits: u8,
        /// First bit in use, 0 in all that today's compilers emit.
        bit_offset: u8,
        /// How the bits are to be read.
        encoding: IntEncoding,
    },
    /// `BTF_KIND_PTR`.
    Ptr {
        /// What it points to.
        to: TypeId,
    },
    /// `BTF_KIND_ARRAY`.
    Array {
        /// Type of an element.
        element: TypeId,
        /// Type of the index.
        index: TypeId,
        /// Number of elements, 0 for a flexible array.
        length: u32,
    },
    /// `BTF_KIND_STRUCT`.
    Struct(Composite),
    /// `BTF_KIND_UNION`.
    Union(Composite),
    /// `BTF_KIND_ENUM`: up to 32 bits.
    Enum(Enum),
    /// `BTF_KIND_ENUM64`.
    Enum64(Enum),
    /// `BTF_KIND_FWD`: a struct or union without its members. Also what is left of the pointee
    /// of a plain pointer, because neither kernel nor reader needs more.
    Fwd {
        /// Tag of the struct or union.
        name: String,
        /// Whether it is a union.
        union: bool,
    },
    /// `BTF_KIND_TYPEDEF`.
    Typedef {
        /// The new name.
        name: String,
        /// The type that it names.
        to: TypeId,
    },
    /// `BTF_KIND_VOLATILE`.
    Volatile {
        /// The qualified type.
        to: TypeId,
    },
    /// `BTF_KIND_CONST`.
    Const {
        /// The qualified type.
        to: TypeId,
    },
    /// `BTF_KIND_RESTRICT`.
    Restrict {
        /// The qualified type.
        to: TypeId,
    },
    /// `BTF_KIND_FUNC_PROTO`.
    FuncProto {
        /// Return type.
        returns: TypeId,
        /// Parameters; the last one without name and type means `...`.
        params: Vec<Param>,
    },
    /// `BTF_KIND_VAR`.
    Var {
        /// Name of the variable.
        name: String,
        /// Its type.
        to: TypeId,
        /// How it is linked.
        linkage: Linkage,
    },
    /// `BTF_KIND_DATASEC`.
    Datasec {
        /// Name of the section.
        name: String,
        /// Size of the section.
        size: u32,
        /// The variables in it, by offset.
        vars: Vec<SecVar>,
    },
    /// `BTF_KIND_FLOAT`.
    Float {
        /// Name in C.
        name: String,
        /// Size in bytes.
        size: u32,
    },
    /// `BTF_KIND_DECL_TAG`, such as `contains:node:link`.
    DeclTag {
        /// The tag.
        value: String,
        /// The tagged type.
        to: TypeId,
        /// Index of the tagged member or parameter, `None` if the type itself is tagged.
        component: Option<u32>,
        /// Whether it is a plain attribute rather than a `btf_decl_tag` (the kind flag).
        attribute: bool,
    },
    /// `BTF_KIND_TYPE_TAG`, such as `kptr`.
    TypeTag {
        /// The tag.
        value: String,
        /// The tagged type.
        to: TypeId,
        /// Whether it is a plain attribute rather than a `btf_type_tag` (the kind flag).
        attribute: bool,
    },
}

/// `BTF_INT_*` encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IntEncoding {
    /// No encoding bit is set.
    Unsigned,
    /// `BTF_INT_SIGNED`.
    Signed,
    /// `BTF_INT_CHAR`.
    Char,
    /// `BTF_INT_BOOL`.
    Bool,
}

/// A struct or union.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Composite {
    /// Tag, `None` if anonymous.
    pub name: Option<String>,
    /// Size in bytes.
    pub size: u32,
    /// Members in declaration order.
    pub members: Vec<Member>,
}

/// A member of a struct or union.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Name, `None` if anonymous.
    pub name: Option<String>,
    /// Type of the member.
    #[serde(rename = "type")]
    pub ty: TypeId,
    /// Offset from the start, in bits.
    pub bit_offset: u32,
    /// Width of a bitfield in bits, `None` for an ordinary member.
    pub bitfield_size: Option<u8>,
}

/// An enum of 32 or 64 bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Enum {
    /// Tag, `None` if anonymous.
    pub name: Option<String>,
    /// Size in bytes.
    pub size: u32,
    /// Whether values are signed.
    pub signed: bool,
    /// The enumerators in declaration order.
    pub variants: Vec<Enumerator>,
}

/// An enumerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Enumerator {
    /// Name.
    pub name: String,
    /// The value's bits, sign-extended to 64 if the enum is signed.
    pub value: u64,
}

/// A parameter of a function prototype.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// Name, `None` if anonymous.
    pub name: Option<String>,
    /// Type.
    #[serde(rename = "type")]
    pub ty: TypeId,
}

/// A variable's place in a DATASEC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SecVar {
    /// Id of the `Var`.
    pub var: TypeId,
    /// Offset in the section, in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
}

/// `BTF_VAR_*` linkage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Linkage {
    /// `BTF_VAR_STATIC`.
    Static,
    /// `BTF_VAR_GLOBAL_ALLOCATED`.
    Global,
    /// `BTF_VAR_GLOBAL_EXTERN`.
    Extern,
}

impl Type {
    /// Calls `each` with the types that values of this one hold; a pointer holds none.
    pub fn each_part(&self, mut each: impl FnMut(TypeId)) {
        match self {
            Self::Struct(composite) | Self::Union(composite) => {
                composite.members.iter().for_each(|member| each(member.ty));
            }
            Self::Array { element, .. } => each(*element),
            Self::Typedef { to, .. }
            | Self::Const { to }
            | Self::Volatile { to }
            | Self::Restrict { to }
            | Self::TypeTag { to, .. }
            | Self::Var { to, .. } => each(*to),
            Self::Datasec { vars, .. } => vars.iter().for_each(|place| each(place.var)),
            _ => {}
        }
    }

    /// The type that this one refers to with that place in [`Type::references`].
    #[inline]
    pub(crate) fn reference(&self, place: usize) -> Option<TypeId> {
        let only = |to: &TypeId| (place == 0).then_some(*to);
        match self {
            Self::Ptr { to }
            | Self::Typedef { to, .. }
            | Self::Volatile { to }
            | Self::Const { to }
            | Self::Restrict { to }
            | Self::Var { to, .. }
            | Self::DeclTag { to, .. }
            | Self::TypeTag { to, .. } => only(to),
            Self::Array { element, index, .. } => [*element, *index].get(place).copied(),
            Self::Struct(composite) | Self::Union(composite) => {
                composite.members.get(place).map(|member| member.ty)
            }
            Self::FuncProto { returns, params } => match place.checked_sub(1) {
                None => Some(*returns),
                Some(place) => params.get(place).map(|param| param.ty),
            },
            Self::Datasec { vars, .. } => vars.get(place).map(|it| it.var),
            Self::Int { .. }
            | Self::Enum(_)
            | Self::Enum64(_)
            | Self::Fwd { .. }
            | Self::Float { .. } => None,
        }
    }

    /// All types that this one refers to, in the order of their fields.
    #[must_use]
    pub fn references(&self) -> Vec<TypeId> {
        (0..).map_while(|place| self.reference(place)).collect()
    }

    /// Calls `each` with all types that this one refers to, in the order of their fields.
    pub fn each_reference(&self, each: impl FnMut(TypeId)) {
        (0..)
            .map_while(|place| self.reference(place))
            .for_each(each);
    }

    /// As [`Type::each_reference`], to renumber them.
    pub fn each_reference_mut(&mut self, mut each: impl FnMut(&mut TypeId)) {
        match self {
            Self::Ptr { to }
            | Self::Typedef { to, .. }
            | Self::Volatile { to }
            | Self::Const { to }
            | Self::Restrict { to }
            | Self::Var { to, .. }
            | Self::DeclTag { to, .. }
            | Self::TypeTag { to, .. } => each(to),
            Self::Array { element, index, .. } => {
                each(element);
                each(index);
            }
            Self::Struct(composite) | Self::Union(composite) => {
                let members = composite.members.iter_mut();
                members.for_each(|member| each(&mut member.ty));
            }
            Self::FuncProto { returns, params } => {
                each(returns);
                params.iter_mut().for_each(|param| each(&mut param.ty));
            }
            Self::Datasec { vars, .. } => {
                vars.iter_mut().for_each(|place| each(&mut place.var));
            }
            Self::Int { .. }
            | Self::Enum(_)
            | Self::Enum64(_)
            | Self::Fwd { .. }
            | Self::Float { .. } => {}
        }
    }
}
