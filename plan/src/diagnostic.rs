//! Diagnostics as data. Rendering is the caller's.

use std::fmt;

use serde::Serialize;

use crate::compare::Difference;
use crate::model::Source;

/// Stable code of a kind of diagnostic, such as `BP0207`.
///
/// Ranges: 00 object and ELF, 01 BTF, 02 declarations, 03 slots, 04 kernel rules, 05 plan files and
/// overrides, 06 a failed load, 07 pins and the record of a load, 08 the target, 09 the command,
/// 10 bindings and builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Code(pub &'static str);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Defines the codes of a crate's diagnostics, and `ALL`: every code with its title of one line.
#[macro_export]
macro_rules! codes {
    ($($(#[$doc:meta])+ $vis:vis $name:ident = $code:literal, $title:literal;)*) => {
        $($(#[$doc])+ $vis const $name: $crate::Code = $crate::Code($code);)*

        /// Every code of this crate with its title of one line, ascending.
        pub const ALL: &[($crate::Code, &str)] = &[$(($name, $title)),*];
    };
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong, but it should be known.
    Note,
    /// It works, though perhaps not as meant.
    Warning,
    /// It does not work.
    Error,
}

/// A place in a source file, with what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Label {
    /// The place.
    pub source: Source,
    /// What is there; the first label of a diagnostic is its primary place.
    pub message: String,
}

/// One finding: a code, one sentence, the places, and what to do.
///
/// `Display` gives the short form on one line: `error[BP0207]: map 'a': ...`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Diagnostic {
    /// Stable code.
    pub code: Code,
    /// Severity.
    pub severity: Severity,
    /// One sentence without a full stop at its end.
    pub message: String,
    /// File name of the object or plan that it is about, filled in by whoever read the file.
    pub object: Option<String>,
    /// Name of the map that it is about.
    pub map: Option<String>,
    /// Name of the program that it is about.
    pub program: Option<Box<str>>,
    /// Field of the map's declaration that it is about, such as `max_entries` or `values[3]`.
    pub field: Option<String>,
    /// Places in the source, the primary one first; empty without DWARF.
    pub labels: Vec<Label>,
    /// How a map that exists differs from the declared one; left out of JSON if it is not about that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(default))]
    pub differences: Vec<Difference>,
    /// Background: why it is so, what libbpf or the kernel does.
    pub notes: Vec<String>,
    /// What to do next.
    pub help: Option<String>,
    /// The verifier's log of a program that the kernel refused, whole.
    pub log: Option<Box<str>>,
}

impl Diagnostic {
    /// An error.
    #[must_use]
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message)
    }

    /// A warning.
    #[must_use]
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message)
    }

    /// A diagnostic of the given severity, with nothing but its message.
    #[must_use]
    pub fn new(code: Code, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            message: message.into(),
            object: None,
            map: None,
            program: None,
            field: None,
            labels: Vec::new(),
            differences: Vec::new(),
            notes: Vec::new(),
            help: None,
            log: None,
        }
    }

    /// Names the map.
    #[must_use]
    pub fn map(mut self, name: impl Into<String>) -> Self {
        self.map = Some(name.into());
        self
    }

    /// Names the program.
    #[must_use]
    pub fn program(mut self, name: impl Into<Box<str>>) -> Self {
        self.program = Some(name.into());
        self
    }

    /// Names the field of the declaration.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>) -> Self {
        self.field = Some(name.into());
        self
    }

    /// Adds a place, if it is known.
    #[must_use]
    pub fn at(mut self, source: Option<&Source>, message: impl Into<String>) -> Self {
        if let Some(source) = source {
            self.labels.push(Label {
                source: source.clone(),
                message: message.into(),
            });
        }
        self
    }

    /// Whether a place was not looked for yet, see [`Source::later`].
    #[must_use]
    pub fn lacks_places(&self) -> bool {
        let mut labels = self.labels.iter();
        labels.any(|label| label.source.variable().is_some())
    }

    /// Replaces places that were not looked for yet, by the names of the variables; those that are not
    /// found go.
    pub fn find_places(&mut self, mut find: impl FnMut(&str) -> Option<Source>) {
        self.labels.retain_mut(|label| {
            let Some(variable) = label.source.variable() else {
                return true;
            };
            let found = find(variable);
            let is_found = found.is_some();
            if let Some(found) = found {
                label.source = found;
            }
            is_found
        });
    }

    /// Adds background.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same as a warning, if it is an error: what a kernel would refuse stops a load, not a
    /// look at the plan.
    #[must_use]
    pub fn as_warning(mut self) -> Self {
        self.severity = self.severity.min(Severity::Warning);
        self
    }

    /// Whether this is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: ", self.severity, self.code)?;
        if let Some(map) = &self.map {
            write!(f, "map '{}': ", map.escape_debug())?;
        }
        if let Some(program) = &self.program {
            write!(f, "program '{}': ", program.escape_debug())?;
        }
        f.write_str(&self.message)
    }
}
