//! Kernel configuration values: the same bytes as libbpf puts there, and the same refusals.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

mod support;

#[path = "support/random.rs"]
mod random;

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd};

use bpfplan_compiler::compile;
use bpfplan_loader::{
    Errno, ErrorKind, FailingKernel, Fault, KernelConfig, LoadError, LoadOptions, Loaded, Origin,
    RealKernel, codes, kconfig_text, load,
};
use bpfplan_plan::{Code, Plan};
use flate2::Compression;
use flate2::write::GzEncoder;
use libtest_mimic::{Failed, Trial};
use random::Random;
use support::fixtures::{self, Fixture};
use support::kernel_view;
use support::libbpf::Object;

type Outcome = Result<(), Failed>;

fn main() {
    support::privilege::run(vec![
        Trial::test("every_value_of_every_kind", every_value_of_every_kind),
        Trial::test("odd_texts", odd_texts),
        Trial::test("random_texts", random_texts),
        Trial::test("text_of_the_values", text_of_the_values),
        Trial::test("says_what_is_wrong", says_what_is_wrong),
        Trial::test("no_configuration", no_configuration),
        Trial::test("compressed_text", compressed_text),
    ])
}

/// Options of `kconfig_values` with a good setting each, one of every kind.
const OPTIONS: [(&str, &str); 14] = [
    ("CONFIG_BPF_SYSCALL", "y"),
    ("CONFIG_BPF", "m"),
    ("CONFIG_NET", "n"),
    ("CONFIG_LOG_BUF_SHIFT", "17"),
    ("CONFIG_RCU_FANOUT", "-64"),
    ("CONFIG_PGTABLE_LEVELS", "5"),
    ("CONFIG_HZ", "250"),
    ("CONFIG_NR_CPUS", "0x100"),
    ("CONFIG_PHYSICAL_START", "0x1000000"),
    ("CONFIG_ILLEGAL_POINTER_VALUE", "0xdead000000000000"),
    ("CONFIG_DEFAULT_HOSTNAME", "\"(none)\""),
    ("CONFIG_CC_VERSION_TEXT", "\"gcc\""),
    ("CONFIG_BPFPLAN_BOOL", "n"),
    ("CONFIG_BPFPLAN_TEXT", "\"\""),
];

const VALUES: [&str; 66] = [
    "y",
    "n",
    "m",
    "yes",
    "no",
    "module",
    "Y",
    "\"\"",
    "\"a\"",
    "\"ab\"",
    "\"abc\"",
    "\"",
    "\"a",
    "\"a\"b\"",
    "\"\\\"\"",
    "\"a\" ",
    "\"0123456789abcde\"",
    "\"0123456789abcdef\"",
    "0",
    "1",
    "2",
    "-1",
    "-0",
    "+1",
    "+-1",
    "--1",
    "-",
    "+",
    "00",
    "07",
    "08",
    "010",
    "0x",
    "0x10",
    "0XfF",
    "0x-1",
    "0xg",
    "x",
    " ",
    " 1",
    "\t1",
    "1 ",
    "1\r",
    "\r",
    "1.5",
    "1_000",
    "127",
    "128",
    "-128",
    "-129",
    "255",
    "256",
    "32767",
    "32768",
    "-32768",
    "-32769",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-18446744073709551616",
];

fn plan_of(fixture: &Fixture) -> Plan {
    compile(&fixture.bytes(), &fixture.file_name(), &Default::default())
        .unwrap()
        .plan
}

fn try_load(plan: &Plan, text: Option<&[u8]>) -> Result<Loaded<RealKernel>, LoadError> {
    let options = LoadOptions {
        hold: true,
        kconfig: text.map(|text| KernelConfig {
            name: "given".to_owned(),
            bytes: text.to_vec(),
        }),
        ..LoadOptions::default()
    };
    load(plan, &RealKernel::new(), &options)
}

/// The value of the map that bpfplan makes.
fn ours(plan: &Plan, text: &[u8]) -> Result<Vec<u8>, LoadError> {
    let loaded = try_load(plan, Some(text))?;
    let map = loaded
        .maps
        .iter()
        .find(|it| it.name.ends_with(".kconfig"))
        .unwrap();
    Ok(kernel_view::element(map.fd.as_fd().as_raw_fd()).unwrap())
}

/// The value of the map that libbpf makes.
fn theirs(fixture: &Fixture, text: &[u8]) -> Result<Vec<u8>, i32> {
    let text = CString::new(text).unwrap();
    let object = Object::open_with_kconfig(&fixture.object, &text)?;
    object.without_programs();
    object.load()?;
    let maps = object.maps();
    let map = maps
        .iter()
        .find(|it| it.name().ends_with(".kconfig"))
        .unwrap();
    Ok(kernel_view::element(map.fd()).unwrap())
}

