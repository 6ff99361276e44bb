//! Validation of a plan that came from outside.
//!
//! A plan file is as untrusted as an object. What passes here can be executed without surprises:
//! names are unique, every reference leads somewhere, types can be walked, and the kernel gets
//! exactly the BTF that the plan shows.

use foldhash::{HashSet, HashSetExt as _};

use crate::codes;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Map, Plan};
use crate::rules;

mod contents;
mod externs;
mod header;
mod maps;
mod programs;
mod slots;
mod types;

pub use types::too_deep;

/// Problems that are reported one by one; the others are counted.
const SHOWN: usize = 100;

/// Checks everything that the loader relies on.
///
/// # Errors
/// All problems of the plan, up to a hundred, and how many there are more.
pub fn validate(plan: &Plan) -> Result<(), Vec<Diagnostic>> {
    let mut problems = Problems::default();
    header::check(plan, &mut problems);
    types::check(plan, &mut problems);
    let mut names = HashSet::with_capacity(plan.maps.len());
    for map in &plan.maps {
        if !names.insert(map.name.as_str()) {
            problems.map(
                map,
                codes::PLAN_NAME,
                "name",
                "another map has the same name",
            );
        }
        maps::check(plan, map, &mut problems);
        slots::check(map, &mut problems);
    }
    programs::check(plan, &mut problems);
    contents::check(plan, &mut problems);
    externs::check(plan, &mut problems);
    // What the kernel would say to the slots makes sense only for a sound plan.
    if problems.found.is_empty() {
        rules::each_slot_error(plan, |problem| problems.push(problem));
    }
    problems.finish()
}

#[derive(Default)]
struct Problems {
    found: Vec<Diagnostic>,
    more: usize,
}

impl Problems {
    fn push(&mut self, problem: Diagnostic) {
        if self.found.len() < SHOWN {
            self.found.push(problem);
        } else {
            self.more += 1;
        }
    }

    fn plan(&mut self, code: Code, message: impl Into<String>) {
        self.push(Diagnostic::error(code, message));
    }

    fn map<I>(&mut self, map: &Map<I>, code: Code, field: &str, message: impl Into<String>) {
        self.push(
            Diagnostic::error(code, message)
                .map(shown(&map.name))
                .field(field)
                .at(map.source.as_ref(), "declared here"),
        );
    }

    fn finish(mut self) -> Result<(), Vec<Diagnostic>> {
        if self.found.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            let message = format!("{} more problems are not shown", self.more);
            self.found
                .push(Diagnostic::error(codes::PLAN_MORE, message));
        }
        Err(self.found)
    }
}

/// A name from the plan for a message: not longer than a line.
fn shown(name: &str) -> String {
    const LENGTH: usize = 64;
    match name.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}...", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}
