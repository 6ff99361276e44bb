//! Creating maps and templates.

use std::borrow::Cow;

use bpfplan_plan::rules::{Call, KernelVersion, ring_buffer_size};
use bpfplan_plan::{Code, Diagnostic, Map, MaxEntries, Severity, Source, uapi};

use crate::codes;
use crate::execute::Load;
use crate::kernel::{Errno, Kernel, MapAttributes, MapBtf};
use crate::why::{Refusal, reasons};

/// From this version on memory is accounted by cgroup and `RLIMIT_MEMLOCK` does not matter.
pub(crate) const MEMCG_ACCOUNTING: KernelVersion = KernelVersion {
    major: 5,
    minor: 11,
};

/// From this version on maps have names.
pub(crate) const NAMES: KernelVersion = KernelVersion {
    major: 4,
    minor: 15,
};
/// From this version on arrays can be mapped into memory.
const MMAPABLE: KernelVersion = KernelVersion { major: 5, minor: 5 };
/// From this version on names may have a `.`.
pub(crate) const DOTS_IN_NAMES: KernelVersion = KernelVersion { major: 5, minor: 2 };

/// A map that the kernel has made, now or before.
#[derive(Debug)]
pub(crate) struct Created<F> {
    pub(crate) fd: F,
    pub(crate) max_entries: u32,
    pub(crate) btf: bool,
    /// Whether it was there before.
    pub(crate) reused: bool,
}

/// What is to be created, and what it is called in messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a, I, F> {
    pub(crate) map: &'a Map<I>,
    /// Where the map, or the outer map of a template, is declared.
    pub(crate) source: Option<&'a Source>,
    pub(crate) inner: Option<&'a F>,
    /// Code of the failure.
    pub(crate) code: Code,
    /// `creating the map`.
    pub(crate) step: &'static str,
}

/// The name for a kernel. Before 5.2 a `.`, which every template has, was refused, and before 4.15
/// any name.
pub(crate) fn kernel_name<I>(map: &Map<I>, version: Option<KernelVersion>) -> Cow<'_, str> {
    let name = map.kernel_name();
    match version {
        Some(version) if version < NAMES => "".into(),
        Some(version) if version < DOTS_IN_NAMES => name.replace('.', "_").into(),
        _ => name,
    }
}

