//! Debian's kernels: found with apt, unpacked below `target/vm`, never installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A kernel ready to boot.
pub(super) struct Kernel {
    /// Debian's name of its package.
    pub(super) package: String,
    pub(super) image: PathBuf,
    /// What it was configured with, named as in `/boot`.
    pub(super) config: PathBuf,
}

/// The newest kernel of a release that apt offers; what was fetched before is used again.
pub(super) fn fetch(work: &Path, release: &str) -> Result<Kernel> {
    let package = match newest(release)? {
        Some(package) => package,
        None => bail!(
            "apt offers no linux-image-{release}*-cloud-amd64: \
             add the release or the backports of Debian that have it, then `apt-get update`"
        ),
    };
    let dir = work.join(&package);
    if !dir.join("boot").is_dir() {
        std::fs::create_dir_all(&dir)?;
        download(&dir, &package)?;
    }
    let file = |prefix: &str| {
        std::fs::read_dir(dir.join("boot"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
            })
            .with_context(|| format!("{package} holds no {prefix}*"))
    };
    Ok(Kernel {
        image: file("vmlinuz-")?,
        config: file("config-")?,
        package,
    })
}

fn newest(release: &str) -> Result<Option<String>> {
    let prefix = format!("linux-image-{release}.");
    let output = Command::new("apt-cache")
        .args(["pkgnames", &prefix])
        .output()
        .context("cannot run apt-cache")?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let signed = names.lines().filter(|name| name.ends_with("-cloud-amd64"));
    Ok(signed.max_by_key(|name| numbers(name)).map(str::to_owned))
}

/// The numbers in a name, so that -56 is newer than -9.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn download(dir: &Path, package: &str) -> Result<()> {
    println!("fetching {package}");
    let output = Command::new("apt-get")
        .args(["download", "-q", package])
        .current_dir(dir)
        .output()
        .context("cannot run apt-get")?;
    if !output.status.success() {
        bail!(
            "cannot fetch {package}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let archive = std::fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|suffix| suffix == "deb"))
        .with_context(|| format!("apt-get left no {package}*.deb"))?;
    let unpacked = dir.join("unpacked");
    let status = Command::new("dpkg")
        .arg("-x")
        .args([&archive, &unpacked])
        .status()
        .context("cannot run dpkg")?;
    if !status.success() {
        bail!("cannot unpack {}", archive.display());
    }
    // The modules are large, and what the tests need is built in.
    std::fs::rename(unpacked.join("boot"), dir.join("boot"))?;
    std::fs::remove_dir_all(unpacked)?;
    std::fs::remove_file(archive)?;
    Ok(())
}
