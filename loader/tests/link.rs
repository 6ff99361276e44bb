//! Several objects into one: compiler, libbpf's linker and kernel together, for every line
//! `// link: OBJECT... => loads|refused WHY` of the fixtures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

#[path = "../../compiler/tests/builder/mod.rs"]
mod builder;
#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, AsRawFd as _};

use bpfplan_compiler::link::{Input, Linkable, check};
use bpfplan_loader::link::{LinkInput, link};
use bpfplan_loader::{LoadOptions, RealKernel, load};
use bpfplan_plan::types::TypeId;
use bpfplan_plan::{Diagnostic, Endianness, Plan, SlotTarget, validate};
use libtest_mimic::{Failed, Trial};
use support::fixtures;
use support::kernel_view;
use support::libbpf::{Declared, Object, from_plan};

type Outcome = Result<(), Failed>;

fn main() {
    let sets = sets();
    let mut trials: Vec<Trial> = sets
        .iter()
        .cloned()
        .map(|set| Trial::test(format!("set::{}", set.objects.join("+")), move || set.run()))
        .collect();
    trials.push(Trial::test("the_order_does_not_matter", move || {
        the_order_does_not_matter(&sets)
    }));
    trials.push(Trial::test("declared_first", declared_first));
    trials.push(Trial::test("both_places_are_named", both_places_are_named));
    trials.push(Trial::test(
        "long_chains_of_types_are_merged",
        long_chains_of_types_are_merged,
    ));
    support::privilege::run(trials)
}

/// Objects that are linked, and what comes of it.
#[derive(Clone)]
struct Set {
    objects: Vec<String>,
    loads: bool,
}

fn sets() -> Vec<Set> {
    let mut sources = BTreeSet::new();
    let mut sets = Vec::new();
    for fixture in fixtures::all() {
        if !sources.insert(fixture.source.clone()) {
            continue;
        }
        let lines = fixture.source.lines();
        for line in lines.filter_map(|line| line.strip_prefix("// link: ")) {
            let (objects, expectation) = line.split_once(" => ").expect("a set says what becomes");
            assert!(
                expectation == "loads" || expectation.starts_with("refused "),
                "{line}"
            );
            sets.push(Set {
                objects: objects.split(' ').map(str::to_owned).collect(),
                loads: expectation == "loads",
            });
        }
    }
    assert!(sets.len() > 10, "only {} sets", sets.len());
    sets
}

/// The linked object as the linker left it and repaired, and what is known about it.
struct Linked {
    linkable: Linkable,
    raw: Vec<u8>,
    repaired: Vec<u8>,
}

fn linked(objects: &[&str]) -> Result<Linked, Vec<Diagnostic>> {
    let named: Vec<(String, Vec<u8>)> = objects
        .iter()
        .map(|name| (format!("{name}.bpf.o"), fixtures::named(name).bytes()))
        .collect();
    let inputs: Vec<Input<'_>> = named
        .iter()
        .map(|(name, bytes)| Input { name, bytes })
        .collect();
    let linkable = check(&inputs)?;
    let inputs: Vec<LinkInput<'_>> = named
        .iter()
        .map(|(name, bytes)| LinkInput { name, bytes })
        .collect();
    let raw = link(&inputs).map_err(|diagnostic| vec![*diagnostic])?;
    assert_eq!(raw, link(&inputs).unwrap(), "the linker is deterministic");
    let mut repaired = raw.clone();
    linkable.repair(&mut repaired)?;
    Ok(Linked {
        linkable,
        raw,
        repaired,
    })
}

fn plan(linked: &Linked) -> Result<Plan, Vec<Diagnostic>> {
    let compiled = linked
        .linkable
        .compile(&linked.repaired, &Default::default())?;
    validate::validate(&compiled.plan)?;
    Ok(compiled.plan)
}

impl Set {
    fn objects(&self) -> Vec<&str> {
        self.objects.iter().map(String::as_str).collect()
    }

