//! What a build script tells cargo.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use bpfplan_plan::{Diagnostic, Severity, plain};

use super::{BuildError, Built, Inputs};

/// Prints it.
pub(super) fn tell(inputs: &Inputs, result: &Result<Built, BuildError>) {
    // Without standard output there is no cargo that could be told.
    let _ = io::stdout()
        .lock()
        .write_all(lines(inputs, result).as_bytes());
}

/// The instructions of a build script, one a line.
fn lines(inputs: &Inputs, result: &Result<Built, BuildError>) -> String {
    let mut text = String::new();
    for variable in &inputs.variables {
        let _ = writeln!(text, "cargo::rerun-if-env-changed={variable}");
    }
    for file in &inputs.files {
        // A path with a line break cannot be told.
        let path = file.to_string_lossy();
        if !path.contains('\n') {
            let _ = writeln!(text, "cargo::rerun-if-changed={path}");
        }
    }
    let (output, key, diagnostics) = match result {
        Ok(built) => (&built.clang_output, "warning", &built.warnings),
        Err(error) => (&error.clang_output, "error", &error.diagnostics),
    };
    // Errors first: they are what the build fails for.
    let clang_failed = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.code == crate::codes::CLANG_FAILED);
    let key = if clang_failed { key } else { "warning" };
    for line in output.lines() {
        let _ = writeln!(text, "cargo::{key}={}", plain(line));
    }
    for diagnostic in diagnostics {
        let key = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning | Severity::Note => "warning",
        };
        for line in described(diagnostic) {
            let _ = writeln!(text, "cargo::{key}={}", plain(&line));
        }
    }
    text
}

/// A diagnostic in lines, after rustc.
fn described(diagnostic: &Diagnostic) -> Vec<String> {
    let mut headline = format!("[{}] ", diagnostic.code);
    if let Some(map) = &diagnostic.map {
        headline.push_str(&format!("map '{map}'"));
        let field = diagnostic.field.as_ref();
        if let Some(field) = field.filter(|field| !diagnostic.message.contains(*field)) {
            headline.push_str(&format!(", {field}"));
        }
        headline.push_str(": ");
    }
    headline.push_str(&diagnostic.message);
    let mut lines = vec![headline];
    for label in &diagnostic.labels {
        let message = match label.message.as_str() {
            "" | "declared here" => String::new(),
            message => format!(": {message}"),
        };
        lines.push(format!("  --> {}{message}", label.source));
    }
    if let Some(object) = diagnostic
        .object
        .as_ref()
        .filter(|_| diagnostic.labels.is_empty())
    {
        lines.push(format!("  --> {object}"));
    }
    let notes = diagnostic
        .notes
        .iter()
        .map(|note| format!("  = note: {note}"));
    lines.extend(notes);
    lines.extend(
        diagnostic
            .help
            .iter()
            .map(|help| format!("  = help: {help}")),
    );
    lines
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bpfplan_plan::{Code, Diagnostic, Source};

    use super::lines;
    use crate::build::{BuildError, Inputs};

    #[test]
    fn a_failure_is_told_line_by_line() {
        let source = Source {
            file: "src/flow.bpf.c".into(),
            line: 7,
        };
        let error = Diagnostic::error(Code("BP0304"), "it does not fit\nat all")
            .map("outer")
            .field("values[1]")
            .at(Some(&source), "the outer map")
            .note("why")
            .help("do this");
        let warning = Diagnostic::warning(Code("BP0408"), "two names");
        let result = Err(BuildError::new(vec![error, warning]));
        let inputs = Inputs {
            files: vec![PathBuf::from("src/flow.bpf.c"), PathBuf::from("a\nb")],
            variables: vec!["CLANG"],
        };
        let expected = "\
cargo::rerun-if-env-changed=CLANG
cargo::rerun-if-changed=src/flow.bpf.c
cargo::error=[BP0304] map 'outer', values[1]: it does not fit\\nat all
cargo::error=  --> src/flow.bpf.c:7: the outer map
cargo::error=  = note: why
cargo::error=  = help: do this
cargo::warning=[BP0408] two names
";
        assert_eq!(lines(&inputs, &result), expected);
    }
}
