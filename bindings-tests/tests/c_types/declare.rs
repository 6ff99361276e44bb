//! Declarations of C at random, with initial values.

use std::collections::HashSet;
use std::fmt::Write as _;

/// Numbers of C and what they are in Rust.
const NUMBERS: [(&str, &str, u32, bool); 16] = [
    ("char", "u8", 8, false),
    ("signed char", "i8", 8, true),
    ("unsigned char", "u8", 8, false),
    ("short", "i16", 16, true),
    ("unsigned short", "u16", 16, false),
    ("int", "i32", 32, true),
    ("unsigned int", "u32", 32, false),
    ("const volatile int", "i32", 32, true),
    ("long", "i64", 64, true),
    ("unsigned long", "u64", 64, false),
    ("long long", "i64", 64, true),
    ("unsigned long long", "u64", 64, false),
    ("word", "u32", 32, false),
    ("chain", "u64", 64, false),
    ("__int128", "i128", 128, true),
    ("unsigned __int128", "u128", 128, false),
];

/// Names that Rust does not take as they are, with what they become.
const HARD: [(&str, &str); 19] = [
    ("type", "r#type"),
    ("match", "r#match"),
    ("self", "self_"),
    ("Self", "Self_"),
    ("super", "super_"),
    ("crate", "crate_"),
    ("_", "__"),
    ("fn", "r#fn"),
    ("gen", "r#gen"),
    ("u8", "u8"),
    ("bytes", "bytes"),
    ("clone", "clone"),
    ("eq", "eq"),
    ("fmt", "fmt"),
    ("hash", "hash"),
    ("drop", "drop"),
    ("read", "read"),
    ("new_zeroed", "new_zeroed"),
    ("as_bytes", "as_bytes"),
];

/// Numbers at random, the same ones every time.
pub(crate) struct Random(u64);

impl Random {
    /// The next one, below `end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.bits() >> 32).unwrap() % end
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    /// SplitMix64.
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of so many bits.
    fn number(&mut self, bits: u32, signed: bool) -> i128 {
        let all = (u128::from(self.bits()) << 64) | u128::from(self.bits());
        let unused = 128 - bits;
        if signed {
            (all << unused).cast_signed() >> unused
        } else {
            // Numbers of 128 bits are kept as if they were signed.
            ((all << unused) >> unused).cast_signed()
        }
    }
}

/// A type of C.
#[derive(Debug, Clone)]
pub(crate) enum Ty {
    /// An index of `NUMBERS`.
    Number(usize),
    Bool,
    Float(&'static str),
    Pointer,
    Function,
    /// An enum by its name, and values that it can hold.
    Enum(String, Vec<i128>),
    Array(Box<Ty>, u32),
    Body(Body),
}

/// A struct or a union.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    /// Its tag, if it is defined elsewhere.
    pub(crate) tag: Option<String>,
    pub(crate) union: bool,
    pub(crate) attributes: String,
    pub(crate) members: Vec<Member>,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Name in C and in Rust; `None` if anonymous.
    pub(crate) name: Option<(String, String)>,
    pub(crate) ty: Ty,
    pub(crate) bits: Option<u32>,
    attributes: String,
    /// A bitfield without a name stands before it.
    gap: Option<u32>,
}

/// An initial value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Number(i128),
    Quarters(i32),
    Elements(Vec<Value>),
    /// Members by their indices.
    Members(Vec<(usize, Value)>),
}

/// What declarations have been made, in C.
pub(crate) struct Declarations {
    random: Random,
    pub(crate) text: String,
    enums: Vec<Ty>,
    bodies: Vec<Body>,
    count: u32,
    /// Names of `HARD` that members of the present type have.
    used: HashSet<&'static str>,
}

impl Declarations {
    pub(crate) fn new(seed: u64) -> Self {
        let mut this = Self {
            random: Random(seed),
            text: "typedef unsigned int word_1;\ntypedef const word_1 word_2;\n\
                   typedef volatile word_2 word;\ntypedef const unsigned long chain;\n\
                   struct unknown;\n"
                .to_owned(),
            enums: Vec::new(),
            bodies: Vec::new(),
            count: 0,
            used: HashSet::new(),
        };
        for index in 0..6 {
            this.enumeration(index);
        }
        this
    }

