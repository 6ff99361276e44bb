//! Legacy map definitions: plain structs in the section `maps`, which libbpf 1.x refuses to open.
//!
//! Two layouts were in use. That of libbpf before 1.0 (`struct bpf_map_def`) and that of iproute2
//! (`struct bpf_elf_map`) begin with the same five numbers; iproute2's goes on with an `id`, a
//! `pinning`, and for maps of maps with `inner_id` and `inner_idx`. See [`layout`] for how they
//! are told apart.

mod advice;
mod annotation;
mod layout;

use std::collections::BTreeMap;
use std::rc::Rc;

use bpfplan_plan::{Code, Diagnostic, Map, MapType, Slot, SlotTarget, Source, uapi};
use foldhash::{HashMap, HashSet};
use object::elf::{STB_LOCAL, STT_SECTION};

use crate::assemble;
use crate::btf::raw::Raw;
use crate::btf::shape;
use crate::bytes::{text, u32_at};
use crate::codes;
use crate::declaration::{self, Declaration};
use crate::elf::{Elf, Role, Section, Symbol};
use crate::names::Names;
use crate::problems::Problems;
use crate::source;

use layout::{Fields, Layout};

/// What an object declares in the section `maps`.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    /// The maps in the order of the section; type ids are those of the BTF section.
    pub(crate) maps: Vec<Map>,
    /// The types of all keys and values.
    pub(crate) types: Vec<u32>,
}

/// A legacy map.
#[derive(Debug)]
struct LegacyMap {
    name: String,
    fields: Fields,
    /// Ids of the key's and the value's type in the object's BTF, if it is annotated.
    types: Option<[u32; 2]>,
}

/// Reads the section `maps`; nothing if there is none, or if it cannot be read. `declared` are the
/// maps in `.maps`.
pub(crate) fn read(
    elf: &Elf<'_>,
    raw: Option<&Raw<'_>>,
    declared: &[Declaration],
    problems: &mut Problems,
) -> Legacy {
    warn_of_others(elf, problems);
    let Some((index, section)) = section(elf) else {
        return Legacy::default();
    };
    match read_section(elf, raw, index, section, problems) {
        Ok(found) => found.declarations(elf, raw, declared, problems),
        Err(diagnostic) => {
            problems.add(*diagnostic);
            Legacy::default()
        }
    }
}

/// The ids of legacy maps, and those that outer maps name.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// Each with the map's name.
    pub(crate) maps: Vec<(u32, String)>,
    pub(crate) named: Vec<u32>,
}

/// The ids in the section `maps`; none if there is no such section, or if it cannot be read.
pub(crate) fn ids(elf: &Elf<'_>, raw: Option<&Raw<'_>>) -> Ids {
    let found = section(elf).and_then(|(index, section)| {
        read_section(elf, raw, index, section, &mut Problems::default()).ok()
    });
    let mut ids = Ids::default();
    for map in found.into_iter().flat_map(|found| found.maps) {
        if map.is_outer() && map.fields.inner_id != 0 {
            ids.named.push(map.fields.inner_id);
        }
        if map.fields.id != 0 {
            ids.maps.push((map.fields.id, map.name));
        }
    }
    ids
}

fn section<'e, 'a>(elf: &'e Elf<'a>) -> Option<(usize, &'e Section<'a>)> {
    let mut sections = elf.sections.iter().enumerate();
    sections.rfind(|(_, it)| it.role == Role::LegacyMaps)
}

/// Whether the object has the section at all.
pub(crate) fn has_section(elf: &Elf<'_>) -> bool {
    elf.sections.iter().any(|it| it.role == Role::LegacyMaps)
}

/// Maps that neither libbpf nor iproute2 reads must not be missed in silence.
fn warn_of_others(elf: &Elf<'_>, problems: &mut Problems) {
    let others = elf
        .sections
        .iter()
        .filter(|it| it.role == Role::Other && it.size > 0 && it.name.starts_with(b"maps/"));
    for section in others {
        let name = text(section.name);
        let message = format!("section {name} is not read: the plan lacks its maps");
        problems.add(
            Diagnostic::warning(codes::LEGACY_OTHER, message)
                .note("neither libbpf nor iproute2 reads it, loaders of their own did")
                .help("declare the maps with SEC(\".maps\") and BTF instead"),
        );
    }
}

