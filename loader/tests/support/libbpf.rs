//! The real libbpf, as far as the tests ask it.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr::{null, null_mut};

use super::release;
use bpfplan_plan::{Map as PlannedMap, MaxEntries, Pinning, Template, WithPrograms};
use libbpf_sys as sys;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// Name of objects that are no files: maps of global data are called after it.
const NAME: &CStr = c"random";

/// An object that libbpf has opened. Maps live as long as this does.
pub struct Object(*mut sys::bpf_object);

/// What libbpf's getters say of a map before it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub name: String,
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
    pub map_extra: u64,
    pub numa_node: u32,
    pub pinned_by_name: bool,
    pub has_key_type: bool,
    pub has_value_type: bool,
    /// Whether a load creates it.
    pub created: bool,
    pub inner: Option<Box<Declared>>,
}

impl Object {
    /// Opens an object file.
    ///
    /// # Errors
    /// The errno, positive.
    pub fn open(path: &Path) -> Result<Self, i32> {
        let path = CString::new(path.to_str().expect("UTF-8 path")).expect("no NUL");
        // SAFETY: path is NUL-terminated, no options are passed; libbpf's log is switched off.
        let object = unsafe {
            sys::libbpf_set_print(None);
            sys::bpf_object__open_file(path.as_ptr(), null())
        };
        if object.is_null() {
            return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
        }
        Ok(Self(object))
    }

    /// Opens an object file with values for its `.kconfig`.
    ///
    /// # Errors
    /// The errno, positive.
    pub fn open_with_kconfig(path: &Path, kconfig: &CStr) -> Result<Self, i32> {
        let path = CString::new(path.to_str().expect("UTF-8 path")).expect("no NUL");
        let options = sys::bpf_object_open_opts {
            sz: size_of::<sys::bpf_object_open_opts>() as _,
            kconfig: kconfig.as_ptr(),
            ..Default::default()
        };
        // SAFETY: both strings are NUL-terminated, and libbpf copies what it keeps of them.
        let object = unsafe {
            sys::libbpf_set_print(None);
            sys::bpf_object__open_file(path.as_ptr(), &raw const options)
        };
        if object.is_null() {
            return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
        }
        Ok(Self(object))
    }

    /// Opens the bytes of an object as those of a file `random.bpf.o`. libbpf's log goes where it went before.
    ///
    /// # Errors
    /// The errno, positive.
    pub fn open_bytes(bytes: &[u8]) -> Result<Self, i32> {
        let options = sys::bpf_object_open_opts {
            sz: size_of::<sys::bpf_object_open_opts>() as _,
            object_name: NAME.as_ptr(),
            ..Default::default()
        };
        // SAFETY: libbpf copies what it keeps of the bytes and of the options.
        let object = unsafe {
            sys::bpf_object__open_mem(bytes.as_ptr().cast(), bytes.len() as _, &raw const options)
        };
        if object.is_null() {
            return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
        }
        Ok(Self(object))
    }

    /// The maps that come from `.maps`, in libbpf's order.
    pub fn maps(&self) -> Vec<Map<'_>> {
        let mut maps = Vec::new();
        let mut map = null_mut();
        loop {
            // SAFETY: the object is open and `map` is null or one of its maps.
            map = unsafe { sys::bpf_object__next_map(self.0, map) };
            if map.is_null() {
                return maps;
            }
            maps.push(Map { map, _object: self });
        }
    }

    /// The map that libbpf finds by a name.
    pub fn map(&self, name: &str) -> Map<'_> {
        let name = CString::new(name).expect("no NUL");
        // SAFETY: the object is open, the name NUL-terminated.
        let map = unsafe { sys::bpf_object__find_map_by_name(self.0, name.as_ptr()) };
        assert!(!map.is_null(), "no map {name:?}");
        Map { map, _object: self }
    }

    /// Leaves all programs out of the load.
    pub fn without_programs(&self) {
        self.each_program(|program| {
            // SAFETY: the program belongs to the open object.
            assert_eq!(0, unsafe { sys::bpf_program__set_autoload(program, false) });
        });
    }

    pub fn programs(&self) -> usize {
        let mut count = 0;
        self.each_program(|_| count += 1);
        count
    }

    /// Names and descriptors of the programs that are loaded, in libbpf's order.
    pub fn loaded_programs(&self) -> Vec<(String, i32)> {
        let mut found = Vec::new();
        self.each_program(|program| {
            // SAFETY: the program belongs to the open object, and so does its name.
            let (name, fd) = unsafe {
                let name = CStr::from_ptr(sys::bpf_program__name(program));
                (
                    name.to_string_lossy().into_owned(),
                    sys::bpf_program__fd(program),
                )
            };
            if fd >= 0 {
                found.push((name, fd));
            }
        });
        found
    }

    fn each_program(&self, mut with: impl FnMut(*mut sys::bpf_program)) {
        let mut program = null_mut();
        loop {
            // SAFETY: the object is open and `program` is null or one of its programs.
            program = unsafe { sys::bpf_object__next_program(self.0, program) };
            if program.is_null() {
                return;
            }
            with(program);
        }
    }

    /// Loads the object.
    ///
    /// # Errors
    /// The errno, positive.
    pub fn load(&self) -> Result<(), i32> {
        // SAFETY: the object is open.
        match unsafe { sys::bpf_object__load(self.0) } {
            0 => Ok(()),
            error => Err(-error),
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the object was opened by us and is closed once.
        unsafe { sys::bpf_object__close(self.0) }
    }
}

