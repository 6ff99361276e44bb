//! Overrides: what a user sets or leaves out between compiling and loading.
//!
//! An [`Override`] is written `TARGET=VALUE`; the first `=` ends the target.
//!
//! ```text
//! TARGET    MAP.FIELD              an attribute of a map
//!           MAP.inner.FIELD        an attribute of its inner template
//!           MAP.VARIABLE           a variable in a map of global data
//!           MAP.VARIABLE.MEMBER    a member of it, which may follow [INDEX] as well
//!           MAP.VARIABLE[INDEX]    an element of it
//! FIELD     max_entries | map_flags | numa_node | pinning | value_size
//! VALUE     for max_entries, numa_node, value_size, integers: 4096, 0x1000, -5, 64Ki, 10M, 'x'
//!           for map_flags: a number, or names such as BPF_F_NO_PREALLOC, joined by |
//!           for pinning: none, by_name
//!           for bools: true, false, 1, 0
//!           for enums: the name of an enumerator, or a number
//!           for float and double: 0.75, 1e9
//!           for arrays: [1, 2, 3]; elements that are left out are 0, as in C
//!           for arrays of char: "text" with the escapes of C, or text without quotes;
//!           a NUL follows it and has to fit
//! ```
//!
//! **Names with dots.** `MAP` is the longest name of a map that the target begins with. A map of
//! global data is also known by the name of its section, so `.rodata.limit` is the variable
//! `limit` of `flow.rodata`, and in an object with a section `.rodata.cfg`, `.rodata.cfg.limit` is
//! the variable `limit` of that section.
//!
//! **Unambiguous spellings.** `MAP:VARIABLE` is always a variable, `MAP/FIELD` always a field. With
//! a dot between them, a name that is a field as well as a variable of the map is refused.
//!
//! **Order.** What an override sets, no other one may set, so the order of overrides does not
//! matter. All are applied or none. The result is a plan like any other: it passes
//! [`crate::validate`], and an override that the kernel would refuse ([`crate::rules`]) is refused.
//!
//! ```
//! # use bpfplan_plan::{Plan, overrides::Overrides};
//! # fn configured(plan: &Plan) -> Result<Plan, Box<dyn std::error::Error>> {
//! let overrides = Overrides::default()
//!     .with("flows.max_entries=64Ki".parse()?)
//!     .set(".rodata.device", "eth0")
//!     .set(".rodata.ports", vec![80, 443])
//!     .skip("debug");
//! let overridden = overrides.apply(plan).map_err(|problems| format!("{problems:?}"))?;
//! for warning in &overridden.warnings {
//!     eprintln!("{warning}");
//! }
//! # Ok(overridden.plan)
//! # }
//! ```

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::diagnostic::Diagnostic;
use crate::model::Plan;
use crate::{trim, validate};

mod change;
mod data;
mod field;
mod fits;
mod integer;
mod near;
mod path;
mod problem;
mod resize;
mod skip;
mod target;
mod typed;
mod types;
mod value;

use change::Changes;
use target::Names;
pub use value::Value;

/// Longest text of an override.
const MAX_TEXT: usize = 1 << 20;
/// Longest target.
const MAX_TARGET: usize = 4096;

/// One value that is set: `TARGET=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    target: String,
    value: Value,
}

/// Why text is no [`Override`]; what it means for a plan is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// There is no `=`, or nothing before it.
    #[error("write TARGET=VALUE, such as flows.max_entries=64Ki or .rodata.limit=10")]
    NoTarget,
    /// The text is longer than 1 MiB, or the target longer than 4096 bytes.
    #[error("the override is too long")]
    TooLong,
    /// Quotes or brackets of the value do not match.
    #[error("the value does not read: {0}")]
    Value(String),
}

impl Override {
    /// Sets `target` to `value`.
    #[must_use]
    pub fn new(target: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            target: target.into(),
            value: value.into(),
        }
    }

    /// What is set, as it was written.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// What it is set to.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }
}

impl FromStr for Override {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_TEXT {
            return Err(ParseError::TooLong);
        }
        let (target, value) = text.split_once('=').ok_or(ParseError::NoTarget)?;
        if target.is_empty() {
            return Err(ParseError::NoTarget);
        }
        if target.len() > MAX_TARGET {
            return Err(ParseError::TooLong);
        }
        let value = Value::parse(value).map_err(ParseError::Value)?;
        Ok(Self::new(target, value))
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.target, self.value)
    }
}

/// What a user decides about a plan before it is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// What is set.
    pub set: Vec<Override>,
    /// Names of maps that are not created (`bpf_map__set_autocreate` of libbpf); a map that
    /// stands here twice is left out as well.
    pub skip: Vec<String>,
}

/// A plan after overrides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overridden {
    /// The plan.
    pub plan: Plan,
    /// What should be known about the overrides although they are applied.
    pub warnings: Vec<Diagnostic>,
}

impl Overrides {
    /// Adds an override.
    #[must_use]
    pub fn with(mut self, set: Override) -> Self {
        self.set.push(set);
        self
    }

    /// Adds the override of `target` to `value`.
    #[must_use]
    pub fn set(self, target: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with(Override::new(target, value))
    }

    /// Adds a map that is not created.
    #[must_use]
    pub fn skip(mut self, map: impl Into<String>) -> Self {
        self.skip.push(map.into());
        self
    }

    /// Whether nothing is set and no map is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.skip.is_empty()
    }

    /// Applies everything to a plan that passes [`validate::validate`].
    ///
    /// # Errors
    /// All problems: names that are not there, values that their targets cannot hold, maps that
    /// cannot be left out; if there are none of these, what the kernel would refuse because of an
    /// override; and what is wrong with the plan itself.
    pub fn apply(&self, plan: &Plan) -> Result<Overridden, Vec<Diagnostic>> {
        if self.is_empty() {
            return Ok(Overridden {
                plan: plan.clone(),
                warnings: Vec::new(),
            });
        }
        let names = Names::new(plan);
        let mut problems = problem::List::default();
        let skipped: HashSet<usize> = skip::find(plan, &names, &self.skip, &mut problems);
        let mut changes = Changes::new(plan);
        for set in &self.set {
            if problems.is_full() {
                break;
            }
            if let Err(problem) = changes.add(&names, &skipped, set) {
                problems.add(problem);
            }
        }
        let mut changed = changes.apply(&mut problems);
        problems.finish()?;
        skip::remove(&mut changed.plan, &skipped);
        trim::trim(&mut changed.plan).map_err(|error| vec![problem::types(&error)])?;
        let mut warnings = changed.warnings;
        warnings.extend(fits::check(plan, &changed.plan, &changed.set)?);
        validate::validate(&changed.plan)?;
        Ok(Overridden {
            plan: changed.plan,
            warnings,
        })
    }
}
