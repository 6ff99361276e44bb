//! Objects of growing size that loads are measured with: written by rule and compiled.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::compiler::Compiler;

/// Compiles it.
pub(crate) const COMPILER: Compiler = Compiler::Clang22;

/// Compiles the object of this name to `directory/NAME.bpf.o`.
///
/// `plain-N` has N arrays and hashes in turn; `slots-N` an array of N maps, every slot filled with a
/// map of its own, and `hslots-N` a hash of N maps; `outers-KxN` K arrays of N maps; `programs-NxM`
/// `slots-N` with M programs; `types-N` four maps beside N structs of a program.
pub(crate) fn compile(root: &Path, name: &str, directory: &Path) -> Result<PathBuf> {
    let Some(text) = source(name) else {
        bail!("{name} is none of plain-N, slots-N, hslots-N, outers-KxN, programs-NxM, types-N");
    };
    // The path is in the object, so it must not depend on where that goes.
    let sources = Path::new("target/bench");
    std::fs::create_dir_all(root.join(sources)).context("cannot make target/bench")?;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let source = sources.join(format!("{name}.bpf.c"));
    std::fs::write(root.join(&source), text).context("cannot write the source")?;
    let object = directory.join(format!("{name}.bpf.o"));
    let source = source.to_str().context("the path is not UTF-8")?;
    COMPILER.compile(root, source, &[], &object)?;
    Ok(object)
}

fn source(name: &str) -> Option<String> {
    let (kind, size) = name.split_once('-')?;
    let number = |text: &str| {
        text.parse()
            .ok()
            .filter(|number| (1..=20_000).contains(number))
    };
    let body = match kind {
        "plain" => plain(number(size)?, VALUES),
        "slots" => slots(1, number(size)?, "ARRAY"),
        "hslots" => slots(1, number(size)?, "HASH"),
        "outers" => {
            let (outers, slots_each) = size.split_once('x')?;
            slots(number(outers)?, number(slots_each)?, "ARRAY")
        }
        "programs" => {
            let (slots_each, count) = size.split_once('x')?;
            let slots_each = number(slots_each)?;
            slots(1, slots_each, "ARRAY") + &programs(number(count)?, slots_each)
        }
        "types" => types(number(size)?),
        _ => return None,
    };
    Some(format!(
        "#include \"bpfplan_fixture.h\"\n\n{body}\nGPL_LICENSE;\n"
    ))
}

/// How many different values the maps have.
const VALUES: u32 = 16;

fn plain(maps: u32, values: u32) -> String {
    let mut text = String::new();
    for value in 0..values {
        let _ = writeln!(
            text,
            "struct value_{value} {{\n    __u64 bytes_{value};\n    __u32 packets, flags;\n    \
             __u8 name[{}];\n}};",
            8 + 8 * (value % 4)
        );
    }
    for map in 0..maps {
        let kind = if map % 2 == 0 { "ARRAY" } else { "HASH" };
        let _ = writeln!(
            text,
            "struct {{\n    __uint(type, BPF_MAP_TYPE_{kind});\n    __uint(max_entries, {});\n    \
             __type(key, __u32);\n    __type(value, struct value_{});\n}} map_{map} SEC(\".maps\");",
            8 + 8 * (map % 8),
            map % values
        );
    }
    text
}

fn slots(outers: u32, slots: u32, kind: &str) -> String {
    let mut text = "struct inner {\n    __uint(type, BPF_MAP_TYPE_ARRAY);\n    \
                    __uint(max_entries, 4);\n    __type(key, __u32);\n    \
                    __type(value, __u64);\n};\n"
        .to_owned();
    for inner in 0..outers * slots {
        let _ = writeln!(text, "struct inner inner_{inner} SEC(\".maps\");");
    }
    for outer in 0..outers {
        let inner = (outer * slots..(outer + 1) * slots).map(|inner| format!("&inner_{inner}"));
        let inner: Vec<String> = inner.collect();
        let _ = writeln!(
            text,
            "struct {{\n    __uint(type, BPF_MAP_TYPE_{kind}_OF_MAPS);\n    \
             __uint(max_entries, {slots});\n    __type(key, __u32);\n    \
             __array(values, struct inner);\n}} outer_{outer} SEC(\".maps\") = {{\n    \
             .values = {{{}}},\n}};",
            inner.join(", ")
        );
    }
    text
}

