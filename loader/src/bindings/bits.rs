//! Bitfields, in bytes.

use super::Bool;

/// An integer that a bitfield may be declared as.
pub trait Bits: Copy {
    /// Makes one of the low `width` bits; signed ones extend the sign.
    fn from_bits(bits: u128, width: u32) -> Self;

    /// Its bits, those beyond its size zero.
    fn to_bits(self) -> u128;
}

macro_rules! bits {
    ($($unsigned:ty, $signed:ty;)*) => {
        $(
            impl Bits for $unsigned {
                fn from_bits(bits: u128, _: u32) -> Self {
                    // More bits than the type has were not declared.
                    Self::try_from(bits & u128::from(Self::MAX)).unwrap_or_default()
                }

                fn to_bits(self) -> u128 {
                    self.into()
                }
            }

            impl Bits for $signed {
                fn from_bits(bits: u128, width: u32) -> Self {
                    let unused = 128_u32.saturating_sub(width).min(127);
                    let number = (bits << unused).cast_signed() >> unused;
                    let bits = number.cast_unsigned() & u128::from(<$unsigned>::MAX);
                    <$unsigned>::try_from(bits).unwrap_or_default().cast_signed()
                }

                fn to_bits(self) -> u128 {
                    self.cast_unsigned().into()
                }
            }
        )*
    };
}

bits! {
    u8, i8;
    u16, i16;
    u32, i32;
    u64, i64;
    u128, i128;
}

impl Bits for Bool {
    fn from_bits(bits: u128, _: u32) -> Self {
        Self::from(bits != 0)
    }

    fn to_bits(self) -> u128 {
        u128::from(self.get())
    }
}

/// The bitfield of `width` bits from bit `offset` on.
///
/// Bits are counted as BTF counts them: from the least significant bit of the first byte on
/// little-endian machines, from the most significant one on big-endian machines. Bits beyond the
/// bytes are zeros.
#[must_use]
pub fn read_bits<T: Bits>(bytes: &[u8], offset: u32, width: u32) -> T {
    T::from_bits(
        get(bytes, offset, width, cfg!(target_endian = "big")),
        width,
    )
}

/// Sets a bitfield as [`read_bits`] reads it; bits of the value beyond `width` are cut, as in C.
pub fn write_bits<T: Bits>(bytes: &mut [u8], offset: u32, width: u32, value: T) {
    set(
        bytes,
        offset,
        width,
        value.to_bits(),
        cfg!(target_endian = "big"),
    );
}

fn get(bytes: &[u8], offset: u32, width: u32, big: bool) -> u128 {
    let mut value = 0;
    for index in 0..width.min(128) {
        let bit = place(offset, index, big)
            .and_then(|(byte, bit)| Some((bytes.get(byte)? >> bit) & 1))
            .unwrap_or(0);
        value |= u128::from(bit) << shift(index, width, big);
    }
    value
}

fn set(bytes: &mut [u8], offset: u32, width: u32, value: u128, big: bool) {
    for index in 0..width.min(128) {
        let Some((byte, bit)) = place(offset, index, big) else {
            return;
        };
        let Some(byte) = bytes.get_mut(byte) else {
            return;
        };
        if (value >> shift(index, width, big)) & 1 == 1 {
            *byte |= 1 << bit;
        } else {
            *byte &= !(1 << bit);
        }
    }
}

/// Byte and bit of the `index`th bit of a field.
fn place(offset: u32, index: u32, big: bool) -> Option<(usize, u32)> {
    let position = offset.checked_add(index)?;
    let bit = position % 8;
    let bit = if big { 7 - bit } else { bit };
    Some((usize::try_from(position / 8).ok()?, bit))
}

/// Which bit of the value the `index`th bit of a field is.
fn shift(index: u32, width: u32, big: bool) -> u32 {
    if big {
        width.min(128).saturating_sub(index + 1)
    } else {
        index
    }
}

#[cfg(test)]
mod tests {
    use super::{Bits as _, get, read_bits, set, write_bits};

    #[test]
    fn both_byte_orders() {
        // struct { u32 a : 4; u32 b : 12; } with a = 5 and b = 0xabc, as clang lays it out.
        for (big, bytes) in [(false, [0xc5, 0xab]), (true, [0x5a, 0xbc])] {
            assert_eq!(get(&bytes, 0, 4, big), 5);
            assert_eq!(get(&bytes, 4, 12, big), 0xabc);
            let mut made = [0; 2];
            set(&mut made, 0, 4, 5, big);
            set(&mut made, 4, 12, 0xabc, big);
            assert_eq!(made, bytes);
        }
    }

    #[test]
    fn neighbours_stay() {
        for big in [false, true] {
            for offset in 0..16 {
                for width in 1..=16 - offset {
                    let mut bytes = [0xff; 2];
                    set(&mut bytes, offset, width, 0, big);
                    let zeros: u32 = bytes.iter().map(|byte| byte.count_zeros()).sum();
                    assert_eq!(zeros, width);
                    assert_eq!(get(&bytes, offset, width, big), 0);
                    set(&mut bytes, offset, width, u128::MAX, big);
                    assert_eq!(bytes, [0xff; 2]);
                }
            }
        }
    }

    #[test]
    fn signs_are_extended() {
        assert_eq!(i32::from_bits(0b1_1111_1101, 9), -3);
        assert_eq!(i32::from_bits(5, 9), 5);
        assert_eq!(i128::from_bits(u128::MAX, 128), -1);
        assert_eq!(i8::from_bits(0xff, 8), -1);
        assert_eq!(u16::from_bits(u128::MAX, 128), u16::MAX);
        let mut bytes = [0; 8];
        write_bits(&mut bytes, 4, 9, -3_i32);
        assert_eq!(read_bits::<i32>(&bytes, 4, 9), -3);
        assert_eq!(read_bits::<u32>(&bytes, 4, 9), 0x1fd);
    }

    #[test]
    fn nothing_is_outside() {
        let mut bytes = [0; 1];
        write_bits(&mut bytes, 4, 200, u64::MAX);
        assert_eq!(bytes, [0xf0]);
        assert_eq!(read_bits::<u64>(&bytes, u32::MAX, 64), 0);
        assert_eq!(read_bits::<u64>(&[], 0, u32::MAX), 0);
    }
}
