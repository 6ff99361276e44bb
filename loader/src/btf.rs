//! Loading the plan's BTF.

use bpfplan_plan::btf::{Features, encode, sanitize};
use bpfplan_plan::rules::Call;
use bpfplan_plan::{Diagnostic, Template};

use crate::codes;
use crate::execute::Load;
use crate::kernel::{Errno, Kernel};
use crate::why::reasons;

/// How many of the last lines of the kernel's log are shown.
const LOG_LINES: usize = 6;
/// How much of such a line is shown, in characters.
const LOG_WIDTH: usize = 160;

/// Something in BTF that a kernel may not know, and how to do without.
type Kind = (&'static str, fn(&mut Features));

/// The newest first: a kernel that does not know one does not know those before it either.
const KINDS: &[Kind] = &[
    ("`?` or `-` in a DATASEC's name (Linux 6.9)", |features| {
        features.question_mark = false
    }),
    ("ENUM64 and signed enums (Linux 6.0)", |features| {
        features.enum64 = false
    }),
    ("TYPE_TAG (Linux 5.17)", |features| {
        features.type_tag = false
    }),
    ("DECL_TAG (Linux 5.16)", |features| {
        features.decl_tag = false
    }),
    ("FLOAT (Linux 5.13)", |features| features.float = false),
    ("VAR and DATASEC (Linux 5.2)", |features| {
        features.datasec = false
    }),
];

impl<K: Kernel> Load<'_, K> {
    /// Loads the BTF, in a simpler form or not at all if the kernel refuses it: maps work without
    /// their types, so this is a warning, as in libbpf.
    pub(crate) fn load_btf(&mut self) {
        let plan = self.plan;
        let blob = &plan.btf;
        let errno = match self.with_memlock(|kernel| kernel.load_btf(blob, None)) {
            Ok(fd) => {
                self.btf = Some(fd);
                return;
            }
            Err(errno) => errno,
        };
        let mut log = String::new();
        if let Ok(fd) = self.kernel.load_btf(blob, Some(&mut log)) {
            self.btf = Some(fd);
            return;
        }
        let warning = self.load_simpler_btf(errno);
        self.diagnostics
            .push(self.explain_btf(warning, errno, &log));
    }

    /// Rewrites kinds that older kernels do not know, the newest first, until the kernel is
    /// content. Ids stay the same, so maps need not know.
    fn load_simpler_btf(&mut self, errno: Errno) -> Diagnostic {
        let plan = self.plan;
        let count = usize::try_from(plan.kernel_types).unwrap_or(usize::MAX);
        let original = plan.types.get(..count).unwrap_or_default();
        let mut types = original.to_vec();
        let mut features = Features::ALL;
        let mut unknown = Vec::new();
        // An unknown kind gives EINVAL; after another error, simpler BTF fails the same way.
        let kinds = if errno == Errno::EINVAL { KINDS } else { &[] };
        for (kind, forget) in kinds {
            forget(&mut features);
            let simpler = sanitize(original, &features);
            if simpler == types {
                continue;
            }
            types = simpler;
            unknown.push(*kind);
            let Ok(blob) = encode(&types, plan.object.endianness) else {
                break;
            };
            if let Ok(fd) = self.kernel.load_btf(&blob, None) {
                self.btf = Some(fd);
                self.btf_blob = blob.into();
                return Diagnostic::warning(
                    codes::BTF_REDUCED,
                    format!(
                        "loading the BTF failed: {errno}; it was loaded without {}",
                        unknown.join(", ")
                    ),
                );
            }
        }
        Diagnostic::warning(
            codes::BTF_REDUCED,
            format!("loading the BTF failed: {errno}; the maps have no types in this kernel"),
        )
    }

    fn explain_btf(&self, mut warning: Diagnostic, errno: Errno, log: &str) -> Diagnostic {
        warning.notes = reasons(
            self.kernel,
            Call::BtfLoad,
            errno,
            None::<&Template>,
            self.plan,
        );
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.len().saturating_sub(LOG_LINES);
        for line in lines.get(last..).unwrap_or_default() {
            let line: String = line.chars().take(LOG_WIDTH).collect();
            warning
                .notes
                .push(format!("the kernel's log: {}", line.escape_debug()));
        }
        warning
    }
}
