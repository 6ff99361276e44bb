//! Features that programs are told about, found out by trying, as in libbpf's `features.c`.

use std::ffi::{CString, c_int, c_long};
use std::mem::offset_of;

use bpfplan_plan::uapi;
use libbpf_sys::{
    BPF_FUNC_get_attach_cookie, BPF_PROG_TYPE_TRACEPOINT, PERF_FLAG_FD_CLOEXEC,
    bpf_attr__bindgen_ty_4 as ProgAttr, perf_event_attr,
};

use super::bpf::{address, bpf_fd, own, zeroed_attr};

/// `call bpf_get_attach_cookie; exit`, two `struct bpf_insn`.
const INSNS: [[u8; 8]; 2] = {
    let [a, b, c, d] = BPF_FUNC_get_attach_cookie.to_ne_bytes();
    [[0x85, 0, 0, 0, a, b, c, d], [0x95, 0, 0, 0, 0, 0, 0, 0]]
};

/// Through `prog_flags`; all kernels have that much, and nothing behind it is needed.
const PROG_SIZE: usize = offset_of!(ProgAttr, prog_flags) + size_of::<u32>();

/// Part of the names of system calls on this machine (`arch_specific_syscall_pfx` of libbpf).
const PREFIX: Option<&str> = if cfg!(target_arch = "x86_64") {
    Some("x64")
} else if cfg!(target_arch = "x86") {
    Some("ia32")
} else if cfg!(target_arch = "s390x") {
    Some("s390x")
} else if cfg!(target_arch = "arm") {
    Some("arm")
} else if cfg!(target_arch = "aarch64") {
    Some("arm64")
} else if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    Some("mips")
} else if cfg!(any(target_arch = "riscv32", target_arch = "riscv64")) {
    Some("riscv")
} else if cfg!(any(target_arch = "powerpc", target_arch = "powerpc64")) {
    Some("powerpc")
} else {
    None
};

/// Whether the verifier takes a tracepoint program that asks for its cookie.
pub(super) fn has_bpf_cookie() -> bool {
    let license = c"GPL";
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_3 = ProgAttr {
        prog_type: BPF_PROG_TYPE_TRACEPOINT,
        insn_cnt: 2,
        insns: address(INSNS.as_ptr()),
        license: address(license.as_ptr()),
        ..ProgAttr::default()
    };
    bpf_fd(uapi::BPF_PROG_LOAD, &mut attr, PROG_SIZE).is_ok()
}

/// Whether there is a function to trace that is called as the system call with a wrapper is.
///
/// Kernels that cannot trace functions this way (before 4.17) have no such wrapper either, so the
/// events in tracefs, which libbpf tries there, are left alone.
pub(super) fn has_syscall_wrapper() -> bool {
    let kind = std::fs::read_to_string("/sys/bus/event_source/devices/kprobe/type");
    let kind = kind.ok().and_then(|text| text.trim().parse::<u32>().ok());
    let name = PREFIX.and_then(|prefix| CString::new(format!("__{prefix}_sys_bpf")).ok());
    let (Some(kind), Some(name)) = (kind, name) else {
        return false;
    };
    let Ok(size) = u32::try_from(size_of::<perf_event_attr>()) else {
        return false;
    };
    let mut attr = perf_event_attr {
        type_: kind,
        size,
        ..perf_event_attr::default()
    };
    attr.__bindgen_anon_3.config1 = address(name.as_ptr());
    let pid: c_int = std::process::id().cast_signed();
    let (cpu, group): (c_int, c_int) = (-1, -1);
    // SAFETY: `attr` is a whole `struct perf_event_attr` that says its size, all of it set; the
    // name that it points to is NUL-terminated, and both outlive the call.
    let result: c_long = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw mut attr,
            pid,
            cpu,
            group,
            u64::from(PERF_FLAG_FD_CLOEXEC),
        )
    };
    // Nothing is asked of the event, so it is closed at once.
    c_int::try_from(result).is_ok_and(|fd| fd >= 0 && own(fd).is_ok())
}
