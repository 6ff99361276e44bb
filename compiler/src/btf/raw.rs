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
/// Bytes that a type takes on average, or less: more types make the list of places grow.
const USUAL: usize = 24;

/// A checked `.BTF` section. Type ids start at 1.
#[derive(Debug)]
pub(crate) struct Raw<'a> {
    pub(crate) endianness: Endianness,
    /// Where in the section the types start.
    start: usize,
    strings: &'a [u8],
    types: &'a [u8],
    /// Where each type starts in `types`, by id - 1.
    places: Vec<u32>,
    /// The ids of all types of the kinds [`LISTED`].
    listed: Vec<u32>,
}

/// What is looked for by kind, because nothing refers to it.
const LISTED: [u32; 3] = [BTF_KIND_DATASEC, BTF_KIND_DECL_TAG, BTF_KIND_FUNC];

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
    /// The section from here on.
    bytes: &'a [u8],
    endianness: Endianness,
}

/// Something that a type refers to.
enum Link {
    /// Offset of a name.
    Name(u32),
    /// Id of a type.
    Type(u32),
}

impl<'a> RawType<'a> {
    /// The type at that place; `None` if the section ends there.
    #[inline]
    fn read(types: &'a [u8], place: usize, endianness: Endianness) -> Option<Self> {
        let bytes = types.get(place..)?;
        let head = bytes.first_chunk::<TYPE>()?;
        let ([name, info, last], _) = head.as_chunks::<4>() else {
            return None;
        };
        let [name, info, last] = [name, info, last].map(|word| number(*word, endianness));
        Some(RawType {
            kind: (info >> 24) & 0x1f,
            flag: info >> 31 == 1,
            vlen: u16::try_from(info & 0xffff).unwrap_or_default(),
            name,
            last,
            bytes,
            endianness,
        })
    }

    /// Bytes that the type has in the section; `None` if its kind is unknown.
    #[inline]
    fn len(&self) -> Option<usize> {
        Some(TYPE + rest_size(self.kind, self.vlen)?)
    }

    /// What libbpf checks of all that the type refers to, in the order of its checks.
    #[inline]
    fn links(&self, mut each: impl FnMut(Link)) {
        each(Link::Name(self.name));
        match self.kind {
            BTF_KIND_ARRAY => {
                let [element, index, _] = self.array();
                each(Link::Type(element));
                each(Link::Type(index));
            }
            BTF_KIND_STRUCT | BTF_KIND_UNION => {
                for [name, member, _] in self.parts() {
                    each(Link::Name(name));
                    each(Link::Type(member));
                }
            }
            BTF_KIND_ENUM => self.parts().for_each(|[name, _]| each(Link::Name(name))),
            BTF_KIND_ENUM64 => self.parts().for_each(|[name, _, _]| each(Link::Name(name))),
            BTF_KIND_FUNC_PROTO => {
                for [name, param] in self.parts() {
                    each(Link::Name(name));
                    each(Link::Type(param));
                }
            }
            BTF_KIND_DATASEC => self.parts().for_each(|[var, _, _]| each(Link::Type(var))),
            BTF_KIND_FUNC | BTF_KIND_PTR | BTF_KIND_VAR | BTF_KIND_DECL_TAG => {
                each(Link::Type(self.last));
            }
            kind if is_modifier(kind) => each(Link::Type(self.last)),
            _ => {}
        }
    }

