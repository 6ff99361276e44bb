//! `cargo xtask fixtures`: compiled objects from the sources in `fixtures/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::compiler::{self, Compiler};
use crate::fixture::{self, Object};
use crate::repo;

const OBJECT_DIR: &str = "fixtures/obj";
/// Which version of which compiler made the committed objects.
const VERSIONS_FILE: &str = "fixtures/obj/COMPILERS";

/// Builds the objects of the named fixtures (all, if none is named), or with `check` compares.
///
/// Prints one line per object: `built`, `up to date`, `stale`, `failed: why` or `skipped: why`.
pub(crate) fn run(check: bool, names: &[String]) -> Result<()> {
    let root = repo::root()?;
    let all = fixture::all(&root)?;
    for name in names {
        if !all.iter().any(|object| object.fixture == *name) {
            bail!("there is no fixture {name}: name one like the files in fixtures/");
        }
    }
    let wanted: Vec<&Object> = all
        .iter()
        .filter(|object| names.is_empty() || names.contains(&object.fixture))
        .collect();
    let mut versions = Versions::read(&root)?;
    let work = tempfile::tempdir().context("cannot make a temporary directory")?;
    std::fs::create_dir_all(root.join(OBJECT_DIR)).context("cannot make fixtures/obj")?;
    let mut problems = 0_usize;
    for object in wanted {
        let outcome = match versions.obstacle(object.compiler, check) {
            Some(why) => format!("skipped: {why}"),
            None => build(&root, object, work.path(), check)
                .unwrap_or_else(|error| format!("failed: {error:#}")),
        };
        println!("{}: {outcome}", object.file);
        problems += usize::from(outcome == "stale" || outcome.starts_with("failed"));
    }
    for file in orphans(&root, &all)? {
        println!("{file}: stale (no source makes it)");
        problems += 1;
        if !check {
            std::fs::remove_file(root.join(OBJECT_DIR).join(&file))?;
            problems -= 1;
        }
    }
    if problems > 0 {
        bail!("{problems} objects are stale or failed: run `cargo xtask fixtures` and commit");
    }
    if !check {
        versions.write(&root)?;
    }
    Ok(())
}

fn build(root: &Path, object: &Object, work: &Path, check: bool) -> Result<String> {
    let fresh = work.join(&object.file);
    object
        .compiler
        .compile(root, &object.source, &object.flags, &fresh)?;
    if object.strip {
        compiler::strip_dwarf(&fresh)?;
    }
    let bytes = std::fs::read(&fresh)?;
    if contains_path(&bytes, root) || contains_path(&bytes, work) {
        bail!("it contains a path of this machine");
    }
    let committed = root.join(OBJECT_DIR).join(&object.file);
    if std::fs::read(&committed).ok().as_deref() == Some(bytes.as_slice()) {
        return Ok("up to date".to_owned());
    }
    if check {
        return Ok("stale".to_owned());
    }
    std::fs::write(&committed, &bytes)?;
    Ok("built".to_owned())
}

fn contains_path(bytes: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    bytes
        .windows(path.len().max(1))
        .any(|window| window == path)
}

/// Objects that no source makes.
fn orphans(root: &Path, all: &[Object]) -> Result<Vec<String>> {
    let known: BTreeSet<&str> = all.iter().map(|object| object.file.as_str()).collect();
    let mut orphans = Vec::new();
    for entry in std::fs::read_dir(root.join(OBJECT_DIR))? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        if file.ends_with(".o") && !known.contains(file.as_str()) {
            orphans.push(file);
        }
    }
    orphans.sort();
    Ok(orphans)
}

/// The versions that made the committed objects, and those that are installed.
struct Versions {
    recorded: BTreeMap<String, String>,
    installed: BTreeMap<Compiler, Option<String>>,
}

impl Versions {
    fn read(root: &Path) -> Result<Self> {
        let mut recorded = BTreeMap::new();
        if let Ok(text) = std::fs::read_to_string(root.join(VERSIONS_FILE)) {
            for line in text.lines() {
                let (program, version) = line
                    .split_once(": ")
                    .with_context(|| format!("{VERSIONS_FILE}: cannot read `{line}`"))?;
                recorded.insert(program.to_owned(), version.to_owned());
            }
        }
        Ok(Self {
            recorded,
            installed: BTreeMap::new(),
        })
    }

    /// Why objects of this compiler cannot be made, or with `check` cannot be compared.
    fn obstacle(&mut self, compiler: Compiler, check: bool) -> Option<String> {
        let program = compiler.program();
        let installed = self
            .installed
            .entry(compiler)
            .or_insert_with(|| compiler.version());
        let Some(installed) = installed else {
            return Some(format!("{program} is not installed"));
        };
        if let Some(why) = compiler.obstacle() {
            return Some(why.to_owned());
        }
        let recorded = self.recorded.get(program)?;
        (check && recorded != installed)
            .then(|| format!("it was built with {recorded}, here is {installed}"))
    }

    /// Records the versions that were used.
    fn write(mut self, root: &Path) -> Result<()> {
        for (compiler, version) in self.installed {
            if let Some(version) = version {
                self.recorded.insert(compiler.program().to_owned(), version);
            }
        }
        let text: String = self
            .recorded
            .iter()
            .map(|(program, version)| format!("{program}: {version}\n"))
            .collect();
        std::fs::write(root.join(VERSIONS_FILE), text).context("cannot record the versions")
    }
}
