//! Members of unions, in bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The value that begins at `offset`; zeros if it does not lie within the bytes, which generated
/// code never asks for.
#[must_use]
pub fn read<T: FromBytes>(bytes: &[u8], offset: usize) -> T {
    bytes
        .get(offset..)
        .and_then(|rest| T::read_from_prefix(rest).ok())
        .map_or_else(T::new_zeroed, |(value, _)| value)
}

/// Writes the value to `offset`; nothing if it does not fit there, which generated code never
/// asks for.
pub fn write<T: IntoBytes + Immutable>(bytes: &mut [u8], offset: usize, value: &T) {
    if let Some(rest) = bytes.get_mut(offset..) {
        // A value that does not fit is left out.
        let _ = value.write_to_prefix(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::{read, write};

    #[test]
    fn values_are_where_they_were_put() {
        let mut bytes = [0; 8];
        write(&mut bytes, 4, &0x0102_0304_u32);
        assert_eq!(read::<u32>(&bytes, 4), 0x0102_0304);
        assert_eq!(read::<u32>(&bytes, 0), 0);
    }

    #[test]
    fn nothing_is_outside() {
        let mut bytes = [1; 4];
        write(&mut bytes, 1, &u32::MAX);
        write(&mut bytes, 9, &u32::MAX);
        assert_eq!(bytes, [1; 4]);
        assert_eq!(read::<u32>(&bytes, 1), 0);
        assert_eq!(read::<u8>(&bytes, usize::MAX), 0);
    }
}
