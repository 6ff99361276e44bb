//! The record of a load: what was pinned, by map id, and what the kernel never tells.
//!
//! bpffs holds no regular files, so the record is the only element of a small frozen array,
//! pinned as [`NAME`] beside the maps. Its bytes are [`MAGIC`], the version and the length of
//! what follows as four little-endian bytes each, then the [`Record`] in postcard.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use bpfplan_plan::{BtfIds, Diagnostic, MapType, Plan, uapi};
use serde::{Deserialize, Serialize};

use crate::codes;
use crate::error::{ErrorKind, LoadError};
use crate::kernel::{Errno, Kernel, PathKind};
use crate::pins::{self, Pins};

/// Name of the record's pin; no map can have it.
pub const NAME: &str = "bpfplan_record";

/// First bytes of a record.
pub const MAGIC: [u8; 8] = *b"bpfprec\0";

/// Version of the record that this crate writes and reads.
pub const VERSION: u32 = 2;

/// Largest record in bytes; with names of usual length it holds tens of thousands of maps;
/// BTF of templates has kilobytes.
const MAX_SIZE: usize = 2 << 20;

/// Bytes before the record itself.
const HEADER: usize = 16;

/// What is known about a load that pinned its maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// File name of the object.
    pub object: String,
    /// SHA-256 of the object in lower-case hex, if the plan had it.
    pub sha256: Option<String>,
    /// Whether the directory was made for the load.
    pub made_directory: bool,
    /// The maps in the plan's order; none if the directory is for programs only.
    pub maps: Vec<RecordedMap>,
    /// The programs; none if the directory is for maps only.
    pub programs: Vec<RecordedProgram>,
    /// The BTF blob that the templates' type ids belong to, as the kernel took it; empty if none
    /// of them has types. With it and a [`RecordedTemplate`], more inner maps can be made that
    /// the outer map takes.
    pub btf: Vec<u8>,
}

/// A map in a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedMap {
    /// Name in the plan.
    pub name: String,
    /// Name of the pin.
    pub pin: String,
    /// The kernel's id of the map, which is its identity. Its size does not depend on its value,
    /// so that a dry run shows the size of the record.
    #[serde(with = "postcard::fixint::le")]
    pub id: u32,
    /// The inner template of an outer map, which the kernel never shows.
    pub template: Option<RecordedTemplate>,
}

/// A program in a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedProgram {
    /// Name of the program.
    pub name: String,
    /// Name of the pin.
    pub pin: String,
    /// The kernel's id of the program; programs and maps count apart.
    #[serde(with = "postcard::fixint::le")]
    pub id: u32,
}

/// The attributes of an inner template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedTemplate {
    /// Name in the plan.
    pub name: String,
    /// `map_type`.
    pub map_type: u32,
    /// `key_size` in bytes.
    pub key_size: u32,
    /// `value_size` in bytes.
    pub value_size: u32,
    /// `max_entries` as in the plan; `None` for the number of possible CPUs.
    pub max_entries: Option<u32>,
    /// `map_flags`.
    pub map_flags: u32,
    /// `map_extra`.
    pub map_extra: u64,
    /// `numa_node`.
    pub numa_node: u32,
    /// Its type ids in [`Record::btf`]; `None` if the kernel has it without types.
    pub btf: Option<BtfIds>,
}

impl Record {
    /// The record of a plan that the kernel takes as it is. Maps without an id are not made;
    /// `program` knows the ids of programs that are loaded.
    pub(crate) fn new(
        plan: &Plan,
        pins: &Pins,
        ids: &[Option<u32>],
        program: impl Fn(&str) -> Option<u32>,
    ) -> Self {
        let maps = plan.maps.iter().zip(&pins.names).zip(ids);
        let maps = maps.filter_map(|((map, pin), id)| {
            Some(RecordedMap {
                name: map.name.clone(),
                pin: pin.clone()?,
                id: (*id)?,
                template: map.inner.as_deref().map(RecordedTemplate::of),
            })
        });
        let maps: Vec<RecordedMap> = maps.collect();
        let programs = plan.programs.iter().zip(&pins.programs);
        let programs = programs.filter_map(|(it, pin)| {
            Some(RecordedProgram {
                name: it.name.clone(),
                pin: pin.clone()?,
                id: program(&it.name)?,
            })
        });
        Self {
            object: plan.object.name.clone(),
            sha256: plan.object.sha256.clone(),
            made_directory: pins.create,
            btf: if has_types(&maps) {
                plan.btf.to_vec()
            } else {
                Vec::new()
            },
            maps,
            programs: programs.collect(),
        }
    }

    /// Puts in what the kernel took instead: a blob, and the type ids of templates by name of
    /// their outer maps.
    pub(crate) fn with_btf(mut self, blob: &[u8], templates: &HashMap<&str, BtfIds>) -> Self {
        for map in &mut self.maps {
            if let Some(template) = &mut map.template {
                template.btf = templates.get(map.name.as_str()).copied();
            }
        }
        self.btf.clear();
        if has_types(&self.maps) {
            self.btf.extend_from_slice(blob);
        }
        self
    }

