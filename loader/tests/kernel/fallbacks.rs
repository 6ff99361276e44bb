//! Where the kernel says no, and there is another way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bpfplan_loader::{Errno, FailingKernel, Fault, RealKernel, codes, load};
use bpfplan_plan::rules::KernelVersion;
use bpfplan_plan::types::{Enum, Enumerator, Member};
use bpfplan_plan::{BtfIds, Plan, Type, TypeId, uapi};
use libtest_mimic::Failed;

use crate::sample::{self, array_of_maps, maps, mixed};
use crate::{codes_of, hold, loaded};

/// Linux 5.6 to 5.18 have no batch for outer maps, older ones no batch at all.
pub(crate) fn kernels_without_batches() -> Result<(), Failed> {
    for (errno, minor) in [(Errno::ENOTSUPP, 18), (Errno::EINVAL, 5)] {
        let batches = AtomicUsize::new(0);
        let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
            (fault.call == "update_batch").then(|| {
                batches.fetch_add(1, Ordering::Relaxed);
                errno
            })
        })
        .with_version(KernelVersion { major: 5, minor });
        let plan = mixed();
        let loaded = load(&plan, &kernel, &hold())?;
        let outer = loaded.map("by_key").expect("the map was made");
        assert_eq!((outer.filled, batches.load(Ordering::Relaxed)), (3, 1));
        for slot in &plan.maps[2].slots {
            assert!(maps::slot(outer, slot.index).is_some());
        }
        assert!(codes_of(&loaded).contains(&codes::NO_BATCH));
    }
    Ok(())
}

/// From a kernel that has batches, `EINVAL` is an error; trying slot by slot would only take time.
pub(crate) fn refused_batches_are_not_tried_slot_by_slot() -> Result<(), Failed> {
    let slots = AtomicUsize::new(0);
    let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| match fault.call {
        "update_batch" => Some(Errno::EINVAL),
        "update_slot" => {
            slots.fetch_add(1, Ordering::Relaxed);
            None
        }
        _ => None,
    });
    let error = load(&mixed(), &kernel, &hold()).expect_err("the kernel says no");
    let first = &error.diagnostics[0];
    assert_eq!(first.code, codes::SLOT_REFUSED);
    assert_eq!(first.map.as_deref(), Some("by_key"));
    assert!(
        first.message.contains("filling its slots failed: EINVAL"),
        "{first}"
    );
    assert_eq!(slots.load(Ordering::Relaxed), 0);
    Ok(())
}

pub(crate) fn maps_that_do_not_take_btf() -> Result<(), Failed> {
    // The kernel wants the key of an array to be an integer; a plan from elsewhere may not know.
    let mut plan = array_of_maps();
    let key = Type::Enum(Enum {
        name: Some("which".to_owned()),
        size: 4,
        signed: false,
        variants: vec![Enumerator {
            name: "WHICH_ONE".to_owned(),
            value: 1,
        }],
    });
    let mut types = plan.types.clone();
    types.push(key);
    let id = u32::try_from(types.len())?;
    // Not a map in a slot: before Linux 6.2, those have BTF if the template has it.
    let mut odd = sample::map("odd", uapi::BPF_MAP_TYPE_ARRAY, [4, 8], 16);
    odd.key_type = Some(TypeId(id));
    odd.btf = Some(BtfIds {
        key_type_id: id,
        value_type_id: 2,
    });
    plan.maps.push(odd);
    let plan = sample::with_types(plan, types);
    let loaded = loaded(&plan)?;
    let withheld: Vec<bool> = loaded.maps.iter().map(|map| map.btf).collect();
    assert_eq!(withheld, [true, false, true, false]);
    let [warning] = loaded.diagnostics.as_slice() else {
        panic!("{:?}", loaded.diagnostics)
    };
    assert_eq!(warning.code, codes::MAP_WITHOUT_BTF);
    assert_eq!(warning.map.as_deref(), Some("odd"));
    assert!(warning.message.contains("EINVAL"), "{warning}");
    Ok(())
}

