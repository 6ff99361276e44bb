//! Writing the initial contents of maps, and freezing them.

use std::borrow::Cow;

use bpfplan_plan::rules::Call;
use bpfplan_plan::{Code, Diagnostic, Map};

use crate::codes;
use crate::execute::Load;
use crate::kernel::{Errno, Kernel};
use crate::why::Refusal;

impl<K: Kernel> Load<'_, K> {
    /// Writes the value of the only element: what the plan has of it, then zeros.
    pub(crate) fn write_contents(&self, index: usize, map: &Map) -> Result<(), Diagnostic> {
        let Some(created) = self.made(index) else {
            return Ok(());
        };
        let value = self.initial_value(map);
        let written = value.and_then(|value| self.kernel.write(&created.fd, 0, &value));
        written.map_err(|errno| {
            let step = format!("writing its {} bytes of initial contents", map.value_size);
            self.failed(codes::CONTENTS_REFUSED, step, Call::Write, errno, map)
        })
    }

    /// The value of the only element of a map of global data, or of kernel configuration values.
    pub(crate) fn initial_value(&self, map: &Map) -> Result<Cow<'_, [u8]>, Errno> {
        let bytes = if map.externs.is_empty() {
            let bytes = self.contents.get(map.name.as_str()).copied();
            bytes.unwrap_or_default()
        } else {
            &self.kconfig.bytes
        };
        padded(bytes, map.value_size)
    }

    /// Freezes a map, so that user space cannot change the constants of programs.
    pub(crate) fn freeze(&self, index: usize, map: &Map) -> Result<(), Diagnostic> {
        let Some(created) = self.made(index) else {
            return Ok(());
        };
        self.kernel.freeze(&created.fd).map_err(|errno| {
            let step = "freezing it".to_owned();
            self.failed(codes::FREEZE_REFUSED, step, Call::Freeze, errno, map)
        })
    }

    fn failed(&self, code: Code, step: String, call: Call, errno: Errno, map: &Map) -> Diagnostic {
        let refusal = Refusal {
            code,
            step,
            call,
            errno,
            map,
            source: map.source.as_ref(),
        };
        refusal.explain(self.kernel, self.plan)
    }
}

/// `size` bytes that begin with `bytes`. Validation has bounded the size.
fn padded(bytes: &[u8], size: u32) -> Result<Cow<'_, [u8]>, Errno> {
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if bytes.len() == size {
        return Ok(bytes.into());
    }
    let mut value = Vec::new();
    value
        .try_reserve_exact(size)
        .map_err(|_| Errno(libc::ENOMEM))?;
    value.extend_from_slice(bytes);
    value.resize(size, 0);
    Ok(value.into())
}
