//! The members of a map's struct (`parse_btf_map_def`), read once per struct.

mod fault;
mod field;

use std::rc::Rc;

use bpfplan_plan::uapi::{
    BTF_KIND_ARRAY, BTF_KIND_ENUM, BTF_KIND_ENUM64, BTF_KIND_FUNC_PROTO, BTF_KIND_PTR,
    BTF_KIND_STRUCT,
};
use bpfplan_plan::{Code, Diagnostic, Pinning, Severity, uapi};
use foldhash::HashMap;

use crate::btf::raw::{Raw, RawType};
use crate::btf::reach::{Reach, index};
use crate::btf::shape::{Circles, Unsized, kind, size};
use crate::bytes::text;
use crate::codes;
use fault::{Fault, Faults};
use field::{Field, Fields};

/// What a struct declares. Ids are the section's.
#[derive(Debug, Default)]
pub(crate) struct Definition {
    pub(crate) map_type: u32,
    pub(crate) max_entries: u32,
    pub(crate) map_flags: u32,
    pub(crate) numa_node: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) key: Option<u32>,
    pub(crate) value: Option<u32>,
    pub(crate) map_extra: u64,
    pub(crate) pinned: bool,
    /// The inner template of an outer map with `values`.
    pub(crate) inner: Option<Rc<Definition>>,
    /// Offset of `values` in bytes, if it is the last member.
    pub(crate) values: Option<u32>,
}

impl Definition {
    /// The same without an inner template.
    pub(crate) fn copied(&self) -> Self {
        Self {
            inner: None,
            ..*self
        }
    }

    /// What `pinning` says.
    pub(crate) fn pinning(&self) -> Pinning {
        if self.pinned {
            Pinning::ByName
        } else {
            Pinning::None
        }
    }
}

/// A struct's definition, `None` if it has an error, and all its problems.
type Parsed = (Option<Rc<Definition>>, Faults);

/// Members of a struct that is remembered. Smaller ones are read again, as fast as they were found.
const LARGE: u16 = 16;

/// Reads structs, each large one once: hostile objects could have many maps of one huge struct.
#[derive(Debug)]
pub(crate) struct Definitions<'a> {
    raw: &'a Raw<'a>,
    reach: Reach<'a>,
    /// Large structs by id, and by whether they are templates.
    large: HashMap<(u32, bool), Parsed>,
    /// The last map and the last template: neighbours share them.
    last: [Option<(u32, Parsed)>; 2],
    circles: Circles,
    fields: Fields,
    /// The types of keys and values.
    types: Vec<u32>,
    /// Their sizes by id, 0 for those that were not met.
    sizes: Vec<u32>,
}

impl<'a> Definitions<'a> {
    pub(crate) fn new(raw: &'a Raw<'a>) -> Self {
        Self {
            raw,
            reach: Reach::new(raw),
            large: HashMap::default(),
            last: [None, None],
            circles: Circles::default(),
            fields: Fields::default(),
            types: Vec::new(),
            sizes: vec![0; raw.len().saturating_add(1)],
        }
    }

    /// Skips what may stand between a variable and its struct.
    pub(crate) fn skip_modifiers(
        &mut self,
        id: u32,
    ) -> Result<(u32, Option<RawType<'a>>), Diagnostic> {
        self.reach.skip_modifiers(id)
    }

    /// The types of all keys and values that were met.
    pub(crate) fn into_types(self) -> Vec<u32> {
        self.types
    }

    /// What the struct with that id declares.
    pub(crate) fn get(&mut self, id: u32) -> Parsed {
        self.read(id, false)
    }

    fn template(&mut self, id: u32) -> Parsed {
        self.read(id, true)
    }

    fn read(&mut self, id: u32, inner: bool) -> Parsed {
        let last = self.last.get(usize::from(inner)).and_then(Option::as_ref);
        if let Some((_, parsed)) = last.filter(|(last, _)| *last == id) {
            return parsed.clone();
        }
        if let Some(parsed) = self.large.get(&(id, inner)) {
            return parsed.clone();
        }
        let parsed = self.parse(id, inner);
        if self.raw.get(id).is_some_and(|ty| ty.vlen >= LARGE) {
            self.large.insert((id, inner), parsed.clone());
        }
        if let Some(last) = self.last.get_mut(usize::from(inner)) {
            *last = Some((id, parsed.clone()));
        }
        parsed
    }

