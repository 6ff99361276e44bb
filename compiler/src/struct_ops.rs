//! struct_ops maps: one for each variable of `.struct_ops`, `.struct_ops.link` and their optional
//! kin (`init_struct_ops_maps` of libbpf).

use bpfplan_plan::model::Map;
use bpfplan_plan::types::TypeId;
use bpfplan_plan::uapi::{BTF_KIND_FUNC_PROTO, BTF_KIND_PTR, BTF_KIND_STRUCT, BTF_KIND_VAR};
use bpfplan_plan::{Diagnostic, MapType, MaxEntries, Source, WithPrograms, uapi};
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use object::elf::{SHN_LORESERVE, SHT_REL};

use crate::btf::raw::{Raw, RawType};
use crate::bytes::text;
use crate::codes;
use crate::elf::{Elf, Entry, Role};
use crate::fixup::{Datasec, Variable};
use crate::problems::Problems;
use crate::programs::program_at;

/// `MAX_RESOLVE_DEPTH` of libbpf.
const MAX_HOPS: usize = 32;
/// Size of `struct bpf_insn`.
const INSTRUCTION: u64 = 8;

/// A variable that becomes a struct_ops map.
#[derive(Debug)]
pub(crate) struct StructOps<'a> {
    pub(crate) variable: Variable<'a>,
    /// Number of its section.
    section: usize,
    /// Its struct.
    pub(crate) ty: u32,
    size: u32,
    /// Whether it is attached by a link (`BPF_F_LINK`).
    link: bool,
    /// Whether libbpf leaves it out unless it is told otherwise.
    optional: bool,
}

/// The variables by section, and in it by offset.
pub(crate) fn read<'a>(
    elf: &Elf<'_>,
    raw: &Raw<'_>,
    datasecs: &[Datasec<'a>],
    problems: &mut Problems,
) -> Vec<StructOps<'a>> {
    let mut found = Vec::new();
    let mut names = HashSet::new();
    let sections = elf.sections.iter().enumerate();
    for (index, section) in sections.filter(|(_, it)| it.role == Role::StructOps) {
        if !names.insert(section.name) {
            let name = text(section.name);
            let message =
                format!("the object has two sections {name}, their maps would share names");
            problems.add(Diagnostic::error(codes::BAD_STRUCT_OPS, message));
            continue;
        }
        let Some(datasec) = datasecs.iter().find(|it| it.name == section.name) else {
            let message = format!(
                "the object has a section {}, but no BTF about it",
                text(section.name)
            );
            problems.add(Diagnostic::error(codes::BAD_STRUCT_OPS, message));
            continue;
        };
        let mut name = section.name;
        for variable in &datasec.variables {
            // libbpf forgets about the `?` after the first variable.
            let optional = name.strip_prefix(b"?");
            name = optional.unwrap_or(name);
            match structure(raw, variable, section.data.len()) {
                Ok((ty, size)) => found.push(StructOps {
                    variable: variable.clone(),
                    section: index,
                    ty,
                    size,
                    link: name == b".struct_ops.link",
                    optional: optional.is_some(),
                }),
                Err(what) => {
                    let message = format!("it {what}");
                    problems.add(
                        Diagnostic::error(codes::BAD_STRUCT_OPS, message).map(&*variable.name),
                    );
                }
            }
        }
    }
    check_relocations(elf, raw, &found, problems);
    found
}

/// The struct of a variable and its size.
fn structure(
    raw: &Raw<'_>,
    variable: &Variable<'_>,
    length: usize,
) -> Result<(u32, u32), &'static str> {
    if variable.name.is_empty() {
        return Err("has no name");
    }
    let mut id = variable.id;
    let mut hops = 0;
    let ty = loop {
        let ty = raw.get(id).ok_or("has a type without a size")?;
        if !ty.is_modifier() && ty.kind != BTF_KIND_VAR {
            break ty;
        }
        hops += 1;
        if hops >= MAX_HOPS {
            return Err("has a type behind more typedefs than libbpf follows");
        }
        id = ty.last;
    };
    if raw.name(ty.name).is_empty() || ty.kind != BTF_KIND_STRUCT {
        return Err("is not of a struct type with a name, such as struct tcp_congestion_ops");
    }
    let end = u64::from(variable.offset) + u64::from(ty.last);
    if u64::try_from(length).map_or(true, |length| end > length) {
        return Err("does not lie within its section");
    }
    Ok((id, ty.last))
}

