/*
 * gcc's unwinder asks the C library where the unwinding table of an address is. Debian's gcc asks
 * as glibc answers since 2.35, with a function that musl lacks; this is that function for a static
 * program, with the layout of glibc's <dlfcn.h>.
 */
#define _GNU_SOURCE
#include <link.h>
#include <stddef.h>
#include <stdint.h>

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