fn refused<T>(message: impl Into<String>) -> Result<T, Box<Diagnostic>> {
    let message = format!("section maps: {}", message.into());
    Err(Box::new(Diagnostic::error(codes::LEGACY_SECTION, message)))
}

fn read_section(
    elf: &Elf<'_>,
    raw: Option<&Raw<'_>>,
    index: usize,
    section: &Section<'_>,
    problems: &mut Problems,
) -> Result<Found, Box<Diagnostic>> {
    if u64::try_from(section.data.len()) != Ok(section.size) || section.data.is_empty() {
        return refused("it has no definitions in the file");
    }
    let mut symbols: Vec<Symbol<'_>> = elf
        .symbols
        .iter()
        .filter(|it| usize::from(it.section) == index && it.kind != STT_SECTION)
        .collect();
    symbols.sort_by_key(|symbol| symbol.value);
    let size = layout::element_size(section.data.len(), symbols.len())
        .map_err(|what| Box::new(unreadable(&what)))?;
    let places = (0_u64..).step_by(size);
    if !symbols
        .iter()
        .map(|it| it.value)
        .eq(places.take(symbols.len()))
    {
        return refused(format!(
            "its {} maps of {size} bytes do not stand one behind the other",
            symbols.len()
        ));
    }
    let mut named = Vec::with_capacity(symbols.len());
    let mut names = HashSet::default();
    for (symbol, bytes) in symbols.iter().zip(section.data.chunks_exact(size)) {
        let Some(name) = symbol.name().filter(|name| !name.is_empty()) else {
            return refused("a map has no readable name");
        };
        let name = text(name);
        let said = |code: Code, what: String| Diagnostic::error(code, what).map(&name);
        if symbol.bind == STB_LOCAL {
            let what = "it is static, maps must be global variables".to_owned();
            problems.add(said(codes::NOT_GLOBAL, what).help("remove 'static'"));
        }
        if let Err(what) = declaration::check_name(&name) {
            problems.add(said(codes::BAD_NAME, what));
        }
        if !names.insert(name.clone()) {
            let what = "two maps have this name".to_owned();
            problems.add(said(codes::DUPLICATE_NAME, what));
        }
        named.push((name, words(bytes, elf)));
    }
    let names = names.iter().map(String::as_str).collect();
    let annotations = raw.map(|raw| annotation::Annotations::new(raw, &names));
    let told = annotations.as_ref().and_then(|it| it.layout);
    let elements: Vec<&[u32]> = named.iter().map(|(_, words)| words.as_slice()).collect();
    let layout =
        layout::decide(size, &elements, told).map_err(|what| Box::new(unreadable(&what)))?;
    let maps = named.into_iter().map(|(name, words)| LegacyMap {
        types: annotations.as_ref().and_then(|it| it.types(&name)),
        fields: Fields::new(layout, &words),
        name,
    });
    Ok(Found {
        maps: maps.collect(),
        iproute2: layout == Layout::Iproute2,
    })
}

fn unreadable(what: &str) -> Diagnostic {
    Diagnostic::error(codes::LEGACY_SECTION, format!("section maps: {what}"))
        .help("declare the maps with SEC(\".maps\") and BTF instead")
}

fn words(bytes: &[u8], elf: &Elf<'_>) -> Vec<u32> {
    let places = (0..bytes.len()).step_by(4);
    places
        .map(|at| u32_at(bytes, at, elf.endianness).unwrap_or_default())
        .collect()
}

/// The legacy maps of an object, in the order of their section.
#[derive(Debug, Default)]
struct Found {
    maps: Vec<LegacyMap>,
    iproute2: bool,
}

