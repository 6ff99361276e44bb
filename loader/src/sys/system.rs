//! What a load asks of the system besides `bpf(2)`. No `unsafe` here.

use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::kconfig::KernelConfig;
use crate::kernel::{Errno, FdLimit, Identity, PathKind, Pinned};

/// `BPF_FS_MAGIC` of `<linux/magic.h>`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

fn errno_of(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

pub(super) fn inspect(path: &Path) -> Result<PathKind, Errno> {
    let metadata = std::fs::symlink_metadata(path).map_err(|error| errno_of(&error))?;
    if metadata.is_symlink() {
        return Ok(PathKind::Symlink);
    }
    if !metadata.is_dir() {
        return Ok(PathKind::Other);
    }
    let status = rustix::fs::statfs(path).map_err(|errno| Errno(errno.raw_os_error()))?;
    // The field's type differs between machines; its value does not.
    Ok(PathKind::Directory {
        bpffs: u64::try_from(status.f_type) == Ok(BPF_FS_MAGIC),
    })
}

pub(super) fn canonical(path: &Path) -> Result<PathBuf, Errno> {
    std::fs::canonicalize(path).map_err(|error| errno_of(&error))
}

/// How often, and how many milliseconds apart, a lock is asked for: a load holds it while it pins,
/// an unload while it removes pins, and both are quick.
const LOCK_ATTEMPTS: u32 = 300;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

pub(super) fn lock_dir(path: &Path) -> Result<OwnedFd, Errno> {
    let raw = |errno: rustix::io::Errno| Errno(errno.raw_os_error());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(raw)?;
    for _ in 1..LOCK_ATTEMPTS {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            result => return result.map(|()| directory).map_err(raw),
        }
    }
    Err(Errno::EWOULDBLOCK)
}

/// What [`kind`] calls a program.
pub(super) const PROGRAM: &str = "a program";

/// What a descriptor of `bpf(2)` is. Information about programs has the same layout at its
/// beginning as that about maps, so that does not tell.
pub(super) fn kind(fd: BorrowedFd<'_>) -> Result<Pinned<()>, Errno> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map_err(|error| errno_of(&error))?;
    Ok(match link.to_str() {
        Some("anon_inode:bpf-map") => Pinned::Map(()),
        Some("anon_inode:bpf-prog") => Pinned::Other(PROGRAM),
        Some("anon_inode:bpf_link" | "anon_inode:bpf-link") => Pinned::Other("a link"),
        _ => Pinned::Other("something else"),
    })
}

pub(super) fn make_dir(path: &Path) -> Result<(), Errno> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|error| errno_of(&error))
}

pub(super) fn remove_dir(path: &Path) -> Result<(), Errno> {
    std::fs::remove_dir(path).map_err(|error| errno_of(&error))
}

pub(super) fn unlink(path: &Path) -> Result<(), Errno> {
    std::fs::remove_file(path).map_err(|error| errno_of(&error))
}

/// `frozen` in the descriptor's `fdinfo`; kernels without freezing do not print it.
pub(super) fn is_frozen(map: BorrowedFd<'_>) -> Result<Option<bool>, Errno> {
    let path = format!("/proc/self/fdinfo/{}", map.as_raw_fd());
    let text = std::fs::read_to_string(path).map_err(|error| errno_of(&error))?;
    let value = text.lines().find_map(|line| line.strip_prefix("frozen:"));
    Ok(value.map(|value| value.trim() != "0"))
}

/// Largest file that is taken for a kernel's configuration.
const MAX_CONFIG: u64 = 16 << 20;
/// Bytes of `/proc/version_signature` that are read; it has one line.
const MAX_SIGNATURE: u64 = 4096;

pub(super) fn identity() -> Identity {
    let name = rustix::system::uname();
    let signature = std::fs::File::open("/proc/version_signature").ok();
    let signature = signature.and_then(|file| {
        let mut text = String::new();
        file.take(MAX_SIGNATURE).read_to_string(&mut text).ok()?;
        Some(text)
    });
    Identity {
        release: name.release().to_string_lossy().into_owned(),
        version: name.version().to_string_lossy().into_owned(),
        signature,
    }
}

