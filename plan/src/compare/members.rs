//! Which member of one struct or union is which of another.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::types::{Composite, Member};

/// Where a member is, and how wide a bitfield.
type Place = (u32, Option<u8>);

/// The members of a struct or union that have found no counterpart yet.
pub(super) struct Members<'a> {
    by_name: HashMap<(Place, Option<&'a str>), VecDeque<usize>>,
    taken: HashSet<usize>,
    members: &'a [Member],
}

impl<'a> Members<'a> {
    pub(super) fn of(composite: &'a Composite) -> Self {
        let mut by_name: HashMap<_, VecDeque<usize>> = HashMap::new();
        for (index, member) in composite.members.iter().enumerate() {
            let key = (place_of(member), member.name.as_deref());
            by_name.entry(key).or_default().push_back(index);
        }
        Self {
            by_name,
            taken: HashSet::new(),
            members: &composite.members,
        }
    }

    /// A member of that name in the same place.
    pub(super) fn take_named(&mut self, member: &'a Member) -> Option<&'a Member> {
        let key = (place_of(member), member.name.as_deref());
        let index = self.by_name.get_mut(&key)?.pop_front()?;
        self.taken.insert(index);
        self.members.get(index)
    }

    pub(super) fn rest(self, composite: &'a Composite) -> Rest<'a> {
        let members = composite.members.iter().enumerate();
        let members: Vec<&Member> = members
            .filter(|(index, _)| !self.taken.contains(index))
            .map(|(_, member)| member)
            .collect();
        let (mut by_place, mut by_name) = (HashMap::<_, VecDeque<_>>::new(), HashMap::new());
        for (index, member) in members.iter().enumerate() {
            by_place
                .entry(place_of(member))
                .or_default()
                .push_back(index);
            if let Some(name) = member.name.as_deref() {
                by_name.entry(name).or_insert(index);
            }
        }
        Rest {
            members: members.into_iter().map(Some).collect(),
            by_place,
            by_name,
        }
    }
}

/// What is left after all members of one name in one place were matched.
pub(super) struct Rest<'a> {
    members: Vec<Option<&'a Member>>,
    by_place: HashMap<Place, VecDeque<usize>>,
    by_name: HashMap<&'a str, usize>,
}

impl<'a> Rest<'a> {
    fn take(&mut self, index: usize) -> Option<&'a Member> {
        self.members.get_mut(index)?.take()
    }

    /// Some member in the same place.
    pub(super) fn take_at(&mut self, member: &Member) -> Option<&'a Member> {
        let index = self.by_place.get_mut(&place_of(member))?.pop_front()?;
        self.take(index)
    }

    /// A member of that name in another place.
    pub(super) fn take_moved(&mut self, member: &Member) -> Option<&'a Member> {
        let index = *self.by_name.get(member.name.as_deref()?)?;
        self.take(index)
    }

    pub(super) fn all(self) -> impl Iterator<Item = &'a Member> {
        self.members.into_iter().flatten()
    }
}

fn place_of(member: &Member) -> Place {
    (member.bit_offset, member.bitfield_size)
}
