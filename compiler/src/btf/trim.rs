//! Copies what the maps reach into a small blob of its own.
//!
//! The blob is little, its types are renumbered in the order in which they are reached, and it has
//! no strings: btf-rs copies every name several times, and takes neither names in the middle of a
//! string nor names that are not UTF-8, as libbpf does. Members keep the offsets of their names in
//! the section, types have theirs beside the blob. The work is linear in the section.

use bpfplan_plan::Diagnostic;
use bpfplan_plan::uapi::{
    BTF_KIND_ARRAY, BTF_KIND_CONST, BTF_KIND_DATASEC, BTF_KIND_DECL_TAG, BTF_KIND_ENUM,
    BTF_KIND_ENUM64, BTF_KIND_FUNC, BTF_KIND_FUNC_PROTO, BTF_KIND_FWD, BTF_KIND_INT, BTF_KIND_PTR,
    BTF_KIND_RESTRICT, BTF_KIND_STRUCT, BTF_KIND_TYPE_TAG, BTF_KIND_TYPEDEF, BTF_KIND_UNION,
    BTF_KIND_VAR, BTF_KIND_VOLATILE, BTF_MAGIC, BTF_VERSION,
};
use foldhash::HashMap;

use super::raw::{Raw, RawType};
use super::reach::{Form, Node, Reach, index};
use crate::bytes::text;
use crate::codes;

/// Size of `struct btf_header`.
const HEADER: u32 = 24;

/// A small BTF blob, little-endian, and what btf-rs does not tell about it.
#[derive(Debug, Default)]
pub(crate) struct Trimmed {
    /// The blob.
    pub(crate) blob: Vec<u8>,
    /// The new ids of the roots, in their order.
    pub(crate) roots: Vec<u32>,
    /// By id - 1: what each type has beside the blob.
    pub(crate) besides: Vec<Beside>,
    /// A `contains:` tag and the struct that it names.
    pub(crate) contained: Vec<(u32, u32)>,
}

/// What btf-rs does not tell about a type.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beside {
    /// Offset of the name in the section.
    pub(crate) name: u32,
    /// The word after an `INT`, the index type of an `ARRAY`, else 0.
    pub(crate) word: u32,
}

/// Makes a blob of all that the roots reach: types, and variables in the form `Global`.
pub(crate) fn trim(raw: &Raw<'_>, roots: &[Node]) -> Result<Trimmed, Diagnostic> {
    let mut copy = Copy {
        reach: Reach::new(raw),
        tags: tags_by_target(raw),
        structs: None,
        nodes: vec![[0; Form::COUNT]; raw.len().saturating_add(1)],
        tag_ids: HashMap::default(),
        forwards: HashMap::default(),
        queue: Vec::new(),
        types: Vec::new(),
        result: Trimmed::default(),
    };
    for root in roots {
        let id = copy.id(*root);
        copy.result.roots.push(id);
    }
    let mut next = 0;
    while let Some(key) = copy.queue.get(next).copied() {
        next += 1;
        copy.write(u32::try_from(next).unwrap_or(u32::MAX), key)?;
    }
    Ok(copy.finish())
}

/// What a new type is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// A type of the section.
    Node(Node),
    /// A tag of a type that is kept.
    Tag(u32),
    /// A forward declaration: offset of its name, whether it is a union.
    Forward(u32, bool),
}

struct Copy<'a> {
    reach: Reach<'a>,
    /// The tags of every type.
    tags: HashMap<u32, Vec<u32>>,
    /// The first struct of every name, made when the first `contains:` tag asks for it.
    structs: Option<HashMap<&'a [u8], u32>>,
    /// The new ids: of nodes by id and form, of tags by id, of forward declarations; 0 is none.
    nodes: Vec<[u32; Form::COUNT]>,
    tag_ids: HashMap<u32, u32>,
    forwards: HashMap<(u32, bool), u32>,
    queue: Vec<Key>,
    types: Vec<u8>,
    result: Trimmed,
}

fn tags_by_target(raw: &Raw<'_>) -> HashMap<u32, Vec<u32>> {
    let mut tags: HashMap<u32, Vec<u32>> = HashMap::default();
    for (id, ty) in raw.of_kind(BTF_KIND_DECL_TAG) {
        tags.entry(ty.last).or_default().push(id);
    }
    tags
}

impl<'a> Copy<'a> {
    /// The new id of a node, which is copied later if this is the first time.
    fn id(&mut self, node: Node) -> u32 {
        let raw = self.reach.raw;
        let key = match raw.get(node.id) {
            None => return 0,
            Some(ty) if node.form == Form::Cut && ty.is_composite() => {
                Key::Forward(ty.name, ty.kind == BTF_KIND_UNION)
            }
            Some(ty) if ty.kind == BTF_KIND_FWD => Key::Forward(ty.name, ty.flag),
            Some(_) => Key::Node(node),
        };
        self.id_of(key)
    }

    fn id_of(&mut self, key: Key) -> u32 {
        let id = match key {
            Key::Node(Node { id, form }) => {
                let forms = self.nodes.get_mut(index(id));
                let Some(id) = forms.and_then(|forms| forms.get_mut(form as usize)) else {
                    return 0;
                };
                id
            }
            Key::Tag(id) => self.tag_ids.entry(id).or_default(),
            Key::Forward(name, union) => self.forwards.entry((name, union)).or_default(),
        };
        if *id == 0 {
            self.queue.push(key);
            *id = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        }
        *id
    }

    /// The new id of what a type refers to.
    fn target(&mut self, ty: &RawType<'_>, form: Form, id: u32) -> Result<u32, Diagnostic> {
        let node = self.reach.target(ty.kind, form, id)?;
        Ok(self.id(node))
    }