/// Why a kernel older than the fixtures refuses an object's programs, with libbpf's own maps as well.
pub fn refused_by_this_kernel(object: &Path) -> Option<String> {
    let running = release::running();
    if running >= release::MEASURED {
        return None;
    }
    let errno = Object::open(object).ok()?.load().err()?;
    Some(format!(
        "Linux {running} refuses the programs with libbpf's own maps as well (errno {errno})"
    ))
}

/// A map of an open object.
pub struct Map<'a> {
    map: *mut sys::bpf_map,
    _object: &'a Object,
}

impl Map<'_> {
    pub fn name(&self) -> String {
        // SAFETY: libbpf's name is NUL-terminated and lives as long as the object.
        unsafe { CStr::from_ptr(sys::bpf_map__name(self.map)) }
            .to_string_lossy()
            .into_owned()
    }

    pub fn is_internal(&self) -> bool {
        // SAFETY: the map belongs to an open object.
        unsafe { sys::bpf_map__is_internal(self.map) }
    }

    /// Whether a load creates it.
    pub fn is_created(&self) -> bool {
        // SAFETY: the map belongs to an open object.
        unsafe { sys::bpf_map__autocreate(self.map) }
    }

    pub fn fd(&self) -> i32 {
        // SAFETY: the map belongs to an open object.
        unsafe { sys::bpf_map__fd(self.map) }
    }

    pub fn map_type(&self) -> u32 {
        // SAFETY: the map belongs to an open object.
        unsafe { sys::bpf_map__type(self.map) }
    }

    /// Takes the pin path away, so that a load pins nothing.
    pub fn clear_pin_path(&self) {
        // SAFETY: a null path clears.
        assert_eq!(0, unsafe { sys::bpf_map__set_pin_path(self.map, null()) });
    }

    pub fn set_max_entries(&self, count: u32) {
        // SAFETY: the map belongs to an open object, as in the other setters.
        assert_eq!(0, unsafe { sys::bpf_map__set_max_entries(self.map, count) });
    }

    pub fn set_map_flags(&self, flags: u32) {
        // SAFETY: as above.
        assert_eq!(0, unsafe { sys::bpf_map__set_map_flags(self.map, flags) });
    }

    pub fn set_numa_node(&self, node: u32) {
        // SAFETY: as above.
        assert_eq!(0, unsafe { sys::bpf_map__set_numa_node(self.map, node) });
    }

    pub fn set_value_size(&self, size: u32) {
        assert!(self.takes_value_size(size), "value size of {}", self.name());
    }

    /// Sets the size of values, if libbpf takes it.
    pub fn takes_value_size(&self, size: u32) -> bool {
        // SAFETY: as above.
        unsafe { sys::bpf_map__set_value_size(self.map, size) == 0 }
    }

    /// Leaves the map out of the load.
    pub fn skip(&self) {
        // SAFETY: as above.
        assert_eq!(0, unsafe { sys::bpf_map__set_autocreate(self.map, false) });
    }

    /// Writes into the initial contents of a map of global data.
    pub fn set_bytes(&self, offset: usize, bytes: &[u8]) {
        // SAFETY: libbpf tells how many bytes there are, and copies those that it is given.
        unsafe {
            let mut size = 0;
            let start = sys::bpf_map__initial_value(self.map, &raw mut size);
            assert!(!start.is_null(), "{} has initial contents", self.name());
            let size = usize::try_from(size).unwrap();
            let mut all = std::slice::from_raw_parts(start.cast::<u8>(), size).to_vec();
            all[offset..offset + bytes.len()].copy_from_slice(bytes);
            let result = sys::bpf_map__set_initial_value(self.map, all.as_ptr().cast(), size as _);
            assert_eq!(0, result, "contents of {}", self.name());
        }
    }

    /// Pins by name somewhere else.
    pub fn set_pin_path(&self, path: &Path) {
        let path = CString::new(path.to_str().expect("UTF-8 path")).expect("no NUL");
        // SAFETY: the path is NUL-terminated, libbpf copies it.
        let result = unsafe { sys::bpf_map__set_pin_path(self.map, path.as_ptr()) };
        assert_eq!(0, result);
    }

    /// Declares other numbers: type, sizes, `max_entries`, flags, `map_extra`. Those of the
    /// types of key and value stay.
    pub fn declare(&self, numbers: &PlannedMap) {
        let MaxEntries::Count(max_entries) = numbers.max_entries else {
            panic!("a number")
        };
        // SAFETY: the map belongs to an open object that is not loaded yet.
        let results = unsafe {
            [
                sys::bpf_map__set_type(self.map, numbers.map_type.0),
                sys::bpf_map__set_key_size(self.map, numbers.key_size),
                sys::bpf_map__set_value_size(self.map, numbers.value_size),
                sys::bpf_map__set_max_entries(self.map, max_entries),
                sys::bpf_map__set_map_flags(self.map, numbers.map_flags),
                sys::bpf_map__set_map_extra(self.map, numbers.map_extra),
            ]
        };
        assert_eq!(results, [0; 6]);
    }

    /// Uses a map that exists already.
    pub fn reuse(&self, fd: i32) {
        // SAFETY: the descriptor is duplicated by libbpf.
        let result = unsafe { sys::bpf_map__reuse_fd(self.map, fd) };
        assert_eq!(0, result, "reuse {}", self.name());
    }

    pub fn declared(&self) -> Declared {
        declared(self.map)
    }

    /// Ids of the key and value types, those of the template behind them; 0 for none.
    pub fn types(&self) -> [u32; 4] {
        // SAFETY: the map, and an inner template, belong to an open object that is not loaded yet.
        unsafe {
            let ids = |map: *mut sys::bpf_map| {
                [
                    sys::bpf_map__btf_key_type_id(map),
                    sys::bpf_map__btf_value_type_id(map),
                ]
            };
            let inner = sys::bpf_map__inner_map(self.map);
            let [key, value] = ids(self.map);
            let inner = if inner.is_null() { [0, 0] } else { ids(inner) };
            [key, value, inner[0], inner[1]]
        }
    }
}

