//! The variables in maps of global data.

use crate::model::{Map, Plan};
use crate::rules::layout;
use crate::types::{Linkage, SecVar, Type, TypeId};

/// A variable in a map of global data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Name in C.
    pub name: &'a str,
    /// Type of the variable.
    pub ty: TypeId,
    /// How it is linked; hidden ones count as static, as in libbpf.
    pub linkage: Linkage,
    /// Offset in the map's value, in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Its initial value, in the byte order of the object; where it is shorter than
    /// [`Variable::size`], zeros follow.
    pub bytes: &'a [u8],
}

/// The variables of a map by offset; none if its value is no section with types.
///
/// `contents` are the map's in [`Plan::contents`].
pub fn variables<'a, I>(
    plan: &'a Plan,
    map: &Map<I>,
    contents: &'a [u8],
) -> impl Iterator<Item = Variable<'a>> + use<'a, I> {
    let section = map.data.as_ref().and(map.value_type);
    let vars = match section.and_then(|id| plan.type_by_id(id)) {
        Some(Type::Datasec { vars, .. }) => vars.as_slice(),
        _ => &[],
    };
    vars.iter()
        .filter_map(move |place| variable(plan, place, contents))
}

fn variable<'a>(plan: &'a Plan, place: &SecVar, contents: &'a [u8]) -> Option<Variable<'a>> {
    let Type::Var { name, to, linkage } = plan.type_by_id(place.var)? else {
        return None;
    };
    let start = usize::try_from(place.offset).ok()?;
    let size = usize::try_from(place.size).ok()?;
    let rest = contents.get(start..).unwrap_or_default();
    Some(Variable {
        name,
        ty: *to,
        linkage: *linkage,
        offset: place.offset,
        size: place.size,
        bytes: rest.get(..size).unwrap_or(rest),
    })
}

/// The ELF section that a map of global data, or that of `.kconfig`, is made of; `None` for other
/// maps.
///
/// It is the name of the map's DATASEC, else what follows the object's name in the map's; libbpf
/// finds such maps by both names (`bpf_object__find_map_by_name`).
pub fn section_name<'a, I>(plan: &'a Plan, map: &'a Map<I>) -> Option<&'a str> {
    if map.data.is_none() && map.externs.is_empty() {
        return None;
    }
    match map.value_type.and_then(|id| plan.type_by_id(id)) {
        Some(Type::Datasec { name, .. }) => Some(name),
        _ => map.name.get(map.name.find('.')?..),
    }
}

impl Plan {
    /// Size of a type in bytes, `None` for types without one (void, functions, forward
    /// declarations) and where a chain is too long or a size overflows.
    #[must_use]
    pub fn size_of(&self, id: TypeId) -> Option<u32> {
        layout::size_of(&self.types, id)
    }
}
