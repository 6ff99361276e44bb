//! Makes items of the types that a plan's maps reach.

use std::collections::{HashMap, HashSet};

use bpfplan_plan::c_type::Declarator;
use bpfplan_plan::types::{Composite, Enum, IntEncoding, SecVar};
use bpfplan_plan::{Plan, Type, TypeId};

use super::item::{Accessor, Content, Item, ItemField, Kind, Place, Variant};
use super::layout::{self, Field, Layout, Member};
use super::names::{self, Scope};
use super::ty::{Shape, Ty};

/// Names of `types` that the module itself uses.
const RESERVED: [&str; 4] = ["FromBytes", "Immutable", "IntoBytes", "KnownLayout"];
/// Longest chain of modifiers, as the kernel has it.
const MAX_CHAIN: usize = 32;
/// How deep types are nested at most; a valid plan stays below.
const MAX_DEPTH: usize = 160;
/// Longest declaration of C in a comment.
const MAX_DECLARATION: usize = 160;
/// All declarations of C together. Longer names than any compiler makes could have them grow with
/// the square of a plan's size.
const MAX_DECLARATIONS: usize = 8 << 20;

/// Items so far.
#[derive(Debug)]
pub(super) struct Items<'p> {
    plan: &'p Plan,
    declarator: Declarator<'p>,
    /// Bytes that declarations may still have.
    left: usize,
    items: Vec<Item>,
    shapes: HashMap<TypeId, Option<Shape>>,
    scope: Scope,
    /// Items by the name that they would like to have, and what they are.
    known: HashMap<(String, Content), usize>,
}

impl<'p> Items<'p> {
    /// None yet, for the types of `plan`.
    pub(super) fn new(plan: &'p Plan) -> Self {
        let mut scope = Scope::default();
        for name in RESERVED {
            scope.take(name.to_owned());
        }
        Self {
            plan,
            declarator: Declarator::new(plan, 0),
            left: MAX_DECLARATIONS,
            items: Vec::new(),
            shapes: HashMap::new(),
            scope,
            known: HashMap::new(),
        }
    }

    /// All items, in the order in which they were needed.
    pub(super) fn finish(self) -> Vec<Item> {
        self.items
    }

    /// The type of keys or values of `size` bytes; bytes if it is not known or has another size.
    pub(super) fn sized(&mut self, ty: Option<TypeId>, size: u32, hint: &str) -> Shape {
        ty.and_then(|ty| self.shape(ty, hint, 0))
            .filter(|shape| shape.size == size)
            .unwrap_or_else(|| Shape::bytes(size))
    }

    /// The struct of a section of `size` bytes, and of bytes up to its alignment behind them, so
    /// that its variables can be referred to.
    pub(super) fn section(&mut self, name: &str, doc: &str, vars: &[SecVar], size: u32) -> Shape {
        let mut members = Vec::new();
        for place in vars {
            let Some(Type::Var { name, to, .. }) = self.plan.type_by_id(place.var) else {
                continue;
            };
            let shape = self.shape(*to, name, 0);
            // A flexible array makes a variable larger than its type.
            let shape = shape.filter(|shape| shape.size <= place.size);
            members.push(Member {
                name: Some(name.clone()),
                c_type: *to,
                shape: shape.unwrap_or_else(|| Shape::bytes(place.size)),
                bit_offset: u64::from(place.offset).saturating_mul(8),
                bits: None,
            });
        }
        let align = members.iter().map(|member| member.shape.align).max();
        let padded = size.checked_next_multiple_of(align.unwrap_or(1));
        let padded = padded.unwrap_or(size);
        let mut doc = sized(doc, size);
        if padded > size {
            doc = format!("{doc} Bytes behind it align it.");
        }
        let size = padded;
        let content = self.composite(doc, &members, size, false);
        self.add(names::type_identifier(name), content)
    }

