//! Whether two objects mean the same type by one name: libbpf's `glob_sym_btf_matches`.

use bpfplan_plan::uapi::{
    BTF_FUNC_STATIC, BTF_KIND_ARRAY, BTF_KIND_ENUM, BTF_KIND_ENUM64, BTF_KIND_FLOAT, BTF_KIND_FUNC,
    BTF_KIND_FUNC_PROTO, BTF_KIND_FWD, BTF_KIND_INT, BTF_KIND_PTR, BTF_KIND_STRUCT, BTF_KIND_UNION,
    BTF_KIND_VAR, BTF_VAR_STATIC,
};

use crate::btf::raw::{Raw, RawType};
use crate::bytes::text;

/// Types may be nested so deeply: the linker compares them by recursion.
const MAX_DEPTH: usize = 200;
/// So many pairs are compared in all: the linker compares members of structs each time they are
/// met, for every name anew, which for hostile types comes to an end as good as never.
const MAX_STEPS: usize = 1 << 24;

/// The pairs that may still be compared.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(MAX_STEPS)
    }
}

/// A type of one object.
pub(super) type Place<'r> = (&'r Raw<'r>, u32);

/// What is different, in words; `None` if the types match.
pub(super) fn difference<'r>(
    one: Place<'r>,
    other: Place<'r>,
    budget: &mut Budget,
) -> Option<String> {
    budget.compare(one, other, true, 0).err()
}

/// Skips modifiers and typedefs. Circles of them were refused before.
pub(super) fn skip<'r>(raw: &'r Raw<'r>, mut id: u32) -> (u32, Option<RawType<'r>>) {
    for _ in 0..=raw.len() {
        match raw.get(id).filter(|ty| ty.is_modifier()) {
            Some(ty) => id = ty.last,
            None => break,
        }
    }
    (id, raw.get(id))
}

type Compared = Result<(), String>;

impl Budget {
    fn compare<'r>(
        &mut self,
        (raw, id): Place<'r>,
        (other_raw, other): Place<'r>,
        mut exact: bool,
        depth: usize,
    ) -> Compared {
        let (mut id, mut other) = (id, other);
        loop {
            self.0 = self.0.saturating_sub(1);
            if self.0 == 0 || depth > MAX_DEPTH {
                return Err("the types are too large or too deep to compare".to_owned());
            }
            let ((_, a), (_, b)) = (skip(raw, id), skip(other_raw, other));
            let (a, b) = match (&a, &b) {
                (None, None) => return Ok(()),
                (Some(a), Some(b)) => (a, b),
                _ => return Err(format!("{} against {}", word(a), word(b))),
            };
            let names = (raw.name(a.name), other_raw.name(b.name));
            if !exact && (a.kind == BTF_KIND_FWD) != (b.kind == BTF_KIND_FWD) {
                return forward((a, names.0), (b, names.1));
            }
            if a.kind != b.kind {
                return Err(format!("{} against {}", word(Some(*a)), word(Some(*b))));
            }
            if is_named(a.kind) && names.0 != names.1 {
                let (a, b) = (text(names.0), text(names.1));
                return Err(format!("named '{a}' against '{b}'"));
            }
            match a.kind {
                BTF_KIND_INT | BTF_KIND_FLOAT | BTF_KIND_ENUM | BTF_KIND_ENUM64 => {
                    if a.last == b.last {
                        return Ok(());
                    }
                    let what = format!("{} of {} bytes against {}", word(Some(*a)), a.last, b.last);
                    return Err(what);
                }
                // A pointer needs no more of a struct than its name.
                BTF_KIND_PTR => (exact, id, other) = (false, a.last, b.last),
                BTF_KIND_ARRAY => {
                    let ([element, ..], [other_element, ..]) = (a.array(), b.array());
                    (id, other) = (element, other_element);
                }
                BTF_KIND_FUNC => {
                    let is_static = |ty: &RawType<'_>| u32::from(ty.vlen) == BTF_FUNC_STATIC;
                    if is_static(a) != is_static(b) {
                        return Err("static against global".to_owned());
                    }
                    (id, other) = (a.last, b.last);
                }
                BTF_KIND_VAR => {
                    let is_static = |ty: &RawType<'_>| ty.word() == BTF_VAR_STATIC;
                    if is_static(a) != is_static(b) {
                        return Err("static against global".to_owned());
                    }
                    (id, other) = (a.last, b.last);
                }
                BTF_KIND_STRUCT | BTF_KIND_UNION if !exact => return Ok(()),
                BTF_KIND_STRUCT | BTF_KIND_UNION => {
                    return self.members((raw, a), (other_raw, b), depth);
                }
                BTF_KIND_FUNC_PROTO => {
                    count("parameters", a, b)?;
                    for (x, y) in a.parts::<2>().zip(b.parts::<2>()) {
                        let ([_, x], [_, y]) = (x, y);
                        self.compare((raw, x), (other_raw, y), exact, depth + 1)?;
                    }
                    (id, other) = (a.last, b.last);
                }
                BTF_KIND_FWD => return Ok(()),
                _ => return Err("of a kind that cannot be compared".to_owned()),
            }
        }
    }

    fn members<'r>(
        &mut self,
        (raw, a): (&'r Raw<'r>, &RawType<'r>),
        (other_raw, b): (&'r Raw<'r>, &RawType<'r>),
        depth: usize,
    ) -> Compared {
        count("members", a, b)?;
        for (x, y) in a.parts::<3>().zip(b.parts::<3>()) {
            let ([name, ty, offset], [other_name, other_ty, other_offset]) = (x, y);
            let names = (raw.name(name), other_raw.name(other_name));
            if names.0 != names.1 {
                let (a, b) = (text(names.0), text(names.1));
                return Err(format!("a member named '{a}' against '{b}'"));
            }
            let name = text(names.0);
            if offset != other_offset {
                return Err(format!("member '{name}' is at different offsets"));
            }
            self.compare((raw, ty), (other_raw, other_ty), true, depth + 1)
                .map_err(|what| match name.is_empty() || what.starts_with("member") {
                    true => what,
                    false => format!("member '{name}': {what}"),
                })?;
        }
        Ok(())
    }
}

