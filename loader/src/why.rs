//! Diagnostics of calls that the kernel refused.

use bpfplan_plan::rules::{Call, explain, memory};
use bpfplan_plan::{Code, Diagnostic, Map, Plan, Source};

use crate::kernel::{Errno, Kernel};

/// A call that failed: what was being done, for which map, and what the kernel answered.
#[derive(Debug)]
pub(crate) struct Refusal<'a, I> {
    pub(crate) code: Code,
    /// What was being done: `creating it`.
    pub(crate) step: String,
    pub(crate) call: Call,
    pub(crate) errno: Errno,
    /// The map of the call.
    pub(crate) map: &'a Map<I>,
    /// The map's declaration, or the one around it.
    pub(crate) source: Option<&'a Source>,
}

impl<I> Refusal<'_, I> {
    /// The diagnostic, with all that is known about the reasons.
    pub(crate) fn explain<K: Kernel>(&self, kernel: &K, plan: &Plan) -> Diagnostic {
        let message = format!("{} failed: {}", self.step, self.errno);
        let mut diagnostic = Diagnostic::error(self.code, message)
            .map(&self.map.name)
            .at(self.source, "declared here");
        diagnostic.notes = reasons(kernel, self.call, self.errno, Some(self.map), plan);
        if self.call == Call::MapCreate && matches!(self.errno.0, libc::ENOMEM | libc::E2BIG) {
            diagnostic.notes.extend(size(kernel, self.map));
        }
        if self.errno.0 == libc::EMFILE {
            diagnostic.help = Some(
                "allow more descriptors with `ulimit -n`; a load with `LoadOptions::raise_nofile` \
                 does that itself"
                    .to_owned(),
            );
        }
        diagnostic
    }
}

/// How much the map wants, if that is much.
fn size<K: Kernel, I>(kernel: &K, map: &Map<I>) -> Option<String> {
    /// Less is never the reason.
    const MUCH: u64 = 1 << 20;
    let bytes = memory(map, &kernel.target().ok()?);
    (bytes >= MUCH).then(|| format!("full, it takes about {} MiB", bytes >> 20))
}

/// Why the kernel may have answered so, most likely first.
pub(crate) fn reasons<K: Kernel, I>(
    kernel: &K,
    call: Call,
    errno: Errno,
    map: Option<&Map<I>>,
    plan: &Plan,
) -> Vec<String> {
    explain(call, errno.0, map, &plan.types, kernel.version())
}
