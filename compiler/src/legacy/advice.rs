//! The declaration to write instead of a legacy one, as C text.

use std::collections::BTreeMap;

use bpfplan_plan::MapType;
use bpfplan_plan::rules::flags::flag_names;
use bpfplan_plan::uapi::{
    BTF_KIND_ENUM, BTF_KIND_ENUM64, BTF_KIND_INT, BTF_KIND_STRUCT, BTF_KIND_TYPEDEF, BTF_KIND_UNION,
};

use super::layout::Fields;
use crate::btf::raw::Raw;
use crate::bytes::text;
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
    raw: Option<&Raw<'_>>,
    name: &str,
    definition: &Definition,
    fields: &Fields,
    slots: &BTreeMap<u32, String>,
) -> Option<String> {
    let outer = MapType(definition.map_type).is_outer();
    if !is_identifier(name) || slots.len() > MAX_SLOTS || outer && definition.inner.is_none() {
        return None;
    }
    let mut text = members(raw, definition);
    if fields.pinning == PIN_GLOBAL_NS {
        text.push_str("__uint(pinning, LIBBPF_PIN_BY_NAME); ");
    }
    if let Some(template) = &definition.inner {
        let template = members(raw, template);
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

fn members(raw: Option<&Raw<'_>>, definition: &Definition) -> String {
    let map_type = match MapType(definition.map_type).known_name() {
        Some(name) => format!("BPF_MAP_TYPE_{}", name.to_ascii_uppercase()),
        None => definition.map_type.to_string(),
    };
    let mut text = format!("__uint(type, {map_type}); ");
    let types = (
        type_name(raw, definition.key),
        type_name(raw, definition.value),
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
fn type_name(raw: Option<&Raw<'_>>, id: Option<u32>) -> Option<String> {
    let raw = raw?;
    let ty = raw.get(id?)?;
    let tag = match ty.kind {
        BTF_KIND_INT | BTF_KIND_TYPEDEF => "",
        BTF_KIND_STRUCT => "struct ",
        BTF_KIND_UNION => "union ",
        BTF_KIND_ENUM | BTF_KIND_ENUM64 => "enum ",
        _ => return None,
    };
    let name = text(raw.name(ty.name));
    name.split(' ')
        .all(is_identifier)
        .then(|| format!("{tag}{name}"))
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