    /// The type of Rust for a type of C, `None` if it has none. `hint` names what has no name.
    fn shape(&mut self, id: TypeId, hint: &str, depth: usize) -> Option<Shape> {
        let (id, hint) = self.resolve(id, hint)?;
        if let Some(shape) = self.shapes.get(&id) {
            return shape.clone();
        }
        if depth >= MAX_DEPTH {
            return None;
        }
        let plan = self.plan;
        let shape = match plan.type_by_id(id)? {
            Type::Int {
                name,
                size,
                bits,
                bit_offset,
                encoding,
            } => Some(integer(name, *size, *bits, *bit_offset, *encoding)),
            Type::Float { size, .. } => Some(match size {
                4 => Shape::primitive("f32", 4),
                8 => Shape::primitive("f64", 8),
                _ => Shape::bytes(*size),
            }),
            Type::Ptr { .. } => Some(Shape {
                ty: Ty::Support("Ptr"),
                size: 8,
                align: 8,
                eq: true,
            }),
            Type::Array {
                element, length, ..
            } => {
                let element = self.shape(*element, &hint, depth + 1)?;
                let size = element.size.checked_mul(*length)?;
                Some(element.array(*length, size))
            }
            Type::Enum(list) | Type::Enum64(list) => self.enumeration(list, &hint),
            Type::Struct(body) => Some(self.body(body, "struct", &hint, depth)),
            Type::Union(body) => Some(self.body(body, "union", &hint, depth)),
            _ => None,
        };
        self.shapes.insert(id, shape.clone());
        shape
    }

    /// The type behind typedefs and qualifiers; the last typedef names what has no name.
    fn resolve(&self, mut id: TypeId, hint: &str) -> Option<(TypeId, String)> {
        let mut hint = hint;
        for _ in 0..MAX_CHAIN {
            id = match self.plan.type_by_id(id)? {
                Type::Typedef { name, to } => {
                    hint = name;
                    *to
                }
                Type::Volatile { to }
                | Type::Const { to }
                | Type::Restrict { to }
                | Type::TypeTag { to, .. }
                | Type::Var { to, .. } => *to,
                _ => return Some((id, hint.to_owned())),
            };
        }
        None
    }

    fn body(&mut self, body: &Composite, keyword: &str, hint: &str, depth: usize) -> Shape {
        let name = body.name.as_deref().unwrap_or(hint);
        let name = names::type_identifier(name);
        let c_name = match &body.name {
            Some(tag) => cut(&format!("{keyword} {}", bpfplan_plan::plain(tag))),
            None => format!("{keyword} {{…}}"),
        };
        let doc = sized(&c_name, body.size);
        let mut members = Vec::new();
        let mut whole = true;
        for (index, member) in body.members.iter().enumerate() {
            let hint = match &member.name {
                Some(member) => format!("{name}__{}", names::plain(member)),
                None => format!("{name}__anon_{index}"),
            };
            match self.shape(member.ty, &hint, depth + 1) {
                Some(shape) => members.push(Member {
                    name: member.name.clone(),
                    c_type: member.ty,
                    shape,
                    bit_offset: member.bit_offset.into(),
                    bits: member.bitfield_size.map(u32::from),
                }),
                None => whole = false,
            }
        }
        let union = keyword == "union" || !whole;
        let content = self.composite(doc, &members, body.size, union);
        self.add(name, content)
    }

    /// A struct with fields, or one of bytes if it is a union or cannot have fields.
    fn composite(&mut self, doc: String, members: &[Member], size: u32, union: bool) -> Content {
        let layout = if union {
            None
        } else {
            layout::lay_out(members, size)
        };
        let eq = layout.is_none() || members.iter().all(|member| member.shape.eq);
        let (align, kind) = match layout {
            Some(layout) => (layout.align, self.fields(members, layout)),
            None => (1, self.union(members, size)),
        };
        Content {
            doc,
            size,
            align,
            eq,
            kind,
        }
    }

