//! Into libbpf-rs: its programs over maps of a load (feature `libbpf-rs`).
//!
//! ```no_run
//! use bpfplan_loader::libbpf_rs::reuse_maps;
//! use bpfplan_loader::{LoadOptions, RealKernel, load};
//! use libbpf_rs::ObjectBuilder;
//!
//! let plan = bpfplan_plan::format::read(&std::fs::read("flow.plan")?)?;
//! let loaded = load(&plan, &RealKernel::new(), &LoadOptions { hold: true, ..LoadOptions::default() })?;
//! let mut open = ObjectBuilder::default().open_file("flow.bpf.o")?;
//! let left = reuse_maps(&mut open, &loaded.maps)?;
//! assert!(left.is_empty(), "the object is not the plan's");
//! let object = open.load()?; // It has descriptors of its own: `loaded` may go.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With a generated module, `flow.maps.all()` stands for `loaded.maps`.

use std::os::fd::AsFd;
use std::path::Path;

use bpfplan_plan::uapi;
use libbpf_rs::{ErrorExt as _, OpenObject};

use crate::loaded::LoadedMap;
use crate::maps::{MapHandle, RawMap};

/// A map that libbpf may use in place of one that an object declares.
pub trait Reusable: AsFd {
    /// Name in the plan.
    fn name(&self) -> &str;

    /// Path of its pin.
    fn pin(&self) -> Option<&Path>;
}

impl Reusable for RawMap {
    fn name(&self) -> &str {
        self.name()
    }

    fn pin(&self) -> Option<&Path> {
        self.pin()
    }
}

impl<F: AsFd> Reusable for LoadedMap<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn pin(&self) -> Option<&Path> {
        self.pinned.as_deref()
    }
}

impl<M: Reusable> Reusable for &M {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn pin(&self) -> Option<&Path> {
        (**self).pin()
    }
}

/// Has an object use these maps in place of those that it declares under the same names; global data
/// goes by the names of sections. Gives the names of the object's maps that are not among them,
/// which are left to libbpf: for an object and its own plan there are none, unless the load has
/// left some out, or closed them ([`crate::Loaded::closed`]).
///
/// Values that were set in the object's own copy of global data do not count any more: the maps
/// have theirs.
///
/// # Errors
/// libbpf's, with the name of the map.
pub fn reuse_maps<M: Reusable>(
    object: &mut OpenObject,
    maps: impl IntoIterator<Item = M>,
) -> libbpf_rs::Result<Vec<String>> {
    let maps: Vec<M> = maps.into_iter().collect();
    let mut left = Vec::new();
    for mut declared in object.maps_mut() {
        let name = declared.name().to_string_lossy().into_owned();
        let ours = maps
            .iter()
            .find(|map| section(map.name()) == section(&name));
        let Some(ours) = ours else {
            left.push(name);
            continue;
        };
        // libbpf thinks that the flags of such maps differ from those of their pins.
        let compared = declared.map_flags() & (uapi::BPF_F_RDONLY | uapi::BPF_F_WRONLY) == 0;
        let reused = match ours.pin() {
            // One that is declared as pinned by name would be pinned again.
            Some(pin) if compared => declared.set_pin_path(pin),
            _ => declared.reuse_fd(ours.as_fd()),
        };
        reused.with_context(|| format!("map '{}' cannot be reused", name.escape_debug()))?;
    }
    Ok(left)
}

/// The name of a map, for global data without that of its object, which libbpf does not know if it
/// opens bytes.
fn section(name: &str) -> &str {
    name.find('.')
        .and_then(|dot| name.get(dot..))
        .unwrap_or(name)
}

/// A handle of libbpf-rs for the same map, with a descriptor of its own. It is opened by id, which
/// needs CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel's.
pub fn map_handle(map: &impl MapHandle) -> libbpf_rs::Result<libbpf_rs::MapHandle> {
    libbpf_rs::MapHandle::from_map_id(map.id())
}
