//! How a command ends.

use std::process::ExitCode;

/// The exit status of the command-line contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done, warnings included.
    Done,
    /// 1: the object, the plan or the kernel said no.
    Refused,
    /// 2: wrong usage.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Refused => 1,
            Exit::Usage => 2,
        })
    }
}
