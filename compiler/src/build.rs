//! For build scripts: from a BPF source or object to a plan and a Rust module in `OUT_DIR`.
//!
//! A whole `build.rs`:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     bpfplan_compiler::build::Builder::new("src/bpf/flow.bpf.c").run()
//! }
//! ```
//!
//! and what uses it, with `bpfplan-loader` as its only dependency (see [`crate::bindings`]):
//!
//! ```ignore
//! mod flow {
//!     include!(concat!(env!("OUT_DIR"), "/flow.rs"));
//! }
//!
//! let mut open = flow::Flow::open()?;
//! open.maps.flows.set_max_entries(4096);
//! open.rodata.sample_rate = 10;
//! let flow = open.load(&LoadOptions::default())?;
//! ```
//!
//! What is wrong with the maps is an error of the build, with file and line. More can be asked for:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use bpfplan_compiler::build::{BuildError, Builder, KernelVersion};
//!
//! fn build() -> Result<(), BuildError> {
//!     for source in ["src/bpf/flow.bpf.c", "src/bpf/table.bpf.c"] {
//!         Builder::new(source)
//!             .vmlinux_h("include/vmlinux.h")
//!             .clang_args(["-mcpu=v3", "-Werror"])
//!             .kernel(KernelVersion::new(5, 15))
//!             .memory_budget(64 << 20, 128)
//!             .deny_warnings()
//!             .try_run()?;
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> ExitCode {
//!     // What was wrong, cargo has been told.
//!     build().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
//! }
//! ```

mod cargo;
mod checks;
mod clang;
mod dependencies;
mod error;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bpfplan_plan::{Diagnostic, Endianness, Plan};

use crate::bindings::{self, Bindings, BindingsOptions, Embed};
use crate::codes;
use crate::{Options, compile};

pub use bpfplan_plan::rules::KernelVersion;
pub use error::BuildError;

/// Makes the plan and the module of one BPF source or object.
#[derive(Debug, Clone)]
pub struct Builder {
    input: PathBuf,
    clang: Option<PathBuf>,
    clang_args: Vec<OsString>,
    include: Vec<PathBuf>,
    vmlinux_h: Option<PathBuf>,
    out_dir: Option<PathBuf>,
    name: Option<String>,
    deny: Vec<String>,
    deny_warnings: bool,
    kernels: Vec<KernelVersion>,
    memory: Option<checks::Budget>,
}

/// What a build made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The object that the plan is made from.
    pub object: PathBuf,
    /// The plan in its binary form, which the module includes.
    pub plan: PathBuf,
    /// The module.
    pub module: PathBuf,
    /// What there is to say that is no error.
    pub warnings: Vec<Diagnostic>,
    /// What clang said although it succeeded.
    pub clang_output: String,
}

/// What a build depends on, whether it succeeds or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inputs {
    /// Files: the source or object, all headers, clang itself.
    pub files: Vec<PathBuf>,
    /// Environment variables.
    pub variables: Vec<&'static str>,
}

impl Builder {
    /// For a source, which clang compiles, or for an object, whose name ends in `.o`. A path that
    /// is not absolute begins where the build script runs, at the package's `Cargo.toml`.
    #[must_use]
    pub fn new(input: impl Into<PathBuf>) -> Self {
        Self {
            input: input.into(),
            clang: None,
            clang_args: Vec::new(),
            include: Vec::new(),
            vmlinux_h: None,
            out_dir: None,
            name: None,
            deny: Vec::new(),
            deny_warnings: false,
            kernels: Vec::new(),
            memory: None,
        }
    }

    /// The clang to use. Without this it is what the environment variable `CLANG` says, else
    /// `clang` on `PATH`, else the `clang-N` on `PATH` with the highest number.
    #[must_use]
    pub fn clang(mut self, path: impl Into<PathBuf>) -> Self {
        self.clang = Some(path.into());
        self
    }

