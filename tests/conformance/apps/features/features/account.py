"""Writes down what an app saw, so that two executions can be compared."""

import hashlib
import json
from pathlib import Path


def digest(arrays):
    """Return the SHA-256 of arrays with their names, dtypes and shapes."""
    parts = hashlib.sha256()
    for name, array in arrays.items():
        parts.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        parts.update(array.data)
    return parts.hexdigest()


def plain(record):
    """Return a record's values, floats in full."""
    return {key: value.hex() if isinstance(value, bytes | float) else value for key, value in record.items()}


def write(folder, name, **fields):
    """Append a line to an account."""
    if folder:
        with (Path(folder) / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(fields, sort_keys=True) + "\n")


def described(message):
    """Return a reply in full: what it answers, from whom, and each value of each record."""
    told = {
        "type": message.metadata.message_type,
        "group": message.metadata.group_id,
        "from": message.metadata.src_node_id,
        "to": message.metadata.dst_node_id,
    }
    if message.has_error():
        return {**told, "code": message.error.code, "says": message.error.reason.splitlines()[-1]}
    return {**told, "records": [record(name, value) for name, value in message.content.items()]}


def record(name, value):
    """Return a record in full."""
    kind = type(value).__name__
    if kind == "ArrayRecord":
        items = [[k, a.dtype, list(a.shape), a.stype, hashlib.sha256(a.data).hexdigest()] for k, a in value.items()]
    else:
        items = [[k, [typed(v) for v in value] if isinstance(value, list) else typed(value)] for k, value in value.items()]
    return [name, kind, items]


def typed(value):
    """Return a value with its type, floats in full."""
    return [type(value).__name__, value.hex() if isinstance(value, bytes | float) else value]
