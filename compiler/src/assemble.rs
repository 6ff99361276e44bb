//! Makes the plan's maps out of declarations and slots.

use std::rc::Rc;

use bpfplan_plan::btf::{EncodeError, encode};
use bpfplan_plan::model::{Contents, Map, NoTemplate};
use bpfplan_plan::rules::create::{self, Refusal};
use bpfplan_plan::rules::{ProgramNeeds, SpecialFields};
use bpfplan_plan::types::{Type, TypeId};
use bpfplan_plan::{
    BtfIds, Diagnostic, Endianness, MapType, MaxEntries, Source, Template, rules, uapi,
};
use foldhash::HashMap;

use crate::btf::view::View;
use crate::codes;
use crate::definition::Definition;
use crate::problems::Problems;
use crate::types::{Numbers, Selection, Tags};

/// Page size for which the plan rounds ring buffers; the loader rounds for its own.
const PAGE_SIZE: u32 = 4096;

/// The maps with their types and the kernel's BTF.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    pub(crate) maps: Vec<Map>,
    pub(crate) types: Vec<Type>,
    pub(crate) kernel_types: u32,
    pub(crate) btf: Vec<u8>,
    pub(crate) contents: Vec<Contents>,
}

/// Puts the maps together: `maps` in the order of libbpf, with type ids of the view.
pub(crate) fn assemble(
    view: View,
    tags: &Tags,
    mut maps: Vec<Map>,
    endianness: Endianness,
    problems: &mut Problems,
) -> Maps {
    for map in &mut maps {
        propose_btf(map);
        if let Some(inner) = &mut map.inner {
            propose_btf(inner);
        }
    }
    let (mut selection, mut kernel_types) = number(&view, tags, &maps);
    if refuse_btf(&view, &selection, &mut maps, problems) {
        // What the kernel does not get stands behind what it gets, so all ids change.
        (selection, kernel_types) = number(&view, tags, &maps);
    }
    let numbers = selection.finish();
    for map in &mut maps {
        renumber(map, &numbers);
        if let Some(inner) = &mut map.inner {
            renumber(inner, &numbers);
        }
    }
    let types = numbers.apply(view);
    let needs = ProgramNeeds::new(&types);
    for map in &mut maps {
        map.with_programs = map.with_programs.or_else(|| needs.of(map));
    }
    let count = usize::try_from(kernel_types).unwrap_or(usize::MAX);
    let btf = match types.get(..count) {
        Some(kernel) if !kernel.is_empty() => encode(kernel, endianness),
        _ => Ok(Vec::new()),
    };
    let btf = btf.unwrap_or_else(|error: EncodeError| {
        let message = format!("the maps' types do not fit into the kernel's BTF: {error}");
        problems.add(Diagnostic::error(codes::BTF_TOO_LARGE, message));
        Vec::new()
    });
    Maps {
        maps,
        types,
        kernel_types,
        btf,
        contents: Vec::new(),
    }
}

/// The map of a declaration, without slots. Type ids are the section's.
pub(crate) fn declared(name: &str, definition: &Definition, source: Option<Source>) -> Map {
    let inner = definition.inner.as_deref().map(|inner| {
        let name = format!("{name}.inner");
        Box::new(map::<NoTemplate>(name, inner, None, None))
    });
    map::<Template>(name.to_owned(), definition, inner, source)
}

/// `fill_map_from_def` of libbpf.
fn map<I>(
    name: String,
    definition: &Definition,
    inner: Option<Box<I>>,
    source: Option<Source>,
) -> Map<I> {
    let map_type = MapType(definition.map_type);
    let max_entries = match definition.max_entries {
        0 if map_type.0 == uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY => MaxEntries::PossibleCpus,
        bytes if map_type.is_ring_buffer() => {
            MaxEntries::Count(rules::ring_buffer_size(bytes, PAGE_SIZE))
        }
        count => MaxEntries::Count(count),
    };
    Map {
        map_flags: definition.map_flags,
        map_extra: definition.map_extra,
        numa_node: definition.numa_node,
        pinning: definition.pinning(),
        key_type: definition.key.map(TypeId),
        value_type: definition.value.map(TypeId),
        inner,
        source,
        ..Map::new(
            name,
            map_type,
            definition.key_size,
            definition.value_size,
            max_entries,
        )
    }
}

/// Gives a map the view's ids of its types; `id` gives them for those of the section.
pub(crate) fn find_types<I>(map: &mut Map<I>, id: &impl Fn(TypeId) -> TypeId) {
    map.key_type = map.key_type.map(id);
    map.value_type = map.value_type.map(id);
}

