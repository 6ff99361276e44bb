//! All overrides of a plan together.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::data::{self, Contents};
use super::field::{self, Field, Wrong};
use super::path::Variables;
use super::problem::{self, List};
use super::target::{Names, Part, Target};
use super::typed::Writer;
use super::{Override, resize, types};
use crate::codes;
use crate::contents::MAX_TOTAL;
use crate::diagnostic::Diagnostic;
use crate::model::{Map, Plan};
use crate::rules::layout::size_of;

/// The overrides that name something, sorted by what they set.
pub(super) struct Changes<'a> {
    plan: &'a Plan,
    fields: Vec<FieldChange<'a>>,
    values: Vec<(&'a Override, usize, &'a str)>,
    seen: HashSet<(usize, bool, Field)>,
    /// The variables of the maps that were asked about.
    variables: HashMap<usize, Variables<'a>>,
}

/// A field that is set.
#[derive(Clone, Copy)]
pub(super) struct FieldChange<'a> {
    set: &'a Override,
    map: usize,
    inner: bool,
    field: Field,
}

/// A plan with everything set.
pub(super) struct Changed<'a> {
    pub(super) plan: Plan,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) set: Vec<Set<'a>>,
}

/// An override, and the names that diagnostics use for what it sets.
pub(super) struct Set<'a> {
    pub(super) set: &'a Override,
    pub(super) map: String,
    pub(super) field: String,
}

impl<'a> Changes<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            fields: Vec::new(),
            values: Vec::new(),
            seen: HashSet::new(),
            variables: HashMap::new(),
        }
    }

    /// Adds an override.
    ///
    /// # Errors
    /// Its target is not there, left out, ambiguous, or set already.
    pub(super) fn add(
        &mut self,
        names: &Names<'a>,
        skipped: &HashSet<usize>,
        set: &'a Override,
    ) -> Result<(), Diagnostic> {
        let Target { map: index, part } = names.resolve(set)?;
        let Some(map) = self.plan.maps.get(index) else {
            return Ok(());
        };
        if skipped.contains(&index) {
            let message = "it is set although the map is left out";
            return Err(problem::of(set, codes::OVERRIDE_SKIPPED, message)
                .map(&map.name)
                .help("either skip the map or set something of it"));
        }
        let (inner, field) = match part {
            Part::Field(field) => (false, field),
            Part::Inner(field) => (true, field),
            Part::Variable { path, or_field } => {
                let plan = self.plan;
                let variables = self
                    .variables
                    .entry(index)
                    .or_insert_with(|| Variables::of(plan, map));
                match or_field {
                    Some(_) if variables.has(path) => return Err(ambiguous(set, map, path)),
                    Some(field) => (false, field),
                    None => {
                        self.values.push((set, index, path));
                        return Ok(());
                    }
                }
            }
        };
        if !self.seen.insert((index, inner, field)) {
            let name = spelled(inner, field);
            let message = format!("{name} is set twice");
            return Err(problem::about(
                set,
                codes::OVERRIDE_TWICE,
                map,
                &name,
                message,
            ));
        }
        self.fields.push(FieldChange {
            set,
            map: index,
            inner,
            field,
        });
        Ok(())
    }

    /// Sets everything. What does not go becomes a problem.
    pub(super) fn apply(self, problems: &mut List) -> Changed<'a> {
        let mut changed = Changed {
            plan: self.plan.clone(),
            warnings: Vec::new(),
            set: Vec::new(),
        };
        for change in &self.fields {
            if let Err(problem) = changed.field(*change) {
                problems.add(problem);
            }
        }
        let of = |wanted: &[Field]| -> BTreeSet<usize> {
            let changes = self
                .fields
                .iter()
                .filter(|change| wanted.contains(&change.field));
            changes.map(|change| change.map).collect()
        };
        let resized = of(&[Field::ValueSize]);
        if let Some(problem) = too_much(&changed.plan).filter(|_| !resized.is_empty()) {
            problems.add(problem);
            return changed;
        }
        let decided = of(&[Field::MapFlags, Field::ValueSize]);
        types::decide(&mut changed.plan, &decided, &mut changed.warnings);
        let contents = changed.variables(&self.values, &resized, problems);
        data::store(&mut changed.plan, contents);
        changed
    }
}

