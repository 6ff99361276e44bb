//! The dependency file that clang writes with `-MD`.

use std::path::PathBuf;

/// The files that a rule of make names behind its first colon.
pub(super) fn parse(text: &str) -> Vec<PathBuf> {
    // The target's name is ours and has no colon of its own that a space follows.
    let Some((_, rest)) = text.split_once(": ") else {
        return Vec::new();
    };
    let mut files = Vec::new();
    let mut name = String::new();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('\n')) | ('$', Some('$')) => {
                if c == '$' {
                    name.push('$');
                }
                chars.next();
            }
            ('\\', Some(' ' | '#')) => name.extend(chars.next()),
            (c, _) if c.is_whitespace() => finish(&mut name, &mut files),
            (c, _) => name.push(c),
        }
    }
    finish(&mut name, &mut files);
    files
}

fn finish(name: &mut String, files: &mut Vec<PathBuf>) {
    if !name.is_empty() {
        files.push(PathBuf::from(std::mem::take(name)));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::parse;

    #[test]
    fn names_as_clang_escapes_them() {
        let text =
            "out/flow.bpf.o: src/flow.bpf.c \\\n  /usr/include/a\\ b.h \\\n  c$$d\\#e.h f\\g.h\n";
        let names = ["src/flow.bpf.c", "/usr/include/a b.h", "c$d#e.h", "f\\g.h"];
        assert_eq!(parse(text), names.map(PathBuf::from));
        assert!(parse("").is_empty());
        assert!(parse("nothing").is_empty());
    }
}
