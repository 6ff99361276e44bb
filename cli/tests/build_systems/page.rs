//! The code in `docs/build-systems.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A section of the page: the files that it shows, by name, and the commands.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) commands: Vec<String>,
}

/// All sections by their headings; what is before the first has the empty one.
///
/// A file's name stands in backticks at the end of the text before it; `console` is for commands.
pub(crate) fn sections(page: &str) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut heading = String::new();
    let mut before = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut heading);
        } else if let Some(language) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let section = sections.entry(heading.clone()).or_default();
            if language == "console" {
                let commands = block.iter().map(|line| line.strip_prefix("$ ").unwrap());
                section.commands.extend(commands.map(str::to_owned));
            } else {
                let name = before.rsplit('`').nth(1).unwrap();
                let text = format!("{}\n", block.join("\n"));
                let other = section.files.insert(name.to_owned(), text);
                assert_eq!(other, None, "two files are called {name}");
            }
        }
        if !line.is_empty() {
            before = line;
        }
    }
    sections
}

impl Section {
    /// Writes the files.
    pub(crate) fn lay_out(&self, directory: &Path) {
        for (name, text) in &self.files {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
}
