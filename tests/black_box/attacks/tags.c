/* Loads a program for tc that puts a tag of VLAN 0 before what it is given, as an interface of that VLAN does, and pins it. */
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long bpf(int command, union bpf_attr *attributes) {
    return syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

int main(int count, char **words) {
    struct bpf_insn code[] = {
        {.code = 0xb7, .dst_reg = 2, .imm = 0x0081},
        {.code = 0xb7, .dst_reg = 3},
        {.code = 0x85, .imm = BPF_FUNC_skb_vlan_push},
        {.code = 0xb7},
        {.code = 0x95},
    };
    char log[4096] = "";
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_SCHED_CLS, .insn_cnt = sizeof code / sizeof *code, .insns = (unsigned long)code,
                           .license = (unsigned long)"GPL", .log_buf = (unsigned long)log, .log_size = sizeof log, .log_level = 1};
    int program = bpf(BPF_PROG_LOAD, &load);
    if (program < 0) { perror(log); return 1; }
    union bpf_attr pin = {.pathname = (unsigned long)words[1], .bpf_fd = program};
    if (bpf(BPF_OBJ_PIN, &pin)) { perror("pin"); return 1; }
    return 0;
}
