//! The variables of global data with their initial values, declared as in C.

use bpfplan_plan::globals::{Variable, variables};
use bpfplan_plan::types::Linkage;
use bpfplan_plan::{Data, Map, Plan};

use super::c_type::Declarator;
use super::initialiser::{Initialiser, quoted};
use super::rows::count;
use crate::render::escape::plain;
use crate::render::style::Style;

/// Parts of types and values that are written before the rest is left to JSON.
const FUEL: usize = 4000;
/// Bytes that are shown of what no variable names.
const UNNAMED_SHOWN: usize = 64;

/// Renders the variables of every map of global data.
pub(super) fn render(plan: &Plan, style: Style) -> String {
    let contents = plan.contents_by_map();
    let mut declarator = Declarator::new(plan, FUEL);
    let mut values = Initialiser::new(plan, FUEL);
    let mut text = String::new();
    for map in &plan.maps {
        let Some(data) = &map.data else { continue };
        text.push_str(&title(map, data, style));
        let bytes = contents.get(map.name.as_str()).copied().unwrap_or_default();
        let mut hidden = 0_usize;
        for variable in variables(plan, map, bytes) {
            if declarator.fuel == 0 || values.fuel == 0 {
                hidden += 1;
                continue;
            }
            let line = declaration(&mut declarator, &mut values, &variable);
            text.push_str(&format!("          {line}\n"));
        }
        if hidden > 0 {
            let more = count(hidden, "more variable");
            text.push_str(&format!("          /* and {more}: see --format json */\n"));
        }
        let unnamed = unnamed(plan, map, bytes);
        if !unnamed.is_empty() {
            let start = unnamed.get(..UNNAMED_SHOWN).unwrap_or(&unnamed);
            let cut = if start.len() < unnamed.len() {
                "…"
            } else {
                ""
            };
            let line = format!("/* without a name: {}{cut} */", comment(&quoted(start)));
            text.push_str(&format!("          {}\n", style.dim(&line)));
        }
    }
    text
}

fn title(map: &Map, data: &Data, style: Style) -> String {
    let frozen = if data.frozen { ", read-only" } else { "" };
    let size = count(data.size, "byte");
    let name = style.bold(&plain(&map.name));
    let arena = if map.is_arena() {
        " in the arena, written by libbpf"
    } else {
        ""
    };
    format!("  {name} {size} of global data{frozen}{arena}\n")
}

/// `static int counter = 1;`
fn declaration(
    declarator: &mut Declarator<'_>,
    values: &mut Initialiser<'_>,
    variable: &Variable<'_>,
) -> String {
    let linkage = match variable.linkage {
        Linkage::Static => "static ",
        Linkage::Global | Linkage::Extern => "",
    };
    let name = plain(variable.name).into_owned();
    let left = declarator.declare(variable.ty, name, 0);
    let value = values.value(variable.ty, variable.bytes);
    format!("{linkage}{left} = {value};")
}

/// The bytes outside of all variables from the first to the last that is not zero: strings and
/// constants of the compiler.
fn unnamed<I>(plan: &Plan, map: &Map<I>, bytes: &[u8]) -> Vec<u8> {
    let mut left = Vec::new();
    let mut end = 0;
    let mut add = |start: usize, end: usize| {
        let gap = bytes.get(start..end.min(bytes.len())).unwrap_or_default();
        if gap.iter().any(|byte| *byte != 0) {
            left.extend_from_slice(gap);
        }
    };
    for variable in variables(plan, map, bytes) {
        let start = usize::try_from(variable.offset).unwrap_or(usize::MAX);
        add(end, start);
        let size = usize::try_from(variable.size).unwrap_or(usize::MAX);
        end = end.max(start.saturating_add(size));
    }
    add(end, bytes.len());
    left
}

/// Text that does not end a comment.
fn comment(text: &str) -> String {
    text.replace("*/", "*\\/")
}
