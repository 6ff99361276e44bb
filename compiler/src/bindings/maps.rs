//! The maps of a plan as fields of the generated structs.

use std::collections::HashMap;

use bpfplan_plan::types::SecVar;
use bpfplan_plan::{Diagnostic, Map, Plan, Type, WithPrograms, plain, uapi};

use super::collect::Items;
use super::names;
use super::ty::{SUPPORT, Shape};
use crate::codes;

/// A map as a field.
#[derive(Debug)]
pub(super) struct MapField {
    /// Name in Rust.
    pub(super) name: String,
    /// [`Map::name`].
    pub(super) map: String,
    /// The handle's type, which needs the items' paths.
    pub(super) handle: Handle,
    /// The struct of its initial contents, if they may be set before the load.
    pub(super) contents: Option<Shape>,
    /// Whether a load without programs leaves it out.
    pub(super) optional: bool,
    /// What it is, in words.
    pub(super) doc: String,
}

/// A handle of `bpfplan_loader::maps`, or `Section` of `bpfplan_loader::bindings`, with its types.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) name: &'static str,
    pub(super) arguments: Vec<Argument>,
}

/// A type argument of a handle.
#[derive(Debug)]
pub(super) enum Argument {
    /// A key or value.
    Data(Shape),
    /// The handle of inner maps.
    Handle(Box<Handle>),
}

/// The fields, one for each map.
///
/// # Errors
/// Maps that would have one name in Rust.
pub(super) fn fields(plan: &Plan, items: &mut Items<'_>) -> Result<Vec<MapField>, Vec<Diagnostic>> {
    let mut fields: Vec<MapField> = Vec::new();
    let mut seen: HashMap<String, &Map> = HashMap::new();
    let mut problems = Vec::new();
    for map in &plan.maps {
        let name = names::identifier(&field_name(plan, map));
        if let Some(other) = seen.insert(name.clone(), map) {
            problems.push(collision(&name, map, other));
            continue;
        }
        let (handle, contents) = match section(plan, map) {
            Some((datasec, vars)) => {
                let doc = format!("section {}", plain(datasec).replace('`', "'"));
                let value = items.section(&names::camel(datasec), &doc, vars, map.value_size);
                let settable = map.map_type.0 == uapi::BPF_MAP_TYPE_ARRAY
                    && map.externs.is_empty()
                    && map.data.is_some();
                let handle = handle(items, map, &name, Some(&value));
                (handle, settable.then_some(value))
            }
            None => (handle(items, map, &name, None), None),
        };
        fields.push(MapField {
            name,
            map: map.name.clone(),
            handle,
            contents,
            optional: optional(map),
            doc: describe(map),
        });
    }
    if problems.is_empty() {
        Ok(fields)
    } else {
        Err(problems)
    }
}

/// The map's name in Rust: that of the section for global data, as skeletons of libbpf have it.
fn field_name(plan: &Plan, map: &Map) -> String {
    let section = section(plan, map).map(|(name, _)| name);
    let dotted = match section {
        Some(name) => name,
        None if map.data.is_some() => map.name.find('.').map_or(map.name.as_str(), |dot| {
            map.name.get(dot..).unwrap_or_default()
        }),
        None => return map.name.clone(),
    };
    dotted.strip_prefix('.').unwrap_or(dotted).to_owned()
}

/// The section that a map of global data holds, if its types are known.
fn section<'p>(plan: &'p Plan, map: &Map) -> Option<(&'p str, &'p [SecVar])> {
    match plan.type_by_id(map.value_type?)? {
        Type::Datasec { name, vars, size } if *size == map.value_size => Some((name, vars)),
        _ => None,
    }
}