impl<'a> Changed<'a> {
    fn field(&mut self, change: FieldChange<'a>) -> Result<(), Diagnostic> {
        let FieldChange {
            set,
            map: index,
            inner,
            field,
        } = change;
        let name = spelled(inner, field);
        let Some(map) = self.plan.maps.get_mut(index) else {
            return Ok(());
        };
        let result = match &mut map.inner {
            Some(_) if inner && matches!(field, Field::Pinning | Field::ValueSize) => Err(
                Wrong::refused(format!("{} of a template cannot be set", field.name())),
            ),
            Some(template) if inner => field::set(template, field, set.value()),
            _ if field == Field::ValueSize => {
                resize::value_size(&mut self.plan, index, set.value())
                    .map(|warning| self.warnings.extend(warning))
            }
            _ => field::set(map, field, set.value()),
        };
        let Some(map) = self.plan.maps.get(index) else {
            return Ok(());
        };
        result.map_err(|wrong| worded(set, map, &name, wrong))?;
        self.set.push(Set {
            set,
            map: map.name.clone(),
            field: name,
        });
        Ok(())
    }

    /// The contents with the values of variables written into them, by index of the map.
    fn variables(
        &mut self,
        values: &[(&'a Override, usize, &'a str)],
        resized: &BTreeSet<usize>,
        problems: &mut List,
    ) -> HashMap<usize, Vec<u8>> {
        let mut contents = Contents::new(&self.plan, resized);
        let mut writer = Writer::new(&self.plan.types, self.plan.object.endianness);
        let mut variables = HashMap::new();
        for (set, index, path) in values {
            let Some(map) = self.plan.maps.get(*index) else {
                continue;
            };
            let known = variables
                .entry(*index)
                .or_insert_with(|| Variables::of(&self.plan, map));
            let result = known.find(path).and_then(|place| {
                let size = size_of(&self.plan.types, place.ty);
                let out = contents.place(*index, map, set, place.offset, size)?;
                writer.write(place.ty, set.value(), out)
            });
            match result {
                Ok(()) => self.set.push(Set {
                    set,
                    map: map.name.clone(),
                    field: (*path).to_owned(),
                }),
                Err(wrong) => problems.add(worded(set, map, &problem::shown(path), wrong)),
            }
            if problems.is_full() {
                break;
            }
        }
        contents.finish(problems)
    }
}

/// The name of a field as diagnostics of the rules spell it.
fn spelled(inner: bool, field: Field) -> String {
    let prefix = if inner { "values." } else { "" };
    format!("{prefix}{}", field.name())
}

fn worded(set: &Override, map: &Map, field: &str, wrong: Wrong) -> Diagnostic {
    let message = if wrong.code == codes::OVERRIDE_NAME {
        wrong.message
    } else {
        format!("{field}: {}", wrong.message)
    };
    let found = problem::about(set, wrong.code, map, field, message);
    match wrong.help {
        Some(help) => found.help(help),
        None => found,
    }
}

fn ambiguous(set: &Override, map: &Map, name: &str) -> Diagnostic {
    let message = format!("{name} is a field of the map and a variable in it");
    let text = set.target();
    let head = text
        .strip_suffix(name)
        .and_then(|head| head.strip_suffix('.'))
        .unwrap_or(text);
    let head = problem::shown(head);
    problem::about(set, codes::OVERRIDE_AMBIGUOUS, map, name, message).help(format!(
        "write {head}:{name} for the variable, {head}/{name} for the field"
    ))
}

/// More initial contents than a plan may have.
fn too_much(plan: &Plan) -> Option<Diagnostic> {
    let sizes = plan.maps.iter().filter(|map| map.data.is_some());
    let total: u64 = sizes.map(|map| u64::from(map.value_size)).sum();
    (total > MAX_TOTAL).then(|| {
        let message = format!(
            "with the overridden value_size, global data has {total} bytes; a plan has up to \
             {MAX_TOTAL}"
        );
        Diagnostic::error(codes::OVERRIDE_REFUSED, message).field("value_size")
    })
}
