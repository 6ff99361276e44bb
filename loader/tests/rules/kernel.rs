//! The few calls of `bpf(2)` that these tests need, made directly: libbpf would retry and hide.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use bpfplan_plan::uapi;
use bpfplan_plan::{Map, MaxEntries};

/// `union bpf_attr`, as far as the calls here fill it.
struct Attr([u8; 128]);

impl Attr {
    fn new() -> Self {
        Self([0; 128])
    }

    fn u32(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(mut self, offset: usize, value: u64) -> Self {
        self.0[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    /// Makes the call with the first `size` bytes.
    fn call(&mut self, command: u32, size: usize) -> Result<i64, i32> {
        assert!(size <= self.0.len());
        // SAFETY: the kernel reads and writes `size` bytes of the array; pointers inside were taken
        // from slices that their callers keep alive, of the sizes the commands use.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), size) };
        if result >= 0 {
            return Ok(result);
        }
        Err(std::io::Error::last_os_error()
            .raw_os_error()
            .expect("an errno"))
    }

    fn open(&mut self, command: u32, size: usize) -> Result<OwnedFd, i32> {
        let fd = RawFd::try_from(self.call(command, size)?).expect("a descriptor");
        // SAFETY: the command answered with a new descriptor that nobody else has.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// A map's BTF: the blob's descriptor and the ids of key and value.
#[derive(Clone, Copy)]
pub struct Btf<'a> {
    pub fd: &'a OwnedFd,
    pub key: u32,
    pub value: u32,
}

pub fn create<I>(
    map: &Map<I>,
    inner: Option<&OwnedFd>,
    btf: Option<Btf<'_>>,
) -> Result<OwnedFd, i32> {
    let MaxEntries::Count(entries) = map.max_entries else {
        panic!("a number of entries")
    };
    let mut attr = Attr::new()
        .u32(0, map.map_type.0)
        .u32(4, map.key_size)
        .u32(8, map.value_size)
        .u32(12, entries)
        .u32(16, map.map_flags)
        .u32(20, inner.map_or(0, |fd| fd.as_raw_fd().cast_unsigned()))
        .u32(24, map.numa_node)
        .u64(64, map.map_extra);
    let name = map.kernel_name();
    attr.0[28..28 + name.len()].copy_from_slice(name.as_bytes());
    if let Some(btf) = btf {
        attr = attr
            .u32(48, btf.fd.as_raw_fd().cast_unsigned())
            .u32(52, btf.key)
            .u32(56, btf.value);
    }
    attr.open(uapi::BPF_MAP_CREATE, 72)
}

pub fn load_btf(blob: &[u8]) -> Result<OwnedFd, i32> {
    let size = u32::try_from(blob.len()).expect("a small blob");
    Attr::new()
        .u64(0, blob.as_ptr() as u64)
        .u32(16, size)
        .open(uapi::BPF_BTF_LOAD, 28)
}

/// Puts `inner` into slot `key` of `outer`.
pub fn update(outer: &OwnedFd, key: u32, inner: &OwnedFd) -> Result<(), i32> {
    let value = inner.as_raw_fd();
    let mut attr = Attr::new()
        .u32(0, outer.as_raw_fd().cast_unsigned())
        .u64(8, (&raw const key) as u64)
        .u64(16, (&raw const value) as u64);
    attr.call(uapi::BPF_MAP_UPDATE_ELEM, 32).map(|_| ())
}
