//! How values that are more than their fields look in the two forms.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::by_form;
use crate::model::{MapType, MaxEntries, Slot, SlotTarget};

impl Serialize for MapType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        by_form(serializer, &self.to_string(), &self.0)
    }
}

impl<'de> Deserialize<'de> for MapType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let name = String::deserialize(deserializer)?;
            Self::from_name(&name)
                .ok_or_else(|| D::Error::custom(format_args!("unknown map type {name:?}")))
        } else {
            u32::deserialize(deserializer).map(Self)
        }
    }
}

/// `max_entries` in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "MaxEntries"))]
enum MaxEntriesJson {
    /// A number of entries.
    Count(u32),
    /// What only the target knows.
    Symbolic(SymbolicJson),
}

/// `{"possible_cpus": true}`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "SymbolicMaxEntries"))]
struct SymbolicJson {
    /// Always true: the number of possible CPUs of the target.
    possible_cpus: bool,
}

impl Serialize for MaxEntries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (human, compact) = match *self {
            Self::Count(count) => (MaxEntriesJson::Count(count), Some(count)),
            Self::PossibleCpus => (
                MaxEntriesJson::Symbolic(SymbolicJson {
                    possible_cpus: true,
                }),
                None,
            ),
        };
        by_form(serializer, &human, &compact)
    }
}

impl<'de> Deserialize<'de> for MaxEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            let count = Option::<u32>::deserialize(deserializer)?;
            return Ok(count.map_or(Self::PossibleCpus, Self::Count));
        }
        match MaxEntriesJson::deserialize(deserializer)? {
            MaxEntriesJson::Count(count) => Ok(Self::Count(count)),
            MaxEntriesJson::Symbolic(SymbolicJson {
                possible_cpus: true,
            }) => Ok(Self::PossibleCpus),
            MaxEntriesJson::Symbolic(_) => Err(D::Error::custom("possible_cpus must be true")),
        }
    }
}

/// A slot in JSON: its index and either a map or a program.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Slot"))]
struct SlotJson {
    /// Index in `.values`.
    index: u32,
    /// Name of the map in the slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    map: Option<String>,
    /// Name of the program in the slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    program: Option<String>,
}

/// A slot in the binary form: index, whether it is a program, name.
type SlotBinary = (u32, bool, String);

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (map, program) = match &self.target {
            SlotTarget::Map(name) => (Some(name.clone()), None),
            SlotTarget::Program(name) => (None, Some(name.clone())),
        };
        let compact = match &self.target {
            SlotTarget::Map(name) => (self.index, false, name),
            SlotTarget::Program(name) => (self.index, true, name),
        };
        by_form(
            serializer,
            &SlotJson {
                index: self.index,
                map,
                program,
            },
            &compact,
        )
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            let (index, is_program, name) = SlotBinary::deserialize(deserializer)?;
            let target = if is_program {
                SlotTarget::Program(name)
            } else {
                SlotTarget::Map(name)
            };
            return Ok(Self { index, target });
        }
        let SlotJson {
            index,
            map,
            program,
        } = SlotJson::deserialize(deserializer)?;
        let target = match (map, program) {
            (Some(name), None) => SlotTarget::Map(name),
            (None, Some(name)) => SlotTarget::Program(name),
            _ => return Err(D::Error::custom("a slot holds either a map or a program")),
        };
        Ok(Self { index, target })
    }
}

#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{MapType, MaxEntries, MaxEntriesJson, Slot, SlotJson};

    impl JsonSchema for MapType {
        fn schema_name() -> Cow<'static, str> {
            "MapType".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "type": "string",
                "description": "The kernel's spelling in lower case, such as `array_of_maps`, or `type_<n>`.",
                "pattern": "^[a-z0-9_]+$",
            })
        }
    }

    impl JsonSchema for MaxEntries {
        fn schema_name() -> Cow<'static, str> {
            MaxEntriesJson::schema_name()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            MaxEntriesJson::json_schema(generator)
        }
    }

    impl JsonSchema for Slot {
        fn schema_name() -> Cow<'static, str> {
            SlotJson::schema_name()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            SlotJson::json_schema(generator)
        }
    }
}
