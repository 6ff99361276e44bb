//! Key and value types of many shapes, on every map type: what `btf_refusal` says is what the
//! kernel answers.

use std::os::fd::OwnedFd;

use bpfplan_plan::rules::{self, KernelVersion};
use bpfplan_plan::types::{
    Composite, Enum, Enumerator, IntEncoding, Linkage, Member, SecVar, Type,
};
use bpfplan_plan::{BtfIds, Endianness, Map, MaxEntries, Template, TypeId, btf, uapi};
use libtest_mimic::Failed;

use crate::kernel::{self, Btf};
use crate::types::{VALID, map};

/// A type of a known size; `None` for those without.
#[derive(Clone, Copy)]
struct Shape {
    label: &'static str,
    id: TypeId,
    size: Option<u32>,
}

#[derive(Default)]
struct Shapes {
    types: Vec<Type>,
    shapes: Vec<Shape>,
}

impl Shapes {
    fn add(&mut self, ty: Type) -> TypeId {
        self.types.push(ty);
        TypeId(self.types.len() as u32)
    }

    fn shape(&mut self, label: &'static str, ty: Type, size: impl Into<Option<u32>>) -> TypeId {
        let id = self.add(ty);
        self.shapes.push(Shape {
            label,
            id,
            size: size.into(),
        });
        id
    }

    fn int(&mut self, name: &'static str, size: u32, bits: u8) -> TypeId {
        let encoding = IntEncoding::Unsigned;
        let ty = Type::Int {
            name: name.into(),
            size,
            bits,
            bit_offset: 0,
            encoding,
        };
        self.shape(name, ty, size)
    }

    /// A struct with members at these byte offsets.
    fn structure(&mut self, name: &'static str, size: u32, members: &[(u32, TypeId)]) -> TypeId {
        let ty = structure(name, size, members);
        self.shape(name, ty, size)
    }

    /// A struct of the kernel's, such as `bpf_timer`, made of 32-bit words.
    fn special(&mut self, name: &'static str, size: u32, word: TypeId, index: TypeId) -> TypeId {
        let words = self.add(Type::Array {
            element: word,
            index,
            length: size / 4,
        });
        self.add(structure(name, size, &[(0, words)]))
    }

    /// A pointer to a struct with a type tag between.
    fn tagged(&mut self, tag: &str, to: TypeId) -> TypeId {
        let tag = self.add(Type::TypeTag {
            value: tag.into(),
            to,
            attribute: false,
        });
        self.add(Type::Ptr { to: tag })
    }
}

fn structure(name: &str, size: u32, members: &[(u32, TypeId)]) -> Type {
    let members = members
        .iter()
        .enumerate()
        .map(|(index, (offset, ty))| Member {
            name: Some(format!("m{index}")),
            ty: *ty,
            bit_offset: offset * 8,
            bitfield_size: None,
        })
        .collect();
    Type::Struct(Composite {
        name: Some(name.into()),
        size,
        members,
    })
}

fn all() -> Shapes {
    let mut s = Shapes::default();
    let u32_ = s.int("u32", 4, 32);
    let u64_ = s.int("u64", 8, 64);
    let u8_ = s.int("u8", 1, 8);
    s.int("u16", 2, 16);
    s.int("u31_in_u32", 4, 31);
    s.int("u64_of_32_bits", 8, 32);
    plain(&mut s, u32_, u64_, u8_);
    special(&mut s, u32_, u8_);
    s
}

fn plain(s: &mut Shapes, u32_: TypeId, u64_: TypeId, u8_: TypeId) {
    let typedef = s.shape(
        "typedef",
        Type::Typedef {
            name: "id_t".into(),
            to: u32_,
        },
        4,
    );
    s.shape("const typedef", Type::Const { to: typedef }, 4);
    s.shape("volatile u64", Type::Volatile { to: u64_ }, 8);
    let list = |name: &str, size| Enum {
        name: Some(name.into()),
        size,
        signed: false,
        variants: vec![Enumerator {
            name: format!("{name}_ONE"),
            value: 1,
        }],
    };
    s.shape("enum", Type::Enum(list("colour", 4)), 4);
    s.shape("enum64", Type::Enum64(list("wide", 8)), 8);
    s.structure("word", 4, &[(0, u32_)]);
    s.structure("no_members", 0, &[]);
    let union = Composite {
        name: Some("either".into()),
        size: 8,
        members: [u32_, u64_]
            .into_iter()
            .map(|ty| Member {
                name: None,
                ty,
                bit_offset: 0,
                bitfield_size: None,
            })
            .collect(),
    };
    s.shape("union", Type::Union(union), 8);
    s.shape(
        "float",
        Type::Float {
            name: "float".into(),
            size: 4,
        },
        4,
    );
    s.shape("pointer", Type::Ptr { to: u32_ }, 8);
    let bytes = s.shape(
        "u8[4]",
        Type::Array {
            element: u8_,
            index: u32_,
            length: 4,
        },
        4,
    );
    s.shape(
        "u8[2][4]",
        Type::Array {
            element: bytes,
            index: u32_,
            length: 2,
        },
        8,
    );
    s.shape(
        "u8[0]",
        Type::Array {
            element: u8_,
            index: u32_,
            length: 0,
        },
        0,
    );
    s.structure("lpm_key", 8, &[(0, u32_), (4, bytes)]);
    s.structure("cgroup_key", 16, &[(0, u64_), (8, typedef)]);
    s.structure("cgroup_key_swapped", 16, &[(0, u32_), (8, u64_)]);
    s.structure("cgroup_key_long", 16, &[(0, u64_), (8, u64_)]);
    let fwd = s.shape(
        "forward",
        Type::Fwd {
            name: "unknown".into(),
            union: false,
        },
        None,
    );
    s.shape("pointer to forward", Type::Ptr { to: fwd }, 8);
    let global = |name: &str, to| Type::Var {
        name: name.into(),
        to,
        linkage: Linkage::Global,
    };
    let var = s.shape("variable", global("counter", u64_), 8);
    let vars = vec![SecVar {
        var,
        offset: 0,
        size: 8,
    }];
    s.shape(
        "section",
        Type::Datasec {
            name: ".data".into(),
            size: 8,
            vars,
        },
        8,
    );
}

