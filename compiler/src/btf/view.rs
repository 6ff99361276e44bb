//! The types that the maps reach, decoded by btf-rs into the plan's own structures.

use bpfplan_plan::types::{
    Composite, Enum, Enumerator, IntEncoding, Linkage, Member, Param, Type, TypeId,
};
use bpfplan_plan::{Diagnostic, uapi};
use btf_rs::{Btf, BtfType, Type as Decoded};

use super::trim::Trimmed;
use crate::codes;

/// The types of a trimmed blob. Ids are the blob's.
#[derive(Debug, Default)]
pub(crate) struct View {
    types: Vec<Type>,
}

impl View {
    /// Decodes the blob. Every type is looked up once: btf-rs clones what it looks up.
    pub(crate) fn decode(trimmed: &Trimmed) -> Result<Self, Diagnostic> {
        let failed = |error: btf_rs::Error| {
            Diagnostic::error(codes::BAD_BTF, format!("corrupt BTF: {error}"))
        };
        let btf = Btf::from_bytes(&trimmed.blob).map_err(failed)?;
        let decode = |(id, word): (u32, &u32)| {
            let ty = btf.resolve_type_by_id(id).map_err(failed)?;
            Decoder {
                btf: &btf,
                word: *word,
            }
            .convert(ty)
            .map_err(failed)
        };
        let types = (1..)
            .zip(&trimmed.words)
            .map(decode)
            .collect::<Result<_, _>>()?;
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

struct Decoder<'a> {
    btf: &'a Btf,
    word: u32,
}

type Result<T, E = btf_rs::Error> = std::result::Result<T, E>;

/// btf-rs counts in `usize` what BTF holds in 32 bits.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn to(ty: &dyn BtfType) -> TypeId {
    TypeId(ty.get_type_id().unwrap_or_default())
}

impl Decoder<'_> {
    /// The name; btf-rs has no offset for types whose name is empty.
    fn name(&self, ty: &dyn BtfType) -> Result<String> {
        match ty.get_name_offset() {
            None | Some(0) => Ok(String::new()),
            Some(_) => self.btf.resolve_name(ty),
        }
    }

    fn name_if_any(&self, ty: &dyn BtfType) -> Result<Option<String>> {
        self.name(ty)
            .map(|name| Some(name).filter(|name| !name.is_empty()))
    }

    fn convert(&self, ty: Decoded) -> Result<Type> {
        Ok(match ty {
            Decoded::Int(int) => {
                let [bits, _, bit_offset, _] = self.word.to_le_bytes();
                let encoding = match int {
                    _ if int.is_bool() => IntEncoding::Bool,
                    _ if int.is_char() => IntEncoding::Char,
                    _ if int.is_signed() => IntEncoding::Signed,
                    _ => IntEncoding::Unsigned,
                };
                Type::Int {
                    name: self.name(&int)?,
                    size: narrow(int.size()),
                    bits,
                    bit_offset,
                    encoding,
                }
            }
            Decoded::Ptr(ptr) => Type::Ptr { to: to(&ptr) },
            Decoded::Array(array) => Type::Array {
                element: to(&array),
                index: TypeId(self.word),
                length: narrow(array.len()),
            },
            Decoded::Struct(ty) => Type::Struct(self.composite(&ty)?),
            Decoded::Union(ty) => Type::Union(self.composite(&ty)?),
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
                    name: self.name_if_any(&list)?,
                    size: narrow(list.size()),
                    signed,
                    variants: variants.collect::<Result<_>>()?,
                })
            }
            Decoded::Enum64(list) => {
                let variants = list.members.iter().map(|it| self.enumerator(it, it.val()));
                Type::Enum64(Enum {
                    name: self.name_if_any(&list)?,
                    size: narrow(list.size()),
                    signed: list.is_signed(),
                    variants: variants.collect::<Result<_>>()?,
                })
            }
            Decoded::Fwd(fwd) => Type::Fwd {
                name: self.name(&fwd)?,
                union: fwd.is_union(),
            },
            Decoded::Typedef(ty) => Type::Typedef {
                name: self.name(&ty)?,
                to: to(&ty),
            },
            Decoded::Volatile(ty) => Type::Volatile { to: to(&ty) },
            Decoded::Const(ty) => Type::Const { to: to(&ty) },
            Decoded::Restrict(ty) => Type::Restrict { to: to(&ty) },
            Decoded::FuncProto(proto) => {
                let params = proto.parameters.iter();
                let params = params
                    .map(|it| {
                        Ok(Param {
                            name: self.name_if_any(it)?,
                            ty: to(it),
                        })
                    })
                    .collect::<Result<_>>()?;
                Type::FuncProto {
                    returns: TypeId(proto.return_type_id()),
                    params,
                }
            }
            Decoded::Var(var) => Type::Var {
                name: self.name(&var)?,
                to: to(&var),
                linkage: match var {
                    _ if var.is_static() => Linkage::Static,
                    _ if var.is_extern() => Linkage::Extern,
                    _ => Linkage::Global,
                },
            },
            Decoded::Float(float) => Type::Float {
                name: self.name(&float)?,
                size: narrow(float.size()),
            },
            Decoded::DeclTag(tag) => Type::DeclTag {
                value: self.name(&tag)?,
                to: to(&tag),
                component: tag.component_index(),
                attribute: tag.is_attribute(),
            },
            Decoded::TypeTag(tag) => Type::TypeTag {
                value: self.name(&tag)?,
                to: to(&tag),
                attribute: tag.is_attribute(),
            },
            // Neither is ever copied into a trimmed blob.
            _ => return Err(btf_rs::Error::Format("unexpected kind".to_owned())),
        })
    }

    fn composite(&self, ty: &btf_rs::Struct) -> Result<Composite> {
        let members = ty.members.iter().map(|member| {
            let width = member.bitfield_size().filter(|width| *width != 0);
            Ok(Member {
                name: self.name_if_any(member)?,
                ty: to(member),
                bit_offset: member.bit_offset(),
                bitfield_size: width.and_then(|width| u8::try_from(width).ok()),
            })
        });
        Ok(Composite {
            name: self.name_if_any(ty)?,
            size: narrow(ty.size()),
            members: members.collect::<Result<_>>()?,
        })
    }

    fn enumerator(&self, ty: &dyn BtfType, value: u64) -> Result<Enumerator> {
        Ok(Enumerator {
            name: self.name(ty)?,
            value,
        })
    }
}

const _: () = assert!(
    uapi::BTF_KIND_MAX == 19,
    "a new kind of type needs a decoder"
);
