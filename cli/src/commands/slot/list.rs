//! What is in the slots of an outer map.

use std::path::Path;

use bpfplan_loader::maps::{Info, InnerTemplate, MapHandle as _, OuterMap, RawMap, key_text};
use bpfplan_loader::record::Record;
use bpfplan_loader::{Errno, RealKernel};
use bpfplan_plan::rules::flags::flag_names;
use bpfplan_plan::{Diagnostic, MapType};

use crate::codes;
use crate::documents::{InnerMap, ListedSlot, ListedTemplate, SlotsDocument};
use crate::render::escape::plain;

/// Reads all slots. Maps that go away meanwhile are left out.
pub(super) fn read(outer: &OuterMap) -> Result<SlotsDocument, Diagnostic> {
    let raw = outer.map();
    let info = outer.info();
    let record = raw
        .pin()
        .map(|pin| match pin.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        })
        .and_then(|directory| Record::open(&RealKernel::new(), directory).ok());
    let mut slots = Vec::new();
    for slot in outer.ids() {
        let (key, id) = slot?;
        let map = match RawMap::from_id(id) {
            Ok(map) => Some(inner(map.info(), record.as_ref())),
            Err(error) if error.errno() == Some(Errno::ENOENT) => continue,
            // Without CAP_SYS_ADMIN, its id is all that is known.
            Err(error) if error.errno() == Some(Errno::EPERM) => None,
            Err(error) => return Err(error.into()),
        };
        let digits = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let index = key.as_slice().try_into().ok().map(u32::from_ne_bytes);
        slots.push((
            index,
            ListedSlot {
                index,
                key: digits,
                text: key_text(&key),
                id,
                map,
            },
        ));
    }
    slots.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| a.key.cmp(&b.key)));
    Ok(SlotsDocument {
        id: info.id,
        name: recorded_name(record.as_ref(), info.id).unwrap_or_else(|| info.name.clone()),
        map_type: info.map_type.to_string(),
        key_size: info.key_size,
        max_entries: info.max_entries,
        template: raw.inner_template().ok().map(template),
        slots: slots.into_iter().map(|(_, slot)| slot).collect(),
    })
}

fn recorded_name(record: Option<&Record>, id: u32) -> Option<String> {
    let map = record?.maps.iter().find(|map| map.id == id)?;
    Some(map.name.clone())
}

fn inner(info: &Info, record: Option<&Record>) -> InnerMap {
    InnerMap {
        name: recorded_name(record, info.id).unwrap_or_else(|| info.name.clone()),
        map_type: info.map_type.to_string(),
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        map_flags: info.map_flags,
    }
}

fn template(template: &InnerTemplate) -> ListedTemplate {
    let attributes = template.attributes();
    ListedTemplate {
        map_type: MapType(attributes.map_type).to_string(),
        key_size: attributes.key_size,
        value_size: attributes.value_size,
        max_entries: attributes.max_entries,
        map_flags: attributes.map_flags,
    }
}

pub(super) fn to_json(slots: &SlotsDocument) -> Result<String, Diagnostic> {
    let text = serde_json::to_string_pretty(slots);
    let mut text = text.map_err(|error| {
        Diagnostic::error(codes::UNWRITABLE, format!("the list is no JSON: {error}"))
    })?;
    text.push('\n');
    Ok(text)
}

/// The outer map, its template, then a line for each slot.
pub(super) fn to_text(slots: &SlotsDocument) -> String {
    let mut text = format!(
        "{}  {}  id {}  key {}B  max_entries {}\n",
        plain(&slots.name),
        slots.map_type,
        slots.id,
        slots.key_size,
        slots.max_entries
    );
    match &slots.template {
        Some(template) => {
            let entries = template
                .max_entries
                .map_or_else(|| "possible CPUs".to_owned(), |entries| entries.to_string());
            let sizes = (template.key_size, template.value_size);
            let facts = facts(&template.map_type, sizes, &entries, template.map_flags);
            text.push_str(&format!("  template  {facts}\n"));
        }
        None => text.push_str("  template  unknown: there is no record of the load\n"),
    }
    let rows: Vec<[String; 3]> = slots.slots.iter().map(row).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths = [width(0), width(1)];
    if !rows.is_empty() {
        text.push('\n');
    }
    for [slot, name, facts] in &rows {
        let [slot_width, name_width] = widths;
        let line = format!("  {slot:slot_width$}  {name:name_width$}  {facts}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let count = rows.len();
    let noun = if count == 1 { "slot" } else { "slots" };
    text.push_str(&format!("\n{count} {noun} filled.\n"));
    text
}

fn row(slot: &ListedSlot) -> [String; 3] {
    let (name, facts) = match &slot.map {
        Some(map) => {
            let sizes = (map.key_size, map.value_size);
            let entries = map.max_entries.to_string();
            let name = plain(&map.name).into_owned();
            (name, facts(&map.map_type, sizes, &entries, map.map_flags))
        }
        None => (
            String::new(),
            "(needs CAP_SYS_ADMIN to say more)".to_owned(),
        ),
    };
    let facts = format!("id {:<6}  {facts}", slot.id);
    [format!("[{}]", slot.text), name, facts]
}

fn facts(kind: &str, (key, value): (u32, u32), entries: &str, flags: u32) -> String {
    let mut text = format!("{kind}  key {key}B  value {value}B  max_entries {entries}");
    if flags != 0 {
        text.push_str(&format!("  {}", flag_names(flags).join("|")));
    }
    text
}
