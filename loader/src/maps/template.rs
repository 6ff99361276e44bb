//! What inner maps of an outer map look like, which the kernel never tells.

use std::path::Path;
use std::sync::Arc;

use bpfplan_plan::rules::{InnerShape, SpecialFields};
use bpfplan_plan::{BtfIds, Diagnostic, Map, MapType, MaxEntries, Plan, Template, uapi};

use super::{Info, MapError, RawMap};
use crate::codes;
use crate::kernel::{Errno, Kernel as _};
use crate::record::{Record, RecordedTemplate};
use crate::sys::RealKernel;

/// The template of an outer map: the attributes and types that all its inner maps have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InnerTemplate(Arc<Parts>);

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    attributes: RecordedTemplate,
    types: Types,
}

/// Where the types of keys and values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Types {
    /// There are none.
    None,
    /// A blob for `BPF_BTF_LOAD`.
    Blob {
        blob: Arc<[u8]>,
        ids: BtfIds,
        same: SameBtf,
    },
    /// BTF that the kernel has.
    Loaded { btf_id: u32, ids: BtfIds },
}

/// Whether the kernel wants all inner maps to have one BTF object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SameBtf {
    No,
    /// The blob has list or tree roots, though perhaps not in these values.
    Perhaps,
    Yes,
}

impl InnerTemplate {
    /// The template of the outer map with that name in a plan.
    ///
    /// # Errors
    /// [`codes::TEMPLATE_UNKNOWN`] if the plan has no such map, or it has no template.
    pub fn from_plan(plan: &Plan, outer: &str) -> Result<Self, MapError> {
        let map = plan.map(outer);
        let template = map.and_then(|map| Some((map, map.inner.as_deref()?)));
        let (map, template) = template.ok_or_else(|| {
            let what = match map {
                None => "the plan has no such map",
                Some(map) if map.is_outer() => "the plan has no template for it",
                Some(_) => "it holds no maps",
            };
            MapError::new(Diagnostic::error(codes::TEMPLATE_UNKNOWN, what).map(outer))
        })?;
        let blob = plan.btf.as_ref().into();
        let mut special = SpecialFields::new(&plan.types);
        Ok(Self::of_load(
            map,
            template,
            &mut special,
            template.btf,
            &blob,
        ))
    }

    /// The template of the outer map in a plan that this map was made from, as far as the kernel shows
    /// it: of the same kind and name, of which the kernel has 15 bytes, with keys of the same size.
    /// Where several are, the one that is called as the pin is.
    ///
    /// # Errors
    /// [`codes::TEMPLATE_UNKNOWN`] if there is none, or if there are several.
    pub fn matching(plan: &Plan, outer: &RawMap) -> Result<Self, MapError> {
        let info = outer.info();
        let is_like = |map: &&Map| {
            let named = info.name.is_empty()
                || map.kernel_name() == info.name
                || map.kernel_name().replace('.', "_") == info.name;
            map.map_type == info.map_type && map.key_size == info.key_size && named
        };
        let like: Vec<&Map> = plan.maps.iter().filter(is_like).collect();
        let pin = outer.pin().and_then(Path::file_name);
        let pinned =
            |map: &&&Map| pin.is_some_and(|pin| pin == map.name.replace('.', "_").as_str());
        let found = match like.as_slice() {
            [map] => Some(*map),
            several => several.iter().find(pinned).copied(),
        };
        if let Some(map) = found {
            return Self::from_plan(plan, &map.name);
        }
        let what = if like.is_empty() {
            format!(
                "the plan has no {} '{}' with keys of {} bytes",
                info.map_type,
                outer.described().escape_debug(),
                info.key_size
            )
        } else {
            let names: Vec<String> = like
                .iter()
                .map(|map| format!("'{}'", map.name.escape_debug()))
                .collect();
            format!("it may be any of {} in the plan", names.join(", "))
        };
        let outers = plan.maps.iter().filter(|map| map.inner.is_some());
        let outers: Vec<String> = outers
            .map(|map| format!("'{}'", map.name.escape_debug()))
            .collect();
        let mut diagnostic =
            Diagnostic::error(codes::TEMPLATE_UNKNOWN, what).map(outer.described());
        diagnostic.help = Some(if outers.is_empty() {
            "no map of this plan has inner maps: name the plan that it was loaded from".to_owned()
        } else {
            format!("name the map in the plan that it is: {}", outers.join(", "))
        });
        Err(MapError::new(diagnostic))
    }

