//! What is wrong with a plan before any kernel is asked.

use std::borrow::Cow;

use foldhash::HashMap;

use super::special::{Record, SpecialFields};
use super::table::{Btf, INNER_SPECIAL_FIELDS, Inner, rules};
use super::{KernelVersion, btf, create, errno_name, needs, required, slots};
use crate::codes;
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::model::{Map, MaxEntries, Plan, Source};
use crate::uapi;

/// What kernels refuse, on every version or on the given ones, and what looks wrong.
///
/// Errors are what the kernel will refuse, warnings what works otherwise than it looks. Slots that
/// every kernel refuses are not repeated here: see [`super::slot_errors`].
#[must_use]
pub fn lint(plan: &Plan, kernels: &[KernelVersion]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut special = SpecialFields::new(&plan.types);
    for map in &plan.maps {
        let place = Place {
            map: &map.name,
            prefix: "",
            source: map.source.as_ref(),
        };
        attributes(map, &place, kernels, &mut found);
        types(map, &mut special, &place, kernels, &mut found);
        if map.is_outer() {
            template(map, &mut special, kernels, &mut found);
        }
    }
    for kernel in kernels {
        found.extend(slots::slots_on(plan, *kernel));
    }
    shared_names(plan, &mut found);
    found
}

/// Where a finding belongs: a template's findings are about fields of its outer map.
struct Place<'a> {
    map: &'a str,
    prefix: &'static str,
    source: Option<&'a Source>,
}

impl Place<'_> {
    /// What stands between the map and a field in the target of an override.
    fn inner(&self) -> &'static str {
        if self.prefix.is_empty() { "" } else { ".inner" }
    }

    fn report(&self, code: Code, severity: Severity, field: &str, message: &str) -> Diagnostic {
        let what = if self.prefix.is_empty() {
            String::new()
        } else {
            "the template: ".to_owned()
        };
        Diagnostic::new(code, severity, format!("{what}{message}"))
            .map(self.map)
            .field(format!("{}{field}", self.prefix))
            .at(self.source, "declared here")
    }
}

fn attributes<I>(
    map: &Map<I>,
    place: &Place<'_>,
    kernels: &[KernelVersion],
    found: &mut Vec<Diagnostic>,
) {
    if rules(map.map_type).is_none() {
        let message = format!("map type {} is unknown", map.map_type.0);
        found.push(
            place
                .report(codes::TYPE_UNKNOWN, Severity::Error, "type", &message)
                .note("kernels up to Linux 6.19 answer EINVAL; a newer one may know it"),
        );
    }
    for refusal in create::refusals(map) {
        let answer = format!("the kernel answers {}", errno_name(refusal.errno));
        let (code, help) = if required::is_required(map, &refusal) {
            let target = format!("{}{}.max_entries", place.map, place.inner());
            (codes::ENTRIES_REQUIRED, Some(required::help(map, &target)))
        } else {
            (codes::ATTRIBUTE_REFUSED, refusal.help)
        };
        let report = place
            .report(code, Severity::Error, refusal.field, &refusal.reason)
            .note(answer);
        found.push(match help {
            Some(help) => report.help(help),
            None => report,
        });
    }
    for kernel in kernels {
        for need in needs::all(map)
            .into_iter()
            .filter(|need| need.since > *kernel)
        {
            let message = format!("{} needs Linux {}, not {kernel}", need.what, need.since);
            found.push(place.report(codes::KERNEL_TOO_OLD, Severity::Error, need.field, &message));
        }
    }
    if map.numa_node != 0 && map.map_flags & uapi::BPF_F_NUMA_NODE == 0 {
        let message = format!(
            "numa_node is {}, but BPF_F_NUMA_NODE is not set",
            map.numa_node
        );
        found.push(
            place
                .report(
                    codes::ATTRIBUTE_IGNORED,
                    Severity::Warning,
                    "numa_node",
                    &message,
                )
                .note("the kernel looks at numa_node only with that flag")
                .help("add BPF_F_NUMA_NODE to map_flags, or leave numa_node out"),
        );
    }
    if map.map_flags & uapi::BPF_F_NO_COMMON_LRU != 0
        && matches!(
            map.map_type.0,
            uapi::BPF_MAP_TYPE_LRU_HASH | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH
        )
        && matches!(map.max_entries, MaxEntries::Count(count) if !count.is_multiple_of(64))
    {
        let message = "max_entries may be rounded up to a multiple of the number of possible CPUs";
        found.push(
            place
                .report(
                    codes::ENTRIES_ROUNDED,
                    Severity::Note,
                    "max_entries",
                    message,
                )
                .note("BPF_F_NO_COMMON_LRU gives every CPU the same number of entries"),
        );
    }
}