    fn words(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    /// Writes the type with the new id `new`.
    fn write(&mut self, new: u32, key: Key) -> Result<(), Diagnostic> {
        let (id, form) = match key {
            Key::Node(node) => (node.id, node.form),
            Key::Tag(id) => (id, Form::Full),
            Key::Forward(name, union) => {
                self.words(&[0, u32::from(union) << 31 | BTF_KIND_FWD << 24, 0]);
                self.result.besides.push(Beside { name, word: 0 });
                return Ok(());
            }
        };
        let raw = self.reach.raw;
        let Some(ty) = raw.get(id) else { return Ok(()) };
        let misplaced = match ty.kind {
            BTF_KIND_FUNC | BTF_KIND_DATASEC => true,
            BTF_KIND_VAR => form != Form::Global,
            BTF_KIND_DECL_TAG => key != Key::Tag(id),
            _ => false,
        };
        if misplaced {
            let name = text(raw.name(ty.name));
            let message =
                format!("corrupt BTF: [{id}] '{name}' stands where a type should, but is none");
            return Err(Diagnostic::error(codes::NOT_A_TYPE, message));
        }
        let last = if has_size(ty.kind) {
            ty.last
        } else {
            self.target(&ty, form, ty.last)?
        };
        let info = u32::from(ty.flag) << 31 | ty.kind << 24 | u32::from(ty.vlen);
        self.words(&[0, info, last]);
        let word = self.write_rest(&ty, form)?;
        let name = ty.name;
        self.result.besides.push(Beside { name, word });
        match key {
            Key::Tag(_) => self.keep_contained(new, &ty),
            _ if matches!(form, Form::Full | Form::Global) => self.keep_tags(id, &ty),
            _ => {}
        }
        Ok(())
    }

    /// Writes what follows the type; gives [`Beside::word`].
    fn write_rest(&mut self, ty: &RawType<'a>, form: Form) -> Result<u32, Diagnostic> {
        let mut word = 0;
        match ty.kind {
            BTF_KIND_INT => {
                word = ty.word();
                self.words(&[word]);
            }
            BTF_KIND_VAR | BTF_KIND_DECL_TAG => self.words(&[ty.word()]),
            BTF_KIND_ARRAY => {
                let [element, index, length] = ty.array();
                let element = self.target(ty, form, element)?;
                word = self.target(ty, Form::Full, index)?;
                self.words(&[element, word, length]);
            }
            BTF_KIND_STRUCT | BTF_KIND_UNION => {
                for [name, member, offset] in ty.parts() {
                    let member = [name, self.target(ty, form, member)?, offset];
                    self.words(&member);
                }
            }
            BTF_KIND_ENUM => {
                for variant in ty.parts::<2>() {
                    self.words(&variant);
                }
            }
            BTF_KIND_ENUM64 => {
                for variant in ty.parts::<3>() {
                    self.words(&variant);
                }
            }
            BTF_KIND_FUNC_PROTO => {
                for [name, param] in ty.parts() {
                    let param = [name, self.target(ty, form, param)?];
                    self.words(&param);
                }
            }
            _ => {}
        }
        Ok(word)
    }

    /// Keeps the tags of a kept type.
    fn keep_tags(&mut self, id: u32, ty: &RawType<'a>) {
        if ty.is_composite() || matches!(ty.kind, BTF_KIND_TYPEDEF | BTF_KIND_VAR) {
            for tag in self.tags.remove(&id).unwrap_or_default() {
                self.id_of(Key::Tag(tag));
            }
        }
    }

    /// Keeps the struct that a tag such as `contains:node:link` names: the kernel looks for the
    /// nodes of a list or tree by name.
    fn keep_contained(&mut self, new: u32, tag: &RawType<'a>) {
        let raw = self.reach.raw;
        let Some(graph) = raw.name(tag.name).strip_prefix(b"contains:") else {
            return;
        };
        let owner = graph.split(|byte| *byte == b':').next().unwrap_or_default();
        let structs = self.structs.get_or_insert_with(|| structs_by_name(raw));
        if let Some(id) = structs.get(owner).copied() {
            let owner = self.id(Node {
                id,
                form: Form::Full,
            });
            self.result.contained.push((new, owner));
        }
    }

    fn finish(self) -> Trimmed {
        let types = u32::try_from(self.types.len()).unwrap_or(u32::MAX);
        let strings = 1;
        let header = [
            BTF_MAGIC | BTF_VERSION << 16,
            HEADER,
            0,
            types,
            types,
            strings,
        ];
        let mut blob = Vec::with_capacity(32 + self.types.len());
        blob.extend(header.iter().flat_map(|word| word.to_le_bytes()));
        blob.extend(&self.types);
        blob.push(0);
        Trimmed {
            blob,
            ..self.result
        }
    }
}

/// Whether the third word of `struct btf_type` is a size (or nothing), not a type.
fn has_size(kind: u32) -> bool {
    !matches!(
        kind,
        BTF_KIND_PTR
            | BTF_KIND_TYPEDEF
            | BTF_KIND_VOLATILE
            | BTF_KIND_CONST
            | BTF_KIND_RESTRICT
            | BTF_KIND_FUNC
            | BTF_KIND_FUNC_PROTO
            | BTF_KIND_VAR
            | BTF_KIND_DECL_TAG
            | BTF_KIND_TYPE_TAG
    )
}

fn structs_by_name<'a>(raw: &Raw<'a>) -> HashMap<&'a [u8], u32> {
    let mut structs = HashMap::default();
    for (id, ty) in raw.types().filter(|(_, ty)| ty.kind == BTF_KIND_STRUCT) {
        structs.entry(raw.name(ty.name)).or_insert(id);
    }
    structs
}