/// A forward declaration on one side.
fn forward((a, name): (&RawType<'_>, &[u8]), (b, other): (&RawType<'_>, &[u8])) -> Compared {
    if name != other {
        return Err(format!("named '{}' against '{}'", text(name), text(other)));
    }
    let (forward, full) = if a.kind == BTF_KIND_FWD {
        (a, b)
    } else {
        (b, a)
    };
    let wanted = if forward.flag {
        BTF_KIND_UNION
    } else {
        BTF_KIND_STRUCT
    };
    if full.kind == wanted {
        return Ok(());
    }
    Err(format!("{} against {}", word(Some(*a)), word(Some(*b))))
}

fn count(what: &str, a: &RawType<'_>, b: &RawType<'_>) -> Compared {
    if a.vlen == b.vlen {
        return Ok(());
    }
    Err(format!("{} {what} against {}", a.vlen, b.vlen))
}

/// Kinds whose names must agree.
fn is_named(kind: u32) -> bool {
    matches!(
        kind,
        BTF_KIND_STRUCT
            | BTF_KIND_UNION
            | BTF_KIND_ENUM
            | BTF_KIND_ENUM64
            | BTF_KIND_FWD
            | BTF_KIND_FUNC
            | BTF_KIND_VAR
    )
}

fn word(ty: Option<RawType<'_>>) -> &'static str {
    match ty.map_or(0, |ty| ty.kind) {
        0 => "void",
        BTF_KIND_INT => "an integer",
        BTF_KIND_PTR => "a pointer",
        BTF_KIND_ARRAY => "an array",
        BTF_KIND_STRUCT => "a struct",
        BTF_KIND_UNION => "a union",
        BTF_KIND_ENUM | BTF_KIND_ENUM64 => "an enum",
        BTF_KIND_FWD => "a forward declaration",
        BTF_KIND_FUNC | BTF_KIND_FUNC_PROTO => "a function",
        BTF_KIND_VAR => "a variable",
        BTF_KIND_FLOAT => "a floating-point number",
        _ => "something else",
    }
}
