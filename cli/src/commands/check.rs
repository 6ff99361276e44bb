//! `bpfplan check`.

use std::io;
use std::path::Path;

use bpfplan_loader::{Kernel as _, RealKernel};
use bpfplan_plan::rules::{self, Target};
use bpfplan_plan::{Diagnostic, Plan};

use crate::args::{CheckArgs, CheckFormat};
use crate::codes;
use crate::exit::Exit;
use crate::input;
use crate::output;
use crate::render::diagnostics::{github, json, short};
use crate::size::{Size, human};

/// Checks each file by itself.
///
/// # Errors
/// As [`output::result`].
pub(crate) fn run(args: &CheckArgs) -> io::Result<Exit> {
    let mut diagnostics = Vec::new();
    for path in &args.inputs {
        diagnostics.extend(check(path, args));
    }
    match args.format {
        CheckFormat::Text => output::diagnostics(&diagnostics),
        CheckFormat::Short => output::talk_lines(&short::render(&diagnostics)),
        CheckFormat::Json => output::result(&json::render(&diagnostics)?)?,
        CheckFormat::Github => output::result(&github::render(&diagnostics))?,
    }
    let refused = diagnostics.iter().any(Diagnostic::is_error);
    Ok(if refused { Exit::Refused } else { Exit::Done })
}

fn check(path: &Path, args: &CheckArgs) -> Vec<Diagnostic> {
    let paths = [path.to_owned()];
    let input = match input::read(&paths, false) {
        Ok(input) => input,
        Err(diagnostics) => return diagnostics,
    };
    let mut diagnostics = input.warnings;
    diagnostics.extend(rules::lint(&input.plan, &args.kernels));
    diagnostics.extend(
        args.max_memory
            .and_then(|limit| too_much_memory(&input.plan, limit)),
    );
    input::with_name(&paths, diagnostics)
}

/// Adds up what the maps need on this machine.
fn too_much_memory(plan: &Plan, limit: Size) -> Option<Diagnostic> {
    let kernel = RealKernel::new();
    let target = Target {
        page_size: kernel.page_size(),
        possible_cpus: kernel.possible_cpus().unwrap_or(1),
    };
    let memory = |map| rules::memory(map, &target);
    let total = plan
        .maps
        .iter()
        .map(memory)
        .fold(0_u64, u64::saturating_add);
    if total <= limit.0 {
        return None;
    }
    let mut diagnostic = Diagnostic::error(
        codes::TOO_MUCH_MEMORY,
        format!(
            "the maps need about {} when they are full, more than the {} that --max-memory allows",
            human(total),
            human(limit.0),
        ),
    )
    .note(format!(
        "estimated for {} possible CPUs and pages of {}, as on this machine",
        target.possible_cpus,
        human(target.page_size.into()),
    ));
    // Of equals the first.
    if let Some(largest) = plan.maps.iter().rev().max_by_key(|map| memory(map)) {
        let size = human(memory(largest));
        let label = format!("the largest map, '{}', needs about {size}", largest.name);
        diagnostic = match &largest.source {
            Some(_) => diagnostic.at(largest.source.as_ref(), label),
            None => diagnostic.note(label),
        };
    }
    Some(diagnostic)
}
