//! Whether tests on the real kernel can run here.

use libtest_mimic::{Arguments, Trial};

/// Why BPF maps cannot be created here, if they cannot.
pub(crate) fn missing() -> Option<String> {
    // SAFETY: no pointer is passed but a NUL-terminated name; the answer is a descriptor or an error.
    let fd = unsafe {
        libbpf_sys::bpf_map_create(
            libbpf_sys::BPF_MAP_TYPE_ARRAY,
            c"probe".as_ptr(),
            4,
            4,
            1,
            std::ptr::null(),
        )
    };
    if fd < 0 {
        return Some(format!(
            "no BPF map can be created here ({})",
            std::io::Error::from_raw_os_error(-fd)
        ));
    }
    // SAFETY: the descriptor was made above and is used nowhere else.
    unsafe { libc::close(fd) };
    None
}

/// Runs the trials one after the other. Where the kernel is out of reach they are ignored and
/// their names say why; with `CI` set they run and fail.
pub(crate) fn run(trials: Vec<Trial>) -> ! {
    let mut arguments = Arguments::from_args();
    // Descriptors, pins and recorded calls belong to the whole process.
    arguments.test_threads = Some(1);
    let trials = match missing() {
        Some(why) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: {why}");
            trials
                .into_iter()
                .map(|trial| trial.with_ignored_flag(true))
                .collect()
        }
        _ => trials,
    };
    libtest_mimic::run(&arguments, trials).exit()
}
