//! Generated modules as text. That they compile and work, `bindings-tests` shows.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

use std::path::Path;

use bpfplan_compiler::bindings::{BindingsOptions, Embed, generate};
use bpfplan_compiler::{Options, codes, compile};
use bpfplan_plan::types::{Composite, Enum, Enumerator, IntEncoding, Member};
use bpfplan_plan::{Plan, Source, Type, TypeId, format};

fn fixture(name: &str) -> Plan {
    let file = format!("{name}.bpf.o");
    let objects = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj");
    let bytes = std::fs::read(objects.join(&file)).unwrap();
    let options = Options::default();
    compile(&bytes, &file, &options).unwrap().plan
}

/// A plan with one map, whose value is the last of these types.
fn plan(types: Vec<Type>, size: u32) -> Plan {
    let mut plan = fixture("types_array");
    plan.maps.truncate(1);
    let map = &mut plan.maps[0];
    map.key_type = None;
    map.value_type = Some(TypeId(u32::try_from(types.len()).unwrap()));
    map.value_size = size;
    map.btf = None;
    plan.types = types;
    plan.kernel_types = 0;
    plan.btf = bpfplan_plan::Bytes::new();
    plan
}

fn text(plan: &Plan) -> String {
    let options = BindingsOptions {
        embed: Embed::File("a.plan".to_owned()),
        name: None,
    };
    generate(plan, &options).unwrap().source
}

fn int() -> Type {
    Type::Int {
        name: "int".to_owned(),
        size: 4,
        bits: 32,
        bit_offset: 0,
        encoding: IntEncoding::Signed,
    }
}

fn member(name: &str, ty: u32, offset: u32) -> Member {
    Member {
        name: Some(name.to_owned()),
        ty: TypeId(ty),
        bit_offset: offset * 8,
        bitfield_size: None,
    }
}

fn composite(name: &str, size: u32, members: Vec<Member>) -> Type {
    Type::Struct(Composite {
        name: Some(name.to_owned()),
        size,
        members,
    })
}

#[test]
fn the_embedded_plan_is_the_plan() {
    let plan = fixture("value_unions");
    let bindings = generate(&plan, &BindingsOptions::default()).unwrap();
    assert_eq!(format::read(&bindings.plan).unwrap(), plan);
    assert_eq!(bindings.name, "ValueUnions");
    assert!(bindings.source.contains("\n        b\"bpfplan\\0"));
    let named = BindingsOptions {
        name: Some("type".to_owned()),
        ..BindingsOptions::default()
    };
    assert_eq!(generate(&plan, &named).unwrap().name, "r#type");
}

#[test]
fn the_byte_order_is_the_object_s() {
    assert!(text(&fixture("types_hash")).contains("not(target_endian = \"little\")"));
    assert!(text(&fixture("types_hash.be")).contains("not(target_endian = \"big\")"));
}

/// A loader of another version is an error of the build, not of the load.
#[test]
fn the_version_of_the_plan_is_checked_when_compiled() {
    let source = text(&fixture("types_hash"));
    let check = format!(
        "::bpfplan_loader::bindings::PLAN_VERSION == {},",
        format::VERSION
    );
    assert!(source.contains(&check), "{source}");
}

#[test]
fn programs_have_names_of_rust() {
    let mut plan = fixture("programs_several");
    assert!(text(&plan).contains("pub programs: ProgramsSeveralPrograms,"));
    let mut first = plan.programs[0].clone();
    first.name = "type".to_owned();
    plan.programs = vec![first.clone(), first];
    let source = text(&plan);
    for line in [
        "pub r#type: ::core::option::Option<::bpfplan_loader::bindings::Program>,",
        "type_2: bindings::LoadedPlan::program(&mut loaded, \"type\"),",
    ] {
        assert!(source.contains(line), "{line}\n{source}");
    }
    plan.programs.clear();
    assert!(!text(&plan).contains("pub programs:"));
}

/// Every handle is one of the loader's; `inner_every_type` and others compile with them.
#[test]
fn kinds_of_maps_have_handles() {
    let source = text(&fixture("types_net"));
    for handle in [
        "DevMap",
        "DevMapHash",
        "CpuMap",
        "XskMap",
        "SockMap",
        "SockHash<u32>",
    ] {
        let ty = format!(": ::bpfplan_loader::maps::{handle},");
        assert!(source.contains(&ty), "{ty}\n{source}");
    }
    let storage = text(&fixture("types_local_storage"));
    assert!(storage.contains("per_task: ::bpfplan_loader::maps::LocalStorage<types::state>,"));
    let mut stacks = fixture("user_ring");
    assert!(text(&stacks).contains("stacks: ::bpfplan_loader::maps::StackTrace,"));
    // Build ids are no addresses.
    let map = stacks
        .maps
        .iter_mut()
        .find(|map| map.name == "stacks")
        .unwrap();
    map.map_flags |= bpfplan_plan::uapi::BPF_F_STACK_BUILD_ID;
    assert!(text(&stacks).contains("stacks: ::bpfplan_loader::maps::RawMap,"));
}

