//! What `bpfplan check` would say, at build time.

use bpfplan_plan::rules::{self, KernelVersion, Target};
use bpfplan_plan::{Diagnostic, Plan, Severity};

use crate::codes;

/// Page size for which memory is estimated.
const PAGE_SIZE: u32 = 4096;

/// Memory that maps may need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) bytes: u64,
    pub(super) possible_cpus: u32,
}

/// Everything that is to be said about a plan.
pub(super) fn check(
    plan: &Plan,
    kernels: &[KernelVersion],
    budget: Option<Budget>,
) -> Vec<Diagnostic> {
    let required = rules::required(plan);
    let may_be_set = |found: &Diagnostic| {
        found.field.as_deref() == Some("max_entries")
            && required.iter().any(|required| {
                let inner = required.map.inner.as_deref().filter(|_| required.inner);
                let name = inner.map_or(&required.map.name, |inner| &inner.name);
                found.map.as_ref() == Some(name)
            })
    };
    let mut found: Vec<Diagnostic> = rules::lint(plan, kernels)
        .into_iter()
        .map(|found| {
            if may_be_set(&found) {
                // The program that is being built may set it before it loads.
                found
                    .as_warning()
                    .help("declare max_entries, or call set_max_entries before the load")
            } else {
                found
            }
        })
        .collect();
    found.extend(budget.and_then(|budget| too_much_memory(plan, budget)));
    found
}

fn too_much_memory(plan: &Plan, budget: Budget) -> Option<Diagnostic> {
    let target = Target {
        page_size: PAGE_SIZE,
        possible_cpus: budget.possible_cpus,
    };
    let needed = plan
        .maps
        .iter()
        .map(|map| (rules::memory(map, &target), map));
    let total = needed
        .clone()
        .fold(0_u64, |total, (bytes, _)| total.saturating_add(bytes));
    if total <= budget.bytes {
        return None;
    }
    let diagnostic = Diagnostic::error(
        codes::OVER_BUDGET,
        format!(
            "the maps need about {total} bytes when they are full, more than the {} that the \
             build allows",
            budget.bytes
        ),
    )
    .note(format!(
        "estimated for {} possible CPUs and pages of 4 KiB",
        budget.possible_cpus
    ));
    // Of equals the first.
    let largest = needed.rev().max_by_key(|(bytes, _)| *bytes);
    Some(match largest {
        Some((bytes, map)) => {
            let label = format!("the largest map, '{}', needs about {bytes} bytes", map.name);
            match &map.source {
                Some(_) => diagnostic.at(map.source.as_ref(), label),
                None => diagnostic.note(label),
            }
        }
        None => diagnostic,
    })
}

/// Makes errors of the warnings that are denied.
pub(super) fn deny(mut found: Vec<Diagnostic>, denied: &[String], all: bool) -> Vec<Diagnostic> {
    for diagnostic in &mut found {
        let is_denied = all || denied.iter().any(|code| code == diagnostic.code.0);
        if is_denied && diagnostic.severity == Severity::Warning {
            diagnostic.severity = Severity::Error;
            let why = if all {
                "all warnings are"
            } else {
                "this warning is"
            };
            diagnostic
                .notes
                .push(format!("{why} denied by the build script"));
        }
    }
    let unknown = denied.iter().filter(|code| !is_known(code));
    let unknown: Vec<Diagnostic> = unknown
        .map(|code| {
            Diagnostic::error(
                codes::UNKNOWN_CODE,
                format!("the build script denies '{code}', which is no code of bpfplan"),
            )
            .help("codes look like BP0408 and stand in the diagnostics")
        })
        .collect();
    found.extend(unknown);
    found
}

fn is_known(code: &str) -> bool {
    let mut all = bpfplan_plan::codes::ALL.iter().chain(codes::ALL);
    all.any(|(known, _)| known.0 == code)
}
