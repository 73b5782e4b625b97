// frames INTERFACE DECLARED FRAME COUNT PAUSE_US [HEADER]: sends a frame past the IP stack, so often. DECLARED is the Ethernet
// type that the sender says it is, FRAME and HEADER (a virtio_net_hdr, which asks for segmentation) are hexadecimal.
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static size_t bytes(const char *text, unsigned char *out, size_t room) {
    size_t length = 0;
    while (text[0] && text[1] && length < room) {
        unsigned value;
        if (sscanf(text, "%2x", &value) != 1) break;
        out[length++] = value;
        text += 2;
    }
    return length;
}

int main(int count, char **words) {
    static unsigned char message[70000];
    if (count < 6) return 2;
    int declared = strtol(words[2], 0, 16), socket_ = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
    size_t header = 0;
    if (socket_ < 0) { perror("socket"); return 1; }
    if (count > 6) {
        header = bytes(words[6], message, sizeof message);
        if (setsockopt(socket_, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one)) { perror("PACKET_VNET_HDR"); return 1; }
    }
    size_t length = header + bytes(words[3], message + header, sizeof message - header);
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(declared), .sll_halen = 6};
    to.sll_ifindex = if_nametoindex(words[1]);
    memcpy(to.sll_addr, message + header, 6);
    long sent = 0, refused = 0;
    for (long left = atol(words[4]); left > 0; left--) {
        if (sendto(socket_, message, length, 0, (void *)&to, sizeof to) < 0) refused++; else sent++;
        if (atol(words[5])) usleep(atol(words[5]));
    }
    printf("{\"sent\":%ld,\"refused\":%ld}\n", sent, refused);
}
