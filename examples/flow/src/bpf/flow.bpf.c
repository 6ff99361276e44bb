// Counts packets by flow, for the tenants that have a table.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "flow.h"

const volatile __u32 sample_rate = 1;
const volatile char device[16] = "lo";

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, struct flow_key);
    __type(value, struct counters);
} flows SEC(".maps");

struct table {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 8);
    __type(key, __u32);
    __type(value, struct counters);
} tenant_0 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 4);
    __type(key, __u32);
    __array(values, struct table);
} tenants SEC(".maps") = {
    .values = {[0] = &tenant_0},
};

SEC("xdp")
int count(struct xdp_md *context)
{
    struct flow_key key = {.protocol = 6};
    struct counters *counters = bpf_map_lookup_elem(&flows, &key);

    if (counters && bpf_get_prandom_u32() % (sample_rate ?: 1) == 0) {
        __sync_fetch_and_add(&counters->packets, 1);
        __sync_fetch_and_add(&counters->bytes, context->data_end - context->data);
    }
    return device[0] ? XDP_PASS : XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
