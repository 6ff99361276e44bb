/*
 * For gcc's unwinder, as Debian builds it, in a static program with musl. It asks the C library
 * where the unwinding table of an address is, with a function that glibc has since 2.35 and musl
 * has not; the layout is that of glibc's <dlfcn.h>.
 */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* What it calls if it is there, as it always is in glibc: the linker has to take it. */
const void *const bpfplan_unwinder_needs[] = {
    pthread_getspecific,  pthread_key_create, pthread_mutex_lock,
    pthread_mutex_unlock, pthread_once,       pthread_setspecific,
};

struct dl_find_object {
    unsigned long long flags;
    void *map_start;
    void *map_end;
    void *link_map;
    void *eh_frame;
    unsigned long long reserved[7];
};

struct search {
    uintptr_t address;
    struct dl_find_object *result;
};

static int look(struct dl_phdr_info *object, size_t size, void *data)
{
    struct search *search = data;
    const ElfW(Phdr) *table = NULL;
    uintptr_t start = 0, end = 0;

    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &object->dlpi_phdr[i];
        uintptr_t from = object->dlpi_addr + header->p_vaddr;

        if (header->p_type == PT_GNU_EH_FRAME) {
            table = header;
        } else if (header->p_type == PT_LOAD && search->address - from < header->p_memsz) {
            start = from;
            end = from + header->p_memsz;
        }
    }
    if (!end || !table)
        return 0;
    *search->result = (struct dl_find_object){
        .map_start = (void *)start,
        .map_end = (void *)end,
        .eh_frame = (void *)(object->dlpi_addr + table->p_vaddr),
    };
    return 1;
}

int _dl_find_object(void *address, struct dl_find_object *result)
{
    struct search search = {(uintptr_t)address, result};

    return dl_iterate_phdr(look, &search) ? 0 : -1;
}
