//! Global variables in an arena (`init_arena_map_data` of libbpf).

use bpfplan_plan::contents::stored;
use bpfplan_plan::types::TypeId;
use bpfplan_plan::{Bytes, Contents, Data, Diagnostic, Map, MaxEntries};

use crate::codes;
use crate::elf::{Elf, Role, Section};
use crate::fixup::Datasec;
use crate::problems::Problems;

/// Page size for which the plan's numbers are.
const PAGE_SIZE: u64 = 4096;

/// The section of the variables; without declared maps libbpf does not look at it.
pub(crate) fn section<'e, 'a>(elf: &'e Elf<'a>) -> Option<&'e Section<'a>> {
    elf.maps?;
    elf.sections
        .iter()
        .rfind(|section| section.role == Role::Arena)
}

/// The BTF about it.
pub(crate) fn datasec<'d, 'a>(
    section: &Section<'_>,
    datasecs: &'d [Datasec<'a>],
) -> Option<&'d Datasec<'a>> {
    datasecs.iter().find(|datasec| datasec.name == section.name)
}

/// Gives the arena its variables: it must be declared, and hold them. `ty` is their section in the
/// view.
pub(crate) fn attach(
    section: &Section<'_>,
    ty: Option<TypeId>,
    maps: &mut [Map],
    problems: &mut Problems,
) -> Option<Contents> {
    if problems.failed() {
        return None;
    }
    let Some(arena) = maps.iter_mut().find(|map| map.is_arena()) else {
        let message = "the object has global variables in an arena, but declares no arena";
        problems.add(
            Diagnostic::error(codes::ARENA_DATA, message)
                .help("declare a map of type BPF_MAP_TYPE_ARENA with BPF_F_MMAPABLE"),
        );
        return None;
    };
    let pages = section.size.div_ceil(PAGE_SIZE);
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
        return None;
    }
    let size = u32::try_from(section.size).ok()?;
    let bytes = stored(section.data);
    arena.data = Some(Data::unhashed(size, false));
    if arena.value_type.is_none() {
        arena.value_type = ty;
    }
    (!bytes.is_empty()).then(|| Contents {
        map: arena.name.clone(),
        bytes: Bytes::copy_from_slice(bytes),
    })
}
