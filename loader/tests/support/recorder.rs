//! Records every bpf(2) call of this process, libbpf's and ours alike, at the one place where
//! both go through: libc's `syscall`. The test binary defines that symbol itself and hands every
//! call on to the real one.

use std::ffi::{CStr, c_long, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use libbpf_sys as sys;

/// One bpf(2) call that matters for a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    MapCreate {
        attr: CreateAttr,
        errno: Option<i32>,
    },
    /// A batch for an outer map, by the kernel's name; what it did comes slot by slot after it.
    Batch { outer: String, slots: usize },
    /// A slot of an outer map, by the kernel's names.
    Slot {
        outer: String,
        key: u32,
        inner: String,
        batch: bool,
    },
    /// The value of an array's element, by the kernel's name of the array.
    Write {
        map: String,
        key: u32,
        value: Vec<u8>,
    },
    /// `BPF_MAP_FREEZE`, by the kernel's name of the map.
    Freeze { map: String },
    /// Any other command, by its number of `enum bpf_cmd`.
    Other { command: u32, failed: bool },
}

/// `BPF_MAP_CREATE`, with descriptors replaced by what they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CreateAttr {
    pub(crate) name: String,
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) map_flags: u32,
    pub(crate) numa_node: u32,
    pub(crate) map_extra: u64,
    /// Name of the template.
    pub(crate) inner: Option<String>,
    pub(crate) has_key_type: bool,
    pub(crate) has_value_type: bool,
    /// Length of the attribute as passed to the kernel.
    pub(crate) size: u32,
}

static CALLS: Mutex<Option<Vec<Call>>> = Mutex::new(None);
static REAL: AtomicUsize = AtomicUsize::new(0);

/// Runs `what` and gives its result with the calls that it made.
pub(crate) fn record<T>(what: impl FnOnce() -> T) -> (T, Vec<Call>) {
    *CALLS.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    let result = what();
    let calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner).take();
    (result, calls.unwrap_or_default())
}

type Syscall = unsafe extern "C" fn(c_long, ...) -> c_long;

fn real() -> Syscall {
    let mut address = REAL.load(Ordering::Relaxed);
    if address == 0 {
        // SAFETY: the name is NUL-terminated; the next object in line is the C library.
        address = unsafe { libc::dlsym(libc::RTLD_NEXT, c"syscall".as_ptr()) } as usize;
        assert_ne!(0, address, "the C library has syscall()");
        REAL.store(address, Ordering::Relaxed);
    }
    // SAFETY: this is the address of the C library's syscall(), which has this signature.
    unsafe { std::mem::transmute::<usize, Syscall>(address) }
}

/// Stands in for libc's variadic function: its arguments are six machine words at most, which
/// are passed alike in both forms on the 64-bit machines that this runs on.
///
/// # Safety
/// As syscall(2).
#[allow(unreachable_pub, reason = "the linker has to see it")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    // SAFETY: the kernel is about to read the attribute, `c` bytes at `b`.
    let batch = unsafe { batch_of(number, a, b as *const c_void, c) };
    // SAFETY: the caller's arguments, handed on.
    let result = unsafe { real()(number, a, b, c, d, e, f) };
    if number != libc::SYS_bpf {
        return result;
    }
    // SAFETY: errno is this thread's own; it must look untouched to the caller.
    let errno = unsafe { *libc::__errno_location() };
    let command = u32::try_from(a).unwrap_or(u32::MAX);
    // SAFETY: the kernel has just read the attribute, `c` bytes at `b`.
    let attr = unsafe { read_attr(b as *const c_void, usize::try_from(c).unwrap_or(0)) };
    let outcome = if result < 0 {
        Err(errno)
    } else {
        Ok(i32::try_from(result).unwrap_or(0))
    };
    if is_recording() {
        // SAFETY: pointers in the attribute were good for the kernel a moment ago.
        let mut calls = unsafe { describe(command, &attr, u32::try_from(c).unwrap_or(0), outcome) };
        if let Some(mut slots) = batch {
            // SAFETY: the call was one for a batch. A kernel without batches leaves the count alone.
            let done = unsafe { attr.batch.count } as usize;
            let begun = begun(&slots);
            if outcome.is_err() {
                slots.truncate(if done < slots.len() { done } else { 0 });
            }
            // One that was ended half-way is no call that failed.
            if !slots.is_empty() {
                calls = slots;
            }
            calls.splice(0..0, begun);
        }
        if let Some(all) = CALLS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            all.extend(calls);
        }
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    result
}

/// The slots of a batch, before the call: bpfplan takes back what a batch has not done yet, and then
/// its values are gone.
unsafe fn batch_of(
    number: c_long,
    command: c_long,
    attr: *const c_void,
    length: c_long,
) -> Option<Vec<Call>> {
    let is_batch = number == libc::SYS_bpf && command == c_long::from(sys::BPF_MAP_UPDATE_BATCH);
    if !is_batch || !is_recording() {
        return None;
    }
    // SAFETY: the caller vouches for the attribute, and for what a batch in it points to.
    unsafe {
        let batch = read_attr(attr, usize::try_from(length).unwrap_or(0)).batch;
        Some(slot_call(
            batch.map_fd,
            batch.keys,
            batch.values,
            batch.count,
            true,
        ))
    }
}

