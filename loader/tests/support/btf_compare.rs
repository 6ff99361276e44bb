//! Compares types of two BTF blobs by structure, never by id.
//!
//! The one difference allowed: behind a plain pointer, a forward declaration (or nothing) may
//! stand for the full type, because that is how bpfplan trims what the kernel gets.

use std::collections::{HashMap, HashSet};

use btf_rs::{Btf, BtfType, Type};

/// A blob with its types looked up once.
pub struct Graph {
    types: Vec<Type>,
    btf: Btf,
    /// Decl tags by the id of the tagged type.
    tags: HashMap<u32, Vec<(String, Option<u32>)>>,
}

impl Graph {
    pub fn new(blob: &[u8]) -> Self {
        let btf = Btf::from_bytes(blob).expect("the kernel's BTF reads");
        let mut types = Vec::new();
        let mut tags: HashMap<u32, Vec<_>> = HashMap::new();
        while let Ok(ty) = btf.resolve_type_by_id(u32::try_from(types.len()).unwrap()) {
            if let Type::DeclTag(tag) = &ty {
                let entry = (btf.resolve_name(tag).unwrap(), tag.component_index());
                tags.entry(tag.get_type_id().unwrap())
                    .or_default()
                    .push(entry);
            }
            types.push(ty);
        }
        tags.values_mut().for_each(|tags| tags.sort());
        Self { types, btf, tags }
    }

    fn name(&self, ty: &dyn BtfType) -> String {
        match ty.get_name_offset() {
            None | Some(0) => String::new(),
            Some(_) => self.btf.resolve_name(ty).unwrap(),
        }
    }
}

/// Compares `ours` with `theirs`.
///
/// # Errors
/// The first difference, with the way to it.
pub fn same(ours: (&Graph, u32), theirs: (&Graph, u32)) -> Result<(), String> {
    let mut seen = HashSet::new();
    compare(ours, theirs, false, &mut seen)
}

type Seen = HashSet<(u32, u32, bool)>;

