//! Compares the calls of a load with libbpf's for the same object.

use std::collections::BTreeSet;

use bpfplan_plan::rules::KernelVersion;
use libtest_mimic::Failed;

use crate::recorder::{Call, CreateAttr};
use crate::support::release;

/// libbpf's probes create maps as well; these are their names (`features.c` in libbpf).
const PROBES: [&str; 4] = ["libbpf_mmap", "libbpf_global", "libbpf_det_bind", "arr"];

/// The maps created, in order.
///
/// Permitted differences: probes are left out; a create that failed and was repeated without BTF
/// counts once, as it succeeded.
pub(crate) fn creates(calls: &[Call]) -> Vec<CreateAttr> {
    let attrs: Vec<_> = calls
        .iter()
        .filter_map(|call| match call {
            Call::MapCreate { attr, errno } => Some((attr, *errno)),
            _ => None,
        })
        .filter(|(attr, _)| !PROBES.contains(&attr.name.as_str()))
        .collect();
    let repeated_without_btf = |index: usize, attr: &CreateAttr, errno: Option<i32>| {
        let bare = CreateAttr {
            has_key_type: false,
            has_value_type: false,
            ..attr.clone()
        };
        let next = attrs.get(index + 1);
        errno.is_some() && next.is_some_and(|(next, _)| bare == **next)
    };
    attrs
        .iter()
        .enumerate()
        .filter(|(index, (attr, errno))| !repeated_without_btf(*index, attr, *errno))
        .map(|(_, (attr, _))| (*attr).clone())
        .collect()
}

/// The slots written, by outer map and key. Permitted difference: the order, and batches.
pub(crate) fn slots(calls: &[Call]) -> BTreeSet<(String, u32, String)> {
    calls
        .iter()
        .filter_map(|call| match call {
            Call::Slot {
                outer, key, inner, ..
            } => Some((outer.clone(), *key, inner.clone())),
            _ => None,
        })
        .collect()
}

/// What was written into arrays and frozen, in order.
pub(crate) fn contents(calls: &[Call]) -> Vec<Call> {
    let wanted = |call: &&Call| matches!(call, Call::Write { .. } | Call::Freeze { .. });
    calls.iter().filter(wanted).cloned().collect()
}

/// Whether the kernel refused BTF: that of libbpf's whole object, or our small one. libbpf has
/// probed before it is recorded: an older kernel refuses the BTF of some probes.
pub(crate) fn btf_was_refused(calls: &[Call]) -> bool {
    calls.iter().any(|call| {
        matches!(
            call,
            Call::Other {
                command: libbpf_sys::BPF_BTF_LOAD,
                failed: true
            }
        )
    })
}

/// Compares the calls of two loads; the maps in `withheld` have no BTF in ours.
pub(crate) fn compare(
    ours: &[Call],
    theirs: &[Call],
    withheld: &[&str],
    probes: usize,
) -> Result<(), Failed> {
    if btf_was_refused(ours) && !btf_was_refused(theirs) {
        return Err("the kernel refuses our BTF and takes libbpf's".into());
    }
    let (mut our_creates, mut their_creates) = (creates(ours), creates(theirs));
    if btf_was_refused(theirs) {
        // Permitted difference: the small BTF lacks the type that the kernel refused.
        for attr in &mut our_creates {
            (attr.has_key_type, attr.has_value_type) = (false, false);
        }
    }
    for attr in &mut their_creates {
        if withheld.contains(&attr.name.as_str()) {
            (attr.has_key_type, attr.has_value_type) = (false, false);
        }
    }
    if our_creates != their_creates {
        return Err(format!(
            "creates differ\nours:   {our_creates:#?}\ntheirs: {their_creates:#?}"
        )
        .into());
    }
    if slots(ours) != slots(theirs) {
        return Err(format!("slots: {:#?} against {:#?}", slots(ours), slots(theirs)).into());
    }
    if contents(ours) != contents(theirs) {
        let (ours, theirs) = (contents(ours), contents(theirs));
        return Err(format!("contents: {ours:#?} against {theirs:#?}").into());
    }
    only_what_is_needed(ours, probes)
}

/// Our own sequence: no probe, no second create, one batch an outer map, slots after all creates.
fn only_what_is_needed(ours: &[Call], probes: usize) -> Result<(), Failed> {
    let mut others = Vec::new();
    let refused = btf_was_refused(ours);
    for call in ours {
        match call {
            Call::Other { command, failed } => others.push((*command, *failed)),
            Call::MapCreate {
                attr,
                errno: Some(errno),
            } => {
                return Err(
                    format!("a create that could be foreseen failed ({errno}): {attr:?}").into(),
                );
            }
            _ => {}
        }
    }
    let allowed = [libbpf_sys::BPF_BTF_LOAD, libbpf_sys::BPF_OBJ_GET_INFO_BY_FD];
    let unexpected = |(command, failed): &&(u32, bool)| {
        !allowed.contains(command) || *failed && *command != libbpf_sys::BPF_BTF_LOAD
    };
    // What programs are told about the kernel has to be tried.
    let is_probe = |(command, _): &&(u32, bool)| *command == libbpf_sys::BPF_PROG_LOAD;
    if others.iter().filter(is_probe).count() > probes {
        return Err("more programs were tried than values ask for".into());
    }
    let mut others_but_probes = others.iter().filter(|call| !is_probe(call));
    if let Some((command, failed)) = others_but_probes.find(unexpected) {
        return Err(
            format!("a call that no step needs: command {command}, failed {failed}").into(),
        );
    }
    let loads = others
        .iter()
        .filter(|(command, _)| *command == libbpf_sys::BPF_BTF_LOAD);
    // As with libbpf, a second time for the kernel's log; then without what an older kernel lacks.
    if loads.count() > if refused { 3 } else { 1 } {
        return Err("BTF was loaded more often than needed".into());
    }
    let mut batches = ours.iter().filter_map(|call| match call {
        Call::Batch { outer, .. } => Some(outer),
        _ => None,
    });
    let mut seen = BTreeSet::new();
    if let Some(outer) = batches.find(|outer| !seen.insert(*outer)) {
        return Err(format!("more than one batch for '{outer}'").into());
    }
    let first_slot = ours
        .iter()
        .position(|call| matches!(call, Call::Slot { .. }));
    let last_create = ours
        .iter()
        .rposition(|call| matches!(call, Call::MapCreate { .. }));
    if let (Some(slot), Some(create)) = (first_slot, last_create)
        && slot < create
    {
        return Err("a slot was filled before all maps existed".into());
    }
    // Older kernels wait for each element of a batch, and threads fill the rest of it.
    let waits_once = KernelVersion { major: 6, minor: 8 };
    if release::running() >= waits_once
        && ours
            .iter()
            .any(|call| matches!(call, Call::Slot { batch: false, .. }))
    {
        return Err(
            "this kernel has batches for outer maps, and slots were filled one by one".into(),
        );
    }
    Ok(())
}
