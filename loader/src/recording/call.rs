//! A recorded call, and how it looks.

use std::fmt;
use std::path::PathBuf;

use bpfplan_plan::MapType;

use super::PretendFd;
use crate::kernel::MapAttributes;

/// A call that changes something. Numbers of descriptors are those of [`PretendFd::number`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordedCall {
    /// `BPF_BTF_LOAD`.
    LoadBtf {
        /// Size of the blob in bytes.
        size: usize,
        /// The new descriptor.
        fd: u32,
    },
    /// `BPF_MAP_CREATE`.
    CreateMap {
        /// What the kernel gets.
        attributes: RecordedAttributes,
        /// The new descriptor.
        fd: u32,
    },
    /// `BPF_MAP_UPDATE_BATCH`.
    UpdateBatch {
        /// The outer map.
        map: u32,
        /// Keys, and the descriptors that go there.
        slots: Vec<(u32, u32)>,
    },
    /// `BPF_MAP_UPDATE_ELEM` of an outer map.
    UpdateSlot {
        /// The outer map.
        map: u32,
        /// The key.
        index: u32,
        /// The descriptor that goes there.
        value: u32,
    },
    /// `BPF_MAP_DELETE_ELEM` of an outer map.
    ClearSlot {
        /// The outer map.
        map: u32,
        /// The key.
        index: u32,
    },
    /// `BPF_MAP_UPDATE_ELEM` of a plain array.
    Write {
        /// The array.
        map: u32,
        /// The key.
        index: u32,
        /// Size of the value in bytes.
        size: usize,
    },
    /// `BPF_MAP_FREEZE`.
    Freeze {
        /// The map.
        map: u32,
    },
    /// libbpf's open of the object, with the maps that it gets.
    OpenObject {
        /// Size of the object in bytes.
        size: usize,
        /// The maps that are handed over.
        maps: Vec<u32>,
    },
    /// `BPF_MAP_CREATE` by libbpf, with the programs.
    MakeMap {
        /// Name of the map in the plan.
        name: String,
        /// `map_type`.
        map_type: MapType,
        /// The new descriptor.
        fd: u32,
    },
    /// `BPF_PROG_LOAD` by libbpf.
    LoadProgram {
        /// Name of the program.
        name: String,
        /// Its ELF section.
        section: String,
        /// The new descriptor.
        fd: u32,
    },
    /// `BPF_OBJ_PIN`.
    Pin {
        /// The map or the program.
        map: u32,
        /// The path.
        path: PathBuf,
    },
    /// `mkdir`.
    MakeDir {
        /// The path.
        path: PathBuf,
    },
    /// `rmdir`.
    RemoveDir {
        /// The path.
        path: PathBuf,
    },
    /// `unlink`.
    Unlink {
        /// The path.
        path: PathBuf,
    },
    /// `close`.
    Close {
        /// The descriptor.
        fd: u32,
    },
}

/// The attributes of a `BPF_MAP_CREATE`, with descriptors as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedAttributes {
    /// `map_type`.
    pub map_type: MapType,
    /// `map_name`.
    pub name: String,
    /// `key_size`.
    pub key_size: u32,
    /// `value_size`.
    pub value_size: u32,
    /// `max_entries`.
    pub max_entries: u32,
    /// `map_flags`.
    pub map_flags: u32,
    /// `map_extra`.
    pub map_extra: u64,
    /// `numa_node`.
    pub numa_node: u32,
    /// `inner_map_fd`.
    pub inner_map_fd: Option<u32>,
    /// `btf_fd`.
    pub btf_fd: Option<u32>,
    /// `btf_key_type_id`.
    pub btf_key_type_id: u32,
    /// `btf_value_type_id`.
    pub btf_value_type_id: u32,
    /// The non-zero attributes as text, without descriptors.
    text: String,
}

impl RecordedAttributes {
    pub(super) fn new(attributes: &MapAttributes<'_, PretendFd>) -> Self {
        let btf = attributes.btf.as_ref();
        Self {
            map_type: attributes.map_type,
            name: attributes.name.to_owned(),
            key_size: attributes.key_size,
            value_size: attributes.value_size,
            max_entries: attributes.max_entries,
            map_flags: attributes.map_flags,
            map_extra: attributes.map_extra,
            numa_node: attributes.numa_node,
            inner_map_fd: attributes.inner.map(PretendFd::number),
            btf_fd: btf.map(|btf| btf.fd.number),
            btf_key_type_id: btf.map_or(0, |btf| btf.key_type_id),
            btf_value_type_id: btf.map_or(0, |btf| btf.value_type_id),
            text: attributes.to_string(),
        }
    }
}

impl fmt::Display for RecordedAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if let Some(fd) = self.btf_fd {
            write!(f, ", btf_fd #{fd}")?;
        }
        if let Some(fd) = self.inner_map_fd {
            write!(f, ", inner_map_fd #{fd}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RecordedCall {
    /// One line, such as `map_create(array, name "a", ...) = #4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoadBtf { size, fd } => write!(f, "btf_load({size} bytes) = #{fd}"),
            Self::CreateMap { attributes, fd } => write!(f, "map_create({attributes}) = #{fd}"),
            Self::UpdateBatch { map, slots } => {
                write!(f, "map_update_batch(#{map}, [")?;
                for (place, (index, value)) in slots.iter().enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    write!(f, "{comma}{index}: #{value}")?;
                }
                f.write_str("])")
            }
            Self::UpdateSlot { map, index, value } => {
                write!(f, "map_update_elem(#{map}, {index}: #{value})")
            }
            Self::ClearSlot { map, index } => write!(f, "map_delete_elem(#{map}, {index})"),
            Self::Write { map, index, size } => {
                write!(f, "map_update_elem(#{map}, {index}: {size} bytes)")
            }
            Self::Freeze { map } => write!(f, "map_freeze(#{map})"),
            Self::OpenObject { size, maps } => {
                write!(f, "libbpf_open({size} bytes, maps [")?;
                for (place, map) in maps.iter().enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    write!(f, "{comma}#{map}")?;
                }
                f.write_str("])")
            }
            Self::MakeMap { name, map_type, fd } => write!(
                f,
                "map_create({map_type}, name \"{}\") by libbpf = #{fd}",
                name.escape_debug()
            ),
            Self::LoadProgram { name, section, fd } => write!(
                f,
                "prog_load(name \"{}\", section \"{}\") by libbpf = #{fd}",
                name.escape_debug(),
                section.escape_debug()
            ),
            Self::Pin { map, path } => write!(f, "obj_pin(#{map}, {path:?})"),
            Self::MakeDir { path } => write!(f, "mkdir({path:?}, 0700)"),
            Self::RemoveDir { path } => write!(f, "rmdir({path:?})"),
            Self::Unlink { path } => write!(f, "unlink({path:?})"),
            Self::Close { fd } => write!(f, "close(#{fd})"),
        }
    }
}
