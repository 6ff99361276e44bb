//! A program, as a thing that is no map.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Pins the smallest program at the path.
pub(crate) fn pin(path: &Path) {
    let instruction = |code, dst| libbpf_sys::bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: libbpf_sys::bpf_insn::new_bitfield_1(dst, 0),
        off: 0,
        imm: 0,
    };
    // r0 = 0; exit
    let instructions = [instruction(0xb7, 0), instruction(0x95, 0)];
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL byte");
    // SAFETY: all strings are NUL-terminated, and the count is that of the array.
    unsafe {
        let fd = libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SOCKET_FILTER,
            c"smallest".as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr(),
            instructions.len() as u64,
            std::ptr::null_mut(),
        );
        assert!(fd >= 0, "the program loads: {fd}");
        let fd = OwnedFd::from_raw_fd(fd);
        assert_eq!(libbpf_sys::bpf_obj_pin(fd.as_raw_fd(), path.as_ptr()), 0);
    }
}

/// Pins a link at the path: an iterator over maps, which is attached to nothing.
pub(crate) fn pin_link(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL byte");
    // r0 = 0; exit
    let instruction = |code| libbpf_sys::bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: libbpf_sys::bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm: 0,
    };
    let instructions = [instruction(0xb7), instruction(0x95)];
    // SAFETY: all strings are NUL-terminated, the options say their size, and the count is that of
    // the array.
    unsafe {
        let kind = libbpf_sys::BPF_TRACE_ITER;
        let target = libbpf_sys::libbpf_find_vmlinux_btf_id(c"bpf_map".as_ptr(), kind);
        assert!(target > 0, "the kernel has iterators over maps: {target}");
        let mut options = libbpf_sys::bpf_prog_load_opts {
            sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as _,
            expected_attach_type: kind,
            attach_btf_id: target.cast_unsigned(),
            ..Default::default()
        };
        let fd = libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_TRACING,
            c"iterator".as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr(),
            instructions.len() as u64,
            &raw mut options,
        );
        assert!(fd >= 0, "the program loads: {fd}");
        let program = OwnedFd::from_raw_fd(fd);
        let fd = libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, kind, std::ptr::null());
        assert!(fd >= 0, "the link is made: {fd}");
        let link = OwnedFd::from_raw_fd(fd);
        assert_eq!(libbpf_sys::bpf_obj_pin(link.as_raw_fd(), path.as_ptr()), 0);
    }
}
