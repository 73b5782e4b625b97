"""Checks Device Defender reports with other people's code: cbor2 and jsonschema.

In: the folder of the schemas as argument; one JSON object a line on standard input, {"name", "encoding": "json" or
"cbor", "names": "long" or "short", "base64"}. Out, a line for each: {"name", "fault", "document"}; fault is null for
a report that keeps to the schema, and the document has long names whatever it came with.
"""

import base64
import io
import json
import math
import pathlib
import sys

import cbor2
from jsonschema import Draft202012Validator, FormatChecker, validators

# The specification's table, long to short; nothing else has a short name.
SHORT = {
    "header": "hed", "report_id": "rid", "version": "v", "metrics": "met", "custom_metrics": "cmet",
    "tcp_connections": "tc", "established_connections": "ec", "connections": "cs", "remote_addr": "rad",
    "local_port": "lp", "local_interface": "li", "total": "t", "listening_tcp_ports": "tp",
    "listening_udp_ports": "up", "ports": "pts", "port": "pt", "interface": "if", "network_stats": "ns",
    "bytes_in": "bi", "bytes_out": "bo", "packets_in": "pi", "packets_out": "po",
}
LONG = {short: long for long, short in SHORT.items()}


def no_float(_checker, value):
    """JSON Schema calls 1.0 an integer; the specification's fields are counts, and CBOR tells the two apart."""
    return isinstance(value, int) and not isinstance(value, bool)


STRICT = validators.extend(
    Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", no_float)
)


def validator(folder, names):
    path = pathlib.Path(folder) / f"device-defender-report-{names}.schema.json"
    schema = json.loads(path.read_text())
    Draft202012Validator.check_schema(schema)
    return STRICT(schema, format_checker=FormatChecker())


def no_constant(text):
    raise ValueError(f"{text} is no JSON")


def once(pairs):
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} occurs twice")
    return dict(pairs)


def decode(encoding, payload):
    if encoding == "json":
        return json.loads(payload, object_pairs_hook=once, parse_constant=no_constant)
    stream = io.BytesIO(payload)
    document = cbor2.CBORDecoder(stream).decode()
    left = len(payload) - stream.tell()
    if left > 0:
        raise ValueError(f"{left} bytes follow the report")
    return plain(document)


def plain(value):
    """Only what JSON has: no tags, bytes or other keys than strings."""
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"the key {name!r} is no text")
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"JSON has no {type(value).__name__}")


def lengthen(value, custom=False):
    """The same document with long names; names inside custom metrics are the account's."""
    if isinstance(value, list):
        return [lengthen(inner, custom) for inner in value]
    if custom or not isinstance(value, dict):
        return value
    named = ((LONG.get(name, name), inner) for name, inner in value.items())
    return {name: lengthen(inner, name == "custom_metrics") for name, inner in named}


def check(by_names, line):
    document = None
    try:
        document = decode(line["encoding"], base64.b64decode(line["base64"]))
        error = next(by_names[line["names"]].iter_errors(document), None)
        fault = error and f"{error.json_path}: {error.message}"[:500]
    except (ValueError, RecursionError, cbor2.CBORDecodeError) as error:
        fault = f"{type(error).__name__}: {error}"[:500]
    if fault is None and line["names"] == "short":
        document = lengthen(document)
    return {"name": line["name"], "fault": fault, "document": document if fault is None else None}


def main():
    by_names = {names: validator(sys.argv[1], names) for names in ("long", "short")}
    for line in sys.stdin:
        print(json.dumps(check(by_names, json.loads(line))))


main()
