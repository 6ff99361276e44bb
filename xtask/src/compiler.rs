//! The compilers that make the fixtures' objects.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A compiler of fixtures. Its version is part of an object (in DWARF), so objects are compared
/// only with the version that made the committed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Compiler {
    /// The pinned one.
    Clang22,
    Clang19,
    Clang14,
    /// gcc's BPF backend.
    Gcc,
    /// rustc as far as LLVM bitcode; the pinned clang makes the object.
    Rustc,
}

/// Flags of every compilation of C.
const C_FLAGS: &[&str] = &[
    "-O2",
    "-g",
    "-mcpu=v3",
    "-nostdinc",
    "-Wall",
    "-Werror",
    "-Ifixtures/include",
];

/// The current directory under a name that is the same on every machine.
const SELF: &str = "/proc/self/cwd";

impl Compiler {
    /// As `// build: compiler=` and `// also:` spell it.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "clang" => Some(Self::Clang22),
            "clang-19" | "clang19" => Some(Self::Clang19),
            "clang-14" | "clang14" => Some(Self::Clang14),
            "gcc" => Some(Self::Gcc),
            _ => None,
        }
    }

    /// The program that must be installed.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Clang22 => "clang-22",
            Self::Clang19 => "clang-19",
            Self::Clang14 => "clang-14",
            Self::Gcc => "bpf-gcc",
            Self::Rustc => "rustc",
        }
    }

    /// The first line of `--version`, or `None` if it is not installed.
    pub(crate) fn version(self) -> Option<String> {
        let output = Command::new(self.program())
            .arg("--version")
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output
            .status
            .success()
            .then(|| text.lines().next().unwrap_or_default().to_owned())
    }

    /// Why it cannot be used although it is installed.
    pub(crate) fn obstacle(self) -> Option<&'static str> {
        let fixed_heap = || Command::new("setarch").args(["-R", "true"]).output();
        (self == Self::Gcc && !fixed_heap().is_ok_and(|output| output.status.success()))
            .then_some("`setarch -R`, which makes gcc's output reproducible, does not work here")
    }

    /// Compiles `source`, a path relative to `root`, into `object`.
    pub(crate) fn compile(
        self,
        root: &Path,
        source: &str,
        flags: &[String],
        object: &Path,
    ) -> Result<()> {
        // Nothing in an object may depend on where the checkout lies.
        let here = root
            .to_str()
            .context("the path of the checkout is not UTF-8")?;
        let mut command = self.command(root);
        match self {
            Self::Rustc => {
                let bitcode = object.with_extension("bc");
                command
                    .env("RUSTC_BOOTSTRAP", "1")
                    .args([
                        "--target=bpfel-unknown-none",
                        "--edition=2024",
                        "--emit=obj",
                        "-O",
                    ])
                    .args(["-Cdebuginfo=2", "-Ccodegen-units=1", "--crate-name=fixture"])
                    .arg(format!("--remap-path-prefix={here}=."))
                    .arg(source)
                    .arg("-o")
                    .arg(&bitcode);
                run(&mut command)?;
                let mut clang = Self::Clang22.command(root);
                clang
                    .args(["-target", "bpfel", "-O2", "-mcpu=v3", "-xir", "-c"])
                    .args(flags);
                run(clang.arg(&bitcode).arg("-o").arg(object))
            }
            Self::Gcc => {
                command
                    .args(C_FLAGS)
                    .args(["-gbtf", "-Wno-attributes", "-Wno-error"]);
                // gcc maps no prefix in BTF's strings, but believes $PWD.
                command
                    .env("PWD", SELF)
                    .arg(format!("-ffile-prefix-map={SELF}=."));
                run(command.args(flags).args(["-c", source, "-o"]).arg(object))
            }
            Self::Clang22 | Self::Clang19 | Self::Clang14 => {
                if source.ends_with(".s") {
                    command.args(["-target", "bpfel"]);
                } else {
                    command.args(["-target", "bpfel"]).args(C_FLAGS);
                    command.arg(format!("-ffile-prefix-map={here}=."));
                }
                run(command.args(flags).args(["-c", source, "-o"]).arg(object))
            }
        }
    }

    fn command(self, root: &Path) -> Command {
        let mut command = if self == Self::Gcc {
            // gcc 12 writes BTF types in an order that depends on where its heap lies.
            let mut command = Command::new("setarch");
            command.args(["-R", self.program()]);
            command
        } else {
            Command::new(self.program())
        };
        command
            .current_dir(root)
            .env("LC_ALL", "C")
            .env_remove("SOURCE_DATE_EPOCH");
        command
    }
}

/// Removes the DWARF of `object` and keeps its BTF, as `llvm-strip -g` in build systems does.
pub(crate) fn strip_dwarf(object: &Path) -> Result<()> {
    run(Command::new("llvm-strip-22").arg("-g").arg(object))
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} failed:\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}
