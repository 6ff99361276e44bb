//! What BTF says about legacy maps: the types of keys and values, and the struct's members.

use bpfplan_plan::uapi::{BTF_KIND_STRUCT, BTF_KIND_VAR};
use foldhash::{HashMap, HashSet};

use super::layout::Layout;
use crate::btf::raw::Raw;
use crate::bytes::text;

/// How the structs are called that `BPF_ANNOTATE_KV_PAIR` makes.
const PREFIX: &[u8] = b"____btf_map_";

/// What BTF says about the legacy maps of an object.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    /// Key and value of each map.
    types: HashMap<String, [u32; 2]>,
    /// The layout of the maps' struct, if the object's BTF has it.
    pub(super) layout: Option<Layout>,
}

impl Annotations {
    pub(super) fn new(raw: &Raw<'_>, maps: &HashSet<&str>) -> Self {
        let mut this = Self::default();
        for (_, ty) in raw.types() {
            let name = raw.name(ty.name);
            if ty.kind == BTF_KIND_STRUCT
                && let Some(map) = name.strip_prefix(PREFIX)
            {
                let mut members = ty.parts().map(|[_, member, _]| member);
                if let (Some(key), Some(value)) = (members.next(), members.next()) {
                    this.types.entry(text(map)).or_insert([key, value]);
                }
            }
            if ty.kind == BTF_KIND_VAR && this.layout.is_none() && maps.contains(&*text(name)) {
                this.layout = layout(raw, ty.last);
            }
        }
        this
    }

    /// Types of key and value.
    pub(super) fn types(&self, map: &str) -> Option<[u32; 2]> {
        self.types.get(map).copied()
    }
}

/// The layout by the names of the struct's members.
fn layout(raw: &Raw<'_>, mut id: u32) -> Option<Layout> {
    // More modifiers than this before a struct are none that anybody wrote.
    for _ in 0..32 {
        match raw.get(id).filter(|ty| ty.is_modifier()) {
            Some(ty) => id = ty.last,
            None => break,
        }
    }
    let ty = raw.get(id).filter(|ty| ty.kind == BTF_KIND_STRUCT)?;
    ty.parts()
        .take(9)
        .find_map(|[name, _, _]| match raw.name(name) {
            b"size_key" | b"size_value" | b"max_elem" => Some(Layout::Iproute2),
            b"key_size" | b"value_size" | b"max_entries" => Some(Layout::Plain),
            _ => None,
        })
}
