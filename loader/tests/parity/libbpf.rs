//! The real libbpf on hostile input: in a child of its own, because it may hang, crash or eat
//! memory.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::Mutex;

use bpfplan_plan::MapType;
use libbpf_sys as sys;

use super::support::kernel_view;
use super::support::libbpf::{Declared, Object};

/// Processor time that an open may take, in microseconds. It takes a thousandth of that.
const TIME: libc::suseconds_t = 500_000;
/// Address space that an open may take, in bytes.
const MEMORY: libc::rlim_t = 1 << 30;

/// Bytes of the verifier's log that are looked at.
const LOG: u32 = 1 << 16;

/// What libbpf says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It opens it: its declared maps, as `{:#?}` of a list of [`Declared`].
    Opens(String),
    /// It refuses it: errno, and the last warning before it is formatted, which may be empty.
    Refuses(i32, String),
    /// The signal that ended it.
    Dies(i32),
}

/// Format of the last warning.
static WARNING: Mutex<String> = Mutex::new(String::new());

/// libbpf's type has a list of arguments in the third place, which is different on every machine;
/// it is passed in one register or by reference everywhere and not looked at.
unsafe extern "C" fn remember(level: c_int, format: *const c_char, _: *mut c_void) -> c_int {
    if level == 0 {
        // SAFETY: libbpf passes a format, which is NUL-terminated.
        let format = unsafe { CStr::from_ptr(format) }.to_string_lossy();
        let format = format.trim_start_matches("libbpf: ").trim_end();
        format.clone_into(&mut WARNING.lock().unwrap());
    }
    0
}

fn open(object: &[u8]) -> Result<Object, i32> {
    listen();
    Object::open_bytes(object)
}

/// Remembers libbpf's warnings.
fn listen() {
    type Plain = unsafe extern "C" fn(c_int, *const c_char, *mut c_void) -> c_int;
    // SAFETY: both are functions of three register-sized arguments.
    unsafe {
        let print = std::mem::transmute::<Option<Plain>, sys::libbpf_print_fn_t>(Some(remember));
        sys::libbpf_set_print(print);
    }
}

/// All maps.
fn declared(object: &Object) -> Vec<Declared> {
    let maps = object.maps();
    maps.iter().map(|map| map.declared()).collect()
}

/// Asks libbpf to open an object.
pub(crate) fn opens(object: &[u8]) -> Answer {
    in_child(|| {
        let object = open(object)?;
        Ok(format!("{:#?}", declared(&object)))
    })
}

/// Asks libbpf to open an object: the types of each map, as `{:?}` of a list of what
/// [`Map::types`](super::support::libbpf::Map::types) gives.
pub(crate) fn types(object: &[u8]) -> Answer {
    in_child(|| {
        let object = open(object)?;
        let types: Vec<_> = object.maps().iter().map(|map| map.types()).collect();
        Ok(format!("{types:?}"))
    })
}

/// The slots of each outer map: index and the first 15 bytes of the inner map's name.
pub(crate) type Slots = Vec<(String, BTreeMap<u32, String>)>;

/// Asks libbpf to load an object without its programs: the slots of each outer map, as `{:#?}` of
/// [`Slots`].
pub(crate) fn loads(object: &[u8]) -> Answer {
    in_child(|| {
        let object = open(object)?;
        object.without_programs();
        let maps = object.maps();
        maps.iter().for_each(|map| map.clear_pin_path());
        object.load()?;
        let outer = maps.iter().filter(|map| MapType(map.map_type()).is_outer());
        let slots: Slots = outer
            .map(|map| (map.name(), kernel_view::slots(map.fd())))
            .collect();
        Ok(format!("{slots:#?}"))
    })
}

/// Links objects with libbpf's static linker; `None` if it does not link them.
pub(crate) fn link(inputs: &[&Path]) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = directory.path().join("linked.bpf.o");
    let bytes = || std::fs::read(&output).expect("the linked object is readable");
    matches!(link_in_child(inputs, &output), Answer::Opens(_)).then(bytes)
}

fn link_in_child(inputs: &[&Path], output: &Path) -> Answer {
    let text = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    in_child(|| {
        listen();
        // SAFETY: all paths are NUL-terminated, the linker is freed once, null options are none.
        let error = unsafe {
            let linker = sys::bpf_linker__new(text(output).as_ptr(), null_mut());
            assert!(!linker.is_null(), "no linker");
            let mut error = 0;
            for input in inputs {
                if error == 0 {
                    error = sys::bpf_linker__add_file(linker, text(input).as_ptr(), null());
                }
            }
            if error == 0 {
                error = sys::bpf_linker__finalize(linker);
            }
            sys::bpf_linker__free(linker);
            error
        };
        if error == 0 {
            Ok(String::new())
        } else {
            Err(-error)
        }
    })
}

