//! The declaration to write instead of a legacy one, as C text.

use std::collections::BTreeMap;

use bpfplan_plan::MapType;
use bpfplan_plan::rules::flags::flag_names;
use bpfplan_plan::types::{Type, TypeId};

use super::layout::Fields;
use crate::btf::view::View;
use crate::definition::Definition;

/// So many slots are written out; the text is for people.
const MAX_SLOTS: usize = 16;
/// iproute2: pinned for all programs.
const PIN_GLOBAL_NS: u32 = 2;

/// The declaration on one line; `None` if the name is none in C, if the map lacks a template, or
/// if it would be too long.
///
/// Slots need their maps declared before; the cast is for those, whose struct has no name.
pub(super) fn declaration(
    view: &View,
    name: &str,
    definition: &Definition,
    fields: &Fields,
    slots: &BTreeMap<u32, String>,
) -> Option<String> {
    let outer = MapType(definition.map_type).is_outer();
    if !is_identifier(name) || slots.len() > MAX_SLOTS || outer && definition.inner.is_none() {
        return None;
    }
    let mut text = members(view, definition);
    if fields.pinning == PIN_GLOBAL_NS {
        text.push_str("__uint(pinning, LIBBPF_PIN_BY_NAME); ");
    }
    if let Some(template) = &definition.inner {
        let template = members(view, template);
        text.push_str(&format!("__array(values, struct {{ {template}}}); "));
    }
    let mut text = format!("struct {{ {text}}} {name} SEC(\".maps\")");
    if !slots.is_empty() {
        let slots: Option<Vec<String>> = slots
            .iter()
            .map(|(index, map)| is_identifier(map).then(|| format!("[{index}] = (void *)&{map}")))
            .collect();
        text.push_str(&format!(" = {{ .values = {{ {} }} }}", slots?.join(", ")));
    }
    text.push(';');
    Some(text)
}

fn members(view: &View, definition: &Definition) -> String {
    let map_type = match MapType(definition.map_type).known_name() {
        Some(name) => format!("BPF_MAP_TYPE_{}", name.to_ascii_uppercase()),
        None => definition.map_type.to_string(),
    };
    let mut text = format!("__uint(type, {map_type}); ");
    let types = (
        type_name(view, definition.key),
        type_name(view, definition.value),
    );
    let number = |name: &str, number: u32| match number {
        0 => String::new(),
        number => format!("__uint({name}, {number}); "),
    };
    if let (Some(key), Some(value)) = types {
        text.push_str(&format!("__type(key, {key}); __type(value, {value}); "));
    } else {
        text.push_str(&number("key_size", definition.key_size));
        text.push_str(&number("value_size", definition.value_size));
    }
    text.push_str(&number("max_entries", definition.max_entries));
    if definition.map_flags != 0 {
        let flags = flag_names(definition.map_flags).join(" | ");
        text.push_str(&format!("__uint(map_flags, {flags}); "));
    }
    text
}

/// How a type is called in C; `None` if that needs more than a name.
fn type_name(view: &View, id: Option<TypeId>) -> Option<String> {
    let tagged = |tag: &str, name: &Option<String>| Some(format!("{tag}{}", name.as_deref()?));
    let name = match view.get(id?)? {
        Type::Int { name, .. } | Type::Typedef { name, .. } => name.clone(),
        Type::Struct(ty) => tagged("struct ", &ty.name)?,
        Type::Union(ty) => tagged("union ", &ty.name)?,
        Type::Enum(ty) | Type::Enum64(ty) => tagged("enum ", &ty.name)?,
        _ => return None,
    };
    name.split(' ').all(is_identifier).then_some(name)
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
