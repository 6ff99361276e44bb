//! Why something could not be done with a map.

use std::fmt;

use bpfplan_plan::{Code, Diagnostic};

use crate::error::{ErrorKind, LoadError};
use crate::kernel::Errno;

/// An operation on a map that failed. Keys that are not there are no errors: lookups answer
/// `None`, deletions `false`.
#[derive(Clone, PartialEq, Eq)]
pub struct MapError(Box<Failure>);

#[derive(Clone, PartialEq, Eq)]
struct Failure {
    errno: Option<Errno>,
    done: Option<usize>,
    diagnostic: Diagnostic,
}

impl MapError {
    pub(crate) fn new(diagnostic: Diagnostic) -> Self {
        Self(Box::new(Failure {
            errno: None,
            done: None,
            diagnostic,
        }))
    }

    pub(crate) fn with_errno(mut self, errno: Errno) -> Self {
        self.0.errno = Some(errno);
        self
    }

    pub(crate) fn with_done(mut self, done: usize) -> Self {
        self.0.done = Some(done);
        self
    }

    /// The kernel's answer, if the kernel was asked: `EEXIST` for [`super::Update::NoExist`]
    /// where the key is there, `E2BIG` for a map that is full, `EPERM` for one that is frozen.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }

    /// Number of elements that were done before the one that failed, if there were several.
    #[must_use]
    pub fn done(&self) -> Option<usize> {
        self.0.done
    }

    /// The code, such as `BP0652`; [`crate::codes`] lists them.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.diagnostic.code
    }

    /// All that is known: what failed, why, and what to do.
    #[must_use]
    pub fn diagnostic(&self) -> &Diagnostic {
        &self.0.diagnostic
    }
}

impl fmt::Debug for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapError")
            .field("errno", &self.0.errno)
            .field("done", &self.0.done)
            .field("diagnostic", &self.0.diagnostic)
            .finish()
    }
}

impl fmt::Display for MapError {
    /// The sentence, then notes and help: whoever prints it prints nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let diagnostic = &self.0.diagnostic;
        diagnostic.fmt(f)?;
        for note in diagnostic.notes.iter().chain(&diagnostic.help) {
            write!(f, "; {note}")?;
        }
        Ok(())
    }
}

impl std::error::Error for MapError {}

impl From<MapError> for Diagnostic {
    fn from(error: MapError) -> Self {
        error.0.diagnostic
    }
}

impl From<MapError> for LoadError {
    fn from(error: MapError) -> Self {
        let kind = if error.errno().is_some() {
            ErrorKind::Kernel
        } else {
            ErrorKind::Refused
        };
        Self::new(kind, vec![error.into()])
    }
}