fn declared(map: *mut sys::bpf_map) -> Declared {
    // SAFETY: the map, and an inner template, belong to an open object that is not loaded yet.
    unsafe {
        let inner = sys::bpf_map__inner_map(map);
        Declared {
            name: CStr::from_ptr(sys::bpf_map__name(map))
                .to_string_lossy()
                .into_owned(),
            map_type: sys::bpf_map__type(map),
            key_size: sys::bpf_map__key_size(map),
            value_size: sys::bpf_map__value_size(map),
            max_entries: sys::bpf_map__max_entries(map),
            map_flags: sys::bpf_map__map_flags(map),
            map_extra: sys::bpf_map__map_extra(map),
            numa_node: sys::bpf_map__numa_node(map),
            pinned_by_name: !sys::bpf_map__pin_path(map).is_null(),
            has_key_type: sys::bpf_map__btf_key_type_id(map) != 0,
            has_value_type: sys::bpf_map__btf_value_type_id(map) != 0,
            created: sys::bpf_map__autocreate(map),
            inner: (!inner.is_null()).then(|| Box::new(declared(inner))),
        }
    }
}

/// The same object, of this machine's byte order, whose externs may be missing.
pub fn with_optional_externs(mut bytes: Vec<u8>) -> Vec<u8> {
    const SYMBOL: usize = 24;
    const INFO: usize = 4;
    let file = object::File::parse(bytes.as_slice()).expect("an ELF file");
    let table = file.section_by_name(".symtab").expect("a symbol table");
    let (start, _) = table.file_range().expect("a table in the file");
    let externs: Vec<usize> = file
        .symbols()
        .filter(|symbol| symbol.is_undefined() && symbol.name().is_ok_and(|n| !n.is_empty()))
        .map(|symbol| start as usize + symbol.index().0 * SYMBOL + INFO)
        .collect();
    for info in externs {
        bytes[info] = object::elf::STB_WEAK.0 << 4 | bytes[info] & 0xf;
    }
    bytes
}

/// What libbpf should say of a planned map.
pub fn from_plan<I>(map: &PlannedMap<I>, inner: Option<&Template>) -> Declared {
    Declared {
        name: map.name.clone(),
        map_type: map.map_type.0,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: match map.max_entries {
            MaxEntries::Count(count) => count,
            // libbpf puts the number in at load.
            MaxEntries::PossibleCpus => 0,
        },
        map_flags: map.map_flags,
        map_extra: map.map_extra,
        numa_node: map.numa_node,
        pinned_by_name: map.pinning == Pinning::ByName,
        has_key_type: map.key_type.is_some(),
        // An arena's may be the section of its variables, which libbpf does not look at.
        has_value_type: map.value_type.is_some() && !(map.is_arena() && map.data.is_some()),
        created: map.with_programs != Some(WithPrograms::OptionalStructOps),
        inner: inner.map(|inner| {
            let mut inner = from_plan(inner, None);
            // libbpf names the template only towards the kernel.
            inner.name = format!("{}.inner", map.name);
            inner.created = false;
            Box::new(inner)
        }),
    }
}
