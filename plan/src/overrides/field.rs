//! Fields of maps and templates.

use super::problem::shown;
use super::value::Value;
use crate::codes;
use crate::diagnostic::Code;
use crate::model::{Map, MaxEntries, Pinning};
use crate::{number, rules, uapi};

/// Page size for which a plan rounds ring buffers; the loader rounds for its own.
const PAGE_SIZE: u32 = 4096;
/// Flags that maps of global data may gain and lose: the others say what the section is.
const DATA_FLAGS: u32 = uapi::BPF_F_MMAPABLE | uapi::BPF_F_NUMA_NODE;

/// A field that can be overridden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Field {
    MaxEntries,
    MapFlags,
    NumaNode,
    Pinning,
    ValueSize,
}

/// Why a value cannot be set.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Wrong {
    /// The target does not take this value.
    pub(super) fn value(message: impl Into<String>) -> Self {
        Self {
            code: codes::OVERRIDE_VALUE,
            message: message.into(),
            help: None,
        }
    }

    /// The target cannot be set at all, or not to this.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self {
            code: codes::OVERRIDE_REFUSED,
            message: message.into(),
            help: None,
        }
    }

    /// The target is not there.
    pub(super) fn name(message: impl Into<String>) -> Self {
        Self {
            code: codes::OVERRIDE_NAME,
            message: message.into(),
            help: None,
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Field {
    pub(super) const ALL: [Self; 5] = [
        Self::MaxEntries,
        Self::MapFlags,
        Self::NumaNode,
        Self::Pinning,
        Self::ValueSize,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MaxEntries => "max_entries",
            Self::MapFlags => "map_flags",
            Self::NumaNode => "numa_node",
            Self::Pinning => "pinning",
            Self::ValueSize => "value_size",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }
}

/// Sets a field of a map or template, but [`Field::ValueSize`], which is [`super::resize`]'s.
pub(super) fn set<I>(map: &mut Map<I>, field: Field, value: &Value) -> Result<(), Wrong> {
    match field {
        Field::MaxEntries => map.max_entries = max_entries(map, number(value)?)?,
        Field::MapFlags => map.map_flags = map_flags(map, value)?,
        Field::NumaNode => map.numa_node = number(value)?,
        Field::Pinning => map.pinning = pinning(map, value)?,
        Field::ValueSize => {}
    }
    Ok(())
}

/// `bpf_map__set_max_entries` of libbpf.
fn max_entries<I>(map: &Map<I>, count: u32) -> Result<MaxEntries, Wrong> {
    // An arena counts pages; its variables are checked against them.
    if map.data.is_some() && !map.is_arena() && count != 1 {
        let message = "global data is one entry, programs cannot use it otherwise";
        return Err(Wrong::refused(message).help("value_size makes its last array longer"));
    }
    Ok(match count {
        0 if map.map_type.0 == uapi::BPF_MAP_TYPE_PERF_EVENT_ARRAY => MaxEntries::PossibleCpus,
        bytes if map.map_type.is_ring_buffer() => {
            MaxEntries::Count(rules::ring_buffer_size(bytes, PAGE_SIZE))
        }
        count => MaxEntries::Count(count),
    })
}

fn map_flags<I>(map: &Map<I>, value: &Value) -> Result<u32, Wrong> {
    let flags = match value {
        Value::Plain(text) => flags(text)?,
        _ => return Err(not_a_number(value)),
    };
    if map.data.is_some() && (flags ^ map.map_flags) & !DATA_FLAGS != 0 {
        let names = rules::flags::flag_names(DATA_FLAGS).join(" and ");
        let message = format!("only {names} can be added to or taken from global data");
        let kept = rules::flags::flag_names(map.map_flags & !DATA_FLAGS).join("|");
        let wrong = Wrong::refused(message);
        return Err(if kept.is_empty() {
            wrong
        } else {
            wrong.help(format!("keep {kept}"))
        });
    }
    Ok(flags)
}

/// `0x80`, or names with or without `BPF_F_`, joined by `|`.
fn flags(text: &str) -> Result<u32, Wrong> {
    let mut flags = 0;
    for part in text.split('|').map(str::trim) {
        if part.starts_with(|c: char| c.is_ascii_digit()) {
            flags |= to_u32(part)?;
            continue;
        }
        let name = part.strip_prefix("BPF_F_").unwrap_or(part);
        let known = uapi::MAP_FLAGS.iter();
        let known = known.map(|(bit, full)| (*bit, full.strip_prefix("BPF_F_").unwrap_or(full)));
        let found = known.clone().find(|(_, known)| *known == name);
        let Some((bit, _)) = found else {
            let wrong = Wrong::value(format!("'{}' is no flag of a map", shown(part)));
            let help = super::near::help(name, "flags are", known.map(|(_, name)| name));
            return Err(match help {
                Some(help) => wrong.help(help),
                None => wrong,
            });
        };
        flags |= bit;
    }
    Ok(flags)
}

fn pinning<I>(map: &Map<I>, value: &Value) -> Result<Pinning, Wrong> {
    match value {
        Value::Plain(text) if text == "by_name" && map.name.contains('.') => {
            let message = "the pin would have the map's name, and a bpffs takes no `.` in names";
            Err(Wrong::refused(message).help("pin it with the other maps: --pin-maps DIR"))
        }
        Value::Plain(text) if text == "none" => Ok(Pinning::None),
        Value::Plain(text) if text == "by_name" => Ok(Pinning::ByName),
        _ => {
            let message = format!("'{}' is no way of pinning", shown(&value.to_string()));
            Err(Wrong::value(message).help("write none or by_name"))
        }
    }
}

/// A number of 32 bits.
pub(super) fn number(value: &Value) -> Result<u32, Wrong> {
    match value {
        Value::Plain(text) => to_u32(text),
        _ => Err(not_a_number(value)),
    }
}

fn to_u32(text: &str) -> Result<u32, Wrong> {
    let number = number::parse(text).map_err(|help| {
        Wrong::value(format!(
            "'{}' is not a number from 0 to {}",
            shown(text),
            u32::MAX
        ))
        .help(help)
    })?;
    u32::try_from(number)
        .map_err(|_| Wrong::value(format!("{} is more than {}", shown(text), u32::MAX)))
}

fn not_a_number(value: &Value) -> Wrong {
    Wrong::value(format!("{} is not a number", shown(&value.to_string())))
}
