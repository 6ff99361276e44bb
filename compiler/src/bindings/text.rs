//! Source text in the form that rustfmt gives it.

/// Longest line of code (`max_width` of rustfmt).
const WIDTH: usize = 100;
/// Longest arguments of a call on one line (`fn_call_width` of rustfmt).
const ARGUMENTS: usize = 60;
/// Longest line of a comment.
const COMMENT: usize = 90;

/// Text with an indentation.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    depth: usize,
}

impl Text {
    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// A line, or several.
    pub(super) fn line(&mut self, line: &str) {
        for line in line.lines() {
            if !line.is_empty() {
                self.indent(self.depth);
                self.text.push_str(line);
            }
            self.text.push('\n');
        }
        if line.is_empty() {
            self.text.push('\n');
        }
    }

    /// Text as it is.
    pub(super) fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// A line, and what follows is indented.
    pub(super) fn open(&mut self, line: &str) {
        self.line(line);
        self.depth += 1;
    }

    /// The head of a struct with fields, and they are indented.
    pub(super) fn structure(&mut self, head: &str) {
        if self.fits(head.len() + 2) {
            self.open(&format!("{head} {{"));
        } else {
            self.line(head);
            self.open("{");
        }
    }

    /// What follows is indented.
    pub(super) fn deeper(&mut self) {
        self.depth += 1;
    }

