//! The members of a map's struct (`parse_btf_map_def`), read once per struct.

use std::collections::HashMap;
use std::rc::Rc;

use bpfplan_plan::types::{Composite, Member, Type, TypeId};
use bpfplan_plan::{Code, Diagnostic, Pinning, Severity, Source, uapi};

use crate::btf::view::{Unsized, View, kind};
use crate::codes;

/// What a struct declares. Ids are the view's.
#[derive(Debug, Default)]
pub(crate) struct Definition {
    pub(crate) map_type: u32,
    pub(crate) max_entries: u32,
    pub(crate) map_flags: u32,
    pub(crate) numa_node: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) key: Option<TypeId>,
    pub(crate) value: Option<TypeId>,
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
    own: Rc<[Fault]>,
    template: Rc<[Fault]>,
    /// How many of them are errors.
    pub(crate) errors: usize,
}

impl Faults {
    fn new(own: Vec<Fault>, template: Self) -> Self {
        let errors = own.iter().filter(|it| it.severity == Severity::Error);
        Self {
            errors: errors.count().saturating_add(template.errors),
            own: own.into(),
            template: template.own,
        }
    }

    /// The problems, those of the template last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.own.iter().chain(self.template.iter())
    }
}

/// A struct's definition, `None` if it has an error, and all its problems.
type Parsed = (Option<Rc<Definition>>, Faults);

/// Reads structs, each once: hostile objects could have many maps of one huge struct.
#[derive(Debug)]
pub(crate) struct Definitions<'v> {
    view: &'v View,
    maps: HashMap<TypeId, Parsed>,
    templates: HashMap<TypeId, Parsed>,
}

impl<'v> Definitions<'v> {
    pub(crate) fn new(view: &'v View) -> Self {
        Self {
            view,
            maps: HashMap::new(),
            templates: HashMap::new(),
        }
    }

    /// What the struct with that id declares.
    pub(crate) fn get(&mut self, id: TypeId) -> Parsed {
        if let Some(parsed) = self.maps.get(&id) {
            return parsed.clone();
        }
        let parsed = self.parse(id, false);
        self.maps.insert(id, parsed.clone());
        parsed
    }

    fn template(&mut self, id: TypeId) -> Parsed {
        if let Some(parsed) = self.templates.get(&id) {
            return parsed.clone();
        }
        let parsed = self.parse(id, true);
        self.templates.insert(id, parsed.clone());
        parsed
    }

    fn parse(&mut self, id: TypeId, inner: bool) -> Parsed {
        let Some(Type::Struct(composite)) = self.view.get(id) else {
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
        parser.members(composite);
        let faults = Faults::new(parser.faults, parser.template_faults);
        let result = (faults.errors == 0).then(|| Rc::new(parser.result));
        (result, faults)
    }
}

struct Parser<'p, 'v> {
    definitions: &'p mut Definitions<'v>,
    /// Whether this is an inner template.
    inner: bool,
    result: Definition,
    /// Whether there is a member `type`, good or bad.
    typed: bool,
    faults: Vec<Fault>,
    template_faults: Faults,
}

type Checked<T> = Result<T, Fault>;

impl Parser<'_, '_> {
    fn members(&mut self, composite: &Composite) {
        let last = composite.members.len().saturating_sub(1);
        for (index, member) in composite.members.iter().enumerate() {
            let name = member.name.as_deref().unwrap_or_default();
            if let Err(mut fault) = self.member(name, member, index == last) {
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

    fn member(&mut self, name: &str, member: &Member, last: bool) -> Checked<()> {
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
            _ => {
                let message = format!("the field '{}' is unknown", name.escape_debug());
                let fault = Fault::new(codes::UNKNOWN_FIELD, name, message);
                return Err(fault.help(
                    "fields are type, key, value, key_size, value_size, max_entries, map_flags, \
                     map_extra, numa_node, pinning and values",
                ));
            }
        }
        Ok(())
    }

    /// `__uint(name, number)`: a pointer to an array of that many elements.
    fn number(&self, name: &str, member: &Member) -> Checked<u32> {
        let view = self.definitions.view;
        let bad = |what: &str, ty: Option<&Type>| {
            let message = format!(
                "{name} is {what}{}; a number is declared as a pointer to an array of that length",
                kind(ty)
            );
            Fault::new(codes::BAD_NUMBER, name, message)
                .help(format!("write __uint({name}, NUMBER)"))
        };
        let (_, ty) = view.skip_modifiers(member.ty);
        let Some(Type::Ptr { to }) = ty else {
            return Err(bad("", ty));
        };
        match view.get(*to) {
            Some(Type::Array { length, .. }) => Ok(*length),
            ty => Err(bad("a pointer to ", ty)),
        }
    }

    /// `__ulong(name, number)` as well: an enum with one enumerator.
    fn long(&mut self, name: &str, member: &Member) -> Checked<u64> {
        let (_, ty) = self.definitions.view.skip_modifiers(member.ty);
        let (list, wide) = match ty {
            Some(Type::Enum(list)) => (list, false),
            Some(Type::Enum64(list)) => (list, true),
            _ => return self.number(name, member).map(u64::from),
        };
        let [only] = list.variants.as_slice() else {
            let message = format!(
                "{name} is an enum of {} values, a number is an enum of one",
                list.variants.len()
            );
            let fault = Fault::new(codes::BAD_NUMBER, name, message);
            return Err(fault.help(format!("write __ulong({name}, NUMBER)")));
        };
        if wide {
            return Ok(only.value);
        }
        // libbpf reads the 32 bits as a signed number, whatever the enum says.
        let [a, b, c, d, ..] = only.value.to_le_bytes();
        let value = i64::from(i32::from_le_bytes([a, b, c, d])).cast_unsigned();
        if value != only.value {
            let message = format!(
                "{name} is {:#x} in the source and {value:#x} to libbpf and the kernel",
                only.value
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
    fn type_of(&self, name: &str, member: &Member) -> Checked<(TypeId, u32)> {
        let view = self.definitions.view;
        let ty = view.get(member.ty);
        let Some(Type::Ptr { to }) = ty else {
            let message = format!("{name} is {}, not a pointer to a type", kind(ty));
            let fault = Fault::new(codes::BAD_TYPE, name, message);
            return Err(fault.help(format!("write __type({name}, TYPE)")));
        };
        match view.size(*to) {
            Ok(size) => Ok((*to, size)),
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
    fn values(&mut self, name: &str, member: &Member, last: bool) -> Checked<()> {
        let view = self.definitions.view;
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
        let ty = view.get(member.ty);
        let element = match ty {
            Some(Type::Array {
                element, length: 0, ..
            }) => *element,
            Some(Type::Array { length, .. }) => {
                let message = format!("values has a length of {length}, it must have none");
                return Err(fault(codes::BAD_VALUES, message).help("write __array(values, T)"));
            }
            _ => {
                let message = format!("values is {}, not an array", kind(ty));
                return Err(fault(codes::BAD_VALUES, message).help("write __array(values, T)"));
            }
        };
        let (_, ty) = view.skip_modifiers(element);
        let Some(Type::Ptr { to }) = ty else {
            let message = format!("an element of values is {}, not a pointer", kind(ty));
            return Err(fault(codes::BAD_VALUES, message).help("write __array(values, T)"));
        };
        self.result.values = Some(member.bit_offset / 8);
        let (id, ty) = view.skip_modifiers(*to);
        match ty {
            Some(Type::FuncProto { .. }) if programs => Ok(()),
            Some(Type::Struct(_)) if maps => {
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
