//! The steps of a load that can have fewer descriptors than it has maps; see [`crate::chunks`].

use bpfplan_plan::{Diagnostic, Map, Step};

use crate::chunks::Chunk;
use crate::codes;
use crate::execute::Load;
use crate::kernel::{Errno, Kernel};
use crate::progress::{Progress, ask};
use crate::slots::{Filler, Put};

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
        for chunk in chunks {
            for map in &chunk.maps {
                let step = Step::CreateMap { map: *map };
                self.tell(Progress::Step(step))?;
                self.step(step)?;
            }
            self.fill_chunk(chunk)?;
            for map in &chunk.maps {
                self.close(*map)?;
            }
        }
        Ok(())
    }

    fn fill_chunk(&mut self, chunk: &Chunk) -> Result<(), Diagnostic> {
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
        let filled = Filler::new(self.plan, self.kernel, &self.maps)
            .put(&puts, &mut |next| ask(progress, interrupted, next))?;
        self.filled(filled);
        Ok(())
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
