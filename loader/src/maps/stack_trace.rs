//! Stacks that programs have recorded.

use bpfplan_plan::{Diagnostic, uapi};
use zerocopy::IntoBytes as _;

use super::handle::{AnySize, handle};
use super::{Keys, MapError, RawMap};
use crate::codes;
use crate::kernel::Errno;

/// A `STACK_TRACE`: stacks by the ids that `bpf_get_stackid` gives to programs.
///
/// ```no_run
/// use bpfplan_loader::maps::{MapHandle, StackTrace};
///
/// let stacks = StackTrace::from_pin("/sys/fs/bpf/flow/stacks")?;
/// for address in stacks.get(7)?.unwrap_or_default() {
///     println!("{address:#x}");
/// }
/// # Ok::<(), bpfplan_loader::maps::MapError>(())
/// ```
pub struct StackTrace {
    map: RawMap,
}

handle!(
    StackTrace,
    AnySize {
        types: &[uapi::BPF_MAP_TYPE_STACK_TRACE],
        key: 4,
    }
);

impl StackTrace {
    fn made(map: RawMap) -> Result<Self, MapError> {
        let info = map.info();
        let build_ids = info.map_flags & uapi::BPF_F_STACK_BUILD_ID != 0;
        if build_ids || !map.value_bytes().is_multiple_of(size_of::<u64>()) {
            let message = "its stacks are not addresses, but build ids with offsets";
            return Err(MapError::new(
                Diagnostic::error(codes::MAP_MISMATCH, message)
                    .map(map.described())
                    .help("read them as bytes, with RawMap"),
            ));
        }
        Ok(Self { map })
    }

    /// Most addresses that a stack has here.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.map.value_bytes() / size_of::<u64>()
    }

    /// The addresses of a stack, from the innermost function outwards; `None` if there is no stack
    /// with that id.
    ///
    /// # Errors
    /// The kernel's.
    pub fn get(&self, id: u32) -> Result<Option<Vec<u64>>, MapError> {
        let mut stack = vec![0_u64; self.depth()];
        match self.map.lookup(id.as_bytes(), stack.as_mut_bytes()) {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            // No id is beyond the end, so there is none like that.
            Err(error) if error.errno() == Some(Errno(libc::E2BIG)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let end = stack.iter().position(|address| *address == 0);
        stack.truncate(end.unwrap_or(stack.len()));
        Ok(Some(stack))
    }

    /// Removes a stack; says whether it was there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete(&self, id: u32) -> Result<bool, MapError> {
        self.map.delete(id.as_bytes())
    }

    /// The ids of all stacks.
    #[must_use]
    pub fn ids(&self) -> Keys<'_, u32> {
        Keys::typed(&self.map)
    }
}
