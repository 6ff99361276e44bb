//! The file format: JSON that people read and diff, and a compact binary form of the same model.
//!
//! Both are complete and both load. An unknown version or field is refused, never guessed.

use ::bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::Plan;

mod binary;
pub mod bytes;
#[cfg(feature = "schema")]
mod schema;
mod values;

/// Version of the file format that this crate reads and writes.
pub const VERSION: u32 = 1;

/// First bytes of a binary plan, before the version as four little-endian bytes.
pub const MAGIC: [u8; 8] = *b"bpfplan\0";

/// Why bytes are not a plan.
#[derive(Debug, Error)]
pub enum FormatError {
    /// Neither JSON nor the binary form.
    #[error("this is neither a JSON plan nor a binary plan")]
    NotAPlan,
    /// A version that this crate does not know.
    #[error("the plan has format version {found}, this bpfplan reads version {VERSION}")]
    Version {
        /// The version in the file.
        found: u64,
    },
    /// JSON that is not a plan; the text says where.
    #[error("the JSON plan does not read: {0}")]
    Json(#[from] serde_json::Error),
    /// A damaged binary plan.
    #[error("the binary plan does not read: {0}")]
    Binary(#[from] postcard::Error),
    /// Bytes after the end of a binary plan.
    #[error("{0} bytes stand after the end of the binary plan")]
    TrailingBytes(usize),
}

/// Whether the bytes look like a plan in one of the two forms, rather than an object.
#[must_use]
pub fn is_plan(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) || starts_with_brace(bytes)
}

/// Reads a plan in either form. It is not validated yet: see [`crate::validate`].
///
/// # Errors
/// [`FormatError`]; memory stays in proportion to the input.
pub fn read(bytes: &[u8]) -> Result<Plan, FormatError> {
    read_form(bytes, None)
}

/// As [`read`], without copying what the kernel gets as it is: the BTF blob and the contents of a
/// binary plan are parts of `bytes`, which live on as long as these do.
///
/// # Errors
/// As [`read`].
pub fn read_shared(bytes: &Bytes) -> Result<Plan, FormatError> {
    read_form(bytes, Some(bytes))
}

fn read_form(bytes: &[u8], whole: Option<&Bytes>) -> Result<Plan, FormatError> {
    if bytes.starts_with(&MAGIC) {
        read_binary(bytes, whole)
    } else if starts_with_brace(bytes) {
        read_json(bytes)
    } else {
        Err(FormatError::NotAPlan)
    }
}

/// Writes the plan as pretty-printed JSON with a newline at its end.
///
/// # Errors
/// None in practice: a plan has nothing that JSON cannot hold.
pub fn to_json(plan: &Plan) -> Result<String, FormatError> {
    let mut text = serde_json::to_string_pretty(plan)?;
    text.push('\n');
    Ok(text)
}

/// Writes the plan in the binary form: [`MAGIC`], the version, the model in postcard.
///
/// # Errors
/// None in practice.
pub fn to_binary(plan: &Plan) -> Result<Vec<u8>, FormatError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    Ok(postcard::to_extend(plan, bytes)?)
}

/// The version is looked at first, so that a newer plan is told apart from a damaged one.
fn read_json(bytes: &[u8]) -> Result<Plan, FormatError> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    let Version { version } = serde_json::from_slice(bytes)?;
    if version != u64::from(VERSION) {
        return Err(FormatError::Version { found: version });
    }
    Ok(serde_json::from_slice(bytes)?)
}

fn read_binary(bytes: &[u8], whole: Option<&Bytes>) -> Result<Plan, FormatError> {
    let body = bytes.strip_prefix(&MAGIC).ok_or(FormatError::NotAPlan)?;
    let (version, body) = body.split_first_chunk().ok_or(FormatError::NotAPlan)?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(FormatError::Version {
            found: version.into(),
        });
    }
    let (plan, rest) = binary::read(body, whole)?;
    if !rest.is_empty() {
        return Err(FormatError::TrailingBytes(rest.len()));
    }
    if plan.version != VERSION {
        return Err(FormatError::Version {
            found: plan.version.into(),
        });
    }
    Ok(plan)
}

fn starts_with_brace(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// The JSON Schema of a plan, as `bpfplan schema plan` prints it.
#[cfg(feature = "schema")]
#[must_use]
pub fn schema() -> schemars::Schema {
    schema::plan()
}

/// Serialises `value` for people, or `compact` for the binary form.
fn by_form<S, H, C>(serializer: S, human: &H, compact: &C) -> Result<S::Ok, S::Error>
where
    S: serde::Serializer,
    H: Serialize,
    C: Serialize,
{
    if serializer.is_human_readable() {
        human.serialize(serializer)
    } else {
        compact.serialize(serializer)
    }
}