    /// The template of a load, with the BTF that the kernel took for it. `special` are the fields of
    /// the plan's types: many templates may have one.
    pub(crate) fn of_load(
        outer: &Map,
        template: &Template,
        special: &mut SpecialFields<'_>,
        btf: Option<BtfIds>,
        blob: &Arc<[u8]>,
    ) -> Self {
        let value = template.value_type;
        let same = outer.with_programs.is_some()
            || value.is_some_and(|value| special.needs_same_btf(value));
        let types = match btf {
            Some(ids) if !blob.is_empty() => Types::Blob {
                blob: Arc::clone(blob),
                ids,
                same: if same { SameBtf::Yes } else { SameBtf::No },
            },
            _ => Types::None,
        };
        Self(Arc::new(Parts {
            attributes: RecordedTemplate::of(template),
            types,
        }))
    }

    /// The template of the outer map with that id, from the record of the load that made it;
    /// `None` if the record has none.
    #[must_use]
    pub fn from_record(record: &Record, outer_id: u32) -> Option<Self> {
        let map = record.maps.iter().find(|map| map.id == outer_id)?;
        let attributes = map.template.clone()?;
        let types = match attributes.btf {
            Some(ids) => Types::Blob {
                blob: record.btf.as_slice().into(),
                ids,
                same: mentions_roots(&record.btf),
            },
            None => Types::None,
        };
        Some(Self(Arc::new(Parts { attributes, types })))
    }

    /// The template of which that map, which is in an outer map, is an example. Its number of
    /// entries is that of the example.
    #[must_use]
    pub fn like(inner: &RawMap) -> Self {
        let info = inner.info();
        let mut map_flags = info.map_flags;
        if matches!(
            info.map_type.0,
            uapi::BPF_MAP_TYPE_DEVMAP | uapi::BPF_MAP_TYPE_DEVMAP_HASH
        ) {
            // The kernel gives it to all of them and takes it from nobody.
            map_flags &= !uapi::BPF_F_RDONLY_PROG;
        }
        let ids = types_of(info);
        let types = ids.map_or(Types::None, |ids| Types::Loaded {
            btf_id: info.btf_id,
            ids,
        });
        Self(Arc::new(Parts {
            attributes: RecordedTemplate {
                name: inner.name().to_owned(),
                map_type: info.map_type.0,
                key_size: info.key_size,
                value_size: info.value_size,
                max_entries: Some(info.max_entries),
                map_flags,
                map_extra: info.map_extra,
                numa_node: 0,
                btf: ids,
            },
            types,
        }))
    }

    /// The attributes as they are recorded.
    #[must_use]
    pub fn attributes(&self) -> &RecordedTemplate {
        &self.0.attributes
    }

    /// The number of entries, on this machine.
    ///
    /// # Errors
    /// Those of counting possible CPUs, where it is their number.
    pub(super) fn max_entries(&self) -> Result<u32, Errno> {
        match self.0.attributes.max_entries {
            Some(entries) => Ok(entries),
            None => RealKernel::new().possible_cpus(),
        }
    }

    pub(super) fn types(&self) -> &Types {
        &self.0.types
    }

    /// What the kernel compares inner maps with.
    pub(super) fn shape(&self) -> InnerShape {
        let attributes = &self.0.attributes;
        InnerShape {
            map_type: MapType(attributes.map_type),
            key_size: attributes.key_size,
            value_size: attributes.value_size,
            map_flags: attributes.map_flags,
            max_entries: self.max_entries().unwrap_or(0),
        }
    }
}