fn types<I>(
    map: &Map<I>,
    special: &mut SpecialFields<'_>,
    place: &Place<'_>,
    kernels: &[KernelVersion],
    found: &mut Vec<Diagnostic>,
) {
    let Some(row) = rules(map.map_type) else {
        return;
    };
    if row.btf == Btf::Never {
        return;
    }
    if row.btf == Btf::Required && (map.key_type.is_none() || map.value_type.is_none()) {
        let message = format!("{} needs both a key type and a value type", map.map_type);
        found.push(
            place
                .report(codes::BTF_REFUSED, Severity::Error, "key", &message)
                .note("the kernel answers EINVAL")
                .help("declare both with __type(key, int) and __type(value, ...)"),
        );
        return;
    }
    for kernel in kernels {
        let needs = needs::of_fields(map, special).into_iter();
        if let Some(need) = needs
            .filter(|need| need.since > *kernel)
            .max_by_key(|n| n.since)
        {
            let message = format!("{} need Linux {}, not {kernel}", need.what, need.since);
            found.push(
                place
                    .report(
                        codes::KERNEL_TOO_OLD,
                        Severity::Warning,
                        need.field,
                        &message,
                    )
                    .note("that kernel creates the map, but its programs cannot use the field"),
            );
        }
    }
    // The compiler leaves out what the kernel would refuse, and has said so.
    if map.btf.is_none() && row.btf != Btf::Required {
        return;
    }
    if let Some((errno, reason)) = btf::refusal(map, row, special) {
        let report = |severity| {
            place
                .report(codes::BTF_REFUSED, severity, "key", &reason)
                .note(format!("the kernel answers {}", errno_name(errno)))
        };
        found.push(if row.btf == Btf::Required {
            report(Severity::Error)
        } else {
            report(Severity::Warning)
                .note("the map is created without BTF, as libbpf does after a failed try")
        });
        return;
    }
    let Some(value) = map.value_type else { return };
    match special.record(value) {
        Record::Malformed(reason) => found.push(
            place
                .report(
                    codes::SPECIAL_FIELDS_MALFORMED,
                    Severity::Warning,
                    "value",
                    reason,
                )
                .note("the kernel may create the map, but refuses programs that use the field"),
        ),
        Record::Fields(fields) if !fields.is_empty() && !place.prefix.is_empty() => {
            for kernel in kernels
                .iter()
                .filter(|kernel| **kernel < INNER_SPECIAL_FIELDS)
            {
                let message = format!(
                    "special fields in inner maps need Linux {INNER_SPECIAL_FIELDS}, not {kernel}"
                );
                found.push(place.report(codes::KERNEL_TOO_OLD, Severity::Error, "value", &message));
            }
        }
        Record::Fields(_) => {}
    }
}

fn template(
    map: &Map,
    special: &mut SpecialFields<'_>,
    kernels: &[KernelVersion],
    found: &mut Vec<Diagnostic>,
) {
    let Some(template) = &map.inner else {
        let place = Place {
            map: &map.name,
            prefix: "",
            source: map.source.as_ref(),
        };
        let message = "an outer map needs an inner template";
        found.push(
            place
                .report(codes::NO_TEMPLATE, Severity::Error, "values", message)
                .note("without one, libbpf passes descriptor 0 as inner_map_fd: EINVAL or EBADF")
                .help("declare __array(values, struct { ... }) as the last member"),
        );
        return;
    };
    let place = Place {
        map: &map.name,
        prefix: "values.",
        source: map.source.as_ref(),
    };
    if let Some(Inner::No(errno)) = rules(template.map_type).map(|row| row.inner) {
        let message = format!("maps of type {} cannot be in maps", template.map_type);
        found.push(
            place
                .report(
                    codes::TEMPLATE_TYPE_REFUSED,
                    Severity::Error,
                    "type",
                    &message,
                )
                .note(format!("the kernel answers {}", errno_name(errno))),
        );
    }
    attributes(template, &place, kernels, found);
    types(template, special, &place, kernels, found);
}

/// Maps whose names differ only after the 15th byte: legal, but hard to tell apart in the kernel.
fn shared_names(plan: &Plan, found: &mut Vec<Diagnostic>) {
    let mut names: HashMap<Cow<'_, str>, &str> = HashMap::default();
    for map in &plan.maps {
        let name = map.kernel_name();
        let Some(first) = names.get(&name) else {
            names.insert(name, &map.name);
            continue;
        };
        let message = format!("in the kernel its name is that of '{first}': {name}");
        found.push(
            Diagnostic::warning(codes::KERNEL_NAME_SHARED, message)
                .map(&map.name)
                .field("name")
                .at(map.source.as_ref(), "declared here")
                .note("the kernel keeps 15 bytes of a map's name"),
        );
    }
}