/// As libbpf: the first of the two files that can be opened.
pub(super) fn config() -> Result<KernelConfig, Errno> {
    let release = rustix::system::uname();
    let boot = format!("/boot/config-{}", release.release().to_string_lossy());
    read_config(&boot).or_else(|_| read_config("/proc/config.gz"))
}

fn read_config(path: &str) -> Result<KernelConfig, Errno> {
    let read = || {
        let file = std::fs::File::open(path)?;
        let mut bytes = Vec::new();
        file.take(MAX_CONFIG + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| errno_of(&error))?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > MAX_CONFIG) {
        return Err(Errno(libc::EFBIG));
    }
    Ok(KernelConfig {
        name: path.to_owned(),
        bytes,
    })
}

pub(super) fn possible_cpus() -> Result<u32, Errno> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")
        .map_err(|error| errno_of(&error))?;
    count_cpus(&text).ok_or(Errno::EINVAL)
}

/// Counts the CPUs of a list such as `0-3,8`.
fn count_cpus(list: &str) -> Option<u32> {
    let mut count = 0u32;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

/// Without limit if the process may do that, else as far as it may.
pub(super) fn raise_memlock() -> Result<(), Errno> {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let maximum = getrlimit(Resource::Memlock).maximum;
    setrlimit(Resource::Memlock, unlimited)
        .or_else(|_| {
            setrlimit(
                Resource::Memlock,
                Rlimit {
                    current: maximum,
                    maximum,
                },
            )
        })
        .map_err(|errno| Errno(errno.raw_os_error()))
}

/// The CPUs that this thread may run on.
pub(super) fn cpus() -> usize {
    let set = rustix::thread::sched_getaffinity(None);
    set.map_or(1, |set| usize::try_from(set.count()).unwrap_or(1))
}

/// The number of open descriptors. Kernels before 6.2 give the directory no size.
fn open_fds() -> u64 {
    const FDS: &str = "/proc/self/fd";
    match rustix::fs::stat(FDS).map(|status| u64::try_from(status.st_size)) {
        Ok(Ok(open)) if open > 0 => open,
        _ => {
            let open = std::fs::read_dir(FDS).map_or(0, Iterator::count);
            u64::try_from(open).unwrap_or(u64::MAX)
        }
    }
}

pub(super) fn reserve_fds(count: u64) -> Result<(), FdLimit> {
    let open = open_fds();
    let needed = count.saturating_add(open);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(needed));
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(needed),
            maximum,
        },
    )
    .map_err(|errno| FdLimit {
        needed,
        errno: Errno(errno.raw_os_error()),
        free: limit
            .maximum
            .or(limit.current)
            .unwrap_or(needed)
            .saturating_sub(open),
    })
}

/// `expand_files` of the kernel takes what `F_DUPFD` asks for in one step.
pub(super) fn grow_fd_table(fd: BorrowedFd<'_>, count: u64) {
    let last = u64::try_from(fd.as_raw_fd()).map(|fd| fd.saturating_add(count));
    if let Some(last) = last.ok().and_then(|last| RawFd::try_from(last).ok()) {
        // Where the limit does not allow it, the load will say so.
        let _ = rustix::io::fcntl_dupfd_cloexec(fd, last);
    }
}

#[cfg(test)]
mod tests {
    use super::count_cpus;

    #[test]
    fn counts_cpus_of_lists() {
        assert_eq!(count_cpus("0\n"), Some(1));
        assert_eq!(count_cpus("0-3\n"), Some(4));
        assert_eq!(count_cpus("0-3,8,10-11"), Some(7));
        for bad in ["", "x", "3-0", "0-", "0-4294967295,0"] {
            assert_eq!(count_cpus(bad), None, "{bad:?}");
        }
    }
}