impl RecordedTemplate {
    /// The attributes of a template in a plan.
    pub(crate) fn of(template: &Template) -> Self {
        Self {
            name: template.name.clone(),
            map_type: template.map_type.0,
            key_size: template.key_size,
            value_size: template.value_size,
            max_entries: match template.max_entries {
                MaxEntries::Count(count) => Some(count),
                MaxEntries::PossibleCpus => None,
            },
            map_flags: template.map_flags,
            map_extra: template.map_extra,
            numa_node: template.numa_node,
            btf: template.btf,
        }
    }

    /// The attributes as a map of a plan, for the kernel's rules.
    pub(super) fn to_map(&self) -> Template {
        Map {
            map_flags: self.map_flags,
            map_extra: self.map_extra,
            numa_node: self.numa_node,
            btf: self.btf,
            ..Map::new(
                self.name.clone(),
                MapType(self.map_type),
                self.key_size,
                self.value_size,
                self.max_entries
                    .map_or(MaxEntries::PossibleCpus, MaxEntries::Count),
            )
        }
    }
}

/// The type ids of a map that has types.
pub(super) fn types_of(info: &Info) -> Option<BtfIds> {
    (info.btf_id != 0 && info.btf_value_type_id != 0).then_some(BtfIds {
        key_type_id: info.btf_key_type_id,
        value_type_id: info.btf_value_type_id,
    })
}

/// Whether a blob may have roots of lists or trees, or references to objects of programs. Names
/// are among its strings then.
fn mentions_roots(blob: &[u8]) -> SameBtf {
    const NAMES: [&[u8]; 4] = [b"bpf_list_head", b"bpf_rb_root", b"kptr", b"percpu_kptr"];
    let mut names = blob.split(|byte| *byte == 0);
    if names.any(|name| NAMES.contains(&name)) {
        SameBtf::Perhaps
    } else {
        SameBtf::No
    }
}

impl RawMap {
    /// Says what inner maps of this outer map look like, where neither the load nor a record
    /// tells.
    #[must_use]
    pub fn with_template(mut self, template: InnerTemplate) -> Self {
        self.template = template.into();
        self
    }

    /// What inner maps of this outer map look like: from the load, else from the record beside
    /// the pin.
    ///
    /// # Errors
    /// [`codes::TEMPLATE_UNKNOWN`] if nobody tells.
    pub fn inner_template(&self) -> Result<&InnerTemplate, MapError> {
        if let Some(template) = self.template.get() {
            return Ok(template);
        }
        let template = self.recorded_template()?;
        Ok(self.template.get_or_init(|| template))
    }

    fn recorded_template(&self) -> Result<InnerTemplate, MapError> {
        let unknown = |why: String| {
            Diagnostic::error(
                codes::TEMPLATE_UNKNOWN,
                format!("it is not known what its inner maps look like: {why}"),
            )
            .map(self.described())
            .note("the kernel does not tell; the record of a load and the plan do")
        };
        let Some(pin) = self.pin() else {
            return Err(MapError::new(
                unknown("it was opened neither from a load nor from a pin".to_owned())
                    .help("say it with `with_template(InnerTemplate::from_plan(...))`"),
            ));
        };
        let help = "name the plan or object that it was loaded from (`--plan`, or \
                    `InnerTemplate::matching`); a load with `--pin-maps` leaves a record";
        let directory = match pin.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let record = Record::open(&RealKernel::new(), directory).map_err(|error| {
            let why = error.diagnostics.into_iter().next();
            let why = why.map_or_else(String::new, |why| why.message);
            MapError::new(unknown(why).help(help))
        })?;
        InnerTemplate::from_record(&record, self.id()).ok_or_else(|| {
            let directory = directory.display();
            let id = self.id();
            let why = if record.maps.iter().any(|map| map.id == id) {
                format!("the record in {directory} has no template of it")
            } else {
                format!("the record in {directory} is of other maps, none of which has id {id}")
            };
            MapError::new(unknown(why).help(help))
        })
    }
}