pub(crate) fn btf_that_the_kernel_refuses() -> Result<(), Failed> {
    // The kernel refuses the name; nothing says a plan from elsewhere knows that.
    let mut plan = array_of_maps();
    let mut types = plan.types.clone();
    let Type::Struct(pair) = &mut types[1] else {
        panic!("type 2 is the struct")
    };
    pair.name = Some("not a name".to_owned());
    plan = sample::with_types(plan, types);
    let loaded = loaded(&plan)?;
    assert!(loaded.maps.iter().all(|map| !map.btf));
    let [warning] = loaded.diagnostics.as_slice() else {
        panic!("{:?}", loaded.diagnostics)
    };
    assert_eq!(warning.code, codes::BTF_REDUCED);
    assert!(
        warning
            .notes
            .iter()
            .any(|note| note.contains("Invalid name")),
        "{warning:?}"
    );
    Ok(())
}

/// Before 5.11, maps are charged against `RLIMIT_MEMLOCK`, and `EPERM` means that it is too low.
pub(crate) fn kernels_that_count_locked_memory() -> Result<(), Failed> {
    let raised = AtomicBool::new(false);
    let decide = |fault: Fault<'_>| match fault.call {
        "raise_memlock" => {
            raised.store(true, Ordering::Relaxed);
            None
        }
        "load_btf" | "create_map" => (!raised.load(Ordering::Relaxed)).then_some(Errno::EPERM),
        _ => None,
    };
    let kernel = FailingKernel::new(RealKernel::new(), decide).with_version(KernelVersion {
        major: 5,
        minor: 10,
    });
    let loaded = load(&mixed(), &kernel, &hold())?;
    assert!(codes_of(&loaded).contains(&codes::MEMLOCK_RAISED));
    drop(loaded);
    raised.store(false, Ordering::Relaxed);
    let kernel = FailingKernel::new(RealKernel::new(), decide).with_version(KernelVersion {
        major: 5,
        minor: 11,
    });
    let error = load(&mixed(), &kernel, &hold()).expect_err("EPERM means no permission");
    assert_eq!(error.diagnostics[0].code, codes::MAP_REFUSED);
    assert!(!raised.load(Ordering::Relaxed));
    Ok(())
}

/// Linux 6.0 brought ENUM64, 5.17 TYPE_TAG, 5.16 DECL_TAG, 5.13 FLOAT.
pub(crate) fn kernels_that_lack_kinds_of_btf() -> Result<(), Failed> {
    let plan = with_newer_kinds(array_of_maps());
    for (newest, lacking) in [
        (uapi::BTF_KIND_ENUM64, [].as_slice()),
        (uapi::BTF_KIND_TYPE_TAG, &["ENUM64"]),
        (uapi::BTF_KIND_DECL_TAG, &["ENUM64", "TYPE_TAG"]),
        (uapi::BTF_KIND_FLOAT, &["ENUM64", "TYPE_TAG", "DECL_TAG"]),
        (
            uapi::BTF_KIND_DATASEC,
            &["ENUM64", "TYPE_TAG", "DECL_TAG", "FLOAT"],
        ),
    ] {
        let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
            let unknown = kinds(fault.btf).into_iter().any(|kind| kind > newest);
            unknown.then_some(Errno::EINVAL)
        });
        let loaded = load(&plan, &kernel, &hold())?;
        assert!(
            loaded
                .maps
                .iter()
                .filter(|map| map.name != "luts")
                .all(|map| map.btf),
            "{:?}",
            loaded.diagnostics
        );
        let warnings: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings.len(),
            usize::from(!lacking.is_empty()),
            "{warnings:?}"
        );
        assert!(
            lacking.iter().all(|kind| warnings[0].contains(kind)),
            "{warnings:?}"
        );
    }
    Ok(())
}

