//! Random objects with declarations in `.maps`: mostly as compilers write them, with a few things
//! that no compiler writes.

use bpfplan_plan::types::{Composite, Linkage, Type, TypeId};
use bpfplan_plan::{Endianness, uapi};

use super::builder::Maps;
use super::random::Random;
use super::types::member;

const NAMES: [&str; 11] = [
    "type",
    "max_entries",
    "map_flags",
    "numa_node",
    "key_size",
    "value_size",
    "key",
    "value",
    "pinning",
    "map_extra",
    "values",
];
const OUTER: [u32; 2] = [
    uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS,
    uapi::BPF_MAP_TYPE_HASH_OF_MAPS,
];
/// What libbpf does not know, or only almost.
const UNKNOWN: [&str; 5] = ["", "Type", "key_sizes", "val", "inner_map_idx"];

pub(crate) type Members = Vec<(String, TypeId)>;

/// Makes one object.
pub(crate) struct Generator<'r> {
    /// Whether it makes mistakes.
    pub(crate) careless: bool,
    pub(crate) random: &'r mut Random,
    pub(crate) maps: Maps,
    /// The maps so far that hold no others.
    pub(crate) plain: Vec<(String, Members)>,
}

impl Generator<'_> {
    /// One time in `n`.
    pub(super) fn rarely(&mut self, n: usize) -> bool {
        self.random.below(n) == 0
    }

    /// One time in `n`, if it makes mistakes at all.
    pub(super) fn slips(&mut self, n: usize) -> bool {
        self.careless && self.rarely(n)
    }

    /// Declares some maps and fills some slots.
    pub(crate) fn declare(&mut self) {
        if self.rarely(8) {
            self.maps.endianness = Endianness::Big;
        }
        for (name, section) in [("tail_a", "xdp"), ("tail_b", "xdp"), ("called", ".text")] {
            let function = (name.to_owned(), section.to_owned());
            self.maps.functions.push(function);
        }
        for index in 0..1 + self.random.below(5) {
            let start = self
                .random
                .pick(&["map", "a.b", "a_name_that_the_kernel_cuts", "m"]);
            let mut name = format!("{start}_{index}");
            if self.slips(40) {
                name = start.to_owned();
            }
            let (members, holds) = self.map();
            let members = self.perturb(members, false);
            let ty = self.structure(&members);
            let size = 8 * u32::try_from(members.len()).unwrap();
            let tail = if holds.is_some() { 8 * 4 } else { 0 };
            let offset = self.variable(&name, ty, size + tail);
            match holds {
                Some(targets) => self.fill(offset + size.saturating_sub(8), targets),
                None => self.plain.push((name, members)),
            }
        }
        if self.rarely(4) {
            self.link();
        }
    }

    /// Declares what every kernel loads: outer maps after what they hold, some slots filled twice.
    pub(crate) fn declare_slots(&mut self) {
        let targets = ["first", "second", "third"];
        for target in targets {
            self.maps.array(target);
        }
        for index in 0..1 + self.random.below(2) {
            let outer = self.random.pick(&OUTER);
            let inner = self.maps.array_struct();
            let members = [
                ("type", self.maps.number(outer)),
                ("max_entries", self.maps.number(8)),
                ("key", self.maps.pointer(self.maps.int())),
                ("values", self.maps.values(inner)),
            ];
            let ty = self.maps.structure(None, &members);
            let values = 24
                + self
                    .maps
                    .variable(&format!("outer_{index}"), ty, 24 + 8 * 8);
            for _ in 0..self.random.below(6) {
                let slot = u32::try_from(self.random.below(8)).unwrap();
                let target = self.random.pick(&targets);
                self.maps.relocation(values + 8 * slot, target);
            }
        }
    }

    /// Makes the DATASEC look like a linker's: it has a size, and its variables have offsets.
    fn link(&mut self) {
        let end = self.maps.symbols.last();
        self.maps.section_size = end.map_or(0, |(_, offset, size)| offset + size);
        for (var, (_, offset, _)) in self.maps.vars.iter_mut().zip(&self.maps.symbols) {
            var.offset = *offset;
        }
        if self.slips(4) {
            let index = self.random.below(self.maps.vars.len());
            self.maps.vars[index].offset = self.random.pick(&[0, 8, 16, 4096, u32::MAX]);
        }
        if self.slips(8) {
            self.maps.section_size = self.random.pick(&[1, 8, u32::MAX]);
        }
    }

    /// Fills slots of the `values` at this offset.
    fn fill(&mut self, values: u32, mut targets: Vec<String>) {
        if self.slips(8) {
            targets.extend(["tail_a".to_owned(), "called".to_owned()]);
            targets.extend(self.maps.symbols.iter().map(|it| it.0.clone()));
        }
        for slot in 0..4 {
            if targets.is_empty() || self.rarely(2) {
                continue;
            }
            let target = targets[self.random.below(targets.len())].clone();
            let shift = if self.slips(40) { 4 } else { 0 };
            self.maps.relocation(values + 8 * slot + shift, &target);
        }
    }

    /// The members of a map, and what fits into its `values` if it has them.
    fn map(&mut self) -> (Members, Option<Vec<String>>) {
        let outer = self.random.pick(&OUTER);
        match self.random.below(9) {
            0..4 => (self.plain(), None),
            4 => (self.typed(outer, Some(4)), None),
            5 => {
                let mut members = self.typed(uapi::BPF_MAP_TYPE_PROG_ARRAY, Some(4));
                let proto = self.maps.add(Type::FuncProto {
                    returns: self.maps.int(),
                    params: Vec::new(),
                });
                members.push(("values".to_owned(), self.values(proto)));
                (
                    members,
                    Some(vec!["tail_a".to_owned(), "tail_b".to_owned()]),
                )
            }
            _ => {
                let mut members = self.typed(outer, Some(4));
                // What has been declared before makes a good template.
                let (targets, inner) = match self.plain.last().cloned() {
                    Some((name, inner)) if !self.rarely(4) => (vec![name], inner),
                    _ => (Vec::new(), self.plain()),
                };
                let inner = self.perturb(inner, true);
                let inner = self.structure(&inner);
                let inner = self.qualified(inner, 6);
                members.push(("values".to_owned(), self.values(inner)));
                (members, Some(targets))
            }
        }
    }

    /// The members of a map that holds no other.
    pub(super) fn plain(&mut self) -> Members {
        let ty = self.random.pick(&[
            uapi::BPF_MAP_TYPE_ARRAY,
            uapi::BPF_MAP_TYPE_ARRAY,
            uapi::BPF_MAP_TYPE_HASH,
            uapi::BPF_MAP_TYPE_HASH,
            uapi::BPF_MAP_TYPE_RINGBUF,
            uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY,
            uapi::BPF_MAP_TYPE_BLOOM_FILTER,
            uapi::BPF_MAP_TYPE_DEVMAP,
            uapi::BPF_MAP_TYPE_QUEUE,
            uapi::BPF_MAP_TYPE_LPM_TRIE,
            uapi::BPF_MAP_TYPE_ARENA,
            77,
        ]);
        let key = self.random.pick(&[None, Some(4), Some(4), Some(8)]);
        let mut members = self.typed(ty, key);
        match self.random.below(3) {
            0 => {}
            1 => members.push(("value_size".to_owned(), self.maps.number(4))),
            _ => {
                let value = self.value(0);
                let value = self.maps.pointer(value);
                members.push(("value".to_owned(), value));
            }
        }
        members
    }

    fn typed(&mut self, ty: u32, key: Option<u32>) -> Members {
        let number = self.maps.number(ty);
        let mut members = vec![("type".to_owned(), number)];
        let entries = match self.careless {
            true => self.random.pick(&[0, 1, 4]),
            false => self.random.pick(&[4, 8, 4096, 5000]),
        };
        members.push(("max_entries".to_owned(), self.maps.number(entries)));
        if let Some(size) = key {
            let int = self.maps.int();
            members.push(match self.random.below(2) {
                0 if size == 4 => ("key".to_owned(), self.maps.pointer(int)),
                _ => ("key_size".to_owned(), self.maps.number(size)),
            });
        }
        if self.rarely(3) {
            let name = self
                .random
                .pick(&["map_flags", "numa_node", "map_extra", "pinning"]);
            let ty = self.number_like(name);
            members.push((name.to_owned(), ty));
        }
        members
    }

    /// Changes a few members, most often none.
    fn perturb(&mut self, mut members: Members, inner: bool) -> Members {
        let changes = match self.careless {
            true => self.random.pick(&[0, 0, 0, 1, 1, 2]),
            false => 0,
        };
        for _ in 0..changes {
            let at = self.random.below(members.len().max(1));
            match self.random.below(6) {
                0 if !members.is_empty() => drop(members.remove(at)),
                1 if !members.is_empty() => {
                    let other = self.random.below(members.len());
                    members.swap(at, other);
                }
                2 if !members.is_empty() => {
                    let name = members[at].0.clone();
                    members[at].1 = self.member(&name, inner);
                }
                3 if !members.is_empty() => {
                    members[at].0 = self.random.pick(&UNKNOWN).to_owned();
                }
                4 if !members.is_empty() => {
                    members[at].1 = self.qualified(members[at].1, 1);
                }
                _ => {
                    let name = self.random.pick(&NAMES);
                    let ty = self.member(name, inner);
                    members.insert(at, (name.to_owned(), ty));
                }
            }
        }
        members
    }

    pub(super) fn structure(&mut self, members: &[(String, TypeId)]) -> TypeId {
        let names: Vec<_> = members
            .iter()
            .map(|(name, ty)| (name.as_str(), *ty))
            .collect();
        let name = if self.rarely(2) { Some("named") } else { None };
        let id = self.maps.structure(name, &names);
        if self.slips(40)
            && let Some(Type::Struct(composite) | Type::Union(composite)) =
                self.maps.types.last_mut()
        {
            composite.size = self.random.pick(&[0, 8, 4096, u32::MAX]);
        }
        if self.slips(40) {
            // No struct, but nearly.
            let last = usize::try_from(id.0).unwrap() - 1;
            let composite = Composite {
                name: Some("shared".to_owned()),
                size: 8,
                members: vec![member("type", self.maps.int(), 0)],
            };
            self.maps.types[last] = match self.random.below(3) {
                0 => Type::Union(composite),
                1 => Type::Struct(composite),
                _ => Type::Fwd {
                    name: "absent".to_owned(),
                    union: false,
                },
            };
        }
        id
    }

    fn variable(&mut self, name: &str, ty: TypeId, size: u32) -> u32 {
        let ty = self.qualified(ty, 10);
        let offset = self.maps.variable(name, ty, size);
        if self.slips(40)
            && let Some(Type::Var { linkage, .. }) = self.maps.types.last_mut()
        {
            *linkage = self.random.pick(&[Linkage::Static, Linkage::Extern]);
        }
        if self.slips(40)
            && let Some(var) = self.maps.vars.last_mut()
        {
            var.size = self.random.pick(&[0, 4, 8, size + 8, 1 << 20, u32::MAX]);
        }
        offset
    }
}
