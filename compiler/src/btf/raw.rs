//! The `.BTF` section as it stands: where each type is, with every reference checked.
//!
//! The checks are those of libbpf's `btf_parse_hdr`, `btf_parse_str_sec`, `btf_parse_type_sec`
//! and `btf_sanity_check`.

use bpfplan_plan::uapi::{
    BTF_KIND_ARRAY, BTF_KIND_CONST, BTF_KIND_DATASEC, BTF_KIND_DECL_TAG, BTF_KIND_ENUM,
    BTF_KIND_ENUM64, BTF_KIND_FLOAT, BTF_KIND_FUNC, BTF_KIND_FUNC_PROTO, BTF_KIND_FWD,
    BTF_KIND_INT, BTF_KIND_PTR, BTF_KIND_RESTRICT, BTF_KIND_STRUCT, BTF_KIND_TYPE_TAG,
    BTF_KIND_TYPEDEF, BTF_KIND_UNION, BTF_KIND_VAR, BTF_KIND_VOLATILE, BTF_MAGIC,
};
use bpfplan_plan::{Diagnostic, Endianness};

use crate::bytes::{name_at, u32_at};
use crate::codes;

/// Size of `struct btf_header` and of `struct btf_type`.
const HEADER: usize = 24;
const TYPE: usize = 12;

/// A checked `.BTF` section. Type ids start at 1.
#[derive(Debug)]
pub(crate) struct Raw<'a> {
    pub(crate) endianness: Endianness,
    /// Where in the section the types start.
    pub(crate) start: usize,
    strings: &'a [u8],
    types: Vec<RawType<'a>>,
}

/// One `struct btf_type` with what follows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawType<'a> {
    /// `BTF_KIND_*`.
    pub(crate) kind: u32,
    /// The kind flag.
    pub(crate) flag: bool,
    /// Number of parts, or the linkage of a function.
    pub(crate) vlen: u16,
    /// Offset of the name.
    pub(crate) name: u32,
    /// Size or type.
    pub(crate) last: u32,
    /// What follows, in 32-bit words.
    rest: &'a [u8],
    endianness: Endianness,
}

impl<'a> RawType<'a> {
    /// What follows the type, in groups of `N` words: members, parameters, variables ...
    pub(crate) fn parts<const N: usize>(&self) -> impl Iterator<Item = [u32; N]> + use<'a, N> {
        let endianness = self.endianness;
        self.rest.chunks_exact(4 * N).map(move |part| {
            let mut words = [0; N];
            for (word, bytes) in words.iter_mut().zip(part.chunks_exact(4)) {
                *word = u32_at(bytes, 0, endianness).unwrap_or_default();
            }
            words
        })
    }

    /// Bytes that the type has in the section.
    pub(crate) fn len(&self) -> usize {
        TYPE.saturating_add(self.rest.len())
    }

    /// The word that follows an `INT`, a `VAR` or a `DECL_TAG`.
    pub(crate) fn word(&self) -> u32 {
        u32_at(self.rest, 0, self.endianness).unwrap_or_default()
    }

    /// Type, index type and length of an `ARRAY`.
    pub(crate) fn array(&self) -> [u32; 3] {
        self.parts::<3>().next().unwrap_or_default()
    }

    /// Whether it is a modifier as libbpf's `btf_is_mod` understands it, or a typedef.
    pub(crate) fn is_modifier(&self) -> bool {
        is_modifier(self.kind)
    }

    /// Whether it is a struct or union.
    pub(crate) fn is_composite(&self) -> bool {
        matches!(self.kind, BTF_KIND_STRUCT | BTF_KIND_UNION)
    }
}

/// Whether libbpf's `skip_mods_and_typedefs` skips this kind.
fn is_modifier(kind: u32) -> bool {
    matches!(
        kind,
        BTF_KIND_TYPEDEF
            | BTF_KIND_CONST
            | BTF_KIND_VOLATILE
            | BTF_KIND_RESTRICT
            | BTF_KIND_TYPE_TAG
    )
}

