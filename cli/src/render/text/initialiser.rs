//! Initial values as C spells them.

use std::fmt::Write as _;

use bpfplan_plan::types::{Composite, Enum, IntEncoding, Member};
use bpfplan_plan::{Endianness, Plan, Type, TypeId};

use crate::render::escape::plain;

/// How deep values nest before they are cut.
const DEEPEST: usize = 16;
/// Qualifiers and typedefs that are followed.
const CHAIN: usize = 128;
/// Arrays and structs up to this length show their zeros.
const WHOLE: usize = 16;
/// Elements that are shown of an array.
const ELEMENTS: usize = 64;
/// Bytes that are shown of a string.
const STRING: usize = 256;

/// Writes values. A plan can be hostile, so the work is bounded by `fuel`.
pub(super) struct Initialiser<'a> {
    plan: &'a Plan,
    /// Parts that may still be written.
    pub(super) fuel: usize,
}

impl<'a> Initialiser<'a> {
    /// For the types of a plan.
    pub(super) fn new(plan: &'a Plan, fuel: usize) -> Self {
        Self { plan, fuel }
    }

    /// The value of a type that begins with these bytes; zeros follow.
    pub(super) fn value(&mut self, id: TypeId, bytes: &[u8]) -> String {
        let mut text = String::new();
        self.write(&mut text, id, bytes, 0);
        text
    }

    fn write(&mut self, text: &mut String, id: TypeId, bytes: &[u8], depth: usize) {
        if self.fuel == 0 || depth > DEEPEST {
            text.push('…');
            return;
        }
        self.fuel -= 1;
        let id = self.resolve(id);
        match self.plan.type_by_id(id) {
            Some(Type::Array {
                element, length, ..
            }) => self.array(text, *element, *length, bytes, depth),
            Some(Type::Struct(composite)) => self.members(text, composite, bytes, depth),
            Some(Type::Union(composite)) => self.union(text, composite, bytes, depth),
            Some(Type::Int {
                size,
                bits,
                bit_offset,
                encoding,
                name,
            }) => {
                let raw = self.bits(bytes, *size, u32::from(*bit_offset), u32::from(*bits));
                let ascii = u8::try_from(raw).ok().filter(u8::is_ascii_graphic);
                match ascii.filter(|c| name == "char" && !matches!(c, b'\'' | b'\\')) {
                    Some(c) => text.push_str(&format!("'{}'", char::from(c))),
                    None => text.push_str(&integer(raw, u32::from(*bits), *encoding)),
                }
            }
            Some(Type::Enum(list) | Type::Enum64(list)) => {
                let width = list.size.saturating_mul(8);
                let raw = self.bits(bytes, list.size, 0, width);
                text.push_str(&enumerator(list, raw, width));
            }
            Some(Type::Float { size, .. }) => {
                let raw = self.bits(bytes, *size, 0, size.saturating_mul(8));
                text.push_str(&float(raw, *size));
            }
            Some(Type::Ptr { .. }) => text.push_str(&hex(self.bits(bytes, 8, 0, 64))),
            _ => text.push('…'),
        }
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: TypeId) -> TypeId {
        for _ in 0..CHAIN {
            match self.plan.type_by_id(id) {
                Some(
                    Type::Typedef { to, .. }
                    | Type::Volatile { to }
                    | Type::Const { to }
                    | Type::Restrict { to }
                    | Type::TypeTag { to, .. }
                    | Type::Var { to, .. },
                ) => id = *to,
                _ => break,
            }
        }
        id
    }

