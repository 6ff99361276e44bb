//! The plan's version and object.

use super::{Problems, shown};
use crate::codes;
use crate::format::VERSION;
use crate::model::Plan;

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    if plan.version != VERSION {
        let message = format!(
            "the plan has format version {}, this bpfplan reads {VERSION}",
            plan.version
        );
        problems.plan(codes::PLAN_HEADER, message);
    }
    let object = &plan.object;
    if object.name.is_empty() || object.name.contains(['/', '\0']) {
        let name = shown(&object.name);
        problems.plan(
            codes::PLAN_HEADER,
            format!("the object's name {name:?} is not a file name"),
        );
    }
    if object
        .sha256
        .as_deref()
        .is_some_and(|hash| !is_sha256(hash))
    {
        problems.plan(
            codes::PLAN_HEADER,
            "the object's sha256 is not 64 lower-case hex digits",
        );
    }
}

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
