//! Writes the kernel's BTF blob from structured types (the format of `<linux/btf.h>`).

use foldhash::{HashMap, HashMapExt as _};
use thiserror::Error;

use crate::model::Endianness;
use crate::types::{Composite, Enum, IntEncoding, Linkage, Type, TypeId};
use crate::uapi;

mod sanitize;

pub use sanitize::{Features, sanitize};

/// Why types cannot be written as BTF.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A name has a NUL byte, which ends a string in BTF.
    #[error("the name {0:?} of type [{1}] has a NUL byte")]
    NulInName(String, u32),
    /// More members, enumerators, parameters or variables than BTF can count (65535).
    #[error("type [{0}] has {1} parts, BTF counts no more than 65535")]
    TooManyParts(u32, usize),
    /// An offset of a bitfield's struct does not fit into 24 bits.
    #[error("type [{0}] has a bitfield beyond bit 16777215")]
    BitOffset(u32),
    /// The blob would be larger than the kernel takes (`BTF_MAX_SIZE`, 16 MiB).
    #[error("the BTF would be larger than 16 MiB")]
    TooLarge,
}

/// Largest type and string section that the kernel accepts: `BTF_MAX_SIZE`.
const MAX_SIZE: usize = 16 << 20;

/// `btf_header::magic` has 16 bits.
#[expect(clippy::cast_possible_truncation, reason = "0xeb9f")]
const MAGIC: u16 = uapi::BTF_MAGIC as u16;

/// `btf_header::version` has 8 bits.
#[expect(clippy::cast_possible_truncation, reason = "1")]
const VERSION: u8 = uapi::BTF_VERSION as u8;

/// Encodes `types` (ids from 1 on) as a BTF blob in the given byte order.
///
/// The result depends on nothing but the arguments. Equal names share one string.
///
/// # Errors
/// [`EncodeError`] if something does not fit into the format.
pub fn encode(types: &[Type], endianness: Endianness) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer {
        endianness,
        types: Vec::with_capacity(types.len().saturating_mul(24)),
        strings: vec![0],
        // Room for the names of a type and of a part of it or two.
        offsets: HashMap::with_capacity(types.len().saturating_mul(3)),
        id: 0,
    };
    for ty in types {
        writer.id += 1;
        writer.write_type(ty)?;
        if writer.types.len() > MAX_SIZE || writer.strings.len() > MAX_SIZE {
            return Err(EncodeError::TooLarge);
        }
    }
    Ok(writer.finish())
}

struct Writer<'a> {
    endianness: Endianness,
    types: Vec<u8>,
    strings: Vec<u8>,
    offsets: HashMap<&'a str, u32>,
    /// Id of the type being written, for messages.
    id: u32,
}

impl<'a> Writer<'a> {
    fn finish(mut self) -> Vec<u8> {
        const HEADER: u32 = 24;
        let types = std::mem::take(&mut self.types);
        let strings = std::mem::take(&mut self.strings);
        self.u16(MAGIC);
        self.types.extend([VERSION, 0]);
        self.u32(HEADER);
        self.u32(0);
        self.u32(length(&types));
        self.u32(length(&types));
        self.u32(length(&strings));
        let mut blob = self.types;
        blob.extend(types);
        blob.extend(strings);
        blob
    }

    fn u16(&mut self, value: u16) {
        self.types.extend(match self.endianness {
            Endianness::Little => value.to_le_bytes(),
            Endianness::Big => value.to_be_bytes(),
        });
    }

    fn u32(&mut self, value: u32) {
        self.types.extend(match self.endianness {
            Endianness::Little => value.to_le_bytes(),
            Endianness::Big => value.to_be_bytes(),
        });
    }

    fn string(&mut self, name: &'a str) -> Result<u32, EncodeError> {
        if name.is_empty() {
            return Ok(0);
        }
        if let Some(offset) = self.offsets.get(name) {
            return Ok(*offset);
        }
        if name.contains('\0') {
            return Err(EncodeError::NulInName(name.to_owned(), self.id));
        }
        let offset = length(&self.strings);
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        self.offsets.insert(name, offset);
        Ok(offset)
    }

    /// Writes `struct btf_type`; `last` is its size or type.
    fn header(
        &mut self,
        name: &'a str,
        kind: u32,
        vlen: usize,
        flag: bool,
        last: u32,
    ) -> Result<(), EncodeError> {
        let vlen = u16::try_from(vlen).map_err(|_| EncodeError::TooManyParts(self.id, vlen))?;
        let name = self.string(name)?;
        self.u32(name);
        self.u32(u32::from(flag) << 31 | kind << 24 | u32::from(vlen));
        self.u32(last);
        Ok(())
    }

