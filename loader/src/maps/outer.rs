//! Outer maps of any kind, their keys as bytes.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use bpfplan_plan::rules::{Call, InnerShape, explain, misfit};
use bpfplan_plan::{Diagnostic, Template, uapi};
use zerocopy::IntoBytes as _;

use super::elements::{Elements as _, Take};
use super::{
    Entries, Info, InnerBuilder, InnerTemplate, MapError, MapHandle, RawMap, Update, typed,
};
use crate::codes;
use crate::kernel::Errno;

/// An `ARRAY_OF_MAPS` or `HASH_OF_MAPS` whose keys are bytes. [`super::ArrayOfMaps`] and
/// [`super::HashOfMaps`] are the same with types.
#[derive(Debug)]
pub struct OuterMap {
    map: RawMap,
}

impl MapHandle for OuterMap {
    fn from_map(map: RawMap) -> Result<Self, MapError> {
        let info = map.info();
        if info.map_type.is_outer() {
            return Ok(Self { map });
        }
        let diagnostic = Diagnostic::error(
            codes::NOT_OUTER,
            format!("it is a map of type {} and holds no maps", info.map_type),
        )
        .map(map.described())
        .help("name an array_of_maps or a hash_of_maps");
        Err(MapError::new(diagnostic))
    }

    fn map(&self) -> &RawMap {
        &self.map
    }

    fn into_map(self) -> RawMap {
        self.map
    }
}

impl AsFd for OuterMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl OuterMap {
    /// All filled slots: keys and the ids of the maps in them. Arrays come in order.
    pub fn ids(&self) -> impl Iterator<Item = Result<(Vec<u8>, u32), MapError>> + '_ {
        ids(&self.map)
    }

    /// The kernel's id of the map in a slot, `None` if it is empty.
    ///
    /// # Errors
    /// [`codes::SLOT_BEYOND_END`], the kernel's.
    pub fn id_at(&self, key: &[u8]) -> Result<Option<u32>, MapError> {
        check_key(&self.map, key)?;
        typed::lookup(&self.map, key)
    }

    /// The map in a slot, `None` if it is empty.
    ///
    /// # Errors
    /// As [`OuterMap::id_at`] and [`MapHandle::from_id`].
    pub fn get(&self, key: &[u8]) -> Result<Option<RawMap>, MapError> {
        check_key(&self.map, key)?;
        open_at(&self.map, key)
    }

    /// Puts a map into a slot.
    ///
    /// # Errors
    /// As [`super::ArrayOfMaps::insert`].
    pub fn insert(&self, key: &[u8], inner: &RawMap) -> Result<(), MapError> {
        insert(&self.map, key, inner)
    }

    /// As [`OuterMap::insert`], and gives the map that was there before.
    ///
    /// # Errors
    /// As [`super::ArrayOfMaps::swap`].
    pub fn swap(&self, key: &[u8], inner: &RawMap) -> Result<Option<RawMap>, MapError> {
        let old = self.get(key)?;
        self.insert(key, inner)?;
        Ok(old)
    }

    /// Empties a slot; says whether there was a map in it.
    ///
    /// # Errors
    /// As [`OuterMap::id_at`].
    pub fn remove(&self, key: &[u8]) -> Result<bool, MapError> {
        remove(&self.map, key)
    }

    /// A builder for new inner maps.
    ///
    /// # Errors
    /// [`codes::TEMPLATE_UNKNOWN`] if nobody tells what they look like.
    pub fn template(&self) -> Result<InnerBuilder<'_, RawMap>, MapError> {
        InnerBuilder::new(&self.map)
    }
}

/// Ids of the maps in all filled slots.
pub(super) fn ids(outer: &RawMap) -> impl Iterator<Item = Result<(Vec<u8>, u32), MapError>> + '_ {
    Entries::reading(outer, Take::Copy, |key, value| {
        Some((key.to_vec(), typed::read(value)?))
    })
}

/// How often a slot is read whose map goes away before it is open.
const ATTEMPTS: u32 = 8;

