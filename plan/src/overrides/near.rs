//! Names that are nearly the one that was written.

/// Names that are compared, and how much of them.
const COMPARED: usize = 1000;
const LENGTH: usize = 64;
/// Names that are listed where none is near.
const LISTED: usize = 8;

/// `did you mean 'flows'?`, or a list of a few names, whatever helps; `None` if there are no
/// names.
pub(super) fn help<'n>(
    written: &str,
    what: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<String> {
    let names: Vec<&str> = names.into_iter().take(COMPARED).collect();
    if let Some(near) = nearest(written, &names) {
        return Some(format!("did you mean '{}'?", near.escape_debug()));
    }
    let listed: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|name| name.escape_debug().to_string())
        .collect();
    let more = match names.len().saturating_sub(LISTED) {
        0 => "",
        _ => ", …",
    };
    (!listed.is_empty()).then(|| format!("{what}: {}{more}", listed.join(", ")))
}

fn nearest<'n>(written: &str, names: &[&'n str]) -> Option<&'n str> {
    let cut = |name: &str| name.chars().take(LENGTH).collect::<String>().to_lowercase();
    let written = cut(written);
    // A third of the letters may be wrong.
    let limit = written.chars().count().div_ceil(3);
    let distances = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &cut(name)), *name));
    distances
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::help;

    #[test]
    fn the_nearest_name_is_offered_or_all_are() {
        let names = ["flows", "floors", ".rodata"];
        let help = |written| help(written, "maps are", names);
        assert_eq!(help("flow").as_deref(), Some("did you mean 'flows'?"));
        assert_eq!(help(".rodta").as_deref(), Some("did you mean '.rodata'?"));
        assert_eq!(
            help("counters").as_deref(),
            Some("maps are: flows, floors, .rodata")
        );
        assert_eq!(super::help("x", "maps are", []), None);
    }
}