    fn fields(&mut self, members: &[Member], layout: Layout) -> Kind {
        let mut scope = Scope::default();
        let mut functions = Scope::default();
        let mut fields = Vec::new();
        let mut accessors = Vec::new();
        let (mut paddings, mut bits) = (0_u32, 0_u32);
        // Members have their names first, then what is between them.
        let member_names: Vec<String> = members
            .iter()
            .enumerate()
            .map(|(index, member)| {
                let name = match &member.name {
                    Some(name) => names::identifier(name),
                    None => format!("anon_{index}"),
                };
                if member.bits.is_some() {
                    name
                } else {
                    scope.take(name)
                }
            })
            .collect();
        for field in layout.fields {
            match field {
                Field::Member { index, offset } => {
                    let Some((member, name)) = members.get(index).zip(member_names.get(index))
                    else {
                        continue;
                    };
                    fields.push(ItemField {
                        name: name.clone(),
                        ty: member.shape.ty.clone(),
                        offset,
                        doc: Some(self.declaration(member)),
                    });
                }
                Field::Padding { offset, size } => {
                    fields.push(bytes_field(&mut scope, "_pad", &mut paddings, offset, size));
                }
                Field::Bits {
                    members: inside,
                    offset,
                    size,
                } => {
                    let field = bytes_field(&mut scope, "_bits", &mut bits, offset, size);
                    for index in inside {
                        let member = members.get(index);
                        let made = member.and_then(|member| {
                            self.bits(member, &field.name, offset, &mut functions)
                        });
                        accessors.extend(made);
                    }
                    fields.push(field);
                }
            }
        }
        Kind::Composite {
            packed: layout.packed,
            fields,
            accessors,
        }
    }

    /// A struct of bytes, with two functions for each member within them.
    fn union(&mut self, members: &[Member], size: u32) -> Kind {
        let mut functions = Scope::default();
        let mut accessors = Vec::new();
        let field = ItemField {
            name: "bytes".to_owned(),
            ty: Shape::bytes(size).ty,
            offset: 0,
            doc: Some("All of it.".to_owned()),
        };
        for (index, member) in members.iter().enumerate() {
            if member.bits.is_some() {
                accessors.extend(self.bits(member, "bytes", 0, &mut functions));
                continue;
            }
            let offset = member.bit_offset / 8;
            let end = offset.checked_add(u64::from(member.shape.size));
            let inside = end.is_some_and(|end| end <= u64::from(size));
            if !member.bit_offset.is_multiple_of(8) || !inside {
                continue;
            }
            let name = match &member.name {
                Some(name) => name.clone(),
                None => format!("anon_{index}"),
            };
            let (getter, setter) = functions_of(&mut functions, &name);
            accessors.push(Accessor {
                getter,
                setter,
                field: "bytes".to_owned(),
                ty: member.shape.ty.clone(),
                place: Place::Bytes { offset },
                doc: self.declaration(member),
            });
        }
        Kind::Composite {
            packed: None,
            fields: vec![field],
            accessors,
        }
    }

    /// The functions of a bitfield in the bytes `field`, which begin at byte `start`.
    fn bits(
        &mut self,
        member: &Member,
        field: &str,
        start: u64,
        functions: &mut Scope,
    ) -> Option<Accessor> {
        let number = match &member.shape.ty {
            Ty::Primitive("f32" | "f64") | Ty::Array(..) => return None,
            Ty::Item(index) => match &self.items.get(*index)?.content.kind {
                Kind::Enum { number, .. } => Some(*number),
                Kind::Composite { .. } => return None,
            },
            Ty::Support("Ptr") => return None,
            Ty::Primitive(_) | Ty::Support(_) => None,
        };
        let width = member.bits?;
        let (getter, setter) = functions_of(functions, member.name.as_deref()?);
        Some(Accessor {
            getter,
            setter,
            field: field.to_owned(),
            ty: member.shape.ty.clone(),
            place: Place::Bits {
                offset: member.bit_offset.checked_sub(start.checked_mul(8)?)?,
                width,
                number,
            },
            doc: self.declaration(member),
        })
    }

