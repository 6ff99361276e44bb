//! Filling slots while programs load.
//!
//! libbpf opens the object and the kernel verifies its programs, which takes from a millisecond to
//! seconds; the slots wait for an RCU grace period meanwhile. So the programs are loaded on a thread
//! of their own, and this one fills the slots of all outer maps that are there with all their inner
//! maps. Those for which maps come with the programs are filled afterwards.
//!
//! The slots stay on the calling thread because a batch takes longer on a fresh one, and because
//! that is where the caller is asked whether to go on.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bpfplan_plan::Diagnostic;

use crate::codes;
use crate::execute::Load;
use crate::kernel::{Kernel, ProgramRequest, RequestedMap};
use crate::options::ProgramOptions;
use crate::program_load::Asked;
use crate::progress::ask;
use crate::slots::Filler;

/// Bytes of stack of the thread that libbpf works on: as many as the main thread of a process
/// mostly has. libbpf recurses as deep as subprograms call each other, before the kernel says that
/// they are too many.
const STACK: usize = 8 << 20;

impl<K: Kernel> Load<'_, K> {
    /// Has libbpf load the programs over the maps that are there and takes over what it makes, and
    /// fills the slots of these outer maps.
    ///
    /// A failure of the programs stops the filling. libbpf cannot be stopped: after a failure of
    /// the slots the programs go when it is done. An interruption is told first, then a failure of
    /// the programs, whose step comes first, then one of the slots.
    pub(crate) fn load_programs_and_fill(
        &mut self,
        options: &ProgramOptions,
        outers: &[usize],
    ) -> Result<(), Diagnostic> {
        let (plan, kernel) = (self.plan, self.kernel);
        let Asked {
            object,
            kconfig,
            maps: asked,
        } = self.asked(&options.object)?;
        let indices: Vec<usize> = asked.iter().map(|(index, _)| *index).collect();
        let requested = asked.into_iter().filter_map(|(index, contents)| {
            let created = self.maps.get(index)?.as_ref();
            Some(RequestedMap {
                map: plan.maps.get(index)?,
                fd: created.map(|created| &created.fd),
                contents,
            })
        });
        let maps: Vec<_> = requested.collect();
        let request = ProgramRequest {
            object: &object,
            name: &plan.object.name,
            kconfig: kconfig.as_deref(),
            maps: &maps,
            programs: &plan.programs,
        };
        let filler = Filler::new(plan, kernel, &self.maps);
        let ready = |outer: &usize| kernel.overlaps() && filler.is_ready(*outer);
        let (now, later): (Vec<usize>, Vec<usize>) = outers.iter().partition(|outer| ready(outer));
        let refused = AtomicBool::new(false);
        let load = || {
            let answer = kernel.load_programs(&request);
            refused.store(answer.is_err(), Ordering::Relaxed);
            answer
        };
        let (progress, interrupted) = (&mut self.progress, &mut self.interrupted);
        let fill = || {
            filler.fill_all(&now, &mut |next| {
                if refused.load(Ordering::Relaxed) && !*interrupted {
                    // Only to stop it: the answer of libbpf says why.
                    return Err(Diagnostic::error(codes::PROGRAMS_REFUSED, ""));
                }
                ask(progress, interrupted, next)
            })
        };
        let (answer, filled) = if now.is_empty() {
            (load(), Ok(Vec::new()))
        } else {
            at_once(&load, fill)
        };
        match answer {
            _ if self.interrupted => {}
            Ok(answer) => self.take_over(answer, &indices),
            Err(failure) => return Err(self.programs_refused(failure)),
        }
        self.filled(filled?);
        self.fill_slots(&later)
    }
}

/// Does the first on a thread of its own and the second on this one; where no thread can be had,
/// the first comes first.
fn at_once<A: Send, B>(first: &(impl Fn() -> A + Sync), second: impl FnOnce() -> B) -> (A, B) {
    let builder = thread::Builder::new().stack_size(STACK);
    thread::scope(|scope| match builder.spawn_scoped(scope, first) {
        Ok(other) => {
            let second = second();
            (
                other.join().unwrap_or_else(|why| resume_unwind(why)),
                second,
            )
        }
        Err(_) => (first(), second()),
    })
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::at_once;

    /// Rust gives 2 MiB to a thread, and less than these calls take.
    #[test]
    fn libbpf_has_the_stack_of_a_main_thread() {
        fn deep(level: u32) -> u32 {
            let local = black_box([1_u8; 600]);
            match level {
                0 => 0,
                level => deep(level - 1) + u32::from(local[0]),
            }
        }
        assert_eq!(at_once(&|| deep(4 << 10), || ()), (4 << 10, ()));
    }
}
