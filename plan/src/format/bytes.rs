//! Bytes: base64 in JSON, in lines that diff well; as they are in the binary form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// Bytes in a line of base64: 48 bytes make 64 characters.
const LINE: usize = 48;

/// Shape of the bytes in JSON: base64 in lines of 64 characters.
#[cfg(feature = "schema")]
pub type BytesSchema = Vec<String>;

/// See `serde(with)`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.collect_seq(bytes.chunks(LINE).map(|line| STANDARD.encode(line)))
    } else {
        serializer.serialize_bytes(bytes)
    }
}

/// See `serde(with)`.
///
/// # Errors
/// Those of the deserializer, and text that is not base64.
pub fn deserialize<'de, D, B>(deserializer: D) -> Result<B, D::Error>
where
    D: Deserializer<'de>,
    B: From<Vec<u8>>,
{
    if deserializer.is_human_readable() {
        let lines: Vec<String> = Vec::deserialize(deserializer)?;
        let mut bytes = Vec::new();
        for line in lines {
            STANDARD
                .decode_vec(line, &mut bytes)
                .map_err(D::Error::custom)?;
        }
        Ok(bytes.into())
    } else {
        let bytes: &[u8] = Deserialize::deserialize(deserializer)?;
        Ok(bytes.to_vec().into())
    }
}
