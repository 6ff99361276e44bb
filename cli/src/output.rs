//! Where text goes: results to standard output, talk to standard error.

use std::io::{self, IsTerminal, Write as _};

use bpfplan_plan::Diagnostic;

use crate::render::diagnostics;

/// Prints a result to standard output.
///
/// # Errors
/// Those of writing; a broken pipe is one of them.
pub(crate) fn result(text: &str) -> io::Result<()> {
    bytes(text.as_bytes())
}

/// Prints a result that is not text to standard output.
///
/// # Errors
/// As [`result`].
pub(crate) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Prints a line to standard error. Nobody can be told if that fails.
pub(crate) fn talk(line: &str) {
    talk_lines(&format!("{line}\n"));
}

/// Prints text that ends its own lines to standard error.
pub(crate) fn talk_lines(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints diagnostics for people to standard error.
pub(crate) fn diagnostics(list: &[Diagnostic]) {
    talk_lines(&diagnostics::text::render(list, colour(&io::stderr())));
}

/// Prints why a command failed: for people to standard error, or as the JSON document, which
/// then is the command's result.
///
/// # Errors
/// As [`result`].
pub(crate) fn failure(list: &[Diagnostic], json: bool) -> io::Result<()> {
    if json {
        result(&diagnostics::json::render(list)?)
    } else {
        diagnostics(list);
        Ok(())
    }
}

/// Whether to use colour on a stream: only on a terminal, and never against `NO_COLOR`
/// (<https://no-color.org>).
pub(crate) fn colour(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
