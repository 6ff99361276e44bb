//! libbpf-rs, which wraps libbpf.

use anyhow::Result;
use libbpf_rs::{Object, ObjectBuilder, OpenObject};

/// Opens an object; libbpf says nothing on standard error.
///
/// # Errors
/// libbpf's.
pub fn open(object: &[u8]) -> Result<OpenObject> {
    libbpf_rs::set_print(None);
    Ok(ObjectBuilder::default().open_memory(object)?)
}

/// Creates an object's maps and fills their slots; programs are not loaded.
///
/// # Errors
/// libbpf's.
pub fn load(object: &[u8]) -> Result<Object> {
    let mut opened = open(object)?;
    for mut program in opened.progs_mut() {
        program.set_autoload(false);
    }
    Ok(opened.load()?)
}
