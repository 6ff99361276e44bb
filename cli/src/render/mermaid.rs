//! A plan as a graph for Mermaid.

use std::collections::HashMap;
use std::fmt::Write as _;

use bpfplan_plan::{Plan, SlotTarget};

use super::escape::plain;
use super::graph::{edges, lines};

/// Renders a `flowchart`: a box per map, a dashed edge to its template, an edge per slot.
pub(crate) fn render(plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    let mut ids = HashMap::new();
    for (n, map) in plan.maps.iter().enumerate() {
        ids.insert(map.name.as_str(), n);
        let _ = writeln!(text, "  m{n}[{}]", quoted(&lines(map)));
    }
    let mut programs = HashMap::new();
    for (n, map) in plan.maps.iter().enumerate() {
        if let Some(inner) = &map.inner {
            let _ = writeln!(text, "  t{n}[{}]", quoted(&lines(inner)));
            let _ = writeln!(text, "  style t{n} stroke-dasharray: 4");
            let _ = writeln!(text, "  m{n} -.->|template| t{n}");
        }
        for (target, label) in edges(map) {
            let label = quoted(&[label]);
            match target {
                SlotTarget::Map(name) => {
                    if let Some(to) = ids.get(name.as_str()) {
                        let _ = writeln!(text, "  m{n} -->|{label}| m{to}");
                    }
                }
                SlotTarget::Program(name) => {
                    let next = programs.len();
                    let to = *programs.entry(name).or_insert(next);
                    if to == next {
                        let name = quoted(&[plain(name).into_owned()]);
                        let _ = writeln!(text, "  p{to}([{name}])");
                    }
                    let _ = writeln!(text, "  m{n} -->|{label}| p{to}");
                }
            }
        }
    }
    text
}

/// A quoted string. Mermaid has no escape character; what could mean something, to it or to
/// Markdown or HTML, becomes its entity code `#<number>;`.
fn quoted(lines: &[String]) -> String {
    let lines: Vec<String> = lines
        .iter()
        .map(|line| {
            line.chars().fold(String::new(), |mut text, c| {
                if c.is_alphanumeric() || " _.,:()[]{}/".contains(c) {
                    text.push(c);
                } else {
                    let _ = write!(text, "#{};", u32::from(c));
                }
                text
            })
        })
        .collect();
    format!("\"{}\"", lines.join("<br/>"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_name_ends_its_string() {
        let name = "a\"] --> b[\"<img>`#35;".to_owned();
        assert_eq!(
            super::quoted(&[name]),
            "\"a#34;] #45;#45;#62; b[#34;#60;img#62;#96;#35;35#59;\""
        );
    }
}
