//! Sections that hold other kinds of maps than declared ones and global data.

use bpfplan_plan::NotPlanned;

use crate::bytes::text;
use crate::elf::{Elf, Role};

/// What the object has besides those, in the order of the sections.
pub(crate) fn list(elf: &Elf<'_>) -> Vec<NotPlanned> {
    let sections = elf.sections.iter().filter(|section| section.size > 0);
    sections
        .filter_map(|section| {
            let kind = match section.role {
                Role::LegacyMaps => "legacy map definitions",
                Role::Other
                | Role::Ignored
                | Role::Maps
                | Role::Data
                | Role::Rodata
                | Role::Bss
                | Role::StructOps
                | Role::Arena
                | Role::JumpTables
                | Role::Program
                | Role::Relocations => return None,
            };
            Some(NotPlanned {
                section: text(section.name),
                kind: kind.to_owned(),
            })
        })
        .collect()
}