/// Gives the values of the maps a float, a tagged pointer, a tagged member and a large enum.
fn with_newer_kinds(plan: Plan) -> Plan {
    let mut types = plan.types.clone();
    let Type::Struct(pair) = &mut types[1] else {
        panic!("type 2 is the struct")
    };
    // In a union, all of them fit into the 8 bytes of the value.
    let mut union = pair.clone();
    for (name, ty) in [("f", 3), ("p", 5), ("e", 7)] {
        union.members.push(Member {
            name: Some(name.to_owned()),
            ty: TypeId(ty),
            bit_offset: 0,
            bitfield_size: None,
        });
    }
    for member in &mut union.members {
        member.bit_offset = 0;
    }
    types[1] = Type::Union(union);
    types.push(Type::Float {
        name: "double".to_owned(),
        size: 8,
    });
    types.push(Type::TypeTag {
        value: "user".to_owned(),
        to: TypeId(1),
        attribute: false,
    });
    types.push(Type::Ptr { to: TypeId(4) });
    types.push(Type::DeclTag {
        value: "tag".to_owned(),
        to: TypeId(2),
        component: Some(0),
        attribute: false,
    });
    types.push(Type::Enum64(Enum {
        name: Some("large".to_owned()),
        size: 8,
        signed: false,
        variants: vec![Enumerator {
            name: "LARGE".to_owned(),
            value: u64::MAX,
        }],
    }));
    sample::with_types(plan, types)
}

/// The kinds in a BTF blob of this machine's byte order.
fn kinds(btf: &[u8]) -> Vec<u32> {
    const HEADER: usize = 24;
    let word = |place: usize| u32::from_ne_bytes(btf[place..place + 4].try_into().expect("4"));
    let mut kinds = Vec::new();
    if btf.is_empty() {
        return kinds;
    }
    let (mut place, end) = (HEADER, HEADER + word(12) as usize);
    while place < end {
        let info = word(place + 4);
        let (kind, parts) = (info >> 24 & 0x1f, info as usize & 0xffff);
        kinds.push(kind);
        place += 12
            + match kind {
                uapi::BTF_KIND_INT | uapi::BTF_KIND_VAR | uapi::BTF_KIND_DECL_TAG => 4,
                uapi::BTF_KIND_ARRAY => 12,
                uapi::BTF_KIND_ENUM | uapi::BTF_KIND_FUNC_PROTO => 8 * parts,
                uapi::BTF_KIND_STRUCT
                | uapi::BTF_KIND_UNION
                | uapi::BTF_KIND_DATASEC
                | uapi::BTF_KIND_ENUM64 => 12 * parts,
                _ => 0,
            };
    }
    kinds
}

/// Before 5.5 arrays cannot be mapped into memory; global data works without.
pub(crate) fn kernels_without_mmapable_arrays() -> Result<(), Failed> {
    let refused = AtomicUsize::new(0);
    let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
        // Every first try is the one with the flag.
        let first = fault.call == "create_map" && refused.load(Ordering::Relaxed).is_multiple_of(2);
        if fault.call == "create_map" {
            refused.fetch_add(1, Ordering::Relaxed);
        }
        first.then_some(Errno::EINVAL)
    })
    .with_version(KernelVersion { major: 5, minor: 4 });
    let loaded = load(&sample::global_data(), &kernel, &hold())?;
    assert_eq!(refused.load(Ordering::Relaxed), 6);
    assert_eq!(codes_of(&loaded), [codes::RESOLVED; 3]);
    for map in &loaded.maps {
        let flags = maps::info(&map.fd).map_flags;
        assert_eq!(flags & uapi::BPF_F_MMAPABLE, 0, "{}", map.name);
    }
    Ok(())
}

/// Before 5.2 there is no freezing, and programs have no global data.
pub(crate) fn kernels_that_cannot_freeze_refuse_constants() -> Result<(), Failed> {
    let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
        (fault.call == "freeze").then_some(Errno::EINVAL)
    })
    .with_version(KernelVersion { major: 5, minor: 1 });
    let error = load(&sample::global_data(), &kernel, &hold()).expect_err("constants stay so");
    let first = &error.diagnostics[0];
    assert_eq!(first.code, codes::FREEZE_REFUSED);
    assert_eq!(first.map.as_deref(), Some("sample.rodata"));
    let reason = "this kernel cannot freeze maps (Linux 5.2)";
    assert!(first.notes.iter().any(|note| note == reason), "{first}");
    Ok(())
}
