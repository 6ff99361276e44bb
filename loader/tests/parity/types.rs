//! Random types: those that declare numbers, keys, values and slots, or almost.

use bpfplan_plan::types::{Composite, Enum, Enumerator, IntEncoding, Member, Type, TypeId};

use super::declarations::Generator;

/// Numbers that attributes have.
const NUMBERS: [u32; 14] = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    16,
    64,
    4096,
    5000,
    0x8000_0000,
    0x8000_0001,
    u32::MAX,
];

impl Generator<'_> {
    /// A type for a member of that name.
    pub(super) fn member(&mut self, name: &str, inner: bool) -> TypeId {
        if self.rarely(4) {
            return self.value(0);
        }
        match name {
            "key" | "value" => {
                let value = self.value(0);
                let pointer = self.maps.pointer(value);
                self.qualified(pointer, 8)
            }
            "values" => {
                let element = match self.random.below(4) {
                    0 => self.value(0),
                    1 => self.maps.add(Type::FuncProto {
                        returns: TypeId::VOID,
                        params: Vec::new(),
                    }),
                    _ if inner => self.maps.array_struct(),
                    _ => {
                        let members = self.plain();
                        self.structure(&members)
                    }
                };
                self.values(element)
            }
            _ => self.number_like(name),
        }
    }

    /// A number in one of the ways to write it, or almost.
    pub(super) fn number_like(&mut self, name: &str) -> TypeId {
        let number = match name {
            "pinning" if self.careless => self.random.pick(&[0, 1, 1, 2]),
            "pinning" => self.random.pick(&[0, 1]),
            _ => self.random.pick(&NUMBERS),
        };
        if if name == "map_extra" {
            self.rarely(2)
        } else {
            self.slips(12)
        } {
            return self.enumeration();
        }
        if self.slips(12) {
            let array = self.maps.add(Type::Array {
                element: TypeId::VOID,
                index: self.maps.int(),
                length: number,
            });
            let array = self.qualified(array, 2);
            return self.maps.pointer(array);
        }
        let number = self.maps.number(number);
        self.qualified(number, 6)
    }

    pub(super) fn enumeration(&mut self) -> TypeId {
        let wide = self.rarely(2);
        let count = if self.slips(3) {
            self.random.pick(&[0, 2])
        } else {
            1
        };
        let variants = (0..count)
            .map(|index| Enumerator {
                name: format!("unique_{index}"),
                value: match wide {
                    true => self.random.next(),
                    false => u64::from(self.random.pick(&NUMBERS)),
                },
            })
            .collect();
        let list = Enum {
            name: None,
            size: if wide { 8 } else { 4 },
            signed: self.rarely(3),
            variants,
        };
        self.maps.add(match wide {
            true => Type::Enum64(list),
            false => Type::Enum(list),
        })
    }

    /// `__array(values, element)`, or almost.
    pub(super) fn values(&mut self, element: TypeId) -> TypeId {
        let mut pointer = self.qualified(element, 12);
        if !self.slips(20) {
            pointer = self.maps.pointer(pointer);
        }
        let pointer = self.qualified(pointer, 12);
        let length = if self.slips(20) { 4 } else { 0 };
        let array = self.maps.add(Type::Array {
            element: pointer,
            index: self.maps.int(),
            length,
        });
        if self.slips(20) {
            return self.qualified(array, 1);
        }
        array
    }

    /// A type for keys and values, or one that is none.
    pub(super) fn value(&mut self, depth: usize) -> TypeId {
        let int = self.maps.int();
        let below = |this: &mut Self| match depth {
            0..4 => this.value(depth + 1),
            _ => int,
        };
        let ty = match self.random.below(13) {
            0 | 1 => return int,
            2 => {
                let size = self.random.pick(&[1, 2, 8, 16]);
                Type::Int {
                    name: "number".to_owned(),
                    size,
                    bits: u8::try_from(8 * size).unwrap(),
                    bit_offset: 0,
                    encoding: IntEncoding::Unsigned,
                }
            }
            3 | 4 => Type::Ptr { to: below(self) },
            5 => Type::Array {
                element: below(self),
                index: int,
                length: match self.careless {
                    true => self.random.pick(&[0, 1, 4, 0x8000, u32::MAX]),
                    false => self.random.pick(&[1, 4]),
                },
            },
            6 => {
                let mut chain = below(self);
                for _ in 0..self.random.pick(if self.careless {
                    &[30, 31, 32]
                } else {
                    &[1, 2, 3]
                }) {
                    chain = self.maps.add(Type::Const { to: chain });
                }
                return chain;
            }
            7 if self.careless => Type::Fwd {
                name: "unknown".to_owned(),
                union: self.rarely(2),
            },
            8 => Type::Float {
                name: "double".to_owned(),
                size: 8,
            },
            9 => return self.enumeration(),
            10 if self.careless => return TypeId::VOID,
            11 => {
                let union = Composite {
                    name: Some("named".to_owned()).filter(|_| self.rarely(2)),
                    size: 8,
                    members: vec![member("a", below(self), 0), member("b", int, 0)],
                };
                Type::Union(union)
            }
            _ => {
                let members = [("a".to_owned(), below(self)), ("b".to_owned(), int)];
                let id = self.structure(&members);
                if self.rarely(3) {
                    self.maps.add(Type::DeclTag {
                        value: "tag".to_owned(),
                        to: id,
                        component: [None, Some(0), Some(1)][self.random.below(3)],
                        attribute: false,
                    });
                }
                return id;
            }
        };
        let ty = self.maps.add(ty);
        self.qualified(ty, 5)
    }

    /// The type, one time in `n` with modifiers.
    pub(super) fn qualified(&mut self, ty: TypeId, n: usize) -> TypeId {
        if !self.rarely(n) {
            return ty;
        }
        let name = "other".to_owned();
        let outer = match self.random.below(5) {
            0 => Type::Const { to: ty },
            1 => Type::Volatile { to: ty },
            2 => Type::Restrict { to: ty },
            3 => Type::TypeTag {
                value: name,
                to: ty,
                attribute: false,
            },
            _ => Type::Typedef { name, to: ty },
        };
        self.maps.add(outer)
    }
}

pub(super) fn member(name: &str, ty: TypeId, bit_offset: u32) -> Member {
    Member {
        name: Some(name.to_owned()),
        ty,
        bit_offset,
        bitfield_size: None,
    }
}