impl Found {
    fn declarations(
        &self,
        elf: &Elf<'_>,
        raw: Option<&Raw<'_>>,
        declared: &[Declaration],
        problems: &mut Problems,
    ) -> Legacy {
        let names = Names::new(self.maps.iter().map(|map| map.name.as_str()));
        let sources = source::find(elf, &names);
        let sources = self.maps.iter().zip(&sources);
        let sources: HashMap<&str, Source> = sources
            .filter_map(|(map, source)| Some((map.name.as_str(), source.clone()?)))
            .collect();
        let declared: HashSet<&str> = declared.iter().map(|it| it.map.name.as_str()).collect();
        let mut definitions = Vec::with_capacity(self.maps.len());
        for map in &self.maps {
            let source = sources.get(map.name.as_str());
            if declared.contains(map.name.as_str()) {
                let diagnostic =
                    Diagnostic::error(codes::DUPLICATE_NAME, "two maps have this name");
                problems.add(diagnostic.map(&map.name).at(source, "declared here"));
            }
            let mut definition = map.fields.definition();
            match raw.map_or(Ok(None), |raw| map.typed(raw)) {
                Ok(types) => {
                    definition.key = types.map(|[key, _]| key);
                    definition.value = types.map(|[_, value]| value);
                }
                Err(what) => problems.add(
                    Diagnostic::warning(codes::LEGACY_TYPES, what)
                        .map(&map.name)
                        .at(source, "declared here"),
                ),
            }
            definitions.push(definition);
        }
        let templates = self.templates();
        let mut slots = self.slots(&sources, problems);
        let mut legacy = Legacy::default();
        for (index, (map, definition)) in self.maps.iter().zip(&definitions).enumerate() {
            let source = sources.get(map.name.as_str());
            let mut definition = definition.copied();
            let template = templates.get(&index).and_then(|at| definitions.get(*at));
            definition.inner = template.map(|template| Rc::new(template.copied()));
            let filled = slots.remove(&index).unwrap_or_default();
            let advice = advice::declaration(raw, &map.name, &definition, &map.fields, &filled);
            self.warn(map, advice, !filled.is_empty(), source, problems);
            if self.iproute2 && map.is_outer() && template.is_none() {
                problems.add(no_inner(map, source));
            }
            legacy
                .types
                .extend(definition.key.iter().chain(&definition.value));
            let slot = |(index, name)| Slot {
                index,
                target: SlotTarget::Map(name),
            };
            legacy.maps.push(Map {
                slots: filled.into_iter().map(slot).collect(),
                ..assemble::declared(&map.name, &definition, source.cloned())
            });
        }
        legacy
    }

    /// The inner template of each outer map: the first map with the id that it names.
    fn templates(&self) -> HashMap<usize, usize> {
        let mut by_id: HashMap<u32, usize> = HashMap::default();
        for (index, map) in self.maps.iter().enumerate() {
            by_id.entry(map.fields.id).or_insert(index);
        }
        let outer = self
            .maps
            .iter()
            .enumerate()
            .filter(|(_, map)| map.is_outer());
        outer
            .filter(|(_, map)| map.fields.inner_id != 0)
            .filter_map(|(index, map)| Some((index, *by_id.get(&map.fields.inner_id)?)))
            .collect()
    }