    /// The size of the type of a key or value.
    fn size(&mut self, id: u32) -> Result<u32, Unsized> {
        match self.sizes.get_mut(index(id)) {
            Some(known) if *known != 0 => Ok(*known),
            known => {
                let size = size(self.raw, id)?;
                self.types.push(id);
                if let Some(known) = known {
                    *known = size;
                }
                Ok(size)
            }
        }
    }

    fn parse(&mut self, id: u32, inner: bool) -> Parsed {
        let composite = self.raw.get(id).filter(|ty| ty.kind == BTF_KIND_STRUCT);
        let Some(composite) = composite else {
            return (None, Faults::default());
        };
        let mut parser = Parser {
            definitions: self,
            inner,
            result: Definition::default(),
            typed: false,
            faults: Vec::new(),
            template_faults: Faults::default(),
        };
        parser.members(&composite);
        let faults = Faults::new(parser.faults, parser.template_faults);
        let result = (faults.errors == 0).then(|| Rc::new(parser.result));
        (result, faults)
    }
}

struct Parser<'p, 'a> {
    definitions: &'p mut Definitions<'a>,
    /// Whether this is an inner template.
    inner: bool,
    result: Definition,
    /// Whether there is a member `type`, good or bad.
    typed: bool,
    faults: Vec<Fault>,
    template_faults: Faults,
}

/// A member of a map's struct.
#[derive(Debug, Clone, Copy)]
struct Member {
    ty: u32,
    /// Offset in bytes.
    offset: u32,
}

type Checked<T> = Result<T, Fault>;