/// Bytes that follow `struct btf_type`, `None` for unknown kinds.
fn rest_size(kind: u32, vlen: u16) -> Option<usize> {
    let vlen = usize::from(vlen);
    Some(match kind {
        BTF_KIND_PTR | BTF_KIND_FWD | BTF_KIND_TYPEDEF | BTF_KIND_VOLATILE | BTF_KIND_CONST
        | BTF_KIND_RESTRICT | BTF_KIND_FUNC | BTF_KIND_FLOAT | BTF_KIND_TYPE_TAG => 0,
        BTF_KIND_INT | BTF_KIND_VAR | BTF_KIND_DECL_TAG => 4,
        BTF_KIND_ENUM | BTF_KIND_FUNC_PROTO => vlen * 8,
        BTF_KIND_ARRAY => 12,
        BTF_KIND_ENUM64 | BTF_KIND_STRUCT | BTF_KIND_UNION | BTF_KIND_DATASEC => vlen * 12,
        _ => return None,
    })
}

impl<'a> Raw<'a> {
    /// Bytes of the string section; offsets of names are less.
    pub(crate) fn strings_len(&self) -> usize {
        self.strings.len()
    }

    /// Reads and checks the section.
    pub(crate) fn parse(section: &'a [u8]) -> Result<Self, Diagnostic> {
        let bad = |what: String| Diagnostic::error(codes::BAD_BTF, format!("corrupt BTF: {what}"));
        let (endianness, start, types, strings) =
            split(section).map_err(|what| bad(what.to_owned()))?;
        if strings.first() != Some(&0) || strings.last() != Some(&0) {
            return Err(bad(
                "the string section does not begin and end with a NUL".to_owned()
            ));
        }
        let mut this = Self {
            endianness,
            start,
            strings,
            types: Vec::new(),
        };
        let mut offset = 0;
        while offset < types.len() {
            let ty = this.read_type(types, offset).map_err(|what| {
                bad(format!(
                    "type [{}] {what}",
                    this.types.len().saturating_add(1)
                ))
            })?;
            offset += TYPE + ty.rest.len();
            this.types.push(ty);
        }
        for (id, ty) in this.types() {
            this.check(ty)
                .map_err(|what| bad(format!("type [{id}] {what}")))?;
        }
        Ok(this)
    }

    fn read_type(&self, types: &'a [u8], offset: usize) -> Result<RawType<'a>, String> {
        let word = |at: usize| u32_at(types, offset + at, self.endianness);
        let (Some(name), Some(info), Some(last)) = (word(0), word(4), word(8)) else {
            return Err("is cut short".to_owned());
        };
        let kind = (info >> 24) & 0x1f;
        let vlen = u16::try_from(info & 0xffff).unwrap_or_default();
        let size = rest_size(kind, vlen).ok_or_else(|| format!("has the unknown kind {kind}"))?;
        let start = offset + TYPE;
        let rest = types.get(start..start + size).ok_or("is cut short")?;
        let endianness = self.endianness;
        Ok(RawType {
            kind,
            flag: info >> 31 == 1,
            vlen,
            name,
            last,
            rest,
            endianness,
        })
    }

    fn check(&self, ty: &RawType<'_>) -> Result<(), String> {
        self.check_name(ty.name)?;
        match ty.kind {
            BTF_KIND_ARRAY => {
                let [element, index, _] = ty.array();
                self.check_id(element)?;
                self.check_id(index)
            }
            BTF_KIND_STRUCT | BTF_KIND_UNION => ty.parts().try_for_each(|[name, member, _]| {
                self.check_name(name)?;
                self.check_id(member)
            }),
            BTF_KIND_ENUM => ty.parts().try_for_each(|[name, _]| self.check_name(name)),
            BTF_KIND_ENUM64 => ty
                .parts()
                .try_for_each(|[name, _, _]| self.check_name(name)),
            BTF_KIND_FUNC_PROTO => ty.parts().try_for_each(|[name, param]| {
                self.check_name(name)?;
                self.check_id(param)
            }),
            BTF_KIND_DATASEC => ty.parts().try_for_each(|[var, _, _]| self.check_id(var)),
            BTF_KIND_FUNC => {
                self.check_id(ty.last)?;
                match self.get(ty.last) {
                    Some(proto) if proto.kind == BTF_KIND_FUNC_PROTO => Ok(()),
                    _ => Err(format!("is a function without prototype ([{}])", ty.last)),
                }
            }
            BTF_KIND_PTR | BTF_KIND_VAR | BTF_KIND_DECL_TAG => self.check_id(ty.last),
            kind if is_modifier(kind) => self.check_id(ty.last),
            _ => Ok(()),
        }
    }

    fn check_name(&self, offset: u32) -> Result<(), String> {
        match usize::try_from(offset) {
            Ok(offset) if offset < self.strings.len() => Ok(()),
            _ => Err(format!(
                "has a name outside of the string section (offset {offset})"
            )),
        }
    }

    fn check_id(&self, id: u32) -> Result<(), String> {
        if id == 0 || self.get(id).is_some() {
            return Ok(());
        }
        Err(format!("refers to type [{id}], which does not exist"))
    }

    /// The type with that id; `None` for void.
    pub(crate) fn get(&self, id: u32) -> Option<&RawType<'a>> {
        self.types.get(usize::try_from(id).ok()?.checked_sub(1)?)
    }

