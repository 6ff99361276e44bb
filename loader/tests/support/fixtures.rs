//! The fixtures and what the comment at the top of each says about it.

use std::path::{Path, PathBuf};

/// What libbpf does with a fixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    Loads,
    RefusedAtOpen,
    RefusedAtLoad,
}

/// A compiled fixture with the expectations of its source.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// File name of the object without `.bpf.o`.
    pub name: String,
    pub object: PathBuf,
    pub expectation: Expectation,
    /// `(outer, index, target)`.
    pub slots: Vec<(String, u32, String)>,
    /// Why bpfplan and libbpf differ on purpose.
    pub deviates: Option<String>,
    /// What the kernel or libbpf says when the programs are loaded, too, if it refuses them.
    pub programs_refused: Option<String>,
    /// The whole source, for tests that look for what a fixture uses.
    pub source: String,
}

impl Fixture {
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.object).expect("fixture objects are readable")
    }

    pub fn file_name(&self) -> String {
        self.object
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned()
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// All fixtures by name. A fixture without a source or without an expectation is a bug.
pub fn all() -> Vec<Fixture> {
    let objects = std::fs::read_dir(directory().join("obj")).expect("fixtures/obj is there");
    let mut fixtures: Vec<_> = objects
        .map(|entry| entry.expect("fixtures/obj is readable").path())
        .filter_map(|path| {
            let file = path.file_name()?.to_str()?.to_owned();
            Some(read(file.strip_suffix(".bpf.o")?, &path))
        })
        .collect();
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(
        fixtures.len() >= 25,
        "only {} fixtures found",
        fixtures.len()
    );
    fixtures
}

pub fn named(name: &str) -> Fixture {
    all()
        .into_iter()
        .find(|f| f.name == name)
        .unwrap_or_else(|| panic!("no fixture '{name}'"))
}

fn read(name: &str, object: &Path) -> Fixture {
    // A twin (`name.be`, `name.gcc`) is compiled from the source of the same stem.
    let stem = name.split('.').next().unwrap_or(name);
    let source = ["bpf.c", "bpf.s", "bpf.rs"]
        .iter()
        .map(|suffix| directory().join(format!("{stem}.{suffix}")))
        .find_map(|path| std::fs::read_to_string(path).ok())
        .unwrap_or_else(|| panic!("fixture '{name}' has no source"));
    let expects: Vec<&str> = source
        .lines()
        .filter_map(|line| Some(line.split_once("expect: ")?.1.trim()))
        .collect();
    let expectation = expects
        .iter()
        .find_map(|line| match line {
            line if line.starts_with("loads") => Some(Expectation::Loads),
            line if line.starts_with("refused at open") => Some(Expectation::RefusedAtOpen),
            line if line.starts_with("refused at load") => Some(Expectation::RefusedAtLoad),
            _ => None,
        })
        .unwrap_or_else(|| panic!("fixture '{name}' says neither loads nor refused"));
    Fixture {
        name: name.to_owned(),
        object: object.to_owned(),
        expectation,
        slots: expects
            .iter()
            .filter_map(|line| slot(line.strip_prefix("slot ")?))
            .collect(),
        deviates: expects
            .iter()
            .find_map(|line| Some(line.strip_prefix("deviates")?.trim().to_owned())),
        programs_refused: expects
            .iter()
            .find_map(|line| Some(line.strip_prefix("programs refused")?.trim().to_owned())),
        source,
    }
}

/// `outer[2] = inner_b`
fn slot(text: &str) -> Option<(String, u32, String)> {
    let (place, target) = text.split_once('=')?;
    let (outer, index) = place.trim().strip_suffix(']')?.split_once('[')?;
    Some((
        outer.to_owned(),
        index.parse().ok()?,
        target.trim().to_owned(),
    ))
}
