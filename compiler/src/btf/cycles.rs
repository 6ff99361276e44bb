//! Refuses circles of types that nothing could resolve.

use bpfplan_plan::Diagnostic;
use bpfplan_plan::types::{Type, TypeId};
use bpfplan_plan::validate::too_deep;

use super::reach::cycle;
use super::view::View;
use crate::codes;

/// Looks for types that contain themselves, and for names and pointers that lead nowhere.
///
/// A struct breaks a circle of pointers; a pointer breaks a circle of structs.
pub(crate) fn check(view: &View) -> Result<(), Diagnostic> {
    search(view, contents)?;
    search(view, names)
}

/// Looks for types that are nested deeper than a plan may have them.
pub(crate) fn check_depth(view: &View) -> Result<(), Diagnostic> {
    // So few cannot be too deep.
    const FEW: usize = 100;
    if view.len() <= FEW {
        return Ok(());
    }
    match too_deep(view.as_slice()) {
        None => Ok(()),
        Some((_, what)) => {
            let message = format!("BTF: the type of a key, value or variable {what}");
            Err(Diagnostic::error(codes::TOO_DEEP, message)
                .note("libbpf takes it, but the kernel refuses its BTF"))
        }
    }
}

/// One after the other, what takes part in the size of a type.
fn contents(ty: &Type, number: usize) -> Option<TypeId> {
    match ty {
        Type::Struct(composite) | Type::Union(composite) => {
            composite.members.get(number).map(|member| member.ty)
        }
        Type::Ptr { .. } => None,
        _ => names(ty, number),
    }
}

/// One after the other, what has to be known before a type can be named.
fn names(ty: &Type, number: usize) -> Option<TypeId> {
    match ty {
        Type::Array { element, index, .. } => [*element, *index].get(number).copied(),
        Type::Ptr { to }
        | Type::Typedef { to, .. }
        | Type::Volatile { to }
        | Type::Const { to }
        | Type::Restrict { to }
        | Type::TypeTag { to, .. } => (number == 0).then_some(*to),
        _ => None,
    }
}

/// Depth-first search without recursion: a type that is met again on its own path is on a circle.
fn search(view: &View, part: fn(&Type, usize) -> Option<TypeId>) -> Result<(), Diagnostic> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; view.len().saturating_add(1)];
    let mut state = |id: TypeId, new: Option<State>| -> State {
        let slot = usize::try_from(id.0).ok().and_then(|id| states.get_mut(id));
        slot.map_or(State::Done, |slot| {
            std::mem::replace(slot, new.unwrap_or(*slot))
        })
    };
    // Each type on the way, and how many of its parts were looked at.
    let mut path: Vec<(TypeId, usize)> = Vec::new();
    for (start, _) in view.types() {
        if state(start, None) == State::Done {
            continue;
        }
        state(start, Some(State::Open));
        path.push((start, 0));
        while let Some((id, number)) = path.last_mut() {
            let target = view.get(*id).and_then(|ty| part(ty, *number));
            *number += 1;
            match target {
                None => {
                    state(*id, Some(State::Done));
                    path.pop();
                }
                Some(target) => match state(target, None) {
                    State::New => {
                        state(target, Some(State::Open));
                        path.push((target, 0));
                    }
                    State::Open if target != TypeId::VOID => return Err(cycle(target.0)),
                    State::Open | State::Done => {}
                },
            }
        }
    }
    Ok(())
}
