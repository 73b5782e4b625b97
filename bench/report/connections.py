"""Holds established TCP connections over loopback, both ends.

In: how many sockets (two a connection), as argument. Out: {"event": "ready"} when they are all there; ends with its
standard input. One process may not hold them all: the limit of open files is the machine's.
"""

import json
import resource
import socket
import sys


def main():
    wanted = int(sys.argv[1])
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.create_server(("127.0.0.1", 0))
    held = []
    for _ in range(wanted // 2):
        held.append(socket.create_connection(listener.getsockname()))
        held.append(listener.accept()[0])
    print(json.dumps({"event": "ready", "sockets": len(held)}), flush=True)
    sys.stdin.read()


main()
