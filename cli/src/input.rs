//! Reading an object or a plan, whatever the file turns out to be.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use bpfplan_compiler::{Compiled, Options, compile};
use bpfplan_plan::{Diagnostic, Plan, format, validate};

use crate::codes;

/// Largest file that is read. Objects are a few megabytes; this stops endless input.
const MAX_SIZE: u64 = 256 << 20;

/// Name of standard input where a file's name is asked for.
const STDIN: &str = "stdin";

/// What a file held.
#[derive(Debug)]
pub(crate) struct Input {
    /// The plan: compiled from the object, or read and validated.
    pub(crate) plan: Plan,
    /// The compiler's warnings; none for a plan.
    pub(crate) warnings: Vec<Diagnostic>,
    /// The object, which programs are loaded from; none for a plan.
    pub(crate) object: Option<Vec<u8>>,
}

/// Bytes of a file, and what to call it.
#[derive(Debug)]
struct Bytes {
    bytes: Vec<u8>,
    /// The file name without directories, for the plan.
    name: String,
}

/// Reads an object, which is compiled, or a plan, which is validated.
///
/// `hash` asks for the object's SHA-256 in the plan.
///
/// # Errors
/// All problems of the file, each with its name.
pub(crate) fn read(path: &Path, hash: bool) -> Result<Input, Vec<Diagnostic>> {
    let file = read_bytes(path)?;
    let result = if format::is_plan(&file.bytes) {
        read_plan(&file)
    } else {
        compile_object(file, hash)
    };
    named(path, result)
}

/// Reads an object's bytes as they are, for its programs.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_bytes_of_object(path: &Path) -> Result<Vec<u8>, Vec<Diagnostic>> {
    read_bytes(path).map(|file| file.bytes)
}

/// Reads an object; a plan is refused.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_object(path: &Path, hash: bool) -> Result<Input, Vec<Diagnostic>> {
    let file = read_bytes(path)?;
    let result = if format::is_plan(&file.bytes) {
        Err(vec![
            Diagnostic::error(
                codes::ALREADY_A_PLAN,
                "this is a plan already, not a BPF object",
            )
            .help("load it with `bpfplan load`, or print it with `bpfplan plan --format json`"),
        ])
    } else {
        compile_object(file, hash)
    };
    named(path, result)
}

fn read_plan(file: &Bytes) -> Result<Input, Vec<Diagnostic>> {
    let plan = format::read(&file.bytes).map_err(|error| {
        vec![
            Diagnostic::error(codes::NOT_A_PLAN, error.to_string())
                .help("make the plan again from its object with `bpfplan compile`"),
        ]
    })?;
    validate::validate(&plan)?;
    Ok(Input {
        plan,
        warnings: Vec::new(),
        object: None,
    })
}

fn compile_object(file: Bytes, hash: bool) -> Result<Input, Vec<Diagnostic>> {
    let Compiled { plan, warnings } = compile(&file.bytes, &file.name, &Options { hash })?;
    Ok(Input {
        plan,
        warnings,
        object: Some(file.bytes),
    })
}

/// Writes the file's name into diagnostics about it.
pub(crate) fn with_name(path: &Path, mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let shown = shown(path);
    for diagnostic in &mut diagnostics {
        diagnostic.object = Some(shown.clone());
    }
    diagnostics
}

fn named(path: &Path, result: Result<Input, Vec<Diagnostic>>) -> Result<Input, Vec<Diagnostic>> {
    match result {
        Ok(input) => Ok(Input {
            warnings: with_name(path, input.warnings),
            ..input
        }),
        Err(diagnostics) => Err(with_name(path, diagnostics)),
    }
}

/// The path as it was given.
fn shown(path: &Path) -> String {
    if is_stdin(path) {
        STDIN.to_owned()
    } else {
        path.to_string_lossy().into_owned()
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn read_bytes(path: &Path) -> Result<Bytes, Vec<Diagnostic>> {
    let refused = |diagnostic| with_name(path, vec![diagnostic]);
    let bytes = if is_stdin(path) {
        read_stdin()
    } else {
        read_file(path)
    }
    .map_err(refused)?;
    if bytes.is_empty() {
        return Err(refused(Diagnostic::error(
            codes::UNREADABLE,
            "the file is empty",
        )));
    }
    let name = match path.file_name() {
        Some(name) if !is_stdin(path) => name.to_string_lossy().into_owned(),
        _ => shown(path),
    };
    Ok(Bytes { bytes, name })
}

fn read_stdin() -> Result<Vec<u8>, Diagnostic> {
    let stdin = io::stdin().lock();
    if stdin.is_terminal() {
        return Err(
            Diagnostic::error(codes::UNREADABLE, "standard input is a terminal")
                .help("redirect an object or a plan into it, or name a file"),
        );
    }
    read_bounded(stdin, 0)
}

fn read_file(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    let kind = metadata.file_type();
    let refuse = |what: &str| {
        Diagnostic::error(codes::UNREADABLE, format!("this is {what}, not a file"))
            .help("name a BPF object or a plan")
    };
    if kind.is_dir() {
        return Err(refuse("a directory"));
    }
    if kind.is_char_device() || kind.is_block_device() {
        return Err(refuse("a device"));
    }
    if metadata.len() > MAX_SIZE {
        return Err(too_large());
    }
    read_bounded(file, metadata.len())
}

/// Reads to the end, but never more than [`MAX_SIZE`]; pipes do not tell their size.
fn read_bounded(source: impl Read, size: u64) -> Result<Vec<u8>, Diagnostic> {
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(MAX_SIZE)).unwrap_or(0));
    source
        .take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_SIZE {
        return Err(too_large());
    }
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> Diagnostic {
    Diagnostic::error(
        codes::UNREADABLE,
        format!("the file cannot be read: {error}"),
    )
}

fn too_large() -> Diagnostic {
    Diagnostic::error(codes::UNREADABLE, "the file is larger than 256 MiB")
        .help("name a BPF object or a plan; both are a few megabytes at most")
}
