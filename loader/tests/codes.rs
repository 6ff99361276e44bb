//! Codes of diagnostics are stable names: no two findings may share one.

use std::collections::BTreeSet;

#[test]
fn codes_are_unique_and_well_formed() {
    let tables = [
        bpfplan_plan::codes::ALL,
        bpfplan_compiler::codes::ALL,
        bpfplan_loader::codes::ALL,
    ];
    let mut seen = BTreeSet::new();
    for (code, title) in tables.into_iter().flatten() {
        let number = code.0.strip_prefix("BP").expect("codes start with BP");
        assert!(
            number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit()),
            "{code}"
        );
        assert!(
            !title.is_empty() && !title.ends_with('.'),
            "{code}: {title}"
        );
        assert!(seen.insert(code.0), "{code} has two meanings");
    }
    // The command's own codes are BP09xx.
    assert!(seen.iter().all(|code| !code.starts_with("BP09")));
}
