//! bpftool prints our maps by name: the BTF that bpfplan gives the kernel is enough for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use libbpf_rs::{MapCore as _, ObjectBuilder};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::fixtures;
use crate::loads::{self, Pinned, Tenants, Usage};

type Test = fn(&Bpftool) -> Result<(), Failed>;

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 5] = [
        ("bpftool::dumps_typed_values", dumps_typed_values),
        ("bpftool::dumps_variables_by_name", dumps_variables_by_name),
        (
            "bpftool::dumps_all_fixtures_as_with_libbpf",
            dumps_all_fixtures_as_with_libbpf,
        ),
        ("bpftool::shows_maps", shows_maps),
        ("bpftool::dumps_our_types", dumps_our_types),
    ];
    let found = Bpftool::find();
    let trial = |(name, test): (&str, Test)| match found.clone() {
        Some(bpftool) => Trial::test(name, move || test(&bpftool)),
        // In CI a test run that is meant to be complete must not shrink without a word.
        None => Trial::test(format!("{name}: skipped: bpftool is not installed"), || {
            Err("bpftool is not installed: xtask/setup test".into())
        })
        .with_ignored_flag(std::env::var_os("CI").is_none()),
    };
    tests.into_iter().map(trial).collect()
}

#[derive(Clone)]
struct Bpftool(PathBuf);

impl Bpftool {
    /// Debian puts it where users do not look.
    fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let mut places = directories.map(|directory| directory.join("bpftool"));
        places.find(|place| place.is_file()).map(Self)
    }

    fn json(&self, args: &[&str]) -> Result<Value, Failed> {
        Ok(serde_json::from_str(
            &self.text(&[["--json"].as_slice(), args].concat())?,
        )?)
    }

    fn text(&self, args: &[&str]) -> Result<String, Failed> {
        let output = Command::new(&self.0).args(args).output()?;
        let text = String::from_utf8(output.stdout)?;
        if output.status.success() {
            Ok(text)
        } else {
            let error = String::from_utf8_lossy(&output.stderr);
            Err(format!("bpftool {args:?}: {text}{error}").into())
        }
    }

    fn dump(&self, pin: &Path) -> Result<Value, Failed> {
        self.json(&["map", "dump", "pinned", pin.to_str().unwrap()])
    }

    fn show(&self, pin: &Path) -> Result<Value, Failed> {
        self.json(&["map", "show", "pinned", pin.to_str().unwrap()])
    }
}

fn dumps_typed_values(bpftool: &Bpftool) -> Result<(), Failed> {
    let tenants = Tenants::new();
    let usage = Usage {
        packets: 5,
        last_limit: 6,
        step: 7,
    };
    tenants.write("usages", 3, usage);
    let dumped = bpftool.dump(&tenants.pin("usages"))?;
    let typed = json!({"key": 3, "value": {"packets": 5, "last_limit": 6, "step": 7}});
    assert_eq!(dumped[0]["formatted"], typed, "{dumped}");
    assert_eq!(dumped.as_array().map(Vec::len), Some(1));

    tenants.write("turns", 0, [0, 4u32]);
    let dumped = bpftool.dump(&tenants.pin("turns"))?;
    let value = json!({"lock": {"val": 0}, "turns": 4});
    assert_eq!(dumped[0]["formatted"]["value"], value, "{dumped}");
    Ok(())
}

fn dumps_variables_by_name(bpftool: &Bpftool) -> Result<(), Failed> {
    let tenants = Tenants::new();
    tenants.write("tenants.bss", 0, 9u64);
    for (pin, section, variables) in [
        ("tenants_rodata", ".rodata", json!([{"step": 7}])),
        ("tenants_data", ".data", json!([{"tenant": 1}])),
        ("tenants_bss", ".bss", json!([{"seen": 9}])),
    ] {
        let dumped = bpftool.dump(&tenants.pin(pin))?;
        let value = &dumped[0]["formatted"]["value"];
        assert_eq!(value[section], variables, "{dumped}");
    }
    Ok(())
}

