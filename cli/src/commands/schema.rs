//! `bpfplan schema`.

use std::io;

use bpfplan_plan::format;

use crate::args::{SchemaArgs, SchemaOf};
use crate::documents;
use crate::exit::Exit;
use crate::output;

/// Prints a JSON Schema.
///
/// # Errors
/// As [`output::result`].
pub(crate) fn run(args: &SchemaArgs) -> io::Result<Exit> {
    let schema = match args.output {
        SchemaOf::Plan => format::schema(),
        SchemaOf::Diagnostics => documents::diagnostics_schema(),
        SchemaOf::Load => documents::load_schema(),
        SchemaOf::Slots => documents::slots_schema(),
    };
    let mut text = serde_json::to_string_pretty(&schema)?;
    text.push('\n');
    output::result(&text)?;
    Ok(Exit::Done)
}
