//! The untyped handle: elements as bytes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bpfplan_plan::{Diagnostic, uapi};

use super::elements::Elements;
use super::keys::has_indices;
use super::{Info, InnerTemplate, Keys, MapError, MapHandle};
use crate::codes;
use crate::kernel::Errno;
use crate::loaded::LoadedMap;
use crate::sys::{Descriptor, RealElements};

/// When an update happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Update {
    /// `BPF_ANY`: whether the key is there or not.
    #[default]
    Any,
    /// `BPF_NOEXIST`: only if the key is not there; else `EEXIST`.
    NoExist,
    /// `BPF_EXIST`: only if the key is there; else `ENOENT`.
    Exist,
    /// As [`Update::Any`], while the value's `bpf_spin_lock` is held (`BPF_F_LOCK`, Linux 5.1);
    /// `EINVAL` for values without a lock.
    AnyLocked,
    /// As [`Update::Exist`] and [`Update::AnyLocked`].
    ExistLocked,
}

impl Update {
    pub(crate) fn flags(self) -> u64 {
        u64::from(match self {
            Self::Any => uapi::BPF_ANY,
            Self::NoExist => uapi::BPF_NOEXIST,
            Self::Exist => uapi::BPF_EXIST,
            Self::AnyLocked => uapi::BPF_F_LOCK,
            Self::ExistLocked => uapi::BPF_EXIST | uapi::BPF_F_LOCK,
        })
    }
}

/// A map of any kind, its keys and values as bytes. The handles with types are built on it.
#[derive(Debug)]
pub struct RawMap {
    elements: RealElements,
    /// The name in the plan, or that in the kernel.
    name: String,
    pin: Option<PathBuf>,
    /// What inner maps look like, once it is known.
    pub(super) template: OnceLock<InnerTemplate>,
}

impl MapHandle for RawMap {
    fn from_map(map: Self) -> Result<Self, MapError> {
        Ok(map)
    }

    fn map(&self) -> &RawMap {
        self
    }

    fn into_map(self) -> RawMap {
        self
    }

    fn from_fd(fd: OwnedFd) -> Result<Self, MapError> {
        RealElements::new(fd).map(Self::new).map_err(not_usable)
    }

    fn from_pin(path: impl AsRef<Path>) -> Result<Self, MapError> {
        Self::open_pin(path.as_ref(), false)
    }

    fn from_id(id: u32) -> Result<Self, MapError> {
        RealElements::open_id(id)
            .map(Self::new)
            .map_err(|errno| not_opened(&format!("the map with id {id}"), errno))
    }

    fn from_loaded<F: AsFd>(map: &LoadedMap<F>) -> Result<Self, MapError> {
        let fd = rustix::io::fcntl_dupfd_cloexec(map, libc::STDERR_FILENO + 1);
        let fd = fd.map_err(|errno| {
            let errno = Errno(errno.raw_os_error());
            not_opened(&format!("map '{}'", map.name.escape_debug()), errno)
        })?;
        let mut this = Self::of_map(fd)?;
        this.name.clone_from(&map.name);
        this.pin.clone_from(&map.pinned);
        if let Some(template) = &map.template {
            this.template = template.clone().into();
        }
        Ok(this)
    }
}

/// Why the kernel may answer so to an operation on an element.
fn reason(info: &Info, errno: Errno) -> Option<&'static str> {
    let indices = has_indices(info.map_type.0);
    match errno.0 {
        libc::E2BIG if indices => Some("the index is not below max_entries"),
        libc::E2BIG | libc::ENOSPC => Some("the map is full"),
        libc::EEXIST => Some("the key is there already"),
        libc::ENOENT => Some("the key is not there"),
        libc::EPERM => Some("the map is frozen, or was opened read-only or write-only"),
        libc::EINVAL if indices => Some("elements of arrays cannot be added or deleted"),
        libc::EBADF => Some("a descriptor is closed"),
        libc::EBUSY => Some("the map is busy for the moment"),
        libc::ENOMEM => {
            Some("there is no memory for this, or the memory limit of the cgroup is reached")
        }
        _ if errno == Errno::ENOTSUPP => Some("maps of this kind do not do that on this kernel"),
        _ => None,
    }
}