/// Numbers the types of all maps: first those that the kernel gets, whose number this gives as
/// well.
fn number<'v>(view: &'v View, tags: &'v Tags, maps: &[Map]) -> (Selection<'v>, u32) {
    let mut selection = Selection::new(view, tags);
    let mut kernel_types = 0;
    for kernel in [true, false] {
        for map in maps {
            add_types(map, &mut selection, kernel);
            if let Some(inner) = &map.inner {
                add_types(inner, &mut selection, kernel);
            }
        }
        if kernel {
            kernel_types = selection.len();
        }
    }
    (selection, kernel_types)
}

/// Adds the types of a map if the kernel gets them, or if it does not.
fn add_types<I>(map: &Map<I>, selection: &mut Selection<'_>, kernel: bool) {
    if map.btf.is_some() == kernel {
        let types = [map.key_type, map.value_type];
        types.into_iter().flatten().for_each(|id| selection.add(id));
    }
}

/// Marks a map that has types and is of a kind that takes them.
fn propose_btf<I>(map: &mut Map<I>) {
    let typed = map.key_type.is_some() || map.value_type.is_some();
    // Filled in with the final ids by `renumber`.
    map.btf = (typed && rules::wants_btf(map.map_type)).then_some(BtfIds {
        key_type_id: 0,
        value_type_id: 0,
    });
}

/// Takes the types from maps that the kernel would not create with them, and warns. Says whether
/// there were such.
fn refuse_btf(
    view: &View,
    selection: &Selection<'_>,
    maps: &mut [Map],
    problems: &mut Problems,
) -> bool {
    let mut refusals = Refusals {
        special: SpecialFields::new(view.as_slice()),
        verifier: selection.refused(),
        known: HashMap::default(),
    };
    let mut changed = false;
    for map in maps {
        changed |= decide(map, &mut refusals, problems, None);
        if let Some(inner) = &mut map.inner {
            changed |= decide(inner, &mut refusals, problems, Some(&map.name));
        }
    }
    changed
}

/// Everything of a map that decides whether the kernel takes its types.
type Shape = (MapType, [[u32; 2]; 3], [Option<TypeId>; 2]);

/// The kernel's refusals, found once for maps that differ in name only: many may share one value.
struct Refusals<'t> {
    special: SpecialFields<'t>,
    /// Types that make the kernel refuse the whole blob.
    verifier: HashMap<TypeId, Rc<str>>,
    known: HashMap<Shape, Option<Rc<str>>>,
}

impl Refusals<'_> {
    fn get<I>(&mut self, map: &Map<I>) -> Option<Rc<str>> {
        let [counted, entries] = match map.max_entries {
            MaxEntries::Count(count) => [1, count],
            MaxEntries::PossibleCpus => [0, 0],
        };
        let sizes = [map.key_size, map.value_size];
        let shape = (
            map.map_type,
            [sizes, [map.map_flags, counted], [entries, 0]],
            [map.key_type, map.value_type],
        );
        let (special, verifier) = (&mut self.special, &self.verifier);
        let unloadable = || {
            let mut ids = map.key_type.iter().chain(&map.value_type);
            ids.find_map(|id| verifier.get(id).cloned())
        };
        let refusal = || {
            let refusal = special.btf_refusal(map).map(Rc::from);
            refusal.or_else(unloadable)
        };
        self.known.entry(shape).or_insert_with(refusal).clone()
    }
}

/// Whether the map lost its types.
fn decide<I>(
    map: &mut Map<I>,
    refusals: &mut Refusals<'_>,
    problems: &mut Problems,
    outer: Option<&str>,
) -> bool {
    if map.btf.is_none() {
        return false;
    }
    let Some(reason) = refusals.get(map) else {
        return false;
    };
    map.btf = None;
    // A map whose sizes the kernel refuses is not created at all, and lint says so.
    let sizes = |refusal: &Refusal| matches!(refusal.field, "key_size" | "value_size");
    if create::refusals(map).iter().any(sizes) {
        return true;
    }
    let what = if outer.is_some() {
        "the template is"
    } else {
        "it is"
    };
    let message = format!("{what} created without BTF: {reason}");
    let mut diagnostic = Diagnostic::warning(codes::BTF_DROPPED, message)
        .map(outer.unwrap_or(&map.name))
        .at(map.source.as_ref(), "declared here")
        .note("the kernel refuses it with BTF; libbpf finds out by trying, and drops it then");
    if outer.is_some() {
        diagnostic = diagnostic.field("values");
    }
    problems.add(diagnostic);
    true
}

/// Gives a map the final ids of its types.
fn renumber<I>(map: &mut Map<I>, numbers: &Numbers) {
    map.key_type = map.key_type.map(|id| numbers.of(id));
    map.value_type = map.value_type.map(|id| numbers.of(id));
    if let Some(ids) = &mut map.btf {
        let id = |ty: Option<TypeId>| ty.map_or(0, |id| id.0);
        *ids = BtfIds {
            key_type_id: id(map.key_type),
            value_type_id: id(map.value_type),
        };
    }
}
