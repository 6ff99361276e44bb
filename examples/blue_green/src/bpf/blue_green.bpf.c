// Picks backends of services, whose tables user space replaces while this runs.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define BACKENDS 16

struct backend {
    __u32 address;
    __u32 version; // Of the table that it belongs to.
};

struct counts {
    __u64 lookups; // of a table, with all its backends
    __u64 missing; // tables and backends that were not there
    __u64 torn;    // tables with backends of several versions
};

const volatile __u32 services = 1;

struct table {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, BACKENDS);
    __type(key, __u32);
    __type(value, struct backend);
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
    __uint(max_entries, 64);
    __type(key, __u32);
    __array(values, struct table);
} tables SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct counts);
} totals SEC(".maps");

SEC("xdp")
int balance(struct xdp_md *packet)
{
    __u32 zero = 0, service = bpf_get_prandom_u32() % (services ?: 1);
    struct counts *counts = bpf_map_lookup_elem(&totals, &zero);
    void *table = bpf_map_lookup_elem(&tables, &service);
    __u32 first = 0;
    int torn = 0;

    if (!counts)
        return XDP_ABORTED;
    counts->lookups++;
    if (!table) {
        counts->missing++;
        return XDP_DROP;
    }
    for (int i = 0; i < BACKENDS; i++) {
        __u32 number = i;
        struct backend *backend = bpf_map_lookup_elem(table, &number);

        if (!backend) {
            counts->missing++;
            return XDP_DROP;
        }
        if (i == 0)
            first = backend->version;
        torn |= backend->version != first;
    }
    counts->torn += torn;
    return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