    fn enumeration(&mut self, index: u32) {
        let packed = self.random.one_in(4);
        let values: Vec<i128> = match (packed, self.random.below(4)) {
            (true, _) => vec![0, 1, 1, 100],
            (_, 0) => vec![-7, 0, 5, 5],
            (_, 1) => vec![0, 1, 0xffff_ffff],
            (_, 2) => vec![-1, 1, i128::from(i64::MAX)],
            _ => vec![0, i128::from(u64::MAX)],
        };
        let attribute = if packed {
            " __attribute__((packed))"
        } else {
            ""
        };
        let mut names = Vec::new();
        for (number, value) in values.iter().enumerate() {
            let name = match number {
                0 => {
                    HARD[usize::try_from(index).unwrap() * 3 % HARD.len()]
                        .0
                        .to_owned()
                        + "_E"
                }
                _ => format!("E{index}_{number}"),
            };
            let literal = if *value < 0 {
                format!("{value}L")
            } else {
                format!("{value}UL")
            };
            let literal = if *value > i128::from(i64::MAX) || *value < 0 {
                literal
            } else {
                value.to_string()
            };
            names.push(format!("{name} = {literal}"));
        }
        let name = format!("e{index}");
        writeln!(
            self.text,
            "enum {name} {{ {} }}{attribute};",
            names.join(", ")
        )
        .unwrap();
        let mut known = values;
        // One without a name.
        known.push(77);
        self.enums.push(Ty::Enum(name, known));
    }

    /// Declares a struct or a union, and gives it.
    pub(crate) fn declare(&mut self) -> Body {
        self.used.clear();
        let mut body = self.body(0);
        let tag = format!("s{}", self.bodies.len());
        body.tag = Some(tag.clone());
        writeln!(self.text, "{};", body.define(&tag)).unwrap();
        self.bodies.push(body.clone());
        body
    }

    fn body(&mut self, depth: u32) -> Body {
        let union = self.random.one_in(4);
        let count = 1 + self.random.below(6);
        let packed = self.random.one_in(4);
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(self.member(depth, union));
        }
        if depth == 0 && !union && self.random.one_in(6) {
            let ty = Ty::Array(Box::new(self.scalar()), 0);
            let name = self.name();
            members.push(Member {
                name: Some(name),
                ty,
                bits: None,
                attributes: String::new(),
                gap: None,
            });
        }
        let mut attributes = String::new();
        if packed {
            attributes.push_str(" __attribute__((packed))");
        }
        if self.random.one_in(5) {
            let align = 1 << self.random.below(7);
            write!(attributes, " __attribute__((aligned({align})))").unwrap();
        }
        Body {
            tag: None,
            union,
            attributes,
            members,
        }
    }

    fn name(&mut self) -> (String, String) {
        self.count += 1;
        let hard = HARD[usize::try_from(self.random.below(19)).unwrap()];
        if self.random.one_in(3) && self.used.insert(hard.0) {
            return (hard.0.to_owned(), hard.1.to_owned());
        }
        let name = format!("m{}", self.count);
        (name.clone(), name)
    }

    fn member(&mut self, depth: u32, union: bool) -> Member {
        let gap = (!union && self.random.one_in(10)).then(|| self.random.below(9));
        if self.random.one_in(3) {
            let ty = match self.random.below(8) {
                0 => Ty::Bool,
                1 => self.enums[usize::try_from(self.random.below(6)).unwrap()].clone(),
                _ => Ty::Number(usize::try_from(self.random.below(16)).unwrap()),
            };
            let width = match &ty {
                Ty::Number(index) => 1 + self.random.below(NUMBERS[*index].2),
                Ty::Enum(..) => 8,
                _ => 1,
            };
            let name = Some(self.name());
            return Member {
                name,
                ty,
                bits: Some(width),
                attributes: String::new(),
                gap,
            };
        }
        let mut ty = match self.random.below(6) {
            0 if depth < 3 => Ty::Body(self.body(depth + 1)),
            1 if !self.bodies.is_empty() => {
                let end = u32::try_from(self.bodies.len()).unwrap();
                let body = &self.bodies[usize::try_from(self.random.below(end)).unwrap()];
                if body.is_flexible() {
                    self.scalar()
                } else {
                    Ty::Body(body.clone())
                }
            }
            _ => self.scalar(),
        };
        let anonymous = matches!(&ty, Ty::Body(Body { tag: None, .. })) && self.random.one_in(2);
        while !anonymous && self.random.one_in(5) {
            ty = Ty::Array(Box::new(ty), 1 + self.random.below(3));
        }
        let attributes = match self.random.below(12) {
            0 => " __attribute__((packed))".to_owned(),
            1 => format!(" __attribute__((aligned({})))", 1 << self.random.below(6)),
            _ => String::new(),
        };
        let name = (!anonymous).then(|| self.name());
        Member {
            name,
            ty,
            bits: None,
            attributes,
            gap,
        }
    }

    fn scalar(&mut self) -> Ty {
        match self.random.below(20) {
            0 => Ty::Bool,
            1 => Ty::Float("float"),
            2 => Ty::Float("double"),
            3 => Ty::Pointer,
            4 => Ty::Function,
            5 | 6 => self.enums[usize::try_from(self.random.below(6)).unwrap()].clone(),
            _ => Ty::Number(usize::try_from(self.random.below(16)).unwrap()),
        }
    }

    /// An initial value of a type, or of a bitfield.
    pub(crate) fn value(&mut self, ty: &Ty, bits: Option<u32>) -> Value {
        match ty {
            Ty::Number(index) => {
                let (_, _, all, signed) = NUMBERS[*index];
                Value::Number(self.random.number(bits.unwrap_or(all), signed))
            }
            Ty::Bool => Value::Number(self.random.below(2).into()),
            Ty::Float(_) => Value::Quarters(self.random.below(1000).cast_signed() - 500),
            Ty::Pointer | Ty::Function => Value::Number(self.random.number(48, false)),
            Ty::Enum(_, values) => match bits {
                Some(_) => Value::Number(self.random.below(2).into()),
                None => {
                    let end = u32::try_from(values.len()).unwrap();
                    Value::Number(values[usize::try_from(self.random.below(end)).unwrap()])
                }
            },
            Ty::Array(element, length) => {
                Value::Elements((0..*length).map(|_| self.value(element, None)).collect())
            }
            Ty::Body(body) => self.members(body),
        }
    }

    pub(crate) fn members(&mut self, body: &Body) -> Value {
        let count = body.members.len();
        let indices = if body.union {
            let one = usize::try_from(self.random.below(u32::try_from(count).unwrap())).unwrap();
            one..one + 1
        } else {
            0..count
        };
        let values = indices.map(|index| {
            let member = &body.members[index];
            (index, self.value(&member.ty, member.bits))
        });
        Value::Members(values.collect())
    }
}

