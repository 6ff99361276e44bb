//! The page's project, and how it is built.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::page::{Section, sections};
use crate::support::root;

/// The project of one section, in a directory that is the same every time.
pub(crate) struct Project {
    pub(crate) directory: PathBuf,
    section: Section,
    path: OsString,
}

impl Project {
    pub(crate) fn new(heading: &str) -> Self {
        let mut sections = page();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("build-systems")
            .join(heading.replace(' ', "-"));
        let _ = fs::remove_dir_all(&directory);
        let sources = sections.remove("").unwrap();
        sources.lay_out(&directory);
        let section = sections.remove(heading).unwrap();
        section.lay_out(&directory);
        let tools = directory.join("tools");
        fs::create_dir(&tools).unwrap();
        let project = Self {
            path: path_with(&tools),
            directory,
            section,
        };
        project.tool("clang", &clang().unwrap());
        project
    }

    /// Puts a program on `PATH`.
    pub(crate) fn tool(&self, name: &str, program: &Path) {
        self.link(program, &format!("tools/{name}"));
    }

    pub(crate) fn link(&self, to: &Path, name: &str) {
        std::os::unix::fs::symlink(to, self.directory.join(name)).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> &str {
        &self.section.files[name]
    }

    pub(crate) fn commands(&self) -> &[String] {
        &self.section.commands
    }

    /// Runs a line of shell; whether it succeeded, and what it printed.
    pub(crate) fn run(&self, line: &str, variables: &[(&str, &Path)]) -> (bool, String) {
        let output = Command::new("bash")
            .args(["-e", "-c", line])
            .current_dir(&self.directory)
            .env("PATH", &self.path)
            // What cargo and an outer make say is not for these.
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL")
            .env_remove("RUSTFLAGS")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    }

    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.directory.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// The plan that was made.
    pub(crate) fn plan(&self) -> Vec<u8> {
        fs::read(self.directory.join("build/flow.plan")).unwrap()
    }

    /// When the object and the plan were written.
    pub(crate) fn times(&self) -> [SystemTime; 2] {
        ["build/flow.bpf.o", "build/flow.plan"].map(|name| {
            let metadata = fs::metadata(self.directory.join(name)).unwrap();
            metadata.modified().unwrap()
        })
    }
}

/// The page.
pub(crate) fn page() -> BTreeMap<String, Section> {
    sections(&fs::read_to_string(root().join("docs/build-systems.md")).unwrap())
}

fn path_with(directory: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = [directory.to_owned()].into_iter();
    env::join_paths(all.chain(env::split_paths(&path))).unwrap()
}

/// A program on `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).map(|directory| directory.join(name));
    places.find(|path| path.is_file())
}

/// A clang that makes objects for BPF, whatever it is called here.
pub(crate) fn clang() -> Option<PathBuf> {
    let names = ["clang", "clang-22", "clang-19", "clang-14"];
    names.iter().find_map(|name| find(name))
}
