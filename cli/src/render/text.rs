//! A plan for people: its steps, the maps of maps, the types, and what it comes to.

mod c_type;
mod globals;
mod initialiser;
mod kconfig;
mod maps_of_maps;
mod names;
mod rows;
mod summary;
mod types;

use bpfplan_plan::Plan;

use super::escape::plain;
use super::style::Style;

/// Renders the plan.
pub(crate) fn render(plan: &Plan, colour: bool) -> String {
    let style = Style::new(colour);
    let name = plain(&plan.object.name);
    let mut text = format!("{} ({})\n", style.bold(&name), plan.object.endianness);
    let blocks = [
        rows::render(plan, style),
        maps_of_maps::render(plan, style),
        globals::render(plan, style),
        kconfig::render(plan, style),
        types::render(plan, style),
        summary::render(plan, style),
    ];
    for block in blocks.iter().filter(|block| !block.is_empty()) {
        text.push('\n');
        text.push_str(block);
    }
    text
}