/// Both refuse, or both make a map of the same value; whether they made one.
fn same(fixture: &Fixture, plan: &Plan, text: &[u8]) -> Result<bool, Failed> {
    match (ours(plan, text), theirs(fixture, text)) {
        (Ok(ours), Ok(theirs)) if ours == theirs => Ok(true),
        (Err(_), Err(_)) => Ok(false),
        (ours, theirs) => {
            let text = text.escape_ascii();
            Err(format!("{text}\nours: {ours:?}\ntheirs: {theirs:?}").into())
        }
    }
}

/// The settings of all options, with one of them replaced.
fn settings(option: &str, value: &str) -> String {
    OPTIONS
        .iter()
        .map(|(name, good)| {
            let value = if *name == option { value } else { good };
            format!("{name}={value}\n")
        })
        .collect()
}

fn every_value_of_every_kind() -> Outcome {
    let fixture = fixtures::named("kconfig_values");
    let plan = plan_of(&fixture);
    let mut counts = [0, 0];
    for (option, good) in OPTIONS {
        for value in VALUES.iter().copied().chain([good]) {
            let text = settings(option, value);
            counts[usize::from(same(&fixture, &plan, text.as_bytes())?)] += 1;
        }
    }
    // Guards the test: both answers must be common.
    assert!(counts[0] > 300 && counts[1] > 200, "{counts:?}");
    Ok(())
}

fn odd_texts() -> Outcome {
    let fixture = fixtures::named("kconfig_values");
    let plan = plan_of(&fixture);
    let good = settings("", "");
    let long = |length: usize| format!("CONFIG_X=\"{}\"\n", "x".repeat(length));
    let texts = [
        good.clone(),
        good.trim_end().to_owned(),
        // The first setting counts, even a wrong one.
        format!("CONFIG_HZ=1\n{good}"),
        format!("CONFIG_HZ=y\n{good}"),
        format!("{good}CONFIG_HZ=y\n"),
        // All lines are read, though nothing is missing any more.
        format!("{good}CONFIG_OTHER\n"),
        format!("{good}CONFIG_OTHER=\n"),
        format!("{good}CONFIG_=1\n"),
        format!("{good}CONFIG_HZ\n"),
        format!("{good}CONFIG_\n"),
        format!("{good}#CONFIG_OTHER\n# CONFIG_HZ is not set\nHZ\n\n = \n CONFIG_OTHER\n"),
        format!("CONFIG_HZ =250\n{good}"),
        good.replace('\n', "\r\n"),
        good.replace("=y", "==y"),
        // What is longer than a page is read in pieces.
        format!("{}{good}", long(5000)),
        format!("{}{good}", long(4085)),
        format!("#{}CONFIG_HZ=77\n{good}", " ".repeat(4094)),
        format!("#{}CONFIG_HZ=77\n{good}", " ".repeat(4093)),
        format!("#{}CONFIG_HZ\n{good}", " ".repeat(4094)),
        String::new(),
        "\n".to_owned(),
        // The rest is the kernel's own.
        "CONFIG_HZ=77\n".to_owned(),
        "CONFIG_DEFAULT_HOSTNAME=\"\u{fffd}\u{1}\"\nCONFIG_NET=-5\n".to_owned(),
    ];
    for text in texts {
        same(&fixture, &plan, text.as_bytes())?;
    }
    Ok(())
}

fn random_texts() -> Outcome {
    let fixture = fixtures::named("kconfig_values");
    let plan = plan_of(&fixture);
    let mut random = Random::new(0x6b63_6f6e_6669_6721);
    let mut loaded = 0;
    for _ in 0..400 {
        let mut text = Vec::new();
        for _ in 0..1 + random.below(4) {
            let (name, good) = random.pick(&OPTIONS);
            let value = match random.below(3) {
                0 => random.pick(&VALUES),
                _ => good,
            };
            let mut line = format!("{name}={value}\n").into_bytes();
            if random.below(6) == 0 {
                let at = random.below(line.len());
                line[at] = random.pick(b"\n=\"_y0- \t\x7f\xff");
            }
            text.extend(line);
        }
        text.extend(settings("", "").into_bytes());
        loaded += u32::from(same(&fixture, &plan, &text)?);
    }
    assert!((50..350).contains(&loaded), "{loaded} of 400 were loaded");
    Ok(())
}

/// Handing the values to libbpf gives the same map, and asks no other configuration.
fn text_of_the_values() -> Outcome {
    let fixture = fixtures::named("kconfig_values");
    let plan = plan_of(&fixture);
    let odd = "CONFIG_BPF=m\nCONFIG_NET=y\nCONFIG_RCU_FANOUT=-3\nCONFIG_PHYSICAL_START=-1\n\
               CONFIG_BPFPLAN_TEXT=\"a\"b\"\nCONFIG_LOG_BUF_SHIFT=255\n";
    for given in [None, Some(odd.as_bytes())] {
        let loaded = try_load(&plan, given).map_err(|error| error.to_string())?;
        let map = &loaded.maps[0];
        let text = kconfig_text(&map.externs);
        assert_eq!(
            text.iter().filter(|byte| **byte == b'\n').count(),
            OPTIONS.len()
        );
        let value = kernel_view::element(map.fd.as_fd().as_raw_fd());
        assert_eq!(theirs(&fixture, &text).ok(), value);
        assert_eq!(ours(&plan, &text).ok(), value);
    }
    Ok(())
}

