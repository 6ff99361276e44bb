//! Loading programs: libbpf's `bpf_object__load`, over maps that are there already.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null, null_mut};

use bpfplan_plan::{Map, MaxEntries, uapi};
use libbpf_sys::{bpf_map, bpf_object, bpf_object_open_opts, bpf_prog_info, bpf_program};
use rustix::process::{Resource, getrlimit};

use super::messages::Collector;
use super::{Descriptor, bpf, describe};
use crate::kernel::{Errno, MapInfo};
use crate::program_request::{
    MadeProgram, ProgramAnswer, ProgramFailure, ProgramRequest, ProgramStage,
};

/// Most bytes of a file's name that libbpf names maps of global data after.
const OBJECT_NAME: usize = 15;

/// How the name of the map of an object's kernel configuration values ends.
const KCONFIG: &[u8] = b".kconfig";

/// What went wrong, before libbpf's messages are added.
type Failed = (ProgramStage, Errno);

pub(super) fn load(
    request: &ProgramRequest<'_, Descriptor>,
) -> Result<ProgramAnswer<Descriptor>, ProgramFailure> {
    let collector = Collector::start();
    let memlock = || getrlimit(Resource::Memlock).current;
    let before = memlock();
    let mut names = Vec::new();
    let result = load_collected(request, &mut names);
    let said = collector.take();
    match result {
        Ok((programs, maps)) => Ok(ProgramAnswer {
            programs,
            maps,
            messages: said.messages,
            memlock_raised: memlock() != before,
        }),
        Err((stage, errno)) => Err(ProgramFailure {
            stage,
            errno,
            program: culprit(&names, &said.messages),
            log: said.log,
            messages: said.messages,
        }),
    }
}

type Made = (Vec<MadeProgram<Descriptor>>, Vec<(usize, Descriptor)>);

fn load_collected(
    request: &ProgramRequest<'_, Descriptor>,
    names: &mut Vec<String>,
) -> Result<Made, Failed> {
    let object = Object::open(request)?;
    let programs = object.programs();
    names.extend(programs.iter().map(|program| program.name()));
    same_programs(request, names)?;
    let handed = object.hand_over(request)?;
    // SAFETY: the object is open; nobody else has a pointer into it.
    check(unsafe { libbpf_sys::bpf_object__load(object.0.as_ptr()) }).map_err(stage_load)?;
    take(&programs, &handed)
}

fn stage_load(errno: Errno) -> Failed {
    (ProgramStage::Load, errno)
}

/// The programs and the maps that are to be taken over, with descriptors of our own.
fn take(
    programs: &[Program<'_>],
    handed: &[(Option<usize>, ObjectMap<'_>)],
) -> Result<Made, Failed> {
    let failed = |errno| (ProgramStage::Take, errno);
    let mut made = Vec::with_capacity(programs.len());
    for program in programs {
        let Some(fd) = program.fd() else { continue };
        let fd = duplicate(fd).map_err(failed)?;
        let (id, maps) = program_info(fd.as_fd()).map_err(failed)?;
        made.push(MadeProgram {
            name: program.name(),
            id,
            fd: Descriptor { fd, shape: None },
            maps,
        });
    }
    let mut maps = Vec::new();
    for (index, map) in handed {
        let (Some(index), Some(fd)) = (index, map.fd()) else {
            continue;
        };
        let fd = duplicate(fd).and_then(describe).map_err(failed)?;
        maps.push((*index, fd));
    }
    maps.sort_by_key(|(index, _)| *index);
    Ok((made, maps))
}

/// A descriptor of our own, close-on-exec and above 2.
fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, libc::STDERR_FILENO + 1)
        .map_err(|errno| Errno(errno.raw_os_error()))
}

/// libbpf's functions return the negative error number.
fn check(result: i32) -> Result<(), Errno> {
    if result < 0 {
        Err(Errno(result.saturating_neg()))
    } else {
        Ok(())
    }
}

/// The program that libbpf's messages are about.
fn culprit(names: &[String], messages: &[String]) -> Option<String> {
    let about = |message: &String| {
        let rest = message.strip_prefix("prog '")?;
        let known = names.iter().filter(|name| {
            let rest = rest.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with("': "))
        });
        known.max_by_key(|name| name.len()).cloned()
    };
    messages.iter().rev().find_map(about)
}