    /// The bytes of the record.
    ///
    /// # Errors
    /// A diagnostic if it is larger than a record may be.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Diagnostic> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        let too_large = || {
            Diagnostic::error(
                codes::RECORD_REFUSED,
                format!(
                    "the record of {} pins and {} bytes of BTF is larger than 2 MiB",
                    self.maps.len().saturating_add(self.programs.len()),
                    self.btf.len()
                ),
            )
            .help("split the object, or load it with --hold instead of --pin-maps")
        };
        let mut bytes = postcard::to_extend(self, bytes).map_err(|_| too_large())?;
        let length = bytes.len().saturating_sub(HEADER);
        let length = u32::try_from(length).map_err(|_| too_large())?;
        if let Some(place) = bytes.get_mut(12..HEADER) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        if bytes.len() > MAX_SIZE {
            Err(too_large())
        } else {
            Ok(bytes)
        }
    }

    /// Reads a record that anybody may have written.
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let body = bytes
            .strip_prefix(&MAGIC)
            .ok_or("it does not start like a record")?;
        let (version, body) = body.split_first_chunk().ok_or("it is cut off")?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(format!(
                "it has version {version}, this bpfplan reads version {VERSION}"
            ));
        }
        let (length, body) = body.split_first_chunk().ok_or("it is cut off")?;
        if usize::try_from(u32::from_le_bytes(*length)) != Ok(body.len()) {
            return Err("its length is wrong".to_owned());
        }
        let (record, rest): (Self, _) =
            postcard::take_from_bytes(body).map_err(|error| format!("it is damaged: {error}"))?;
        if !rest.is_empty() {
            return Err("something stands after its end".to_owned());
        }
        let mut seen = BTreeSet::new();
        let programs = record.programs.iter().map(|program| &program.pin);
        for pin in record.maps.iter().map(|map| &map.pin).chain(programs) {
            if let Some(problem) = pins::name_problem(pin) {
                let pin = pin.escape_debug();
                return Err(format!("it names the pin \"{pin}\", but {problem}"));
            }
            if !seen.insert(pin) {
                let pin = pin.escape_debug();
                return Err(format!("it names the pin \"{pin}\" twice"));
            }
        }
        if record.btf.is_empty() && has_types(&record.maps) {
            return Err("a template's types are missing".to_owned());
        }
        Ok(record)
    }

    /// Reads the record of the load whose pins are in that directory.
    ///
    /// # Errors
    /// [`LoadError`] if there is none, or if what is there is not one.
    pub fn open<K: Kernel>(kernel: &K, directory: &Path) -> Result<Self, LoadError> {
        let directory = pins::existing_directory(kernel, directory).map_err(refused)?;
        Self::read(kernel, &directory.join(NAME)).map(|(record, _)| record)
    }

    /// Reads the record at that path; gives its map's id as well.
    pub(crate) fn read<K: Kernel>(kernel: &K, path: &Path) -> Result<(Self, u32), LoadError> {
        let failed = |errno: Errno| {
            refused(Diagnostic::error(
                codes::RECORD_INVALID,
                format!("reading {} failed: {errno}", path.display()),
            ))
        };
        let invalid = |why: &str| {
            let message = format!("{} is not the record of a load: {why}", path.display());
            refused(
                Diagnostic::error(codes::RECORD_INVALID, message)
                    .note("nothing was removed")
                    .help("look at the pins with `bpftool map`, and remove them by hand"),
            )
        };
        match kernel.inspect(path) {
            Ok(PathKind::Other) => {}
            Ok(_) => return Err(invalid("it is a directory or a symbolic link")),
            Err(Errno::ENOENT) => {
                let place = path.parent().unwrap_or(path).display().to_string();
                return Err(refused(
                    Diagnostic::error(
                        codes::RECORD_MISSING,
                        format!("{place} has no record of a load, {NAME}"),
                    )
                    .note("nothing was removed: bpfplan removes only what it pinned itself")
                    .help("name the directory that was given to `load --pin-maps`"),
                ));
            }
            Err(errno) => return Err(failed(errno)),
        }
        let map = match kernel.open_pin(path) {
            Ok(map) => map,
            Err(Errno::EINVAL) => return Err(invalid("it is not a map")),
            Err(errno) => return Err(failed(errno)),
        };
        let info = kernel.info(&map).map_err(failed)?;
        let size = usize::try_from(info.value_size).unwrap_or(usize::MAX);
        if info.map_type != MapType(uapi::BPF_MAP_TYPE_ARRAY)
            || info.key_size != 4
            || info.max_entries != 1
            || !(HEADER..=MAX_SIZE).contains(&size)
        {
            return Err(invalid("it is another kind of map"));
        }
        if kernel.is_frozen(&map).map_err(failed)? == Some(false) {
            return Err(invalid("it is not frozen, so it may have been changed"));
        }
        let bytes = kernel.read(&map, 0).map_err(failed)?;
        let record = Self::decode(&bytes).map_err(|why| invalid(&why))?;
        Ok((record, info.id))
    }
}

fn has_types(maps: &[RecordedMap]) -> bool {
    let mut templates = maps.iter().filter_map(|map| map.template.as_ref());
    templates.any(|template| template.btf.is_some())
}

fn refused(problem: Diagnostic) -> LoadError {
    LoadError::new(ErrorKind::Refused, vec![problem])
}

#[cfg(test)]
mod tests;
