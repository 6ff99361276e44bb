//! Another size for a section of global data (`bpf_map__set_value_size` of libbpf).

use super::field::{Wrong, number};
use super::value::Value;
use crate::codes;
use crate::contents::MAX_TOTAL;
use crate::diagnostic::Diagnostic;
use crate::model::Plan;
use crate::rules::layout::{resolve, size_of};
use crate::types::{Type, TypeId};

/// Sets `value_size` of a map. Its last variable, an array, becomes longer or shorter; where that
/// does not go, the kernel gets no types for the map, and the warning says why.
///
/// The contents are left to [`super::data`].
pub(super) fn value_size(
    plan: &mut Plan,
    index: usize,
    value: &Value,
) -> Result<Option<Diagnostic>, Wrong> {
    let size = number(value)?;
    let Some(map) = plan.maps.get(index) else {
        return Ok(None);
    };
    if map.data.is_none() {
        let message = "only global data can have another size, here it is part of the declaration";
        return Err(Wrong::refused(message));
    }
    if size == 0 {
        return Err(Wrong::refused("global data has at least one byte"));
    }
    if u64::from(size) > MAX_TOTAL {
        return Err(Wrong::refused(format!(
            "a plan has up to {MAX_TOTAL} bytes of global data"
        )));
    }
    if size == map.value_size {
        return Ok(None);
    }
    let reason = map
        .value_type
        .and_then(|ty| resize(plan, index, ty, size).err());
    let Some(map) = plan.maps.get_mut(index) else {
        return Ok(None);
    };
    map.value_size = size;
    let Some(reason) = reason.filter(|_| map.btf.take().is_some()) else {
        return Ok(None);
    };
    let message = format!("with value_size {size} it is created without BTF: {reason}");
    Ok(Some(
        Diagnostic::warning(codes::OVERRIDE_TYPES, message)
            .map(&map.name)
            .field("value_size")
            .at(map.source.as_ref(), "declared here")
            .note("libbpf drops the types of the section in this case, too"),
    ))
}

/// Makes the last variable of a section fill it up to its new end (`map_btf_datasec_resize`).
fn resize(plan: &mut Plan, map: usize, section: TypeId, size: u32) -> Result<(), String> {
    let Some(Type::Datasec { vars, .. }) = plan.type_by_id(section) else {
        return Ok(());
    };
    let last = vars.last().ok_or("the section has no variables")?;
    let (var, offset) = (last.var, last.offset);
    let Some(Type::Var { name, to, .. }) = plan.type_by_id(var) else {
        return Err("the section's last variable is none".to_owned());
    };
    let Some((_, Type::Array { element, index, .. })) = resolve(&plan.types, *to) else {
        return Err(format!("its last variable, '{name}', is no array"));
    };
    let room = size.checked_sub(offset).filter(|room| *room > 0);
    let room = room.ok_or_else(|| format!("its last variable, '{name}', begins at {offset}"))?;
    let element_size = size_of(&plan.types, *element).filter(|size| *size > 0);
    let element_size = element_size.ok_or_else(|| format!("elements of '{name}' have no size"))?;
    if !room.is_multiple_of(element_size) {
        return Err(format!(
            "'{name}' would have {room} bytes, its elements have {element_size}"
        ));
    }
    if is_shared(plan, map, section, var) {
        return Err(format!("'{name}' belongs to another map as well"));
    }
    let array = Type::Array {
        element: *element,
        index: *index,
        length: room / element_size,
    };
    plan.types.push(array);
    let array = TypeId(u32::try_from(plan.types.len()).map_err(|error| error.to_string())?);
    if let Some(Type::Var { to, .. }) = get_mut(plan, var) {
        *to = array;
    }
    if let Some(Type::Datasec {
        size: old, vars, ..
    }) = get_mut(plan, section)
    {
        *old = size;
        if let Some(last) = vars.last_mut() {
            last.size = room;
        }
    }
    Ok(())
}

/// Whether the section or the variable is one of another map: only in plans made by hand.
fn is_shared(plan: &Plan, map: usize, section: TypeId, var: TypeId) -> bool {
    let others = plan
        .maps
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != map);
    let mut others = others.filter_map(|(_, other)| other.value_type);
    let places = plan.types.iter().flat_map(Type::references);
    others.any(|other| other == section) || places.filter(|id| *id == var).count() > 1
}

fn get_mut(plan: &mut Plan, id: TypeId) -> Option<&mut Type> {
    plan.types.get_mut((id.0 as usize).checked_sub(1)?)
}