/// What libbpf's linker makes of some objects.
pub(crate) enum Linked {
    /// The linked object.
    Object(Vec<u8>),
    /// It refuses them: the last warning before it is formatted.
    Refused(String),
    /// The signal that ended it.
    Dies(i32),
}

/// Links objects with libbpf's static linker.
pub(crate) fn link_bytes(objects: &[Vec<u8>]) -> Linked {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = directory.path().join("linked.bpf.o");
    let paths: Vec<_> = (0..objects.len())
        .map(|number| directory.path().join(format!("{number}.bpf.o")))
        .collect();
    for (path, object) in paths.iter().zip(objects) {
        std::fs::write(path, object).expect("the object can be written");
    }
    let paths: Vec<&Path> = paths.iter().map(std::path::PathBuf::as_path).collect();
    match link_in_child(&paths, &output) {
        Answer::Opens(_) => Linked::Object(std::fs::read(&output).expect("it is readable")),
        Answer::Refuses(errno, warning) => Linked::Refused(format!("{errno} {warning}")),
        Answer::Dies(signal) => Linked::Dies(signal),
    }
}

/// Loads BTF into the kernel: `None` if this process may not, the log if the kernel refuses.
pub(crate) fn load_btf(blob: &[u8]) -> Option<Result<(), String>> {
    if blob.is_empty() {
        return None;
    }
    let mut log = vec![0u8; LOG as usize];
    let mut options = sys::bpf_btf_load_opts {
        sz: size_of::<sys::bpf_btf_load_opts>() as _,
        log_buf: log.as_mut_ptr().cast(),
        log_size: LOG,
        log_level: 1,
        ..Default::default()
    };
    // SAFETY: blob and log live through the call and are as long as it says.
    let fd = unsafe { sys::bpf_btf_load(blob.as_ptr().cast(), blob.len() as _, &raw mut options) };
    if fd >= 0 {
        // SAFETY: the descriptor was made above and is used nowhere else.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        return Some(Ok(()));
    }
    let log = String::from_utf8_lossy(&log);
    let last = log
        .trim_end_matches('\0')
        .lines()
        .last()
        .unwrap_or_default();
    (fd != -libc::EPERM).then(|| Err(format!("{fd} {last}")))
}

/// Runs a question in a forked child with limits.
fn in_child(question: impl FnOnce() -> Result<String, i32>) -> Answer {
    let mut pipe = [0; 2];
    // SAFETY: there is room for both ends.
    assert_eq!(0, unsafe {
        libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC)
    });
    // SAFETY: these tests have one thread, so the child may do what it likes.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child");
    // SAFETY: each end is owned by one side.
    let end = |index: usize| unsafe { File::from_raw_fd(pipe[index]) };
    if child == 0 {
        // A panic must not take the child back to where the parent is.
        let answered = catch_unwind(AssertUnwindSafe(|| {
            limit();
            let answer = question();
            let warning = WARNING.lock().unwrap().clone();
            let text = match answer {
                Ok(text) => format!("0\n{text}"),
                Err(errno) => format!("{errno}\n{warning}"),
            };
            end(1).write_all(text.as_bytes()).unwrap();
        }));
        // SAFETY: ends the child at once; nothing of the parent's is run.
        unsafe { libc::_exit(i32::from(answered.is_err())) };
    }
    drop(end(1));
    let mut text = String::new();
    end(0).read_to_string(&mut text).unwrap();
    let mut status = 0;
    // SAFETY: the child is ours and has not been waited for.
    assert_eq!(child, unsafe { libc::waitpid(child, &raw mut status, 0) });
    if libc::WIFSIGNALED(status) {
        return Answer::Dies(libc::WTERMSIG(status));
    }
    let (errno, text) = text.split_once('\n').expect("the child answers");
    match errno.parse().unwrap() {
        0 => Answer::Opens(text.to_owned()),
        errno => Answer::Refuses(errno, text.to_owned()),
    }
}

fn limit() {
    let set = |what, limit| {
        let limit = libc::rlimit {
            rlim_cur: limit,
            rlim_max: limit,
        };
        // SAFETY: the limit is a valid struct.
        assert_eq!(0, unsafe { libc::setrlimit(what, &raw const limit) });
    };
    set(libc::RLIMIT_AS, MEMORY);
    set(libc::RLIMIT_CORE, 0);
    let never = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    let timer = libc::itimerval {
        it_interval: never,
        it_value: libc::timeval {
            tv_usec: TIME,
            ..never
        },
    };
    // SAFETY: the timer is a valid struct; SIGPROF ends the child.
    let error = unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, null_mut()) };
    assert_eq!(0, error);
}
