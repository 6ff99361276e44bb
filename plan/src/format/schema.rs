//! The JSON Schema of a plan.

use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{Schema, schema_for};
use serde_json::Value;

use crate::model::Plan;

/// What schemars calls the second `Map` that it meets: the one that is a template.
const SECOND_MAP: &str = "Map2";

pub(super) fn plan() -> Schema {
    let mut schema = schema_for!(Plan);
    rename(&mut schema, SECOND_MAP, "Template");
    schema
}

/// Gives a definition another name, wherever it is referred to.
fn rename(schema: &mut Schema, from: &str, to: &str) {
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut)
        && let Some(mut definition) = definitions.remove(from)
    {
        if let Some(description) = definition.get_mut("description") {
            *description =
                "The inner template of an outer map: a map without a template of its own.".into();
        }
        definitions.insert(to.to_owned(), definition);
    }
    let (from, to) = (format!("#/$defs/{from}"), format!("#/$defs/{to}"));
    RecursiveTransform(|part: &mut Schema| {
        if part.get("$ref").and_then(Value::as_str) == Some(from.as_str()) {
            part.insert("$ref".to_owned(), to.as_str().into());
        }
    })
    .transform(schema);
}