    fn run(&self) -> Outcome {
        let linked = match linked(&self.objects()) {
            Err(problems) if self.loads => return Err(format!("{problems:#?}").into()),
            Err(_) => return Ok(()),
            Ok(_) if !self.loads => return Err("it can be linked".into()),
            Ok(linked) => linked,
        };
        let plan = plan(&linked).map_err(|problems| format!("{problems:#?}"))?;
        // libbpf opens the repaired object and sees the same maps.
        let theirs = Object::open_bytes(&linked.repaired)
            .map_err(|errno| format!("libbpf does not open the repaired object: {errno}"))?;
        let declared: Vec<Declared> = theirs
            .maps()
            .iter()
            .map(|map| map.declared())
            .map(renamed)
            .collect();
        let ours: Vec<Declared> = plan
            .maps
            .iter()
            .map(|map| renamed(from_plan(map, map.inner.as_deref())))
            .collect();
        if ours != declared {
            return Err(format!("ours {ours:#?}\ntheirs {declared:#?}").into());
        }
        for map in plan.maps.iter().filter(|map| map.data.is_none()) {
            assert!(map.source.is_some(), "'{}' has no place", map.name);
        }
        if plan.object.endianness != Endianness::NATIVE {
            return Ok(());
        }
        self.load(&plan, &theirs)
    }

    /// Loads the plan, and the object with libbpf where the order of its maps allows that.
    fn load(&self, plan: &Plan, theirs: &Object) -> Outcome {
        let options = LoadOptions {
            hold: true,
            ..LoadOptions::default()
        };
        let ours = load(plan, &RealKernel::new(), &options).map_err(|error| error.to_string())?;
        for (map, made) in plan.maps.iter().zip(&ours.maps) {
            if map.is_outer() {
                let filled = kernel_view::slots(made.fd.as_fd().as_raw_fd());
                assert_eq!(filled, slots(plan, &map.name), "{}", map.name);
            }
        }
        theirs.without_programs();
        match theirs.load() {
            Ok(()) => {}
            // An outer map that stands before its inner maps.
            Err(libc::EINVAL) if outer_first(plan) => return Ok(()),
            Err(errno) => return Err(format!("libbpf does not load it: {errno}").into()),
        }
        for (ours, theirs) in ours.maps.iter().zip(theirs.maps()) {
            let (ours, theirs) = (ours.fd.as_fd().as_raw_fd(), theirs.fd());
            let (a, b) = (kernel_view::view(ours), kernel_view::view(theirs));
            let sizes = |view: &kernel_view::View| {
                (
                    view.map_type,
                    view.key_size,
                    view.value_size,
                    view.max_entries,
                    view.map_flags,
                )
            };
            assert_eq!(sizes(&a), sizes(&b));
            assert_eq!(kernel_view::frozen(ours), kernel_view::frozen(theirs));
            if a.map_type == libbpf_sys::BPF_MAP_TYPE_ARRAY {
                assert_eq!(kernel_view::element(ours), kernel_view::element(theirs));
            }
        }
        Ok(())
    }
}

/// Maps of global data are called after the object, which is another one here and there.
fn renamed(mut map: Declared) -> Declared {
    if let Some((_, section)) = map.name.split_once('.') {
        map.name = format!(".{section}");
    }
    map
}

/// Whether a slot's target stands behind the outer map.
fn outer_first(plan: &Plan) -> bool {
    let place = |name: &str| plan.maps.iter().position(|map| map.name == name);
    plan.maps.iter().any(|map| {
        map.slots.iter().any(|slot| match &slot.target {
            SlotTarget::Map(target) => place(target) > place(&map.name),
            SlotTarget::Program(_) => false,
        })
    })
}

fn slots(plan: &Plan, outer: &str) -> BTreeMap<u32, String> {
    let slots = plan.map(outer).unwrap().slots.iter();
    slots
        .map(|slot| match &slot.target {
            SlotTarget::Map(name) | SlotTarget::Program(name) => {
                (slot.index, name.chars().take(15).collect())
            }
        })
        .collect()
}