impl<K: Kernel> Load<'_, K> {
    /// What the kernel is asked for first.
    pub(crate) fn attributes<'m, I>(
        map: &Map<I>,
        name: &'m str,
        max_entries: u32,
        inner: Option<&'m K::Fd>,
        btf: Option<&'m K::Fd>,
    ) -> MapAttributes<'m, K::Fd> {
        MapAttributes {
            map_type: map.map_type,
            name,
            key_size: map.key_size,
            value_size: map.value_size,
            max_entries,
            map_flags: map.map_flags,
            map_extra: map.map_extra,
            numa_node: map.numa_node,
            inner,
            btf: btf.zip(map.btf).map(|(fd, ids)| MapBtf {
                fd,
                key_type_id: ids.key_type_id,
                value_type_id: ids.value_type_id,
            }),
        }
    }

    /// Creates a map; if the kernel refuses it with its BTF, once more without, as libbpf does.
    /// The first call may have been made already.
    pub(crate) fn create<I>(
        &mut self,
        wanted: &Wanted<'_, I, K::Fd>,
        btf: Option<&K::Fd>,
        mut early: Option<Result<K::Fd, Errno>>,
    ) -> Result<Created<K::Fd>, Diagnostic> {
        let map = wanted.map;
        let max_entries = self.max_entries(map, wanted.source);
        let name = kernel_name(map, self.version());
        let mut attributes = Self::attributes(map, &name, max_entries, wanted.inner, btf);
        let mut made = self.with_memlock(|kernel| {
            let early = early.take();
            early.unwrap_or_else(|| kernel.create_map(&attributes))
        });
        if matches!(made, Err(Errno::EINVAL)) && self.has_no_mmap(map) {
            attributes.map_flags &= !uapi::BPF_F_MMAPABLE;
            made = self.with_memlock(|kernel| kernel.create_map(&attributes));
            self.not_mmapable(map);
        }
        let first = match made {
            Ok(fd) => {
                return Ok(Created {
                    fd,
                    max_entries,
                    btf: attributes.btf.is_some(),
                    reused: false,
                });
            }
            Err(errno) => errno,
        };
        if attributes.btf.is_none() {
            return Err(self.refused(wanted, &attributes, first));
        }
        let without = MapAttributes {
            btf: None,
            ..attributes
        };
        match self.kernel.create_map(&without) {
            Ok(fd) => {
                self.lost_btf(wanted, first);
                Ok(Created {
                    fd,
                    max_entries,
                    btf: false,
                    reused: false,
                })
            }
            Err(second) => Err(self
                .refused(wanted, &without, second)
                .note(format!("with its BTF it was refused as well: {first}"))),
        }
    }

    /// Whether the kernel may have refused global data for `BPF_F_MMAPABLE`, which it can do without.
    fn has_no_mmap<I>(&self, map: &Map<I>) -> bool {
        map.is_internal()
            && map.map_flags & uapi::BPF_F_MMAPABLE != 0
            && self.version().is_some_and(|version| version < MMAPABLE)
    }

    fn not_mmapable<I>(&mut self, map: &Map<I>) {
        let message = format!("BPF_F_MMAPABLE is left out: it needs Linux {MMAPABLE}");
        self.diagnostics.push(
            Diagnostic::new(codes::RESOLVED, Severity::Note, message)
                .map(&map.name)
                .field("map_flags")
                .note("libbpf leaves it out as well; only the map's mmap() needs it"),
        );
    }

    fn refused<I>(
        &self,
        wanted: &Wanted<'_, I, K::Fd>,
        attributes: &MapAttributes<'_, K::Fd>,
        errno: Errno,
    ) -> Diagnostic {
        let refusal = Refusal {
            code: wanted.code,
            step: wanted.step.to_owned(),
            call: Call::MapCreate,
            errno,
            map: wanted.map,
            source: wanted.source,
        };
        let diagnostic = refusal
            .explain(self.kernel, self.plan)
            .note(format!("asked for: {attributes}"));
        if wanted.map.is_outer() && wanted.inner.is_none() {
            return diagnostic.help("say in `values` what the inner maps look like");
        }
        diagnostic
    }

    fn lost_btf<I>(&mut self, wanted: &Wanted<'_, I, K::Fd>, errno: Errno) {
        let mut warning = Diagnostic::warning(
            codes::MAP_WITHOUT_BTF,
            format!("the kernel refused it with its BTF: {errno}; it was created without"),
        )
        .map(&wanted.map.name)
        .at(wanted.source, "declared here");
        warning.notes = reasons(
            self.kernel,
            Call::MapCreate,
            errno,
            Some(wanted.map),
            self.plan,
        );
        warning.notes.push(
            "programs that use spin locks, timers or kptrs in its values will not load".to_owned(),
        );
        self.diagnostics.push(warning);
    }

    /// Fills in what only this machine knows, and says so.
    fn max_entries<I>(&mut self, map: &Map<I>, source: Option<&Source>) -> u32 {
        let (value, why) = match map.max_entries {
            MaxEntries::PossibleCpus => {
                (self.possible_cpus, "the number of possible CPUs".to_owned())
            }
            MaxEntries::Count(count) if map.map_type.is_ring_buffer() => {
                let page_size = self.kernel.page_size();
                let size = ring_buffer_size(count, page_size);
                if size == count {
                    return count;
                }
                (
                    size,
                    format!("{count} rounded up for pages of {page_size} bytes"),
                )
            }
            MaxEntries::Count(count) => return count,
        };
        self.diagnostics.push(
            Diagnostic::new(
                codes::RESOLVED,
                Severity::Note,
                format!("max_entries is {value} here: {why}"),
            )
            .map(&map.name)
            .field("max_entries")
            .at(source, "declared here"),
        );
        value
    }

    /// Makes a call, on old kernels once more with `RLIMIT_MEMLOCK` raised: they account the
    /// memory of maps against it, and its default is too low for most.
    pub(crate) fn with_memlock<T>(
        &mut self,
        mut call: impl FnMut(&K) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let result = call(self.kernel);
        if !matches!(result, Err(Errno::EPERM))
            || self.memlock_raised
            || self
                .version()
                .is_none_or(|version| version >= MEMCG_ACCOUNTING)
        {
            return result;
        }
        self.memlock_raised = true;
        if self.kernel.raise_memlock().is_err() {
            return result;
        }
        self.diagnostics.push(Diagnostic::new(
            codes::MEMLOCK_RAISED,
            Severity::Note,
            "RLIMIT_MEMLOCK of this process was raised: kernels before 5.11 account maps against it",
        ));
        call(self.kernel)
    }
}
