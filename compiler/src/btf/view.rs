//! The types that the maps reach, decoded by btf-rs into the plan's own structures.

use bpfplan_plan::types::{
    Composite, Enum, Enumerator, IntEncoding, Linkage, Member, Param, Type, TypeId,
};
use bpfplan_plan::{Diagnostic, uapi};
use btf_rs::{Btf, BtfType, Type as Decoded};

use super::raw::Raw;
use super::trim::{Beside, Trimmed};
use crate::bytes::text;
use crate::codes;

/// The types of a trimmed blob. Ids are the blob's.
#[derive(Debug, Default)]
pub(crate) struct View {
    types: Vec<Type>,
}

impl View {
    /// Decodes the blob. Every type is looked up once: btf-rs clones what it looks up.
    pub(crate) fn decode(raw: &Raw<'_>, trimmed: &Trimmed) -> Result<Self, Diagnostic> {
        let failed = |error: btf_rs::Error| {
            Diagnostic::error(codes::BAD_BTF, format!("corrupt BTF: {error}"))
        };
        let btf = Btf::from_bytes(&trimmed.blob).map_err(failed)?;
        let decode = |(id, beside): (u32, &Beside)| {
            let decoder = Decoder {
                raw,
                beside: *beside,
            };
            let ty = btf.resolve_type_by_id(id)?;
            decoder.convert(&ty)
        };
        let types = (1..).zip(&trimmed.besides).map(decode);
        let types = types.collect::<Result<_>>().map_err(failed)?;
        Ok(Self { types })
    }

    /// Adds a type, and gives its id.
    pub(crate) fn push(&mut self, ty: Type) -> TypeId {
        self.types.push(ty);
        TypeId(narrow(self.types.len()))
    }

    /// Gives a variable another linkage.
    pub(crate) fn set_linkage(&mut self, id: TypeId, new: Linkage) {
        let place = usize::try_from(id.0).ok().and_then(|id| id.checked_sub(1));
        if let Some(Type::Var { linkage, .. }) = place.and_then(|at| self.types.get_mut(at)) {
            *linkage = new;
        }
    }

    /// The type with that id; `None` for void.
    pub(crate) fn get(&self, id: TypeId) -> Option<&Type> {
        self.types.get(index(id)?)
    }

    /// All types; the first has the id 1.
    pub(crate) fn as_slice(&self) -> &[Type] {
        &self.types
    }

    /// The types in the order of their ids.
    pub(crate) fn into_types(self) -> impl Iterator<Item = Type> {
        self.types.into_iter()
    }

    /// All types with their ids.
    pub(crate) fn types(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        (1..).map(TypeId).zip(&self.types)
    }

    /// Number of types.
    pub(crate) fn len(&self) -> usize {
        self.types.len()
    }
}

/// The place of a type in a list; `None` for void.
fn index(id: TypeId) -> Option<usize> {
    usize::try_from(id.0).ok()?.checked_sub(1)
}

struct Decoder<'r, 'a> {
    raw: &'r Raw<'a>,
    beside: Beside,
}

type Result<T, E = btf_rs::Error> = std::result::Result<T, E>;

/// btf-rs counts in `usize` what BTF holds in 32 bits.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn to(ty: &dyn BtfType) -> TypeId {
    TypeId(ty.get_type_id().unwrap_or_default())
}

impl Decoder<'_, '_> {
    /// The name of the type itself.
    fn name(&self) -> String {
        text(self.raw.name(self.beside.name))
    }

    /// The same, of types that may be anonymous.
    fn name_if_any(&self) -> Option<String> {
        Some(self.name()).filter(|name| !name.is_empty())
    }

    /// The name of a part of the type.
    fn part_name(&self, part: &dyn BtfType) -> String {
        text(self.raw.name(part.get_name_offset().unwrap_or_default()))
    }

    /// The same, of parts that may be anonymous.
    fn part_name_if_any(&self, part: &dyn BtfType) -> Option<String> {
        Some(self.part_name(part)).filter(|name| !name.is_empty())
    }

