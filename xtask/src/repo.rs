//! Where things are: this checkout, and the packages it depends on.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the checkout.
pub(crate) fn root() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.parent().context("xtask has no parent directory")?;
    Ok(root.to_path_buf())
}

/// The directory of a package that the workspace depends on, as cargo resolved it.
pub(crate) fn package_dir(name: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .current_dir(root()?)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata wrote no valid JSON")?;
    let manifest = metadata
        .get("packages")
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten()
        .find(|package| package.get("name").and_then(serde_json::Value::as_str) == Some(name))
        .and_then(|package| package.get("manifest_path"))
        .and_then(serde_json::Value::as_str)
        .with_context(|| format!("the workspace does not depend on {name}"))?;
    let dir = Path::new(manifest)
        .parent()
        .context("a manifest without a directory")?;
    Ok(dir.to_path_buf())
}

/// Writes `text` to `path` below the root, or with `check` fails if the file differs.
pub(crate) fn write_or_check(path: &str, text: &str, check: bool) -> Result<()> {
    let full = root()?.join(path);
    let now = std::fs::read_to_string(&full).unwrap_or_default();
    if now == text {
        println!("{path}: up to date");
    } else if check {
        bail!("{path} is stale: run `cargo xtask uapi` and commit the result");
    } else {
        std::fs::write(&full, text).with_context(|| format!("cannot write {path}"))?;
        println!("{path}: written");
    }
    Ok(())
}

/// Where a program is installed.
pub(crate) fn which(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        // Where Debian has what only root is meant to call.
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("{program} is neither in PATH nor in /usr/sbin"))
}
