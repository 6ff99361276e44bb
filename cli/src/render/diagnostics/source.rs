//! Lines of source files, where they are there and are what they should be.
//!
//! An object says which file to look at, and objects can be hostile: only a regular file that is
//! named like source is opened, and a line is shown only if it holds the name that is spoken of.
//! Otherwise an object could make a build log show any file of the machine.

use std::collections::HashMap;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bpfplan_plan::Source;

/// Larger files are not source.
const MAX_SIZE: u64 = 4 << 20;
/// Longer lines are cut away whole: they are generated, and nobody reads them.
const MAX_LINE: usize = 400;
/// Names of source files end so.
const EXTENSIONS: [&str; 7] = ["c", "h", "cc", "cpp", "hpp", "rs", "inc"];

/// A line of source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The line, tabs expanded, without its end.
    pub(super) text: String,
    /// Where in it the name stands, in bytes.
    pub(super) span: Range<usize>,
}

/// Files that were looked at already.
#[derive(Default)]
pub(super) struct Sources {
    files: HashMap<Arc<str>, Option<String>>,
}

impl Sources {
    /// The line at `source`, if one of `names` stands on it.
    pub(super) fn line(&mut self, source: &Source, names: &[&str]) -> Option<Line> {
        let text = self
            .files
            .entry(Arc::clone(&source.file))
            .or_insert_with(|| read(Path::new(&*source.file)))
            .as_deref()?;
        let index = usize::try_from(source.line).ok()?.checked_sub(1)?;
        find(text.lines().nth(index)?, names)
    }
}

fn read(path: &Path) -> Option<String> {
    let extension = path.extension()?.to_str()?;
    if !EXTENSIONS.contains(&extension) || !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    std::fs::File::open(path)
        .ok()?
        .take(MAX_SIZE + 1)
        .read_to_string(&mut text)
        .ok()?;
    (u64::try_from(text.len()).ok()? <= MAX_SIZE).then_some(text)
}

fn find(line: &str, names: &[&str]) -> Option<Line> {
    if line.len() > MAX_LINE {
        return None;
    }
    let text = line.trim_end().replace('\t', "        ");
    if text.contains(char::is_control) {
        return None;
    }
    let span = names.iter().find_map(|name| word(&text, name))?;
    Some(Line { text, span })
}

/// Where `name` stands as a whole word; the last place, because in `struct lut lut` that is the
/// variable.
fn word(text: &str, name: &str) -> Option<Range<usize>> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    if name.is_empty() || !name.chars().all(part) {
        return None;
    }
    text.rmatch_indices(name)
        .map(|(start, _)| start..start + name.len())
        .find(|span| {
            let before = text
                .get(..span.start)
                .and_then(|text| text.chars().next_back());
            let after = text.get(span.end..).and_then(|text| text.chars().next());
            !before.is_some_and(part) && !after.is_some_and(part)
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bpfplan_plan::Source;

    use super::{Line, Sources};

    fn line(name: &str, content: &str, names: &[&str]) -> Option<Line> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        let source = Source {
            file: path.to_str().unwrap().into(),
            line: 2,
        };
        Sources::default().line(&source, names)
    }

    #[test]
    fn a_line_is_shown_if_it_holds_the_name() {
        let found = line("a.c", "x\n\tlut m_lut, lut SEC;\ny\n", &["lut"]);
        assert_eq!(
            found,
            Some(Line {
                text: "        lut m_lut, lut SEC;".to_owned(),
                span: 19..22
            })
        );
    }

    #[test]
    fn another_line_is_not() {
        assert_eq!(line("a.c", "lut\nlut_0 xlut lut$\nlut\n", &["lut"]), None);
        assert_eq!(line("a.c", "lut\n", &["lut"]), None);
        assert_eq!(line("a.c", "\nlut\u{1b}[m\n", &["lut"]), None);
        assert_eq!(line("a.c", "\nlut\n", &[""]), None);
        assert_eq!(line("a.c", "\nlut SEC(\".maps\");\n", &["\""]), None);
    }

    #[test]
    fn a_file_that_is_not_source_is_not_read() {
        assert_eq!(line("secret", "\nlut\n", &["lut"]), None);
        assert_eq!(line("secret.key", "\nlut\n", &["lut"]), None);
        let source = Source {
            file: "/dev/null".into(),
            line: 1,
        };
        assert_eq!(Sources::default().line(&source, &["lut"]), None);
    }
}
