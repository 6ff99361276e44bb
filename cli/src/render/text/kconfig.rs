//! The kernel configuration values, declared as in C: what they are, only the target knows.

use std::collections::HashMap;

use bpfplan_plan::{Extern, ExternKind, Map, Plan, Type, TypeId};

use super::c_type::Declarator;
use super::rows::count;
use crate::render::escape::plain;
use crate::render::style::Style;

/// Parts of types that are written before the rest is left to JSON.
const FUEL: usize = 4000;

/// Renders the values of every map that has some.
pub(super) fn render(plan: &Plan, style: Style) -> String {
    let mut declarator = Declarator::new(plan, FUEL);
    let mut text = String::new();
    for map in plan.maps.iter().filter(|map| !map.externs.is_empty()) {
        let size = count(map.value_size, "byte");
        let name = style.bold(&plain(&map.name));
        text.push_str(&format!(
            "  {name} {size} of kernel configuration, read-only, resolved on the target\n"
        ));
        let types = types(plan, map);
        for (index, value) in map.externs.iter().enumerate() {
            if declarator.fuel == 0 {
                let more = count(map.externs.len() - index, "more value");
                text.push_str(&format!("          /* and {more}: see --format json */\n"));
                break;
            }
            let line = declaration(&mut declarator, types.get(&value.offset).copied(), value);
            text.push_str(&format!("          {line}\n"));
        }
    }
    text
}

/// The types of a section's variables by offset.
fn types(plan: &Plan, map: &Map) -> HashMap<u32, TypeId> {
    let section = map.value_type.and_then(|id| plan.type_by_id(id));
    let Some(Type::Datasec { vars, .. }) = section else {
        return HashMap::new();
    };
    let types = vars.iter().filter_map(|place| {
        let Type::Var { to, .. } = plan.type_by_id(place.var)? else {
            return None;
        };
        Some((place.offset, *to))
    });
    types.collect()
}

/// `extern int CONFIG_HZ __kconfig __weak;`
fn declaration(declarator: &mut Declarator<'_>, ty: Option<TypeId>, value: &Extern) -> String {
    let name = plain(&value.name).into_owned();
    let left = match ty {
        Some(ty) => declarator.declare(ty, name, 0),
        None => kind(value, &name),
    };
    let weak = if value.weak { " __weak" } else { "" };
    format!("extern {left} __kconfig{weak};")
}

/// A type of that kind, where the object's BTF does not name one.
fn kind(value: &Extern, name: &str) -> String {
    let bits = value.size.saturating_mul(8);
    match value.kind {
        ExternKind::Bool => format!("_Bool {name}"),
        ExternKind::Char => format!("char {name}"),
        ExternKind::UnsignedChar => format!("unsigned char {name}"),
        ExternKind::Tristate => format!("enum libbpf_tristate {name}"),
        ExternKind::Signed => format!("__s{bits} {name}"),
        ExternKind::Unsigned => format!("__u{bits} {name}"),
        ExternKind::String => format!("char {name}[{}]", value.size),
    }
}
