//! The table of the results, as Markdown.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::figures::{Figures, Loader, Measured, Object};

const BEGIN: &str = "<!-- measured by `cargo xtask bench`; do not edit by hand -->";
const END: &str = "<!-- end of what was measured -->";

/// Loaders that open an object.
const OPENERS: [Loader; 4] = [
    Loader::Bpfplan,
    Loader::Libbpf,
    Loader::LibbpfRs,
    Loader::Aya,
];

/// Which loader's time is divided by which other's.
const RATIOS: [(Loader, Loader); 4] = [
    (Loader::Libbpf, Loader::Bpfplan),
    (Loader::LibbpfRs, Loader::Bpfplan),
    (Loader::Aya, Loader::Bpfplan),
    (Loader::Libbpf, Loader::Ahead),
];

/// Puts a table between the two marks of a text.
pub(crate) fn replace(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text
        .split_once(BEGIN)
        .with_context(|| format!("the file has no line `{BEGIN}`"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("the file has no line `{END}`"))?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

/// The tables that the figures have something for.
pub(crate) fn markdown(figures: &Figures) -> String {
    let mut text = introduction(figures);
    let mut section = |title: &str, head: &[String], cell: &dyn Fn(&Object, usize) -> String| {
        let rows = rows(figures, head, cell);
        if !rows.is_empty() {
            let _ = write!(text, "\n### {title}\n\n{rows}");
        }
    };
    let names = |loaders: &[Loader]| -> Vec<String> {
        loaders
            .iter()
            .map(|loader| loader.name().to_owned())
            .collect()
    };
    section(
        "Load: object to every map and every slot, median ms",
        &names(&Loader::ALL),
        &|object, column| {
            let loader = Loader::ALL.get(column);
            number(loader.and_then(|loader| object.median_ms(*loader)))
        },
    );
    section(
        "Load: how many times faster",
        &RATIOS.map(|(slow, fast)| format!("{} ÷ {}", slow.name(), fast.name())),
        &|object, column| {
            let ratio = RATIOS.get(column);
            number(ratio.and_then(|(slow, fast)| object.times(*slow, *fast)))
        },
    );
    section(
        "Open: object to plan, thousand instructions",
        &names(&OPENERS),
        &|object, column| {
            let measured = of(object, &OPENERS, column);
            let count = measured.and_then(|measured| measured.open_instructions);
            number(count.map(|count| count as f64 / 1e3))
        },
    );
    section(
        "System calls of a load: `bpf` + others",
        &names(&Loader::ALL),
        &|object, column| {
            let measured = of(object, &Loader::ALL, column);
            let calls = measured.and_then(|measured| measured.calls);
            calls.map_or_else(
                || "-".to_owned(),
                |(bpf, others)| format!("{bpf} + {others}"),
            )
        },
    );
    section(
        "Peak memory of a process that loads once, MiB",
        &names(&Loader::ALL),
        &|object, column| {
            let measured = of(object, &Loader::ALL, column);
            let peak = measured.and_then(|measured| measured.peak_kib);
            number(peak.map(|peak| peak as f64 / 1024.0))
        },
    );
    text
}

fn introduction(figures: &Figures) -> String {
    let machine = &figures.machine;
    let peers: Vec<String> = machine
        .peers
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    format!(
        "{}, Linux {}, {} cores of {}{}; load average at the start {:.2}. {}; objects by {}. Peers: \
         {}.\n",
        machine.date,
        machine.kernel,
        machine.cores,
        machine.cpu,
        if machine.is_virtual {
            " in a virtual machine"
        } else {
            ""
        },
        machine.busy,
        machine.rustc,
        machine.clang,
        peers.join(", ")
    )
}

fn of<'a>(object: &'a Object, loaders: &[Loader], column: usize) -> Option<&'a Measured> {
    object.loaders.get(loaders.get(column)?)
}

/// A table; nothing if no cell has a value.
fn rows(figures: &Figures, head: &[String], cell: &dyn Fn(&Object, usize) -> String) -> String {
    let mut text = format!("| object | {} |\n|---|", head.join(" | "));
    text.push_str(&"--:|".repeat(head.len()));
    text.push('\n');
    let mut is_empty = true;
    for object in &figures.objects {
        let cells: Vec<String> = (0..head.len()).map(|column| cell(object, column)).collect();
        is_empty &= cells.iter().all(|cell| cell == "-");
        let _ = writeln!(text, "| {} | {} |", object.name, cells.join(" | "));
    }
    if is_empty { String::new() } else { text }
}

/// Three digits, or all before the point in groups of three.
fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 9.995 => format!("{value:.2}"),
        Some(value) if value < 99.95 => format!("{value:.1}"),
        Some(value) => {
            let digits = format!("{value:.0}");
            let mut grouped = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index) % 3 == 0 {
                    grouped.push(' ');
                }
                grouped.push(digit);
            }
            grouped
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0512, "0.05"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.96, "100"),
            (1234.5, "1 234"),
            (1_234_567.0, "1 234 567"),
        ] {
            assert_eq!(number(Some(value)), text);
        }
        assert_eq!(number(None), "-");
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replace(&text, "new\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replace(&once, "new\n").unwrap(), once);
        assert!(replace("no marks", "new").is_err());
    }
}
