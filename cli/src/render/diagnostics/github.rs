//! Diagnostics as GitHub's workflow commands, which become annotations.

use bpfplan_plan::{Diagnostic, Severity};

use super::{headline, primary};
use crate::render::escape::plain;

/// Renders one `::error file=...,line=...,title=...::message` per diagnostic.
pub(crate) fn render(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(command).collect()
}

fn command(diagnostic: &Diagnostic) -> String {
    let level = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let mut properties = Vec::new();
    match (primary(diagnostic), &diagnostic.object) {
        (Some(label), _) => {
            properties.push(format!("file={}", property(&label.source.file)));
            properties.push(format!("line={}", label.source.line));
        }
        (None, Some(object)) => properties.push(format!("file={}", property(object))),
        (None, None) => {}
    }
    properties.push(format!("title={}", property(diagnostic.code.0)));
    let mut message = vec![headline(diagnostic)];
    let differences = diagnostic.differences.iter();
    message.extend(differences.map(|difference| plain(&difference.to_string()).into_owned()));
    message.extend(
        diagnostic
            .notes
            .iter()
            .map(|note| format!("note: {}", plain(note))),
    );
    message.extend(
        diagnostic
            .help
            .iter()
            .map(|help| format!("help: {}", plain(help))),
    );
    if let (Some(_), Some(object)) = (primary(diagnostic), &diagnostic.object) {
        message.push(format!("in {}", plain(object)));
    }
    format!(
        "::{level} {}::{}\n",
        properties.join(","),
        data(&message.join("\n"))
    )
}

/// Escapes a message as GitHub's `@actions/core` does (`escapeData`).
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Escapes a property as GitHub's `@actions/core` does (`escapeProperty`).
fn property(text: &str) -> String {
    data(&plain(text)).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use bpfplan_plan::{Code, Diagnostic, Source};

    #[test]
    fn nothing_breaks_out_of_a_command() {
        let source = Source {
            file: "a,b:c%\n::error::x.c".into(),
            line: 3,
        };
        let diagnostic = Diagnostic::error(Code("BP0001"), "50% of\n::warning::it")
            .map("m\r::stop-commands::x")
            .at(Some(&source), "here")
            .help("do");
        assert_eq!(
            super::render(&[diagnostic]),
            "::error file=a%2Cb%3Ac%25\\n%3A%3Aerror%3A%3Ax.c,line=3,title=BP0001::\
             map 'm\\r::stop-commands::x': 50%25 of\\n::warning::it%0Ahelp: do\n"
        );
    }
}
