"""Checks answers of the command line with other people's code: jsonschema.

In: a folder of schemas as argument; on standard input one object a line: `schema`, a name; `closed`, whether members that
the schema does not describe are faults; `value`, an answer. Out, a line for each: the faults as a list of sentences.
"""

import json
import pathlib
import sys

from jsonschema import Draft202012Validator

# A wrong answer has one fault or very many of the same.
MAX_FAULTS = 3


def closed(schema):
    """The same schema, where an object has no other members than those that are described."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    narrow = {key: closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict):
        narrow["additionalProperties"] = False
    return narrow


def main():
    validators = {}
    for path in pathlib.Path(sys.argv[1]).glob("*.schema.json"):
        schema = json.loads(path.read_text())
        Draft202012Validator.check_schema(schema)
        name = path.name.removesuffix(".schema.json")
        validators[name, False] = Draft202012Validator(schema)
        validators[name, True] = Draft202012Validator(closed(schema))
    for line in sys.stdin:
        asked = json.loads(line)
        errors = validators[asked["schema"], asked["closed"]].iter_errors(asked["value"])
        faults = [f"{error.json_path}: {error.message}"[:300] for error, _ in zip(errors, range(MAX_FAULTS))]
        print(json.dumps(faults))


main()
