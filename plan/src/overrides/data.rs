//! Initial contents that variables are written into.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::Override;
use super::field::Wrong;
use super::problem::{self, List};
use crate::codes;
use crate::contents::stored;
use crate::diagnostic::Diagnostic;
use crate::model::{self, Map, Plan};

/// The contents of the maps whose variables are set.
pub(super) struct Contents<'a, 'p> {
    plan: &'p Plan,
    before: HashMap<&'p str, &'p [u8]>,
    sections: HashMap<usize, Section<'a>>,
}

#[derive(Default)]
struct Section<'a> {
    /// The bytes so far; zeros follow.
    bytes: Vec<u8>,
    /// What was set, by its first byte: how many, and by which override.
    written: Vec<(usize, usize, &'a Override)>,
}

impl<'a, 'p> Contents<'a, 'p> {
    /// The contents of a plan, those of `resized` maps cut to their new sizes.
    pub(super) fn new(plan: &'p Plan, resized: &BTreeSet<usize>) -> Self {
        let before = plan.contents_by_map();
        let section = |index: &usize| {
            let map = plan.maps.get(*index)?;
            let size = usize::try_from(map.value_size).unwrap_or(usize::MAX);
            let bytes = before.get(map.name.as_str()).copied().unwrap_or_default();
            let bytes = bytes.get(..size).unwrap_or(bytes).to_vec();
            Some((
                *index,
                Section {
                    bytes,
                    written: Vec::new(),
                },
            ))
        };
        let sections = resized.iter().filter_map(section).collect();
        Self {
            plan,
            before,
            sections,
        }
    }

    /// The bytes of a value in a map.
    ///
    /// # Errors
    /// It has no size, or does not lie within the map's value.
    pub(super) fn place(
        &mut self,
        index: usize,
        map: &Map,
        set: &'a Override,
        offset: u64,
        size: Option<u32>,
    ) -> Result<&mut [u8], Wrong> {
        let Some(size) = size.filter(|size| *size > 0) else {
            return Err(Wrong::refused("it has no size"));
        };
        let end = offset.checked_add(size.into());
        let end = end.filter(|end| *end <= map.value_size.into());
        let range =
            end.and_then(|end| Some((usize::try_from(offset).ok()?, usize::try_from(end).ok()?)));
        let Some((start, end)) = range else {
            let message = format!("it lies beyond the map's {} bytes", map.value_size);
            return Err(Wrong::refused(message));
        };
        let section = self.sections.entry(index).or_insert_with(|| Section {
            bytes: self
                .before
                .get(map.name.as_str())
                .map_or_else(Vec::new, |bytes| bytes.to_vec()),
            written: Vec::new(),
        });
        if section.bytes.len() < end {
            section.bytes.resize(end, 0);
        }
        section.written.push((start, end, set));
        section
            .bytes
            .get_mut(start..end)
            .ok_or_else(|| Wrong::refused("it lies nowhere"))
    }

    /// The new contents; overrides that set the same bytes are problems.
    pub(super) fn finish(self, problems: &mut List) -> HashMap<usize, Vec<u8>> {
        let mut contents = HashMap::new();
        for (index, mut section) in self.sections {
            // Of equal starts the longest comes first.
            section
                .written
                .sort_by_key(|(start, end, _)| (*start, std::cmp::Reverse(*end)));
            let mut last: Option<(usize, &Override)> = None;
            for (start, end, set) in section.written {
                match last {
                    Some((before, other)) if start < before => {
                        if !problems.is_full() {
                            problems.add(twice(self.plan.maps.get(index), set, other));
                        }
                        last = Some((before.max(end), if end > before { set } else { other }));
                    }
                    _ => last = Some((end, set)),
                }
            }
            section.bytes.truncate(stored(&section.bytes).len());
            contents.insert(index, section.bytes);
        }
        contents
    }
}

fn twice(map: Option<&Map>, set: &Override, other: &Override) -> Diagnostic {
    let message = format!("{} is set twice", problem::shown(set.target()));
    let found = problem::of(set, codes::OVERRIDE_TWICE, message).note(problem::named(other));
    match map {
        Some(map) => found.map(&map.name),
        None => found,
    }
}

/// Gives maps of global data new contents, by their index, and their hash the size that
/// `value_size` says.
pub(super) fn store(plan: &mut Plan, mut changed: HashMap<usize, Vec<u8>>) {
    let old = std::mem::take(&mut plan.contents);
    let mut old: HashMap<String, Bytes> = old
        .into_iter()
        .map(|contents| (contents.map, contents.bytes))
        .collect();
    for (index, map) in plan.maps.iter_mut().enumerate() {
        let Some(data) = &mut map.data else { continue };
        let bytes = match changed.remove(&index) {
            Some(bytes) => {
                *data = data.changed(&bytes, map.value_size);
                bytes.into()
            }
            None => old.remove(&map.name).unwrap_or_default(),
        };
        if !bytes.is_empty() {
            plan.contents.push(model::Contents {
                map: map.name.clone(),
                bytes,
            });
        }
    }
}
