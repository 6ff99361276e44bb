//! How a pinned map differs from the declared one, side by side.

use bpfplan_plan::compare::Difference;

use crate::render::escape::plain;

/// A table with one line for each difference; nothing if there are none.
pub(super) fn table(differences: &[Difference]) -> Option<String> {
    if differences.is_empty() {
        return None;
    }
    let head = ["", "declared", "pinned"].map(str::to_owned);
    let refused = differences.iter().any(Difference::is_error);
    let rows = differences.iter().map(|difference| {
        let mut row = [&difference.path, &difference.declared, &difference.pinned]
            .map(|cell| plain(cell).into_owned());
        if refused && !difference.is_error() {
            row[2].push_str("  (this alone would only warn)");
        }
        row
    });
    let rows: Vec<[String; 3]> = [head].into_iter().chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (path_width, declared_width) = (width(0), width(1));
    let lines = rows.iter().map(|[path, declared, pinned]| {
        format!("{path:path_width$}  {declared:declared_width$}  {pinned}")
    });
    let lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
    Some(lines.join("\n"))
}
