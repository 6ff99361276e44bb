//! The externs of a map while their values are looked for.

use std::collections::HashMap;

use bpfplan_plan::contents::stored;
use bpfplan_plan::{Code, Diagnostic, Extern, ExternKind, Map};

use super::lines::{Broken, Lines};
use super::value::{self, ExternValue, Misfit};
use super::{KernelConfig, MAX_TEXT, Origin, Resolved, ResolvedExtern};
use crate::codes;

/// What the names of options begin with.
pub(super) const OPTION: &str = "CONFIG_";
/// Characters of a line that a message shows.
const SHOWN: usize = 80;

/// The externs of a map, with the values that are known.
pub(super) struct Table<'a> {
    map: &'a Map,
    /// The options by name.
    options: HashMap<&'a [u8], usize>,
    values: Vec<Option<(ExternValue, Origin)>>,
    /// Externs whose value was refused: the first setting counts, so a later one does not help.
    refused: Vec<bool>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<'a> Table<'a> {
    pub(super) fn new(map: &'a Map) -> Self {
        let options = map.externs.iter().enumerate();
        let options = options.filter(|(_, it)| it.name.starts_with(OPTION));
        Self {
            map,
            options: options
                .map(|(index, it)| (it.name.as_bytes(), index))
                .collect(),
            values: vec![None; map.externs.len()],
            refused: vec![false; map.externs.len()],
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Whether the value of an option is not known yet.
    pub(super) fn wants_options(&self) -> bool {
        let mut options = self.options.values();
        options.any(|index| matches!(self.values.get(*index), Some(None)))
    }

    /// The errors so far.
    pub(super) fn check(&mut self) -> Result<(), Vec<Diagnostic>> {
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(std::mem::take(&mut self.errors))
    }

    /// Sets an extern to a number that is none of a configuration.
    pub(super) fn set_number(&mut self, index: usize, number: u64, origin: Origin) {
        let Some(to) = self.map.externs.get(index) else {
            return;
        };
        match value::fit(to, number) {
            Ok(value) => self.set(index, value, origin),
            Err(why) => {
                let message = format!("its value is {number}, and {why}");
                self.refuse(index, codes::KCONFIG_VALUE, &message);
            }
        }
    }

    pub(super) fn refuse(&mut self, index: usize, code: Code, message: &str) {
        if let Some(to) = self.map.externs.get(index) {
            self.errors.push(about(code, self.map, to, message));
        }
    }

    fn set(&mut self, index: usize, value: ExternValue, origin: Origin) {
        if let Some(place) = self.values.get_mut(index) {
            *place = Some((value, origin));
        }
    }

    /// Takes the values that are not known yet out of a configuration, which has to be well
    /// formed up to its end, as libbpf demands.
    pub(super) fn read(&mut self, config: &KernelConfig) {
        let mut lines = Lines::new(config);
        loop {
            match lines.next() {
                Ok(Some((number, line))) => {
                    if let Err(what) = self.line(config, number, &line) {
                        let message = format!("line {number} is no setting of an option: {what}");
                        self.errors.push(self.of_file(
                            config,
                            codes::KCONFIG_MALFORMED,
                            &message,
                            &line,
                        ));
                        return;
                    }
                }
                Ok(None) => return,
                Err(Broken::Damaged) => {
                    let message = "it does not decompress to its end";
                    let warning = self.of_file(config, codes::KCONFIG_DAMAGED, message, &[]);
                    self.warnings
                        .push(warning.note("what stands behind that is not seen by libbpf either"));
                    return;
                }
                Err(Broken::TooLarge) => {
                    let message = format!("it is larger than {} MiB", MAX_TEXT >> 20);
                    let error = self.of_file(config, codes::KCONFIG_UNREADABLE, &message, &[]);
                    self.errors.push(error);
                    return;
                }
            }
        }
    }

    /// `bpf_object__process_kconfig_line` of libbpf.
    fn line(
        &mut self,
        config: &KernelConfig,
        number: u64,
        line: &[u8],
    ) -> Result<(), &'static str> {
        if !line.starts_with(OPTION.as_bytes()) {
            return Ok(());
        }
        let at = line.iter().position(|byte| *byte == b'=');
        let (name, text) = at
            .and_then(|at| line.split_at_checked(at))
            .ok_or("no `=`")?;
        let text = text.get(1..).unwrap_or_default();
        if text.is_empty() {
            return Err("no value");
        }
        let map = self.map;
        let Some(index) = self.options.get(name).copied() else {
            return Ok(());
        };
        let known = matches!(self.values.get(index), Some(Some(_)));
        let refused = self.refused.get(index).copied().unwrap_or_default();
        let Some(to) = map.externs.get(index).filter(|_| !known && !refused) else {
            return Ok(());
        };
        match value::parse(to, text) {
            Ok((value, cut)) => {
                if cut {
                    self.warnings.push(shortened(map, to, config, number));
                }
                let file = config.name.clone();
                self.set(index, value, Origin::Line { file, line: number });
            }
            Err(why) => {
                if let Some(refused) = self.refused.get_mut(index) {
                    *refused = true;
                }
                self.errors.push(misfit(map, to, why).note(format!(
                    "{}:{number} says {}",
                    config.name.escape_debug(),
                    shown(line)
                )));
            }
        }
        Ok(())
    }

    /// The bytes and values, once all that can be known is known.
    pub(super) fn finish(mut self) -> Result<Resolved, Vec<Diagnostic>> {
        let map = self.map;
        let mut resolved = Resolved::default();
        for (to, value) in map.externs.iter().zip(self.values) {
            if value.is_none() && !to.weak {
                let message = "this kernel's configuration has no such option";
                let error = about(codes::KCONFIG_MISSING, map, to, message);
                self.errors.push(error.help(
                    "declare it __weak, so that it is 0 then, or set it with --kconfig FILE",
                ));
                continue;
            }
            let unset = || (ExternValue::unset(to.kind), Origin::Unset);
            let (value, origin) = value.unwrap_or_else(unset);
            let start = usize::try_from(to.offset).unwrap_or(usize::MAX);
            let bytes = value.to_bytes(to);
            if !stored(&bytes).is_empty() {
                // Validation has bounded the offsets.
                resolved.bytes.resize(start, 0);
                resolved.bytes.extend_from_slice(stored(&bytes));
            }
            resolved.externs.push(ResolvedExtern {
                name: to.name.clone(),
                value,
                origin,
            });
        }
        if !self.errors.is_empty() {
            self.errors.append(&mut self.warnings);
            return Err(self.errors);
        }
        resolved.diagnostics = self.warnings;
        Ok(resolved)
    }

    /// About a configuration; `line` is shown if it is not empty.
    fn of_file(&self, config: &KernelConfig, code: Code, message: &str, line: &[u8]) -> Diagnostic {
        let message = format!("the kernel configuration {}: {message}", config.name);
        let diagnostic = if code == codes::KCONFIG_DAMAGED {
            Diagnostic::warning(code, message)
        } else {
            Diagnostic::error(code, message)
        };
        let diagnostic = diagnostic.map(&self.map.name);
        match line {
            [] => diagnostic,
            line => diagnostic.note(format!("it says {}", shown(line))),
        }
    }
}

fn about(code: Code, map: &Map, to: &Extern, message: &str) -> Diagnostic {
    let name = to.name.escape_debug();
    Diagnostic::error(code, format!("extern '{name}': {message}"))
        .map(&map.name)
        .at(to.source.as_ref(), "declared here")
}

fn misfit(map: &Map, to: &Extern, why: Misfit) -> Diagnostic {
    let message = format!("its setting does not fit: {why}");
    let size = to.size;
    let declared = match to.kind {
        ExternKind::Bool => "a bool".to_owned(),
        ExternKind::Char => "a signed char".to_owned(),
        ExternKind::UnsignedChar => "an unsigned char".to_owned(),
        ExternKind::Tristate => "enum libbpf_tristate".to_owned(),
        ExternKind::Signed => format!("a signed integer of {size} bytes"),
        ExternKind::Unsigned => format!("an unsigned integer of {size} bytes"),
        ExternKind::String => format!("char[{size}]"),
    };
    about(codes::KCONFIG_VALUE, map, to, &message)
        .note(format!("the object declares it as {declared}"))
}

fn shortened(map: &Map, to: &Extern, config: &KernelConfig, number: u64) -> Diagnostic {
    let room = to.size.saturating_sub(1);
    let name = to.name.escape_debug();
    let message = format!("extern '{name}': its string is cut to {room} bytes, more do not fit");
    Diagnostic::warning(codes::KCONFIG_CUT, message)
        .map(&map.name)
        .at(to.source.as_ref(), "declared here")
        .note(format!("set by {}:{number}", config.name.escape_debug()))
}

/// A line of a configuration for a message.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown = String::new();
    for char in text.chars().take(SHOWN) {
        if char.is_control() {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    let more = if text.chars().nth(SHOWN).is_some() {
        "…"
    } else {
        ""
    };
    format!("`{shown}{more}`")
}
