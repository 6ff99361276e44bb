struct flow_key {
    __u32 source;
    __u32 destination;
    __u16 port;
    __u8 protocol;
};

struct counters {
    __u64 packets;
    __u64 bytes;
};