fn not_opened(what: &str, errno: Errno) -> MapError {
    let mut diagnostic = Diagnostic::error(
        codes::MAP_NOT_OPENED,
        format!("{what} cannot be opened: {errno}"),
    );
    diagnostic.help = match errno.0 {
        libc::EPERM => Some("maps are opened by id with CAP_SYS_ADMIN, pins with CAP_BPF"),
        libc::EACCES => Some("the file's mode must allow it, as it must for other files"),
        libc::ENOENT => Some("`bpftool map` shows the maps that there are, and their pins"),
        _ => None,
    }
    .map(str::to_owned);
    MapError::new(diagnostic).with_errno(errno)
}

fn not_usable(errno: Errno) -> MapError {
    let diagnostic = Diagnostic::error(
        codes::MAP_NOT_OPENED,
        format!("the descriptor cannot be used as that of a map: {errno}"),
    );
    MapError::new(diagnostic).with_errno(errno)
}

impl RawMap {
    /// Takes a descriptor that the kernel gave for a map.
    pub(super) fn of_map(fd: OwnedFd) -> Result<Self, MapError> {
        RealElements::of_map(fd).map(Self::new).map_err(not_usable)
    }

    /// A handle that takes over the descriptor of a map that was loaded.
    pub(crate) fn from_loaded_map(map: LoadedMap<Descriptor>) -> Result<Self, MapError> {
        let mut this = Self::of_map(map.fd.into())?;
        this.name = map.name;
        this.pin = map.pinned;
        if let Some(template) = map.template {
            this.template = template.into();
        }
        Ok(this)
    }

    fn new(elements: RealElements) -> Self {
        Self {
            name: elements.info().name.clone(),
            elements,
            pin: None,
            template: OnceLock::new(),
        }
    }

    /// Opens a pin for lookups only, for which reading its file must be allowed and writing need
    /// not.
    ///
    /// # Errors
    /// As [`MapHandle::from_pin`].
    pub fn from_pin_read_only(path: impl AsRef<Path>) -> Result<Self, MapError> {
        Self::open_pin(path.as_ref(), true)
    }

    fn open_pin(path: &Path, read_only: bool) -> Result<Self, MapError> {
        let elements = RealElements::open_pin(path, read_only).map_err(|errno| {
            let shown = path.display();
            let error = not_opened(&format!("{shown}"), errno);
            if errno != Errno::EINVAL {
                return error;
            }
            let diagnostic = Diagnostic::error(
                codes::MAP_NOT_OPENED,
                format!("{shown} is not the pin of a map"),
            )
            .help("`bpftool map` shows the pins of maps");
            MapError::new(diagnostic).with_errno(errno)
        })?;
        let mut this = Self::new(elements);
        this.pin = Some(path.to_owned());
        Ok(this)
    }

    /// What the kernel says about the map, as it was when it was opened; none of it changes.
    #[must_use]
    pub fn info(&self) -> &Info {
        self.elements.info()
    }

