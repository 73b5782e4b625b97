"""The official Python client under measurement; the same loop and the same events as `driver/src/lib.rs`.

It uses the client's first interface. The second (`clientv2`) wraps it and adds a future to every call, so this is the
faster of the two.
"""

import json
import sys
import time
from collections import deque

from awsiot.greengrasscoreipc import connect, model

WARM_UP_CALLS = 500
WARM_UP_SECONDS = 2
TOPIC = "bench/ipc"
LEAF = "interval"
PAYLOAD = b"x" * 200
ANSWER_SECONDS = 10
MICROSECONDS = 20_000


def get(client):
    operation = client.new_get_configuration()
    operation.activate(model.GetConfigurationRequest(key_path=[LEAF]))
    return operation.get_response()


def publish(client):
    operation = client.new_publish_to_iot_core()
    request = model.PublishToIoTCoreRequest(topic_name=TOPIC, qos=model.QOS.AT_MOST_ONCE, payload=PAYLOAD)
    operation.activate(request)
    return operation.get_response()


def percentile(counts, total, share):
    wanted = max(1, -(-total * share // 100))
    seen = 0
    for microseconds, count in enumerate(counts):
        seen += count
        if seen >= wanted:
            return microseconds
    return 0


def measure(client, case, in_flight, calls, seconds):
    counts = [0] * (MICROSECONDS + 1)
    succeeded = failed = 0
    first_error = None
    clock = time.perf_counter_ns
    started = clock()
    until = started + seconds * 1_000_000_000
    waiting = deque()
    left = calls

    def begin():
        # Timed where the answer arrives, in the client's own thread: with more than one call in flight this thread
        # may be busy with another one.
        begun = clock()
        future = case(client)
        finished = [0]
        future.add_done_callback(lambda _: finished.__setitem__(0, clock()))
        waiting.append((begun, finished, future))

    while True:
        while len(waiting) < in_flight and left > 0 and clock() < until:
            left -= 1
            begin()
        if not waiting:
            break
        begun, finished, future = waiting.popleft()
        try:
            answer = future.result(ANSWER_SECONDS)
            if case is get and LEAF not in answer.value:
                raise ValueError(str(answer.value))
        except Exception as error:  # whatever it is, it is counted and shown
            failed += 1
            first_error = first_error or repr(error)
            continue
        succeeded += 1
        # The result may be there before its callback has run.
        ended = finished[0] or clock()
        counts[min((ended - begun) // 1000, MICROSECONDS)] += 1
    return {
        "event": "done",
        "calls": succeeded,
        "failed": failed,
        "first_error": first_error,
        "seconds": (clock() - started) / 1e9,
        "p50_us": percentile(counts, succeeded, 50),
        "p99_us": percentile(counts, succeeded, 99),
    }


def say(event):
    print(json.dumps(event), flush=True)


def main():
    name, in_flight, calls, seconds = sys.argv[1:]
    case = {"get": get, "publish": publish}[name]
    client = connect()
    measure(client, case, int(in_flight), WARM_UP_CALLS, WARM_UP_SECONDS)
    say({"event": "ready"})
    sys.stdin.readline()
    say(measure(client, case, int(in_flight), int(calls), int(seconds)))
    sys.stdin.readline()


main()
