//! What there is to say about maps that are pinned by name.

use std::collections::HashSet;
use std::path::Path;

use bpfplan_loader::{Kernel, Loaded, codes};
use bpfplan_plan::{Diagnostic, Pinning, Plan, Severity};

use crate::render::escape::plain;

/// Pins that a message spells out.
const SHOWN: usize = 4;

/// A dry run does not look at what is pinned; says so, and which pins are there.
pub(super) fn not_used(plan: &Plan, root: &Path) -> Option<Diagnostic> {
    let named = plan.maps.iter();
    let named: Vec<_> = named.filter(|map| map.pinning == Pinning::ByName).collect();
    if named.is_empty() {
        return None;
    }
    let there = named.iter().map(|map| root.join(&map.name));
    let there: Vec<_> = there
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    let message = "these are the calls of a load that finds no map pinned by name";
    let note = Diagnostic::new(codes::PINS_NOT_USED, Severity::Note, message);
    Some(if there.is_empty() {
        note
    } else {
        note.note(format!(
            "{} there now: a load reuses what is the declared map, and is refused otherwise",
            list(&there)
        ))
    })
}

/// Which pins `unload` does not remove: `, but not ...`, or nothing.
pub(super) fn staying<K: Kernel>(plan: &Plan, loaded: &Loaded<K>) -> String {
    let directory = loaded.record.as_deref().and_then(Path::parent);
    let named = plan.maps.iter();
    let named: HashSet<&str> = named
        .filter(|map| map.pinning == Pinning::ByName)
        .map(|map| map.name.as_str())
        .collect();
    let maps = loaded.maps.iter();
    let maps = maps.filter(|made| named.contains(made.name.as_str()));
    let paths = maps.filter_map(|made| {
        let path = made.pinned.as_ref()?;
        let recorded = !made.reused && path.parent() == directory;
        (!recorded).then(|| path.display().to_string())
    });
    let paths: Vec<String> = paths.collect();
    match (paths.is_empty(), directory) {
        (true, _) => String::new(),
        (false, Some(_)) => format!(", but not {}", without_verb(&paths)),
        (false, None) => "; what is pinned by name stays until it is removed".to_owned(),
    }
}

fn list(paths: &[String]) -> String {
    let verb = if paths.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", without_verb(paths))
}

fn without_verb(paths: &[String]) -> String {
    let mut shown: Vec<String> = paths
        .iter()
        .take(SHOWN)
        .map(|path| plain(path).into_owned())
        .collect();
    if paths.len() > SHOWN {
        shown.push(format!("{} more", paths.len() - SHOWN));
    }
    shown.join(", ")
}
