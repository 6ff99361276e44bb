//! Refuses circles of types that nothing could resolve.

use bpfplan_plan::Diagnostic;
use bpfplan_plan::types::{Type, TypeId};

use super::reach::cycle;
use super::view::View;

/// Looks for types that contain themselves, and for names and pointers that lead nowhere.
///
/// A struct breaks a circle of pointers; a pointer breaks a circle of structs.
pub(crate) fn check(view: &View) -> Result<(), Diagnostic> {
    search(view, contents)?;
    search(view, names)
}

/// What takes part in the size of a type.
fn contents(ty: &Type) -> Vec<TypeId> {
    match ty {
        Type::Struct(composite) | Type::Union(composite) => {
            composite.members.iter().map(|member| member.ty).collect()
        }
        Type::Ptr { .. } => Vec::new(),
        _ => names(ty),
    }
}

/// What has to be known before a type can be named.
fn names(ty: &Type) -> Vec<TypeId> {
    match ty {
        Type::Array { element, index, .. } => vec![*element, *index],
        Type::Ptr { to }
        | Type::Typedef { to, .. }
        | Type::Volatile { to }
        | Type::Const { to }
        | Type::Restrict { to }
        | Type::TypeTag { to, .. } => vec![*to],
        _ => Vec::new(),
    }
}

/// Depth-first search without recursion: a type that is met again on its own path is on a circle.
fn search(view: &View, next: fn(&Type) -> Vec<TypeId>) -> Result<(), Diagnostic> {
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
    for (start, _) in view.types() {
        if state(start, None) == State::Done {
            continue;
        }
        let mut path: Vec<(TypeId, std::vec::IntoIter<TypeId>)> = Vec::new();
        let mut enter = Some(start);
        loop {
            if let Some(id) = enter.take() {
                state(id, Some(State::Open));
                let targets = view.get(id).map(next).unwrap_or_default();
                path.push((id, targets.into_iter()));
            }
            let Some((id, targets)) = path.last_mut() else {
                break;
            };
            match targets.next() {
                None => {
                    state(*id, Some(State::Done));
                    path.pop();
                }
                Some(target) => match state(target, None) {
                    State::New => enter = Some(target),
                    State::Open if target != TypeId::VOID => return Err(cycle(target.0)),
                    State::Open | State::Done => {}
                },
            }
        }
    }
    Ok(())
}