/// The plan names the programs of the object, no more and no less.
fn same_programs(request: &ProgramRequest<'_, Descriptor>, names: &[String]) -> Result<(), Failed> {
    let mut ours: Vec<&str> = request.programs.iter().map(|it| it.name.as_str()).collect();
    let mut theirs: Vec<&str> = names.iter().map(String::as_str).collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    if ours == theirs {
        return Ok(());
    }
    let what = "its programs are not those of the plan".to_owned();
    Err((ProgramStage::Compare(what), Errno::EINVAL))
}

/// An object that libbpf has opened.
struct Object(NonNull<bpf_object>);

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the object was opened by us; all that borrows from it is gone.
        unsafe { libbpf_sys::bpf_object__close(self.0.as_ptr()) }
    }
}

impl Object {
    fn open(request: &ProgramRequest<'_, Descriptor>) -> Result<Self, Failed> {
        let failed = |errno| (ProgramStage::Open, errno);
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| failed(Errno::EINVAL));
        let name = text(object_name(request.name))?;
        let options = bpf_object_open_opts {
            sz: size_of::<bpf_object_open_opts>() as _,
            object_name: name.as_ptr(),
            kconfig: request.kconfig.map_or(null(), CStr::as_ptr),
            ..bpf_object_open_opts::default()
        };
        // SAFETY: the buffer, the options and the strings in them outlive the call; libbpf keeps
        // copies of what it needs after it.
        let object = unsafe {
            libbpf_sys::bpf_object__open_mem(
                request.object.as_ptr().cast(),
                request.object.len() as _,
                &raw const options,
            )
        };
        NonNull::new(object)
            .map(Self)
            .ok_or_else(|| failed(bpf::last_errno()))
    }

    /// The programs in libbpf's order, subprograms not among them.
    fn programs(&self) -> Vec<Program<'_>> {
        let mut programs = Vec::new();
        let mut last = null_mut();
        loop {
            // SAFETY: the object is open and `last` is null or one of its programs.
            last = unsafe { libbpf_sys::bpf_object__next_program(self.0.as_ptr(), last) };
            let Some(program) = NonNull::new(last) else {
                return programs;
            };
            programs.push(Program {
                program,
                _object: self,
            });
        }
    }

    fn maps(&self) -> Vec<ObjectMap<'_>> {
        let mut maps = Vec::new();
        let mut last = null_mut();
        loop {
            // SAFETY: the object is open and `last` is null or one of its maps.
            last = unsafe { libbpf_sys::bpf_object__next_map(self.0.as_ptr(), last) };
            let Some(map) = NonNull::new(last) else {
                return maps;
            };
            maps.push(ObjectMap {
                map,
                _object: self,
                arena: None,
            });
        }
    }

    /// Gives libbpf the maps that are there, prepares those that it makes, and leaves out those
    /// that the plan does not have. Those it makes come with their place in the request.
    fn hand_over<'o>(
        &'o self,
        request: &ProgramRequest<'_, Descriptor>,
    ) -> Result<Vec<(Option<usize>, ObjectMap<'o>)>, Failed> {
        let mut wanted: std::collections::HashMap<&[u8], usize> = request
            .maps
            .iter()
            .enumerate()
            .map(|(index, it)| (it.map.name.as_bytes(), index))
            .collect();
        let mut handed = Vec::new();
        for mut map in self.maps() {
            // A reused map takes the kernel's name, so it is read first.
            let name = map.name();
            let failed = |errno| {
                let name = name.to_string_lossy().into_owned();
                (ProgramStage::Map(name), errno)
            };
            let index = wanted.remove(name.to_bytes());
            map.clear_pin_path().map_err(failed)?;
            match index.and_then(|index| Some((index, request.maps.get(index)?))) {
                None => {
                    map.leave_out().map_err(failed)?;
                    handed.push((None, map));
                }
                Some((index, wanted)) => {
                    map.is_like(wanted.map).map_err(failed)?;
                    if let Some(fd) = wanted.fd {
                        map.reuse(fd).map_err(failed)?;
                        handed.push((None, map));
                    } else {
                        map.prepare(wanted.map, wanted.contents.as_deref())
                            .map_err(failed)?;
                        handed.push((Some(index), map));
                    }
                }
            }
        }
        match wanted.keys().min() {
            None => Ok(handed),
            Some(missing) => {
                let name = String::from_utf8_lossy(missing).escape_debug().to_string();
                let what = format!("it has no map '{name}'");
                Err((ProgramStage::Compare(what), Errno::ENOENT))
            }
        }
    }
}

