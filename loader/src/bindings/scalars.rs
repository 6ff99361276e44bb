//! Scalars of C that Rust does not have.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `_Bool` as it is in memory: a byte, of which 0 is false and all others are true.
///
/// Rust's `bool` may not hold other bytes than 0 and 1, and a map can.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Bool(u8);

impl Bool {
    /// True, as the byte 1.
    pub const TRUE: Self = Self(1);
    /// False, as the byte 0.
    pub const FALSE: Self = Self(0);

    /// Whether it is true.
    #[must_use]
    pub const fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    fn from(value: bool) -> Self {
        Self(u8::from(value))
    }
}

impl From<Bool> for bool {
    fn from(value: Bool) -> Self {
        value.get()
    }
}

impl PartialEq for Bool {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Bool {}

impl PartialEq<bool> for Bool {
    fn eq(&self, other: &bool) -> bool {
        self.get() == *other
    }
}

impl std::hash::Hash for Bool {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}

impl fmt::Debug for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A pointer of a BPF program: an address that means nothing here. It has 64 bits on all machines.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Ptr(pub u64);

impl Ptr {
    /// The null pointer.
    pub const NULL: Self = Self(0);

    /// Whether it is null.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Ptr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes as _;

    use super::{Bool, Ptr};

    #[test]
    fn every_byte_is_a_bool() {
        let two = Bool::read_from_bytes(&[2]).unwrap();
        assert_eq!(two, true);
        assert_eq!(two, Bool::TRUE);
        assert_eq!(Bool::from(false), Bool::FALSE);
        assert!(!bool::from(Bool::default()));
        assert_eq!(format!("{two:?} {:?}", Ptr(0x10)), "true 0x10");
    }
}
