//! A map as the kernel itself describes it (`BPF_OBJ_GET_INFO_BY_FD`).

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::from_mut;

use libbpf_sys as sys;

/// What the kernel says of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub name: String,
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
    pub map_extra: u64,
}

/// The BTF of a map: the kernel's blob and the ids in it.
#[derive(Debug)]
pub struct Types {
    pub blob: Vec<u8>,
    pub key: u32,
    pub value: u32,
}

fn info(fd: RawFd) -> sys::bpf_map_info {
    // SAFETY: all-zero is a valid value of this plain C struct, and its size is passed along.
    unsafe {
        let mut info: sys::bpf_map_info = zeroed();
        let mut size = u32::try_from(size_of::<sys::bpf_map_info>()).unwrap();
        let error = sys::bpf_map_get_info_by_fd(fd, &raw mut info, &raw mut size);
        assert_eq!(0, error, "info of descriptor {fd}");
        info
    }
}

pub fn map_id(fd: RawFd) -> u32 {
    info(fd).id
}

pub fn view(fd: RawFd) -> View {
    let info = info(fd);
    // SAFETY: the kernel terminates the name within its 16 bytes.
    let name = unsafe { CStr::from_ptr(info.name.as_ptr()) };
    View {
        name: name.to_string_lossy().into_owned(),
        map_type: info.type_,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        map_flags: info.map_flags,
        map_extra: info.map_extra,
    }
}

/// Opens a map by its id, `None` if there is none.
pub fn open(id: u32) -> Option<OwnedFd> {
    // SAFETY: the answer is a descriptor that nobody else owns, or negative.
    let fd = unsafe { sys::bpf_map_get_fd_by_id(id) };
    // SAFETY: as above.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The slots of an outer map: key (32 bits, as static slots have) to the kernel's name of the
/// inner map.
pub fn slots(fd: RawFd) -> BTreeMap<u32, String> {
    let size = info(fd).key_size as usize;
    let mut slots = BTreeMap::new();
    let mut previous: Option<Vec<u8>> = None;
    loop {
        let mut key = vec![0u8; size];
        let from = previous
            .as_ref()
            .map_or(std::ptr::null(), |key| key.as_ptr().cast());
        // SAFETY: both keys have the map's key size.
        if unsafe { sys::bpf_map_get_next_key(fd, from, key.as_mut_ptr().cast()) } != 0 {
            return slots;
        }
        let mut id = 0u32;
        // SAFETY: the key has the map's key size; a lookup in an outer map gives a 32-bit id.
        let found =
            unsafe { sys::bpf_map_lookup_elem(fd, key.as_ptr().cast(), from_mut(&mut id).cast()) };
        if found == 0 {
            let inner = open(id).expect("the inner map is alive");
            let index = u32::from_ne_bytes(key[..].try_into().expect("static slots have u32 keys"));
            slots.insert(index, view(inner.as_raw_fd()).name);
        }
        previous = Some(key);
    }
}

/// What the kernel says of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramView {
    pub name: String,
    pub program_type: u32,
    /// A hash of the instructions as they were loaded, without the numbers of maps.
    pub tag: [u8; 8],
    pub maps: u32,
    pub gpl: bool,
    pub has_btf: bool,
}

fn program_info(fd: RawFd) -> sys::bpf_prog_info {
    // SAFETY: all-zero is a valid value of this plain C struct, and its size is passed along.
    unsafe {
        let mut info: sys::bpf_prog_info = zeroed();
        let mut size = u32::try_from(size_of::<sys::bpf_prog_info>()).unwrap();
        let error = sys::bpf_prog_get_info_by_fd(fd, &raw mut info, &raw mut size);
        assert_eq!(0, error, "info of descriptor {fd}");
        info
    }
}

pub fn program(fd: RawFd) -> ProgramView {
    let info = program_info(fd);
    // SAFETY: the kernel terminates the name within its 16 bytes.
    let name = unsafe { CStr::from_ptr(info.name.as_ptr()) };
    ProgramView {
        name: name.to_string_lossy().into_owned(),
        program_type: info.type_,
        tag: info.tag,
        maps: info.nr_map_ids,
        gpl: info.gpl_compatible() != 0,
        has_btf: info.btf_id != 0,
    }
}

/// The slots of a program array: index to the kernel's name of the program.
pub fn program_slots(fd: RawFd) -> BTreeMap<u32, String> {
    let mut slots = BTreeMap::new();
    for index in 0..info(fd).max_entries {
        let mut id = 0u32;
        // SAFETY: keys and values of a program array have four bytes.
        let found = unsafe {
            sys::bpf_map_lookup_elem(
                fd,
                std::ptr::from_ref(&index).cast(),
                from_mut(&mut id).cast(),
            )
        };
        if found == 0 {
            // SAFETY: the answer is a descriptor that nobody else owns, or negative.
            let fd = unsafe { sys::bpf_prog_get_fd_by_id(id) };
            assert!(fd >= 0, "the program in slot {index} is alive");
            // SAFETY: as above.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            slots.insert(index, program(fd.as_raw_fd()).name);
        }
    }
    slots
}

/// The first element of an array, `None` if user space cannot read it.
pub fn element(fd: RawFd) -> Option<Vec<u8>> {
    let mut value = vec![0u8; info(fd).value_size as usize];
    // SAFETY: an array has keys of four bytes; the buffer has the map's value size.
    let error = unsafe {
        sys::bpf_map_lookup_elem(
            fd,
            std::ptr::from_ref(&0_u32).cast(),
            value.as_mut_ptr().cast(),
        )
    };
    (error == 0).then_some(value)
}

/// Whether user space can no longer write to a map.
pub fn frozen(fd: RawFd) -> bool {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("fdinfo");
    let line = text.lines().find_map(|line| line.strip_prefix("frozen:"));
    line.expect("this kernel can freeze maps").trim() == "1"
}

/// The BTF that the kernel holds for a map, `None` if it has none.
pub fn types(fd: RawFd) -> Option<Types> {
    let map = info(fd);
    if map.btf_id == 0 {
        return None;
    }
    // SAFETY: the descriptor is owned here; the kernel writes at most `btf_size` bytes into a
    // buffer of that many, and all-zero is a valid bpf_btf_info.
    let blob = unsafe {
        let btf = sys::bpf_btf_get_fd_by_id(map.btf_id);
        assert!(btf >= 0, "BTF {} of map {}", map.btf_id, map.id);
        let btf = OwnedFd::from_raw_fd(btf);
        let mut blob = vec![0u8; 1 << 22];
        let mut info: sys::bpf_btf_info = zeroed();
        info.btf = blob.as_mut_ptr() as u64;
        info.btf_size = u32::try_from(blob.len()).unwrap();
        let mut size = u32::try_from(size_of::<sys::bpf_btf_info>()).unwrap();
        let error = sys::bpf_btf_get_info_by_fd(btf.as_raw_fd(), &raw mut info, &raw mut size);
        assert_eq!(0, error);
        blob.truncate(info.btf_size as usize);
        blob
    };
    Some(Types {
        blob,
        key: map.btf_key_type_id,
        value: map.btf_value_type_id,
    })
}