    /// What follows is indented less.
    pub(super) fn shallower(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// The end of what was indented.
    pub(super) fn close(&mut self, line: &str) {
        self.depth = self.depth.saturating_sub(1);
        self.line(line);
    }

    /// A comment for `rustdoc`, its paragraphs broken where lines get long.
    pub(super) fn doc(&mut self, text: &str) {
        let mark = "///";
        for paragraph in text.lines() {
            let mut line = mark.to_owned();
            for word in words(paragraph) {
                if line.len() > mark.len() && line.len() + 1 + word.len() > COMMENT {
                    self.line(&line);
                    mark.clone_into(&mut line);
                }
                line.push(' ');
                line.push_str(word);
            }
            self.line(&line);
        }
    }

    /// `name: Type,`; if the line were too long, the type below the name, or its arguments on lines
    /// of their own.
    pub(super) fn field(&mut self, name: &str, ty: &str) {
        self.typed(&format!("{name}: "), ty, ",");
    }

    /// `head Type tail`, broken as [`Text::field`] is.
    pub(super) fn typed(&mut self, head: &str, ty: &str, tail: &str) {
        if self.fits(head.len() + ty.len() + tail.len()) {
            self.line(&format!("{head}{ty}{tail}"));
            return;
        }
        let below = !head.is_empty() && self.fits(4 + ty.len() + tail.len());
        match arguments(ty).filter(|_| !below) {
            Some((path, arguments)) => {
                self.open(&format!("{head}{path}<"));
                for argument in arguments {
                    self.typed("", argument, ",");
                }
                self.close(&format!(">{tail}"));
            }
            None => {
                self.open(head.trim_end());
                self.line(&format!("{ty}{tail}"));
                self.shallower();
            }
        }
    }

    /// The head of a function without parameters, and what follows is indented.
    pub(super) fn function(&mut self, head: &str, returns: &str) {
        let length = head.len() + returns.len() + 4;
        if self.fits(length + 2) {
            self.line(&format!("{head} -> {returns} {{"));
        } else if self.fits(length.saturating_sub(1)) {
            self.line(&format!("{head} -> {returns}"));
            self.line("{");
        } else {
            self.line(head);
            self.line(&format!("-> {returns} {{"));
        }
        self.depth += 1;
    }

    /// A call of a function: as [`Text::list`], and arguments that are long in sum below each other.
    pub(super) fn call(&mut self, head: &str, arguments: &[&str], tail: &str) {
        let long = arguments.join(", ").len() > ARGUMENTS;
        self.arguments(head, arguments, tail, long);
    }

    /// `head(arguments)tail`, the arguments below each other if the line were too long.
    pub(super) fn list(&mut self, head: &str, arguments: &[&str], tail: &str) {
        self.arguments(head, arguments, tail, false);
    }

    fn arguments(&mut self, head: &str, arguments: &[&str], tail: &str, long: bool) {
        let inline = arguments.join(", ");
        if !long && self.fits(head.len() + inline.len() + tail.len() + 2) {
            self.line(&format!("{head}({inline}){tail}"));
            return;
        }
        self.open(&format!("{head}("));
        for argument in arguments {
            self.line(&format!("{argument},"));
        }
        self.close(&format!("){tail}"));
    }

    /// A call of a macro: as [`Text::call`], without a comma after the last argument.
    pub(super) fn assert(&mut self, condition: &str) {
        if self.fits(condition.len() + 9) {
            self.line(&format!("assert!({condition});"));
            return;
        }
        self.open("assert!(");
        self.line(condition);
        self.close(");");
    }

    /// An arm of a match.
    pub(super) fn arm(&mut self, pattern: &str, value: &str) {
        if self.fits(pattern.len() + value.len() + 5) {
            self.line(&format!("{pattern} => {value},"));
            return;
        }
        self.open(&format!("{pattern} => {{"));
        self.line(value);
        self.close("}");
    }

    /// `#[derive(traits)]`.
    pub(super) fn derive(&mut self, traits: &str) {
        // rustfmt breaks derives one column before other lines.
        if self.fits(traits.len() + 13) {
            self.line(&format!("#[derive({traits})]"));
            return;
        }
        self.open("#[derive(");
        self.line(&format!("{traits},"));
        self.close(")]");
    }

    fn fits(&self, length: usize) -> bool {
        self.depth * 4 + length <= WIDTH
    }

    fn indent(&mut self, depth: usize) {
        for _ in 0..depth {
            self.text.push_str("    ");
        }
    }
}

/// The path of a generic type, and its arguments.
fn arguments(ty: &str) -> Option<(&str, Vec<&str>)> {
    let (path, rest) = ty.split_once('<')?;
    let rest = rest.strip_suffix('>')?;
    let mut arguments = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for (index, c) in rest.char_indices() {
        match c {
            '<' | '[' => depth += 1,
            '>' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                arguments.push(rest.get(start..index)?.trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    arguments.push(rest.get(start..)?.trim());
    Some((path, arguments))
}

/// Words, code between backticks kept together.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut code = false;
    for (index, c) in text.char_indices() {
        if c == '`' {
            code = !code;
        }
        if c == ' ' && !code {
            words.extend(text.get(start..index).filter(|word| !word.is_empty()));
            start = index + 1;
        }
    }
    words.extend(text.get(start..).filter(|word| !word.is_empty()));
    words
}

/// A byte string over several lines.
pub(super) fn byte_string(bytes: &[u8], indent: usize) -> String {
    let mut text = String::from("b\"");
    let mut column = indent + 2;
    let mut after_zero = false;
    for byte in bytes {
        let escaped = match byte {
            b'\0' => "\\0".to_owned(),
            // `\0` and a digit would look like an octal number.
            b'0'..=b'9' if after_zero => format!("\\x{byte:02x}"),
            _ => byte.escape_ascii().to_string(),
        };
        after_zero = *byte == 0;
        // A space at the start of a line would be skipped.
        if column + escaped.len() > WIDTH - 1 && *byte != b' ' {
            text.push_str("\\\n");
            text.push_str(&" ".repeat(indent));
            column = indent;
        }
        column += escaped.len();
        text.push_str(&escaped);
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::{Text, byte_string};

    #[test]
    fn long_comments_are_broken_between_words() {
        let mut text = Text::default();
        text.doc(&format!(
            "`{} {}` is one word",
            "a".repeat(50),
            "b".repeat(60)
        ));
        assert!(text.finish().ends_with("`\n/// is one word\n"));
    }

    #[test]
    fn bytes_stay_the_same() {
        let bytes: Vec<u8> = (0..=255).chain([b' '; 200]).collect();
        let text = byte_string(&bytes, 8);
        assert!(text.lines().all(|line| line.len() < 400));
        assert!(!text.contains("\\\n         "));
        assert_eq!(byte_string(b"\x001\"", 0), "b\"\\0\\x31\\\"\"");
    }
}
