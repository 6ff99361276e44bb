//! What a plan says about programs.

use super::Problems;
use crate::codes;
use crate::model::{Plan, WithPrograms};
use crate::rules::ProgramNeeds;

/// Maps come with the programs for the reason that their attributes give, and for no other.
pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    let needs = ProgramNeeds::new(&plan.types);
    for map in &plan.maps {
        let said = match map.with_programs {
            Some(WithPrograms::OptionalStructOps) => Some(WithPrograms::StructOps),
            said => said,
        };
        if said != needs.of(map) {
            let message = match needs.of(map) {
                Some(why) => format!("it comes with the programs: {}", why.reason()),
                None => "nothing of it needs the programs".to_owned(),
            };
            problems.map(map, codes::PLAN_MAP, "with_programs", message);
        }
    }
}
