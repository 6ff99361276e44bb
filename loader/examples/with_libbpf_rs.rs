//! Programs loaded by libbpf-rs over maps that bpfplan has created.
//!
//! Takes an object and where its maps are: a directory in which `bpfplan load OBJECT --pin-maps
//! DIR` has pinned them, or a plan of the object, whose maps are then created here.
//! Shows the programs and ends, which unloads them; a real program would attach them.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bpfplan_loader::{LoadOptions, Loaded, RealKernel, load};
use libbpf_rs::{Object, ObjectBuilder};

/// Over the maps that `bpfplan load OBJECT --pin-maps DIR` has pinned.
pub fn over_pins(object: &Path, pins: &Path) -> libbpf_rs::Result<Object> {
    let mut open = ObjectBuilder::default().open_file(object)?;
    for mut map in open.maps_mut() {
        // A bpffs has no dots in names: `flow.bss` is pinned as `flow_bss`.
        let pin = pins.join(map.name().to_string_lossy().replace('.', "_"));
        pin.metadata()?; // libbpf would create what is missing.
        map.set_pin_path(pin)?;
    }
    open.load()
}

/// Over the maps of a load in this process, which may be pinned nowhere.
pub fn over_loaded(object: &Path, loaded: &Loaded<RealKernel>) -> anyhow::Result<Object> {
    let mut open = ObjectBuilder::default().open_file(object)?;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let ours = loaded.map(&name).context("the object is not the plan's")?;
        match &ours.pinned {
            Some(pin) => map.set_pin_path(pin)?,
            None => map.reuse_fd(ours.as_fd())?,
        }
    }
    Ok(open.load()?) // libbpf has descriptors of its own: `loaded` may go.
}

#[allow(dead_code, reason = "the tests use the functions above")]
fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(object), Some(maps), None) = (args.next(), args.next(), args.next()) else {
        anyhow::bail!("usage: with_libbpf_rs OBJECT DIR|PLAN");
    };
    let object = if maps.is_dir() {
        over_pins(&object, &maps)?
    } else {
        let plan = bpfplan_plan::format::read(&std::fs::read(maps)?)?;
        let options = LoadOptions {
            hold: true,
            ..LoadOptions::default()
        };
        over_loaded(&object, &load(&plan, &RealKernel::new(), &options)?)?
    };
    for program in object.progs() {
        println!("{} is loaded", program.name().to_string_lossy());
    }
    Ok(())
}
