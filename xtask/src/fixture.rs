//! One fixture: a source in `fixtures/` and the objects that its comments ask for.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::compiler::Compiler;

/// What an object is made of.
#[derive(Debug)]
pub(crate) struct Object {
    /// The file in `fixtures/obj/`.
    pub(crate) file: String,
    /// The name of the fixture.
    pub(crate) fixture: String,
    /// The source, relative to the root.
    pub(crate) source: String,
    pub(crate) compiler: Compiler,
    pub(crate) flags: Vec<String>,
    /// Whether DWARF is removed afterwards.
    pub(crate) strip: bool,
}

/// The objects of every fixture in `fixtures/`, by name.
pub(crate) fn all(root: &Path) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    let dir = root.join("fixtures");
    for entry in std::fs::read_dir(&dir).context("cannot list fixtures/")? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(file) = file.to_str() else { continue };
        let Some((name, extension)) = file.split_once(".bpf.") else {
            continue;
        };
        let text = std::fs::read_to_string(entry.path())
            .with_context(|| format!("cannot read fixtures/{file}"))?;
        objects.extend(
            objects_of(name, extension, &text).with_context(|| format!("in fixtures/{file}"))?,
        );
    }
    objects.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(objects)
}

/// Reads the lines `// build:` (compiler and flags) and `// also:` (further objects).
fn objects_of(name: &str, extension: &str, text: &str) -> Result<Vec<Object>> {
    let mut main = Object {
        file: format!("{name}.bpf.o"),
        fixture: name.to_owned(),
        source: format!("fixtures/{name}.bpf.{extension}"),
        compiler: if extension == "rs" {
            Compiler::Rustc
        } else {
            Compiler::Clang22
        },
        flags: Vec::new(),
        strip: false,
    };
    let mut twins = Vec::new();
    for line in text.lines().take_while(|line| line.starts_with("//")) {
        if let Some(build) = line.strip_prefix("// build:") {
            for word in build.split_whitespace() {
                match word.strip_prefix("compiler=") {
                    Some(compiler) => main.compiler = compiler_named(compiler)?,
                    None => main.flags.push(word.to_owned()),
                }
            }
        } else if let Some(also) = line.strip_prefix("// also:") {
            twins.extend(also.split_whitespace());
        }
    }
    let mut objects = Vec::new();
    for twin in twins {
        let mut object = Object {
            file: format!("{name}.{twin}.bpf.o"),
            fixture: main.fixture.clone(),
            source: main.source.clone(),
            compiler: main.compiler,
            flags: main.flags.clone(),
            strip: twin == "nodwarf",
        };
        match twin {
            "be" => object
                .flags
                .extend(["-target".to_owned(), "bpfeb".to_owned()]),
            "nodwarf" => {}
            compiler => object.compiler = compiler_named(compiler)?,
        }
        objects.push(object);
    }
    objects.push(main);
    Ok(objects)
}

fn compiler_named(name: &str) -> Result<Compiler> {
    match Compiler::from_name(name) {
        Some(compiler) => Ok(compiler),
        None => bail!("`{name}` is no compiler: write clang, clang-19, clang-14 or gcc"),
    }
}
