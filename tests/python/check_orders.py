"""Checks orders with other people's code: jsonschema.

In: the schema as argument; one JSON value a line on standard input. Out, a line for each: true if it keeps to the
schema, false if not.
"""

import json
import pathlib
import sys

from jsonschema import Draft202012Validator


def main():
    schema = json.loads(pathlib.Path(sys.argv[1]).read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for line in sys.stdin:
        print(json.dumps(validator.is_valid(json.loads(line))))


main()
