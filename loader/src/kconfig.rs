//! Kernel configuration values: what the externs of `.kconfig` are on the target machine.
//!
//! As in `bpf_object__resolve_externs` of libbpf: what starts with `LINUX_` is asked of the kernel,
//! what starts with `CONFIG_` comes from the text that the caller gives, then, if something is
//! still without a value, from `/boot/config-<release>` or else `/proc/config.gz`.

mod lines;
mod table;
mod value;
mod version;

use bpfplan_plan::{Diagnostic, Map, Plan, Severity};

use crate::codes;
use crate::kernel::{Errno, Feature, Kernel};

use table::Table;
pub use value::ExternValue;
use version::version_code;

/// Largest text of a kernel configuration, in bytes after decompression. Real ones have 300 KiB.
const MAX_TEXT: u64 = 16 << 20;

/// The text of a kernel configuration, such as `CONFIG_HZ=1000`, one option in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelConfig {
    /// What it is called in messages: the file that it is from.
    pub name: String,
    /// The text; it may be compressed by gzip.
    pub bytes: Vec<u8>,
}

/// A kernel configuration value of a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedExtern {
    /// Name, such as `CONFIG_HZ`.
    pub name: String,
    /// What it is on this machine.
    pub value: ExternValue,
    /// Where that is from.
    pub origin: Origin,
}

/// Where the value of an extern is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The kernel, asked by the loader.
    Kernel,
    /// A line of a kernel configuration.
    Line {
        /// Name of the file.
        file: String,
        /// The line, counted from 1.
        line: u64,
    },
    /// Nowhere: it is weak, and this kernel has no such value.
    Unset,
}

/// The values of a `.kconfig` map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The map's value without the zeros at its end.
    pub(crate) bytes: Vec<u8>,
    /// The values in the order of their places.
    pub(crate) externs: Vec<ResolvedExtern>,
    /// Warnings, and a note that says what was found.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Values of options as the text of a kernel configuration (`open_opts.kconfig` of libbpf), so that
/// another loader of the object gets the same ones: 0 for those that are not set, and no reason to
/// ask for the kernel's own configuration. It has no NUL.
#[must_use]
pub fn kconfig_text(externs: &[ResolvedExtern]) -> Vec<u8> {
    let mut text = Vec::new();
    let options = externs.iter();
    for option in options.filter(|it| it.name.starts_with(table::OPTION)) {
        text.extend_from_slice(option.name.as_bytes());
        text.push(b'=');
        text.extend(option.value.to_text());
        text.push(b'\n');
    }
    text
}

/// Finds the values of the plan's `.kconfig` map; `None` if it has no such map.
///
/// # Errors
/// A diagnostic for each value that cannot be had, or for what makes the configuration unreadable.
pub(crate) fn resolve<K: Kernel>(
    plan: &Plan,
    kernel: &K,
    given: Option<&KernelConfig>,
) -> Result<Option<Resolved>, Vec<Diagnostic>> {
    let Some(map) = plan.maps.iter().find(|map| !map.externs.is_empty()) else {
        return Ok(None);
    };
    let mut table = Table::new(map);
    ask_kernel(&mut table, map, kernel);
    table.check()?;
    if let Some(config) = given.filter(|_| table.wants_options()) {
        table.read(config);
        table.check()?;
    }
    if table.wants_options() {
        let config = kernel
            .config()
            .map_err(|errno| vec![unreadable(map, errno)])?;
        table.read(&config);
        table.check()?;
    }
    let mut resolved = table.finish()?;
    resolved.diagnostics.push(found(map, &resolved));
    Ok(Some(resolved))
}

/// Sets what is no option of the kernel's configuration.
fn ask_kernel<K: Kernel>(table: &mut Table<'_>, map: &Map, kernel: &K) {
    for (index, value) in map.externs.iter().enumerate() {
        if value.name.starts_with(table::OPTION) {
            continue;
        }
        match value.name.as_str() {
            "LINUX_KERNEL_VERSION" => match version_code(&kernel.identity()) {
                0 => table.refuse(
                    index,
                    codes::KCONFIG_UNKNOWN,
                    "the kernel's version cannot be read from its release",
                ),
                code => table.set_number(index, code.into(), Origin::Kernel),
            },
            "LINUX_HAS_BPF_COOKIE" => {
                let has = kernel.has(Feature::BpfCookie);
                table.set_number(index, has.into(), Origin::Kernel);
            }
            "LINUX_HAS_SYSCALL_WRAPPER" => {
                let has = kernel.has(Feature::SyscallWrapper);
                table.set_number(index, has.into(), Origin::Kernel);
            }
            name if name.starts_with("LINUX_") && value.weak => {
                table.set_number(index, 0, Origin::Unset);
            }
            name if name.starts_with("LINUX_") => table.refuse(
                index,
                codes::KCONFIG_UNKNOWN,
                "no such value is known, and it is not weak",
            ),
            _ => table.refuse(
                index,
                codes::KCONFIG_UNKNOWN,
                "names of kernel configuration values begin with CONFIG_ or LINUX_",
            ),
        }
    }
}

fn unreadable(map: &Map, errno: Errno) -> Diagnostic {
    Diagnostic::error(
        codes::KCONFIG_UNREADABLE,
        format!("the kernel's configuration cannot be read: {errno}"),
    )
    .map(&map.name)
    .note("asked for: /boot/config-<release>, and then /proc/config.gz (CONFIG_IKCONFIG_PROC)")
    .help("give the options with --kconfig FILE")
}

/// What the values are, for people.
fn found(map: &Map, resolved: &Resolved) -> Diagnostic {
    let count = resolved.externs.len();
    let message = match count {
        1 => "its value on this machine".to_owned(),
        count => format!("its {count} values on this machine"),
    };
    let note = Diagnostic::new(codes::RESOLVED, Severity::Note, message).map(&map.name);
    resolved.externs.iter().fold(note, |note, value| {
        let origin = match &value.origin {
            Origin::Kernel => String::new(),
            Origin::Line { file, line } => format!(" ({}:{line})", file.escape_debug()),
            Origin::Unset => " (not set)".to_owned(),
        };
        let name = value.name.escape_debug();
        note.note(format!("{name} = {}{origin}", value.value))
    })
}
