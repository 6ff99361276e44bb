//! Reading the file of `--kconfig`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use bpfplan_loader::KernelConfig;
use bpfplan_plan::Diagnostic;

use crate::codes;

/// Largest file that is taken for a kernel's configuration.
const MAX_SIZE: u64 = 16 << 20;

/// Reads a kernel configuration, compressed by gzip or not.
///
/// # Errors
/// Why the file cannot be read.
pub(crate) fn read(path: &Path) -> Result<KernelConfig, Vec<Diagnostic>> {
    let refused = |why: &str| {
        let message = format!("{} cannot be read: {why}", path.display());
        let problem = Diagnostic::error(codes::UNREADABLE, message);
        vec![problem.help("--kconfig takes a file such as /boot/config-6.1.0 or config.gz")]
    };
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_SIZE + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| refused(&error.to_string()))?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > MAX_SIZE) {
        let limit = MAX_SIZE >> 20;
        return Err(refused(&format!("it is larger than {limit} MiB")));
    }
    Ok(KernelConfig {
        name: path.to_string_lossy().into_owned(),
        bytes,
    })
}
