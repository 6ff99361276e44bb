//! The types and the BTF blob.

use super::Problems;
use crate::btf;
use crate::codes;
use crate::model::Plan;
use crate::types::{Type, TypeId};
use crate::uapi;

/// Deepest nesting by value, and longest chain of pointers, that a plan may have.
///
/// The kernel resolves 32 levels at a time (`MAX_RESOLVE_DEPTH`); walkers of types may recurse
/// this far.
const MAX_DEPTH: u32 = 128;

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    if plan.types.len() > uapi::BTF_MAX_TYPE as usize {
        let message = format!(
            "{} types are more than the kernel can count",
            plan.types.len()
        );
        problems.plan(codes::PLAN_TYPES, message);
        return;
    }
    let kernel = plan.kernel_types as usize;
    let Some(blob_types) = plan.types.get(..kernel) else {
        let message = format!(
            "kernel_types is {kernel}, the plan has {}",
            plan.types.len()
        );
        problems.plan(codes::PLAN_TYPES, message);
        return;
    };
    let sound = references(plan, kernel, problems);
    if sound {
        walks(&plan.types, problems);
    }
    blob(plan, blob_types, problems);
}

/// Every reference leads to a type, and from the kernel's types only to the kernel's types.
fn references(plan: &Plan, kernel: usize, problems: &mut Problems) -> bool {
    let before = problems.found.len();
    for (index, ty) in plan.types.iter().enumerate() {
        let id = index + 1;
        let limit = if index < kernel {
            kernel
        } else {
            plan.types.len()
        };
        for to in (0..).map_while(|place| ty.reference(place)) {
            if to.0 as usize > limit {
                let message = format!("type [{id}] refers to type [{}], beyond {limit}", to.0);
                problems.plan(codes::PLAN_TYPES, message);
                break;
            }
        }
        if let Type::Datasec { vars, .. } = ty {
            let is_var = |id: TypeId| matches!(plan.type_by_id(id), Some(Type::Var { .. }));
            if !vars.iter().all(|place| is_var(place.var)) {
                let message = format!("type [{id}] lists something that is not a variable");
                problems.plan(codes::PLAN_TYPES, message);
            }
        }
    }
    problems.found.len() == before
}

/// The types that one leads to, by their places.
type Edges = fn(&Type, usize) -> Option<TypeId>;

/// What a type contains: a cycle of these has no size.
fn contents(ty: &Type, place: usize) -> Option<TypeId> {
    match ty {
        Type::Ptr { .. } | Type::FuncProto { .. } | Type::DeclTag { .. } => None,
        _ => ty.reference(place),
    }
}

/// Pointers and what qualifies them: a cycle of these has no end.
fn chain(ty: &Type, place: usize) -> Option<TypeId> {
    match ty {
        Type::Ptr { .. }
        | Type::Typedef { .. }
        | Type::Volatile { .. }
        | Type::Const { .. }
        | Type::Restrict { .. }
        | Type::TypeTag { .. } => ty.reference(place),
        _ => None,
    }
}

/// Walking the types ends, and soon enough.
fn walks(types: &[Type], problems: &mut Problems) {
    if let Some((id, what)) = too_deep(types) {
        problems.plan(codes::PLAN_TYPES, format!("type [{id}] {what}"));
    }
}

/// A type whose parts have no end, or are nested deeper than a plan may have them, and what is
/// wrong with it. The kernel refuses such types too (`btf_resolve`).
#[must_use]
pub fn too_deep(types: &[Type]) -> Option<(usize, &'static str)> {
    let both = [
        (
            contents as Edges,
            "contains itself, or is nested too deeply",
        ),
        (
            chain,
            "points to itself through pointers and qualifiers only, or is too long a chain",
        ),
    ];
    let mut both = both.into_iter();
    both.find_map(|(edges, what)| Some((depth(types, edges).err()?, what)))
}

/// Depth-first without recursion: the first type on a cycle or deeper than [`MAX_DEPTH`].
fn depth(types: &[Type], edges: Edges) -> Result<(), usize> {
    /// Depth of what was not visited yet.
    const NEW: u32 = 0;
    /// Depth of what is on the way from the root: meeting it again is a cycle.
    const OPEN: u32 = u32::MAX;
    let mut depths = vec![NEW; types.len()];
    // Index of the type, the place that comes next, the depth so far.
    let mut path: Vec<(usize, usize, u32)> = Vec::new();
    for root in 0..types.len() {
        let mut next = Some(root);
        loop {
            if let Some(index) = next.take() {
                let Some(depth) = depths.get_mut(index) else {
                    continue;
                };
                match *depth {
                    NEW => {
                        *depth = OPEN;
                        path.push((index, 0, 1));
                    }
                    OPEN => return Err(index + 1),
                    known => {
                        if let Some((_, _, below)) = path.last_mut() {
                            *below = (*below).max(known + 1);
                        }
                    }
                }
            }
            let Some((index, place, below)) = path.last_mut() else {
                break;
            };
            if let Some(to) = types.get(*index).and_then(|ty| edges(ty, *place)) {
                *place += 1;
                next = (to.0 as usize).checked_sub(1);
                continue;
            }
            let (index, done) = (*index, *below);
            path.pop();
            if done > MAX_DEPTH {
                return Err(index + 1);
            }
            if let Some(depth) = depths.get_mut(index) {
                *depth = done;
            }
            if let Some((_, _, below)) = path.last_mut() {
                *below = (*below).max(done + 1);
            }
        }
    }
    Ok(())
}

/// The blob is what the types say, so that what is reviewed is what the kernel gets.
fn blob(plan: &Plan, types: &[Type], problems: &mut Problems) {
    if types.is_empty() {
        if !plan.btf.is_empty() {
            problems.plan(codes::PLAN_BTF, "there is BTF, but no type for the kernel");
        }
        return;
    }
    match btf::encode(types, plan.object.endianness) {
        Ok(blob) if blob == plan.btf => {}
        Ok(_) => problems.plan(codes::PLAN_BTF, "the BTF is not what the plan's types say"),
        Err(error) => problems.plan(codes::PLAN_BTF, format!("the types make no BTF: {error}")),
    }
}