    fn convert(&self, ty: &Decoded) -> Result<Type> {
        Ok(match ty {
            Decoded::Int(int) => {
                let [bits, _, bit_offset, _] = self.beside.word.to_le_bytes();
                let encoding = match int {
                    _ if int.is_bool() => IntEncoding::Bool,
                    _ if int.is_char() => IntEncoding::Char,
                    _ if int.is_signed() => IntEncoding::Signed,
                    _ => IntEncoding::Unsigned,
                };
                Type::Int {
                    name: self.name(),
                    size: narrow(int.size()),
                    bits,
                    bit_offset,
                    encoding,
                }
            }
            Decoded::Ptr(ptr) => Type::Ptr { to: to(ptr) },
            Decoded::Array(array) => Type::Array {
                element: to(array),
                index: TypeId(self.beside.word),
                length: narrow(array.len()),
            },
            Decoded::Struct(ty) => Type::Struct(self.composite(ty)),
            Decoded::Union(ty) => Type::Union(self.composite(ty)),
            Decoded::Enum(list) => {
                let signed = list.is_signed();
                // Sign extension is what the model asks for.
                let value = |bits: u32| match signed {
                    true => i64::from(bits.cast_signed()).cast_unsigned(),
                    false => u64::from(bits),
                };
                let variants = list.members.iter();
                let variants = variants.map(|it| self.enumerator(it, value(it.val())));
                Type::Enum(Enum {
                    name: self.name_if_any(),
                    size: narrow(list.size()),
                    signed,
                    variants: variants.collect(),
                })
            }
            Decoded::Enum64(list) => {
                let variants = list.members.iter().map(|it| self.enumerator(it, it.val()));
                Type::Enum64(Enum {
                    name: self.name_if_any(),
                    size: narrow(list.size()),
                    signed: list.is_signed(),
                    variants: variants.collect(),
                })
            }
            Decoded::Fwd(fwd) => Type::Fwd {
                name: self.name(),
                union: fwd.is_union(),
            },
            Decoded::Typedef(ty) => Type::Typedef {
                name: self.name(),
                to: to(ty),
            },
            Decoded::Volatile(ty) => Type::Volatile { to: to(ty) },
            Decoded::Const(ty) => Type::Const { to: to(ty) },
            Decoded::Restrict(ty) => Type::Restrict { to: to(ty) },
            Decoded::FuncProto(proto) => {
                let params = proto.parameters.iter().map(|it| Param {
                    name: self.part_name_if_any(it),
                    ty: to(it),
                });
                Type::FuncProto {
                    returns: TypeId(proto.return_type_id()),
                    params: params.collect(),
                }
            }
            Decoded::Var(var) => Type::Var {
                name: self.name(),
                to: to(var),
                linkage: match var {
                    _ if var.is_static() => Linkage::Static,
                    _ if var.is_extern() => Linkage::Extern,
                    _ => Linkage::Global,
                },
            },
            Decoded::Float(float) => Type::Float {
                name: self.name(),
                size: narrow(float.size()),
            },
            Decoded::DeclTag(tag) => Type::DeclTag {
                value: self.name(),
                to: to(tag),
                component: tag.component_index(),
                attribute: tag.is_attribute(),
            },
            Decoded::TypeTag(tag) => Type::TypeTag {
                value: self.name(),
                to: to(tag),
                attribute: tag.is_attribute(),
            },
            // Neither is ever copied into a trimmed blob.
            _ => return Err(btf_rs::Error::Format("unexpected kind".to_owned())),
        })
    }

    fn composite(&self, ty: &btf_rs::Struct) -> Composite {
        let members = ty.members.iter().map(|member| {
            let width = member.bitfield_size().filter(|width| *width != 0);
            Member {
                name: self.part_name_if_any(member),
                ty: to(member),
                bit_offset: member.bit_offset(),
                bitfield_size: width.and_then(|width| u8::try_from(width).ok()),
            }
        });
        Composite {
            name: self.name_if_any(),
            size: narrow(ty.size()),
            members: members.collect(),
        }
    }

    fn enumerator(&self, part: &dyn BtfType, value: u64) -> Enumerator {
        Enumerator {
            name: self.part_name(part),
            value,
        }
    }
}

const _: () = assert!(
    uapi::BTF_KIND_MAX == 19,
    "a new kind of type needs a decoder"
);
