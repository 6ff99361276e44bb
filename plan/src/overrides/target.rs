//! What a target names.

use std::collections::HashMap;

use super::field::Field;
use super::{MAX_TARGET, Override, near, problem};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::globals::section_name;
use crate::model::{Map, Plan};

/// The maps by their names and, those of global data, by the names of their sections.
pub(super) struct Names<'p> {
    maps: HashMap<&'p str, usize>,
    plan: &'p Plan,
}

/// What an override sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'t> {
    /// Index of the map in the plan.
    pub(super) map: usize,
    pub(super) part: Part<'t>,
}

/// A part of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Field(Field),
    /// A field of the inner template.
    Inner(Field),
    /// A variable with what may follow it; `or_field` if the text between may be that as well.
    Variable {
        path: &'t str,
        or_field: Option<Field>,
    },
}

impl<'p> Names<'p> {
    pub(super) fn new(plan: &'p Plan) -> Self {
        // A map's own name comes first (`bpf_object__find_map_by_name` takes both).
        let names = plan.maps.iter().map(|map| Some(map.name.as_str()));
        let sections = plan.maps.iter().map(|map| section_name(plan, map));
        let mut maps = HashMap::new();
        for (index, name) in names.enumerate().chain(sections.enumerate()) {
            if let Some(name) = name {
                maps.entry(name).or_insert(index);
            }
        }
        Self { maps, plan }
    }

    /// The map of that name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.maps.get(name).copied()
    }

    /// Names that a user may have meant.
    pub(super) fn near(&self, name: &str) -> Option<String> {
        let names = self.plan.maps.iter().map(|map| map.name.as_str());
        let sections = self
            .plan
            .maps
            .iter()
            .filter_map(|map| section_name(self.plan, map));
        near::help(name, "maps are", names.chain(sections))
    }

    /// Resolves a target.
    pub(super) fn resolve<'t>(&self, set: &'t Override) -> Result<Target<'t>, Diagnostic> {
        let text = set.target();
        if text.len() > MAX_TARGET {
            let message = "the target is too long";
            return Err(problem::of(set, codes::OVERRIDE_NAME, message));
        }
        let Some((index, map, separator, rest)) = self.split(text) else {
            return Err(self.no_map(set));
        };
        if section_name(self.plan, map) == Some(KCONFIG) {
            return Err(kconfig(set).map(&map.name));
        }
        let part = match (&map.data, separator) {
            (Some(_), ':') => Part::Variable {
                path: rest,
                or_field: None,
            },
            (Some(_), '.') => Part::Variable {
                path: rest,
                or_field: Field::from_name(rest),
            },
            (None, ':') => {
                let message = "it holds no variables: only maps of global data do";
                return Err(problem::about(
                    set,
                    codes::OVERRIDE_NAME,
                    map,
                    rest,
                    message,
                ));
            }
            _ => field(set, map, rest)?,
        };
        Ok(Target { map: index, part })
    }

    /// The map with the longest name that the target begins with, what ends the name, and what
    /// follows.
    fn split<'t>(&self, text: &'t str) -> Option<(usize, &'p Map, char, &'t str)> {
        text.char_indices().rev().find_map(|(end, c)| {
            if !matches!(c, '.' | ':' | '/') {
                return None;
            }
            let index = self.find(text.get(..end)?)?;
            let rest = text.get(end.checked_add(c.len_utf8())?..)?;
            Some((index, self.plan.maps.get(index)?, c, rest))
        })
    }

    fn no_map(&self, set: &Override) -> Diagnostic {
        let text = set.target();
        if let Some(index) = self.find(text) {
            let message = "the target is a whole map, not a field or variable of it";
            let found = problem::of(set, codes::OVERRIDE_NAME, message);
            let variable = self
                .plan
                .maps
                .get(index)
                .is_some_and(|map| map.data.is_some());
            let example = if variable { "VARIABLE" } else { "max_entries" };
            return found.help(format!("write {}.{example}=…", problem::shown(text)));
        }
        // libbpf calls the map of .kconfig after the object, as it does those of global data.
        let section = text.find('.').and_then(|dot| text.get(dot..));
        let values = section.and_then(|section| section.strip_prefix(KCONFIG));
        if values.is_some_and(|values| values.starts_with(['.', ':', '/'])) {
            return kconfig(set);
        }
        // A name of a section begins with a dot of its own.
        let tail = text.char_indices().skip(1);
        let end = tail.into_iter().find(|(_, c)| matches!(c, '.' | ':' | '/'));
        let name = end.and_then(|(end, _)| text.get(..end)).unwrap_or(text);
        let message = format!("there is no map '{}'", problem::shown(name));
        let found = problem::of(set, codes::OVERRIDE_NAME, message);
        match self.near(name) {
            Some(help) => found.help(help),
            None => found,
        }
    }
}

/// Section of the kernel's configuration.
const KCONFIG: &str = ".kconfig";

fn kconfig(set: &Override) -> Diagnostic {
    let message = "values of .kconfig come from the kernel's configuration and cannot be set";
    problem::of(set, codes::OVERRIDE_REFUSED, message)
        .help("give the loader a configuration with --kconfig FILE")
}

/// `FIELD` or `inner.FIELD`.
fn field<'t>(set: &Override, map: &Map, text: &str) -> Result<Part<'t>, Diagnostic> {
    let inner = text
        .strip_prefix("inner.")
        .or_else(|| text.strip_prefix("inner/"));
    let name = inner.unwrap_or(text);
    let Some(field) = Field::from_name(name) else {
        let message = format!(
            "'{}' is no field that can be overridden",
            problem::shown(name)
        );
        let found = problem::about(
            set,
            codes::OVERRIDE_NAME,
            map,
            &problem::shown(text),
            message,
        );
        let help = near::help(name, "fields are", Field::ALL.map(Field::name));
        return Err(match help {
            Some(help) => found.help(help),
            None => found,
        });
    };
    match inner {
        None => Ok(Part::Field(field)),
        Some(_) if map.inner.is_some() => Ok(Part::Inner(field)),
        Some(_) => {
            let message = "it has no inner template: only maps of maps do";
            Err(problem::about(
                set,
                codes::OVERRIDE_NAME,
                map,
                "inner",
                message,
            ))
        }
    }
}
