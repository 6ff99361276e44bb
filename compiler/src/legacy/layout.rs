//! Which struct the elements of the section `maps` are.
//!
//! All elements have one size: that of the section, divided by the number of maps. Their first 20
//! bytes mean the same in both layouts, so up to there, and if all that follows is zero, there is
//! nothing to decide. Otherwise:
//!
//! 1. the object's BTF decides, if it has the struct: iproute2 calls a member `size_key`, libbpf
//!    and the kernel's examples call it `key_size`;
//! 2. 36 bytes are iproute2's struct, and 28 bytes the one that it had before maps of maps, unless
//!    a map of maps or one with `BPF_F_NUMA_NODE` is among them: the kernel's examples had a
//!    struct of 28 bytes with an inner map's index and a NUMA node.
//!
//! Everything else is refused, as libbpf before 1.0 refused non-zero bytes that it did not know.

use bpfplan_plan::{MapType, uapi};

use crate::definition::Definition;

/// The numbers that both layouts have.
const COMMON: usize = 5;
/// The least that iproute2 took: type, sizes and number of entries.
const LEAST: usize = 16;
/// `struct bpf_elf_map`, now and before maps of maps.
const IPROUTE2: usize = 36;
const IPROUTE2_BEFORE: usize = 28;
/// Larger elements are no struct that anybody had.
const LARGEST: usize = 4096;
/// All slots of all maps.
pub(super) const MAX_SLOTS: usize = 1 << 20;

/// A struct that map definitions had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `struct bpf_map_def` of libbpf before 1.0.
    Plain,
    /// `struct bpf_elf_map` of iproute2.
    Iproute2,
}

/// The size of an element in bytes.
pub(super) fn element_size(section: usize, maps: usize) -> Result<usize, String> {
    if maps == 0 {
        return Err("it has no maps: no symbol is in it".to_owned());
    }
    let size = section / maps;
    if !section.is_multiple_of(maps) || !size.is_multiple_of(4) {
        return Err(format!(
            "its {section} bytes are not {maps} maps of one size"
        ));
    }
    match size {
        ..LEAST => Err(format!(
            "a map of {size} bytes is too small, it has at least {LEAST}"
        )),
        LEAST..=LARGEST => Ok(size),
        _ => Err(format!("a map of {size} bytes is too large")),
    }
}

/// Decides which layout the elements have; `told` is what BTF says.
pub(super) fn decide(
    size: usize,
    elements: &[&[u32]],
    told: Option<Layout>,
) -> Result<Layout, String> {
    let tail = |element: &[u32]| element.iter().skip(COMMON).any(|word| *word != 0);
    if !elements.iter().any(|element| tail(element)) {
        return Ok(told.filter(|_| size == IPROUTE2).unwrap_or(Layout::Plain));
    }
    let unknown = format!("maps of {size} bytes have fields that are unknown and not zero");
    match (told, size) {
        (Some(Layout::Plain), _) => Err(unknown),
        (_, IPROUTE2) | (Some(Layout::Iproute2), IPROUTE2_BEFORE) => Ok(Layout::Iproute2),
        (None, IPROUTE2_BEFORE) => {
            let either = |element: &&[u32]| {
                let word = |at: usize| element.get(at).copied().unwrap_or_default();
                MapType(word(0)).is_outer() || word(4) & uapi::BPF_F_NUMA_NODE != 0
            };
            if elements.iter().any(either) {
                return Err(
                    "maps of 28 bytes can be iproute2's, or those of the kernel's old examples, \
                     and nothing tells which"
                        .to_owned(),
                );
            }
            Ok(Layout::Iproute2)
        }
        _ => Err(unknown),
    }
}

/// The fields of a definition, 0 where the layout does not have them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) map_flags: u32,
    /// Names the map within the object, 0 for none.
    pub(super) id: u32,
    /// `PIN_*` of iproute2.
    pub(super) pinning: u32,
    /// The id of an outer map's inner map.
    pub(super) inner_id: u32,
    /// The slot of an inner map.
    pub(super) inner_idx: u32,
}