impl<'a> Parser<'_, 'a> {
    fn members(&mut self, composite: &RawType<'_>) {
        let last = usize::from(composite.vlen).saturating_sub(1);
        // With the kind flag, the upper eight bits are the width of a bitfield.
        let bits = if composite.flag {
            0x00ff_ffff
        } else {
            u32::MAX
        };
        for (index, [name, ty, offset]) in composite.parts().enumerate() {
            let member = Member {
                ty,
                offset: (offset & bits) / 8,
            };
            let definitions = &mut *self.definitions;
            let result = match definitions.fields.find(definitions.raw, name) {
                Some(field) => self.member(field, member, index == last),
                None => Err(unknown(definitions.raw.name(name))),
            };
            if let Err(mut fault) = result {
                fault.inner |= self.inner;
                self.faults.push(fault);
            }
        }
        if self.result.map_type == 0 && !(self.typed && self.has_errors()) {
            let mut fault = Fault::new(codes::NO_TYPE, "type", "it has no type");
            fault.inner = self.inner;
            self.faults
                .push(fault.help("add __uint(type, BPF_MAP_TYPE_...)"));
        }
    }

    fn has_errors(&self) -> bool {
        self.faults
            .iter()
            .any(|fault| fault.severity == Severity::Error)
    }

    fn member(&mut self, field: Field, member: Member, last: bool) -> Checked<()> {
        let name = field.name();
        match field {
            Field::Type => {
                self.typed = true;
                self.result.map_type = self.number(name, member)?;
            }
            Field::MaxEntries => self.result.max_entries = self.number(name, member)?,
            Field::MapFlags => self.result.map_flags = self.number(name, member)?,
            Field::NumaNode => self.result.numa_node = self.number(name, member)?,
            Field::KeySize => {
                let size = self.number(name, member)?;
                self.result.key_size = agree(name, self.result.key_size, size)?;
            }
            Field::ValueSize => {
                let size = self.number(name, member)?;
                self.result.value_size = agree(name, self.result.value_size, size)?;
            }
            Field::Key => {
                let (id, size) = self.type_of(name, member)?;
                self.result.key_size = agree(name, self.result.key_size, size)?;
                self.result.key = Some(id);
            }
            Field::Value => {
                let (id, size) = self.type_of(name, member)?;
                self.result.value_size = agree(name, self.result.value_size, size)?;
                self.result.value = Some(id);
            }
            Field::Values => self.values(name, member, last)?,
            Field::Pinning if self.inner => {
                return Err(Fault::new(
                    codes::INNER_PINNED,
                    name,
                    "inner maps cannot be pinned",
                ));
            }
            Field::Pinning => match self.number(name, member)? {
                0 => self.result.pinned = false,
                1 => self.result.pinned = true,
                other => {
                    let message =
                        format!("pinning {other} is unknown, it is 0 (none) or 1 (by name)");
                    return Err(Fault::new(codes::BAD_PINNING, name, message));
                }
            },
            Field::MapExtra => self.result.map_extra = self.long(name, member)?,
        }
        Ok(())
    }

    /// Skips typedefs and modifiers in front of a member's type.
    fn skip_modifiers(&mut self, name: &str, id: u32) -> Checked<(u32, Option<RawType<'a>>)> {
        let end = self.definitions.skip_modifiers(id);
        end.map_err(|_| circle(name))
    }

    /// `__uint(name, number)`: a pointer to an array of that many elements.
    fn number(&mut self, name: &str, member: Member) -> Checked<u32> {
        let bad = |what: &str, ty: Option<RawType<'_>>| {
            let message = format!(
                "{name} is {what}{}; a number is declared as a pointer to an array of that length",
                kind(ty)
            );
            Fault::new(codes::BAD_NUMBER, name, message)
                .help(format!("write __uint({name}, NUMBER)"))
        };
        let (_, ty) = self.skip_modifiers(name, member.ty)?;
        let Some(pointer) = ty.filter(|ty| ty.kind == BTF_KIND_PTR) else {
            return Err(bad("", ty));
        };
        let ty = self.definitions.raw.get(pointer.last);
        match ty.filter(|ty| ty.kind == BTF_KIND_ARRAY) {
            Some(array) => {
                let [_, _, length] = array.array();
                Ok(length)
            }
            None => Err(bad("a pointer to ", ty)),
        }
    }

    /// `__ulong(name, number)` as well: an enum with one enumerator.
    fn long(&mut self, name: &str, member: Member) -> Checked<u64> {
        let (_, ty) = self.skip_modifiers(name, member.ty)?;
        let is_enum = |ty: &RawType<'_>| matches!(ty.kind, BTF_KIND_ENUM | BTF_KIND_ENUM64);
        let Some(list) = ty.filter(is_enum) else {
            return self.number(name, member).map(u64::from);
        };
        if list.vlen != 1 {
            let message = format!(
                "{name} is an enum of {} values, a number is an enum of one",
                list.vlen
            );
            let fault = Fault::new(codes::BAD_NUMBER, name, message);
            return Err(fault.help(format!("write __ulong({name}, NUMBER)")));
        }
        if list.kind == BTF_KIND_ENUM64 {
            let [_, low, high] = list.parts().next().unwrap_or_default();
            return Ok(u64::from(high) << 32 | u64::from(low));
        }
        let [_, bits] = list.parts().next().unwrap_or_default();
        // libbpf reads the 32 bits as a signed number, whatever the enum says.
        let value = i64::from(bits.cast_signed()).cast_unsigned();
        let written = if list.flag { value } else { u64::from(bits) };
        if value != written {
            let message = format!(
                "{name} is {written:#x} in the source and {value:#x} to libbpf and the kernel"
            );
            let mut fault = Fault::new(codes::SIGN_EXTENDED, name, message);
            fault.severity = Severity::Warning;
            fault.inner = self.inner;
            fault.note = Some("libbpf sign-extends the value of a 32-bit enum");
            self.faults.push(fault);
        }
        Ok(value)
    }

    /// `__type(name, T)`: a pointer to the type, which must have a size.
    fn type_of(&mut self, name: &str, member: Member) -> Checked<(u32, u32)> {
        let raw = self.definitions.raw;
        let ty = raw.get(member.ty);
        let Some(pointer) = ty.filter(|ty| ty.kind == BTF_KIND_PTR) else {
            let message = format!("{name} is {}, not a pointer to a type", kind(ty));
            let fault = Fault::new(codes::BAD_TYPE, name, message);
            return Err(fault.help(format!("write __type({name}, TYPE)")));
        };
        match self.definitions.size(pointer.last) {
            Ok(size) => Ok((pointer.last, size)),
            Err(Unsized::TooDeep) if self.definitions.circles.contain(raw, pointer.last) => {
                Err(circle(name))
            }
            Err(what) => {
                let what = match what {
                    Unsized::Incomplete => "is incomplete",
                    Unsized::TooLarge => "is larger than 4 GiB",
                    Unsized::TooDeep => "is nested too deeply",
                };
                let message = format!("the type of {name} {what}, so it has no size");
                let help = "declare the type in full before the map";
                Err(Fault::new(codes::UNSIZED, name, message).help(help))
            }
        }
    }

    /// `__array(values, T)`: what the slots hold.
    fn values(&mut self, name: &str, member: Member, last: bool) -> Checked<()> {
        let fault = |code: Code, message: String| Fault::new(code, name, message);
        if self.inner {
            let message = "inner maps cannot have values of their own".to_owned();
            return Err(fault(codes::NESTED_VALUES, message));
        }
        if !last {
            let message = "values must be the last member".to_owned();
            return Err(fault(codes::VALUES_NOT_LAST, message));
        }
        let programs = self.result.map_type == uapi::BPF_MAP_TYPE_PROG_ARRAY;
        let maps = bpfplan_plan::MapType(self.result.map_type).is_outer();
        if !programs && !maps {
            if self.result.map_type == 0 {
                return Ok(()); // The missing type is reported.
            }
            let message = "only maps of maps and program arrays have values".to_owned();
            return Err(fault(codes::VALUES_NOT_ALLOWED, message));
        }
        self.result.value_size = agree(name, self.result.value_size, 4)?;
        let bad = |message: String| {
            Err(fault(codes::BAD_VALUES, message).help("write __array(values, T)"))
        };
        let ty = self.definitions.raw.get(member.ty);
        let Some(array) = ty.filter(|ty| ty.kind == BTF_KIND_ARRAY) else {
            return bad(format!("values is {}, not an array", kind(ty)));
        };
        let [element, _, length] = array.array();
        if length != 0 {
            return bad(format!(
                "values has a length of {length}, it must have none"
            ));
        }
        let (_, ty) = self.skip_modifiers(name, element)?;
        let Some(pointer) = ty.filter(|ty| ty.kind == BTF_KIND_PTR) else {
            return bad(format!(
                "an element of values is {}, not a pointer",
                kind(ty)
            ));
        };
        self.result.values = Some(member.offset);
        let (id, ty) = self.skip_modifiers(name, pointer.last)?;
        match ty.map(|ty| ty.kind) {
            Some(BTF_KIND_FUNC_PROTO) if programs => Ok(()),
            Some(BTF_KIND_STRUCT) if maps => {
                let (inner, faults) = self.definitions.template(id);
                self.template_faults = faults;
                self.result.inner = inner;
                Ok(())
            }
            _ => {
                let wanted = if programs {
                    "a function"
                } else {
                    "the struct of a map"
                };
                let message = format!("values points to {}, not to {wanted}", kind(ty));
                Err(fault(codes::BAD_ELEMENT, message))
            }
        }
    }
}

fn circle(name: &str) -> Fault {
    let message = format!("corrupt BTF: the type of {name} refers to itself in a circle");
    Fault::new(codes::TYPE_CYCLE, name, message)
}

fn unknown(name: &[u8]) -> Fault {
    if name.is_empty() {
        let message = "the struct has a member without a name";
        return Fault::new(codes::UNKNOWN_FIELD, "", message);
    }
    let name = text(name);
    let message = format!("the field '{}' is unknown", name.escape_debug());
    Fault::new(codes::UNKNOWN_FIELD, &name, message).help(
        "fields are type, key, value, key_size, value_size, max_entries, map_flags, map_extra, \
         numa_node, pinning and values",
    )
}

/// A size that was set to something else before is a conflict; libbpf lets a 0 pass.
fn agree(name: &str, before: u32, size: u32) -> Checked<u32> {
    if before == 0 || before == size {
        return Ok(size);
    }
    let part = if name.starts_with("key") {
        "key"
    } else {
        "value"
    };
    let message =
        format!("{name} makes the {part} {size} bytes long, an earlier member makes it {before}");
    let fault = Fault::new(codes::SIZE_CONFLICT, name, message);
    Err(fault.help(format!("declare the size of the {part} once")))
}
