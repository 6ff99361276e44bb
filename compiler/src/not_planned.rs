//! Sections that hold other kinds of maps than declared ones and global data.

use bpfplan_plan::{Diagnostic, Map, MaxEntries, NotPlanned, uapi};

use crate::bytes::text;
use crate::codes;
use crate::elf::{Elf, Role};
use crate::problems::Problems;

/// Page size for which the plan's numbers are.
const PAGE_SIZE: u64 = 4096;

/// What the object has besides those, in the order of the sections, `.kconfig` last.
pub(crate) fn list(elf: &Elf<'_>, kconfig: bool) -> Vec<NotPlanned> {
    let sections = elf.sections.iter().filter(|section| section.size > 0);
    let mut list: Vec<NotPlanned> = sections
        .filter_map(|section| {
            let kind = match section.role {
                Role::StructOps => "struct_ops maps",
                Role::Arena => "global variables in an arena",
                Role::JumpTables => "jump tables of programs",
                Role::Other
                | Role::Ignored
                | Role::Maps
                | Role::LegacyMaps
                | Role::Data
                | Role::Rodata
                | Role::Bss
                | Role::Program
                | Role::Relocations => return None,
            };
            Some(NotPlanned {
                section: text(section.name),
                kind: kind.to_owned(),
            })
        })
        .collect();
    if kconfig {
        let kind = "kernel configuration values".to_owned();
        list.push(NotPlanned {
            section: ".kconfig".to_owned(),
            kind,
        });
    }
    list
}

/// An arena must be declared for the variables in it, and hold them.
pub(crate) fn check_arena(elf: &Elf<'_>, maps: &[Map], problems: &mut Problems) {
    let Some(data) = elf
        .sections
        .iter()
        .rfind(|section| section.role == Role::Arena)
    else {
        return;
    };
    if elf.maps.is_none() || problems.failed() {
        return;
    }
    let arena = maps
        .iter()
        .find(|map| map.map_type.0 == uapi::BPF_MAP_TYPE_ARENA);
    let Some(arena) = arena else {
        let message = "the object has global variables in an arena, but declares no arena";
        problems.add(
            Diagnostic::error(codes::ARENA_DATA, message)
                .help("declare a map of type BPF_MAP_TYPE_ARENA with BPF_F_MMAPABLE"),
        );
        return;
    };
    let pages = data.size.div_ceil(PAGE_SIZE);
    if let MaxEntries::Count(count) = arena.max_entries
        && pages > u64::from(count)
    {
        let message = format!("the arena has {count} pages, its global variables need {pages}");
        problems.add(
            Diagnostic::error(codes::ARENA_DATA, message)
                .map(&arena.name)
                .field("max_entries")
                .at(arena.source.as_ref(), "declared here")
                .help(format!("raise max_entries to {pages} or more")),
        );
    }
}