/// What `bpf_object__collect_st_ops_relos` demands of the pointers in these variables.
fn check_relocations(
    elf: &Elf<'_>,
    raw: &Raw<'_>,
    found: &[StructOps<'_>],
    problems: &mut Problems,
) {
    let mut members: HashMap<u32, HashMap<u32, u32>> = HashMap::new();
    let mut owners: HashMap<usize, Owners> = HashMap::new();
    for section in elf.sections.iter().filter(|it| it.kind == SHT_REL) {
        let index = usize::try_from(section.info).unwrap_or(usize::MAX);
        let target = elf.sections.get(index);
        let Some(target) = target.filter(|it| it.role == Role::StructOps) else {
            continue;
        };
        if section.role != Role::Relocations {
            continue;
        }
        let owners = owners
            .entry(index)
            .or_insert_with(|| Owners::new(found, index));
        for (number, entry) in elf.relocations(section).enumerate() {
            let owner = owners.find(entry.offset);
            let owner = owner.and_then(|place| found.get(place));
            let what = match owner {
                None => Err("is in no variable"),
                Some(owner) => {
                    let members = members
                        .entry(owner.ty)
                        .or_insert_with(|| members_of(raw, owner.ty));
                    check_one(elf, raw, owner, members, &entry)
                }
            };
            if let Err(what) = what {
                let name = text(target.name);
                let message = format!("relocation {number} of section {name} {what}");
                let problem = Diagnostic::error(codes::BAD_STRUCT_OPS_RELOCATION, message);
                problems.add(match owner {
                    Some(owner) => problem.map(&*owner.variable.name),
                    None => problem,
                });
            }
        }
    }
}

/// The types of a struct's members by offset in bits, the first one counts.
fn members_of(raw: &Raw<'_>, id: u32) -> HashMap<u32, u32> {
    const BITFIELD_OFFSET: u32 = 0x00ff_ffff;
    let mut members = HashMap::new();
    if let Some(ty) = raw.get(id) {
        for [_, member, offset] in ty.parts() {
            let offset = if ty.flag {
                offset & BITFIELD_OFFSET
            } else {
                offset
            };
            members.entry(offset).or_insert(member);
        }
    }
    members
}

fn check_one(
    elf: &Elf<'_>,
    raw: &Raw<'_>,
    owner: &StructOps<'_>,
    members: &HashMap<u32, u32>,
    entry: &Entry,
) -> Result<(), &'static str> {
    let symbol = elf.symbols.get(entry.symbol).ok_or("has no symbol")?;
    if symbol.section >= SHN_LORESERVE {
        return Err("is against a symbol in a special section");
    }
    if !symbol.value.is_multiple_of(INSTRUCTION) {
        return Err("is against the middle of an instruction");
    }
    let offset = entry.offset.saturating_sub(owner.variable.offset.into());
    let bits = u32::try_from(offset.saturating_mul(8)).ok();
    let member = bits.and_then(|bits| members.get(&bits));
    let member = member.ok_or("is at no member of the struct")?;
    if !is_function_pointer(raw, *member) {
        return Err("is at a member that is no pointer to a function");
    }
    let home = usize::from(symbol.section);
    let program = program_at(elf, home, symbol.value).ok_or("is against no program")?;
    let section = elf.sections.get(program.section).map(|it| it.name);
    if !section.is_some_and(is_for_struct_ops) {
        return Err("is against a program that is not in a section struct_ops");
    }
    Ok(())
}

/// `resolve_func_ptr` of libbpf.
fn is_function_pointer(raw: &Raw<'_>, id: u32) -> bool {
    let pointer = skip(raw, id).filter(|ty| ty.kind == BTF_KIND_PTR);
    let target = pointer.and_then(|ty| skip(raw, ty.last));
    target.is_some_and(|ty| ty.kind == BTF_KIND_FUNC_PROTO)
}

fn skip<'a>(raw: &Raw<'a>, mut id: u32) -> Option<RawType<'a>> {
    // Longer than any that a compiler writes; a circle has no end.
    for _ in 0..MAX_HOPS * MAX_HOPS {
        let ty = raw.get(id)?;
        if !ty.is_modifier() {
            return Some(ty);
        }
        id = ty.last;
    }
    None
}

/// Whether libbpf makes struct_ops programs of a section.
fn is_for_struct_ops(name: &[u8]) -> bool {
    let name = name.strip_prefix(b"?").unwrap_or(name);
    let is = |base: &[u8]| {
        let rest = name.strip_prefix(base);
        rest.is_some_and(|rest| rest.first().is_none_or(|next| *next == b'/'))
    };
    is(b"struct_ops") || is(b"struct_ops.s")
}

/// Finds the first variable of a section that has a place in it.
struct Owners {
    /// Start of each, ascending, the largest end so far, and its place in the list.
    spans: Vec<(u64, u64, usize)>,
}

impl Owners {
    fn new(found: &[StructOps<'_>], section: usize) -> Self {
        let mut last = 0;
        let of_it = found.iter().enumerate();
        let spans = of_it.filter(|(_, it)| it.section == section);
        Self {
            spans: spans
                .map(|(place, it)| {
                    let start = u64::from(it.variable.offset);
                    last = last.max(start + u64::from(it.size));
                    (start, last, place)
                })
                .collect(),
        }
    }

    fn find(&self, offset: u64) -> Option<usize> {
        // The first one that raises the largest end above the offset ends behind it itself.
        let first = self.spans.partition_point(|(_, end, _)| *end <= offset);
        let (start, _, place) = self.spans.get(first)?;
        (*start <= offset).then_some(*place)
    }
}

impl StructOps<'_> {
    /// The map; `value_type` is its struct in the view.
    pub(crate) fn map(&self, value_type: TypeId, source: Option<Source>) -> Map {
        Map {
            map_flags: if self.link { uapi::BPF_F_LINK } else { 0 },
            value_type: Some(value_type),
            with_programs: Some(if self.optional {
                WithPrograms::OptionalStructOps
            } else {
                WithPrograms::StructOps
            }),
            source,
            ..Map::new(
                self.variable.name.clone().into_owned(),
                MapType(uapi::BPF_MAP_TYPE_STRUCT_OPS),
                4,
                self.size,
                MaxEntries::Count(1),
            )
        }
    }
}