/// The part of a file's name that libbpf calls maps of global data after, as when it opens a
/// file (`bpf_object__new`).
fn object_name(file: &str) -> &[u8] {
    let name = file.as_bytes();
    let name = name.get(..OBJECT_NAME).unwrap_or(name);
    name.split(|byte| *byte == b'.').next().unwrap_or_default()
}

/// A program of an open object.
struct Program<'o> {
    program: NonNull<bpf_program>,
    _object: &'o Object,
}

impl Program<'_> {
    fn name(&self) -> String {
        // SAFETY: the object is open.
        let name = unsafe { libbpf_sys::bpf_program__name(self.program.as_ptr()) };
        // SAFETY: libbpf's name of a program is NUL-terminated and lives as long as the object.
        let name = unsafe { CStr::from_ptr(name) };
        name.to_string_lossy().into_owned()
    }

    /// The descriptor, if the program was to be loaded.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the object is open.
        let fd = unsafe { libbpf_sys::bpf_program__fd(self.program.as_ptr()) };
        // SAFETY: the object owns the descriptor and stays open as long as this is borrowed.
        (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    }
}

/// A map of an open object.
struct ObjectMap<'o> {
    map: NonNull<bpf_map>,
    _object: &'o Object,
    /// The kernel loads no program over an arena that never was in somebody's memory.
    arena: Option<Mapping>,
}

