//! libbpf's static linker, from bytes to bytes.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::{NonNull, null};
use std::thread;

use libbpf_sys::{
    bpf_linker, bpf_linker__add_buf, bpf_linker__finalize, bpf_linker__free, bpf_linker__new_fd,
};
use rustix::fs::{MemfdFlags, memfd_create};

use super::bpf::last_errno;
use super::messages::Collector;
use crate::kernel::Errno;

/// Messages that are kept.
const MESSAGES: usize = 8;
/// Stack of the thread that links: merging types is recursive, so it grows with the objects.
const STACK: usize = 8 << 20;
/// Stack for each byte: a type has at least 12, and is gone through with less than 1 KiB.
const STACK_PER_BYTE: usize = 96;
/// Stack for as many types as the compiler lets through, with its start.
const MAX_STACK: usize = STACK + (512 << 20);

/// What the linker was about when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// To begin.
    Start,
    /// To add the object of that number.
    Add(usize),
    /// To write the linked object.
    Finish,
}

/// Why the linker failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) errno: Errno,
    /// What libbpf had to say.
    pub(crate) messages: Vec<String>,
}

/// Links objects.
pub(crate) fn link(objects: &[&[u8]]) -> Result<Vec<u8>, Failure> {
    let bytes: usize = objects.iter().map(|object| object.len()).sum();
    let stack = STACK
        .saturating_add(bytes.saturating_mul(STACK_PER_BYTE))
        .min(MAX_STACK);
    let failed = |errno| Failure {
        step: Step::Start,
        errno,
        messages: Vec::new(),
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(stack);
        let thread = thread
            .spawn_scoped(scope, || link_here(objects))
            .map_err(|error| failed(Errno(error.raw_os_error().unwrap_or(libc::EAGAIN))))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(failed(Errno(libc::EIO))))
    })
}

fn link_here(objects: &[&[u8]]) -> Result<Vec<u8>, Failure> {
    let collector = Collector::start();
    run(objects).map_err(|(step, errno)| {
        let mut messages = collector.take().messages;
        messages.truncate(MESSAGES);
        Failure {
            step,
            errno,
            messages,
        }
    })
}

fn run(objects: &[&[u8]]) -> Result<Vec<u8>, (Step, Errno)> {
    let start = |errno: Errno| (Step::Start, errno);
    let output = memfd_create(c"bpfplan-linked", MemfdFlags::CLOEXEC)
        .map_err(|errno| start(Errno(errno.raw_os_error())))?;
    let mut linker = Linker::new(&output).map_err(start)?;
    for (index, object) in objects.iter().enumerate() {
        linker
            .add(object)
            .map_err(|errno| (Step::Add(index), errno))?;
    }
    linker.finish().map_err(|errno| (Step::Finish, errno))?;
    drop(linker);
    read(output).map_err(|errno| (Step::Finish, errno))
}

fn read(output: OwnedFd) -> Result<Vec<u8>, Errno> {
    let failed = |error: std::io::Error| Errno(error.raw_os_error().unwrap_or(libc::EIO));
    let mut file = File::from(output);
    file.rewind().map_err(failed)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// libbpf's linker.
struct Linker<'o> {
    linker: NonNull<bpf_linker>,
    _output: &'o OwnedFd,
}

impl<'o> Linker<'o> {
    fn new(output: &'o OwnedFd) -> Result<Self, Errno> {
        // SAFETY: the descriptor stays open as long as the linker lives, which borrows it; no
        // options are passed.
        let linker = unsafe { bpf_linker__new_fd(output.as_raw_fd(), std::ptr::null_mut()) };
        match NonNull::new(linker) {
            Some(linker) => Ok(Self {
                linker,
                _output: output,
            }),
            None => Err(last_errno()),
        }
    }

    fn add(&mut self, object: &[u8]) -> Result<(), Errno> {
        let bytes = object.as_ptr().cast_mut().cast::<c_void>();
        let size = object.len();
        // SAFETY: the linker is alive. libbpf writes the bytes to a file of its own and does not
        // change them, although it takes a pointer to mutable ones. No options are passed.
        let error = unsafe { bpf_linker__add_buf(self.linker.as_ptr(), bytes, size as _, null()) };
        check(error)
    }

    fn finish(&mut self) -> Result<(), Errno> {
        // SAFETY: the linker is alive and has not been finished: this is called once.
        check(unsafe { bpf_linker__finalize(self.linker.as_ptr()) })
    }
}

impl Drop for Linker<'_> {
    fn drop(&mut self) {
        // SAFETY: the linker was made by `bpf_linker__new_fd` and is freed here only. It does not
        // close the descriptor, which it does not own.
        unsafe { bpf_linker__free(self.linker.as_ptr()) };
    }
}

fn check(error: c_int) -> Result<(), Errno> {
    if error == 0 {
        Ok(())
    } else {
        Err(Errno(error.saturating_neg()))
    }
}
