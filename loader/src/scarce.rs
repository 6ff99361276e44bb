//! The steps of a load that can have fewer descriptors than it has maps; see [`crate::chunks`].

use std::collections::BTreeMap;

use bpfplan_plan::{Diagnostic, Map, Step};

use crate::chunks::Chunk;
use crate::codes;
use crate::execute::Load;
use crate::kernel::{Errno, Kernel};
use crate::progress::{Progress, ask};
use crate::slots::{Filled, Filler, Put};

/// A map that is made and not open any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    pub(crate) id: u32,
    pub(crate) max_entries: u32,
}

impl<K: Kernel> Load<'_, K> {
    /// Creates the maps of all chunks, fills their slots and closes them.
    pub(crate) fn in_chunks(&mut self, chunks: &[Chunk]) -> Result<(), Diagnostic> {
        if chunks.is_empty() {
            return Ok(());
        }
        self.tell(Progress::Chunks {
            maps: chunks.iter().map(|chunk| chunk.maps.len()).sum(),
            chunks: chunks.len(),
        })?;
        let mut outers: BTreeMap<usize, Filled> = BTreeMap::new();
        for chunk in chunks {
            for map in &chunk.maps {
                let step = Step::CreateMap { map: *map };
                self.tell(Progress::Step(step))?;
                self.step(step)?;
            }
            for filled in self.fill_chunk(chunk)? {
                let sum = outers.entry(filled.map).or_insert(Filled {
                    slots: 0,
                    one_by_one: 0,
                    ..filled
                });
                sum.slots = sum.slots.saturating_add(filled.slots);
                sum.one_by_one = sum.one_by_one.saturating_add(filled.one_by_one);
            }
            for map in &chunk.maps {
                self.close(*map)?;
            }
        }
        self.filled(outers.into_values());
        Ok(())
    }

    fn fill_chunk(&mut self, chunk: &Chunk) -> Result<Vec<Filled>, Diagnostic> {
        let puts = chunk.slots.iter().filter_map(|slot| {
            Some(Put {
                map: slot.outer,
                slot: slot.slot,
                name: &self.plan.maps.get(slot.target)?.name,
                fd: &self.maps.get(slot.target)?.as_ref()?.fd,
            })
        });
        let puts: Vec<_> = puts.collect();
        let (progress, interrupted) = (&mut self.progress, &mut self.interrupted);
        Filler::new(self.plan, self.kernel, &self.maps)
            .put(&puts, &mut |next| ask(progress, interrupted, next))
    }

    /// Closes a map that some slot holds; its id remains.
    fn close(&mut self, index: usize) -> Result<(), Diagnostic> {
        let id = self.id(index)?;
        let created = self.maps.get_mut(index).and_then(Option::take);
        if let (Some(id), Some(created)) = (id, created) {
            let max_entries = created.max_entries;
            self.closed.insert(index, Closed { id, max_entries });
        }
        Ok(())
    }

    /// Opens a map that was closed once more.
    pub(crate) fn open_again(&self, map: &Map, id: u32) -> Result<K::Fd, Diagnostic> {
        self.kernel.map_by_id(id).map_err(|errno| {
            let message = format!("opening it again by its id {id} failed: {errno}");
            Diagnostic::error(codes::PIN_REFUSED, message)
                .map(&map.name)
                .at(map.source.as_ref(), "declared here")
                .note("it was closed for lack of descriptors when its outer map held it")
        })
    }
}

/// Why maps cannot be opened by their ids, if they cannot: no map has the id 0.
pub(crate) fn not_opened_by_id<K: Kernel>(kernel: &K) -> Option<Errno> {
    match kernel.map_by_id(0) {
        Ok(_) | Err(Errno::ENOENT) => None,
        Err(errno) => Some(errno),
    }
}
