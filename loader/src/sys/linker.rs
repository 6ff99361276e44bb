//! libbpf's static linker, from bytes to bytes.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::{NonNull, null};
use std::sync::{Mutex, PoisonError};
use std::thread;

use libbpf_sys::{
    __va_list_tag, bpf_linker, bpf_linker__add_buf, bpf_linker__finalize, bpf_linker__free,
    bpf_linker__new_fd, libbpf_print_fn_t, libbpf_print_level, libbpf_set_print,
};
use rustix::fs::{MemfdFlags, memfd_create};

use super::bpf::last_errno;
use crate::kernel::Errno;

/// Bytes of a message that are kept.
const MESSAGE: usize = 1024;
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

/// What printed before: libbpf has one place for such a function.
static PRINTING: Mutex<libbpf_print_fn_t> = Mutex::new(None);
/// One thread links at a time, because of that place.
static LINKING: Mutex<()> = Mutex::new(());

thread_local! {
    /// The messages of this thread, if it is linking.
    static MESSAGES_HERE: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

unsafe extern "C" {
    fn vsnprintf(
        buffer: *mut c_char,
        size: usize,
        format: *const c_char,
        arguments: *mut __va_list_tag,
    ) -> c_int;
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
    let _one = LINKING.lock().unwrap_or_else(PoisonError::into_inner);
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
    MESSAGES_HERE.set(Some(Vec::new()));
    let listening = Listening::start();
    let result = run(objects);
    drop(listening);
    let messages = MESSAGES_HERE.take().unwrap_or_default();
    result.map_err(|(step, errno)| Failure {
        step,
        errno,
        messages,
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

/// As long as this lives, libbpf prints through [`listen`].
struct Listening(());

impl Listening {
    fn start() -> Self {
        // Others that print wait until it is known where to.
        let mut printing = PRINTING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: `listen` is a function that may be called at any time from any thread.
        *printing = unsafe { libbpf_set_print(Some(listen)) };
        Self(())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut printing = PRINTING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: this is what was set before, by whoever is responsible for it.
        unsafe { libbpf_set_print(printing.take()) };
    }
}

/// Keeps what libbpf prints on the thread that links, and hands on what it prints elsewhere.
unsafe extern "C" fn listen(
    level: libbpf_print_level,
    format: *const c_char,
    arguments: *mut __va_list_tag,
) -> c_int {
    let keep = MESSAGES_HERE.with(|here| here.try_borrow().is_ok_and(|here| here.is_some()));
    if !keep {
        let before = *PRINTING.lock().unwrap_or_else(PoisonError::into_inner);
        return match before {
            // SAFETY: the function was libbpf's before and gets what it would have got.
            Some(before) => unsafe { before(level, format, arguments) },
            None => 0,
        };
    }
    if level != libbpf_sys::LIBBPF_WARN {
        return 0;
    }
    let mut buffer = [0_u8; MESSAGE];
    // SAFETY: libbpf passes a format with the arguments that it names; the buffer has the size
    // that is given, and a NUL is written within it.
    let length = unsafe { vsnprintf(buffer.as_mut_ptr().cast(), MESSAGE, format, arguments) };
    if let Ok(text) = CStr::from_bytes_until_nul(&buffer) {
        let text = text.to_string_lossy();
        let text = text.trim_start_matches("libbpf: ").trim_end().to_owned();
        MESSAGES_HERE.with(|here| {
            let mut here = here.borrow_mut();
            if let Some(messages) = here.as_mut().filter(|list| list.len() < MESSAGES) {
                messages.push(text);
            }
        });
    }
    length
}
