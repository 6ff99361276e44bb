//! Variables of global data, their members and elements.

use std::collections::{HashMap, HashSet};

use super::field::Wrong;
use super::near;
use super::problem::shown;
use crate::model::{Map, Plan};
use crate::rules::layout::{describe, resolve, size_of};
use crate::types::{Composite, Type, TypeId};

/// The variables of a map by name; `None` where several have one name.
pub(super) struct Variables<'p> {
    types: &'p [Type],
    by_name: HashMap<&'p str, Option<Place>>,
}

/// Where a value is, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Offset in the map's value, in bytes.
    pub(super) offset: u64,
    pub(super) ty: TypeId,
}

impl<'p> Variables<'p> {
    pub(super) fn of<I>(plan: &'p Plan, map: &Map<I>) -> Self {
        let mut by_name = HashMap::new();
        for variable in crate::globals::variables(plan, map, &[]) {
            let place = Place {
                offset: variable.offset.into(),
                ty: variable.ty,
            };
            by_name
                .entry(variable.name)
                .and_modify(|place| *place = None)
                .or_insert(Some(place));
        }
        Self {
            types: &plan.types,
            by_name,
        }
    }

    /// Whether there is a variable of exactly that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Follows a path such as `config.ports[2]`. Names of variables may have dots themselves
    /// (`function.variable`), so the longest one wins.
    pub(super) fn find(&self, path: &str) -> Result<Place, Wrong> {
        let ends = path.char_indices().filter(|(_, c)| matches!(c, '.' | '['));
        let ends = ends.map(|(end, _)| end).chain([path.len()]).rev();
        let found = ends.into_iter().find_map(|end| {
            let (name, rest) = path.split_at_checked(end)?;
            Some((name, self.by_name.get(name)?, rest))
        });
        match found {
            Some((_, Some(place), rest)) => self.walk(*place, rest),
            Some((name, None, _)) => {
                let message = format!("several variables are called '{}'", shown(name));
                Err(Wrong::name(message).help("rename all but one of them in the source"))
            }
            None => Err(self.missing(path)),
        }
    }

    fn missing(&self, path: &str) -> Wrong {
        let name = path.split(['.', '[']).next().unwrap_or(path);
        let wrong = Wrong::name(format!("it has no variable '{}'", shown(name)));
        if self.by_name.is_empty() {
            return wrong.help("the section has no BTF about variables: compile with -g");
        }
        let mut names: Vec<&str> = self.by_name.keys().copied().collect();
        names.sort_unstable();
        match near::help(name, "variables are", names) {
            Some(help) => wrong.help(help),
            None => wrong,
        }
    }

    fn walk(&self, mut place: Place, mut rest: &str) -> Result<Place, Wrong> {
        while !rest.is_empty() {
            (place, rest) = match rest.strip_prefix('[') {
                Some(index) => self.element(place, index)?,
                None => self.member(place, rest.strip_prefix('.').unwrap_or(rest))?,
            };
        }
        Ok(place)
    }

    fn element<'t>(&self, place: Place, text: &'t str) -> Result<(Place, &'t str), Wrong> {
        let malformed = || Wrong::name("an index is a number in brackets, such as [3]");
        let (digits, rest) = text.split_once(']').ok_or_else(malformed)?;
        let index = crate::number::parse(digits).map_err(|_| malformed())?;
        let Some((
            _,
            Type::Array {
                element, length, ..
            },
        )) = resolve(self.types, place.ty)
        else {
            let what = describe(self.types, place.ty);
            return Err(Wrong::name(format!(
                "[{}] follows {what}, which is no array",
                shown(digits)
            )));
        };
        let index = u32::try_from(index)
            .ok()
            .filter(|index| index < length)
            .ok_or_else(|| {
                Wrong::name(format!(
                    "[{}] is beyond the end of the array, which has {length} elements",
                    shown(digits)
                ))
            })?;
        let size = size_of(self.types, *element).unwrap_or(0);
        let offset = place
            .offset
            .saturating_add(u64::from(index) * u64::from(size));
        Ok((
            Place {
                offset,
                ty: *element,
            },
            rest,
        ))
    }

    fn member<'t>(&self, place: Place, text: &'t str) -> Result<(Place, &'t str), Wrong> {
        let (name, rest) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
        let what = describe(self.types, place.ty);
        let Some((_, Type::Struct(composite) | Type::Union(composite))) =
            resolve(self.types, place.ty)
        else {
            return Err(Wrong::name(format!(
                "'.{}' follows {what}, which has no members",
                shown(name)
            )));
        };
        let Some(found) = self.named(composite, name) else {
            let names = self.names(composite);
            let wrong = Wrong::name(format!("{what} has no member '{}'", shown(name)));
            let help = near::help(name, "members are", names);
            return Err(match help {
                Some(help) => wrong.help(help),
                None => wrong,
            });
        };
        if found.bitfield || !found.bits.is_multiple_of(8) {
            let message = format!("'{}' is a bitfield, and those cannot be set", shown(name));
            return Err(Wrong::refused(message));
        }
        let offset = place.offset.saturating_add(found.bits / 8);
        Ok((
            Place {
                offset,
                ty: found.ty,
            },
            rest,
        ))
    }

    /// A member, which may stand in a struct or union without a name.
    fn named(&self, composite: &Composite, name: &str) -> Option<Member> {
        // Each type once: a hostile plan has one struct many times in the next.
        let mut seen = HashSet::new();
        let mut level = vec![(composite, 0_u64)];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (composite, base) in level {
                for member in &composite.members {
                    let bits = base.saturating_add(member.bit_offset.into());
                    if member.name.as_deref() == Some(name) {
                        let bitfield = member.bitfield_size.is_some();
                        return Some(Member {
                            bits,
                            ty: member.ty,
                            bitfield,
                        });
                    }
                    if member.name.is_none()
                        && let Some((id, Type::Struct(inner) | Type::Union(inner))) =
                            resolve(self.types, member.ty)
                        && seen.insert(id)
                    {
                        next.push((inner, bits));
                    }
                }
            }
            level = next;
        }
        None
    }

    fn names(&self, composite: &'p Composite) -> Vec<&'p str> {
        let own = composite
            .members
            .iter()
            .flat_map(|member| match &member.name {
                Some(name) => vec![name.as_str()],
                None => match resolve(self.types, member.ty) {
                    Some((_, Type::Struct(inner) | Type::Union(inner))) => inner
                        .members
                        .iter()
                        .filter_map(|member| member.name.as_deref())
                        .collect(),
                    _ => Vec::new(),
                },
            });
        own.collect()
    }
}

struct Member {
    bits: u64,
    ty: TypeId,
    bitfield: bool,
}