    fn enumeration(&mut self, list: &Enum, hint: &str) -> Option<Shape> {
        let shape = if list.signed {
            Shape::signed(list.size)
        } else {
            Shape::unsigned(list.size)
        };
        let shape = shape.filter(|shape| shape.size <= 8)?;
        let Ty::Primitive(number) = shape.ty else {
            return None;
        };
        let mut scope = Scope::default();
        let mut seen = HashSet::new();
        let variants = list.variants.iter().map(|variant| {
            let value = literal(variant.value, list.size, list.signed);
            Variant {
                name: scope.take(names::identifier(&variant.name)),
                first: seen.insert(value.clone()),
                value,
            }
        });
        let c_name = match &list.name {
            Some(tag) => cut(&format!("enum {}", bpfplan_plan::plain(tag))),
            None => "enum {…}".to_owned(),
        };
        let content = Content {
            doc: sized(&c_name, shape.size),
            size: shape.size,
            align: shape.align,
            eq: true,
            kind: Kind::Enum {
                number,
                variants: variants.collect(),
            },
        };
        let name = names::type_identifier(list.name.as_deref().unwrap_or(hint));
        Some(self.add(name, content))
    }

    /// The item of that content: one that is there already, or a new one.
    fn add(&mut self, name: String, content: Content) -> Shape {
        let (size, align, eq) = (content.size, content.align, content.eq);
        let key = (name, content);
        let index = match self.known.get(&key) {
            Some(index) => *index,
            None => {
                let index = self.items.len();
                self.items.push(Item {
                    name: self.scope.take(key.0.clone()),
                    content: key.1.clone(),
                });
                self.known.insert(key, index);
                index
            }
        };
        Shape {
            ty: Ty::Item(index),
            size,
            align,
            eq,
        }
    }

    /// A member as C declares it, for a comment.
    fn declaration(&mut self, member: &Member) -> String {
        if self.left == 0 {
            return "`…`".to_owned();
        }
        self.declarator.fuel = 64;
        let name = bpfplan_plan::plain(member.name.as_deref().unwrap_or_default()).into_owned();
        let name = match member.bits {
            Some(bits) => format!("{name} : {bits}"),
            None => name,
        };
        let text = self.declarator.declare(member.c_type, name, 0);
        self.left = self.left.saturating_sub(text.len());
        format!("`{}`", cut(&text))
    }
}

/// An integer of C. `char` is text, so it is a byte whatever its sign.
fn integer(name: &str, size: u32, bits: u8, bit_offset: u8, encoding: IntEncoding) -> Shape {
    if u32::from(bits) != size.saturating_mul(8) || bit_offset != 0 {
        // `_Bool` has 8 bits here, but some compilers say 1.
        if encoding == IntEncoding::Bool && size == 1 && bit_offset == 0 {
            return boolean();
        }
        return Shape::bytes(size);
    }
    let shape = match encoding {
        IntEncoding::Bool if size == 1 => Some(boolean()),
        IntEncoding::Signed if name != "char" => Shape::signed(size),
        _ => Shape::unsigned(size),
    };
    shape.unwrap_or_else(|| Shape::bytes(size))
}

fn boolean() -> Shape {
    Shape {
        ty: Ty::Support("Bool"),
        size: 1,
        align: 1,
        eq: true,
    }
}

fn bytes_field(
    scope: &mut Scope,
    stem: &str,
    count: &mut u32,
    offset: u64,
    size: u64,
) -> ItemField {
    let name = scope.take(format!("{stem}{count}"));
    *count += 1;
    ItemField {
        name,
        ty: Shape::bytes(u32::try_from(size).unwrap_or(u32::MAX)).ty,
        offset,
        doc: None,
    }
}

/// The names of the functions that read and write a member.
fn functions_of(scope: &mut Scope, name: &str) -> (String, String) {
    let getter = scope.take(names::identifier(name));
    let setter = scope.take(format!("set_{}", names::plain(name)));
    (getter, setter)
}

/// The value of an enumerator as a literal of its integer.
fn literal(value: u64, size: u32, signed: bool) -> String {
    let unused = 64_u32.saturating_sub(size.saturating_mul(8)).min(63);
    if signed {
        ((value.cast_signed() << unused) >> unused).to_string()
    } else {
        ((value << unused) >> unused).to_string()
    }
}

/// What a type is, and how large.
fn sized(c_name: &str, size: u32) -> String {
    let plural = if size == 1 { "" } else { "s" };
    format!("`{c_name}`, {size} byte{plural}.")
}

/// Text for a comment: not too long, and no end of code in it.
fn cut(text: &str) -> String {
    let text = text.replace('`', "'");
    match text.char_indices().nth(MAX_DECLARATION) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