/// Programs that read through a slot of `outer_0` each. The verifier walks through every turn of
/// their loops, which takes it somewhat less than a millisecond a program.
fn programs(count: u32, slots: u32) -> String {
    let mut text = String::new();
    for program in 0..count {
        let _ = writeln!(
            text,
            "SEC(\"socket\") int program_{program}(struct __sk_buff *skb)\n{{\n    \
             __u32 slot = {}, key = {};\n    \
             void *inner = bpf_map_lookup_elem(&outer_0, &slot);\n    \
             __u64 *value = inner ? bpf_map_lookup_elem(inner, &key) : NULL;\n    \
             if (!value)\n        return 0;\n    \
             __u64 hash = *value;\n    \
             _Pragma(\"clang loop unroll(disable)\")\n    \
             for (__u32 turn = 0; turn < 250; turn++) {{\n        \
             hash = hash * 31 + turn;\n        \
             asm volatile(\"\" : \"+r\"(hash));\n    }}\n    \
             return hash;\n}}",
            program % slots,
            program % 4
        );
    }
    text
}

/// Structs as a kernel has them: many members, pointers to each other, one in another, bitfields,
/// unions without a name, callbacks. Functions that take pointers to them bring all into the BTF.
fn types(structs: u32) -> String {
    let mut text = plain(4, 4);
    for one in 0..structs {
        let _ = writeln!(text, "struct thing_{one};");
    }
    for one in 0..structs {
        let _ = writeln!(
            text,
            "enum state_{one} {{ STATE_{one}_NEW, STATE_{one}_READY, STATE_{one}_GONE = {} }};\n\
             struct thing_{one} {{\n    enum state_{one} state_{one};",
            one + 2
        );
        for member in 0..4 + one % 13 {
            // Any other struct; the step has no factor in common with most numbers of structs.
            let other = (one + 1 + member * 37) % structs;
            let _ = match (one + member) % 6 {
                0 => writeln!(text, "    struct thing_{other} *next_{other}_{member};"),
                1 => writeln!(text, "    __u64 counter_{one}_{member};"),
                2 => writeln!(text, "    __u8 bytes_{one}_{member}[{}];", member + 3),
                3 => writeln!(
                    text,
                    "    union {{\n        __u32 id_{one}_{member};\n        \
                     void *private_{one}_{member};\n    }};"
                ),
                4 => writeln!(
                    text,
                    "    int (*call_{one}_{member})(struct thing_{other} *, const char *, __u32);"
                ),
                _ => writeln!(
                    text,
                    "    __u32 low_{one}_{member} : {};\n    __u32 high_{one}_{member} : 4;",
                    member % 27 + 1
                ),
            };
        }
        if one % 8 == 7 {
            let _ = writeln!(text, "    struct thing_{} inside;", one - 1);
        }
        text.push_str("};\n");
    }
    let all: Vec<u32> = (0..structs).collect();
    for (function, taken) in all.chunks(5).enumerate() {
        let parameters = taken
            .iter()
            .map(|one| format!("struct thing_{one} *arg_{one}"));
        let parameters: Vec<String> = parameters.collect();
        let _ = writeln!(
            text,
            "__noinline int visit_{function}({}) {{ return {function}; }}",
            parameters.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_large_it_is() {
        let outers = source("outers-2x3").unwrap();
        assert_eq!(outers.matches("struct inner inner_").count(), 6);
        assert!(outers.contains(".values = {&inner_3, &inner_4, &inner_5}"));
        assert_eq!(source("plain-7").unwrap().matches("} map_").count(), 7);
        assert!(source("hslots-4").unwrap().contains("HASH_OF_MAPS"));
        let programs = source("programs-5x3").unwrap();
        assert_eq!(programs.matches("struct inner inner_").count(), 5);
        assert_eq!(programs.matches("SEC(\"socket\")").count(), 3);
        for wrong in [
            "plain",
            "plain-",
            "plain-0",
            "slots-x",
            "outers-4",
            "programs-4",
            "trees-3",
        ] {
            assert_eq!(source(wrong), None, "{wrong}");
        }
    }
}
