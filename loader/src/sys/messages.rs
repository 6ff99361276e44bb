//! What libbpf says while it works.
//!
//! libbpf has one function for its messages in the whole process. While a load or a link is going
//! on it is ours: messages of the thread that does it are collected, those of other threads go on to the
//! function that was there before, which comes back in the end.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_sys::{LIBBPF_WARN, libbpf_print_fn_t, libbpf_print_level};

/// The variable arguments of a message, as libbpf's bindings pass them.
type Arguments = *mut libbpf_sys::__va_list_tag;

/// Most messages that are kept of a load, its last ones: those before a failure name the program.
const MESSAGES: usize = 256;
/// Most bytes that are kept of a message that is no log.
const LENGTH: usize = 4096;
/// Most bytes of a log that are kept, its last ones. The kernel's limit is 4 GiB.
const LOG: usize = 256 << 20;

/// How libbpf marks a verifier's log (`bpf_object_load_prog`).
const BEGIN: &str = "-- BEGIN PROG LOAD LOG --\n";
const END: &str = "-- END PROG LOAD LOG --";

/// One load or link at a time.
static TURN: Mutex<()> = Mutex::new(());
/// The function for messages that was there before.
static BEFORE: Mutex<libbpf_print_fn_t> = Mutex::new(None);

thread_local! {
    /// The messages of this thread, if it loads or links.
    static COLLECTED: RefCell<Option<Said>> = const { RefCell::new(None) };
}

unsafe extern "C" {
    /// Writes a message into memory that it allocates.
    fn vasprintf(text: *mut *mut c_char, format: *const c_char, arguments: Arguments) -> c_int;
}

/// What libbpf said.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Warnings, one line each, without the log.
    pub(super) messages: Vec<String>,
    /// The verifier's log of the program that was refused.
    pub(super) log: Option<String>,
}

/// Collects messages until it is dropped.
pub(super) struct Collector {
    _turn: MutexGuard<'static, ()>,
}

impl Collector {
    /// Waits until nobody else collects.
    pub(super) fn start() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        COLLECTED.set(Some(Said::default()));
        // SAFETY: `print` is a function that lives as long as the process.
        let before = unsafe { libbpf_sys::libbpf_set_print(Some(print)) };
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = before;
        Self { _turn: turn }
    }

    /// What was said so far; it is forgotten here.
    pub(super) fn take(&self) -> Said {
        COLLECTED.replace(Some(Said::default())).unwrap_or_default()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let before = *BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the function was libbpf's or the caller's before, and still is there.
        let last = unsafe { libbpf_sys::libbpf_set_print(before) };
        if last.map(|function| function as usize) != Some(print as *const () as usize) {
            // Somebody else has set a function meanwhile, and keeps it.
            // SAFETY: it was set a moment ago.
            unsafe { libbpf_sys::libbpf_set_print(last) };
        }
        COLLECTED.set(None);
    }
}

/// Called by libbpf for each message.
unsafe extern "C" fn print(
    level: libbpf_print_level,
    format: *const c_char,
    arguments: Arguments,
) -> c_int {
    let collects = COLLECTED.try_with(|said| said.try_borrow().is_ok_and(|said| said.is_some()));
    if collects != Ok(true) {
        let before = *BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the arguments go on untouched to the function that would have got them.
        return before.map_or(0, |before| unsafe { before(level, format, arguments) });
    }
    if level != LIBBPF_WARN {
        return 0;
    }
    let mut text: *mut c_char = std::ptr::null_mut();
    // SAFETY: format and arguments belong together, as libbpf has passed them; they are read once.
    let length = unsafe { vasprintf(&raw mut text, format, arguments) };
    if length < 0 || text.is_null() {
        return 0;
    }
    // SAFETY: on success, `text` is a NUL-terminated string of our own.
    let message = unsafe { CStr::from_ptr(text) }.to_bytes();
    let _ = COLLECTED.try_with(|said| {
        if let Ok(mut said) = said.try_borrow_mut()
            && let Some(said) = said.as_mut()
        {
            said.add(message);
        }
    });
    // SAFETY: `text` was allocated by vasprintf and is not used any more.
    unsafe { libc::free(text.cast::<c_void>()) };
    0
}

impl Said {
    fn add(&mut self, message: &[u8]) {
        let message = message.strip_prefix(b"libbpf: ").unwrap_or(message);
        if let Some(log) = log_in(message) {
            let start = log.len().saturating_sub(LOG);
            let kept = log.get(start..).unwrap_or_default();
            self.log = Some(String::from_utf8_lossy(kept).into_owned());
        } else {
            if self.messages.len() == MESSAGES {
                self.messages.remove(0);
            }
            let kept = message.get(..LENGTH).unwrap_or(message);
            let text = String::from_utf8_lossy(kept);
            self.messages.push(text.trim_end().to_owned());
        }
    }
}

/// The verifier's log in a message of libbpf.
fn log_in(message: &[u8]) -> Option<&[u8]> {
    let begin = find(message, BEGIN.as_bytes())?;
    let log = message.get(begin.checked_add(BEGIN.len())?..)?;
    let end = log.len().checked_sub(END.len() + 1)?;
    (log.get(end..)?.trim_ascii_end() == END.as_bytes()).then(|| log.get(..end))?
}

/// Where the mark begins; it stands at the start of a message, behind a program's name.
fn find(message: &[u8], mark: &[u8]) -> Option<usize> {
    let head = message.get(..LENGTH).unwrap_or(message);
    head.windows(mark.len()).position(|window| window == mark)
}

#[cfg(test)]
mod tests {
    use super::{Said, log_in};

    #[test]
    fn a_log_is_told_from_other_messages() {
        let mut said = Said::default();
        said.add(b"libbpf: prog 'a': BPF program load failed: -EACCES\n");
        said.add(b"libbpf: prog 'a': -- BEGIN PROG LOAD LOG --\n0: (95) exit\nR0 !read_ok\n-- END PROG LOAD LOG --\n");
        assert_eq!(
            said.messages,
            ["prog 'a': BPF program load failed: -EACCES"]
        );
        assert_eq!(said.log.as_deref(), Some("0: (95) exit\nR0 !read_ok\n"));
        assert_eq!(log_in(b"-- BEGIN PROG LOAD LOG --\nno end"), None);

        for count in 0..1000 {
            said.add(format!("map {count}").as_bytes());
        }
        assert_eq!(said.messages.len(), super::MESSAGES);
        assert_eq!(said.messages.last().map(String::as_str), Some("map 999"));
    }
}