    /// Number of types.
    pub(crate) fn len(&self) -> usize {
        self.types.len()
    }

    /// All types with their ids.
    pub(crate) fn types(&self) -> impl Iterator<Item = (u32, &RawType<'a>)> {
        (1..).zip(&self.types)
    }

    /// The name at that offset, cut to `MAX_NAME + 1` bytes; offsets in types were checked.
    pub(crate) fn name(&self, offset: u32) -> &'a [u8] {
        let name = usize::try_from(offset)
            .ok()
            .and_then(|offset| name_at(self.strings, offset));
        name.unwrap_or_default()
    }
}

/// Byte order, place of the types, types and strings of a section.
type Split<'a> = (Endianness, usize, &'a [u8], &'a [u8]);

/// Splits the section, after the checks of `btf_parse_hdr`.
fn split(section: &[u8]) -> Result<Split<'_>, &'static str> {
    let header = section.get(..HEADER).ok_or("the header is cut short")?;
    let endianness = match header.first_chunk::<2>() {
        Some(magic) if u32::from(u16::from_le_bytes(*magic)) == BTF_MAGIC => Endianness::Little,
        Some(magic) if u32::from(u16::from_be_bytes(*magic)) == BTF_MAGIC => Endianness::Big,
        _ => return Err("it does not start with the magic number"),
    };
    let word = |at: usize| -> usize {
        let word = u32_at(header, at, endianness).and_then(|word| usize::try_from(word).ok());
        word.unwrap_or(usize::MAX)
    };
    let length = word(4);
    if length < HEADER {
        return Err("the header is too short");
    }
    let body = section
        .get(length..)
        .ok_or("the header is longer than the section")?;
    let (type_start, type_length, string_start, string_length) =
        (word(8), word(12), word(16), word(20));
    let type_end = type_start
        .checked_add(type_length)
        .filter(|end| *end <= string_start);
    let string_end = string_start.checked_add(string_length);
    if type_start % 4 != 0 {
        return Err("the types are not aligned");
    }
    let types = type_end.and_then(|end| body.get(type_start..end));
    let strings = string_end.and_then(|end| body.get(string_start..end));
    match (types, strings) {
        (Some(types), Some(strings)) => {
            let start = length.saturating_add(type_start);
            Ok((endianness, start, types, strings))
        }
        _ => Err("types and strings overlap or lie outside of the section"),
    }
}