#[test]
fn names_of_the_module_s_own_are_not_taken() {
    let plan = fixture("types_array");
    for (name, rust) in [
        ("types", "types_"),
        ("bindings", "bindings_"),
        ("type", "r#type"),
    ] {
        let options = BindingsOptions {
            name: Some(name.to_owned()),
            ..BindingsOptions::default()
        };
        let bindings = generate(&plan, &options).unwrap();
        assert_eq!(bindings.name, rust);
        assert!(!bindings.source.contains("Openr#"), "{name}");
    }
}

#[test]
fn the_same_struct_twice_is_one_type() {
    let inner = |size| composite("inner", 4, vec![member("a", size, 0)]);
    let types = vec![
        int(),
        inner(1),
        inner(1),
        composite("outer", 8, vec![member("x", 2, 0), member("y", 3, 4)]),
    ];
    let source = text(&plan(types, 8));
    assert_eq!(source.matches("pub struct inner").count(), 1);
    assert!(source.contains("pub y: inner,"));
}

#[test]
fn another_struct_of_the_name_has_a_number() {
    let types = vec![
        int(),
        composite("inner", 4, vec![member("a", 1, 0)]),
        composite("inner", 4, vec![member("b", 1, 0)]),
        composite("outer", 8, vec![member("x", 2, 0), member("y", 3, 4)]),
    ];
    let source = text(&plan(types, 8));
    assert!(source.contains("pub x: inner,") && source.contains("pub y: inner_2,"));
}

#[test]
fn members_that_overlap_become_bytes() {
    let members = vec![member("a", 1, 0), member("b", 1, 2)];
    let source = text(&plan(vec![int(), composite("odd", 8, members)], 8));
    assert!(source.contains("pub bytes: [u8; 8],"));
    assert!(source.contains("pub fn set_b(&mut self, value: i32)"));
}

#[test]
fn unaligned_members_are_packed_as_little_as_possible() {
    let types = |offset, size| vec![int(), composite("odd", size, vec![member("a", 1, offset)])];
    assert!(text(&plan(types(2, 6), 6)).contains("#[repr(C, packed(2))]"));
    assert!(text(&plan(types(1, 8), 8)).contains("#[repr(C, packed)]"));
    assert!(text(&plan(types(4, 8), 8)).contains("#[repr(C)]"));
}

#[test]
fn two_maps_of_one_name_are_named_with_both_places() {
    let mut plan = fixture("types_array");
    for (map, (name, line)) in plan.maps.iter_mut().zip([("a.b", 3), ("a_b", 7)]) {
        map.name = name.to_owned();
        map.source = Some(Source {
            file: "a.bpf.c".into(),
            line,
        });
    }
    let problems = generate(&plan, &BindingsOptions::default()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].code, codes::ONE_RUST_NAME);
    let lines: Vec<u32> = problems[0]
        .labels
        .iter()
        .map(|label| label.source.line)
        .collect();
    assert_eq!(lines, [7, 3]);
}

#[test]
fn a_plan_that_is_not_valid_is_refused() {
    let mut plan = fixture("types_array");
    plan.version = 99;
    assert!(generate(&plan, &BindingsOptions::default()).is_err());
}

/// A comment must not become code, nor a name.
#[test]
fn nothing_escapes_from_comments_and_names() {
    let evil = "a*/`\n}\nfn evil() {}\r\u{2028}\"#";
    let types = vec![
        int(),
        Type::Enum(Enum {
            name: Some(evil.to_owned()),
            size: 4,
            signed: false,
            variants: vec![Enumerator {
                name: evil.to_owned(),
                value: 1,
            }],
        }),
        composite(evil, 8, vec![member(evil, 1, 0), member(evil, 2, 4)]),
    ];
    let mut plan = plan(types, 8);
    plan.object.name = format!("{}.bpf.o", evil.replace('/', ""));
    let source = text(&plan);
    for line in source.lines() {
        assert!(
            !line.contains("fn evil()") || line.trim_start().starts_with("//"),
            "{line}"
        );
        assert!(!line.contains('\u{2028}') && !line.contains('\r'), "{line}");
    }
}

/// Long names that are used often, and many types of one name: the text grows with the plan.
#[test]
fn the_text_is_in_proportion() {
    let long = "x".repeat(60_000);
    let mut types = vec![int(), composite(&long, 4, vec![member("a", 1, 0)])];
    let members = (0..500).map(|index| member(&long, 2, index * 4)).collect();
    types.push(composite("all", 2_000, members));
    let source = text(&plan(types, 2_000));
    assert!(source.len() < 1 << 20, "{}", source.len());

    let mut types = vec![int()];
    let mut members = Vec::new();
    for index in 0..5_000 {
        types.push(composite(
            "same",
            4,
            vec![member(&format!("m{index}"), 1, 0)],
        ));
        members.push(member("same", index + 2, index * 4));
    }
    types.push(composite("all", 20_000, members));
    let source = text(&plan(types, 20_000));
    assert!(source.contains("pub same_5000: same_5000,"));
}
