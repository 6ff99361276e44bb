//! What the command line says about programs.

use bpfplan_loader::{ProgramOptions, Programs};
use bpfplan_plan::Diagnostic;

use crate::args::LoadArgs;
use crate::codes;
use crate::exit::Exit;
use crate::input::{self, Input};

/// What becomes of the programs: takes the object out of the input, or reads it.
///
/// # Errors
/// How the command ends, and why.
pub(crate) fn choice(
    args: &LoadArgs,
    input: &mut Input,
) -> Result<Programs, (Exit, Vec<Diagnostic>)> {
    let usage = |problem: Diagnostic| {
        let problems = input::with_name(&args.inputs, vec![problem]);
        (Exit::Usage, problems)
    };
    let object = match (input.object.take(), args.object.as_slice()) {
        (object, []) => object,
        (Some(_), _) => {
            let message = "the input is an object already, so --object has nothing to add";
            return Err(usage(
                Diagnostic::error(codes::OBJECT_TWICE, message).help("leave --object out"),
            ));
        }
        (None, paths) => {
            if input.plan.object.sha256.is_none() {
                let problem = Diagnostic::error(
                    codes::PLAN_WITHOUT_HASH,
                    "the plan does not say which object it was made from",
                )
                .note("without the object's SHA-256, its programs could be those of another one")
                .help("write the plan with `bpfplan compile`");
                let problems = input::with_name(&args.inputs, vec![problem]);
                return Err((Exit::Refused, problems));
            }
            let bytes = input::read_bytes_of(paths);
            Some(bytes.map_err(|problems| (Exit::Refused, problems))?)
        }
    };
    if args.no_programs {
        return Ok(Programs::LeftOut);
    }
    if args.pin_progs.is_none() {
        return Ok(Programs::Unneeded);
    }
    let Some(object) = object else {
        let message = "a plan has no programs in it, so the object is needed";
        return Err(usage(
            Diagnostic::error(codes::OBJECT_MISSING, message)
                .help("name the object that the plan was made from: --object FILE"),
        ));
    };
    Ok(Programs::Load(ProgramOptions {
        object,
        pin: args.pin_progs.clone(),
    }))
}
