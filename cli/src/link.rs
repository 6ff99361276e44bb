//! Several objects into one, before it is compiled like any other.

use std::path::{Path, PathBuf};

use bpfplan_compiler::Options;
use bpfplan_compiler::link::{Input as Part, Linkable, check};
use bpfplan_loader::link::{LinkInput, link};
use bpfplan_plan::{Diagnostic, format};

use crate::codes;
use crate::input::{self, Bytes, Input};

/// What several objects were linked into.
#[derive(Debug)]
pub(crate) struct Linked {
    /// The linked object, as libbpf can open it.
    pub(crate) bytes: Vec<u8>,
    linkable: Linkable,
}

/// Links objects in the order in which they are named, and compiles the result.
///
/// # Errors
/// All problems of the objects, each with the name of its own.
pub(crate) fn read(paths: &[PathBuf], hash: bool) -> Result<Input, Vec<Diagnostic>> {
    let linked = link_all(paths)?;
    let compiled = linked.linkable.compile(&linked.bytes, &Options { hash });
    let all = |diagnostics| input::with_name(paths, diagnostics);
    let compiled = compiled.map_err(all)?;
    Ok(Input {
        plan: compiled.plan,
        warnings: all(compiled.warnings),
        object: Some(linked.bytes),
    })
}

/// Links objects in the order in which they are named.
///
/// # Errors
/// As [`read`].
pub(crate) fn link_all(paths: &[PathBuf]) -> Result<Linked, Vec<Diagnostic>> {
    let files = read_all(paths)?;
    let names: Vec<String> = paths.iter().map(|path| input::shown(path)).collect();
    let named = || names.iter().zip(&files);
    let parts: Vec<Part<'_>> = named()
        .map(|(name, file)| Part {
            name,
            bytes: &file.bytes,
        })
        .collect();
    let linkable = check(&parts)?;
    let objects: Vec<LinkInput<'_>> = named()
        .map(|(name, file)| LinkInput {
            name,
            bytes: &file.bytes,
        })
        .collect();
    let all = |diagnostics| input::with_name(paths, diagnostics);
    let mut bytes = link(&objects).map_err(|diagnostic| all(vec![*diagnostic]))?;
    linkable.repair(&mut bytes).map_err(all)?;
    Ok(Linked { bytes, linkable })
}

/// Reads all files; together they may be as large as one.
fn read_all(paths: &[PathBuf]) -> Result<Vec<Bytes>, Vec<Diagnostic>> {
    let mut files: Vec<Bytes> = Vec::with_capacity(paths.len());
    let mut problems = Vec::new();
    let mut total: u64 = 0;
    for path in paths {
        match input::read_bytes(path) {
            Ok(file) => {
                total = total.saturating_add(u64::try_from(file.bytes.len()).unwrap_or(u64::MAX));
                if total > input::MAX_SIZE {
                    let message = "the objects have more than 256 MiB together";
                    let diagnostic = Diagnostic::error(codes::UNREADABLE, message);
                    return Err(named(path, diagnostic));
                }
                if format::is_plan(&file.bytes) {
                    problems.extend(named(path, plan_among_objects()));
                }
                files.push(file);
            }
            Err(diagnostics) => problems.extend(diagnostics),
        }
    }
    if problems.is_empty() {
        Ok(files)
    } else {
        Err(problems)
    }
}

fn named(path: &Path, diagnostic: Diagnostic) -> Vec<Diagnostic> {
    input::with_name(&[path.to_owned()], vec![diagnostic])
}

fn plan_among_objects() -> Diagnostic {
    let message = "this is a plan; several files are linked, and only objects can be";
    Diagnostic::error(codes::ALREADY_A_PLAN, message)
        .help("link the objects that the plan was made from, or give the plan alone")
}