/// The same objects in another order: the same maps with the same slots, from the same places.
fn the_order_does_not_matter(sets: &[Set]) -> Outcome {
    let mut seen: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
    let mut compared = 0;
    for set in sets.iter().filter(|set| set.loads) {
        let mut objects = set.objects();
        let linked = linked(&objects).map_err(|problems| format!("{problems:#?}"))?;
        let plan = plan(&linked).map_err(|problems| format!("{problems:#?}"))?;
        let maps = plan.maps.iter().filter(|map| map.data.is_none());
        let mut maps: Vec<String> = maps
            .map(|map| {
                let declared = from_plan(map, map.inner.as_deref());
                let slots = slots(&plan, &map.name);
                format!("{declared:?} {slots:?} {:?}", map.source)
            })
            .collect();
        maps.sort();
        objects.sort_unstable();
        if let Some(before) = seen.get(&objects) {
            assert_eq!(before, &maps, "{objects:?}");
            compared += 1;
        }
        seen.insert(objects, maps);
    }
    assert!(compared >= 4, "only {compared} orders were compared");
    Ok(())
}

/// What the linker does well is left alone; what it does wrong is why there is a repair.
fn declared_first() -> Outcome {
    let good = linked(&["link_table", "link_user"]).map_err(|why| format!("{why:?}"))?;
    assert!(good.raw == good.repaired, "nothing is to repair");
    for objects in [
        &["link_user", "link_table"][..],
        &["link_outer_user", "link_outer", "link_inner"],
        &["link_inner", "link_outer", "link_outer_user"],
        &["link_outer", "link_inner", "link_weak"],
    ] {
        let bad = linked(objects).map_err(|why| format!("{why:?}"))?;
        assert!(bad.raw != bad.repaired, "{objects:?}");
    }
    Ok(())
}

fn both_places_are_named() -> Outcome {
    let Err(problems) = linked(&["link_table", "link_conflict"]) else {
        return Err("it can be linked".into());
    };
    let conflicts = problems
        .iter()
        .filter(|it| it.code == bpfplan_compiler::codes::TWO_DEFINITIONS);
    let places: Vec<Vec<&str>> = conflicts
        .map(|it| {
            let labels = it.labels.iter();
            labels.map(|label| label.source.file.as_ref()).collect()
        })
        .collect();
    let both = ["fixtures/link_conflict.bpf.c", "fixtures/link_table.bpf.c"];
    assert_eq!(places, [both, both, both]);
    Ok(())
}

/// Merging types is recursive in libbpf. Both objects have a chain of structs that are all alike.
fn long_chains_of_types_are_merged() -> Outcome {
    let object = |map: &str| {
        let mut maps = builder::Maps::new();
        // Each points to the one behind it, so that none is merged before all have been seen.
        let first = maps.pointer(TypeId(4));
        let first = maps.structure(Some("first"), &[("next", first)]);
        for number in 0..100_000_u32 {
            maps.structure(
                Some(&format!("s{number}")),
                &[("next", TypeId(2 * number + 5))],
            );
            maps.pointer(TypeId(2 * number + 6));
        }
        let last = maps.int();
        maps.structure(Some("last"), &[("end", last)]);
        let members = [
            ("type", maps.number(1)),
            ("max_entries", maps.number(4)),
            ("key", maps.pointer(maps.int())),
            ("value", maps.pointer(first)),
        ];
        let ty = maps.structure(None, &members);
        maps.variable(map, ty, 32);
        maps.object()
    };
    let (one, two) = (object("one"), object("two"));
    let inputs = [("one.o", &one), ("two.o", &two)];
    check(&inputs.map(|(name, bytes)| Input { name, bytes })).map_err(|why| format!("{why:?}"))?;
    link(&inputs.map(|(name, bytes)| LinkInput { name, bytes })).map_err(|why| why.to_string())?;
    Ok(())
}