    fn array(
        &mut self,
        text: &mut String,
        element: TypeId,
        length: u32,
        bytes: &[u8],
        depth: usize,
    ) {
        let size = self.plan.size_of(element).unwrap_or(0);
        let (Ok(size), Ok(length)) = (usize::try_from(size), usize::try_from(length)) else {
            return;
        };
        let bytes = part(bytes, 0, size.saturating_mul(length));
        if let Some(string) = self.string(element, bytes) {
            text.push_str(&string);
            return;
        }
        let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        if size == 0 || zero(bytes) {
            text.push_str("{0}");
            return;
        }
        // As in C, the elements that are not written are 0.
        let elements =
            (0..length).map(|index| (index, part(bytes, size.saturating_mul(index), size)));
        let elements: Vec<_> = if length <= WHOLE {
            elements.collect()
        } else {
            let filled = bytes.chunks(size).enumerate();
            filled.filter(|(_, value)| !zero(value)).collect()
        };
        text.push('{');
        let mut next = 0;
        for (place, (index, value)) in elements.iter().take(ELEMENTS).enumerate() {
            if place > 0 {
                text.push_str(", ");
            }
            if *index != next {
                let _ = write!(text, "[{index}] = ");
            }
            next = index + 1;
            self.write(text, element, value, depth + 1);
        }
        if elements.len() > ELEMENTS {
            let _ = write!(text, ", … {} more", elements.len() - ELEMENTS);
        }
        text.push('}');
    }

    /// An array of `char` that holds text.
    fn string(&self, element: TypeId, bytes: &[u8]) -> Option<String> {
        let is_char = match self.plan.type_by_id(self.resolve(element)) {
            Some(Type::Int {
                name,
                size: 1,
                encoding,
                ..
            }) => *encoding == IntEncoding::Char || name == "char",
            _ => false,
        };
        let end = bytes.iter().rposition(|byte| *byte != 0);
        let text = bytes.get(..end.map_or(0, |end| end + 1))?;
        let text = is_char.then(|| str::from_utf8(text).ok()).flatten()?;
        let shows = |c: char| !c.is_control() || matches!(c, '\n' | '\t' | '\r');
        if !text.chars().all(shows) {
            return None;
        }
        let cut = text.get(..text.floor_char_boundary(STRING.min(text.len())))?;
        let more = if cut.len() < text.len() { "…" } else { "" };
        Some(format!("{}{more}", quoted(cut.as_bytes())))
    }

    fn members(&mut self, text: &mut String, composite: &Composite, bytes: &[u8], depth: usize) {
        if bytes.iter().all(|byte| *byte == 0) {
            text.push_str("{0}");
            return;
        }
        text.push('{');
        let mut first = true;
        for member in &composite.members {
            if self.fuel == 0 {
                text.push_str(", …");
                break;
            }
            let value = self.member(member, bytes, depth);
            let zero = matches!(value.as_str(), "0" | "{0}" | "false" | "\"\"");
            if zero && composite.members.len() > WHOLE {
                continue;
            }
            if !first {
                text.push_str(", ");
            }
            first = false;
            if let Some(name) = &member.name {
                let _ = write!(text, ".{} = ", plain(name));
            }
            text.push_str(&value);
        }
        text.push('}');
    }

    /// A union shows its first member that has all of its bytes.
    fn union(&mut self, text: &mut String, composite: &Composite, bytes: &[u8], depth: usize) {
        let whole = |member: &&Member| {
            member.bitfield_size.is_none() && self.plan.size_of(member.ty) == Some(composite.size)
        };
        let mut members = composite.members.iter();
        let Some(member) = members.find(whole).or(composite.members.first()) else {
            text.push_str("{}");
            return;
        };
        if bytes.iter().all(|byte| *byte == 0) {
            text.push_str("{0}");
            return;
        }
        let value = self.member(member, bytes, depth);
        match &member.name {
            Some(name) => {
                let _ = write!(text, "{{.{} = {value}}}", plain(name));
            }
            None => {
                let _ = write!(text, "{{{value}}}");
            }
        }
    }

    fn member(&mut self, member: &Member, bytes: &[u8], depth: usize) -> String {
        let offset = member.bit_offset;
        let start = usize::try_from(offset / 8).unwrap_or(usize::MAX);
        if let Some(width) = member.bitfield_size {
            self.fuel = self.fuel.saturating_sub(1);
            let rest = bytes.get(start..).unwrap_or_default();
            let (bit, width) = (offset % 8, u32::from(width));
            let size = (bit + width).div_ceil(8);
            let raw = self.bits(rest, size, bit, width);
            return match self.plan.type_by_id(self.resolve(member.ty)) {
                Some(Type::Int { encoding, .. }) => integer(raw, width, *encoding),
                Some(Type::Enum(list) | Type::Enum64(list)) => enumerator(list, raw, width),
                _ => raw.to_string(),
            };
        }
        let size = self.plan.size_of(member.ty).unwrap_or(0);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let mut text = String::new();
        self.write(&mut text, member.ty, part(bytes, start, size), depth + 1);
        text
    }