    /// The kernel's id of the map.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.info().id
    }

    /// The name in the plan for maps of a load, else the 15 bytes of it that the kernel has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Path of the pin that the map was opened from, or got in the load.
    #[must_use]
    pub fn pin(&self) -> Option<&Path> {
        self.pin.as_deref()
    }

    /// Bytes of a value as [`RawMap::lookup`] and [`RawMap::update`] have it: for maps with a
    /// value for each CPU those of all possible CPUs, each rounded up to 8 bytes.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.elements.value_bytes()
    }

    /// Another handle of the same map.
    ///
    /// # Errors
    /// Those of duplicating the descriptor.
    pub fn try_clone(&self) -> Result<Self, MapError> {
        let fd = rustix::io::fcntl_dupfd_cloexec(self, libc::STDERR_FILENO + 1);
        let fd = fd.map_err(|errno| {
            let errno = Errno(errno.raw_os_error());
            self.failed("duplicating the descriptor", errno)
        })?;
        let mut this = Self::from_fd(fd)?;
        this.name.clone_from(&self.name);
        this.pin.clone_from(&self.pin);
        this.template.clone_from(&self.template);
        Ok(this)
    }

    /// `BPF_MAP_LOOKUP_ELEM`: puts the value of a key into `value`; says whether there is one.
    /// Maps that hold maps or programs give ids.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` if a buffer does not have the map's size.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<bool, MapError> {
        self.found("looking up a key", self.elements.lookup(key, value, 0))
    }

    /// As [`RawMap::lookup`], while the value's `bpf_spin_lock` is held (`BPF_F_LOCK`, Linux 5.1), so
    /// that programs that hold it are not seen half-way. The lock itself is read as zeros.
    ///
    /// # Errors
    /// As [`RawMap::lookup`]; `EINVAL` for values without a lock.
    pub fn lookup_locked(&self, key: &[u8], value: &mut [u8]) -> Result<bool, MapError> {
        let found = self.elements.lookup(key, value, uapi::BPF_F_LOCK.into());
        self.found("looking up a key under its lock", found)
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM` (hash maps 5.14, queues and stacks 4.20): as
    /// [`RawMap::lookup`], and removes the element.
    ///
    /// # Errors
    /// As [`RawMap::lookup`].
    pub fn take(&self, key: &[u8], value: &mut [u8]) -> Result<bool, MapError> {
        self.found("taking an element", self.elements.take(key, value))
    }

    /// `BPF_MAP_UPDATE_ELEM`. Maps that hold maps or programs take descriptors.
    ///
    /// # Errors
    /// The kernel's: `E2BIG` for a map that is full or an index beyond its end, `EPERM` for one
    /// that is frozen; `EINVAL` if a buffer does not have the map's size.
    pub fn update(&self, key: &[u8], value: &[u8], when: Update) -> Result<(), MapError> {
        self.elements
            .update(key, value, when.flags())
            .map_err(|errno| self.failed("an update", errno))
    }

    /// `BPF_MAP_DELETE_ELEM`; says whether there was something.
    ///
    /// # Errors
    /// The kernel's: arrays answer `EINVAL`.
    pub fn delete(&self, key: &[u8]) -> Result<bool, MapError> {
        self.found("a deletion", self.elements.delete(key))
    }

    /// All keys, as bytes.
    #[must_use]
    pub fn keys(&self) -> Keys<'_, Vec<u8>> {
        Keys::new(self)
    }

    pub(crate) fn elements(&self) -> &RealElements {
        &self.elements
    }

    /// What inner maps of this outer map look like, if that was found out already.
    pub(super) fn known_template(&self) -> Option<&InnerTemplate> {
        self.template.get()
    }

    fn found(&self, what: &str, result: Result<(), Errno>) -> Result<bool, MapError> {
        match result {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(self.failed(what, errno)),
        }
    }

    /// The error of a call about this map.
    pub(crate) fn failed(&self, what: &str, errno: Errno) -> MapError {
        let mut diagnostic = Diagnostic::error(codes::MAP_CALL, format!("{what} failed: {errno}"));
        diagnostic.map = Some(self.described());
        diagnostic
            .notes
            .extend(reason(self.info(), errno).map(str::to_owned));
        MapError::new(diagnostic).with_errno(errno)
    }

    /// A name for messages.
    pub(crate) fn described(&self) -> String {
        if self.name.is_empty() {
            format!("id {}", self.id())
        } else {
            self.name.clone()
        }
    }
}

impl AsFd for RawMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.elements.as_fd()
    }
}

impl From<RawMap> for OwnedFd {
    fn from(map: RawMap) -> Self {
        map.elements.into_fd()
    }
}