    fn write_type(&mut self, ty: &'a Type) -> Result<(), EncodeError> {
        match ty {
            Type::Int {
                name,
                size,
                bits,
                bit_offset,
                encoding,
            } => {
                self.header(name, uapi::BTF_KIND_INT, 0, false, *size)?;
                let encoding = match encoding {
                    IntEncoding::Unsigned => 0,
                    IntEncoding::Signed => uapi::BTF_INT_SIGNED,
                    IntEncoding::Char => uapi::BTF_INT_CHAR,
                    IntEncoding::Bool => uapi::BTF_INT_BOOL,
                };
                self.u32(encoding << 24 | u32::from(*bit_offset) << 16 | u32::from(*bits));
            }
            Type::Ptr { to } => self.header("", uapi::BTF_KIND_PTR, 0, false, to.0)?,
            Type::Array {
                element,
                index,
                length,
            } => {
                self.header("", uapi::BTF_KIND_ARRAY, 0, false, 0)?;
                self.u32(element.0);
                self.u32(index.0);
                self.u32(*length);
            }
            Type::Struct(composite) => self.composite(composite, uapi::BTF_KIND_STRUCT)?,
            Type::Union(composite) => self.composite(composite, uapi::BTF_KIND_UNION)?,
            Type::Enum(list) => self.enumeration(list, uapi::BTF_KIND_ENUM)?,
            Type::Enum64(list) => self.enumeration(list, uapi::BTF_KIND_ENUM64)?,
            Type::Fwd { name, union } => self.header(name, uapi::BTF_KIND_FWD, 0, *union, 0)?,
            Type::Typedef { name, to } => self.reference(name, uapi::BTF_KIND_TYPEDEF, *to)?,
            Type::Volatile { to } => self.reference("", uapi::BTF_KIND_VOLATILE, *to)?,
            Type::Const { to } => self.reference("", uapi::BTF_KIND_CONST, *to)?,
            Type::Restrict { to } => self.reference("", uapi::BTF_KIND_RESTRICT, *to)?,
            Type::FuncProto { returns, params } => {
                self.header(
                    "",
                    uapi::BTF_KIND_FUNC_PROTO,
                    params.len(),
                    false,
                    returns.0,
                )?;
                for param in params {
                    let name = self.string(param.name.as_deref().unwrap_or_default())?;
                    self.u32(name);
                    self.u32(param.ty.0);
                }
            }
            Type::Var { name, to, linkage } => {
                self.reference(name, uapi::BTF_KIND_VAR, *to)?;
                self.u32(match linkage {
                    Linkage::Static => uapi::BTF_VAR_STATIC,
                    Linkage::Global => uapi::BTF_VAR_GLOBAL_ALLOCATED,
                    Linkage::Extern => uapi::BTF_VAR_GLOBAL_EXTERN,
                });
            }
            Type::Datasec { name, size, vars } => {
                self.header(name, uapi::BTF_KIND_DATASEC, vars.len(), false, *size)?;
                for place in vars {
                    self.u32(place.var.0);
                    self.u32(place.offset);
                    self.u32(place.size);
                }
            }
            Type::Float { name, size } => {
                self.header(name, uapi::BTF_KIND_FLOAT, 0, false, *size)?;
            }
            Type::DeclTag {
                value,
                to,
                component,
                attribute,
            } => {
                self.header(value, uapi::BTF_KIND_DECL_TAG, 0, *attribute, to.0)?;
                // component_idx is a signed field: -1 stands for the type itself.
                self.u32(component.unwrap_or(u32::MAX));
            }
            Type::TypeTag {
                value,
                to,
                attribute,
            } => {
                self.header(value, uapi::BTF_KIND_TYPE_TAG, 0, *attribute, to.0)?;
            }
        }
        Ok(())
    }

    fn reference(&mut self, name: &'a str, kind: u32, to: TypeId) -> Result<(), EncodeError> {
        self.header(name, kind, 0, false, to.0)
    }

    fn composite(&mut self, composite: &'a Composite, kind: u32) -> Result<(), EncodeError> {
        let bitfields = composite
            .members
            .iter()
            .any(|member| member.bitfield_size.is_some());
        let name = composite.name.as_deref().unwrap_or_default();
        self.header(
            name,
            kind,
            composite.members.len(),
            bitfields,
            composite.size,
        )?;
        for member in &composite.members {
            let name = self.string(member.name.as_deref().unwrap_or_default())?;
            self.u32(name);
            self.u32(member.ty.0);
            let mut offset = member.bit_offset;
            if bitfields {
                if offset >> 24 != 0 {
                    return Err(EncodeError::BitOffset(self.id));
                }
                offset |= u32::from(member.bitfield_size.unwrap_or(0)) << 24;
            }
            self.u32(offset);
        }
        Ok(())
    }

    fn enumeration(&mut self, list: &'a Enum, kind: u32) -> Result<(), EncodeError> {
        let name = list.name.as_deref().unwrap_or_default();
        self.header(name, kind, list.variants.len(), list.signed, list.size)?;
        for variant in &list.variants {
            let name = self.string(&variant.name)?;
            self.u32(name);
            // The low half comes first in both byte orders: struct btf_enum64 has val_lo32, val_hi32.
            let [low, high] = halves(variant.value);
            self.u32(low);
            if kind == uapi::BTF_KIND_ENUM64 {
                self.u32(high);
            }
        }
        Ok(())
    }
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}

/// Lengths stay below [`MAX_SIZE`] by a check after every type.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
