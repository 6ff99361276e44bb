//! The initial RAM disk: busybox, the jobs with their shared libraries, and the fixtures at the
//! path of this checkout, which test binaries have built in.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::job::{self, Job, Program};
use super::kernel::Kernel;
use crate::{bench_objects, repo};

/// The applets that the scripts and tests call.
const APPLETS: [&str; 16] = [
    "sh", "mount", "umount", "mkdir", "ip", "cat", "timeout", "time", "dmesg", "grep", "poweroff",
    "ls", "rm", "sleep", "uname", "awk",
];

/// What `vm-bench` loads.
const BENCH_OBJECTS: [&str; 3] = ["slots-64", "slots-512", "outers-64x8"];

/// Directories of the checkout that tests read, and the crates' own, through which they go.
const DIRECTORIES: [&str; 4] = ["fixtures", "snapshots", "schema", "cli/tests"];
const PACKAGES: [&str; 2] = ["loader", "cli"];

/// Makes `initramfs` below `work`, for any of the kernels.
pub(super) fn build(work: &Path, jobs: &[Job], kernels: &[Kernel]) -> Result<PathBuf> {
    let tree = tempfile::tempdir_in(work).context("cannot make a directory for the image")?;
    let tree = tree.path();
    let root = repo::root()?;
    for directory in ["bin", "vm", "dev", "proc", "sys", "tmp"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    let busybox = repo::which("busybox")?;
    place(tree, &busybox, Path::new("/bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", tree.join("bin").join(applet))?;
    }
    place(tree, &root.join("xtask/vm-init"), Path::new("/init"))?;
    for job in jobs {
        let program = match &job.program {
            Program::Test(program) => program,
            Program::Smoke => &root.join("xtask/vm-smoke"),
            Program::Bench => &root.join("xtask/vm-bench"),
        };
        place(tree, program, &Path::new("/vm").join(job.file()))?;
    }
    // Tests of the command start it where it was built.
    if jobs.iter().any(needs_command) {
        let command = job::command()?;
        place(tree, &command, &command)?;
        symlink(&command, tree.join("bin/bpfplan"))?;
    }
    if jobs.iter().any(|job| matches!(job.program, Program::Bench)) {
        for program in ["bpfplan-bench", "bpfplan-peer"] {
            let to = Path::new("/bin").join(program);
            place(tree, &job::measured(program)?, &to)?;
        }
        for name in BENCH_OBJECTS {
            let object = bench_objects::compile(&root, name, &work.join("obj"))?;
            copy(tree, &object, &Path::new("/vm").join(format!("{name}.o")))?;
        }
    }
    if jobs.iter().any(|job| job.name == "others") {
        place(tree, &repo::which("bpftool")?, Path::new("/bin/bpftool"))?;
    }
    for kernel in kernels {
        let name = kernel.config.file_name().context("a file has a name")?;
        copy(tree, &kernel.config, &Path::new("/boot").join(name))?;
    }
    for package in PACKAGES {
        fs::create_dir_all(below(tree, &root.join(package)))?;
    }
    for directory in DIRECTORIES {
        copy_dir(tree, &root.join(directory))?;
    }
    fs::write(tree.join("vm/root"), root.as_os_str().as_encoded_bytes())?;
    let lines: String = jobs.iter().map(Job::line).collect();
    fs::write(tree.join("vm/jobs"), lines)?;
    pack(tree, &work.join("initramfs"))
}

fn needs_command(job: &Job) -> bool {
    matches!(job.program, Program::Smoke) || job.name.starts_with("cli/")
}

/// Copies a program and the shared libraries it needs.
fn place(tree: &Path, from: &Path, to: &Path) -> Result<()> {
    let target = copy(tree, from, to)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    for library in libraries(from)? {
        if !below(tree, &library).exists() {
            let target = copy(tree, &library, &library)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
        }
    }
    // Most of a test binary is line tables; without `strip` they only take memory.
    let _ = Command::new("strip")
        .arg("--strip-debug")
        .arg(&target)
        .stderr(Stdio::null())
        .status();
    Ok(())
}

/// The paths that `ldd` prints; none for scripts and static programs.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("cannot run ldd")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .collect())
}

fn copy_dir(tree: &Path, directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            copy_dir(tree, &path)?;
        } else {
            copy(tree, &path, &path)?;
        }
    }
    Ok(())
}

fn copy(tree: &Path, from: &Path, to: &Path) -> Result<PathBuf> {
    let target = below(tree, to);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, &target).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(target)
}

/// An absolute path, as it is in the machine.
fn below(tree: &Path, path: &Path) -> PathBuf {
    tree.join(path.strip_prefix("/").unwrap_or(path))
}

fn pack(tree: &Path, image: &Path) -> Result<PathBuf> {
    let status = Command::new("sh")
        .arg("-c")
        .arg("find . | cpio --quiet -o -H newc >\"$0\"")
        .arg(image)
        .current_dir(tree)
        .status()
        .context("cannot run cpio")?;
    if !status.success() {
        bail!("cpio cannot write {}", image.display());
    }
    Ok(image.to_owned())
}
