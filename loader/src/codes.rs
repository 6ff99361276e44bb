//! Codes of the loader's diagnostics: BP06 a load, BP07 pins and the record, BP08 the target.

bpfplan_plan::codes! {
    /// The kernel took the plan's BTF only in a simpler form, or not at all.
    pub BTF_REDUCED = "BP0601", "the kernel did not take the BTF as it is";
    /// A map was created without its BTF, because the kernel refused it with it.
    pub MAP_WITHOUT_BTF = "BP0602", "a map was created without BTF";
    /// The kernel refused to create an inner template.
    pub TEMPLATE_REFUSED = "BP0603", "the kernel refused an inner template";
    /// The kernel refused to create a map.
    pub MAP_REFUSED = "BP0604", "the kernel refused a map";
    /// The kernel refused to fill a slot.
    pub SLOT_REFUSED = "BP0605", "the kernel refused a slot";
    /// The kernel has no batched update for an outer map; its slots were filled one by one.
    pub NO_BATCH = "BP0606", "slots were filled one by one";
    /// A value that only the target knows was filled in.
    pub RESOLVED = "BP0607", "a value was resolved for this machine";
    /// `RLIMIT_MEMLOCK` of the process was raised, because the kernel is older than 5.11.
    pub MEMLOCK_RAISED = "BP0608", "RLIMIT_MEMLOCK was raised";
    /// The kernel does not say which id a map has.
    pub INFO_REFUSED = "BP0609", "the kernel gives no information about a map";
    /// Something that the failed load made could not be removed.
    pub NOT_UNDONE = "BP0610", "something of a failed load is left";
    /// The caller asked the load to stop.
    pub INTERRUPTED = "BP0611", "the load was interrupted";
    /// The kernel refused to write the initial contents of a map.
    pub CONTENTS_REFUSED = "BP0612", "the kernel refused initial contents";
    /// The kernel refused to freeze a map.
    pub FREEZE_REFUSED = "BP0613", "the kernel refused to freeze a map";
    /// libbpf or the kernel refused a program, or the object around it.
    pub PROGRAMS_REFUSED = "BP0614", "programs were not loaded";
    /// The kernel refused to put a program into a slot.
    pub PROGRAM_SLOT_REFUSED = "BP0615", "the kernel refused a program in a slot";
    /// libbpf had something to say about programs that it loaded.
    pub LIBBPF_WARNS = "BP0616", "libbpf warns about programs";

    /// A map in the kernel is not what a handle of it says.
    pub MAP_MISMATCH = "BP0650", "a map is not what its handle says";
    /// A map cannot be opened.
    pub MAP_NOT_OPENED = "BP0651", "a map cannot be opened";
    /// The kernel refused an operation on a map.
    pub MAP_CALL = "BP0652", "the kernel refused an operation on a map";
    /// A map changes faster than its keys can be read.
    pub MAP_ITERATION = "BP0653", "the keys of a map have no end";
    /// A map that holds maps is wanted, and this one does not.
    pub NOT_OUTER = "BP0654", "a map holds no maps";
    /// Nobody tells what inner maps of an outer map look like.
    pub TEMPLATE_UNKNOWN = "BP0655", "an inner template is not known";
    /// Inner maps must have as many entries as the template.
    pub INNER_ENTRIES = "BP0656", "inner maps have as many entries as the template";
    /// The kernel wants the BTF object of other inner maps, and there is none left.
    pub INNER_BTF = "BP0657", "the BTF of the inner maps is gone";
    /// The kernel refused to make an inner map.
    pub INNER_REFUSED = "BP0658", "the kernel refused an inner map";
    /// A map does not fit an outer map's template.
    pub INNER_DOES_NOT_FIT = "BP0659", "a map does not fit the template";
    /// An outer map has no such slot.
    pub SLOT_BEYOND_END = "BP0660", "a slot is beyond the end";
    /// A slot that should hold a map is empty.
    pub SLOT_EMPTY = "BP0661", "a slot is empty already";

    /// libbpf's linker refuses the objects.
    pub LINK_REFUSED = "BP0690", "libbpf's linker refuses the objects";

    /// The name of a map or a program cannot be the name of a pin.
    pub PIN_NAME = "BP0701", "a name cannot be a pin's name";
    /// Several maps or programs would be pinned under one name.
    pub PIN_NAMES_COLLIDE = "BP0702", "maps or programs would share a pin";
    /// Several maps have one name in the kernel, which keeps 15 bytes of it.
    pub KERNEL_NAMES_COLLIDE = "BP0703", "maps share their name in the kernel";
    /// The directory for pins cannot be used.
    pub PIN_DIRECTORY = "BP0704", "the pin directory cannot be used";
    /// Something is at a pin's path already.
    pub PIN_EXISTS = "BP0705", "a pin exists already";
    /// The kernel refused to pin.
    pub PIN_REFUSED = "BP0706", "the kernel refused a pin";
    /// The directory holds the record of another load.
    pub RECORD_EXISTS = "BP0707", "the directory holds another load";
    /// The record of the load cannot be written.
    pub RECORD_REFUSED = "BP0708", "the record of a load cannot be written";
    /// There is no record of a load.
    pub RECORD_MISSING = "BP0709", "there is no record of a load";
    /// What is at the record's place is not the record of a load.
    pub RECORD_INVALID = "BP0710", "the record of a load does not read";
    /// The record is not frozen, because the kernel is older than 5.2.
    pub RECORD_NOT_FROZEN = "BP0711", "the record of a load is not frozen";
    /// A pin is not the map or the program that the load created, so it stays.
    pub NOT_OURS = "BP0712", "a pin is not of this load";
    /// A pin of the load is gone already.
    pub PIN_GONE = "BP0713", "a pin is gone already";
    /// A pin, the record or the directory cannot be removed.
    pub NOT_REMOVED = "BP0714", "a pin cannot be removed";
    /// Another load or unload is at work in the directory.
    pub DIRECTORY_BUSY = "BP0715", "the pin directory is in use";
    /// The map that is pinned by name already differs from the declared one.
    pub PIN_MISMATCH = "BP0716", "a pinned map is not the declared one";
    /// What is at the place of a map that is pinned by name is no map.
    pub PIN_NOT_A_MAP = "BP0717", "a pin is no map";
    /// A pin cannot be opened.
    pub PIN_UNREADABLE = "BP0718", "a pin cannot be opened";
    /// A reused map differs from the declared one in something that it can do without.
    pub REUSED_DIFFERS = "BP0719", "a reused map differs from the declared one";
    /// Other loads changed the pins each time this one tried.
    pub PIN_RACE = "BP0720", "others kept changing the pins";
    /// Slots of a reused map hold something else than declared, and were left alone.
    pub SLOTS_KEPT = "BP0721", "slots of a reused map were kept";
    /// A new map is in no slot, because the outer map is reused and its slots were kept.
    pub IN_NO_SLOT = "BP0722", "a new map is in no slot";
    /// A dry run does not look at maps that are pinned by name already.
    pub PINS_NOT_USED = "BP0723", "a dry run reuses no pins";

    /// The object is for machines of the other byte order.
    pub FOREIGN_ENDIANNESS = "BP0801", "the object has the other byte order";
    /// A map has slots for programs, or comes to be with them, and programs are not loaded.
    pub PROGRAM_SLOTS = "BP0803", "a map needs the programs";
    /// Some map would survive nowhere.
    pub NOT_KEPT = "BP0805", "maps would survive nowhere";
    /// The number of possible CPUs cannot be read.
    pub POSSIBLE_CPUS = "BP0806", "the number of possible CPUs is unknown";
    /// The process may not open as many descriptors as the plan needs.
    pub TOO_FEW_DESCRIPTORS = "BP0807", "too few file descriptors are allowed";
    /// A `HASH_OF_MAPS` with static slots has keys that are no 32-bit index.
    pub SLOT_KEY_SIZE = "BP0808", "static slots need keys of 4 bytes";
    /// Programs that are loaded later cannot use what a map's values hold.
    pub PROGRAM_BTF = "BP0809", "programs cannot use a map";
    /// Slots or maps that need programs were left out, as the caller wants.
    pub LEFT_OUT = "BP0810", "something that needs programs is left out";
    /// The object that was given is not the one that the plan was made from.
    pub OTHER_OBJECT = "BP0811", "the object is not the plan's";
    /// Programs are to be loaded, and the object has none.
    pub NO_PROGRAMS = "BP0812", "the object has no programs";
    /// A slot is for a program that a load leaves out.
    pub PROGRAM_NOT_LOADED = "BP0813", "a slot's program is not loaded";
    /// Some programs are not loaded, because their section says so.
    pub NOT_AUTOLOADED = "BP0814", "programs are not loaded by themselves";
    /// Programs are to be loaded from an object that libbpf does not open.
    pub LEGACY_OBJECT = "BP0815", "libbpf does not open the object";

    /// The kernel's configuration cannot be read.
    pub KCONFIG_UNREADABLE = "BP0850", "the kernel's configuration cannot be read";
    /// A line of a kernel configuration sets nothing.
    pub KCONFIG_MALFORMED = "BP0851", "malformed kernel configuration";
    /// A kernel configuration does not decompress.
    pub KCONFIG_DAMAGED = "BP0852", "damaged kernel configuration";
    /// The setting of an option is not of the kind that the object declares.
    pub KCONFIG_VALUE = "BP0853", "a kernel configuration value does not fit";
    /// The kernel's configuration has no such option.
    pub KCONFIG_MISSING = "BP0854", "a kernel configuration value is missing";
    /// No kernel has such a value.
    pub KCONFIG_UNKNOWN = "BP0855", "no such kernel configuration value";
    /// A string of the kernel's configuration is longer than its variable.
    pub KCONFIG_CUT = "BP0856", "a string was cut";
}
