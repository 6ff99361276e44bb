//! The types of a map's keys and values, read from the kernel with libbpf's `btf__*` functions.

use std::collections::{HashMap, VecDeque};
use std::ffi::CStr;

use bpfplan_plan::compare::MapTypes;
use bpfplan_plan::types::{
    Composite, Enum, Enumerator, IntEncoding, Linkage, Member, Param, SecVar,
};
use bpfplan_plan::{Type, TypeId, uapi};
use libbpf_sys::{
    btf, btf_array, btf_enum, btf_enum64, btf_member, btf_param, btf_type, btf_var, btf_var_secinfo,
};

use crate::kernel::Errno;

/// Types that are taken out of a blob; a map whose types need more is not compared by them.
const MOST_TYPES: usize = 1 << 16;
/// Members, enumerators and the like of all these types.
const MOST_PARTS: usize = 1 << 20;

/// Blobs that are kept: those of an object's maps, and of the maps in their slots.
const KEPT: usize = 4;

/// The BTF blobs that were read last. The maps of an object have one together, and to read it for
/// each of them would take time in proportion to the square of their number.
#[derive(Debug, Default)]
pub struct BtfCache(VecDeque<(u32, Blob)>);

impl BtfCache {
    fn get(&mut self, id: u32) -> Result<&Blob, Errno> {
        let index = match self.0.iter().position(|(kept, _)| *kept == id) {
            Some(index) => index,
            None => {
                self.0.truncate(KEPT - 1);
                self.0.push_front((id, Blob::load(id)?));
                0
            }
        };
        self.0.get(index).map(|(_, blob)| blob).ok_or(Errno::ENOENT)
    }
}

/// The types with these ids, and what they are made of. Pointers end at the name of what they
/// point to.
pub(super) fn read(
    blobs: &mut BtfCache,
    btf_id: u32,
    key: u32,
    value: u32,
) -> Result<MapTypes, Errno> {
    let blob = blobs.get(btf_id)?;
    let mut reader = Reader {
        blob,
        numbers: HashMap::new(),
        queue: Vec::new(),
        parts: 0,
    };
    let (key, value) = (reader.number(key, false)?, reader.number(value, false)?);
    let mut types = Vec::new();
    // The queue grows while it is worked off; numbers are given in its order.
    while let Some((id, behind_pointer)) = reader.queue.get(types.len()).copied() {
        types.push(reader.convert(id, behind_pointer)?);
    }
    Ok(MapTypes { types, key, value })
}

/// A BTF blob of the kernel's, checked by libbpf when it was parsed.
#[derive(Debug)]
struct Blob(*mut btf);

impl Blob {
    fn load(id: u32) -> Result<Self, Errno> {
        // SAFETY: the call takes nothing but a number; the answer is null or an object of our own.
        let btf = unsafe { libbpf_sys::btf__load_from_kernel_by_id(id) };
        if btf.is_null() {
            return Err(super::bpf::last_errno());
        }
        Ok(Self(btf))
    }

    fn get(&self, id: u32) -> Result<Raw<'_>, Errno> {
        // SAFETY: the object lives as long as `self`; the answer is null or points into it.
        let raw = unsafe { libbpf_sys::btf__type_by_id(self.0, id) };
        if raw.is_null() {
            return Err(Errno::EINVAL);
        }
        Ok(Raw {
            raw,
            // SAFETY: libbpf has checked that the type lies within its buffer, which is aligned
            // for it and does not change while the object lives.
            head: unsafe { &*raw },
        })
    }

    fn name(&self, offset: u32) -> String {
        // SAFETY: as above; the answer is null or a NUL-terminated string in the object.
        unsafe {
            let name = libbpf_sys::btf__name_by_offset(self.0, offset);
            if name.is_null() {
                return String::new();
            }
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }

    fn optional_name(&self, offset: u32) -> Option<String> {
        Some(self.name(offset)).filter(|name| !name.is_empty())
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        // SAFETY: the object is ours and is not used any more.
        unsafe { libbpf_sys::btf__free(self.0) }
    }
}

/// A type in a [`Blob`].
#[derive(Clone, Copy)]
struct Raw<'b> {
    raw: *const btf_type,
    head: &'b btf_type,
}

impl<'b> Raw<'b> {
    fn kind(self) -> u32 {
        self.head.info >> 24 & 0x1f
    }

    fn count(self) -> usize {
        (self.head.info & 0xffff) as usize
    }

    fn flag(self) -> bool {
        self.head.info >> 31 == 1
    }