    /// What follows the type, in groups of `N` words: members, parameters, variables ...
    pub(crate) fn parts<const N: usize>(&self) -> impl Iterator<Item = [u32; N]> + use<'a, N> {
        let endianness = self.endianness;
        let rest = self.len().and_then(|len| self.bytes.get(TYPE..len));
        let parts = rest.unwrap_or_default().chunks_exact(4 * N);
        parts.map(move |part| {
            let mut words = [0; N];
            for (word, bytes) in words.iter_mut().zip(part.as_chunks().0) {
                *word = number(*bytes, endianness);
            }
            words
        })
    }

    /// The word that follows an `INT`, a `VAR` or a `DECL_TAG`.
    pub(crate) fn word(&self) -> u32 {
        u32_at(self.bytes, TYPE, self.endianness).unwrap_or_default()
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

fn number(bytes: [u8; 4], endianness: Endianness) -> u32 {
    match endianness {
        Endianness::Little => u32::from_le_bytes(bytes),
        Endianness::Big => u32::from_be_bytes(bytes),
    }
}

/// Sections have less than 4 GiB: the header says so with 32 bits.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
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
            types,
            places: Vec::with_capacity(types.len() / USUAL),
            listed: Vec::new(),
        };
        let [mut largest_name, mut largest_id] = [0; 2];
        let mut place = 0;
        while place < types.len() {
            let id = narrow(this.places.len() + 1);
            let failed = |what: &str| bad(format!("type [{id}] {what}"));
            let ty = RawType::read(types, place, endianness);
            let ty = ty.ok_or_else(|| failed("is cut short"))?;
            let len = ty.len().ok_or_else(|| {
                let what = format!("has the unknown kind {}", ty.kind);
                failed(&what)
            })?;
            if ty.bytes.len() < len {
                return Err(failed("is cut short"));
            }
            ty.links(|link| match link {
                Link::Name(name) => largest_name = largest_name.max(name),
                Link::Type(id) => largest_id = largest_id.max(id),
            });
            this.places.push(narrow(place));
            if LISTED.contains(&ty.kind) {
                this.listed.push(id);
            }
            place += len;
        }
        let sound = this.has_name(largest_name)
            && this.has_type(largest_id)
            && (this.of_kind(BTF_KIND_FUNC)).all(|(_, ty)| this.has_prototype(&ty));
        if !sound && let Some((id, what)) = this.first_fault() {
            return Err(bad(format!("type [{id}] {what}")));
        }
        Ok(this)
    }

    /// The first type that refers to what is not there, with the reason.
    fn first_fault(&self) -> Option<(u32, String)> {
        self.types().find_map(|(id, ty)| {
            let mut fault = None;
            ty.links(|link| match link {
                _ if fault.is_some() => {}
                Link::Name(name) if !self.has_name(name) => {
                    let what = "has a name outside of the string section";
                    fault = Some(format!("{what} (offset {name})"));
                }
                Link::Type(id) if !self.has_type(id) => {
                    fault = Some(format!("refers to type [{id}], which does not exist"));
                }
                Link::Name(_) | Link::Type(_) => {}
            });
            if fault.is_none() && ty.kind == BTF_KIND_FUNC && !self.has_prototype(&ty) {
                fault = Some(format!("is a function without prototype ([{}])", ty.last));
            }
            fault.map(|what| (id, what))
        })
    }

    fn has_name(&self, offset: u32) -> bool {
        usize::try_from(offset).is_ok_and(|offset| offset < self.strings.len())
    }

    fn has_type(&self, id: u32) -> bool {
        usize::try_from(id).is_ok_and(|id| id <= self.places.len())
    }

    fn has_prototype(&self, function: &RawType<'_>) -> bool {
        let proto = self.get(function.last);
        proto.is_some_and(|proto| proto.kind == BTF_KIND_FUNC_PROTO)
    }

    /// The type with that id; `None` for void.
    pub(crate) fn get(&self, id: u32) -> Option<RawType<'a>> {
        let place = self.places.get(usize::try_from(id).ok()?.checked_sub(1)?)?;
        RawType::read(self.types, usize::try_from(*place).ok()?, self.endianness)
    }

    /// Where in the section the type with that id stands.
    pub(crate) fn place(&self, id: u32) -> Option<usize> {
        let place = self.places.get(usize::try_from(id).ok()?.checked_sub(1)?)?;
        self.start.checked_add(usize::try_from(*place).ok()?)
    }

    /// Number of types.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// All types with their ids.
    pub(crate) fn types(&self) -> impl Iterator<Item = (u32, RawType<'a>)> {
        let read = |id| Some((id, self.get(id)?));
        (1..).map_while(read)
    }

    /// The types of a kind with their ids, in their order; the kind is one of [`LISTED`].
    pub(crate) fn of_kind(&self, kind: u32) -> impl Iterator<Item = (u32, RawType<'a>)> {
        let listed = self.listed.iter();
        let read = listed.filter_map(|id| Some((*id, self.get(*id)?)));
        read.filter(move |(_, ty)| ty.kind == kind)
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