fn compare(
    (a, a_id): (&Graph, u32),
    (b, b_id): (&Graph, u32),
    behind_plain_pointer: bool,
    seen: &mut Seen,
) -> Result<(), String> {
    if !seen.insert((a_id, b_id, behind_plain_pointer)) {
        return Ok(());
    }
    let (left, right) = (&a.types[a_id as usize], &b.types[b_id as usize]);
    let at = |why: String| Err(format!("{why} (our [{a_id}], their [{b_id}])"));
    let mut follow = |x: Option<u32>, y: Option<u32>, plain: bool| {
        compare((a, x.unwrap()), (b, y.unwrap()), plain, seen)
    };
    if behind_plain_pointer && let Some(done) = trimmed(a, left, b, right) {
        return done;
    }
    let (left_name, right_name) = match (left.as_btf_type(), right.as_btf_type()) {
        (Some(x), Some(y)) => (a.name(x), b.name(y)),
        _ => Default::default(),
    };
    if left.name() != right.name() || left_name != right_name {
        return at(format!(
            "{} '{left_name}' against {} '{right_name}'",
            left.name(),
            right.name()
        ));
    }
    if a.tags.get(&a_id) != b.tags.get(&b_id) {
        return at(format!(
            "decl tags {:?} against {:?}",
            a.tags.get(&a_id),
            b.tags.get(&b_id)
        ));
    }
    match (left, right) {
        (Type::Void, Type::Void) => Ok(()),
        (Type::Int(x), Type::Int(y)) => {
            let facts = |i: &btf_rs::Int| (i.size(), i.is_signed(), i.is_char(), i.is_bool());
            if facts(x) == facts(y) {
                Ok(())
            } else {
                at(format!("{x:?} against {y:?}"))
            }
        }
        (Type::Float(x), Type::Float(y)) if x.size() == y.size() => Ok(()),
        (Type::Fwd(x), Type::Fwd(y)) if x.is_union() == y.is_union() => Ok(()),
        (Type::Ptr(x), Type::Ptr(y)) => {
            let tagged = |graph: &Graph, id: Option<u32>| {
                matches!(graph.types[id.unwrap() as usize], Type::TypeTag(_))
            };
            if tagged(a, x.get_type_id()) != tagged(b, y.get_type_id()) {
                return at("a tagged pointer against a plain one".into());
            }
            let plain = !tagged(a, x.get_type_id());
            follow(x.get_type_id(), y.get_type_id(), plain)
        }
        (Type::TypeTag(x), Type::TypeTag(y)) => follow(x.get_type_id(), y.get_type_id(), false),
        (Type::Array(x), Type::Array(y)) => {
            if x.len() != y.len() {
                return at(format!("{} elements against {}", x.len(), y.len()));
            }
            follow(x.get_type_id(), y.get_type_id(), behind_plain_pointer)
        }
        (Type::Typedef(x), Type::Typedef(y)) => {
            follow(x.get_type_id(), y.get_type_id(), behind_plain_pointer)
        }
        (Type::Const(x), Type::Const(y))
        | (Type::Volatile(x), Type::Volatile(y))
        | (Type::Restrict(x), Type::Restrict(y)) => {
            follow(x.get_type_id(), y.get_type_id(), behind_plain_pointer)
        }
        (Type::Struct(x), Type::Struct(y)) | (Type::Union(x), Type::Union(y)) => {
            if x.size() != y.size() || x.members.len() != y.members.len() {
                return at(format!(
                    "'{left_name}' has another size or number of members"
                ));
            }
            for (m, n) in x.members.iter().zip(&y.members) {
                let facts = |graph: &Graph, m: &btf_rs::Member| {
                    let bits = m.bitfield_size().filter(|bits| *bits != 0);
                    (graph.name(m), m.bit_offset(), bits)
                };
                if facts(a, m) != facts(b, n) {
                    return at(format!(
                        "member {:?} against {:?}",
                        facts(a, m),
                        facts(b, n)
                    ));
                }
                follow(m.get_type_id(), n.get_type_id(), false)
                    .map_err(|why| format!("{left_name}.{}: {why}", a.name(m)))?;
            }
            Ok(())
        }
        (Type::Enum(x), Type::Enum(y)) => {
            let facts = |graph: &Graph, e: &btf_rs::Enum| {
                let values: Vec<_> = e.members.iter().map(|m| (graph.name(m), m.val())).collect();
                (e.size(), e.is_signed(), values)
            };
            if facts(a, x) == facts(b, y) {
                Ok(())
            } else {
                at("enumerators".into())
            }
        }
        (Type::Enum64(x), Type::Enum64(y)) => {
            let facts = |graph: &Graph, e: &btf_rs::Enum64| {
                let values: Vec<_> = e.members.iter().map(|m| (graph.name(m), m.val())).collect();
                (e.size(), e.is_signed(), values)
            };
            if facts(a, x) == facts(b, y) {
                Ok(())
            } else {
                at("enumerators".into())
            }
        }
        (Type::FuncProto(x), Type::FuncProto(y)) => {
            if x.parameters.len() != y.parameters.len() {
                return at("number of parameters".into());
            }
            follow(Some(x.return_type_id()), Some(y.return_type_id()), true)?;
            for (p, q) in x.parameters.iter().zip(&y.parameters) {
                follow(p.get_type_id(), q.get_type_id(), true)?;
            }
            Ok(())
        }
        (Type::Var(x), Type::Var(y)) => {
            let linkage = |var: &btf_rs::Var| (var.is_static(), var.is_extern());
            if linkage(x) != linkage(y) {
                return at(format!("linkage of '{left_name}'"));
            }
            follow(x.get_type_id(), y.get_type_id(), false)
        }
        (Type::Datasec(x), Type::Datasec(y)) => {
            if x.size() != y.size() || x.variables.len() != y.variables.len() {
                return at(format!("size or variables of section '{left_name}'"));
            }
            for (v, w) in x.variables.iter().zip(&y.variables) {
                if (v.offset(), v.size()) != (w.offset(), w.size()) {
                    return at(format!("{v:?} against {w:?}"));
                }
                follow(v.get_type_id(), w.get_type_id(), false)?;
            }
            Ok(())
        }
        _ => at(format!("{left:?} against {right:?}")),
    }
}

/// What bpfplan may leave of the target of a plain pointer: a forward declaration of the same
/// struct or union.
fn trimmed(a: &Graph, left: &Type, b: &Graph, right: &Type) -> Option<Result<(), String>> {
    let Type::Fwd(fwd) = left else { return None };
    let (union, composite) = match right {
        Type::Struct(composite) => (false, composite),
        Type::Union(composite) => (true, composite),
        _ => return None,
    };
    let (left, right) = (a.name(fwd), b.name(composite));
    Some(if fwd.is_union() == union && left == right {
        Ok(())
    } else {
        Err(format!(
            "forward declaration of '{left}' stands for '{right}'"
        ))
    })
}
