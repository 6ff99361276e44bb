//! Several objects that libbpf's linker makes one of.
//!
//! The linker is C code behind a foreign function, so this crate does not call it. It looks at
//! the objects before, and at what came out afterwards:
//!
//! 1. [`check`] reads every object and reports what keeps them from being linked, with the places
//!    of all declarations that take part;
//! 2. the caller links them (`bpfplan_loader::link`);
//! 3. [`Linkable::repair`] puts right what the linker leaves wrong;
//! 4. [`Linkable::compile`] compiles the result, with places that the linked object has no more.

mod differences;
mod ids;
mod limits;
mod part;
mod repair;
mod resolve;
mod sound;
mod types;

use std::collections::HashMap;

use bpfplan_plan::{Diagnostic, Source};

use crate::elf::Stage;
use crate::problems::Problems;
use crate::{Compiled, Options};

/// An object to be linked.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// What diagnostics call it, such as the path that was given.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What is known about objects that can be linked.
#[derive(Debug, Clone)]
pub struct Linkable {
    /// File name of the first object: libbpf names maps of global data after it.
    name: String,
    /// Where each map is declared, from the object that defines it.
    sources: HashMap<String, Source>,
}

/// Looks at objects that are to be linked, in the order in which they will be.
///
/// Afterwards libbpf's linker can be trusted with them: it checks less than it relies on.
///
/// # Errors
/// All problems of all objects, each with [`Diagnostic::object`] set: an object that is corrupt,
/// two definitions of one name, declarations that differ, a map that no object defines, different
/// licences, objects of both byte orders, legacy maps of several objects with one id.
pub fn check(inputs: &[Input<'_>]) -> Result<Linkable, Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let mut parts = Vec::with_capacity(inputs.len());
    for input in inputs {
        let mut own = Problems::default();
        let part = part::read(input, &mut own);
        if !own.failed() {
            parts.extend(part);
        }
        for mut diagnostic in own.into_list() {
            diagnostic.object = Some(input.name.to_owned());
            problems.add(diagnostic);
        }
    }
    if parts.len() == inputs.len() {
        limits::check(&parts, &mut problems);
    }
    let sources = if problems.failed() {
        HashMap::new()
    } else {
        ids::check(&parts, &mut problems);
        resolve::check(&parts, &mut problems)
    };
    if problems.failed() {
        return Err(problems.into_list());
    }
    let first = inputs.first().map_or("", |input| input.name);
    Ok(Linkable {
        name: crate::file_name(first),
        sources,
    })
}

impl Linkable {
    /// Repairs what libbpf's linker (1.7) made of the objects, in place:
    ///
    /// - variables whose first declaration is `extern` or weak keep its offset in BTF, and those
    ///   that are declared again lose the part of their size that their initial values need: both
    ///   are taken from the symbols;
    /// - slots of a weak map that another object replaces stay behind as relocations of nothing:
    ///   they are dropped.
    ///
    /// libbpf opens the repaired object, whatever the order of its parts.
    ///
    /// # Errors
    /// If the bytes are not what the linker writes.
    pub fn repair(&self, linked: &mut [u8]) -> Result<(), Vec<Diagnostic>> {
        let mut problems = Problems::default();
        repair::repair(linked, &mut problems);
        if problems.failed() {
            return Err(problems.into_list());
        }
        Ok(())
    }

    /// Compiles the linked and repaired object. Its name is that of the first part, and its hash
    /// is that of the linked bytes, which are the same whenever the same objects are linked in
    /// the same order.
    ///
    /// # Errors
    /// As [`crate::compile`].
    pub fn compile(&self, linked: &[u8], options: &Options) -> Result<Compiled, Vec<Diagnostic>> {
        crate::compile_as(linked, &self.name, options, Stage::Linked(&self.sources))
    }
}
