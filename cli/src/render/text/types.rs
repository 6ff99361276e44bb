//! The structs, unions and enums of keys and values, declared as in C.

use std::collections::HashSet;

use bpfplan_plan::types::{Composite, Enum};
use bpfplan_plan::{Map, Plan, Type, TypeId};

use crate::render::escape::plain;
use crate::render::style::Style;
use bpfplan_plan::c_type::{Declaration, Declarator};

/// Parts of types that are written before the rest is left to JSON.
const FUEL: usize = 4000;
/// How deep structs are looked into.
const DEEPEST: usize = 16;
/// Enumerators that are shown of an enum.
const ENUMERATORS: usize = 16;

/// What the kernel defines and programs only name: their insides say nothing.
const OPAQUE: [&str; 11] = [
    "bpf_spin_lock",
    "bpf_res_spin_lock",
    "bpf_timer",
    "bpf_wq",
    "bpf_task_work",
    "bpf_list_head",
    "bpf_list_node",
    "bpf_rb_root",
    "bpf_rb_node",
    "bpf_refcount",
    "bpf_dynptr",
];

/// Renders the declarations that the maps' keys and values need, each once.
pub(super) fn render(plan: &Plan, style: Style) -> String {
    let mut block = Block {
        plan,
        declarator: Declarator::new(plan, FUEL),
        seen: HashSet::new(),
        text: String::new(),
    };
    for map in &plan.maps {
        block.types_of(map);
        if let Some(inner) = &map.inner {
            block.types_of(inner);
        }
    }
    if block.declarator.fuel == 0 {
        block
            .text
            .push_str("  /* there is more: see --format json */\n");
    }
    block
        .text
        .lines()
        .map(|line| format!("{}\n", style.dim(line)))
        .collect()
}

struct Block<'a> {
    plan: &'a Plan,
    declarator: Declarator<'a>,
    seen: HashSet<TypeId>,
    text: String,
}

impl<'a> Block<'a> {
    fn types_of<I>(&mut self, map: &Map<I>) {
        for (what, id) in [("key", map.key_type), ("value", map.value_type)] {
            if let Some(id) = id {
                self.reach(id, &format!("{what} of {}", plain(&map.name)), 0);
            }
        }
    }

    /// Declares what `id` needs, and `id` itself if it has a body; `owner` names what has none.
    fn reach(&mut self, id: TypeId, owner: &str, depth: usize) {
        if depth >= DEEPEST || self.declarator.fuel == 0 {
            return;
        }
        let Declaration { base, .. } = self.declarator.split(id, String::new(), 0);
        if !self.seen.insert(base) {
            return;
        }
        match self.plan.type_by_id(base) {
            Some(Type::Struct(composite) | Type::Union(composite)) => {
                if composite
                    .name
                    .as_deref()
                    .is_some_and(|name| OPAQUE.contains(&name))
                {
                    return;
                }
                self.reach_members(composite, owner, depth);
                if composite.name.is_none() {
                    self.text.push_str(&format!("  /* {owner} */\n"));
                }
                self.declare(base, "", "");
            }
            Some(Type::Enum(list) | Type::Enum64(list)) => {
                if list.name.is_none() {
                    self.text.push_str(&format!("  /* {owner} */\n"));
                }
                self.declare(base, "", "");
            }
            Some(Type::Datasec { vars, .. }) => {
                for place in vars {
                    let name = match self.plan.type_by_id(place.var) {
                        Some(Type::Var { name, .. }) => plain(name),
                        _ => continue,
                    };
                    self.reach(place.var, &format!("variable {name}"), depth + 1);
                }
            }
            Some(Type::Typedef { name, to }) => self.reach_typedef(name, *to, owner, depth),
            _ => {}
        }
    }

    /// A typedef of something without a name declares it; of something with one it needs it.
    fn reach_typedef(&mut self, name: &str, to: TypeId, owner: &str, depth: usize) {
        match self.plan.type_by_id(to) {
            Some(Type::Struct(body) | Type::Union(body)) if body.name.is_none() => {
                self.seen.insert(to);
                self.reach_members(body, owner, depth);
                self.declare(to, "typedef ", &format!(" {}", plain(name)));
            }
            Some(Type::Enum(list) | Type::Enum64(list)) if list.name.is_none() => {
                self.seen.insert(to);
                self.declare(to, "typedef ", &format!(" {}", plain(name)));
            }
            _ => self.reach(to, owner, depth + 1),
        }
    }

