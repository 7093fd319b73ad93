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