impl Body {
    fn is_flexible(&self) -> bool {
        self.members
            .iter()
            .any(|member| matches!(member.ty, Ty::Array(_, 0)))
    }

    fn define(&self, tag: &str) -> String {
        let keyword = if self.union { "union" } else { "struct" };
        let members: Vec<String> = self.members.iter().map(Member::define).collect();
        format!(
            "{keyword} {tag} {{ {} }}{}",
            members.join(" "),
            self.attributes
        )
    }

    /// How C calls it.
    pub(crate) fn c_name(&self) -> String {
        let keyword = if self.union { "union" } else { "struct" };
        match &self.tag {
            Some(tag) => format!("{keyword} {tag}"),
            None => self.define(""),
        }
    }
}

impl Member {
    fn define(&self) -> String {
        let gap = self
            .gap
            .map(|bits| format!("int : {bits}; "))
            .unwrap_or_default();
        let name = self.name.as_ref().map_or("", |(name, _)| name);
        let bits = self
            .bits
            .map(|bits| format!(" : {bits}"))
            .unwrap_or_default();
        format!(
            "{gap}{}{bits}{};",
            declarator(&self.ty, name),
            self.attributes
        )
    }
}

fn declarator(ty: &Ty, name: &str) -> String {
    match ty {
        Ty::Number(index) => format!("{} {name}", NUMBERS[*index].0),
        Ty::Bool => format!("_Bool {name}"),
        Ty::Float(c) => format!("{c} {name}"),
        Ty::Pointer => format!("const struct unknown *{name}"),
        Ty::Function => format!("int (*{name})(void *, int)"),
        Ty::Enum(tag, _) => format!("enum {tag} {name}"),
        Ty::Array(element, 0) => declarator(element, &format!("{name}[]")),
        Ty::Array(element, length) => declarator(element, &format!("{name}[{length}]")),
        Ty::Body(body) => format!("{} {name}", body.c_name()),
    }
}

/// What a number of C is in Rust.
pub(crate) fn rust_number(index: usize) -> &'static str {
    NUMBERS[index].1
}
