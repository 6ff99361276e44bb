//! Reading the binary form: postcard, most of it by its own decoder.
//!
//! Nearly all of a large plan are maps and their slots, and a plan that was compiled ahead is read
//! each time it is loaded. These are read here without the detours of serde, several times as
//! fast. Round trips in the tests hold this to what the derived `Serialize` writes.

use std::str;
use std::sync::Arc;

use bytes::Bytes;
use postcard::Error;
use serde::Deserialize;

use crate::model::{
    BtfIds, Contents, Data, Extern, Map, MapType, MaxEntries, Pinning, Plan, Slot, SlotTarget,
    Source, Template, WithPrograms,
};
use crate::types::TypeId;

type Result<T> = std::result::Result<T, Error>;

/// Fewest bytes that a map takes: each of its fields takes one at least.
const MAP: usize = 18;

/// Fewest bytes that a slot takes.
const SLOT: usize = 3;

/// Fewest bytes that contents take.
const CONTENTS: usize = 2;

/// Fewest bytes that a kernel configuration value takes.
const EXTERN: usize = 6;

/// Reads a plan; gives what stands after its end as well. `body` is a part of `whole`, which the
/// plan goes on to share if there is one.
pub(super) fn read<'a>(body: &'a [u8], whole: Option<&Bytes>) -> Result<(Plan, &'a [u8])> {
    let mut input = Input {
        rest: body,
        whole,
        file: None,
    };
    let plan = Plan {
        version: input.u32()?,
        object: input.value()?,
        maps: input.list(MAP, |input| input.map(Input::template))?,
        programs: input.value()?,
        jump_tables: input.u64()?,
        types: input.value()?,
        kernel_types: input.u32()?,
        btf: input.blob()?,
        contents: input.list(CONTENTS, Input::contents)?,
    };
    Ok((plan, input.rest))
}

/// What is left to be read.
struct Input<'a, 'w> {
    rest: &'a [u8],
    /// What `rest` is a part of.
    whole: Option<&'w Bytes>,
    /// The source file that was read last.
    file: Option<Arc<str>>,
}

impl<'a> Input<'a, '_> {
    /// Anything, by postcard's own decoder.
    fn value<T: Deserialize<'a>>(&mut self) -> Result<T> {
        let (value, rest) = postcard::take_from_bytes(self.rest)?;
        self.rest = rest;
        Ok(value)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8> {
        let (byte, rest) = self
            .rest
            .split_first()
            .ok_or(Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// A number of one byte, as most are.
    #[inline]
    fn small(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first().filter(|(byte, _)| **byte < 0x80)?;
        self.rest = rest;
        Some(*byte)
    }

    /// A number of 7 bits a byte, the least significant first.
    fn u64(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            // The last byte has room for one bit only.
            if shift == 63 && byte > 1 {
                break;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Error::DeserializeBadVarint)
    }

    #[inline]
    fn u32(&mut self) -> Result<u32> {
        if let Some(number) = self.small() {
            return Ok(number.into());
        }
        let before = self.rest.len();
        let number = self.u64()?;
        // A longer way to write a small number is refused, as postcard does.
        if before - self.rest.len() > 5 {
            return Err(Error::DeserializeBadVarint);
        }
        u32::try_from(number).map_err(|_| Error::DeserializeBadVarint)
    }

    #[inline]
    fn length(&mut self) -> Result<usize> {
        if let Some(number) = self.small() {
            return Ok(number.into());
        }
        let number = self.u64()?;
        usize::try_from(number).map_err(|_| Error::DeserializeBadVarint)
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.length()?;
        let split = self.rest.split_at_checked(length);
        let (bytes, rest) = split.ok_or(Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Bytes that the kernel gets as they are: shared, or copied where there is nothing to share.
    fn blob(&mut self) -> Result<Bytes> {
        let bytes = self.bytes()?;
        Ok(match self.whole {
            Some(whole) => whole.slice_ref(bytes),
            None => Bytes::copy_from_slice(bytes),
        })
    }

    fn string(&mut self) -> Result<String> {
        let text = str::from_utf8(self.bytes()?).map_err(|_| Error::DeserializeBadUtf8)?;
        Ok(text.to_owned())
    }

    fn bool(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::DeserializeBadBool),
        }
    }

    #[inline]
    fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        match self.byte()? {
            0 => Ok(None),
            1 => value(self).map(Some),
            _ => Err(Error::DeserializeBadOption),
        }
    }

    /// A list of values that take `least` bytes each at least, so that a wrong length asks for no
    /// more memory than the input is worth.
    fn list<T>(
        &mut self,
        least: usize,
        mut value: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let length = self.length()?;
        if length > self.rest.len() / least.max(1) {
            return Err(Error::DeserializeUnexpectedEnd);
        }
        let mut list = Vec::with_capacity(length);
        for _ in 0..length {
            list.push(value(self)?);
        }
        Ok(list)
    }

    fn template(&mut self) -> Result<Template> {
        // The binary form has no byte for a template of a template but `None`.
        self.map(|_| Err(Error::DeserializeBadEnum))
    }

    fn map<I>(&mut self, inner: impl FnOnce(&mut Self) -> Result<I>) -> Result<Map<I>> {
        Ok(Map {
            name: self.string()?,
            map_type: MapType(self.u32()?),
            key_size: self.u32()?,
            value_size: self.u32()?,
            max_entries: self
                .option(Self::u32)?
                .map_or(MaxEntries::PossibleCpus, MaxEntries::Count),
            map_flags: self.u32()?,
            map_extra: self.u64()?,
            numa_node: self.u32()?,
            pinning: match self.u32()? {
                0 => Pinning::None,
                1 => Pinning::ByName,
                _ => return Err(Error::DeserializeBadEnum),
            },
            key_type: self.option(Self::type_id)?,
            value_type: self.option(Self::type_id)?,
            btf: self.option(Self::btf_ids)?,
            inner: self.option(inner)?.map(Box::new),
            slots: self.list(SLOT, Self::slot)?,
            data: self.option(Self::value::<Data>)?,
            externs: self.list(EXTERN, Self::value::<Extern>)?,
            with_programs: self.option(Self::value::<WithPrograms>)?,
            source: self.option(Self::source)?,
        })
    }

    fn type_id(&mut self) -> Result<TypeId> {
        self.u32().map(TypeId)
    }

    fn btf_ids(&mut self) -> Result<BtfIds> {
        Ok(BtfIds {
            key_type_id: self.u32()?,
            value_type_id: self.u32()?,
        })
    }

    /// Index, whether it is a program, name.
    fn slot(&mut self) -> Result<Slot> {
        let (index, is_program) = (self.u32()?, self.bool()?);
        let name = self.string()?;
        let target = if is_program {
            SlotTarget::Program(name)
        } else {
            SlotTarget::Map(name)
        };
        Ok(Slot { index, target })
    }

    fn contents(&mut self) -> Result<Contents> {
        Ok(Contents {
            map: self.string()?,
            bytes: self.blob()?,
        })
    }

    fn source(&mut self) -> Result<Source> {
        let file = self.bytes()?;
        // Most maps are declared in one file.
        let file = match &self.file {
            Some(last) if last.as_bytes() == file => Arc::clone(last),
            _ => str::from_utf8(file)
                .map_err(|_| Error::DeserializeBadUtf8)?
                .into(),
        };
        self.file = Some(Arc::clone(&file));
        let line = self.u32()?;
        Ok(Source { file, line })
    }
}
