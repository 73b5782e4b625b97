// xdp INTERFACE FRAME COUNT [QUEUE [GO]]: sends a frame through an AF_XDP socket in copy mode, past every hook. FRAME is
// hexadecimal. With GO it takes the queue, sends once that file is there, and stays.
#include <errno.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#define SLOTS 64
#define SLOT 2048

static int option(int socket_, int name, const void *value, socklen_t length) {
    int failed = setsockopt(socket_, SOL_XDP, name, value, length);
    if (failed) perror("setsockopt");
    return failed;
}

static char *ring(int socket_, size_t length, long offset) {
    return mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, socket_, offset);
}

int main(int count, char **words) {
    if (count < 4) return 2;
    int socket_ = socket(AF_XDP, SOCK_RAW, 0), slots = SLOTS;
    if (socket_ < 0) { perror("socket"); return 1; }
    char *memory = mmap(0, SLOTS * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct xdp_umem_reg registered = {.addr = (unsigned long)memory, .len = SLOTS * SLOT, .chunk_size = SLOT};
    if (option(socket_, XDP_UMEM_REG, &registered, sizeof registered) ||
        option(socket_, XDP_UMEM_FILL_RING, &slots, sizeof slots) ||
        option(socket_, XDP_UMEM_COMPLETION_RING, &slots, sizeof slots) ||
        option(socket_, XDP_TX_RING, &slots, sizeof slots))
        return 1;
    struct xdp_mmap_offsets at;
    socklen_t length = sizeof at;
    getsockopt(socket_, SOL_XDP, XDP_MMAP_OFFSETS, &at, &length);
    char *out = ring(socket_, at.tx.desc + SLOTS * sizeof(struct xdp_desc), XDP_PGOFF_TX_RING);
    char *done = ring(socket_, at.cr.desc + SLOTS * 8, XDP_UMEM_PGOFF_COMPLETION_RING);
    struct sockaddr_xdp to = {.sxdp_family = AF_XDP, .sxdp_ifindex = if_nametoindex(words[1]), .sxdp_flags = XDP_COPY,
                             .sxdp_queue_id = count > 4 ? atoi(words[4]) : 0};
    if (bind(socket_, (void *)&to, sizeof to)) { perror("bind"); return 1; }
    if (count > 5) {
        puts("{\"event\":\"bound\"}");
        fflush(stdout);
        while (access(words[5], F_OK)) usleep(10000);
    }
    int size = 0;
    for (unsigned byte; size < SLOT && sscanf(words[2] + 2 * size, "%2x", &byte) == 1; size++) memory[size] = byte;
    for (int slot = 1; slot < SLOTS; slot++) memcpy(memory + slot * SLOT, memory, size);
    volatile unsigned *given = (void *)(out + at.tx.producer), *sent = (void *)(done + at.cr.producer),
                      *taken = (void *)(done + at.cr.consumer);
    struct xdp_desc *descriptors = (void *)(out + at.tx.desc);
    unsigned wanted = atol(words[3]), next = 0;
    for (int idle = 0; *sent < wanted && idle < 2000; idle++) {
        while (next < wanted && next - *sent < SLOTS) {
            descriptors[next % SLOTS] = (struct xdp_desc){.addr = (next % SLOTS) * SLOT, .len = size};
            next++;
            idle = 0;
        }
        __sync_synchronize();
        *given = next;
        *taken = *sent;
        if (sendto(socket_, 0, 0, MSG_DONTWAIT, 0, 0) < 0 && errno != EAGAIN && errno != EBUSY && errno != ENOBUFS) {
            perror("sendto");
            break;
        }
        if (idle) usleep(100);
    }
    printf("{\"sent\":%u}\n", *sent);
    fflush(stdout);
    if (count > 5) pause();
}
