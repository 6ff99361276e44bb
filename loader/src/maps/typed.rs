//! Values of Rust types, and their bytes.

use super::{MapData, MapError, RawMap};
use crate::kernel::Errno;

pub(super) fn lookup<V: MapData>(map: &RawMap, key: &[u8]) -> Result<Option<V>, MapError> {
    let mut value = V::new_zeroed();
    Ok(map.lookup(key, value.as_mut_bytes())?.then_some(value))
}

pub(super) fn lookup_locked<V: MapData>(map: &RawMap, key: &[u8]) -> Result<Option<V>, MapError> {
    let mut value = V::new_zeroed();
    let found = map.lookup_locked(key, value.as_mut_bytes())?;
    Ok(found.then_some(value))
}

pub(super) fn lookup_boxed<V: MapData>(
    map: &RawMap,
    key: &[u8],
) -> Result<Option<Box<V>>, MapError> {
    let mut value = boxed::<V>(map)?;
    let found = map.lookup(key, value.as_mut_bytes())?;
    Ok(found.then_some(value))
}

pub(super) fn take<V: MapData>(map: &RawMap, key: &[u8]) -> Result<Option<V>, MapError> {
    let mut value = V::new_zeroed();
    Ok(map.take(key, value.as_mut_bytes())?.then_some(value))
}

/// Zeros on the heap; values may be too large for the stack.
fn boxed<V: MapData>(map: &RawMap) -> Result<Box<V>, MapError> {
    V::new_box_zeroed().map_err(|_| map.failed("making room for a value", Errno(libc::ENOMEM)))
}

/// The value in these bytes, which are as many as it has.
pub(super) fn read<V: MapData>(bytes: &[u8]) -> Option<V> {
    V::read_from_bytes(bytes).ok()
}

/// The values of all CPUs in the bytes of an element.
pub(super) fn read_each<V: MapData>(bytes: &[u8]) -> Option<Vec<V>> {
    let size = size_of::<V>();
    let values = bytes.chunks_exact(stride(size)?);
    values.map(|bytes| read(bytes.get(..size)?)).collect()
}

/// The bytes of an element whose CPUs have these values.
pub(super) fn write_each<V: MapData>(values: &[V]) -> Option<Vec<u8>> {
    let stride = stride(size_of::<V>())?;
    let mut bytes = Vec::with_capacity(stride.checked_mul(values.len())?);
    for value in values {
        bytes.extend_from_slice(value.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(stride), 0);
    }
    Some(bytes)
}

/// Bytes from one CPU's value to the next.
fn stride(size: usize) -> Option<usize> {
    size.checked_next_multiple_of(8)
        .filter(|stride| *stride > 0)
}

#[cfg(test)]
mod tests;