impl Fields {
    pub(super) fn new(layout: Layout, words: &[u32]) -> Self {
        let word = |at: usize| words.get(at).copied().unwrap_or_default();
        let further = |at: usize| match layout {
            Layout::Iproute2 => word(at),
            Layout::Plain => 0,
        };
        Self {
            map_type: word(0),
            key_size: word(1),
            value_size: word(2),
            max_entries: word(3),
            map_flags: word(4),
            id: further(5),
            pinning: further(6),
            inner_id: further(7),
            inner_idx: further(8),
        }
    }

    /// Whether it is put into a slot of the outer maps that name its id.
    pub(super) fn is_placed(&self) -> bool {
        self.id != 0 && self.inner_id == 0 && self.inner_idx != u32::MAX
    }

    /// What a map in `.maps` would declare.
    pub(super) fn definition(&self) -> Definition {
        Definition {
            map_type: self.map_type,
            key_size: self.key_size,
            value_size: self.value_size,
            max_entries: self.max_entries,
            map_flags: self.map_flags,
            ..Definition::default()
        }
    }

    /// How to pin it all the same; `proposed` is whether there is a declaration to write instead.
    pub(super) fn pinning_help(&self, proposed: bool) -> &'static str {
        match self.pinning {
            2 if proposed => {
                "pin it with --pin-maps DIR; declared as proposed, it is pinned where iproute2 \
                 looks for it with --pin-root /sys/fs/bpf/tc/globals"
            }
            _ => "pin it with --pin-maps DIR",
        }
    }

    /// What iproute2 does about pins and nobody does here.
    pub(super) fn pinning_lost(&self) -> Option<String> {
        let what = match self.pinning {
            0 => return None,
            1 => "PIN_OBJECT_NS: iproute2 pins it in a directory of this object".to_owned(),
            2 => "PIN_GLOBAL_NS: iproute2 pins it under /sys/fs/bpf/tc/globals".to_owned(),
            other => format!("{other}: iproute2 looks up the directory in its configuration"),
        };
        Some(format!("its pinning has no effect; it is {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: [u32; 9] = [1, 4, 8, 16, 0, 0, 0, 0, 0];

    fn with(changes: &[(usize, u32)], words: usize) -> Vec<u32> {
        let mut element = HASH.to_vec();
        for (at, value) in changes {
            element[*at] = *value;
        }
        element.truncate(words);
        element
    }

    #[test]
    fn sizes_are_even() {
        assert_eq!(element_size(40, 2), Ok(20));
        assert_eq!(element_size(16, 1), Ok(16));
        for (section, maps) in [(40, 0), (41, 2), (42, 2), (12, 1), (0, 1), (1 << 20, 1)] {
            assert!(element_size(section, maps).is_err(), "{section} {maps}");
        }
    }

    #[test]
    fn zeros_need_no_decision() {
        for words in [4, 5, 6, 7, 9, 20] {
            let element = with(&[], words.min(9));
            assert_eq!(decide(words * 4, &[&element], None), Ok(Layout::Plain));
        }
    }

    #[test]
    fn what_follows_tells_the_layout() {
        let ours = |words: usize, changes: &[(usize, u32)], told| {
            decide(words * 4, &[&with(&[], words), &with(changes, words)], told)
        };
        assert_eq!(ours(9, &[(8, u32::MAX)], None), Ok(Layout::Iproute2));
        assert_eq!(ours(7, &[(6, 2)], None), Ok(Layout::Iproute2));
        // The kernel's examples: an inner map's index, a node.
        assert!(ours(7, &[(0, 12), (5, 1)], None).is_err());
        assert!(ours(7, &[(4, uapi::BPF_F_NUMA_NODE), (6, 1)], None).is_err());
        let told = Some(Layout::Iproute2);
        assert_eq!(ours(7, &[(0, 12), (5, 1)], told), Ok(Layout::Iproute2));
        assert!(ours(7, &[(6, 2)], Some(Layout::Plain)).is_err());
        assert!(ours(9, &[(6, 2)], Some(Layout::Plain)).is_err());
        assert!(ours(6, &[(5, 2)], None).is_err());
        assert!(ours(8, &[(5, 2)], told).is_err());
    }
}
