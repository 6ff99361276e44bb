//! Programs that write events, run by `BPF_PROG_TEST_RUN`.

use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use libbpf_sys::bpf_insn;

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> bpf_insn {
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(dst, src),
        off,
        imm,
    }
}

fn load(instructions: &[bpf_insn]) -> OwnedFd {
    // SAFETY: all strings are NUL-terminated, and the count is that of the slice.
    unsafe {
        let fd = libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SOCKET_FILTER,
            c"events".as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr(),
            instructions.len() as u64,
            std::ptr::null_mut(),
        );
        assert!(fd >= 0, "the program loads: {fd}");
        OwnedFd::from_raw_fd(fd)
    }
}

/// `r0 = 0; exit`
pub(crate) fn smallest() -> OwnedFd {
    load(&[insn(0xb7, 0, 0, 0, 0), insn(0x95, 0, 0, 0, 0)])
}

/// The kernel's id of a program.
pub(crate) fn id(program: &OwnedFd) -> u32 {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: `info` is as large as `size` says and has no pointers set.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            program.as_raw_fd(),
            (&raw mut info).cast(),
            &raw mut size,
        )
    };
    assert_eq!(result, 0);
    info.id
}

/// Each run discards a record of 40 bytes, and writes one of `length` bytes (8 to 512), a multiple
/// of 8, that begin with the time.
pub(crate) fn events(ring: &impl AsFd, length: i32) -> OwnedFd {
    let fd = ring.as_fd().as_raw_fd();
    let map = |dst| [insn(0x18, dst, 1, 0, fd), insn(0, 0, 0, 0, 0)];
    let mut program = Vec::new();
    // r0 = bpf_ringbuf_reserve(ring, 40, 0); if r0 { bpf_ringbuf_discard(r0, 0) }
    program.extend(map(1));
    program.extend([
        insn(0xb7, 2, 0, 0, 40),
        insn(0xb7, 3, 0, 0, 0),
        insn(0x85, 0, 0, 0, 131),
        insn(0x15, 0, 0, 3, 0),
        insn(0xbf, 1, 0, 0, 0),
        insn(0xb7, 2, 0, 0, 0),
        insn(0x85, 0, 0, 0, 133),
    ]);
    // Zeros on the stack, the time before them.
    for place in 1..=length / 8 {
        program.push(insn(0x7a, 10, 0, (-8 * place) as i16, 0));
    }
    program.push(insn(0x85, 0, 0, 0, 5));
    program.push(insn(0x7b, 10, 0, -length as i16, 0));
    // bpf_ringbuf_output(ring, stack, length, 0)
    program.extend(map(1));
    program.extend([
        insn(0xbf, 2, 10, 0, 0),
        insn(0x07, 2, 0, 0, -length),
        insn(0xb7, 3, 0, 0, length),
        insn(0xb7, 4, 0, 0, 0),
        insn(0x85, 0, 0, 0, 130),
        insn(0xb7, 0, 0, 0, 0),
        insn(0x95, 0, 0, 0, 0),
    ]);
    load(&program)
}

/// Runs a program so many times.
pub(crate) fn run(program: &OwnedFd, times: i32) {
    let packet = [0u8; 64];
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as u64,
        data_in: packet.as_ptr().cast(),
        data_size_in: packet.len() as u32,
        repeat: times,
        ..Default::default()
    };
    // SAFETY: the options say the sizes of what they point to.
    let result =
        unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    assert_eq!(result, 0, "the program runs");
}

/// Runs a raw tracepoint's program once.
pub(crate) fn run_raw(program: &impl AsFd) {
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as u64,
        ..Default::default()
    };
    let fd = program.as_fd().as_raw_fd();
    // SAFETY: the options point to nothing.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(fd, &raw mut options) };
    assert_eq!(result, 0, "the program runs");
}
