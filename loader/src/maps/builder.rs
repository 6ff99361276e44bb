//! Making inner maps that an outer map takes.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use bpfplan_plan::rules::{Call, KernelVersion, explain, ring_buffer_size, same_entries};
use bpfplan_plan::{BtfIds, Diagnostic, MapType, MaxEntries, uapi};

use super::template::{InnerTemplate, SameBtf, Types, types_of};
use super::{MapError, MapHandle, RawMap, outer};
use crate::codes;
use crate::create::{DOTS_IN_NAMES, MEMCG_ACCOUNTING, NAMES};
use crate::kernel::{Errno, Kernel, MapAttributes, MapBtf};
use crate::sys::{Descriptor, RealElements, RealKernel};

/// Makes inner maps for an outer map: of the same kind, with the same sizes, flags and types.
/// The number of entries may be another one where the kernel allows it.
///
/// One builder makes as many maps as one likes.
#[derive(Debug)]
pub struct InnerBuilder<'o, I> {
    outer: &'o RawMap,
    template: InnerTemplate,
    max_entries: Option<u32>,
    name: Option<String>,
    /// The types as the kernel has them, once they were needed.
    btf: OnceLock<(Descriptor, BtfIds)>,
    inner: PhantomData<fn() -> I>,
}

impl<'o, I: MapHandle> InnerBuilder<'o, I> {
    pub(super) fn new(outer: &'o RawMap) -> Result<Self, MapError> {
        Ok(Self {
            outer,
            template: outer.inner_template()?.clone(),
            max_entries: None,
            name: None,
            btf: OnceLock::new(),
            inner: PhantomData,
        })
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &InnerTemplate {
        &self.template
    }

    /// Another number of entries (bytes for ring buffers) than the template's.
    #[must_use]
    pub fn max_entries(mut self, max_entries: u32) -> Self {
        self.max_entries = Some(max_entries);
        self
    }

    /// A name, of which the kernel keeps 15 bytes; without it, that of the template.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Makes a map. It is in no slot yet, and goes away with its handle unless it is put into
    /// one or pinned.
    ///
    /// # Errors
    /// - [`codes::INNER_ENTRIES`] if the kernel takes only maps with as many entries as the
    ///   template, and another number was asked for;
    /// - [`codes::INNER_BTF`] if the kernel wants the BTF object of the other inner maps and
    ///   there is none left to take it from;
    /// - [`codes::INNER_REFUSED`] if the kernel does not make it;
    /// - [`codes::MAP_MISMATCH`] if inner maps are not what the handle says.
    pub fn create(&self) -> Result<I, MapError> {
        let kernel = RealKernel::new();
        let max_entries = self.entries(&kernel)?;
        let btf = self.btf()?;
        let attributes = self.template.attributes();
        let name = self.kernel_name(kernel.version());
        let wanted = MapAttributes {
            map_type: MapType(attributes.map_type),
            name: &name,
            key_size: attributes.key_size,
            value_size: attributes.value_size,
            max_entries,
            map_flags: attributes.map_flags,
            map_extra: attributes.map_extra,
            numa_node: attributes.numa_node,
            inner: None,
            btf: btf.map(|(fd, ids)| MapBtf {
                fd,
                key_type_id: ids.key_type_id,
                value_type_id: ids.value_type_id,
            }),
        };
        let made = with_memlock(&kernel, || kernel.create_map(&wanted));
        let made = made.map_err(|errno| self.refused(&wanted, errno, kernel.version()))?;
        I::from_map(RawMap::of_map(OwnedFd::from(made))?)
    }

    /// The number of entries, if the kernel allows it.
    fn entries(&self, kernel: &RealKernel) -> Result<u32, MapError> {
        let attributes = self.template.attributes();
        let map_type = MapType(attributes.map_type);
        let cpus = |errno| {
            self.outer
                .failed("counting possible CPUs for its inner maps", errno)
        };
        let template = self.template.max_entries().map_err(cpus)?;
        let rounded = |entries| {
            if map_type.is_ring_buffer() {
                ring_buffer_size(entries, kernel.page_size())
            } else {
                entries
            }
        };
        let wanted = rounded(self.max_entries.unwrap_or(template));
        if wanted == rounded(template) {
            return Ok(wanted);
        }
        match same_entries(map_type, attributes.map_flags, kernel.version()) {
            None => Ok(wanted),
            Some(same) => {
                let mut diagnostic = Diagnostic::error(
                    codes::INNER_ENTRIES,
                    format!(
                        "an inner map with {wanted} entries does not fit, the template has \
                         {template}"
                    ),
                )
                .map(self.outer.described())
                .field("max_entries")
                .note(same.reason);
                diagnostic.help = same.help.map(str::to_owned);
                Err(MapError::new(diagnostic))
            }
        }
    }

    /// The name for the kernel: what it does not take becomes `_`.
    fn kernel_name(&self, version: Option<KernelVersion>) -> String {
        let limit = usize::try_from(uapi::BPF_OBJ_NAME_LEN).unwrap_or(1) - 1;
        if version.is_some_and(|version| version < NAMES) {
            return String::new();
        }
        let dots = version.is_none_or(|version| version >= DOTS_IN_NAMES);
        let name = self
            .name
            .as_ref()
            .unwrap_or(&self.template.attributes().name);
        let taken =
            |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (byte == b'.' && dots);
        name.bytes()
            .take(limit)
            .map(|byte| if taken(byte) { char::from(byte) } else { '_' })
            .collect()
    }

    /// The BTF of the new map, and the ids of its types in it.
    fn btf(&self) -> Result<Option<(&Descriptor, BtfIds)>, MapError> {
        if self.btf.get().is_none()
            && let Some(found) = self.find_btf()?
        {
            // If another thread was faster, its BTF is as good.
            let _ = self.btf.set(found);
        }
        Ok(self.btf.get().map(|(fd, ids)| (fd, *ids)))
    }

    fn find_btf(&self) -> Result<Option<(Descriptor, BtfIds)>, MapError> {
        let (blob, ids, same) = match self.template.types() {
            Types::None => return Ok(None),
            Types::Loaded { btf_id, ids } => {
                let btf = RealElements::open_btf(*btf_id);
                let btf = btf.map_err(|errno| self.outer.failed("opening BTF by its id", errno))?;
                return Ok(Some((Descriptor::of_btf(btf), *ids)));
            }
            Types::Blob { blob, ids, same } => (blob, *ids, *same),
        };
        if same != SameBtf::No
            && let Some(found) = self.borrow_btf()?
        {
            return Ok(Some(found));
        }
        if same == SameBtf::Yes {
            let diagnostic = Diagnostic::error(
                codes::INNER_BTF,
                "no inner map is left to take the BTF from, so a new one cannot be made",
            )
            .map(self.outer.described())
            .note(
                "values hold roots of lists or trees, which the kernel takes as equal only if they \
                 come from the very same BTF object",
            )
            .help("load the object again, and keep an inner map in one slot");
            return Err(MapError::new(diagnostic));
        }
        let kernel = RealKernel::new();
        let loaded = with_memlock(&kernel, || kernel.load_btf(blob, None));
        let loaded = loaded.map_err(|errno| {
            let diagnostic = Diagnostic::error(
                codes::INNER_REFUSED,
                format!("loading the types of its inner maps failed: {errno}"),
            );
            let error = MapError::new(diagnostic.map(self.outer.described()));
            error.with_errno(errno)
        })?;
        Ok(Some((loaded, ids)))
    }

    /// The BTF of an inner map that is still there.
    fn borrow_btf(&self) -> Result<Option<(Descriptor, BtfIds)>, MapError> {
        for slot in outer::ids(self.outer) {
            let (_, id) = slot?;
            let inner = match RawMap::from_id(id) {
                Ok(inner) => inner,
                // It was replaced, and it was freed.
                Err(error) if error.errno() == Some(Errno::ENOENT) => continue,
                Err(error) => return Err(error),
            };
            let info = inner.info();
            let Some(ids) = types_of(info) else {
                continue;
            };
            let btf = RealElements::open_btf(info.btf_id);
            let btf = btf.map_err(|errno| inner.failed("opening its BTF", errno))?;
            return Ok(Some((Descriptor::of_btf(btf), ids)));
        }
        Ok(None)
    }

    fn refused(
        &self,
        wanted: &MapAttributes<'_, Descriptor>,
        errno: Errno,
        version: Option<KernelVersion>,
    ) -> MapError {
        let mut map = self.template.attributes().to_map();
        map.max_entries = MaxEntries::Count(wanted.max_entries);
        let mut diagnostic = Diagnostic::error(
            codes::INNER_REFUSED,
            format!("making an inner map failed: {errno}"),
        )
        .map(self.outer.described());
        diagnostic.notes = explain(Call::MapCreate, errno.0, Some(&map), &[], version);
        diagnostic.notes.push(format!("asked for: {wanted}"));
        MapError::new(diagnostic).with_errno(errno)
    }
}

/// Makes a call, on kernels that account maps against `RLIMIT_MEMLOCK` once more without it.
fn with_memlock<K: Kernel, T>(kernel: &K, call: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    let result = call();
    let accounts = || {
        let version = kernel.version();
        version.is_some_and(|version| version < MEMCG_ACCOUNTING)
    };
    if matches!(result, Err(Errno::EPERM)) && accounts() && kernel.raise_memlock().is_ok() {
        return call();
    }
    result
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bpfplan_plan::rules::{KernelVersion, Target};

    use super::with_memlock;
    use crate::kernel::Errno;
    use crate::{FailingKernel, Fault, RecordingKernel};

    /// How often a call is made that gets these answers, and what comes of it.
    fn calls(version: KernelVersion, answers: [Result<(), Errno>; 2]) -> (usize, bool) {
        let target = Target {
            page_size: 4096,
            possible_cpus: 1,
        };
        let never = |_: Fault<'_>| None;
        let kernel = FailingKernel::new(RecordingKernel::new(target), never).with_version(version);
        let count = Cell::new(0);
        let result = with_memlock(&kernel, || {
            let answer = answers.get(count.get()).copied().unwrap_or(Ok(()));
            count.set(count.get() + 1);
            answer
        });
        (count.get(), result.is_ok())
    }

    #[test]
    fn old_kernels_account_memory_against_a_limit() {
        let (old, new) = (KernelVersion::new(5, 10), KernelVersion::new(5, 11));
        let refused = Err(Errno::EPERM);
        assert_eq!(calls(old, [refused, Ok(())]), (2, true));
        assert_eq!(calls(old, [refused, refused]), (2, false));
        assert_eq!(calls(new, [refused, Ok(())]), (1, false));
        assert_eq!(calls(old, [Err(Errno::EINVAL), Ok(())]), (1, false));
    }
}
