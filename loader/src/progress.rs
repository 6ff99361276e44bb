//! What the caller hears of a load while it goes on.

use std::ops::ControlFlow;
use std::path::Path;

use bpfplan_plan::{Diagnostic, Step};

use crate::codes;
use crate::slots::Way;

/// What a load is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A step of the plan.
    Step(Step),
    /// Use the map that is pinned there instead of creating one.
    Reuse {
        /// Index of the map in the plan.
        map: usize,
        /// Path of the pin.
        path: &'a Path,
    },
    /// Begin again, because somebody else has changed the pins.
    Again,
    /// Fill slots of outer maps, or those of them that are still empty, in this way: those of all
    /// outer maps, unless some maps come with programs, or are closed when they are in slots.
    Fill(Way),
    /// Create so many large maps at the same time, before the others or while slots are filled;
    /// each is told of again when its turn comes.
    Together {
        /// Number of maps.
        maps: usize,
        /// Number of threads.
        threads: usize,
    },
    /// Create so many maps in so many chunks, each of which is closed when its slots are filled:
    /// there are fewer descriptors than maps.
    Chunks {
        /// Number of maps.
        maps: usize,
        /// Number of chunks.
        chunks: usize,
    },
    /// Go on with what was told last; this is asked now and then, where it takes long.
    GoOn,
    /// Make a directory for pins.
    MakeDirectory(&'a Path),
    /// Write the record of the load, and pin it.
    Record(&'a Path),
    /// Pin a map.
    Pin {
        /// Index of the map in the plan.
        map: usize,
        /// Path of the pin.
        path: &'a Path,
    },
    /// Pin a program.
    PinProgram {
        /// Name of the program.
        name: &'a str,
        /// Path of the pin.
        path: &'a Path,
    },
}

/// Says what comes next, unless the caller wants no more.
pub(crate) fn ask(
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    interrupted: &mut bool,
    next: Progress<'_>,
) -> Result<(), Diagnostic> {
    if progress(next).is_continue() {
        return Ok(());
    }
    *interrupted = true;
    Err(Diagnostic::error(
        codes::INTERRUPTED,
        "the load was interrupted",
    ))
}
