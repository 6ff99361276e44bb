//! Diagnostics for people, in the look of rustc.

use annotate_snippets::renderer::Renderer;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Snippet};
use bpfplan_plan::{Diagnostic, Label, Severity};

use super::source::Sources;
use super::{differences, headline};
use crate::render::escape::plain;

/// Renders the diagnostics with an empty line after each.
pub(crate) fn render(diagnostics: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut sources = Sources::default();
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&renderer.render(&[group(diagnostic, &mut sources)]));
        text.push_str("\n\n");
        if let Some(log) = &diagnostic.log {
            text.push_str(&whole_log(diagnostic, log));
        }
    }
    text
}

/// The verifier's log, with an empty line after it.
fn whole_log(diagnostic: &Diagnostic, log: &str) -> String {
    let program = diagnostic.program.as_deref().unwrap_or_default();
    let mut text = format!("the verifier's log of program '{}':\n", plain(program));
    text.reserve(log.len());
    for line in log.lines() {
        for (place, part) in line.split('\t').enumerate() {
            if place > 0 {
                text.push('\t');
            }
            text.push_str(&plain(part));
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

fn group<'a>(diagnostic: &Diagnostic, sources: &mut Sources) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut group = Group::with_title(
        level
            .primary_title(headline(diagnostic))
            .id(diagnostic.code.0.to_owned()),
    );
    let mut notes = Vec::new();
    for (n, label) in diagnostic.labels.iter().enumerate() {
        let path = plain(&label.source.file).into_owned();
        let message = plain(&label.message).into_owned();
        let line = usize::try_from(label.source.line).unwrap_or(usize::MAX);
        match sources.line(&label.source, &names(diagnostic, label)) {
            Some(found) => {
                let kind = if n == 0 {
                    AnnotationKind::Primary
                } else {
                    AnnotationKind::Context
                };
                let annotation = kind.span(found.span).label(message);
                group = group.element(
                    Snippet::source(found.text)
                        .path(path)
                        .line_start(line)
                        .annotation(annotation),
                );
            }
            None if n == 0 => {
                group = group.element(Origin::path(path).line(line));
                // The arrow says this much.
                let says_more = !message.is_empty() && message != "declared here";
                notes.extend(says_more.then_some(message));
            }
            None => notes.push(format!("{path}:{line}: {message}")),
        }
    }
    if let Some(object) = &diagnostic.object {
        if diagnostic.labels.is_empty() {
            group = group.element(Origin::path(plain(object).into_owned()));
        } else {
            notes.push(format!("in {}", plain(object)));
        }
    }
    notes.extend(differences::table(&diagnostic.differences));
    notes.extend(diagnostic.notes.iter().map(|note| plain(note).into_owned()));
    group = group.elements(notes.into_iter().map(|note| Level::NOTE.message(note)));
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(plain(help).into_owned()));
    }
    group
}

/// Names that the line of a label may be shown for: the map, or what the label quotes.
fn names<'a>(diagnostic: &'a Diagnostic, label: &'a Label) -> Vec<&'a str> {
    let map = diagnostic.map.as_deref();
    let outer = map.and_then(|map| map.strip_suffix(".inner"));
    let quoted = [&label.message, &diagnostic.message]
        .into_iter()
        .flat_map(|text| text.split('\'').skip(1).step_by(2));
    let mut names: Vec<&str> = map.into_iter().chain(outer).collect();
    if diagnostic.labels.first() == Some(label) {
        names.extend(quoted);
        names
    } else {
        // A further label is about something else first.
        quoted.chain(names).collect()
    }
}
