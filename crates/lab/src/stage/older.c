// Runs a program as an older kernel would have it: calls that such a kernel lacks are answered with an error, by a seccomp filter.
//
//   older WHAT… -- PROGRAM [ARGUMENT…]
//
// WHAT: `above=N:ERRNO` every call with a greater number (since 424 they are the same on all processors); `call=N:ERRNO` that one;
// `socket=FAMILY:ERRNO` sockets of that family. Numbers are decimal. What lies behind pointers a filter cannot see.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST 200
static struct sock_filter rules[MOST];
static unsigned short length;

static void add(struct sock_filter rule) {
    if (length < MOST) rules[length++] = rule;
}

static void answer(unsigned error) {
    add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error & SECCOMP_RET_DATA)));
}

// The lower half of the first argument, on processors that have it first.
#define FIRST offsetof(struct seccomp_data, args[0])
#define LOAD_NUMBER add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)))

int main(int count, char **words) {
    int at = 1;
    LOAD_NUMBER;
    for (; at < count && strcmp(words[at], "--") != 0; at++) {
        unsigned number = 0, error = 0;
        if (sscanf(words[at], "above=%u:%u", &number, &error) == 2) {
            add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, number, 0, 1));
            answer(error);
        } else if (sscanf(words[at], "call=%u:%u", &number, &error) == 2) {
            add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
            answer(error);
        } else if (sscanf(words[at], "socket=%u:%u", &number, &error) == 2) {
            add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, 4));
            add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIRST));
            add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
            answer(error);
            LOAD_NUMBER;
        } else {
            fprintf(stderr, "older: not understood: %s\n", words[at]);
            return 2;
        }
    }
    add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    struct sock_fprog filter = {length, rules};
    if (at + 1 >= count || length == MOST) {
        fprintf(stderr, "older: WHAT… -- PROGRAM\n");
        return 2;
    }
    // Without new rights, where we may not do it otherwise.
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0
        && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)) {
        perror("older: seccomp");
        return 2;
    }
    execvp(words[at + 1], words + at + 1);
    perror(words[at + 1]);
    return 2;
}
