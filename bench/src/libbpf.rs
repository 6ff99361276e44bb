//! libbpf's C interface, called as a C program would: the only module here with `unsafe` code.

#![allow(unsafe_code)]

use std::ptr::{self, NonNull};

use anyhow::{Context as _, Result, bail};
use libbpf_sys as sys;

/// An object that libbpf has opened; closed, with its maps, when dropped.
#[derive(Debug)]
pub struct Object(NonNull<sys::bpf_object>);

/// libbpf's version, such as `1.7.0`.
#[must_use]
pub fn version() -> String {
    // SAFETY: these only return numbers.
    let (major, minor) = unsafe { (sys::libbpf_major_version(), sys::libbpf_minor_version()) };
    format!("{major}.{minor}")
}

impl Object {
    /// `bpf_object__open_mem`.
    ///
    /// # Errors
    /// If libbpf does not open it; libbpf says nothing on standard error.
    pub fn open(bytes: &[u8]) -> Result<Self> {
        // SAFETY: no print function is a valid choice; libbpf reads the bytes during the call only
        // (`bpf_object__elf_finish` forgets them), and options may be missing.
        let object = unsafe {
            sys::libbpf_set_print(None);
            sys::bpf_object__open_mem(bytes.as_ptr().cast(), bytes.len().try_into()?, ptr::null())
        };
        NonNull::new(object)
            .map(Self)
            .context("libbpf does not open the object")
    }

    /// `bpf_object__load` without programs: creates the maps and fills the slots.
    ///
    /// # Errors
    /// libbpf's, as a negative error number.
    pub fn load(&mut self) -> Result<()> {
        let object = self.0.as_ptr();
        // SAFETY: `object` is open, nobody else uses it, and the programs that it names belong to
        // it.
        unsafe {
            let mut program = sys::bpf_object__next_program(object, ptr::null_mut());
            while !program.is_null() {
                sys::bpf_program__set_autoload(program, false);
                program = sys::bpf_object__next_program(object, program);
            }
        }
        self.load_with_programs()
    }

    /// `bpf_object__load`: creates the maps, fills the slots and loads the programs.
    ///
    /// # Errors
    /// libbpf's, as a negative error number.
    pub fn load_with_programs(&mut self) -> Result<()> {
        // SAFETY: the object is open, and nobody else uses it.
        let result = unsafe { sys::bpf_object__load(self.0.as_ptr()) };
        if result != 0 {
            bail!("libbpf does not load the object: {result}");
        }
        Ok(())
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: it is open, and this is the only owner.
        unsafe { sys::bpf_object__close(self.0.as_ptr()) };
    }
}
