//! `bpfplan slot`.

mod key;
mod list;

use std::io;
use std::path::Path;

use bpfplan_loader::codes::SLOT_EMPTY;
use bpfplan_loader::maps::{InnerTemplate, MapError, MapHandle as _, OuterMap, RawMap, key_text};
use bpfplan_plan::Diagnostic;

use crate::args::{
    DeclaredArgs, PlainFormat, SlotArgs, SlotClearArgs, SlotCommand, SlotListArgs, SlotSetArgs,
};
use crate::exit::Exit;
use crate::input;
use crate::output;
use crate::render::escape::plain;

/// Shows, fills or empties slots of an outer map.
///
/// # Errors
/// As [`output::result`].
pub(crate) fn run(args: &SlotArgs) -> io::Result<Exit> {
    let (pin, result, json) = match &args.command {
        SlotCommand::List(args) => {
            let json = args.format == PlainFormat::Json;
            (&args.pin, list_slots(args, json), json)
        }
        SlotCommand::Set(args) => (&args.pin, set(args), false),
        SlotCommand::Clear(args) => (&args.pin, clear(args), false),
    };
    match result {
        Ok(text) => {
            output::result(&text)?;
            Ok(Exit::Done)
        }
        Err(Refusal(mut diagnostics)) => {
            for diagnostic in &mut diagnostics {
                // Those of a plan have its name already.
                let pin = || pin.to_string_lossy().into_owned();
                diagnostic.object.get_or_insert_with(pin);
            }
            output::failure(&diagnostics, json)?;
            Ok(Exit::Refused)
        }
    }
}

/// Why something was not done.
struct Refusal(Vec<Diagnostic>);

impl<D: Into<Diagnostic>> From<D> for Refusal {
    fn from(diagnostic: D) -> Self {
        Self(vec![diagnostic.into()])
    }
}

/// An outer map, whose template comes from the plan if one is named.
fn outer(map: RawMap, declared: &DeclaredArgs) -> Result<OuterMap, Refusal> {
    let outer = OuterMap::from_map(map)?;
    let Some(plan) = &declared.plan else {
        return Ok(outer);
    };
    let input = input::read(std::slice::from_ref(plan), false).map_err(Refusal)?;
    let template = match &declared.plan_map {
        Some(name) => InnerTemplate::from_plan(&input.plan, name),
        None => InnerTemplate::matching(&input.plan, outer.map()),
    };
    Ok(OuterMap::from_map(
        outer.into_map().with_template(template?),
    )?)
}

fn list_slots(args: &SlotListArgs, json: bool) -> Result<String, Refusal> {
    let map = RawMap::from_pin_read_only(&args.pin)?;
    let slots = list::read(&outer(map, &args.declared)?)?;
    if json {
        Ok(list::to_json(&slots)?)
    } else {
        Ok(list::to_text(&slots))
    }
}

fn set(args: &SlotSetArgs) -> Result<String, Refusal> {
    let outer = outer(RawMap::from_pin(&args.pin)?, &args.declared)?;
    let key = key::parse(&args.key, outer.info())?;
    let inner = match &args.target.map {
        Some(pin) => {
            let opened = RawMap::from_pin_read_only(pin);
            opened.map_err(|error| about(error, pin))?
        }
        None => {
            let builder = outer.template()?;
            let builder = match args.max_entries {
                Some(entries) => builder.max_entries(entries),
                None => builder,
            };
            builder.create()?
        }
    };
    let old = outer.id_at(&key)?;
    outer.insert(&key, &inner)?;
    let info = inner.info();
    let what = if args.target.new { "a new map" } else { "map" };
    let replaced = old.map_or_else(String::new, |id| format!(", in place of id {id}"));
    let name = outer.map().name();
    Ok(format!(
        "{name}[{slot}] = {what} '{inner}', id {id}, {kind} of {entries} entries{replaced}\n",
        name = plain(name),
        slot = key_text(&key),
        inner = plain(&info.name),
        id = info.id,
        kind = info.map_type,
        entries = info.max_entries,
    ))
}

fn clear(args: &SlotClearArgs) -> Result<String, Refusal> {
    let outer = OuterMap::from_pin(&args.pin)?;
    let key = key::parse(&args.key, outer.info())?;
    let slot = key_text(&key);
    let old = outer.id_at(&key)?;
    let name = outer.map().name();
    if !outer.remove(&key)? {
        let message = format!("slot {slot} is empty already");
        let diagnostic = Diagnostic::error(SLOT_EMPTY, message)
            .map(name)
            .help("`bpfplan slot list` shows the slots that hold maps");
        return Err(diagnostic.into());
    }
    let id = old.map_or_else(String::new, |id| format!(", which held id {id}"));
    Ok(format!("emptied {}[{slot}]{id}\n", plain(name)))
}

/// A diagnostic about the other pin.
fn about(error: MapError, pin: &Path) -> Diagnostic {
    Diagnostic::from(error).field(format!("--map {}", pin.display()))
}
