//! What is wrong with a declaration.

use std::rc::Rc;

use bpfplan_plan::{Code, Diagnostic, Severity, Source};

/// A problem of a member, whatever the map's name.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(super) severity: Severity,
    code: Code,
    /// Whether it is about the inner template.
    pub(super) inner: bool,
    field: String,
    message: String,
    pub(super) note: Option<&'static str>,
    help: Option<String>,
}

impl Fault {
    pub(super) fn new(code: Code, field: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            inner: false,
            field: field.to_owned(),
            message: message.into(),
            note: None,
            help: None,
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The diagnostic for a map that has this problem.
    pub(crate) fn diagnostic(&self, map: &str, source: Option<&Source>) -> Diagnostic {
        let field = match (self.inner, self.field.as_str()) {
            (false, field) => field.to_owned(),
            (true, "") => "values".to_owned(),
            (true, field) => format!("values.{field}"),
        };
        let mut diagnostic = Diagnostic::new(self.code, self.severity, self.message.clone())
            .map(map)
            .at(source, "declared here");
        if !field.is_empty() {
            diagnostic = diagnostic.field(field);
        }
        diagnostic.notes.extend(self.note.map(str::to_owned));
        diagnostic.help.clone_from(&self.help);
        diagnostic
    }
}

/// All problems of a struct. Many maps can share a struct, and many structs a template.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    own: Option<Rc<[Fault]>>,
    template: Option<Rc<[Fault]>>,
    /// How many of them are errors.
    pub(crate) errors: usize,
}

impl Faults {
    pub(super) fn new(own: Vec<Fault>, template: Self) -> Self {
        let errors = own.iter().filter(|it| it.severity == Severity::Error);
        Self {
            errors: errors.count().saturating_add(template.errors),
            own: (!own.is_empty()).then(|| own.into()),
            template: template.own,
        }
    }

    /// The problems, those of the template last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Fault> {
        let both = [&self.own, &self.template];
        both.into_iter().flatten().flat_map(|faults| faults.iter())
    }
}