    /// More arguments for clang, after those that are always given: `-target bpfel` or `bpfeb` by
    /// the target of the build, `-g -O2 -c` and `-D__TARGET_ARCH_…`.
    #[must_use]
    pub fn clang_args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.clang_args.extend(args.into_iter().map(Into::into));
        self
    }

    /// A directory with headers. The headers of libbpf are found without it if the package
    /// depends on `libbpf-sys`.
    #[must_use]
    pub fn include(mut self, directory: impl Into<PathBuf>) -> Self {
        self.include.push(directory.into());
        self
    }

    /// The file `vmlinux.h`, whose directory is searched for headers.
    #[must_use]
    pub fn vmlinux_h(mut self, path: impl Into<PathBuf>) -> Self {
        self.vmlinux_h = Some(path.into());
        self
    }

    /// Where to write instead of `OUT_DIR`.
    #[must_use]
    pub fn out_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(directory.into());
        self
    }

    /// Name of the struct with the maps, such as `Flow`; without it, the name of the input.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Makes errors of warnings with this code, such as `BP0408`.
    #[must_use]
    pub fn deny(mut self, code: impl Into<String>) -> Self {
        self.deny.push(code.into());
        self
    }

    /// Makes errors of all warnings, those of clang excepted: give it `-Werror` for that.
    #[must_use]
    pub fn deny_warnings(mut self) -> Self {
        self.deny_warnings = true;
        self
    }

    /// Checks against this kernel version as well; may be called several times.
    #[must_use]
    pub fn kernel(mut self, version: KernelVersion) -> Self {
        self.kernels.push(version);
        self
    }

    /// Fails if the maps need more than `bytes` when they are full, as estimated for a machine
    /// with that many possible CPUs and pages of 4 KiB.
    #[must_use]
    pub fn memory_budget(mut self, bytes: u64, possible_cpus: u32) -> Self {
        self.memory = Some(checks::Budget {
            bytes,
            possible_cpus,
        });
        self
    }

    /// Builds, and tells cargo about it: errors, warnings and what to watch. The result is that
    /// of the build script.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        match self.try_run() {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        }
    }

    /// As [`Builder::run`], for build scripts that have more to do. They have to fail if this does.
    ///
    /// # Errors
    /// What cargo has been told as errors.
    pub fn try_run(&self) -> Result<Built, BuildError> {
        let (inputs, result) = self.build();
        cargo::tell(&inputs, &result);
        result
    }

    /// Builds without a word. What it depends on is known even if it fails.
    ///
    /// The plan, the module and, of a source, the object are written under the name of the input
    /// without its endings, so inputs of one name need directories of their own
    /// ([`Builder::out_dir`]).
    pub fn build(&self) -> (Inputs, Result<Built, BuildError>) {
        let mut inputs = Inputs {
            files: vec![self.input.clone()],
            variables: vec!["CLANG"],
        };
        let result = self.build_with(&mut inputs);
        inputs.files.sort();
        inputs.files.dedup();
        (inputs, result)
    }

    fn build_with(&self, inputs: &mut Inputs) -> Result<Built, BuildError> {
        let out = self.out()?;
        let file_name = self.input.file_name().unwrap_or_default();
        let file_name = file_name.to_string_lossy();
        let stem = stem(&file_name);
        let (object, clang_output) = if self.is_object() {
            (self.input.clone(), String::new())
        } else {
            let object = out.join(format!("{stem}.bpf.o"));
            let output = clang::compile(self, &object, inputs)?;
            (object, output)
        };
        self.plan(&object, &out, stem)
            .map(|built| Built {
                clang_output: clang_output.clone(),
                ..built
            })
            .map_err(|error| error.after(clang_output))
    }

    fn plan(&self, object: &Path, out: &Path, stem: &str) -> Result<Built, BuildError> {
        let bytes =
            fs::read(object).map_err(|error| BuildError::file("cannot be read", object, &error))?;
        let name = object.file_name().unwrap_or_default().to_string_lossy();
        let options = Options { hash: true };
        let compiled = compile(&bytes, &name, &options).map_err(|found| self.failed(found))?;
        let mut found = compiled.warnings;
        found.extend(byte_order(&compiled.plan));
        found.extend(checks::check(&compiled.plan, &self.kernels, self.memory));
        let found = checks::deny(found, &self.deny, self.deny_warnings);
        if found.iter().any(Diagnostic::is_error) {
            return Err(self.failed(found));
        }
        let options = BindingsOptions {
            embed: Embed::File(format!("{stem}.plan")),
            name: self.name.clone(),
        };
        let Bindings { source, plan, .. } = bindings::generate(&compiled.plan, &options)
            .map_err(|more| self.failed(found.iter().cloned().chain(more).collect()))?;
        let built = Built {
            object: object.to_owned(),
            plan: out.join(format!("{stem}.plan")),
            module: out.join(format!("{stem}.rs")),
            warnings: self.named(found),
            clang_output: String::new(),
        };
        for (path, bytes) in [
            (&built.plan, plan.as_slice()),
            (&built.module, source.as_bytes()),
        ] {
            fs::write(path, bytes)
                .map_err(|error| BuildError::file("cannot be written", path, &error))?;
        }
        Ok(built)
    }

    fn failed(&self, found: Vec<Diagnostic>) -> BuildError {
        BuildError::new(self.named(found))
    }

    /// The input's name for those that have no place in a source.
    fn named(&self, mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
        for diagnostic in &mut found {
            diagnostic.object = Some(self.input.to_string_lossy().into_owned());
        }
        found
    }

    fn out(&self) -> Result<PathBuf, BuildError> {
        let out = self.out_dir.clone();
        out.or_else(|| std::env::var_os("OUT_DIR").map(PathBuf::from))
            .ok_or_else(|| {
                let message = "OUT_DIR is not set: this is no build script of cargo";
                let diagnostic = Diagnostic::error(codes::BUILD_FILE, message);
                BuildError::new(vec![
                    diagnostic.help("say where to write with Builder::out_dir"),
                ])
            })
    }

    fn is_object(&self) -> bool {
        self.input.extension().is_some_and(|ending| ending == "o")
    }
}

/// `flow` of `flow.bpf.c` and `flow.bpf.o`.
fn stem(file: &str) -> &str {
    let name = file.rsplit_once('.').map_or(file, |(name, _)| name);
    bindings::stem(name)
}

/// The target of the build has another byte order than the object.
fn byte_order(plan: &Plan) -> Option<Diagnostic> {
    let wanted = clang::target_byte_order();
    (plan.object.endianness != wanted).then(|| {
        let flag = match wanted {
            Endianness::Little => "-target bpfel",
            Endianness::Big => "-target bpfeb",
        };
        Diagnostic::error(
            codes::FOREIGN_BYTE_ORDER,
            format!(
                "the object is {}, the target of this build is {wanted}",
                plan.object.endianness
            ),
        )
        .note("a kernel loads objects of its own byte order only")
        .help(format!("compile it with {flag}"))
    })
}
