//! Names of C as identifiers of Rust, the same ones every time.

use std::collections::{HashMap, HashSet};

/// Keywords of all editions up to 2024, strict and reserved, that may be raw identifiers.
const KEYWORDS: [&str; 48] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
    "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];

/// Words that cannot even be raw identifiers.
const NEVER: [&str; 5] = ["self", "Self", "super", "crate", "_"];

/// Types of the prelude's language level: a struct of such a name would hide them.
const PRIMITIVES: [&str; 17] = [
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "str", "u8", "u16",
    "u32", "u64", "u128", "usize",
];

/// What the module itself has beside the struct with the maps.
const MODULES: [&str; 2] = ["bindings", "types"];

/// Longest identifier; what a name has beyond that is left out.
const LONGEST: usize = 200;

/// An identifier without regard to keywords: what Rust does not take becomes `_`.
pub(super) fn plain(name: &str) -> String {
    let taken = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut text: String = name
        .chars()
        .take(LONGEST)
        .map(|c| if taken(c) { c } else { '_' })
        .collect();
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) {
        text.insert(0, '_');
    }
    text
}

/// An identifier that stands for `name`.
pub(super) fn identifier(name: &str) -> String {
    let text = plain(name);
    if NEVER.contains(&text.as_str()) {
        format!("{text}_")
    } else if KEYWORDS.contains(&text.as_str()) {
        format!("r#{text}")
    } else {
        text
    }
}

/// An identifier for a type.
pub(super) fn type_identifier(name: &str) -> String {
    let text = identifier(name);
    if PRIMITIVES.contains(&text.as_str()) {
        format!("{text}_")
    } else {
        text
    }
}

/// An identifier for the struct with the maps.
pub(super) fn module_identifier(name: &str) -> String {
    let text = type_identifier(name);
    if MODULES.contains(&text.as_str()) {
        format!("{text}_")
    } else {
        text
    }
}

/// `flow_table.v2` as `FlowTableV2`.
pub(super) fn camel(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let mut text = String::new();
    for word in words {
        let mut chars = word.chars();
        text.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        text.push_str(chars.as_str());
    }
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || text == "Self" {
        text.insert_str(0, "Bpf");
    }
    text
}

/// Names that are taken in one scope. Where a name is taken, the next one gets `_2`, `_3` and so
/// on, in the order in which they are asked for.
#[derive(Debug, Default)]
pub(super) struct Scope {
    taken: HashSet<String>,
    next: HashMap<String, u32>,
}

impl Scope {
    /// Takes a name like `name` that is free.
    pub(super) fn take(&mut self, name: String) -> String {
        if self.taken.insert(name.clone()) {
            return name;
        }
        let stem = name.strip_prefix("r#").unwrap_or(&name).to_owned();
        loop {
            let count = self.next.entry(stem.clone()).or_insert(1);
            *count += 1;
            let other = format!("{stem}_{count}");
            if self.taken.insert(other.clone()) {
                return other;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Scope, camel, identifier, type_identifier};

    #[test]
    fn names_become_identifiers() {
        for (c, rust) in [
            ("flows", "flows"),
            ("type", "r#type"),
            ("gen", "r#gen"),
            ("self", "self_"),
            ("Self", "Self_"),
            ("_", "__"),
            ("", "__"),
            ("a.b$c", "a_b_c"),
            ("8bit", "_8bit"),
            ("größe", "gr__e"),
        ] {
            assert_eq!(identifier(c), rust, "{c}");
        }
        assert_eq!(type_identifier("u64"), "u64_");
        assert_eq!(type_identifier("flow"), "flow");
    }

    #[test]
    fn objects_become_types() {
        for (name, rust) in [
            ("flow", "Flow"),
            ("flow_table.v2", "FlowTableV2"),
            ("4tuple", "Bpf4tuple"),
            ("self", "BpfSelf"),
            ("-", "Bpf"),
        ] {
            assert_eq!(camel(name), rust);
        }
    }

    #[test]
    fn names_that_are_taken_are_numbered() {
        let mut scope = Scope::default();
        let names = ["a", "a_2", "a", "a", "r#type", "r#type"];
        let taken: Vec<String> = names
            .into_iter()
            .map(|name| scope.take(name.to_owned()))
            .collect();
        assert_eq!(taken, ["a", "a_2", "a_3", "a_4", "r#type", "type_2"]);
    }
}
