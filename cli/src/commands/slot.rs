//! `bpfplan slot`.

mod key;
mod list;

use std::io;
use std::path::Path;

use bpfplan_loader::codes::SLOT_EMPTY;
use bpfplan_loader::maps::{MapError, MapHandle as _, OuterMap, RawMap, key_text};
use bpfplan_plan::Diagnostic;

use crate::args::{PlainFormat, SlotArgs, SlotClearArgs, SlotCommand, SlotListArgs, SlotSetArgs};
use crate::exit::Exit;
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
        Err(mut diagnostic) => {
            diagnostic.object = Some(pin.to_string_lossy().into_owned());
            output::failure(&[diagnostic], json)?;
            Ok(Exit::Refused)
        }
    }
}

fn list_slots(args: &SlotListArgs, json: bool) -> Result<String, Diagnostic> {
    let map = RawMap::from_pin_read_only(&args.pin)?;
    let slots = list::read(&OuterMap::from_map(map)?)?;
    if json {
        list::to_json(&slots)
    } else {
        Ok(list::to_text(&slots))
    }
}

fn set(args: &SlotSetArgs) -> Result<String, Diagnostic> {
    let outer = OuterMap::from_pin(&args.pin)?;
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

fn clear(args: &SlotClearArgs) -> Result<String, Diagnostic> {
    let outer = OuterMap::from_pin(&args.pin)?;
    let key = key::parse(&args.key, outer.info())?;
    let slot = key_text(&key);
    let old = outer.id_at(&key)?;
    let name = outer.map().name();
    if !outer.remove(&key)? {
        let message = format!("slot {slot} is empty already");
        return Err(Diagnostic::error(SLOT_EMPTY, message)
            .map(name)
            .help("`bpfplan slot list` shows the slots that hold maps"));
    }
    let id = old.map_or_else(String::new, |id| format!(", which held id {id}"));
    Ok(format!("emptied {}[{slot}]{id}\n", plain(name)))
}

/// A diagnostic about the other pin.
fn about(error: MapError, pin: &Path) -> Diagnostic {
    Diagnostic::from(error).field(format!("--map {}", pin.display()))
}
