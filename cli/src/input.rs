//! Reading an object or a plan, whatever the file turns out to be.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use bpfplan_compiler::{Compiled, Options, compile, compile_without_places, read_without_dwarf};
use bpfplan_plan::overrides::Overridden;
use bpfplan_plan::{Diagnostic, Plan, format, validate};

use crate::args::OverrideArgs;
use crate::places::{Places, Stamp};
use crate::{codes, link};

/// Largest file that is read. Objects are a few megabytes; this stops endless input.
pub(crate) const MAX_SIZE: u64 = 256 << 20;

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
pub(crate) struct Bytes {
    pub(crate) bytes: Vec<u8>,
    /// The file name without directories, for the plan.
    pub(crate) name: String,
}

/// Reads an object, which is compiled, a plan, which is validated, or several objects, which are
/// linked.
///
/// `hash` asks for the object's SHA-256 in the plan.
///
/// # Errors
/// All problems of the files, each with its name.
pub(crate) fn read(paths: &[PathBuf], hash: bool) -> Result<Input, Vec<Diagnostic>> {
    let [path] = paths else {
        return link::read(paths, hash);
    };
    let file = read_bytes(path)?;
    let result = if format::is_plan(&file.bytes) {
        read_plan(file)
    } else {
        compile_object(file, hash)
    };
    named(path, result)
}

/// As [`read`], for a load of maps alone: an object's DWARF is not read, unless there is something to
/// say about it.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_maps(paths: &[PathBuf]) -> Result<(Input, Places), Vec<Diagnostic>> {
    let [path] = paths else {
        return read(paths, false).map(|input| (input, Places::default()));
    };
    // Nothing else can be read once more.
    let again = Stamp::of(path).filter(|_| !is_stdin(path));
    if let Some(stamp) = again
        && let Some(plan) = skimmed(path)
    {
        return Ok(without_places(path, stamp, plan));
    }
    let file = read_bytes(path)?;
    if format::is_plan(&file.bytes) {
        return named(path, read_plan(file)).map(|input| (input, Places::default()));
    }
    if let Some(stamp) = again
        && let Some(plan) = plan_without_places(&file.bytes, &file.name)
    {
        return Ok(without_places(path, stamp, plan));
    }
    named(path, compile_object(file, false)).map(|input| (input, Places::default()))
}

fn without_places(path: &Path, stamp: Stamp, plan: Plan) -> (Input, Places) {
    let input = Input {
        plan,
        warnings: Vec::new(),
        object: None,
    };
    (input, Places::in_object(path.to_owned(), stamp))
}

/// The plan of an object that is large enough to be read without its DWARF.
fn skimmed(path: &Path) -> Option<Plan> {
    let file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    if size > MAX_SIZE {
        return None;
    }
    let size = usize::try_from(size).ok()?;
    let bytes = read_without_dwarf(&file, size).ok()??;
    let name = path.file_name()?.to_string_lossy();
    plan_without_places(&bytes, &name)
}

/// The plan of an object about which there is nothing to say.
fn plan_without_places(object: &[u8], name: &str) -> Option<Plan> {
    let compiled = compile_without_places(object, name, &Options { hash: false }).ok()?;
    compiled.warnings.is_empty().then_some(compiled.plan)
}

/// Reads an object's bytes as they are, for its programs; several objects are linked.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_bytes_of(paths: &[PathBuf]) -> Result<Vec<u8>, Vec<Diagnostic>> {
    match paths {
        [path] => read_bytes(path).map(|file| file.bytes),
        paths => link::link_all(paths).map(|linked| linked.bytes),
    }
}

/// Reads an object, or several; a plan is refused.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_object(paths: &[PathBuf], hash: bool) -> Result<Input, Vec<Diagnostic>> {
    let [path] = paths else {
        return link::read(paths, hash);
    };
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

impl Input {
    /// The plan with what the command line sets and leaves out.
    ///
    /// # Errors
    /// All problems of the overrides.
    pub(crate) fn overridden(
        mut self,
        paths: &[PathBuf],
        overrides: &OverrideArgs,
    ) -> Result<Self, Vec<Diagnostic>> {
        let overrides = overrides.overrides();
        if !overrides.is_empty() {
            let done = overrides.apply(&self.plan);
            let Overridden { plan, warnings } = done.map_err(|found| with_name(paths, found))?;
            self.plan = plan;
            self.warnings.extend(with_name(paths, warnings));
        }
        Ok(self)
    }
}

fn read_plan(file: Bytes) -> Result<Input, Vec<Diagnostic>> {
    let plan = format::read_shared(&file.bytes.into()).map_err(|error| {
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

/// Writes the names of the files into diagnostics about all of them.
pub(crate) fn with_name(paths: &[PathBuf], diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let names: Vec<String> = paths.iter().map(|path| shown(path)).collect();
    with_shown(&names.join(" + "), diagnostics)
}

fn with_shown(shown: &str, mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    for diagnostic in &mut diagnostics {
        diagnostic.object.get_or_insert_with(|| shown.to_owned());
    }
    diagnostics
}

/// Whether standard input is named more than once: it can be read once.
pub(crate) fn repeats_stdin(paths: &[PathBuf]) -> bool {
    paths.iter().filter(|path| is_stdin(path)).count() > 1
}

fn named(path: &Path, result: Result<Input, Vec<Diagnostic>>) -> Result<Input, Vec<Diagnostic>> {
    match result {
        Ok(input) => Ok(Input {
            warnings: with_shown(&shown(path), input.warnings),
            ..input
        }),
        Err(diagnostics) => Err(with_shown(&shown(path), diagnostics)),
    }
}

/// The path as it was given.
pub(crate) fn shown(path: &Path) -> String {
    if is_stdin(path) {
        STDIN.to_owned()
    } else {
        path.to_string_lossy().into_owned()
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

pub(crate) fn read_bytes(path: &Path) -> Result<Bytes, Vec<Diagnostic>> {
    let refused = |diagnostic| with_shown(&shown(path), vec![diagnostic]);
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
