//! `slot` against the running kernel: needs root, BPF and a bpffs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panic"
)]

#[path = "support/kernel.rs"]
mod kernel;
mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use bpfplan_loader::kernel::MapAttributes;
use bpfplan_loader::maps::{Hash, MapHandle as _, RawMap};
use bpfplan_loader::{Descriptor, Kernel as _, RealKernel};
use bpfplan_plan::{MapType, uapi};
use kernel::Pins;
use serde_json::Value;
use support::{code, run, stderr, stdout};

const ARRAY: &str = "fixtures/obj/device_tables.bpf.o";
const HASH: &str = "fixtures/obj/hash_of_maps_sparse.bpf.o";
const FREE: &str = "fixtures/obj/inner_map_flag.bpf.o";

fn main() {
    kernel::run_tests(&[
        ("slots_are_listed", slots_are_listed),
        ("a_new_map_goes_into_a_slot", a_new_map_goes_into_a_slot),
        (
            "a_pinned_map_goes_into_a_slot",
            a_pinned_map_goes_into_a_slot,
        ),
        ("slots_are_emptied", slots_are_emptied),
        ("entries_may_differ", entries_may_differ),
        ("keys_are_numbers_or_bytes", keys_are_numbers_or_bytes),
        ("what_does_not_fit_is_told", what_does_not_fit_is_told),
        (
            "without_a_record_no_map_is_made",
            without_a_record_no_map_is_made,
        ),
        ("a_plan_tells_the_template", a_plan_tells_the_template),
        (
            "what_is_no_outer_map_is_refused",
            what_is_no_outer_map_is_refused,
        ),
    ]);
}

