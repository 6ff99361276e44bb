//! The members of a map's struct (`parse_btf_map_def`), read once per struct.

use std::rc::Rc;

use bpfplan_plan::uapi::{
    BTF_KIND_ARRAY, BTF_KIND_ENUM, BTF_KIND_ENUM64, BTF_KIND_FUNC_PROTO, BTF_KIND_PTR,
    BTF_KIND_STRUCT,
};
use bpfplan_plan::{Code, Diagnostic, Pinning, Severity, Source, uapi};
use foldhash::HashMap;

use crate::btf::raw::{Raw, RawType};
use crate::btf::reach::Reach;
use crate::btf::shape::{Circles, Unsized, kind, size};
use crate::bytes::text;
use crate::codes;

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

/// A problem of a member, whatever the map's name.
#[derive(Debug)]
pub(crate) struct Fault {
    severity: Severity,
    code: Code,
    /// Whether it is about the inner template.
    inner: bool,
    field: String,
    message: String,
    note: Option<&'static str>,
    help: Option<String>,
}

impl Fault {
    fn new(code: Code, field: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            inner: false,
            field: field.to_owned(),
            message: message.into(),
            note: None,
            help: None,
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The diagnostic for a map that has this problem.
    pub(crate) fn diagnostic(&self, map: &str, source: Option<&Source>) -> Diagnostic {
        let field = match (self.inner, self.field.as_str()) {
            (false, field) => field.to_owned(),
            (true, "") => "values".to_owned(),
            (true, field) => format!("values.{field}"),
        };
        let mut diagnostic = Diagnostic::new(self.code, self.severity, self.message.clone())
            .map(map)
            .at(source, "declared here");
        if !field.is_empty() {
            diagnostic = diagnostic.field(field);
        }
        diagnostic.notes.extend(self.note.map(str::to_owned));
        diagnostic.help.clone_from(&self.help);
        diagnostic
    }
}

/// All problems of a struct. Many maps can share a struct, and many structs a template.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    own: Option<Rc<[Fault]>>,
    template: Option<Rc<[Fault]>>,
    /// How many of them are errors.
    pub(crate) errors: usize,
}

impl Faults {
    fn new(own: Vec<Fault>, template: Self) -> Self {
        let errors = own.iter().filter(|it| it.severity == Severity::Error);
        Self {
            errors: errors.count().saturating_add(template.errors),
            own: (!own.is_empty()).then(|| own.into()),
            template: template.own,
        }
    }

    /// The problems, those of the template last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Fault> {
        let both = [&self.own, &self.template];
        both.into_iter().flatten().flat_map(|faults| faults.iter())
    }
}

/// A struct's definition, `None` if it has an error, and all its problems.
type Parsed = (Option<Rc<Definition>>, Faults);

/// Reads structs, each once: hostile objects could have many maps of one huge struct.
#[derive(Debug)]
pub(crate) struct Definitions<'a> {
    raw: &'a Raw<'a>,
    reach: Reach<'a>,
    maps: HashMap<u32, Parsed>,
    templates: HashMap<u32, Parsed>,
    circles: Circles,
    /// The types of keys and values.
    types: Vec<u32>,
    /// Their sizes.
    sizes: HashMap<u32, Result<u32, Unsized>>,
}

impl<'a> Definitions<'a> {
    pub(crate) fn new(raw: &'a Raw<'a>) -> Self {
        Self {
            raw,
            reach: Reach::new(raw),
            maps: HashMap::default(),
            templates: HashMap::default(),
            circles: Circles::default(),
            types: Vec::new(),
            sizes: HashMap::default(),
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
        if let Some(parsed) = self.maps.get(&id) {
            return parsed.clone();
        }
        let parsed = self.parse(id, false);
        self.maps.insert(id, parsed.clone());
        parsed
    }

    /// The size of the type of a key or value.
    fn size(&mut self, id: u32) -> Result<u32, Unsized> {
        let (raw, types) = (self.raw, &mut self.types);
        *self.sizes.entry(id).or_insert_with(|| {
            let size = size(raw, id);
            types.extend(size.is_ok().then_some(id));
            size
        })
    }

    fn template(&mut self, id: u32) -> Parsed {
        if let Some(parsed) = self.templates.get(&id) {
            return parsed.clone();
        }
        let parsed = self.parse(id, true);
        self.templates.insert(id, parsed.clone());
        parsed
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
            let name = self.definitions.raw.name(name);
            let member = Member {
                ty,
                offset: (offset & bits) / 8,
            };
            let known = str::from_utf8(name).unwrap_or_default();
            let result = match known {
                "" if !name.is_empty() => Err(unknown(name)),
                known => self.member(known, member, index == last),
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

    fn member(&mut self, name: &str, member: Member, last: bool) -> Checked<()> {
        match name {
            "type" => {
                self.typed = true;
                self.result.map_type = self.number(name, member)?;
            }
            "max_entries" => self.result.max_entries = self.number(name, member)?,
            "map_flags" => self.result.map_flags = self.number(name, member)?,
            "numa_node" => self.result.numa_node = self.number(name, member)?,
            "key_size" => {
                let size = self.number(name, member)?;
                self.result.key_size = agree(name, self.result.key_size, size)?;
            }
            "value_size" => {
                let size = self.number(name, member)?;
                self.result.value_size = agree(name, self.result.value_size, size)?;
            }
            "key" => {
                let (id, size) = self.type_of(name, member)?;
                self.result.key_size = agree(name, self.result.key_size, size)?;
                self.result.key = Some(id);
            }
            "value" => {
                let (id, size) = self.type_of(name, member)?;
                self.result.value_size = agree(name, self.result.value_size, size)?;
                self.result.value = Some(id);
            }
            "values" => self.values(name, member, last)?,
            "pinning" if self.inner => {
                return Err(Fault::new(
                    codes::INNER_PINNED,
                    name,
                    "inner maps cannot be pinned",
                ));
            }
            "pinning" => match self.number(name, member)? {
                0 => self.result.pinned = false,
                1 => self.result.pinned = true,
                other => {
                    let message =
                        format!("pinning {other} is unknown, it is 0 (none) or 1 (by name)");
                    return Err(Fault::new(codes::BAD_PINNING, name, message));
                }
            },
            "map_extra" => self.result.map_extra = self.long(name, member)?,
            "" => {
                let message = "the struct has a member without a name";
                return Err(Fault::new(codes::UNKNOWN_FIELD, name, message));
            }
            _ => return Err(unknown(name.as_bytes())),
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
