//! Several objects into one, by libbpf's linker (`bpf_linker__*`), without files.
//!
//! The linker is C code that trusts its input more than it should. Hand over only objects that
//! `bpfplan_compiler::link::check` has accepted together, and repair what comes out with
//! `bpfplan_compiler::link::Linkable::repair`.

use bpfplan_plan::Diagnostic;

use crate::codes;
use crate::kernel::Errno;
use crate::sys::linker::{self, Step};

/// An object to be linked.
#[derive(Debug, Clone, Copy)]
pub struct LinkInput<'a> {
    /// What diagnostics call it, such as its path.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Links objects in the given order, and gives the bytes of the linked one. The same objects in
/// the same order give the same bytes.
///
/// While it runs, what libbpf prints on this thread goes into the error; what it prints on other
/// threads goes where it went before. Calls wait for each other.
///
/// # Errors
/// What the linker says, with the name of the object that it was at; or what the system says when
/// there is no memory for the linked object.
pub fn link(objects: &[LinkInput<'_>]) -> Result<Vec<u8>, Box<Diagnostic>> {
    let bytes: Vec<&[u8]> = objects.iter().map(|object| object.bytes).collect();
    linker::link(&bytes).map_err(|failure| {
        let at = match failure.step {
            Step::Add(index) => objects.get(index).map(|object| object.name),
            Step::Start | Step::Finish => None,
        };
        Box::new(diagnostic(at, failure.errno, &failure.messages))
    })
}

fn diagnostic(object: Option<&str>, errno: Errno, messages: &[String]) -> Diagnostic {
    // Warnings come from the inside out: the last one says least.
    let (reason, rest) = match messages.split_first() {
        Some((first, rest)) => (first.clone(), rest),
        None => (errno.to_string(), &[][..]),
    };
    let mut diagnostic = Diagnostic::error(
        codes::LINK_REFUSED,
        format!("libbpf's linker refuses it: {}", named(&reason, object)),
    );
    for message in rest {
        diagnostic = diagnostic.note(format!("libbpf: {}", named(message, object)));
    }
    diagnostic.object = object.map(str::to_owned);
    diagnostic
}

/// Puts the object's name where libbpf, which is given bytes, has their address.
fn named(message: &str, object: Option<&str>) -> String {
    let is_address = |word: &&str| word.trim_matches('\'').starts_with("mem:0x");
    let words = message.split(' ');
    let words = words.map(|word| match object {
        Some(name) if is_address(&word) => name,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{LinkInput, link, named};

    #[test]
    fn addresses_become_names() {
        let message = "failed to parse .BTF from mem:0x7f00+12: -22";
        assert_eq!(
            named(message, Some("a.o")),
            "failed to parse .BTF from a.o -22"
        );
        assert_eq!(named("all bad", None), "all bad");
    }

    #[test]
    fn what_is_no_object_is_refused_by_name() {
        let inputs = [LinkInput {
            name: "readme.txt",
            bytes: b"no object at all, but long enough to be looked at as if it were one",
        }];
        let error = link(&inputs).unwrap_err();
        assert_eq!(error.object.as_deref(), Some("readme.txt"));
        assert!(error.message.contains("readme.txt"), "{error}");
    }
}
