//! `bpfplan man`.

use std::io::{self, Write as _};
use std::path::Path;

use bpfplan_plan::Diagnostic;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::args::{Cli, ManArgs};
use crate::codes;
use crate::exit::Exit;
use crate::output;
use crate::render::escape;

/// Prints a manual page, or writes all of them.
///
/// # Errors
/// As [`output::bytes`].
pub(crate) fn run(args: &ManArgs) -> io::Result<Exit> {
    let pages = pages()?;
    if let Some(directory) = &args.out {
        return Ok(match write_all(directory, &pages) {
            Ok(()) => Exit::Done,
            Err(error) => {
                let message = format!("the pages cannot be written: {error}");
                let mut diagnostic = Diagnostic::error(codes::UNWRITABLE, message);
                diagnostic.object = Some(directory.to_string_lossy().into_owned());
                output::diagnostics(&[diagnostic]);
                Exit::Refused
            }
        });
    }
    let name = match &args.command {
        Some(command) => format!("bpfplan-{command}"),
        None => "bpfplan".to_owned(),
    };
    if let Some((_, page)) = pages.iter().find(|(page, _)| *page == name) {
        output::bytes(page)?;
        return Ok(Exit::Done);
    }
    let known: Vec<&str> = pages
        .iter()
        .filter_map(|(page, _)| page.strip_prefix("bpfplan-"))
        .collect();
    let asked = args.command.as_deref().unwrap_or_default();
    output::talk(&format!(
        "error: there is no page for '{}'; there are pages for {}",
        escape::plain(asked),
        known.join(", "),
    ));
    Ok(Exit::Usage)
}

/// All pages with their names.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut commands = Vec::new();
    collect(root, &mut commands);
    commands.into_iter().map(page).collect()
}

/// The command and all below it, each before its subcommands.
fn collect(command: Command, commands: &mut Vec<Command>) {
    let subcommands: Vec<Command> = command.get_subcommands().cloned().collect();
    commands.push(command);
    for subcommand in subcommands {
        collect(subcommand, commands);
    }
}

fn page(mut command: Command) -> io::Result<(String, Vec<u8>)> {
    // `build` has set it: `bpfplan` or `bpfplan-<command>`.
    let name = command.get_display_name().unwrap_or("bpfplan").to_owned();
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    let extra = command.get_after_help().map(ToString::to_string);
    let subcommands = command.has_subcommands();
    let man = Man::new(command)
        .title(name.to_uppercase())
        .source(concat!("bpfplan ", env!("CARGO_PKG_VERSION")))
        .manual("bpfplan manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    section(&mut page, "SYNOPSIS", &usage)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    for (title, text) in extra.as_deref().map(sections).unwrap_or_default() {
        section(&mut page, title, text)?;
    }
    Ok((name, page))
}

/// The examples of a help text, and what stands behind them.
fn sections(help: &str) -> Vec<(&'static str, &str)> {
    let (examples, notes) = help.split_once("\n\n").unwrap_or((help, ""));
    let (_, examples) = examples.split_once('\n').unwrap_or_default();
    [("EXAMPLES", examples), ("NOTES", notes)]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .collect()
}

/// Writes a section whose lines stay as they are.
fn section(page: &mut Vec<u8>, title: &str, text: &str) -> io::Result<()> {
    writeln!(page, ".SH {title}\n.nf")?;
    for line in text.lines() {
        // Dots and quotes at the start of a line would be requests.
        let line = line.trim_start().replace('\\', "\\e").replace('-', "\\-");
        writeln!(page, "\\&{line}")?;
    }
    writeln!(page, ".fi")
}

fn write_all(directory: &Path, pages: &[(String, Vec<u8>)]) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    pages
        .iter()
        .try_for_each(|(name, page)| std::fs::write(directory.join(format!("{name}.1")), page))
}
