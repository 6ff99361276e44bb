//! Colour, or none.

/// Paints text with ANSI sequences, or leaves it alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// With colour or without.
    pub(crate) fn new(colour: bool) -> Self {
        Self { colour }
    }

    /// Something that is done.
    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// A name.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What is less important.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// What needs attention.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