fn says_what_is_wrong() -> Outcome {
    let codes_of = |name: &str, text: &str| -> Vec<Code> {
        let plan = plan_of(&fixtures::named(name));
        let error = try_load(&plan, Some(text.as_bytes())).expect_err("it is refused");
        assert_eq!(error.kind, ErrorKind::Refused);
        let errors = error.diagnostics.iter().filter(|it| it.is_error());
        errors.map(|it| it.code).collect()
    };
    let values = |text: &str| codes_of("kconfig_values", text);
    assert_eq!(values("CONFIG_OTHER\n"), [codes::KCONFIG_MALFORMED]);
    assert_eq!(values("CONFIG_OTHER=\n"), [codes::KCONFIG_MALFORMED]);
    assert_eq!(
        values("CONFIG_HZ=y\nCONFIG_BPF=\"\"\nCONFIG_HZ=n\n"),
        [codes::KCONFIG_VALUE; 2]
    );
    assert_eq!(
        values("\u{1f}\u{8b}not compressed\nCONFIG_"),
        [codes::KCONFIG_MALFORMED]
    );
    let missing = "CONFIG_BPF_SYSCALL=y\n";
    assert_eq!(
        codes_of("bad_load_kconfig_missing", missing),
        [codes::KCONFIG_MISSING; 2]
    );
    assert_eq!(
        codes_of("bad_load_kconfig_unknown", missing),
        [
            codes::KCONFIG_UNKNOWN,
            codes::KCONFIG_UNKNOWN,
            codes::KCONFIG_VALUE
        ]
    );

    // Where a value is from is said.
    let plan = plan_of(&fixtures::named("kconfig_values"));
    let text = "\nCONFIG_HZ=77\nCONFIG_CC_VERSION_TEXT=\"gcc 15\"\n";
    let loaded = try_load(&plan, Some(text.as_bytes())).map_err(|error| error.to_string())?;
    let hz = loaded.maps[0]
        .externs
        .iter()
        .find(|it| it.name == "CONFIG_HZ")
        .unwrap();
    assert_eq!(hz.value.to_string(), "77");
    assert_eq!(
        hz.origin,
        Origin::Line {
            file: "given".to_owned(),
            line: 2
        }
    );
    let said: Vec<Code> = loaded.diagnostics.iter().map(|it| it.code).collect();
    assert_eq!(said, [codes::KCONFIG_CUT, codes::RESOLVED]);
    Ok(())
}

/// A machine that does not tell its configuration gets no map, unless all values are given.
fn no_configuration() -> Outcome {
    let plan = plan_of(&fixtures::named("kconfig_values"));
    let load = |text: &str| {
        let kernel = FailingKernel::new(RealKernel::new(), |fault: Fault<'_>| {
            (fault.call == "config").then_some(Errno::ENOENT)
        });
        let options = LoadOptions {
            hold: true,
            kconfig: Some(KernelConfig {
                name: "given".to_owned(),
                bytes: text.into(),
            }),
            ..LoadOptions::default()
        };
        let result = load(&plan, &kernel, &options).map(drop);
        (result, kernel.created().len(), kernel.live())
    };
    let (result, created, live) = load("CONFIG_HZ=77\n");
    let error = result.expect_err("something is missing");
    assert_eq!(error.diagnostics[0].code, codes::KCONFIG_UNREADABLE);
    assert_eq!((error.kind, created, live), (ErrorKind::Refused, 0, 0));
    let (result, created, live) = load(&settings("", ""));
    result.map_err(|error| error.to_string())?;
    assert_eq!((created, live), (1, 0));
    Ok(())
}

fn compressed_text() -> Outcome {
    let plan = plan_of(&fixtures::named("kconfig_values"));
    let text = settings("CONFIG_HZ", "77");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes())?;
    let compressed = encoder.finish()?;
    assert_eq!(
        ours(&plan, &compressed).ok(),
        ours(&plan, text.as_bytes()).ok()
    );
    // Damage is told; what is behind it is missing, here all.
    let loaded = try_load(&plan, Some(&compressed[..12])).map_err(|error| error.to_string())?;
    let said: Vec<Code> = loaded.diagnostics.iter().map(|it| it.code).collect();
    assert_eq!(said[0], codes::KCONFIG_DAMAGED);
    Ok(())
}