impl ObjectMap<'_> {
    fn pointer(&self) -> *mut bpf_map {
        self.map.as_ptr()
    }

    fn name(&self) -> CString {
        // SAFETY: the object is open.
        let name = unsafe { libbpf_sys::bpf_map__name(self.pointer()) };
        // SAFETY: libbpf's name of a map is NUL-terminated and lives as long as the object, or
        // until the map is reused; it is copied here.
        unsafe { CStr::from_ptr(name) }.to_owned()
    }

    /// Otherwise libbpf looks there before it uses what it was given, and pins there.
    fn clear_pin_path(&self) -> Result<(), Errno> {
        // SAFETY: the object is open, and null takes the path away.
        check(unsafe { libbpf_sys::bpf_map__set_pin_path(self.pointer(), null::<c_char>()) })
    }

    fn leave_out(&self) -> Result<(), Errno> {
        // SAFETY: the object is open.
        check(unsafe { libbpf_sys::bpf_map__set_autocreate(self.pointer(), false) })
    }

    /// Guards against another object than the plan's.
    fn is_like(&self, planned: &Map) -> Result<(), Errno> {
        // SAFETY: the object is open.
        let kind = unsafe { libbpf_sys::bpf_map__type(self.pointer()) };
        if kind == planned.map_type.0 {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// Has libbpf use a map instead of making one.
    fn reuse(&mut self, fd: &Descriptor) -> Result<(), Errno> {
        let fd = fd.as_fd();
        let info = bpf::map_info(fd)?;
        self.resize_image(&info)?;
        // SAFETY: the object is open; libbpf duplicates the descriptor.
        check(unsafe { libbpf_sys::bpf_map__reuse_fd(self.pointer(), fd.as_raw_fd()) })?;
        // SAFETY: the object is open.
        let address = unsafe { libbpf_sys::bpf_map__map_extra(self.pointer()) };
        if info.map_type.0 == uapi::BPF_MAP_TYPE_ARENA && address == 0 {
            self.arena = Some(Mapping::of_arena(fd, &info)?);
        }
        Ok(())
    }

    /// Initial contents that libbpf keeps: their address and size. None for maps without, and for
    /// kinds whose contents are kept in another way.
    fn image(&self) -> Option<(NonNull<libc::c_void>, usize)> {
        // SAFETY: the object is open.
        let kind = unsafe { libbpf_sys::bpf_map__type(self.pointer()) };
        // libbpf does not check that maps of other kinds, struct_ops above all, have contents.
        if !matches!(kind, uapi::BPF_MAP_TYPE_ARRAY | uapi::BPF_MAP_TYPE_ARENA) {
            return None;
        }
        let mut size = 0;
        // SAFETY: the object is open; libbpf writes the size if there are contents.
        let bytes = unsafe { libbpf_sys::bpf_map__initial_value(self.pointer(), &raw mut size) };
        Some((NonNull::new(bytes)?, usize::try_from(size).ok()?))
    }

    /// Prepares for a map of another size than the object's: libbpf keeps the contents of global
    /// data in a mapping, and gives back as many bytes of memory as it believes the map to have,
    /// which after `bpf_map__reuse_fd` are those of the map that is there.
    fn resize_image(&self, info: &MapInfo) -> Result<(), Errno> {
        let map = self.pointer();
        if info.map_type.0 != uapi::BPF_MAP_TYPE_ARRAY || self.image().is_none() {
            return Ok(());
        }
        // SAFETY: the object is open.
        let (entries, size) = unsafe {
            (
                libbpf_sys::bpf_map__max_entries(map),
                libbpf_sys::bpf_map__value_size(map),
            )
        };
        if info.max_entries != entries {
            return Err(Errno::EINVAL);
        }
        if info.value_size == size {
            return Ok(());
        }
        let name = self.name();
        if name.to_bytes().ends_with(KCONFIG) {
            // libbpf writes its values to where the object has them, whatever the size.
            return Err(Errno::EINVAL);
        }
        // SAFETY: the object is open, and the map is not there yet for libbpf.
        check(unsafe { libbpf_sys::bpf_map__set_value_size(map, info.value_size) })
    }

    /// libbpf puts an arena's contents at its end, and does not look whether they begin in it.
    fn has_room(&self, pages: u32) -> Result<(), Errno> {
        // SAFETY: the object is open.
        let kind = unsafe { libbpf_sys::bpf_map__type(self.pointer()) };
        let Some((_, size)) = self.image().filter(|_| kind == uapi::BPF_MAP_TYPE_ARENA) else {
            return Ok(());
        };
        let wanted = size.div_ceil(rustix::param::page_size());
        if u32::try_from(wanted).is_ok_and(|wanted| wanted <= pages) {
            Ok(())
        } else {
            Err(Errno(libc::E2BIG))
        }
    }

    /// Tells libbpf what the plan says about a map that it makes, where that is not what the
    /// object says.
    fn prepare(&self, planned: &Map, contents: Option<&[u8]>) -> Result<(), Errno> {
        let map = self.pointer();
        // SAFETY (for all calls): the object is open, and none of its maps is created yet.
        if let MaxEntries::Count(count) = planned.max_entries {
            self.has_room(count)?;
        }
        if let MaxEntries::Count(count) = planned.max_entries
            // SAFETY: as above.
            && count != unsafe { libbpf_sys::bpf_map__max_entries(map) }
        {
            // SAFETY: as above.
            check(unsafe { libbpf_sys::bpf_map__set_max_entries(map, count) })?;
        }
        // SAFETY: as above.
        if planned.map_flags != unsafe { libbpf_sys::bpf_map__map_flags(map) } {
            // SAFETY: as above.
            check(unsafe { libbpf_sys::bpf_map__set_map_flags(map, planned.map_flags) })?;
        }
        // SAFETY: as above.
        if planned.numa_node != unsafe { libbpf_sys::bpf_map__numa_node(map) } {
            // SAFETY: as above.
            check(unsafe { libbpf_sys::bpf_map__set_numa_node(map, planned.numa_node) })?;
        }
        self.same_template(planned)?;
        if let Some(bytes) = contents {
            // SAFETY: as above; libbpf copies the bytes, whose number it compares with its own.
            check(unsafe {
                libbpf_sys::bpf_map__set_initial_value(map, bytes.as_ptr().cast(), bytes.len() as _)
            })?;
        }
        Ok(())
    }

    /// libbpf cannot change a template (its setters crash), so the object's must be the plan's.
    fn same_template(&self, planned: &Map) -> Result<(), Errno> {
        let Some(template) = &planned.inner else {
            return Ok(());
        };
        // SAFETY: the object is open, and its maps are not created yet.
        let inner = unsafe { libbpf_sys::bpf_map__inner_map(self.pointer()) };
        if inner.is_null() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the template lives until the outer map is created.
        let (entries, flags, node) = unsafe {
            (
                libbpf_sys::bpf_map__max_entries(inner),
                libbpf_sys::bpf_map__map_flags(inner),
                libbpf_sys::bpf_map__numa_node(inner),
            )
        };
        let same = match template.max_entries {
            MaxEntries::Count(count) => count == entries,
            MaxEntries::PossibleCpus => entries == 0,
        };
        if same && flags == template.map_flags && node == template.numa_node {
            Ok(())
        } else {
            Err(Errno(libc::EOPNOTSUPP))
        }
    }

    /// The descriptor of a created map.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the object is open.
        let fd = unsafe { libbpf_sys::bpf_map__fd(self.pointer()) };
        // SAFETY: the object owns the descriptor and stays open as long as this is borrowed.
        (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    }
}

/// A part of this process's memory, given back when dropped.
struct Mapping {
    address: NonNull<libc::c_void>,
    length: usize,
}

impl Mapping {
    /// Maps an arena, as libbpf does for those that it makes; that is when it gets its address.
    fn of_arena(fd: BorrowedFd<'_>, info: &MapInfo) -> Result<Self, Errno> {
        let pages = usize::try_from(info.max_entries).map_err(|_| Errno::EINVAL)?;
        let length = pages
            .checked_mul(rustix::param::page_size())
            .ok_or(Errno::EINVAL)?;
        // SAFETY: a new mapping at a place that the kernel chooses touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(bpf::last_errno());
        }
        let address = NonNull::new(address).ok_or(Errno::EINVAL)?;
        Ok(Self { address, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing points into it.
        unsafe { libc::munmap(self.address.as_ptr(), self.length) };
    }
}

/// Id of a program, and of the maps that it holds.
fn program_info(program: BorrowedFd<'_>) -> Result<(u32, Vec<u32>), Errno> {
    let mut info = bpf_prog_info::default();
    bpf::program_info(program, &mut info)?;
    let count = usize::try_from(info.nr_map_ids).map_err(|_| Errno::EINVAL)?;
    let mut maps = vec![0u32; count];
    info = bpf_prog_info {
        nr_map_ids: info.nr_map_ids,
        map_ids: maps.as_mut_ptr().addr() as u64,
        ..bpf_prog_info::default()
    };
    bpf::program_info(program, &mut info)?;
    maps.truncate(usize::try_from(info.nr_map_ids).unwrap_or(count));
    Ok((info.id, maps))
}

#[cfg(test)]
mod tests {
    use super::{culprit, object_name};

    #[test]
    fn names_are_libbpfs() {
        assert_eq!(object_name("flow.bpf.o"), b"flow");
        assert_eq!(object_name("0123456789abcdefghij.o"), b"0123456789abcde");
        assert_eq!(object_name("0123456789abcd.o"), b"0123456789abcd");
        assert_eq!(object_name(".o"), b"");
    }

    #[test]
    fn the_program_of_a_message_is_found() {
        let names = ["a".to_owned(), "a': b".to_owned()];
        let messages = |text: &str| [text.to_owned()];
        let found = |text| culprit(&names, &messages(text));
        assert_eq!(
            found("prog 'a': failed to load: -EACCES"),
            Some(names[0].clone())
        );
        assert_eq!(found("prog 'a': b': failed"), Some(names[1].clone()));
        assert_eq!(found("prog 'c': failed"), None);
        assert_eq!(found("map 'a': failed"), None);
    }
}