    /// `width` bits from bit `offset` on of a number of `size` bytes, counted as BTF counts: from
    /// the end of lower value on little-endian machines, from the other end on big-endian ones.
    fn bits(&self, bytes: &[u8], size: u32, offset: u32, width: u32) -> u128 {
        /// Bytes of the largest number.
        const LARGEST: u32 = 16;
        let size = size.min(LARGEST + 1);
        let mut number = [0_u8; LARGEST as usize + 1];
        let count = usize::try_from(size).unwrap_or(0);
        for (place, byte) in number.iter_mut().take(count).zip(bytes) {
            *place = *byte;
        }
        let mut bits = 0_u128;
        for bit in (0..width.min(128)).rev() {
            // From the highest bit of the value to its lowest.
            let from_start = match self.plan.object.endianness {
                Endianness::Little => offset + bit,
                Endianness::Big => offset + (width.min(128) - 1 - bit),
            };
            let byte = usize::try_from(from_start / 8).ok();
            let byte = byte.and_then(|at| number.get(at)).copied().unwrap_or(0);
            let shift = match self.plan.object.endianness {
                Endianness::Little => from_start % 8,
                Endianness::Big => 7 - from_start % 8,
            };
            bits = bits << 1 | u128::from(byte >> shift & 1);
        }
        bits
    }
}

/// Bytes as a string in C; what would not show as itself is escaped.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => {
                    text.push('\\');
                    text.push(c);
                }
                '\0' => text.push_str("\\0"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                c if c.is_ascii_control() => {
                    let _ = write!(text, "\\x{:02x}", u32::from(c));
                }
                c => text.push_str(&plain(c.encode_utf8(&mut [0; 4]))),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

/// The bytes at `start`, as far as there are any; zeros follow.
fn part(bytes: &[u8], start: usize, size: usize) -> &[u8] {
    let rest = bytes.get(start..).unwrap_or_default();
    rest.get(..size).unwrap_or(rest)
}

fn integer(raw: u128, width: u32, encoding: IntEncoding) -> String {
    match encoding {
        IntEncoding::Bool if raw <= 1 => (raw == 1).to_string(),
        IntEncoding::Signed => signed(raw, width).to_string(),
        IntEncoding::Unsigned | IntEncoding::Char | IntEncoding::Bool => raw.to_string(),
    }
}

/// Extends the sign of a number of `width` bits.
fn signed(raw: u128, width: u32) -> i128 {
    let unused = 128_u32.saturating_sub(width);
    raw.checked_shl(unused).unwrap_or(0).cast_signed() >> unused.min(127)
}

fn enumerator(list: &Enum, raw: u128, width: u32) -> String {
    let number = if list.signed {
        signed(raw, width)
    } else {
        raw.cast_signed()
    };
    let value = |value: u64| {
        if list.signed {
            i128::from(value.cast_signed())
        } else {
            i128::from(value)
        }
    };
    let mut variants = list.variants.iter();
    match variants.find(|variant| value(variant.value) == number) {
        Some(variant) => plain(&variant.name).into_owned(),
        None => number.to_string(),
    }
}

fn float(raw: u128, size: u32) -> String {
    match (size, u32::try_from(raw), u64::try_from(raw)) {
        (4, Ok(raw), _) => f32::from_bits(raw).to_string(),
        (8, _, Ok(raw)) => f64::from_bits(raw).to_string(),
        _ => hex(raw),
    }
}

fn hex(raw: u128) -> String {
    match raw {
        0 => "0".to_owned(),
        raw => format!("{raw:#x}"),
    }
}
