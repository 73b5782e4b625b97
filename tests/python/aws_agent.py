"""AWS's own agent (AWSIoTDeviceDefenderAgentSDK), asked for reports one at a time.

In: nothing; `--short` for its short names, `--all` for lists without its limit of 50. Out: JSON lines: {"event":
"ready"} when it is loaded, then for every line on standard input {"event": "done", "bytes", "report"}, or
{"event": "fault", "fault"}.
"""

import json
import sys

import cbor2

# It wants `cbor`, which PyPI has only as source; the functions are the same and it sends JSON here.
sys.modules["cbor"] = cbor2

from AWSIoTDeviceDefenderAgentSDK import collector  # noqa: E402


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def collect(agent):
    metrics = agent.collect_metrics()
    if "--all" in sys.argv:
        metrics.max_list_size = None
    text = metrics.to_json_string()
    say("done", bytes=len(text), report=json.loads(text))


def main():
    agent = collector.Collector(short_metrics_names="--short" in sys.argv, use_custom_metrics=False)
    say("ready")
    for _line in sys.stdin:
        try:
            collect(agent)
        except Exception as error:  # whatever its authors did not think of is what we are here for
            say("fault", fault=f"{type(error).__name__}: {error}")


main()