pub(super) fn open_at<I: MapHandle>(outer: &RawMap, key: &[u8]) -> Result<Option<I>, MapError> {
    let mut attempts = ATTEMPTS;
    loop {
        let Some(id) = typed::lookup::<u32>(outer, key)? else {
            return Ok(None);
        };
        attempts -= 1;
        match I::from_id(id) {
            Ok(map) => return Ok(Some(map)),
            // Somebody replaced it, and it was freed.
            Err(error) if error.errno() == Some(Errno::ENOENT) && attempts > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn insert(outer: &RawMap, key: &[u8], inner: &impl MapHandle) -> Result<(), MapError> {
    check_key(outer, key)?;
    let fd = inner.as_fd().as_raw_fd();
    let result = outer
        .elements()
        .update(key, fd.as_bytes(), Update::Any.flags());
    result.map_err(|errno| {
        MapError::new(refused(outer, key, inner.map(), Call::UpdateElem, errno)).with_errno(errno)
    })
}

pub(super) fn remove(outer: &RawMap, key: &[u8]) -> Result<bool, MapError> {
    check_key(outer, key)?;
    outer.delete(key)
}

/// Refuses keys of another size, and indices beyond the end.
pub(super) fn check_key(outer: &RawMap, key: &[u8]) -> Result<(), MapError> {
    let info = outer.info();
    let error = |code, message| {
        Err(MapError::new(
            Diagnostic::error(code, message).map(outer.described()),
        ))
    };
    if usize::try_from(info.key_size) != Ok(key.len()) {
        let message = format!("its keys have {} bytes, not {}", info.key_size, key.len());
        return error(codes::MAP_MISMATCH, message);
    }
    match typed::read::<u32>(key) {
        Some(index) if is_array(info) && index >= info.max_entries => error(
            codes::SLOT_BEYOND_END,
            format!(
                "slot {index} is beyond the end: it has {} slots, counted from 0",
                info.max_entries
            ),
        ),
        _ => Ok(()),
    }
}

fn is_array(info: &Info) -> bool {
    info.map_type.0 == uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS
}

/// A key for people: numbers of 4 bytes, else hex.
#[must_use]
pub fn key_text(key: &[u8]) -> String {
    match key.try_into() {
        Ok(bytes) => u32::from_ne_bytes(bytes).to_string(),
        Err(_) => {
            let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{digits}")
        }
    }
}

/// Why the kernel does not take a map into a slot.
pub(super) fn refused(
    outer: &RawMap,
    key: &[u8],
    inner: &RawMap,
    call: Call,
    errno: Errno,
) -> Diagnostic {
    let slot = key_text(key);
    let about =
        |diagnostic: Diagnostic| diagnostic.map(outer.described()).field(format!("[{slot}]"));
    let name = format!("'{}' (id {})", inner.described().escape_debug(), inner.id());
    let version = outer.elements().version();
    if errno != Errno::EINVAL {
        let message = format!("putting {name} into slot {slot} failed: {errno}");
        let mut diagnostic = about(Diagnostic::error(codes::SLOT_REFUSED, message));
        diagnostic.notes = explain(call, errno.0, None::<&Template>, &[], version);
        return diagnostic;
    }
    let does_not_fit = |why: &str| {
        about(Diagnostic::error(
            codes::INNER_DOES_NOT_FIT,
            format!("{name} does not fit slot {slot}: {why}"),
        ))
        .note("the kernel refuses it with EINVAL and says no more")
    };
    if inner.info().map_type.is_outer() {
        return does_not_fit("it is a map of maps, and the kernel nests maps one level deep");
    }
    let Some((template, from)) = reference(outer, key) else {
        return does_not_fit("its attributes or special fields are not those of the template")
            .note("the template is not known: there is neither a record nor another inner map")
            .help("make the map as the outer map's declaration says");
    };
    let why = misfit(&shape(inner.info()), &template, version);
    match why {
        Some(why) => does_not_fit(&why).note(format!("the template is known from {from}")),
        None => does_not_fit(
            "its attributes are those of the template, so the special fields of its values differ",
        )
        .note("locks, timers, kptrs and the like are compared as the maps' BTF describes them")
        .note("roots of lists and trees must come from the very same BTF object")
        .help(
            "make the inner map from the template (`slot set --new`), if that is of the plan that \
             the outer map was loaded from",
        ),
    }
}

/// What inner maps look like, and who says so: the template, or one that is in another slot.
fn reference(outer: &RawMap, key: &[u8]) -> Option<(InnerShape, &'static str)> {
    if let Ok(template) = outer.inner_template() {
        return Some((template.shape(), "its declaration"));
    }
    let here = open_at::<RawMap>(outer, key).ok().flatten();
    let inner = here.or_else(|| {
        let mut ids = ids(outer).filter_map(Result::ok);
        ids.find_map(|(_, id)| RawMap::from_id(id).ok())
    })?;
    let shape = InnerTemplate::like(&inner).shape();
    Some((shape, "a map that is in it"))
}

pub(super) fn shape(info: &Info) -> InnerShape {
    InnerShape {
        map_type: info.map_type,
        key_size: info.key_size,
        value_size: info.value_size,
        map_flags: info.map_flags,
        max_entries: info.max_entries,
    }
}