fn special(s: &mut Shapes, u32_: TypeId, u8_: TypeId) {
    let lock = s.special("bpf_spin_lock", 4, u32_, u32_);
    let named = [
        (
            "with_res_lock",
            s.special("bpf_res_spin_lock", 4, u32_, u32_),
            4,
        ),
        ("with_timer", s.special("bpf_timer", 16, u32_, u32_), 16),
        ("with_wq", s.special("bpf_wq", 16, u32_, u32_), 16),
        (
            "with_task_work",
            s.special("bpf_task_work", 8, u32_, u32_),
            8,
        ),
        ("with_refcount", s.special("bpf_refcount", 4, u32_, u32_), 4),
        ("with_lock", lock, 4),
    ];
    for (label, ty, size) in named {
        s.structure(label, size + 8, &[(0, ty), (size, u32_)]);
    }
    let inner = s.structure("nested_lock", 8, &[(0, lock), (4, u32_)]);
    s.structure("with_nested_lock", 16, &[(0, u32_), (4, inner)]);
    let hidden = s.add(Type::Typedef {
        name: "lock_t".into(),
        to: lock,
    });
    s.structure("with_typedef_lock", 8, &[(0, hidden), (4, u32_)]);
    let small = s.add(structure("bpf_timer", 4, &[(0, u32_)]));
    s.structure("with_small_timer", 8, &[(0, small), (4, u32_)]);

    let task = s.add(structure("task_struct", 4, &[(0, u32_)]));
    let local = s.add(structure("of_this_program", 4, &[(0, u32_)]));
    let fwd = s.add(Type::Fwd {
        name: "task_struct".into(),
        union: false,
    });
    for (label, tag, to) in [
        ("with_kptr", "kptr", task),
        ("with_kptr_untrusted", "kptr_untrusted", task),
        ("with_local_kptr", "kptr", local),
        ("with_percpu_kptr", "percpu_kptr", local),
        ("with_uptr", "uptr", local),
        ("with_user_tag", "user", local),
        ("with_kptr_to_forward", "kptr", fwd),
        ("with_kptr_to_int", "kptr", u32_),
    ] {
        let pointer = s.tagged(tag, to);
        s.structure(label, 16, &[(0, pointer), (8, u32_)]);
    }
    let pointer = s.tagged("kptr", task);
    let three = s.add(Type::Array {
        element: pointer,
        index: u32_,
        length: 3,
    });
    s.structure("with_kptr_array", 24, &[(0, three)]);
    let twelve = s.add(Type::Array {
        element: pointer,
        index: u32_,
        length: 12,
    });
    s.structure("with_too_many_kptrs", 96, &[(0, twelve)]);
    let volatile = s.add(Type::Volatile { to: pointer });
    s.structure("with_volatile_kptr", 8, &[(0, volatile)]);
    let holder = s.add(structure("holder", 16, &[(0, u8_), (8, pointer)]));
    let holders = s.add(Type::Array {
        element: holder,
        index: u32_,
        length: 2,
    });
    s.structure("with_nested_kptrs", 40, &[(0, holders), (32, u32_)]);

    for (label, head, node, head_size, node_size) in [
        ("with_list", "bpf_list_head", "bpf_list_node", 16, 24),
        ("with_tree", "bpf_rb_root", "bpf_rb_node", 16, 32),
    ] {
        let head = s.special(head, head_size, u32_, u32_);
        let node = s.special(node, node_size, u32_, u32_);
        let name = format!("{label}_element");
        s.add(structure(&name, node_size + 8, &[(0, u32_), (8, node)]));
        let to = s.structure(label, 24, &[(0, lock), (8, head)]);
        let value = format!("contains:{name}:m1");
        s.add(Type::DeclTag {
            value,
            to,
            component: Some(1),
            attribute: false,
        });
    }
    // A variable with a lock in a section.
    let var = Type::Var {
        name: "guard".into(),
        to: lock,
        linkage: Linkage::Global,
    };
    let var = s.add(var);
    let vars = vec![SecVar {
        var,
        offset: 0,
        size: 4,
    }];
    s.shape(
        "section with lock",
        Type::Datasec {
            name: ".data.guard".into(),
            size: 4,
            vars,
        },
        4,
    );
}

