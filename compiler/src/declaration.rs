//! One declaration per `.maps` variable (`bpf_object__init_user_btf_map`).

use std::rc::Rc;

use bpfplan_plan::uapi::{self, BTF_KIND_STRUCT};
use bpfplan_plan::{Code, Diagnostic, Map, Source};

use crate::assemble;
use crate::btf::raw::Raw;
use crate::btf::shape::kind;
use crate::bytes::MAX_NAME;
use crate::codes;
use crate::definition::{Definition, Definitions};
use crate::fixup::{Linkage, Variable};
use crate::names::Names;
use crate::problems::Problems;

/// A declared map.
#[derive(Debug)]
pub(crate) struct Declaration {
    /// The map without its slots; type ids are the section's.
    pub(crate) map: Map,
    /// Place of the variable among those of `.maps`.
    pub(crate) variable: usize,
    /// Offset of the variable in `.maps`, in bytes.
    pub(crate) offset: u32,
    /// Offset of `values` in the variable, if it has any.
    pub(crate) values: Option<u32>,
}

/// The declarations of an object.
#[derive(Debug, Default)]
pub(crate) struct Declarations {
    /// In the order of the section; a variable with a problem is left out.
    pub(crate) list: Vec<Declaration>,
    /// The types of all keys and values.
    pub(crate) types: Vec<u32>,
}

/// Reads the declarations of all variables. `names` are theirs, `sources` their places; `each`
/// gets the names of maps with what their structs declare.
pub(crate) fn read(
    raw: &Raw<'_>,
    variables: &[Variable<'_>],
    names: &Names<'_>,
    section_size: u64,
    mut sources: Vec<Option<Source>>,
    mut each: impl FnMut(&str, &Rc<Definition>),
    problems: &mut Problems,
) -> Declarations {
    let mut definitions = Definitions::new(raw);
    let mut arena: Option<&str> = None;
    let mut declarations = Vec::with_capacity(variables.len());
    for (place, variable) in variables.iter().enumerate() {
        let name = &*variable.name;
        let first = match names.has_repeated() {
            true => names.find(name.as_bytes()).unwrap_or(place),
            false => place,
        };
        let source = sources.get(first).and_then(Option::as_ref);
        let report = |code: Code, message: String| {
            Diagnostic::error(code, message)
                .map(name)
                .at(source, "declared here")
        };
        if name.is_empty() {
            problems.add(Diagnostic::error(
                codes::BAD_NAME,
                "a map has an empty name",
            ));
            continue;
        }
        if let Err(what) = check_name(name) {
            problems.add(report(codes::BAD_NAME, what));
        }
        if first != place {
            let message = "two maps have this name".to_owned();
            problems.add(report(codes::DUPLICATE_NAME, message));
            continue;
        }
        let struct_id = match check_place(raw, &mut definitions, variable, section_size) {
            Ok(id) => id,
            Err(diagnostic) => {
                problems.add(diagnostic.map(name).at(source, "declared here"));
                continue;
            }
        };
        let (definition, faults) = definitions.get(struct_id);
        if problems.is_full() {
            problems.count(faults.errors);
        } else {
            for fault in faults.iter() {
                problems.add(fault.diagnostic(name, source));
            }
        }
        let Some(definition) = definition else {
            continue;
        };
        if definition.map_type == uapi::BPF_MAP_TYPE_ARENA
            && let Some(first) = arena.replace(name)
        {
            let message = format!("the object has another arena, '{first}', and may have one only");
            problems.add(report(codes::TWO_ARENAS, message));
        }
        each(name, &definition);
        declarations.push(Declaration {
            map: assemble::declared(name, &definition, None),
            variable: place,
            offset: variable.offset,
            values: definition.values,
        });
    }
    for declaration in &mut declarations {
        let source = sources.get_mut(declaration.variable);
        declaration.map.source = source.and_then(Option::take);
    }
    Declarations {
        list: declarations,
        types: definitions.into_types(),
    }
}

/// What the kernel takes as the first 15 bytes of a name, and what no pin and no terminal takes.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let cut = uapi::BPF_OBJ_NAME_LEN as usize - 1;
    let in_kernel =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.');
    if name.len() < MAX_NAME && name.bytes().all(in_kernel) {
        return Ok(());
    }
    if name.ends_with('…') && name.len() >= MAX_NAME {
        return Err(format!(
            "its name is longer than the {MAX_NAME} bytes that the kernel takes"
        ));
    }
    if let Some(byte) = name.bytes().take(cut).find(|byte| !in_kernel(*byte)) {
        let what = char::from(byte).escape_default();
        return Err(format!(
            "its name has the byte '{what}', the kernel takes letters, digits, '_' and '.'"
        ));
    }
    if name
        .chars()
        .any(|char| char.is_control() || char == '/' || char == '\\')
    {
        return Err("its name has a control character, '/' or '\\'".to_owned());
    }
    Ok(())
}

/// The checks of `bpf_object__init_user_btf_map` before it reads the struct, whose id this gives.
fn check_place(
    raw: &Raw<'_>,
    definitions: &mut Definitions<'_>,
    variable: &Variable<'_>,
    section_size: u64,
) -> Result<u32, Diagnostic> {
    let error = Diagnostic::error;
    // An extern map has no place, so this comes first.
    let linkage = match variable.linkage {
        Linkage::Global => None,
        Linkage::Static => Some(("static", "remove 'static'")),
        Linkage::Hidden => Some(("hidden", "remove '__hidden' or visibility(\"hidden\")")),
        Linkage::Extern => Some((
            "extern",
            "name the object that defines it as well: plan, compile and load link them",
        )),
        Linkage::Unknown => Some(("of unknown linkage", "compile it again")),
    };
    if let Some((linkage, help)) = linkage {
        return Err(error(
            codes::NOT_GLOBAL,
            format!("it is {linkage}, maps must be global variables"),
        )
        .help(help));
    }
    let end = u64::from(variable.offset).saturating_add(u64::from(variable.size));
    if end > section_size {
        return Err(error(
            codes::OUTSIDE_SECTION,
            format!("it ends at byte {end} of .maps, which has {section_size}"),
        ));
    }
    let to = raw.get(variable.id).map_or(0, |var| var.last);
    let (id, ty) = definitions.skip_modifiers(to)?;
    let Some(definition) = ty.filter(|ty| ty.kind == BTF_KIND_STRUCT) else {
        let message = format!("it is {}, maps are declared as structs", kind(ty));
        return Err(error(codes::NOT_A_STRUCT, message));
    };
    if definition.last > variable.size {
        return Err(error(
            codes::BAD_SIZE,
            format!(
                "its struct has {} bytes, its variable {}",
                definition.last, variable.size
            ),
        ));
    }
    Ok(id)
}
