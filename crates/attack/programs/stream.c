// stream ADDRESS PORT MILLISECONDS [INTERFACE]: connects over TCP, bound to an interface or not, and sends as much as goes.
#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

int main(int count, char **words) {
    static char secret[65536];
    if (count < 4) return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))};
    inet_pton(AF_INET, words[1], &to.sin_addr);
    int stream = socket(AF_INET, SOCK_STREAM, 0);
    if (count > 4 && setsockopt(stream, SOL_SOCKET, SO_BINDTODEVICE, words[4], strlen(words[4]) + 1)) perror("bind");
    struct timeval limit = {.tv_usec = 500000};
    setsockopt(stream, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    long sent = 0, end = now() + atol(words[3]);
    if (connect(stream, (void *)&to, sizeof to) == 0) {
        while (now() < end) {
            ssize_t taken = send(stream, secret, sizeof secret, MSG_NOSIGNAL);
            if (taken < 0) break;
            sent += taken;
        }
    } else perror("connect");
    printf("{\"sent\":%ld}\n", sent);
}
