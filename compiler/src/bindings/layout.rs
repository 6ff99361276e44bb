//! Where the fields of a struct are: every byte belongs to a field, so that no byte of a value is
//! undefined, and alignments of Rust never move anything.

use bpfplan_plan::TypeId;

use super::ty::Shape;

/// A member of a struct of C, in the order of the offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Name in C, `None` if anonymous.
    pub(super) name: Option<String>,
    /// The type in C.
    pub(super) c_type: TypeId,
    pub(super) shape: Shape,
    /// Offset in bits.
    pub(super) bit_offset: u64,
    /// Width of a bitfield in bits.
    pub(super) bits: Option<u32>,
}

/// One field of a struct of Rust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    /// A member, by its index.
    Member { index: usize, offset: u64 },
    /// Bytes that no member has.
    Padding { offset: u64, size: u64 },
    /// Bytes of bitfields: the members by their indices.
    Bits {
        members: Vec<usize>,
        offset: u64,
        size: u64,
    },
}

/// A struct of Rust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) fields: Vec<Field>,
    /// `N` of `repr(C, packed(N))`, `None` if it is not needed.
    pub(super) packed: Option<u32>,
    /// Alignment in bytes at most.
    pub(super) align: u32,
}

/// Lays out a struct of `size` bytes; `None` if the members overlap or lie outside of it.
pub(super) fn lay_out(members: &[Member], size: u32) -> Option<Layout> {
    let size = u64::from(size);
    let mut fields = Vec::new();
    let mut cursor = 0_u64;
    for (index, member) in members.iter().enumerate() {
        match member.bits {
            Some(bits) => add_bits(&mut fields, &mut cursor, index, member.bit_offset, bits)?,
            None => {
                if !member.bit_offset.is_multiple_of(8) {
                    return None;
                }
                let offset = member.bit_offset / 8;
                pad(&mut fields, &mut cursor, offset)?;
                fields.push(Field::Member { index, offset });
                cursor = offset.checked_add(u64::from(member.shape.size))?;
            }
        }
    }
    pad(&mut fields, &mut cursor, size)?;
    let natural = members
        .iter()
        .filter(|member| member.bits.is_none())
        .map(|member| member.shape.align)
        .max()
        .unwrap_or(1);
    let fits = |align: u32| {
        size.is_multiple_of(align.into())
            && members
                .iter()
                .filter(|member| member.bits.is_none())
                .all(|member| {
                    let own = u64::from(member.shape.align.min(align));
                    (member.bit_offset / 8).is_multiple_of(own)
                })
    };
    let align = [16, 8, 4, 2, 1]
        .into_iter()
        .filter(|align| *align <= natural)
        .find(|align| fits(*align))
        .unwrap_or(1);
    Some(Layout {
        fields,
        packed: (align < natural).then_some(align),
        align,
    })
}

/// Fills the gap up to `to`; `None` if that is behind.
fn pad(fields: &mut Vec<Field>, cursor: &mut u64, to: u64) -> Option<()> {
    let size = to.checked_sub(*cursor)?;
    if size > 0 {
        fields.push(Field::Padding {
            offset: *cursor,
            size,
        });
    }
    *cursor = to;
    Some(())
}

/// Adds a bitfield to the bytes of the one before it, or begins new ones.
fn add_bits(
    fields: &mut Vec<Field>,
    cursor: &mut u64,
    index: usize,
    start: u64,
    bits: u32,
) -> Option<()> {
    let first = start / 8;
    let end = start.checked_add(u64::from(bits))?.div_ceil(8);
    if let Some(Field::Bits {
        members,
        offset,
        size,
    }) = fields.last_mut()
        && first <= *cursor
        && first >= *offset
    {
        members.push(index);
        *size = (*size).max(end - *offset);
        *cursor = offset.checked_add(*size)?;
        return Some(());
    }
    pad(fields, cursor, first)?;
    fields.push(Field::Bits {
        members: vec![index],
        offset: first,
        size: end - first,
    });
    *cursor = end;
    Some(())
}
