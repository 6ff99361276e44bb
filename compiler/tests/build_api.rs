//! The build API, apart from cargo: `bindings-tests` has a project that cargo builds.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

use std::fs;
use std::path::{Path, PathBuf};

use bpfplan_compiler::build::{BuildError, Builder, Built, Inputs};
use bpfplan_compiler::codes;
use bpfplan_plan::rules::KernelVersion;
use bpfplan_plan::{Code, Endianness, format};
use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;

fn main() {
    let arguments = Arguments::from_args();
    let clang = Clang::find();
    if clang.is_none() {
        println!("skipped: there is no clang");
    }
    assert!(
        clang.is_some() || std::env::var_os("CI").is_none(),
        "CI must have clang"
    );
    let objects: [(&str, fn()); 9] = [
        ("an_object_becomes_a_module", an_object_becomes_a_module),
        ("a_bad_object_is_refused", a_bad_object_is_refused),
        ("no_btf_is_refused", no_btf_is_refused),
        (
            "another_byte_order_is_refused",
            another_byte_order_is_refused,
        ),
        ("old_kernels_are_checked", old_kernels_are_checked),
        ("memory_is_checked", memory_is_checked),
        ("warnings_are_denied", warnings_are_denied),
        ("no_clang_is_said", no_clang_is_said),
        ("a_missing_file_is_said", a_missing_file_is_said),
    ];
    let mut trials: Vec<Trial> = objects
        .into_iter()
        .map(|(name, test)| trial(name, test))
        .collect();
    let sources: [(&str, fn()); 5] = [
        ("a_source_is_compiled", a_source_is_compiled),
        ("errors_of_clang_are_whole", errors_of_clang_are_whole),
        ("warnings_of_clang_are_kept", warnings_of_clang_are_kept),
        ("places_are_in_the_source", places_are_in_the_source),
        ("vmlinux_h_is_found", vmlinux_h_is_found),
    ];
    trials.extend(
        sources
            .into_iter()
            .map(|(name, test)| trial(name, test).with_ignored_flag(clang.is_none())),
    );
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// Whether some clang is there; the tests leave it to the builder to find it.
struct Clang;

impl Clang {
    fn find() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("a.bpf.c");
        fs::write(&source, "int a;\n").unwrap();
        let (_, result) = Builder::new(source).out_dir(directory.path()).build();
        let missing = result.is_err_and(|error| has(&error, codes::NO_CLANG));
        (!missing).then_some(Self)
    }
}

fn object(name: &str) -> PathBuf {
    let objects = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/obj");
    objects.join(format!("{name}.bpf.o"))
}

fn has(error: &BuildError, code: Code) -> bool {
    error
        .diagnostics
        .iter()
        .any(|diagnostic| diagnostic.code == code && diagnostic.is_error())
}

