//! What every fixture looks like: its plan as text and as JSON, the calls of its load, and what
//! there is to say about it. `cargo insta review`, or `INSTA_UPDATE=always`, accepts changes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panic"
)]

mod support;

use std::collections::BTreeSet;

use bpfplan_compiler::{Options, compile};
use bpfplan_loader::kernel::{Feature, Identity};
use bpfplan_loader::{
    Kernel as _, KernelConfig, KernelFacts, LoadOptions, RealKernel, RecordingKernel, load,
};
use bpfplan_plan::rules::Target;
use insta::{Settings, assert_snapshot};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{code, fixtures, root, run, stderr, stdout};

fn main() {
    let mut trials: Vec<Trial> = fixtures()
        .into_iter()
        .map(|(name, object)| {
            Trial::test(name.clone(), move || {
                snapshot(&name, &object);
                Ok(())
            })
        })
        .collect();
    trials.extend(linked().into_iter().map(|objects| {
        Trial::test(objects.join("+"), move || {
            snapshot_linked(&objects);
            Ok(())
        })
    }));
    trials.push(Trial::test(
        "every_snapshot_has_a_fixture",
        every_snapshot_has_a_fixture,
    ));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn settings() -> Settings {
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path(root().join("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

/// Linked objects: their plan, or why they have none.
fn snapshot_linked(objects: &[String]) {
    let _bound = settings().bind_to_scope();
    let name = objects.join("+");
    let files = objects
        .iter()
        .map(|name| format!("fixtures/obj/{name}.bpf.o"));
    let text = run(std::iter::once("plan".to_owned()).chain(files));
    if !text.stderr.is_empty() {
        let diagnostics = format!("{}exit status {}", stderr(&text), code(&text));
        assert_snapshot!(format!("{name}.diagnostics"), diagnostics);
    }
    if code(&text) == 0 {
        assert_snapshot!(format!("{name}.plan"), stdout(&text));
    } else {
        assert_eq!((stdout(&text), code(&text)), ("", 1));
    }
}

/// The lines `// link: OBJECT... => ...` of all fixtures.
fn linked() -> Vec<Vec<String>> {
    let mut sets = Vec::new();
    for entry in root().join("fixtures").read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "c") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().filter_map(|line| {
            let (objects, _) = line.strip_prefix("// link: ")?.split_once(" => ")?;
            Some(objects.split(' ').map(str::to_owned).collect())
        });
        sets.extend(lines);
    }
    sets.sort();
    sets
}

fn snapshot(name: &str, object: &str) {
    let _bound = settings().bind_to_scope();

    let text = run(["plan", object]);
    if !text.stderr.is_empty() {
        let diagnostics = format!("{}exit status {}", stderr(&text), code(&text));
        assert_snapshot!(format!("{name}.diagnostics"), diagnostics);
    }
    if code(&text) != 0 {
        assert_eq!(
            (stdout(&text), code(&text)),
            ("", 1),
            "a refused object has no plan"
        );
        assert!(!text.stderr.is_empty(), "a refusal says why");
        return;
    }
    assert_snapshot!(format!("{name}.plan"), stdout(&text));
    let json = run(["plan", "--format", "json", object]);
    assert_eq!(code(&json), 0);
    assert_snapshot!(format!("{name}.json"), stdout(&json));
    steps(name, object);
}

/// The calls of a load, on a machine that is the same everywhere; and `load --dry-run` prints
/// those of this one.
fn steps(name: &str, object: &str) {
    let bytes = std::fs::read(root().join(object)).unwrap();
    let file = object.rsplit('/').next().unwrap();
    let plan = compile(&bytes, file, &Options { hash: false })
        .unwrap()
        .plan;
    let options = LoadOptions {
        hold: true,
        ..LoadOptions::default()
    };
    let calls = |target: Target| {
        let kernel = RecordingKernel::new(target)
            .with_directory("/sys/fs/bpf")
            .with_facts(facts());
        let loaded = load(&plan, &kernel, &options);
        loaded.map(|loaded| {
            let calls = kernel.calls();
            let calls: String = calls.iter().map(|call| format!("{call}\n")).collect();
            let said = loaded.diagnostics.iter();
            let said: String = said
                .map(|it| format!("{it}\n{}\n", it.notes.join("\n")))
                .collect();
            (calls, said)
        })
    };

    let everywhere = Target {
        page_size: 4096,
        possible_cpus: 4,
    };
    if plan.maps.iter().any(|map| !map.externs.is_empty()) {
        // What becomes of these is another thing on every machine.
        let text = match calls(everywhere) {
            Ok((calls, said)) => format!("{calls}{said}"),
            Err(error) => error.to_string(),
        };
        assert_snapshot!(format!("{name}.steps"), text);
        return;
    }
    let output = run(["load", "--dry-run", object]);
    let machine = RealKernel::new();
    let here = Target {
        page_size: machine.page_size(),
        possible_cpus: machine.possible_cpus().unwrap(),
    };
    match (calls(here), calls(everywhere)) {
        (Ok((here, _)), Ok((everywhere, _))) => {
            assert_eq!((code(&output), stdout(&output)), (0, here.as_str()));
            assert_snapshot!(format!("{name}.steps"), everywhere);
        }
        (Err(_), Err(_)) => {
            // The plan stands, but this version does not load it.
            assert_eq!((code(&output), stdout(&output)), (1, ""));
            let refusal = format!("{}exit status 1", stderr(&output));
            assert_snapshot!(format!("{name}.steps"), refusal);
        }
        _ => panic!("whether {object} can be loaded depends on the machine"),
    }
}

/// The kernel of [`steps`].
fn facts() -> KernelFacts {
    let config = "CONFIG_BPF_SYSCALL=y\nCONFIG_BPF=y\n# CONFIG_NET is not set\nCONFIG_HZ=250\n\
                  CONFIG_NR_CPUS=256\nCONFIG_PHYSICAL_START=0x1000000\n\
                  CONFIG_DEFAULT_HOSTNAME=\"(none)\"\nCONFIG_CC_VERSION_TEXT=\"gcc\"\n";
    KernelFacts {
        identity: Identity {
            release: "6.18.0".to_owned(),
            ..Identity::default()
        },
        features: vec![Feature::BpfCookie],
        config: Ok(KernelConfig {
            name: "/proc/config.gz".to_owned(),
            bytes: config.into(),
        }),
    }
}

fn every_snapshot_has_a_fixture() -> Result<(), Failed> {
    let linked = linked().into_iter().map(|objects| objects.join("+"));
    let single = fixtures().into_iter().map(|(name, _)| name);
    let fixtures: BTreeSet<String> = single.chain(linked).collect();
    for entry in root().join("snapshots").read_dir()? {
        let file = entry?.file_name().into_string().unwrap_or_default();
        let Some(stem) = file.strip_suffix(".snap") else {
            continue;
        };
        let fixture = stem.rsplit_once('.').map_or(stem, |(fixture, _)| fixture);
        if !fixtures.contains(fixture) {
            return Err(format!("snapshots/{file} belongs to no fixture; remove it").into());
        }
    }
    Ok(())
}