    /// The slots of each outer map: a map that has an id, and no inner maps, stands at its
    /// `inner_idx` in all outer maps that name its id.
    fn slots(
        &self,
        sources: &HashMap<&str, Source>,
        problems: &mut Problems,
    ) -> HashMap<usize, BTreeMap<u32, String>> {
        let mut inner: HashMap<u32, Vec<&LegacyMap>> = HashMap::default();
        for map in self.maps.iter().filter(|map| map.fields.is_placed()) {
            inner.entry(map.fields.id).or_default().push(map);
        }
        let mut slots: HashMap<usize, BTreeMap<u32, String>> = HashMap::default();
        let mut count = 0_usize;
        for (index, outer) in self
            .maps
            .iter()
            .enumerate()
            .filter(|(_, map)| map.is_outer())
        {
            let source = sources.get(outer.name.as_str());
            let report = |code: Code, what: &str| {
                Diagnostic::error(code, what)
                    .map(&outer.name)
                    .at(source, "declared here")
            };
            let held = inner
                .get(&outer.fields.inner_id)
                .filter(|_| outer.fields.inner_id != 0);
            let held = held.map(Vec::as_slice).unwrap_or_default();
            count = count.saturating_add(held.len());
            if count > layout::MAX_SLOTS {
                problems.add(report(
                    codes::LEGACY_SECTION,
                    "the maps have too many slots",
                ));
                break;
            }
            let hash = outer.fields.map_type == uapi::BPF_MAP_TYPE_HASH_OF_MAPS;
            if hash && !held.is_empty() && outer.fields.key_size != 4 {
                let what = "its key must have four bytes, because slots are filled";
                problems.add(report(codes::SLOT_KEY_SIZE, what).field("key_size"));
            }
            let filled = slots.entry(index).or_default();
            for map in held {
                if filled
                    .insert(map.fields.inner_idx, map.name.clone())
                    .is_some()
                {
                    problems.add(
                        Diagnostic::warning(codes::SLOT_TWICE, "two maps have this inner_idx")
                            .map(&outer.name)
                            .at(sources.get(map.name.as_str()), "the last one")
                            .field(format!("values[{}]", map.fields.inner_idx))
                            .note("the last one counts, as in iproute2"),
                    );
                }
            }
        }
        slots
    }

    /// Says what to write instead, and what is lost.
    fn warn(
        &self,
        map: &LegacyMap,
        advice: Option<String>,
        filled: bool,
        source: Option<&Source>,
        problems: &mut Problems,
    ) {
        let warning = |code: Code, what: String| {
            Diagnostic::warning(code, what)
                .map(&map.name)
                .at(source, "declared here")
        };
        let what = "it is a legacy definition in section maps".to_owned();
        let mut diagnostic = warning(codes::LEGACY_MAP, what)
            .note("libbpf 1.x does not open objects with such a section");
        // C wants a name declared before it is used.
        let place = match filled {
            true => ", below the maps that it holds",
            false => "",
        };
        diagnostic.help = advice.map(|text| format!("write instead{place}: {text}"));
        let proposed = diagnostic.help.is_some();
        problems.add(diagnostic);
        if let Some(what) = map.fields.pinning_lost() {
            let diagnostic = warning(codes::LEGACY_PINNING, what).field("pinning");
            problems.add(diagnostic.help(map.fields.pinning_help(proposed)));
        }
        if self.iproute2 && map.fields.map_type == uapi::BPF_MAP_TYPE_PROG_ARRAY {
            let what = "its slots stay empty: iproute2 fills them with programs".to_owned();
            let diagnostic = warning(codes::LEGACY_PROGRAMS, what);
            problems.add(diagnostic.note("it takes the programs of sections named ID/INDEX"));
        }
    }
}

/// The inner map that an outer one names is not there.
fn no_inner(map: &LegacyMap, source: Option<&Source>) -> Diagnostic {
    let what = match map.fields.inner_id {
        0 => "it names no inner map: inner_id is 0".to_owned(),
        id => format!("no map has the id {id}, which inner_id names"),
    };
    Diagnostic::error(codes::LEGACY_INNER, what)
        .map(&map.name)
        .at(source, "declared here")
        .field("inner_id")
        .help("give the inner map an id, and the outer map that inner_id")
}

impl LegacyMap {
    fn is_outer(&self) -> bool {
        MapType(self.fields.map_type).is_outer()
    }

    /// The types of key and value, if they are annotated; why they are not used, if their sizes
    /// are not those of the map.
    fn typed(&self, raw: &Raw<'_>) -> Result<Option<[u32; 2]>, String> {
        let Some([key, value]) = self.types else {
            return Ok(None);
        };
        for (what, id, size) in [
            ("key", key, self.fields.key_size),
            ("value", value, self.fields.value_size),
        ] {
            if shape::size(raw, id).ok() != Some(size) {
                return Err(format!(
                    "its annotation is not used: the {what} there has another size than {size} bytes"
                ));
            }
        }
        Ok(Some([key, value]))
    }
}