/// Whatever the types are, it prints the same of our maps as of libbpf's own.
fn dumps_all_fixtures_as_with_libbpf(bpftool: &Bpftool) -> Result<(), Failed> {
    let mut compared = 0;
    libbpf_rs::set_print(None);
    for fixture in fixtures::all() {
        let Some(plan) = loads::plan_to_pin(&fixture) else {
            continue;
        };
        let open = ObjectBuilder::default().open_file(&fixture.object);
        let Ok(theirs) = open?.load() else {
            continue; // An older kernel refuses a program.
        };
        let pinned = Pinned::new(&plan).map_err(|e| format!("{}: {e}", fixture.name))?;
        for their in theirs.maps() {
            let name = their.name().to_string_lossy().into_owned();
            let ours = loads::map(&pinned.loaded, &name);
            let their = their.info()?.info;
            // Slots show ids, which differ, and libbpf may have dropped all types.
            if !ours.btf || their.btf_id == 0 || ours.max_entries > 64 {
                continue;
            }
            let ours = bpftool.text(&[
                "map",
                "dump",
                "id",
                &ours.id().expect("the kernel tells it").to_string(),
            ]);
            let theirs = bpftool.text(&["map", "dump", "id", &their.id.to_string()]);
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => {
                    let (ours, theirs) = (without_addresses(&ours), without_addresses(&theirs));
                    assert_eq!(ours, theirs, "{}: {name}", fixture.name);
                }
                // Some kinds of maps cannot be dumped.
                (Err(_), Err(_)) => continue,
                (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error),
            }
            compared += 1;
        }
    }
    assert!(compared >= 100, "only {compared} maps could be compared");
    Ok(())
}

/// Empty lists point to themselves, wherever in the kernel they are.
fn without_addresses(text: &str) -> String {
    let is_address = |word: &str| word.len() == 20 && word.starts_with("18");
    let words = text.split_inclusive(|c: char| !c.is_ascii_digit());
    words
        .filter(|word| !is_address(word.trim_end_matches(|c: char| !c.is_ascii_digit())))
        .collect()
}

fn shows_maps(bpftool: &Bpftool) -> Result<(), Failed> {
    let tenants = Tenants::new();
    for map in &tenants.loaded.maps {
        let pin = map.pinned.as_deref().unwrap();
        let shown = bpftool.show(pin)?;
        assert_eq!(
            shown["id"],
            map.id().expect("the kernel tells it"),
            "{shown}"
        );
        assert_eq!(shown["max_entries"], map.max_entries, "{shown}");
        // The kernel has room for 15 bytes.
        let name = map.name.get(..15).unwrap_or(&map.name);
        assert_eq!(shown["name"], name, "{shown}");
        assert_eq!(shown["btf_id"].is_u64(), map.btf, "{shown}");
        let frozen = u32::from(map.name == "tenants.rodata");
        assert_eq!(shown["frozen"], frozen, "{shown}");
    }
    let limits = bpftool.text(&[
        "map",
        "dump",
        "pinned",
        tenants.pin("limits").to_str().unwrap(),
    ])?;
    assert!(limits.ends_with("Found 2 elements\n"), "{limits}");
    Ok(())
}

fn dumps_our_types(bpftool: &Bpftool) -> Result<(), Failed> {
    let tenants = Tenants::new();
    let id = |name| -> Result<String, Failed> {
        Ok(bpftool.show(&tenants.pin(name))?["btf_id"].to_string())
    };
    let btf = id("usages")?;
    assert_eq!(btf, id("tenants_rodata")?, "one blob for all maps");
    let types = bpftool.json(&["btf", "dump", "id", &btf])?;
    let types = types["types"].as_array().ok_or("no types")?;
    let names: Vec<&str> = types.iter().filter_map(|t| t["name"].as_str()).collect();
    for name in ["usage", "guarded", "bpf_spin_lock", "step", ".bss"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert!(!names.contains(&"account"), "programs have their own");
    let usage = types.iter().find(|t| t["name"] == "usage").unwrap();
    let members = usage["members"].as_array().ok_or("no members")?;
    let members: Vec<&Value> = members.iter().map(|member| &member["name"]).collect();
    assert_eq!(members, ["packets", "last_limit", "step"]);

    let c = bpftool.text(&["btf", "dump", "id", &btf, "format", "c"])?;
    assert!(c.contains("struct usage {"), "{c}");
    Ok(())
}