#[derive(Default)]
struct Count {
    accepted: usize,
    refused: usize,
    problems: Vec<String>,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.problems.extend(other.problems);
    }
}

pub fn agree(running: KernelVersion) -> Result<(), Failed> {
    let Shapes { types, shapes } = all();
    let blob = btf::encode(&types, Endianness::NATIVE).map_err(|error| error.to_string())?;
    let fd = kernel::load_btf(&blob).map_err(|number| {
        format!(
            "the kernel refuses the shapes: {}",
            rules::errno_name(number)
        )
    })?;
    let bases: Vec<Map<Template>> = VALID
        .iter()
        .map(map::<Template>)
        .filter(|base| {
            rules::wants_btf(base.map_type)
                && rules::needs(base, &[]).is_some_and(|(since, _)| since <= running)
        })
        .collect();
    // A refused storage map waits for an RCU grace period: threads share them.
    let mut count = Count::default();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for base in &bases {
            for some in shapes.chunks(8) {
                let (shapes, types, fd) = (&shapes, &types, &fd);
                threads.push(scope.spawn(move || of_type(base, some, shapes, types, fd)));
            }
        }
        for thread in threads {
            count.add(thread.join().expect("no panic"));
        }
    });
    eprintln!(
        "btf: {} accepted, {} refused as foreseen",
        count.accepted, count.refused
    );
    if count.accepted < 100 || count.refused < 100 {
        count.problems.push("too few of one kind".into());
    }
    if count.problems.is_empty() {
        Ok(())
    } else {
        Err(count.problems.join("\n").into())
    }
}

/// Every shape as key and as value of maps of one type.
fn of_type(
    base: &Map<Template>,
    some: &[Shape],
    shapes: &[Shape],
    types: &[Type],
    fd: &OwnedFd,
) -> Count {
    let mut count = Count::default();
    for shape in some {
        let value = with_size(shapes, "u32", "u64", base.value_size);
        pair(base, Some(*shape), value, types, fd, &mut count);
        pair(base, None, Some(*shape), types, fd, &mut count);
        for key in ["u32", "lpm_key", "u64", "cgroup_key"] {
            let key = shapes.iter().find(|shape| shape.label == key).copied();
            pair(base, key, Some(*shape), types, fd, &mut count);
        }
    }
    count
}

fn with_size(shapes: &[Shape], small: &str, large: &str, size: u32) -> Option<Shape> {
    let label = if size == 8 { large } else { small };
    shapes.iter().find(|shape| shape.label == label).copied()
}

/// One key and value type, with the sizes that they have and with the type's own, on the map's
/// flags and with programs kept from writing.
fn pair(
    base: &Map<Template>,
    key: Option<Shape>,
    value: Option<Shape>,
    types: &[Type],
    fd: &OwnedFd,
    count: &mut Count,
) {
    for flags in [0, uapi::BPF_F_RDONLY_PROG] {
        for fit in [true, false] {
            let mut map = base.clone();
            map.map_flags |= flags;
            map.key_type = key.map(|shape| shape.id);
            map.value_type = value.map(|shape| shape.id);
            if fit {
                map.key_size = key.map_or(map.key_size, |shape| shape.size.unwrap_or(4));
                map.value_size = value.map_or(map.value_size, |shape| shape.size.unwrap_or(4));
            }
            if matches!(value, Some(shape) if shape.label.starts_with("section")) {
                map.max_entries = MaxEntries::Count(1);
            }
            map.btf = Some(BtfIds {
                key_type_id: key.map_or(0, |shape| shape.id.0),
                value_type_id: value.map_or(0, |shape| shape.id.0),
            });
            // What is refused for other reasons says nothing about BTF.
            if !rules::create::refusals(&map).is_empty() {
                continue;
            }
            compare(&map, key, value, types, fd, count);
        }
    }
}

fn compare(
    map: &Map<Template>,
    key: Option<Shape>,
    value: Option<Shape>,
    types: &[Type],
    fd: &OwnedFd,
    count: &mut Count,
) {
    let predicted = rules::btf_refusal(map, types);
    let ids = [map.key_type, map.value_type].map(|id| id.map_or(0, |id| id.0));
    let answer = kernel::create(
        map,
        None,
        Some(Btf {
            fd,
            key: ids[0],
            value: ids[1],
        }),
    );
    match (&predicted, &answer) {
        (None, Ok(_)) => count.accepted += 1,
        (Some(_), Err(_)) => count.refused += 1,
        _ => {
            let label = |shape: Option<Shape>| shape.map_or("none", |shape| shape.label);
            let answer = answer
                .err()
                .map_or_else(|| "accepted".into(), rules::errno_name);
            count.problems.push(format!(
                "{} flags {:#x}, key {} ({}), value {} ({}): {answer}, predicted {predicted:?}",
                map.map_type,
                map.map_flags,
                label(key),
                map.key_size,
                label(value),
                map.value_size
            ));
        }
    }
}