/// A directory of a test's own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn build(&self, builder: &Builder) -> (Inputs, Result<Built, BuildError>) {
        builder.clone().out_dir(self.0.path()).build()
    }

    fn refused(&self, builder: &Builder, code: Code) -> BuildError {
        let error = self.build(builder).1.unwrap_err();
        assert!(has(&error, code), "{error}");
        let ours = ["plan", "rs"];
        let left = self.0.path().read_dir().unwrap().map(Result::unwrap);
        let left = left.filter(|entry| {
            let path = entry.path();
            path.extension()
                .is_some_and(|ending| ours.iter().any(|ours| ending == *ours))
        });
        assert_eq!(left.count(), 0, "a failed build leaves no module");
        error
    }

    fn source(&self, text: &str) -> PathBuf {
        let path = self.0.path().join("tables.bpf.c");
        let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/include");
        let text = format!("#include \"bpfplan_fixture.h\"\n{text}");
        fs::copy(
            include.join("bpfplan_fixture.h"),
            self.0.path().join("bpfplan_fixture.h"),
        )
        .unwrap();
        fs::copy(
            include.join("bpfplan_uapi.h"),
            self.0.path().join("bpfplan_uapi.h"),
        )
        .unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

const TABLE: &str = "
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, __u64);
} table SEC(\".maps\");
";

fn an_object_becomes_a_module() {
    let place = Place::new();
    let (inputs, built) = place.build(&Builder::new(object("types_hash")));
    let built = built.unwrap();
    assert_eq!(inputs.files, [object("types_hash")]);
    let plan = format::read(&fs::read(&built.plan).unwrap()).unwrap();
    assert!(plan.object.sha256.is_some());
    let module = fs::read_to_string(&built.module).unwrap();
    assert!(module.contains("pub struct TypesHash {"));
    assert!(module.contains("::core::include_bytes!(\"types_hash.plan\")"));
    assert_eq!(built.module, place.0.path().join("types_hash.rs"));

    let named = Builder::new(object("types_hash")).name("Tables");
    let built = place.build(&named).1.unwrap();
    let module = fs::read_to_string(built.module).unwrap();
    assert!(module.contains("pub struct OpenTablesMaps {"));
}

fn a_bad_object_is_refused() {
    let place = Place::new();
    place.refused(&Builder::new(object("bad_no_type")), codes::NO_TYPE);
    // What only a kernel would refuse is found as well.
    let builder = Builder::new(object("bad_load_slot_entries"));
    place.refused(&builder, bpfplan_plan::codes::SLOT_DOES_NOT_FIT);
}

fn no_btf_is_refused() {
    let error = Place::new().refused(&Builder::new(object("bad_no_btf")), codes::NO_BTF);
    assert!(error.to_string().contains("no BTF"));
}

fn another_byte_order_is_refused() {
    let name = match Endianness::NATIVE {
        Endianness::Little => "types_hash.be",
        Endianness::Big => "types_hash",
    };
    let builder = Builder::new(object(name));
    Place::new().refused(&builder, codes::FOREIGN_BYTE_ORDER);
}

fn old_kernels_are_checked() {
    let builder = Builder::new(object("ringbuf_slots"));
    let place = Place::new();
    let old = builder.clone().kernel(KernelVersion::new(5, 4));
    place.refused(&old, bpfplan_plan::codes::KERNEL_TOO_OLD);
    place
        .build(&builder.kernel(KernelVersion::new(6, 1)))
        .1
        .unwrap();
}

fn memory_is_checked() {
    let builder = Builder::new(object("types_hash"));
    let place = Place::new();
    let error = place.refused(&builder.clone().memory_budget(100, 2), codes::OVER_BUDGET);
    assert!(error.to_string().contains("more than the 100"), "{error}");
    place.build(&builder.memory_budget(1 << 40, 2)).1.unwrap();
}

fn warnings_are_denied() {
    let builder = Builder::new(object("numa_node"));
    let place = Place::new();
    let built = place.build(&builder).1.unwrap();
    let code = built.warnings.first().unwrap().code;
    let place = Place::new();
    let error = place.refused(&builder.clone().deny(code.0), code);
    assert!(
        error.diagnostics[0]
            .notes
            .iter()
            .any(|note| note.contains("denied"))
    );
    place.refused(&builder.clone().deny_warnings(), code);
    place.refused(&builder.deny("BP9999"), codes::UNKNOWN_CODE);
}

fn no_clang_is_said() {
    let place = Place::new();
    let builder = Builder::new(place.source(TABLE)).clang("/nonexistent/clang");
    let error = place.refused(&builder, codes::NO_CLANG);
    let help = error.diagnostics[0].help.as_deref().unwrap();
    assert!(help.contains("CLANG"), "{help}");
}

fn a_missing_file_is_said() {
    for name in ["nowhere.bpf.c", "nowhere.bpf.o"] {
        let place = Place::new();
        let error = place.refused(&Builder::new(name), codes::BUILD_FILE);
        assert_eq!(error.diagnostics[0].object.as_deref(), Some(name));
    }
}

fn a_source_is_compiled() {
    let place = Place::new();
    let source = place.source(TABLE);
    let (inputs, built) = place.build(&Builder::new(&source));
    let built = built.unwrap();
    for file in ["tables.bpf.c", "bpfplan_fixture.h", "bpfplan_uapi.h"] {
        let path = place.0.path().join(file);
        assert!(inputs.files.contains(&path), "{inputs:?}");
    }
    assert!(inputs.variables.contains(&"CLANG"));
    assert_eq!(built.object, place.0.path().join("tables.bpf.o"));
    assert!(fs::read_to_string(built.module).unwrap().contains("Tables"));
}

fn errors_of_clang_are_whole() {
    let place = Place::new();
    let source = place.source("int one = two;\nint three = four;\n");
    let (inputs, result) = place.build(&Builder::new(&source));
    let error = result.unwrap_err();
    assert!(has(&error, codes::CLANG_FAILED));
    for name in ["'two'", "'four'", "2 errors generated"] {
        assert!(error.clang_output.contains(name), "{error}");
    }
    assert!(inputs.files.contains(&source));

    let source = place.source("#include <vmlinux.h>\n");
    let error = place.build(&Builder::new(&source)).1.unwrap_err();
    let help = error.diagnostics[0].help.as_deref().unwrap();
    assert!(help.contains("bpftool btf dump"), "{help}");
}

fn warnings_of_clang_are_kept() {
    let place = Place::new();
    let source = place.source(&format!("{TABLE}#warning \"remember the milk\"\n"));
    let built = place.build(&Builder::new(&source)).1.unwrap();
    assert!(built.clang_output.contains("remember the milk"));
    let strict = Builder::new(&source).clang_args(["-Werror"]);
    place.build(&strict).1.unwrap_err();
}

fn places_are_in_the_source() {
    let place = Place::new();
    let source = place.source(&TABLE.replace("__uint(type, BPF_MAP_TYPE_ARRAY);", ""));
    let error = place.refused(&Builder::new(&source), codes::NO_TYPE);
    let label = &error.diagnostics[0].labels[0];
    assert!(label.source.file.ends_with("tables.bpf.c"), "{label:?}");
    assert_eq!(label.source.line, 8);
}

fn vmlinux_h_is_found() {
    let place = Place::new();
    let source = place.source(&format!("#include \"vmlinux.h\"\n{TABLE}"));
    let elsewhere = tempfile::tempdir().unwrap();
    let header = elsewhere.path().join("vmlinux.h");
    let builder = Builder::new(&source).vmlinux_h(&header);
    let error = place.build(&builder).1.unwrap_err();
    assert!(has(&error, codes::BUILD_FILE), "{error}");
    fs::write(&header, "").unwrap();
    let (inputs, built) = place.build(&builder);
    built.unwrap();
    assert!(inputs.files.contains(&header));
}
