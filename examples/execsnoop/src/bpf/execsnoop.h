struct event {
    __u32 cpu;
    __u32 pid;
    char command[16];
};
