//! What the kernel says to overridden maps.

use std::collections::{HashMap, HashSet};

use super::Override;
use super::change::Set;
use super::problem::{List, named};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Plan, SlotTarget};
use crate::rules;

/// Overrides that a diagnostic names.
const NAMED: usize = 3;

/// Checks the rules that hold for declarations: what was no problem before, or is one of a field
/// that was set, is the overrides' doing.
///
/// # Errors
/// What the kernel would refuse. What only looks wrong are the warnings.
pub(super) fn check(
    before: &Plan,
    after: &Plan,
    set: &[Set<'_>],
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let blame = Blame::new(set);
    let known = rules::lint(before, &[]);
    let known: HashSet<_> = known.iter().map(key).collect();
    let (mut errors, mut warnings) = (List::default(), List::default());
    for found in rules::lint(after, &[]) {
        let (_, map, field, _) = key(&found);
        let mut causes = blame.field(map, field);
        if causes.is_empty() {
            if known.contains(&key(&found)) {
                continue;
            }
            causes = blame.maps(&[map]);
        }
        let list = if found.is_error() {
            &mut errors
        } else {
            &mut warnings
        };
        if !list.is_full() {
            list.add(with(found, &causes));
        }
    }
    errors.finish()?;
    // What the kernel would say to the slots makes sense only for maps that it creates.
    let mut errors = List::default();
    rules::each_slot_error(after, |found| {
        if !errors.is_full() {
            let causes = blame.maps(&involved(after, &found));
            errors.add(with(found, &causes));
        }
    });
    errors.finish()?;
    Ok(warnings.into_inner())
}

type Key<'a> = (Code, &'a str, &'a str, &'a str);

fn key(found: &Diagnostic) -> Key<'_> {
    (
        found.code,
        found.map.as_deref().unwrap_or_default(),
        found.field.as_deref().unwrap_or_default(),
        &found.message,
    )
}

/// The outer map of a slot and the map in it.
fn involved<'a>(plan: &'a Plan, found: &'a Diagnostic) -> Vec<&'a str> {
    let outer = found.map.as_deref().unwrap_or_default();
    let slot = || {
        let field = found.field.as_deref()?.strip_prefix("values[")?;
        let index: u32 = field.strip_suffix(']')?.parse().ok()?;
        let slots = &plan.map(outer)?.slots;
        let slot = slots.iter().find(|slot| slot.index == index)?;
        match &slot.target {
            SlotTarget::Map(name) => Some(name.as_str()),
            SlotTarget::Program(_) => None,
        }
    };
    [Some(outer), slot()].into_iter().flatten().collect()
}

/// Which override may be the cause.
struct Blame<'a> {
    fields: HashMap<(&'a str, &'a str), Vec<&'a Override>>,
    maps: HashMap<&'a str, Vec<&'a Override>>,
}

impl<'a> Blame<'a> {
    fn new(set: &'a [Set<'a>]) -> Self {
        let mut this = Self {
            fields: HashMap::new(),
            maps: HashMap::new(),
        };
        for Set { set, map, field } in set {
            this.fields.entry((map, field)).or_default().push(set);
            this.maps.entry(map).or_default().push(set);
        }
        this
    }

    fn field(&self, map: &str, field: &str) -> Vec<&'a Override> {
        let causes = self.fields.get(&(map, field)).into_iter().flatten();
        causes.take(NAMED).copied().collect()
    }

    fn maps(&self, maps: &[&str]) -> Vec<&'a Override> {
        let causes = maps.iter().filter_map(|map| self.maps.get(map)).flatten();
        causes.take(NAMED).copied().collect()
    }
}

fn with(found: Diagnostic, causes: &[&Override]) -> Diagnostic {
    let notes = causes.iter().map(|set| named(set));
    notes.fold(found, Diagnostic::note)
}