/// Loads an object and gives the path of a pin.
fn loaded(pins: &Pins, object: &str, map: &str) -> String {
    let output = run(["load", object, "--pin-maps", pins.path()]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    format!("{}/{map}", pins.path())
}

fn document(pin: &str) -> Value {
    let output = run(["slot", "list", pin, "--format", "json"]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let document: Value = serde_json::from_str(stdout(&output)).unwrap();
    let schema: Value = serde_json::from_str(stdout(&run(["schema", "slots"]))).unwrap();
    assert!(jsonschema::is_valid(&schema, &document), "{document}");
    document
}

/// Keys as the command takes them, and ids.
fn slots(pin: &str) -> Vec<(String, u64)> {
    let document = document(pin);
    let slots = document["slots"].as_array().unwrap();
    let slot = |slot: &Value| {
        let text = slot["text"].as_str().unwrap().to_owned();
        (text, slot["id"].as_u64().unwrap())
    };
    slots.iter().map(slot).collect()
}

fn id(pin: &str) -> u64 {
    RawMap::from_pin(pin).unwrap().id().into()
}

/// The output of a refusal: nothing on standard output, one diagnostic.
fn refused(output: &Output, diagnostic: &str, parts: &[&str]) {
    assert_eq!((code(output), stdout(output)), (1, ""));
    let text = stderr(output);
    assert!(text.starts_with(&format!("error[{diagnostic}]")), "{text}");
    assert_eq!(text.matches("error[").count(), 1, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

fn slots_are_listed() {
    let pins = Pins::new();
    let pin = loaded(&pins, ARRAY, "device_tables");
    let output = run(["slot", "list", &pin]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let outer = id(&pin);
    let [up, down] = ["uplinks", "downlinks"].map(|name| id(&format!("{}/{name}", pins.path())));
    let facts = "devmap  key 4B  value 4B  max_entries 10";
    let expected = format!(
        "device_tables  array_of_maps  id {outer}  key 4B  max_entries 2
  template  {facts}

  [0]  uplinks    id {up:<6}  {facts}  BPF_F_RDONLY_PROG
  [1]  downlinks  id {down:<6}  {facts}  BPF_F_RDONLY_PROG

2 slots filled.
"
    );
    assert_eq!(stdout(&output), expected);
    let document = document(&pin);
    assert_eq!(document["template"]["type"], "devmap");
    assert_eq!(document["slots"][1]["map"]["name"], "downlinks");
    assert_eq!(document["slots"][1]["index"], 1);
    assert_eq!(slots(&pin), [("0".to_owned(), up), ("1".to_owned(), down)]);

    let empty = Pins::new();
    let pin = loaded(&empty, "fixtures/obj/outer_template_only.bpf.o", "by_index");
    assert!(stdout(&run(["slot", "list", &pin])).ends_with("\n\n0 slots filled.\n"));
}

fn a_new_map_goes_into_a_slot() {
    let pins = Pins::new();
    let pin = loaded(&pins, HASH, "by_tenant");
    let output = run(["slot", "set", &pin, "8", "--new"]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let new = slots(&pin)
        .into_iter()
        .find(|(key, _)| key == "8")
        .unwrap()
        .1;
    let said =
        format!("by_tenant[8] = a new map 'by_tenant.inner', id {new}, hash of 16 entries\n");
    assert_eq!(stdout(&output), said);
    // It is a map of the template, and works.
    let id = u32::try_from(new).unwrap();
    let map: Hash<u32, u64> = Hash::from_id(id).unwrap();
    map.update(&1, &2, bpfplan_loader::maps::Update::Any)
        .unwrap();
    drop(map);
    let output = run(["slot", "set", &pin, "8", "--new"]);
    assert!(
        stdout(&output).ends_with(&format!(", in place of id {new}\n")),
        "{}",
        stdout(&output)
    );
    let keys: Vec<String> = slots(&pin).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["1", "7", "8", "900"], "by number");
}

fn a_pinned_map_goes_into_a_slot() {
    let pins = Pins::new();
    let pin = loaded(&pins, ARRAY, "device_tables");
    let spare = format!("{}/downlinks", pins.path());
    let output = run(["slot", "set", &pin, "0", "--map", &spare]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert!(stdout(&output).starts_with("device_tables[0] = map 'downlinks', id "));
    assert_eq!(slots(&pin)[0].1, id(&spare));
    refused(
        &run(["slot", "set", &pin, "0", "--map", &format!("{spare}_not")]),
        "BP0651",
        &["--map", "downlinks_not cannot be opened: ENOENT"],
    );
    refused(
        &run(["slot", "set", &pin, "0", "--map", "/dev/null"]),
        "BP0651",
        &["/dev/null"],
    );
    assert_eq!(slots(&pin)[0].1, id(&spare), "nothing was replaced");
    let names = ["bpfplan_record", "device_tables", "downlinks", "uplinks"];
    assert_eq!(pins.names(), names, "nothing is pinned");
}

fn slots_are_emptied() {
    let pins = Pins::new();
    let pin = loaded(&pins, ARRAY, "device_tables");
    let output = run(["slot", "clear", &pin, "1"]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert!(stdout(&output).starts_with("emptied device_tables[1], which held id "));
    assert_eq!(slots(&pin).len(), 1);
    let again = run(["slot", "clear", &pin, "1"]);
    refused(&again, "BP0661", &["slot 1 is empty already"]);
    let beyond = run(["slot", "clear", &pin, "2"]);
    refused(&beyond, "BP0660", &["slot 2 is beyond the end", "2 slots"]);
    let beyond = run(["slot", "set", &pin, "4294967295", "--new"]);
    refused(&beyond, "BP0660", &["slot 4294967295 is beyond the end"]);
}

fn entries_may_differ() {
    let pins = Pins::new();
    let pin = loaded(&pins, FREE, "tables");
    let output = run(["slot", "set", &pin, "0", "--new", "--max-entries", "1234"]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert_eq!(document(&pin)["slots"][0]["map"]["max_entries"], 1234);
    let fixed = Pins::new();
    let pin = loaded(&fixed, "fixtures/obj/outer_several.bpf.o", "left");
    let before = slots(&pin);
    refused(
        &run(["slot", "set", &pin, "0", "--new", "--max-entries", "3"]),
        "BP0656",
        &["the template has 2", "BPF_F_INNER_MAP"],
    );
    assert_eq!(slots(&pin), before);
}

fn attributes(
    map_type: u32,
    sizes: [u32; 2],
    inner: Option<&Descriptor>,
) -> MapAttributes<'_, Descriptor> {
    MapAttributes {
        inner,
        ..MapAttributes::new("handmade", MapType(map_type), sizes[0], sizes[1], 4)
    }
}

/// Pins maps that no load has made: a hash of maps with keys of that size, and one for it.
fn handmade(pins: &Pins, key_size: u32) -> (String, String) {
    let kernel = RealKernel::new();
    fs::create_dir_all(&pins.0).unwrap();
    let inner = kernel
        .create_map(&attributes(uapi::BPF_MAP_TYPE_ARRAY, [4, 4], None))
        .unwrap();
    let outer = attributes(uapi::BPF_MAP_TYPE_HASH_OF_MAPS, [key_size, 4], Some(&inner));
    let outer = kernel.create_map(&outer).unwrap();
    let paths = [pins.0.join("outer"), pins.0.join("inner")];
    for (map, path) in [outer, inner].iter().zip(&paths) {
        kernel.pin(map, path).unwrap();
    }
    let [outer, inner] = paths.map(|path| path.to_str().unwrap().to_owned());
    (outer, inner)
}

fn remove(pins: &Pins) {
    fs::remove_dir_all(&pins.0).unwrap();
}

fn keys_are_numbers_or_bytes() {
    let pins = Pins::new();
    let (outer, inner) = handmade(&pins, 6);
    let set = |key: &str| run(["slot", "set", &outer, key, "--map", &inner]);
    let output = set("0x0a000001bb01");
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert!(stdout(&output).starts_with("handmade[0x0a000001bb01] = map"));
    assert_eq!(code(&set("hex:0A000001bb02")), 0);
    let keys: Vec<String> = slots(&outer).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["0x0a000001bb01", "0x0a000001bb02"]);
    for wrong in ["1", "0x0a", "0x0a000001bb0g", "", "hex:"] {
        refused(
            &set(wrong),
            "BP0940",
            &["its keys have 6 bytes: 0x and 12 hex digits"],
        );
    }
    assert_eq!(code(&run(["slot", "clear", &outer, "hex:0a000001bb01"])), 0);
    let missing = run(["slot", "clear", &outer, "0x0a000001bb01"]);
    refused(
        &missing,
        "BP0661",
        &["slot 0x0a000001bb01 is empty already"],
    );
    for key in ["000000000001", "000000000002", "000000000003"] {
        assert_eq!(code(&set(&format!("0x{key}"))), 0);
    }
    refused(
        &set("0x000000000004"),
        "BP0605",
        &["E2BIG", "the outer map is full"],
    );
    remove(&pins);

    let short = Pins::new();
    let (outer, inner) = handmade(&short, 2);
    assert_eq!(
        code(&run(["slot", "set", &outer, "443", "--map", &inner])),
        0
    );
    let digits: String = 443u16
        .to_ne_bytes()
        .map(|byte| format!("{byte:02x}"))
        .concat();
    assert_eq!(document(&outer)["slots"][0]["key"], digits);
    remove(&short);
}

fn what_does_not_fit_is_told() {
    let pins = Pins::new();
    let pin = loaded(&pins, HASH, "by_tenant");
    let before = slots(&pin);
    let other = Pins::new();
    let array = loaded(&other, "fixtures/obj/outer_several.bpf.o", "one");
    refused(
        &run(["slot", "set", &pin, "1", "--map", &array]),
        "BP0659",
        &[
            "type is array, the template has hash",
            "known from its declaration",
        ],
    );
    refused(
        &run(["slot", "set", &pin, "1", "--map", &pin]),
        "BP0659",
        &["the kernel nests maps one level deep"],
    );
    assert_eq!(slots(&pin), before);
}

fn without_a_record_no_map_is_made() {
    let pins = Pins::new();
    let (outer, inner) = handmade(&pins, 4);
    refused(
        &run(["slot", "set", &outer, "1", "--new"]),
        "BP0655",
        &[
            "has no record of a load",
            "the kernel does not tell",
            "--plan",
        ],
    );
    let listed = run(["slot", "list", &outer]);
    assert!(
        stdout(&listed).contains("template  unknown"),
        "{}",
        stdout(&listed)
    );
    assert_eq!(document(&outer)["template"], Value::Null);
    assert_eq!(code(&run(["slot", "set", &outer, "1", "--map", &inner])), 0);
    remove(&pins);

    // The record is of other maps: those that were there when it was written.
    let pins = Pins::new();
    let pin = loaded(&pins, HASH, "by_tenant");
    let stale = format!("{}/stranger", pins.path());
    let other = Pins::new();
    let strange = loaded(&other, HASH, "by_tenant");
    let kernel = RealKernel::new();
    let map = kernel.open_pin(Path::new(&strange)).unwrap();
    kernel.pin(&map, Path::new(&stale)).unwrap();
    refused(
        &run(["slot", "set", &stale, "1", "--new"]),
        "BP0655",
        &["is of other maps"],
    );
    assert_eq!(code(&run(["slot", "set", &pin, "1", "--new"])), 0);
    fs::remove_file(&stale).unwrap();
}

fn a_plan_tells_the_template() {
    // Pinned by name only: there is no record.
    let pins = Pins::new();
    let object = "fixtures/obj/pin_maps_of_maps.bpf.o";
    fs::create_dir(pins.path()).unwrap();
    let root = Root(&pins);
    let output = run([
        "load",
        object,
        "--pin-root",
        pins.path(),
        "--pin-maps",
        &format!("{}/others", pins.path()),
    ]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let pin = format!("{}/backends", pins.path());
    let new = ["slot", "set", &pin, "3", "--new"];
    refused(&run(new), "BP0655", &["no record", "--plan"]);

    let set = |more: &[&str]| run(new.iter().chain(more).copied());
    let output = set(&["--plan", object]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert!(
        stdout(&output).contains("array of 64 entries"),
        "{}",
        stdout(&output)
    );
    let listed = run(["slot", "list", &pin, "--plan", object]);
    assert!(
        stdout(&listed).contains("template  array"),
        "{}",
        stdout(&listed)
    );
    // A plan is as good as its object, and a name may be said.
    let file = std::env::temp_dir().join(format!("bpfplan-slots-{}.plan", std::process::id()));
    let plan = file.to_str().unwrap();
    assert_eq!(code(&run(["compile", object, "-o", plan])), 0);
    assert_eq!(code(&set(&["--plan", plan])), 0);
    assert_eq!(code(&set(&["--plan", plan, "--plan-map", "backends"])), 0);
    fs::remove_file(&file).unwrap();

    // A plan of something else.
    refused(
        &set(&["--plan", HASH]),
        "BP0655",
        &[
            "the plan has no array_of_maps 'backends' with keys of 4 bytes",
            "'by_tenant'",
        ],
    );
    refused(
        &set(&["--plan", object, "--plan-map", "blue"]),
        "BP0655",
        &["it holds no maps"],
    );
    refused(
        &set(&["--plan", "fixtures/obj/none.o"]),
        "BP0901",
        &["fixtures/obj/none.o"],
    );
    // What it declares does not fit: the kernel has the last word.
    refused(
        &set(&["--plan", ARRAY, "--plan-map", "device_tables"]),
        "BP0659",
        &["does not fit slot 3"],
    );
    assert_eq!(
        code(&run(["slot", "set", &pin, "3", "--new", "--plan-map", "x"])),
        2
    );
    drop(root);
    assert!(!pins.0.exists());
}

/// A directory of pins by name, with that of a load in it.
struct Root<'p>(&'p Pins);

impl Drop for Root<'_> {
    fn drop(&mut self) {
        let _ = run(["unload", &format!("{}/others", self.0.path())]);
        for entry in fs::read_dir(&self.0.0).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        let _ = fs::remove_dir(&self.0.0);
    }
}

fn what_is_no_outer_map_is_refused() {
    let pins = Pins::new();
    loaded(&pins, ARRAY, "device_tables");
    let inner = format!("{}/uplinks", pins.path());
    for args in [
        &["slot", "list", &inner][..],
        &["slot", "set", &inner, "0", "--new"],
        &["slot", "clear", &inner, "0"],
    ] {
        refused(&run(args), "BP0654", &["type devmap and holds no maps"]);
    }
    for pin in ["/sys/fs/bpf", "/sys/fs/bpf/there_is_none", "/etc/passwd"] {
        refused(&run(["slot", "clear", pin, "0"]), "BP0651", &[]);
    }
    let output = run(["slot", "list", &inner, "--format", "json"]);
    assert_eq!((code(&output), stderr(&output)), (1, ""));
    let document: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(document["diagnostics"][0]["code"], "BP0654");
}
