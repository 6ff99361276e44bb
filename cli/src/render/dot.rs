//! A plan as a graph for Graphviz.

use std::collections::HashMap;
use std::fmt::Write as _;

use bpfplan_plan::{Plan, SlotTarget};

use super::escape::plain;
use super::graph::{edges, lines};

/// Renders a `digraph`: a box per map, a dashed box per template, an edge per slot.
pub(crate) fn render(plan: &Plan) -> String {
    let mut text = String::from("digraph plan {\n");
    let _ = writeln!(
        text,
        "  label={};",
        quoted(&[plain(&plan.object.name).into_owned()])
    );
    text.push_str("  rankdir=LR;\n  node [shape=box];\n");
    let mut ids = HashMap::new();
    for (n, map) in plan.maps.iter().enumerate() {
        ids.insert(map.name.as_str(), n);
        let _ = writeln!(text, "  m{n} [label={}];", quoted(&lines(map)));
    }
    let mut programs = HashMap::new();
    for (n, map) in plan.maps.iter().enumerate() {
        if let Some(inner) = &map.inner {
            let _ = writeln!(
                text,
                "  t{n} [label={}, style=dashed];",
                quoted(&lines(inner))
            );
            let _ = writeln!(text, "  m{n} -> t{n} [label=\"template\", style=dashed];");
        }
        for (target, label) in edges(map) {
            let label = quoted(&[label]);
            match target {
                SlotTarget::Map(name) => {
                    if let Some(to) = ids.get(name.as_str()) {
                        let _ = writeln!(text, "  m{n} -> m{to} [label={label}];");
                    }
                }
                SlotTarget::Program(name) => {
                    let next = programs.len();
                    let to = *programs.entry(name).or_insert(next);
                    if to == next {
                        let name = quoted(&[plain(name).into_owned()]);
                        let _ = writeln!(text, "  p{to} [label={name}, shape=ellipse];");
                    }
                    let _ = writeln!(text, "  m{n} -> p{to} [label={label}];");
                }
            }
        }
    }
    text.push_str("}\n");
    text
}

/// A quoted string. Backslashes are doubled, because `\N` and `\G` mean something in a label; so
/// do HTML's entities such as `&lt;`.
fn quoted(lines: &[String]) -> String {
    let lines: Vec<String> = lines
        .iter()
        .map(|line| {
            line.replace('&', "&amp;")
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
        })
        .collect();
    format!("\"{}\"", lines.join("\\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_name_ends_its_string() {
        let name = "a\"]; x -> y [label=\"\\N&lt;\\".to_owned();
        assert_eq!(
            super::quoted(&[name]),
            r#""a\"]; x -> y [label=\"\\N&amp;lt;\\""#
        );
    }
}