    fn reach_members(&mut self, composite: &'a Composite, owner: &str, depth: usize) {
        for member in &composite.members {
            if self.declarator.fuel == 0 {
                return;
            }
            let Declaration { base, .. } = self.declarator.split(member.ty, String::new(), 0);
            match self.plan.type_by_id(base) {
                // Written inside its owner.
                Some(Type::Struct(inner) | Type::Union(inner)) if inner.name.is_none() => {
                    if depth < DEEPEST {
                        self.reach_members(inner, owner, depth + 1);
                    }
                }
                Some(Type::Enum(list) | Type::Enum64(list)) if list.name.is_none() => {}
                _ => self.reach(base, owner, depth + 1),
            }
        }
    }

    /// Writes a declaration with its body.
    fn declare(&mut self, id: TypeId, before: &str, after: &str) {
        self.text.push_str("  ");
        self.text.push_str(before);
        self.body(id, 1);
        let attributes = self.declarator.attributes(id, None);
        self.text.push_str(&format!("{after}{attributes};"));
        if let Some(Type::Struct(composite) | Type::Union(composite)) = self.plan.type_by_id(id) {
            let plural = if composite.size == 1 { "" } else { "s" };
            self.text
                .push_str(&format!(" /* {} byte{plural} */", composite.size));
        }
        self.text.push('\n');
    }

    /// Writes `struct name { ... }` without a line break at its end.
    fn body(&mut self, id: TypeId, depth: usize) {
        match self.plan.type_by_id(id) {
            Some(Type::Struct(composite)) => self.composite("struct", id, composite, depth),
            Some(Type::Union(composite)) => self.composite("union", id, composite, depth),
            Some(Type::Enum(list) | Type::Enum64(list)) => self.enumeration(list, depth),
            _ => {}
        }
    }

    fn composite(&mut self, keyword: &str, id: TypeId, composite: &'a Composite, depth: usize) {
        self.text
            .push_str(&head(keyword, composite.name.as_deref()));
        if depth > DEEPEST {
            self.text.push_str("… }");
            return;
        }
        self.text.push('\n');
        for (component, member) in (0_u32..).zip(&composite.members) {
            if self.declarator.fuel == 0 {
                self.text.push_str(&format!("{:1$}…\n", "", 2 + 8 * depth));
                break;
            }
            let mut name = plain(member.name.as_deref().unwrap_or_default()).into_owned();
            if let Some(bits) = member.bitfield_size {
                name = format!("{name}:{bits}");
            }
            self.text.push_str(&" ".repeat(2 + 8 * depth));
            self.member(member.ty, name, depth);
            self.text
                .push_str(&self.declarator.attributes(id, Some(component)));
            self.text.push_str(";\n");
        }
        self.text
            .push_str(&format!("{:1$}}}", "", 2 + 8 * (depth - 1)));
    }

    /// Writes a member; one of an anonymous type with its body.
    fn member(&mut self, ty: TypeId, name: String, depth: usize) {
        let Declaration {
            base,
            qualifiers,
            declarator,
        } = self.declarator.split(ty, name.clone(), 0);
        let anonymous = match self.plan.type_by_id(base) {
            Some(Type::Struct(composite) | Type::Union(composite)) => composite.name.is_none(),
            Some(Type::Enum(list) | Type::Enum64(list)) => list.name.is_none(),
            _ => false,
        };
        if !anonymous {
            let line = self.declarator.declare(ty, name, 0);
            self.text.push_str(&line);
            return;
        }
        self.text.push_str(&qualifiers);
        self.body(base, depth + 1);
        if !declarator.is_empty() {
            self.text.push(' ');
            self.text.push_str(&declarator);
        }
    }

    fn enumeration(&mut self, list: &Enum, depth: usize) {
        self.text.push_str(&head("enum", list.name.as_deref()));
        self.text.push('\n');
        let indent = " ".repeat(2 + 8 * depth);
        for variant in list.variants.iter().take(ENUMERATORS) {
            self.declarator.fuel = self.declarator.fuel.saturating_sub(1);
            let name = plain(&variant.name);
            let value = if list.signed {
                variant.value.cast_signed().to_string()
            } else {
                variant.value.to_string()
            };
            self.text.push_str(&format!("{indent}{name} = {value},\n"));
        }
        if list.variants.len() > ENUMERATORS {
            self.text.push_str(&format!("{indent}…\n"));
        }
        self.text
            .push_str(&format!("{:1$}}}", "", 2 + 8 * (depth - 1)));
    }
}

fn head(keyword: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{keyword} {} {{", plain(name)),
        None => format!("{keyword} {{"),
    }
}

#[cfg(test)]
mod tests;
