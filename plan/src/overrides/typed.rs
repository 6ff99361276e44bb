//! Values as bytes of a type.

use std::collections::HashMap;

use super::field::Wrong;
use super::integer::{Number, Range};
use super::near;
use super::problem::shown;
use super::value::Value;
use crate::model::Endianness;
use crate::rules::layout::{describe, resolve, size_of};
use crate::types::{Enum, IntEncoding, Type, TypeId};

/// Writes values of the types of a plan.
pub(super) struct Writer<'p> {
    types: &'p [Type],
    endianness: Endianness,
    /// The enumerators of the enums so far, by name: arrays may have many elements.
    enumerators: HashMap<TypeId, HashMap<&'p str, u64>>,
}

impl<'p> Writer<'p> {
    pub(super) fn new(types: &'p [Type], endianness: Endianness) -> Self {
        Self {
            types,
            endianness,
            enumerators: HashMap::new(),
        }
    }

    /// Writes a value of a type into its bytes, which are as many as the type has.
    pub(super) fn write(&mut self, ty: TypeId, value: &Value, out: &mut [u8]) -> Result<(), Wrong> {
        let types = self.types;
        let name = || describe(types, ty);
        let resolved = resolve(types, ty);
        match resolved.map(|(_, ty)| ty) {
            Some(Type::Int {
                name,
                size,
                bits,
                bit_offset,
                encoding,
            }) => {
                if u32::from(*bits) != size.saturating_mul(8) || *bit_offset != 0 {
                    let message =
                        format!("{name} does not use all of its bits, so it cannot be set");
                    return Err(Wrong::refused(message));
                }
                self.integer(name, *encoding, value, out)
            }
            Some(Type::Enum(list) | Type::Enum64(list)) => {
                let id = resolved.map_or(ty, |(id, _)| id);
                self.enumerator(id, list, value, out)
            }
            Some(Type::Float { name, .. }) => self.float(name, value, out),
            Some(Type::Array {
                element, length, ..
            }) => self.array(*element, *length, value, out),
            Some(Type::Struct(_)) => Err(Wrong::refused(format!(
                "{} cannot be set as a whole",
                name()
            ))
            .help("set its members one by one: VARIABLE.MEMBER")),
            Some(Type::Union(_)) => Err(Wrong::refused(format!(
                "{} cannot be set as a whole",
                name()
            ))
            .help("set one of its members: VARIABLE.MEMBER")),
            Some(Type::Ptr { .. }) => {
                let message = "a pointer cannot be set: what it would point to is not in the plan";
                Err(Wrong::refused(message))
            }
            _ => Err(Wrong::refused(format!("{} cannot be set", name()))),
        }
    }

    fn integer(
        &self,
        name: &str,
        encoding: IntEncoding,
        value: &Value,
        out: &mut [u8],
    ) -> Result<(), Wrong> {
        if encoding == IntEncoding::Bool {
            return self.boolean(value, out);
        }
        if let (Value::Char(byte), [only]) = (value, &mut *out) {
            *only = *byte;
            return Ok(());
        }
        let signed = encoding == IntEncoding::Signed;
        // Whether a char has a sign is up to the compiler, so it takes both ranges.
        let range = if encoding == IntEncoding::Char {
            Range {
                low: Range::of(out, true).low,
                ..Range::of(out, false)
            }
        } else {
            Range::of(out, signed)
        };
        let wrong = |what: String| {
            Wrong::value(format!(
                "{what}, {name} takes {} to {}",
                range.low, range.high
            ))
        };
        let number = match value {
            Value::Plain(text) => Number::parse(text)
                .map_err(|help| wrong(format!("'{}' is not a number", shown(text))).help(help))?,
            Value::Char(byte) => Number {
                negative: false,
                magnitude: (*byte).into(),
            },
            _ => {
                return Err(wrong(format!(
                    "{} is not a number",
                    shown(&value.to_string())
                )));
            }
        };
        if !range.has(number) {
            return Err(wrong(format!("{number} is out of range")));
        }
        self.put(number.bits(), out);
        Ok(())
    }

    fn boolean(&self, value: &Value, out: &mut [u8]) -> Result<(), Wrong> {
        let bit = match value {
            Value::Plain(text) if text == "true" || text == "1" => 1,
            Value::Plain(text) if text == "false" || text == "0" => 0,
            _ => {
                let message = format!("'{}' is neither true nor false", shown(&value.to_string()));
                return Err(Wrong::value(message).help("write true, false, 1 or 0"));
            }
        };
        self.put(bit, out);
        Ok(())
    }

