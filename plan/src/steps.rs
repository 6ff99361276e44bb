//! What has to be done to load a plan, in order.

use serde::Serialize;

use crate::model::{Map, Pinning, Plan, SlotTarget};

/// One step of a load. Maps are named by their index in [`Plan::maps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// `BPF_BTF_LOAD` of [`Plan::btf`].
    LoadBtf,
    /// Create the inner template of an outer map.
    CreateTemplate {
        /// Index of the outer map.
        map: usize,
    },
    /// Create the map; an outer map with its template as `inner_map_fd`.
    CreateMap {
        /// Index of the map.
        map: usize,
    },
    /// Close the inner template: the kernel keeps what it needs of it.
    DropTemplate {
        /// Index of the outer map.
        map: usize,
    },
    /// Write the initial contents of the map into its only element; those of `.kconfig` are what
    /// its values are on this machine.
    WriteContents {
        /// Index of the map.
        map: usize,
    },
    /// Freeze the map: user space cannot write to it any more.
    Freeze {
        /// Index of the map.
        map: usize,
    },
    /// Have libbpf load the programs, and create the maps that come with them.
    LoadPrograms,
    /// Put programs into the static slots of a program array.
    FillPrograms {
        /// Index of the program array.
        map: usize,
    },
    /// Fill all static slots of an outer map.
    FillSlots {
        /// Index of the outer map.
        map: usize,
    },
    /// Pin the map.
    Pin {
        /// Index of the map.
        map: usize,
    },
}

impl Step {
    /// Index of the map that the step is about.
    #[must_use]
    pub fn map_index(self) -> Option<usize> {
        match self {
            Self::LoadBtf | Self::LoadPrograms => None,
            Self::CreateTemplate { map }
            | Self::CreateMap { map }
            | Self::DropTemplate { map }
            | Self::WriteContents { map }
            | Self::Freeze { map }
            | Self::FillPrograms { map }
            | Self::FillSlots { map }
            | Self::Pin { map } => Some(map),
        }
    }
}

impl Plan {
    /// The steps of a load that leaves nothing out: with the programs if some map or slot needs
    /// them.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        self.steps_with(self.needs_programs())
    }

    /// The steps of a load, in order: the BTF, every map with its template or its initial
    /// contents; the programs, with the maps that come with them; then, after all maps exist, the
    /// slots, and last the pins that declarations ask for.
    ///
    /// Without `programs`, slots for them stay empty, and maps that only libbpf can make are left
    /// out.
    #[must_use]
    pub fn steps_with(&self, programs: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.btf.is_empty() {
            steps.push(Step::LoadBtf);
        }
        for (index, map) in self.maps.iter().enumerate() {
            if map
                .with_programs
                .is_some_and(|why| programs || why.is_libbpfs())
            {
                continue;
            }
            if map.inner.is_some() {
                steps.push(Step::CreateTemplate { map: index });
            }
            steps.push(Step::CreateMap { map: index });
            if map.inner.is_some() {
                steps.push(Step::DropTemplate { map: index });
            }
            let resolved = !map.externs.is_empty();
            if map.data.is_some() || resolved {
                steps.push(Step::WriteContents { map: index });
                if resolved || map.data.as_ref().is_some_and(|data| data.frozen) {
                    steps.push(Step::Freeze { map: index });
                }
            }
        }
        let of = |wanted: fn(&Map) -> bool| {
            self.maps
                .iter()
                .enumerate()
                .filter(move |(_, map)| wanted(map))
                .map(|(index, _)| index)
        };
        if programs {
            steps.push(Step::LoadPrograms);
        }
        steps.extend(of(has_map_slots).map(|map| Step::FillSlots { map }));
        if programs {
            steps.extend(of(Map::has_program_slots).map(|map| Step::FillPrograms { map }));
        }
        steps.extend(of(|map| map.pinning == Pinning::ByName).map(|map| Step::Pin { map }));
        steps
    }
}

fn has_map_slots(map: &Map) -> bool {
    map.slots
        .iter()
        .any(|slot| matches!(slot.target, SlotTarget::Map(_)))
}