/// The handle of a map; `value` is the type of its values, if it is known already.
fn handle<I>(items: &mut Items<'_>, map: &Map<I>, name: &str, value: Option<&Shape>) -> Handle
where
    Map<I>: WithInner,
{
    let kind = map.map_type.0;
    let (handle, key, held) = match kind {
        uapi::BPF_MAP_TYPE_ARRAY if value.is_some() => ("Section", false, Held::Value),
        uapi::BPF_MAP_TYPE_ARRAY => ("Array", false, Held::Value),
        uapi::BPF_MAP_TYPE_PERCPU_ARRAY => ("PerCpuArray", false, Held::Value),
        uapi::BPF_MAP_TYPE_HASH | uapi::BPF_MAP_TYPE_LRU_HASH => ("Hash", true, Held::Value),
        uapi::BPF_MAP_TYPE_PERCPU_HASH | uapi::BPF_MAP_TYPE_LRU_PERCPU_HASH => {
            ("PerCpuHash", true, Held::Value)
        }
        uapi::BPF_MAP_TYPE_LPM_TRIE => ("LpmTrie", true, Held::Value),
        uapi::BPF_MAP_TYPE_QUEUE => ("Queue", false, Held::Value),
        uapi::BPF_MAP_TYPE_STACK => ("Stack", false, Held::Value),
        uapi::BPF_MAP_TYPE_BLOOM_FILTER => ("BloomFilter", false, Held::Value),
        uapi::BPF_MAP_TYPE_RINGBUF => ("RingBuf", false, Held::Nothing),
        uapi::BPF_MAP_TYPE_USER_RINGBUF => ("UserRingBuf", false, Held::Nothing),
        uapi::BPF_MAP_TYPE_PROG_ARRAY => ("ProgArray", false, Held::Nothing),
        uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY => ("PerfEventArray", false, Held::Nothing),
        uapi::BPF_MAP_TYPE_CGROUP_ARRAY => ("CgroupArray", false, Held::Nothing),
        uapi::BPF_MAP_TYPE_STACK_TRACE if map.map_flags & uapi::BPF_F_STACK_BUILD_ID == 0 => {
            ("StackTrace", false, Held::Nothing)
        }
        uapi::BPF_MAP_TYPE_SK_STORAGE
        | uapi::BPF_MAP_TYPE_TASK_STORAGE
        | uapi::BPF_MAP_TYPE_INODE_STORAGE
        | uapi::BPF_MAP_TYPE_CGRP_STORAGE => ("LocalStorage", false, Held::Value),
        uapi::BPF_MAP_TYPE_DEVMAP => ("DevMap", false, Held::Nothing),
        uapi::BPF_MAP_TYPE_DEVMAP_HASH => ("DevMapHash", false, Held::Nothing),
        uapi::BPF_MAP_TYPE_CPUMAP => ("CpuMap", false, Held::Nothing),
        uapi::BPF_MAP_TYPE_XSKMAP => ("XskMap", false, Held::Nothing),
        uapi::BPF_MAP_TYPE_SOCKMAP => ("SockMap", false, Held::Nothing),
        uapi::BPF_MAP_TYPE_SOCKHASH => ("SockHash", true, Held::Nothing),
        uapi::BPF_MAP_TYPE_REUSEPORT_SOCKARRAY => ("ReuseportSockArray", false, Held::Nothing),
        uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS => ("ArrayOfMaps", false, Held::Maps),
        uapi::BPF_MAP_TYPE_HASH_OF_MAPS => ("HashOfMaps", true, Held::Maps),
        _ => ("RawMap", false, Held::Nothing),
    };
    let mut arguments = Vec::new();
    if key {
        let hint = format!("{}__key", names::plain(name));
        let key = items.sized(map.key_type, map.key_size, &hint);
        arguments.push(Argument::Data(key));
    }
    match held {
        Held::Value => {
            let hint = format!("{}__value", names::plain(name));
            let value = match value {
                Some(value) => value.clone(),
                None => items.sized(map.value_type, map.value_size, &hint),
            };
            arguments.push(Argument::Data(value));
        }
        Held::Maps => {
            let inner = map.inner_handle(items, name);
            let inner = inner.unwrap_or_else(|| Handle {
                name: "RawMap",
                arguments: Vec::new(),
            });
            arguments.push(Argument::Handle(Box::new(inner)));
        }
        Held::Nothing => {}
    }
    Handle {
        name: handle,
        arguments,
    }
}

/// What the last type argument of a handle is.
enum Held {
    Value,
    Maps,
    Nothing,
}

impl Handle {
    /// The type in Rust; `names` are the items' paths.
    pub(super) fn render(&self, names: &dyn Fn(usize) -> String) -> String {
        let arguments: Vec<String> = self
            .arguments
            .iter()
            .map(|argument| match argument {
                Argument::Data(shape) => shape.ty.render(names),
                Argument::Handle(handle) => handle.render(names),
            })
            .collect();
        let path = match self.name {
            "Section" => format!("{SUPPORT}::Section"),
            name => format!("::bpfplan_loader::maps::{name}"),
        };
        if arguments.is_empty() {
            path
        } else {
            format!("{path}<{}>", arguments.join(", "))
        }
    }
}

/// Maps that may have a template, and templates, which have none.
pub(super) trait WithInner {
    /// The handle of the inner maps.
    fn inner_handle(&self, items: &mut Items<'_>, name: &str) -> Option<Handle>;
}

impl WithInner for Map {
    fn inner_handle(&self, items: &mut Items<'_>, name: &str) -> Option<Handle> {
        let inner = self.inner.as_deref()?;
        Some(handle(items, inner, &format!("{name}__inner"), None))
    }
}

impl WithInner for bpfplan_plan::Template {
    fn inner_handle(&self, _: &mut Items<'_>, _: &str) -> Option<Handle> {
        None
    }
}

/// Whether nobody can make the map without programs.
fn optional(map: &Map) -> bool {
    matches!(
        map.with_programs,
        Some(WithPrograms::StructOps | WithPrograms::ArenaData)
    )
}

fn describe(map: &Map) -> String {
    let mut text = format!("`{}`: {}", plain(&map.name).replace('`', "'"), map.map_type);
    if let Some(inner) = &map.inner {
        text.push_str(&format!(" that holds maps of type {}", inner.map_type));
    }
    if let Some(source) = &map.source {
        let file = plain(&source.file).replace('`', "'");
        text.push_str(&format!(", declared at `{file}:{}`", source.line));
    }
    text.push('.');
    if optional(map) {
        text.push_str(" A load without programs leaves it out.");
    }
    text
}

fn collision(name: &str, map: &Map, other: &Map) -> Diagnostic {
    Diagnostic::error(
        codes::ONE_RUST_NAME,
        format!(
            "'{}' and '{}' would both be called `{name}` in Rust",
            map.name, other.name
        ),
    )
    .map(&map.name)
    .at(map.source.as_ref(), "the second one")
    .at(
        other.source.as_ref(),
        format!("'{}' is declared here", other.name),
    )
    .help("rename one of them")
}