    fn enumerator(
        &mut self,
        id: TypeId,
        list: &'p Enum,
        value: &Value,
        out: &mut [u8],
    ) -> Result<(), Wrong> {
        let types = self.types;
        let name = || describe(types, id);
        let Value::Plain(text) = value else {
            let name = name();
            let message = format!("{} is no value of {name}", shown(&value.to_string()));
            return Err(Wrong::value(message));
        };
        let by_name = || {
            list.variants
                .iter()
                .map(|one| (one.name.as_str(), one.value))
                .collect()
        };
        let known = self.enumerators.entry(id).or_insert_with(by_name);
        if let Some(value) = known.get(text.as_str()).copied() {
            self.put(value.into(), out);
            return Ok(());
        }
        let Ok(number) = Number::parse(text) else {
            let wrong = Wrong::value(format!("'{}' is no enumerator of {}", shown(text), name()));
            let names = list.variants.iter().map(|variant| variant.name.as_str());
            return Err(match near::help(text, "enumerators are", names) {
                Some(help) => wrong.help(help),
                None => wrong,
            });
        };
        let range = Range::of(out, list.signed);
        if !range.has(number) {
            let (Range { low, high }, name) = (range, name());
            let message = format!("{number} is out of range, {name} takes {low} to {high}");
            return Err(Wrong::value(message));
        }
        self.put(number.bits(), out);
        Ok(())
    }

    fn float(&self, name: &str, value: &Value, out: &mut [u8]) -> Result<(), Wrong> {
        let Value::Plain(text) = value else {
            let message = format!("{} is not a number", shown(&value.to_string()));
            return Err(Wrong::value(message));
        };
        let wrong = || {
            Wrong::value(format!(
                "'{}' is not a number that {name} can hold",
                shown(text)
            ))
        };
        let bits = match out.len() {
            4 => {
                let number: f32 = text.parse().map_err(|_| wrong())?;
                number.is_finite().then(|| number.to_bits().into())
            }
            8 => {
                let number: f64 = text.parse().map_err(|_| wrong())?;
                number.is_finite().then(|| number.to_bits().into())
            }
            size => {
                let message = format!("{name} with {size} bytes cannot be set");
                return Err(Wrong::refused(message));
            }
        };
        self.put(bits.ok_or_else(wrong)?, out);
        Ok(())
    }

    fn array(
        &mut self,
        element: TypeId,
        length: u32,
        value: &Value,
        out: &mut [u8],
    ) -> Result<(), Wrong> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match value {
            Value::Text(bytes) => self.text(element, length, bytes, out),
            Value::Plain(text) if self.is_character(element) => {
                self.text(element, length, text.as_bytes(), out)
            }
            Value::List(values) => {
                if values.len() > length {
                    let message = format!(
                        "{} elements do not fit into an array of {length}",
                        values.len()
                    );
                    return Err(Wrong::value(message));
                }
                let size = usize::try_from(size_of(self.types, element).unwrap_or(0)).unwrap_or(0);
                out.fill(0);
                if size == 0 {
                    return Ok(());
                }
                for (place, (value, out)) in
                    values.iter().zip(out.chunks_exact_mut(size)).enumerate()
                {
                    self.write(element, value, out).map_err(|wrong| Wrong {
                        message: format!("[{place}]: {}", wrong.message),
                        ..wrong
                    })?;
                }
                Ok(())
            }
            Value::Plain(_) | Value::Char(_) => {
                let message = format!("{} is no array", shown(&value.to_string()));
                Err(Wrong::value(message).help(if self.is_byte(element) {
                    "write [1, 2, 3], or text in double quotes"
                } else {
                    "write [1, 2, 3]; elements that are left out are 0"
                }))
            }
        }
    }

    /// A string: the bytes and a NUL, and zeros up to the end.
    fn text(
        &self,
        element: TypeId,
        length: usize,
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<(), Wrong> {
        if !self.is_byte(element) {
            let name = describe(self.types, element);
            return Err(Wrong::value(format!(
                "text does not fit into an array of {name}"
            )));
        }
        if bytes.len() >= length {
            let message = format!(
                "{} bytes and a NUL do not fit into {length} bytes",
                bytes.len()
            );
            return Err(Wrong::value(message).help("write a list of numbers to go without the NUL"));
        }
        out.fill(0);
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = *byte;
        }
        Ok(())
    }

    /// Whether arrays of this type hold text.
    fn is_byte(&self, ty: TypeId) -> bool {
        matches!(
            resolve(self.types, ty),
            Some((_, Type::Int { size: 1, encoding, .. })) if *encoding != IntEncoding::Bool
        )
    }

    /// Whether text without quotes is meant for arrays of this type.
    fn is_character(&self, ty: TypeId) -> bool {
        matches!(
            resolve(self.types, ty),
            Some((_, Type::Int { size: 1, name, encoding, .. }))
                if name == "char" || *encoding == IntEncoding::Char
        )
    }

    /// Writes the low bits.
    fn put(&self, bits: u128, out: &mut [u8]) {
        let bytes = bits.to_le_bytes();
        match self.endianness {
            Endianness::Little => out
                .iter_mut()
                .zip(bytes)
                .for_each(|(out, byte)| *out = byte),
            Endianness::Big => {
                out.iter_mut()
                    .rev()
                    .zip(bytes)
                    .for_each(|(out, byte)| *out = byte);
            }
        }
    }
}
