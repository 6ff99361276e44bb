//! Types of C at random, as clang lays them out: what clang puts into initial values, the generated
//! types find there, and make again. They are a project of their own, with a build script.

#![allow(
    clippy::unwrap_used,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "tests fail by panic"
)]

mod check;
mod declare;
#[path = "../project/mod.rs"]
mod project;

use std::fmt::Write as _;

use libtest_mimic::{Arguments, Trial};

use crate::declare::{Declarations, Ty};
use crate::project::{Project, has_clang, text};

/// How many types there are of each seed.
const COUNT: u32 = 60;
const SEEDS: [u64; 2] = [1, 2];

const LIBRARY: &str = r#"
#![forbid(unsafe_code)]
#![cfg(test)]
// What the generator of these tests writes is not beautiful.
#![allow(unused)]

trait Wrap: Copy + PartialEq + core::fmt::Debug {
    fn wrap(number: i128) -> Self;
}

macro_rules! wrap {
    ($($number:ty),*) => {
        $(
            impl Wrap for $number {
                fn wrap(number: i128) -> Self {
                    number as Self
                }
            }
        )*
    };
}
wrap!(u8, i8, u16, i16, u32, i32, u64, i64);

fn is<T: Wrap>(found: T, number: i128) {
    assert_eq!(found, T::wrap(number));
}
"#;

const BUILD: &str = r#"
use std::process::ExitCode;

use bpfplan_compiler::build::{BuildError, Builder};

fn build() -> Result<(), BuildError> {
    for source in std::fs::read_dir("bpf").into_iter().flatten().flatten() {
        Builder::new(source.path()).clang_args(["-w"]).try_run()?;
    }
    Ok(())
}

fn main() -> ExitCode {
    build().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
"#;

fn main() {
    let arguments = Arguments::from_args();
    let missing = !has_clang();
    if missing {
        println!("skipped: there is no clang");
    }
    assert!(
        !missing || std::env::var_os("CI").is_none(),
        "CI must have clang"
    );
    let trial = Trial::test("values_are_where_clang_puts_them", || {
        values_are_where_clang_puts_them();
        Ok(())
    });
    let trials = vec![trial.with_ignored_flag(missing)];
    libtest_mimic::run(&arguments, trials).exit();
}

fn values_are_where_clang_puts_them() {
    let project = Project::empty("c-types");
    let mut library = LIBRARY.to_owned();
    for seed in SEEDS {
        let name = format!("types_{seed}");
        let (c, rust) = write(seed, &name);
        project.write(&format!("bpf/{name}.bpf.c"), &c);
        project.write(&format!("src/{name}.rs"), &rust);
        writeln!(library, "mod {name};").unwrap();
    }
    project.write("src/lib.rs", &library);
    project.write("build.rs", BUILD);
    let output = project.cargo("test");
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    let passed = format!("test result: ok. {} passed", (COUNT + 1) * 2);
    assert!(stdout.contains(&passed), "{stdout}");
}

/// Types in C with a variable of each, and tests of these variables in Rust.
fn write(seed: u64, name: &str) -> (String, String) {
    let mut declarations = Declarations::new(seed);
    let mut variables = String::new();
    let (mut sizes, mut rust_sizes) = (Vec::new(), Vec::new());
    let mut rust = format!(
        "use bpfplan_loader::zerocopy::IntoBytes as _;\n\n\
         use super::{{Wrap, is}};\n\n\
         #[deny(warnings)]\nmod c {{\n    include!(concat!(env!(\"OUT_DIR\"), \"/{name}.rs\"));\n}}\n\
         use c::{} as Types;\n",
        name.replace("types_", "Types")
    );
    for index in 0..COUNT {
        let body = declarations.declare();
        let value = declarations.members(&body);
        let c_name = body.c_name();
        let ty = Ty::Body(body);
        let initial = check::c_value(&ty, &value);
        writeln!(
            variables,
            "{c_name} v{index} SEC(\".data.types\") = {initial};"
        )
        .unwrap();
        sizes.push(format!("sizeof({c_name})"));
        rust_sizes.push(format!("size_of::<c::types::s{index}>()"));
        let mut test = String::new();
        check::look("found", &ty, &value, &mut test);
        writeln!(test, "    let mut made = c::types::s{index}::default();").unwrap();
        check::make("made", &ty, &value, 0, &mut test);
        write!(
            rust,
            "\n#[test]\nfn v{index}() {{\n    \
             let open = Types::open().unwrap();\n    \
             let found = open.data_types.v{index};\n{test}    \
             assert_eq!(made, found);\n    \
             assert_eq!(made.as_bytes(), found.as_bytes());\n}}\n"
        )
        .unwrap();
    }
    let c = format!(
        "#define SEC(name) __attribute__((section(name), used))\n{}{variables}\
         const volatile unsigned int sizes[] = {{{}}};\n\
         char LICENSE[] SEC(\"license\") = \"GPL\";\n",
        declarations.text,
        sizes.join(", ")
    );
    write!(
        rust,
        "\n#[test]\nfn sizes() {{\n    \
         let open = Types::open().unwrap();\n    \
         let sizes = open.rodata.sizes.map(|size| size as usize);\n    \
         assert_eq!(sizes, [{}]);\n}}\n",
        rust_sizes.join(", ")
    )
    .unwrap();
    (c, rust)
}
