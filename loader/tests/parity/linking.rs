//! Objects for libbpf's linker, damaged ones among them: what the compiler lets through must not
//! make it crash, and both take and refuse the same.

use bpfplan_compiler::codes;
use bpfplan_compiler::link::{Input, check};
use bpfplan_plan::{Code, Diagnostic};

use super::damage;
use super::libbpf::{self, Answer, Linked};
use super::random::Random;

/// What we refuse although the linker takes it, and libbpf opens what it makes.
const WE_REFUSE: [(Code, &str); 9] = [
    (
        codes::TRUNCATED,
        "libelf does not look at e_ehsize and e_shentsize",
    ),
    (
        codes::OUTSIDE_SECTION,
        "the linker forgets the offset that its symbol has",
    ),
    (
        codes::NO_OWNER,
        "the linker forgets the offset that its symbol has",
    ),
    (codes::DUPLICATE_NAME, "slots and pins go by name"),
    (codes::UNSOUND_PART, "the linker relies on it"),
    (codes::TOO_MUCH_TO_LINK, "the linker's work has a limit"),
    (codes::TYPE_CYCLE, "libbpf does not walk all types"),
    (codes::NOT_A_TYPE, "libbpf does not walk all types"),
    (codes::BAD_NAME, "the kernel refuses the name later"),
];

/// Two or three objects, most often some that belong together.
pub(crate) fn objects(fixtures: &[(String, Vec<u8>)], random: &mut Random) -> Vec<Vec<u8>> {
    let related: Vec<&Vec<u8>> = fixtures
        .iter()
        .filter(|(name, _)| name.starts_with("link_"))
        .map(|(_, object)| object)
        .collect();
    let count = 2 + random.below(2);
    (0..count)
        .map(|_| {
            let mut object = if random.below(4) == 0 {
                fixtures[random.below(fixtures.len())].1.clone()
            } else {
                related[random.below(related.len())].clone()
            };
            if random.below(2) == 0 {
                damage::change_any(&mut object, random);
            }
            object
        })
        .collect()
}

/// What the two make of the objects, in words; an error if they differ without a reason.
pub(crate) fn compare(objects: &[Vec<u8>]) -> Result<String, String> {
    let names: Vec<String> = (0..objects.len()).map(|n| format!("{n}.bpf.o")).collect();
    let inputs: Vec<Input<'_>> = names
        .iter()
        .zip(objects)
        .map(|(name, bytes)| Input { name, bytes })
        .collect();
    let linkable = match check(&inputs) {
        Ok(linkable) => linkable,
        Err(problems) => return refused(objects, &problems),
    };
    let mut linked = match libbpf::link_bytes(objects) {
        Linked::Object(bytes) => bytes,
        Linked::Refused(warning) => return Ok(format!("only the linker refuses: {warning}")),
        Linked::Dies(signal) => return Err(format!("signal {signal} ends the linker")),
    };
    linkable
        .repair(&mut linked)
        .map_err(|problems| format!("not repaired: {problems:?}"))?;
    super::compare(&linked)
}

/// We refuse: so does the linker, or libbpf when it opens what comes out, or there is a reason.
fn refused(objects: &[Vec<u8>], problems: &[Diagnostic]) -> Result<String, String> {
    let errors = problems.iter().filter(|it| it.is_error());
    let first = errors.clone().next().ok_or("refused without an error")?;
    let linked = match libbpf::link_bytes(objects) {
        Linked::Object(bytes) => bytes,
        Linked::Refused(_) => return Ok(format!("both refuse: {}", first.code)),
        Linked::Dies(signal) => {
            return Ok(format!("signal {signal} ends the linker: {}", first.code));
        }
    };
    if !matches!(libbpf::opens(&linked), Answer::Opens(_)) {
        return Ok(format!("libbpf does not open it: {}", first.code));
    }
    let ignored = |it: &Diagnostic| {
        let map_extra =
            it.code == codes::DECLARATIONS_DIFFER && it.field.as_deref() == Some("map_extra");
        map_extra || WE_REFUSE.iter().any(|(code, _)| *code == it.code)
    };
    match errors.into_iter().find(|it| !ignored(it)) {
        None => Ok(format!("only we refuse: {}", first.code)),
        Some(other) => Err(format!("only we refuse: {other}")),
    }
}
