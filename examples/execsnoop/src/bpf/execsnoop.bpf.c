// Tells user space of every program that is started, through a ring buffer for each CPU.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "execsnoop.h"

struct ring {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} ring_0 SEC(".maps"), ring_1 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 2); // User space makes more for machines with more CPUs.
    __type(key, __u32);
    __array(values, struct ring);
} rings SEC(".maps") = {
    .values = {[0] = &ring_0, [1] = &ring_1},
};

__u64 lost; // Events that no ring had room for.

SEC("raw_tp/sched_process_exec")
int on_exec(void *context)
{
    __u32 cpu = bpf_get_smp_processor_id();
    struct event *event = NULL;
    void *ring = bpf_map_lookup_elem(&rings, &cpu);

    if (ring)
        event = bpf_ringbuf_reserve(ring, sizeof(*event), 0);
    if (!event) {
        __sync_fetch_and_add(&lost, 1);
        return 0;
    }
    event->cpu = cpu;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(event->command, sizeof(event->command));
    bpf_ringbuf_submit(event, 0);
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