/// The call for these slots, if they are those of an outer map.
fn begun(slots: &[Call]) -> Option<Call> {
    let Some(Call::Slot { outer, .. }) = slots.first() else {
        return None;
    };
    Some(Call::Batch {
        outer: outer.clone(),
        slots: slots.len(),
    })
}

fn is_recording() -> bool {
    CALLS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_some()
}

/// A copy of the attribute, zero beyond its length.
unsafe fn read_attr(from: *const c_void, length: usize) -> sys::bpf_attr {
    let mut attr = sys::bpf_attr::default();
    let length = length.min(size_of::<sys::bpf_attr>());
    // SAFETY: `from` has `length` bytes, and so has `attr`.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), (&raw mut attr).cast(), length) };
    attr
}

unsafe fn describe(
    command: u32,
    attr: &sys::bpf_attr,
    size: u32,
    outcome: Result<i32, i32>,
) -> Vec<Call> {
    // SAFETY: which member of the union is meant follows from the command; pointers are the
    // caller's, and keys and values of outer maps with static slots are four bytes.
    unsafe {
        match command {
            sys::BPF_MAP_CREATE => {
                let create = attr.__bindgen_anon_1;
                vec![Call::MapCreate {
                    attr: CreateAttr {
                        name: CStr::from_ptr(create.map_name.as_ptr())
                            .to_string_lossy()
                            .into_owned(),
                        map_type: create.map_type,
                        key_size: create.key_size,
                        value_size: create.value_size,
                        max_entries: create.max_entries,
                        map_flags: create.map_flags,
                        numa_node: create.numa_node,
                        map_extra: create.map_extra,
                        inner: (create.inner_map_fd != 0).then(|| name_of(create.inner_map_fd)),
                        has_key_type: create.btf_key_type_id != 0,
                        has_value_type: create.btf_value_type_id != 0,
                        size,
                    },
                    errno: outcome.err(),
                }]
            }
            sys::BPF_MAP_UPDATE_ELEM if outcome.is_ok() => {
                let update = attr.__bindgen_anon_2;
                slot_call(
                    update.map_fd,
                    update.key,
                    update.__bindgen_anon_1.value,
                    1,
                    false,
                )
            }
            // `batch_of` has read it.
            sys::BPF_MAP_UPDATE_BATCH if outcome.is_ok() => Vec::new(),
            sys::BPF_MAP_FREEZE if outcome.is_ok() => vec![Call::Freeze {
                map: name_of(attr.__bindgen_anon_2.map_fd),
            }],
            command => vec![Call::Other {
                command,
                failed: outcome.is_err(),
            }],
        }
    }
}

unsafe fn slot_call(map_fd: u32, keys: u64, values: u64, count: u32, batch: bool) -> Vec<Call> {
    let info = info(map_fd);
    let outer = name(&info, map_fd);
    if info.type_ == sys::BPF_MAP_TYPE_ARRAY && count == 1 {
        let size = info.value_size as usize;
        // SAFETY: keys of arrays have four bytes, values the map's size.
        let (key, value) = unsafe {
            (
                (keys as *const u32).read_unaligned(),
                std::slice::from_raw_parts(values as *const u8, size).to_vec(),
            )
        };
        let map = outer;
        return vec![Call::Write { map, key, value }];
    }
    if !OUTER.contains(&info.type_) {
        return vec![Call::Other {
            command: sys::BPF_MAP_UPDATE_ELEM,
            failed: false,
        }];
    }
    (0..count as usize)
        .map(|i| {
            // SAFETY: the caller vouches for `count` keys and values of four bytes each.
            let (key, fd) = unsafe {
                (
                    (keys as *const u32).add(i).read_unaligned(),
                    (values as *const u32).add(i).read_unaligned(),
                )
            };
            Call::Slot {
                outer: outer.clone(),
                key,
                inner: name_of(fd),
                batch,
            }
        })
        .collect()
}

const OUTER: [u32; 2] = [
    sys::BPF_MAP_TYPE_ARRAY_OF_MAPS,
    sys::BPF_MAP_TYPE_HASH_OF_MAPS,
];

fn name_of(fd: u32) -> String {
    name(&info(fd), fd)
}

fn name(info: &sys::bpf_map_info, fd: u32) -> String {
    if info.id == 0 {
        return format!("descriptor {fd}");
    }
    // SAFETY: the kernel terminates the name within its 16 bytes.
    let name = unsafe { CStr::from_ptr(info.name.as_ptr()) };
    name.to_string_lossy().into_owned()
}

/// Asks the kernel with the real syscall, so that the question is not recorded; all zero if it
/// does not answer.
fn info(fd: u32) -> sys::bpf_map_info {
    let mut info = sys::bpf_map_info::default();
    let mut attr = sys::bpf_attr::default();
    attr.info.bpf_fd = fd;
    attr.info.info_len = u32::try_from(size_of::<sys::bpf_map_info>()).unwrap_or(0);
    attr.info.info = (&raw mut info) as u64;
    // SAFETY: the attribute points at a bpf_map_info of the length it names.
    let result = unsafe {
        real()(
            libc::SYS_bpf,
            sys::BPF_OBJ_GET_INFO_BY_FD,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    if result == 0 {
        info
    } else {
        sys::bpf_map_info::default()
    }
}
