//! Initial contents of maps: bytes, and the zeros behind them that nobody stores.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use crate::model::{Data, Plan};

/// Most bytes that the initial contents of all maps of a plan may have together.
///
/// A section of zeros costs a few bytes in an object and in a plan, however large it is; this
/// bounds the work and the memory that it can ask for.
pub const MAX_TOTAL: u64 = 256 << 20;

/// Zeros that are hashed at a time.
const ZEROS: [u8; 4096] = [0; 4096];

impl Data {
    /// Contents of `size` bytes that begin with `bytes`; all others are zeros. Bytes beyond
    /// `size` do not count.
    #[must_use]
    pub fn new(bytes: &[u8], size: u32, frozen: bool) -> Self {
        Self {
            sha256: Some(sha256(bytes, size)),
            ..Self::unhashed(size, frozen)
        }
    }

    /// The same without a hash: making it takes longer than all the rest of a compilation.
    #[must_use]
    pub fn unhashed(size: u32, frozen: bool) -> Self {
        Self {
            size,
            sha256: None,
            frozen,
        }
    }

    /// The same for other bytes, with a hash if this one has it.
    #[must_use]
    pub fn changed(&self, bytes: &[u8], size: u32) -> Self {
        match self.sha256 {
            Some(_) => Self::new(bytes, size, self.frozen),
            None => Self::unhashed(size, self.frozen),
        }
    }
}

/// How [`Data::sha256`] is written.
pub(crate) mod sha256_text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        hash: &Option<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(hash.as_deref().unwrap_or_default())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<String>, D::Error> {
        let hash = String::deserialize(deserializer)?;
        Ok(Some(hash).filter(|hash| !hash.is_empty()))
    }
}

impl Plan {
    /// Gives all initial contents their hashes.
    pub fn hash_contents(&mut self) {
        let contents: HashMap<&str, &[u8]> = self
            .contents
            .iter()
            .map(|contents| (contents.map.as_str(), contents.bytes.as_ref()))
            .collect();
        for map in &mut self.maps {
            if let Some(data) = &mut map.data {
                let bytes = contents.get(map.name.as_str()).copied();
                *data = Data::new(bytes.unwrap_or_default(), data.size, data.frozen);
            }
        }
    }

    /// The bytes of [`Plan::contents`] by the name of their map.
    #[must_use]
    pub fn contents_by_map(&self) -> HashMap<&str, &[u8]> {
        let contents = self.contents.iter();
        contents
            .map(|contents| (contents.map.as_str(), contents.bytes.as_ref()))
            .collect()
    }
}

/// The bytes without the zeros at their end, as [`crate::Contents::bytes`] has them.
#[must_use]
pub fn stored(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0);
    end.and_then(|end| bytes.get(..=end)).unwrap_or_default()
}

/// SHA-256 in lower-case hex, as in [`crate::Object::sha256`].
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of `size` bytes that begin with `bytes`, in lower-case hex.
fn sha256(bytes: &[u8], size: u32) -> String {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let bytes = bytes.get(..size).unwrap_or(bytes);
    let mut hash = Sha256::new();
    hash.update(bytes);
    let mut left = size - bytes.len();
    while left > 0 {
        let part = ZEROS.get(..left).unwrap_or(&ZEROS);
        hash.update(part);
        left -= part.len();
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_end_are_not_stored() {
        assert_eq!(stored(&[0, 1, 0, 2, 0, 0]), [0, 1, 0, 2]);
        assert_eq!(stored(&[0, 0]), [0_u8; 0]);
        assert_eq!(stored(&[]), [0_u8; 0]);
    }

    #[test]
    fn zeros_at_the_end_are_hashed() {
        let mut whole = vec![7; 3];
        whole.resize(10_000, 0);
        assert_eq!(sha256(&[7; 3], 10_000), sha256(&whole, 10_000));
        assert_ne!(sha256(&[7; 3], 10_000), sha256(&[7; 3], 10_001));
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(&[], 0), empty);
        assert_eq!(sha256(&[7; 3], 0), empty);
    }
}
