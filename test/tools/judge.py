"""As judge.mjs, for schemas and values with integers that JavaScript does not have."""

import json
import struct
import sys

from jsonschema import Draft202012Validator


def values(schema, values):
    validator = Draft202012Validator(schema)
    return "".join("1" if validator.is_valid(value) else "0" for value in values)


def answer(question):
    try:
        fields = json.loads(question)
        kind = fields.pop("kind")
        return {"answer": {"values": values}[kind](**fields)}
    except Exception as error:
        return {"error": repr(error)}


# An integer of any size is one.
sys.set_int_max_str_digits(0)

while header := sys.stdin.buffer.read(4):
    question = sys.stdin.buffer.read(struct.unpack(">I", header)[0])
    body = json.dumps(answer(question)).encode()
    sys.stdout.buffer.write(struct.pack(">I", len(body)) + body)
    sys.stdout.buffer.flush()
