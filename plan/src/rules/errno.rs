//! Names of error numbers.

pub(crate) const EPERM: i32 = 1;
pub(crate) const ENOENT: i32 = 2;
pub(crate) const ESRCH: i32 = 3;
pub(crate) const E2BIG: i32 = 7;
pub(crate) const EBADF: i32 = 9;
pub(crate) const ENOMEM: i32 = 12;
pub(crate) const EACCES: i32 = 13;
pub(crate) const EBUSY: i32 = 16;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const ENOTDIR: i32 = 20;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const EMFILE: i32 = 24;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EROFS: i32 = 30;
pub(crate) const ERANGE: i32 = 34;
pub(crate) const ENAMETOOLONG: i32 = 36;
pub(crate) const ENOSYS: i32 = 38;
pub(crate) const EOPNOTSUPP: i32 = 95;
/// Internal to the kernel, yet `bpf(2)` returns it.
pub(crate) const ENOTSUPP: i32 = 524;

/// Names of the error numbers that `bpf(2)` and bpffs answer with, and libbpf's own from 4000 on.
const NAMES: &[(i32, &str)] = &[
    (EPERM, "EPERM"),
    (ENOENT, "ENOENT"),
    (ESRCH, "ESRCH"),
    (4, "EINTR"),
    (5, "EIO"),
    (E2BIG, "E2BIG"),
    (8, "ENOEXEC"),
    (EBADF, "EBADF"),
    (11, "EAGAIN"),
    (ENOMEM, "ENOMEM"),
    (EACCES, "EACCES"),
    (14, "EFAULT"),
    (EBUSY, "EBUSY"),
    (EEXIST, "EEXIST"),
    (18, "EXDEV"),
    (19, "ENODEV"),
    (ENOTDIR, "ENOTDIR"),
    (21, "EISDIR"),
    (EINVAL, "EINVAL"),
    (23, "ENFILE"),
    (EMFILE, "EMFILE"),
    (27, "EFBIG"),
    (ENOSPC, "ENOSPC"),
    (29, "ESPIPE"),
    (30, "EROFS"),
    (ERANGE, "ERANGE"),
    (ENAMETOOLONG, "ENAMETOOLONG"),
    (ENOSYS, "ENOSYS"),
    (39, "ENOTEMPTY"),
    (40, "ELOOP"),
    (61, "ENODATA"),
    (75, "EOVERFLOW"),
    (93, "EPROTONOSUPPORT"),
    (EOPNOTSUPP, "EOPNOTSUPP"),
    (110, "ETIMEDOUT"),
    (116, "ESTALE"),
    (122, "EDQUOT"),
    (ENOTSUPP, "ENOTSUPP"),
    (4000, "LIBBPF_ERRNO__LIBELF"),
    (4001, "LIBBPF_ERRNO__FORMAT"),
    (4002, "LIBBPF_ERRNO__KVERSION"),
    (4003, "LIBBPF_ERRNO__ENDIAN"),
    (4004, "LIBBPF_ERRNO__INTERNAL"),
    (4005, "LIBBPF_ERRNO__RELOC"),
    (4006, "LIBBPF_ERRNO__LOAD"),
    (4007, "LIBBPF_ERRNO__VERIFY"),
    (4008, "LIBBPF_ERRNO__PROG2BIG"),
    (4009, "LIBBPF_ERRNO__KVER"),
    (4010, "LIBBPF_ERRNO__PROGTYPE"),
];

/// The name of an error number on Linux, such as `EINVAL`; `errno 1234` if it has none here.
///
/// 524 is `ENOTSUPP`: internal to the kernel and without a text in libc, yet `bpf(2)` answers it.
#[must_use]
pub fn errno_name(errno: i32) -> String {
    let known = NAMES.iter().find(|(number, _)| *number == errno);
    known.map_or_else(|| format!("errno {errno}"), |(_, name)| (*name).to_owned())
}
