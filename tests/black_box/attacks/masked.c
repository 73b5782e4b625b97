#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct plan { struct prctl_mm_map map; unsigned long low, high; };

__attribute__((always_inline)) static inline long call(long number, long a, long b, long c, long d)
{
    long result;
    register long fourth asm("r10") = d;
    register long fifth asm("r8") = 0;
    asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth) : "rcx", "r11", "memory");
    return result;
}

/* Runs from memory of its own, after the program's is gone. */
__attribute__((noinline, used)) static void go_on(struct plan *plan)
{
    call(SYS_munmap, plan->low, plan->high - plan->low, 0, 0);
    call(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, (long)&plan->map, sizeof plan->map);
    for (;;) {
        struct { long seconds, rest; } pause = { 0, 10000000 };
        call(SYS_nanosleep, (long)&pause, 0, 0, 0);
    }
}

static void write_file(const char *path, const char *text)
{
    int file = open(path, O_WRONLY);
    if (file >= 0) { write(file, text, strlen(text)); close(file); }
}

static void *memory(size_t size, int rights)
{
    return mmap(0, size, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

int main(int count, char **words)
{
    char text[8192], own[4096] = {0};
    unsigned user = getuid();
    if (unshare(CLONE_NEWUSER)) return 1;
    write_file("/proc/self/setgroups", "deny");
    sprintf(text, "0 %u 1", user);
    write_file("/proc/self/uid_map", text);
    struct plan *plan = memory(4096, PROT_READ | PROT_WRITE);
    void *code = memory(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    char *stack = memory(65536, PROT_READ | PROT_WRITE);
    memcpy(code, (void *)go_on, 1024);
    FILE *stat = fopen("/proc/self/stat", "r");
    fgets(text, sizeof text, stat);
    unsigned long value[64];
    int at = 0;
    for (char *word = strtok(strrchr(text, ')') + 2, " "); word; word = strtok(0, " "))
        value[at++] = strtoul(word, 0, 10);
    plan->map = (struct prctl_mm_map){
        .start_code = value[23], .end_code = value[24], .start_stack = value[25], .start_data = value[42],
        .end_data = value[43], .start_brk = value[44], .brk = (unsigned long)sbrk(0), .arg_start = value[45],
        .arg_end = value[46], .env_start = value[47], .env_end = value[48], .exe_fd = open(words[1], O_RDONLY),
    };
    readlink("/proc/self/exe", own, sizeof own - 1);
    FILE *maps = fopen("/proc/self/maps", "r");
    for (plan->low = ~0UL; fgets(text, sizeof text, maps);) {
        unsigned long begin, end;
        if (!strstr(text, own) || sscanf(text, "%lx-%lx", &begin, &end) != 2) continue;
        if (begin < plan->low) plan->low = begin;
        if (end > plan->high) plan->high = end;
    }
    asm volatile("mov %0, %%rsp; mov %1, %%rdi; call *%2" : : "r"(stack + 65536 - 64), "r"(plan), "r"(code) : "memory");
}