    /// `size` or `type`, whichever the kind has.
    fn number(self) -> u32 {
        // SAFETY: both fields of the union are numbers of 32 bits.
        unsafe { self.head.__bindgen_anon_1.size }
    }

    /// What stands behind the head: `count` entries of `T`, as the kind says.
    ///
    /// # Safety
    /// `T` and `count` must be those of the type's kind (`btf_type_size` of libbpf).
    unsafe fn behind<T>(self, count: usize) -> &'b [T] {
        // SAFETY: libbpf has checked that all entries of the type lie within its buffer; they are
        // numbers of 32 bits, and aligned as the head is.
        unsafe { std::slice::from_raw_parts(self.raw.add(1).cast::<T>(), count) }
    }
}

struct Reader<'b> {
    blob: &'b Blob,
    /// New number by id and by whether it stands behind a pointer.
    numbers: HashMap<(u32, bool), TypeId>,
    /// Types by new number.
    queue: Vec<(u32, bool)>,
    parts: usize,
}

impl Reader<'_> {
    /// The new number of a type, which is queued when it is first asked for.
    fn number(&mut self, id: u32, behind_pointer: bool) -> Result<TypeId, Errno> {
        if id == 0 {
            return Ok(TypeId::VOID);
        }
        if let Some(number) = self.numbers.get(&(id, behind_pointer)) {
            return Ok(*number);
        }
        if self.queue.len() >= MOST_TYPES {
            return Err(Errno(libc::E2BIG));
        }
        self.queue.push((id, behind_pointer));
        let number = u32::try_from(self.queue.len()).map_err(|_| Errno(libc::E2BIG))?;
        self.numbers.insert((id, behind_pointer), TypeId(number));
        Ok(TypeId(number))
    }

    fn convert(&mut self, id: u32, behind: bool) -> Result<Type, Errno> {
        let blob = self.blob;
        let raw = blob.get(id)?;
        let name = || blob.name(raw.head.name_off);
        let kind = raw.kind();
        if raw.count() > 0 {
            self.parts = self.parts.saturating_add(raw.count());
            if self.parts > MOST_PARTS {
                return Err(Errno(libc::E2BIG));
            }
        }
        Ok(match kind {
            uapi::BTF_KIND_INT => int(name(), raw),
            uapi::BTF_KIND_FLOAT => Type::Float {
                name: name(),
                size: raw.number(),
            },
            uapi::BTF_KIND_PTR => Type::Ptr {
                to: self.number(raw.number(), true)?,
            },
            uapi::BTF_KIND_ARRAY => {
                // SAFETY: one such entry follows this kind.
                let [array] = (unsafe { raw.behind::<btf_array>(1) }) else {
                    return Err(Errno::EINVAL);
                };
                Type::Array {
                    element: self.number(array.type_, behind)?,
                    index: self.number(array.index_type, true)?,
                    length: array.nelems,
                }
            }
            uapi::BTF_KIND_STRUCT => Type::Struct(self.composite(raw, behind)?),
            uapi::BTF_KIND_UNION => Type::Union(self.composite(raw, behind)?),
            uapi::BTF_KIND_ENUM => Type::Enum(self.enumeration(raw)),
            uapi::BTF_KIND_ENUM64 => Type::Enum64(self.enumeration64(raw)),
            uapi::BTF_KIND_FWD => Type::Fwd {
                name: name(),
                union: raw.flag(),
            },
            uapi::BTF_KIND_TYPEDEF => Type::Typedef {
                name: name(),
                to: self.number(raw.number(), behind)?,
            },
            uapi::BTF_KIND_VOLATILE => Type::Volatile {
                to: self.number(raw.number(), behind)?,
            },
            uapi::BTF_KIND_CONST => Type::Const {
                to: self.number(raw.number(), behind)?,
            },
            uapi::BTF_KIND_RESTRICT => Type::Restrict {
                to: self.number(raw.number(), behind)?,
            },
            uapi::BTF_KIND_TYPE_TAG => Type::TypeTag {
                value: name(),
                to: self.number(raw.number(), behind)?,
                attribute: raw.flag(),
            },
            uapi::BTF_KIND_FUNC_PROTO => self.prototype(raw)?,
            uapi::BTF_KIND_VAR => {
                // SAFETY: one such entry follows this kind.
                let linkage = match unsafe { raw.behind::<btf_var>(1) } {
                    [var] if var.linkage == uapi::BTF_VAR_STATIC => Linkage::Static,
                    [var] if var.linkage == uapi::BTF_VAR_GLOBAL_EXTERN => Linkage::Extern,
                    _ => Linkage::Global,
                };
                Type::Var {
                    name: name(),
                    to: self.number(raw.number(), behind)?,
                    linkage,
                }
            }
            uapi::BTF_KIND_DATASEC => self.section(raw)?,
            // Functions and tags of declarations are no types of values.
            _ => return Err(Errno::EINVAL),
        })
    }

    /// Behind a pointer, only the name counts. A type that is there in full remains one, as
    /// pointees of tagged pointers have to be.
    fn composite(&mut self, raw: Raw<'_>, behind: bool) -> Result<Composite, Errno> {
        let count = if behind { 0 } else { raw.count() };
        let mut members = Vec::with_capacity(count);
        // SAFETY: so many entries, or none, follow structs and unions.
        for member in unsafe { raw.behind::<btf_member>(count) } {
            let (bit_offset, bits) = if raw.flag() {
                (member.offset & 0x00ff_ffff, member.offset >> 24)
            } else {
                (member.offset, 0)
            };
            members.push(Member {
                name: self.blob.optional_name(member.name_off),
                ty: self.number(member.type_, false)?,
                bit_offset,
                bitfield_size: u8::try_from(bits).ok().filter(|bits| *bits > 0),
            });
        }
        Ok(Composite {
            name: self.blob.optional_name(raw.head.name_off),
            size: raw.number(),
            members,
        })
    }

    fn enumeration(&self, raw: Raw<'_>) -> Enum {
        // SAFETY: so many entries follow an enum.
        let variants = unsafe { raw.behind::<btf_enum>(raw.count()) };
        let variants = variants.iter().map(|variant| Enumerator {
            name: self.blob.name(variant.name_off),
            value: if raw.flag() {
                i64::from(variant.val).cast_unsigned()
            } else {
                u64::from(variant.val.cast_unsigned())
            },
        });
        self.list(raw, variants.collect())
    }

    fn enumeration64(&self, raw: Raw<'_>) -> Enum {
        // SAFETY: so many entries follow a 64-bit enum.
        let variants = unsafe { raw.behind::<btf_enum64>(raw.count()) };
        let variants = variants.iter().map(|variant| Enumerator {
            name: self.blob.name(variant.name_off),
            value: u64::from(variant.val_hi32) << 32 | u64::from(variant.val_lo32),
        });
        self.list(raw, variants.collect())
    }

    fn list(&self, raw: Raw<'_>, variants: Vec<Enumerator>) -> Enum {
        Enum {
            name: self.blob.optional_name(raw.head.name_off),
            size: raw.number(),
            signed: raw.flag(),
            variants,
        }
    }

    fn prototype(&mut self, raw: Raw<'_>) -> Result<Type, Errno> {
        let returns = self.number(raw.number(), true)?;
        let mut params = Vec::with_capacity(raw.count());
        // SAFETY: so many entries follow a prototype.
        for param in unsafe { raw.behind::<btf_param>(raw.count()) } {
            params.push(Param {
                name: self.blob.optional_name(param.name_off),
                ty: self.number(param.type_, true)?,
            });
        }
        Ok(Type::FuncProto { returns, params })
    }

    fn section(&mut self, raw: Raw<'_>) -> Result<Type, Errno> {
        let mut vars = Vec::with_capacity(raw.count());
        // SAFETY: so many entries follow a section.
        for place in unsafe { raw.behind::<btf_var_secinfo>(raw.count()) } {
            vars.push(SecVar {
                var: self.number(place.type_, false)?,
                offset: place.offset,
                size: place.size,
            });
        }
        Ok(Type::Datasec {
            name: self.blob.name(raw.head.name_off),
            size: raw.number(),
            vars,
        })
    }
}

fn int(name: String, raw: Raw<'_>) -> Type {
    // SAFETY: one number follows an integer.
    let data = unsafe { raw.behind::<u32>(1) }.first().copied();
    let data = data.unwrap_or_default();
    let encoding = match data >> 24 & 0xf {
        uapi::BTF_INT_SIGNED => IntEncoding::Signed,
        uapi::BTF_INT_CHAR => IntEncoding::Char,
        uapi::BTF_INT_BOOL => IntEncoding::Bool,
        _ => IntEncoding::Unsigned,
    };
    let byte = |shift: u32| u8::try_from(data >> shift & 0xff).unwrap_or_default();
    Type::Int {
        name,
        size: raw.number(),
        bits: byte(0),
        bit_offset: byte(16),
        encoding,
    }
}
