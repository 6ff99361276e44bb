//! What the record says about templates is enough to make more inner maps.

use bpfplan_loader::kernel::{MapAttributes, MapBtf};
use bpfplan_loader::record::Record;
use bpfplan_loader::{Kernel, RealKernel, load, unload};
use bpfplan_plan::{MapType, Plan};
use libtest_mimic::Failed;

use crate::pin;
use crate::sample::{self, PinDir, array_of_maps};

/// An outer map takes only maps with the spin lock that its template has, so it needs its types.
pub(crate) fn a_record_makes_more_inner_maps() -> Result<(), Failed> {
    let plan = sample::with_spin_lock(array_of_maps());
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    drop(load(&plan, &kernel, &pin(&directory))?);
    let record = Record::open(&kernel, &directory.0)?;
    assert_eq!(record.btf, plan.btf);
    let outer = record
        .maps
        .iter()
        .find(|map| map.name == "luts")
        .expect("it is recorded");
    let template = outer.template.as_ref().expect("it has a template");
    let ids = template.btf.expect("the template has types");
    let btf = kernel.load_btf(&record.btf, None)?;
    let attributes = |btf| MapAttributes {
        map_type: MapType(template.map_type),
        name: "more",
        key_size: template.key_size,
        value_size: template.value_size,
        max_entries: template.max_entries.expect("a number"),
        map_flags: template.map_flags,
        map_extra: template.map_extra,
        numa_node: template.numa_node,
        inner: None,
        btf,
    };
    let luts = sample::maps::open(outer.id).expect("it is there");
    let typed = kernel.create_map(&attributes(Some(MapBtf {
        fd: &btf,
        key_type_id: ids.key_type_id,
        value_type_id: ids.value_type_id,
    })))?;
    let plain = kernel.create_map(&attributes(None))?;
    assert!(!sample::maps::put(&luts, 1, &plain), "the lock is missing");
    assert!(sample::maps::put(&luts, 1, &typed));
    assert_eq!(
        sample::maps::slot(&luts, 1),
        Some(kernel.info(&typed)?.id),
        "the outer map took the new map"
    );
    unload(&kernel, &directory.0)?;
    without_types(array_of_maps())
}

/// BTF that no template uses is not recorded.
fn without_types(mut plan: Plan) -> Result<(), Failed> {
    plan.maps.remove(1);
    let directory = PinDir::new();
    let kernel = RealKernel::new();
    drop(load(&plan, &kernel, &pin(&directory))?);
    let record = Record::open(&kernel, &directory.0)?;
    assert!(!plan.btf.is_empty());
    assert_eq!(record.btf, [0; 0]);
    unload(&kernel, &directory.0)?;
    Ok(())
}
