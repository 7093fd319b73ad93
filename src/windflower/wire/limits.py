"""How large anything on the wire may be, and why."""

from typing import Final

MESSAGE_BYTES: Final = 128 * 1024
"""Nothing larger is ever published. Source: AWS IoT Core, maximum MQTT payload 128 KB."""

INLINE_PACK_BYTES: Final = 64 * 1024
"""A larger pack travels as a blob. In base64 this leaves a third of a message for the rest."""

INLINE_VALUES_BYTES: Final = 16 * 1024
"""Metric and config records larger than this move into the pack. Measured as JSON within JSON, as a
command carries it."""

GRANTS_BYTES: Final = 16 * 1024
"""What a command leaves free of its message: three grants of the longest kind, and the seal."""

PACK_HEADER_BYTES: Final = 64 * 1024 * 1024
"""Describes about half a million arrays; a larger header is never written, and refused unread."""

PACK_ALIGNMENT: Final = 64
"""Array data starts at a multiple of this, so that a file can be mapped and used in place."""

JSON_DEPTH: Final = 16
"""Our deepest message has nine levels."""

NAME_CHARS: Final = 4096
"""Record, array and value names: longer than any seen, short enough to log."""

DTYPE_CHARS: Final = 10_000
"""A structured array's dtype lists all its fields. Source: numpy.lib.format, as for its header."""

RECORDS: Final = 4096
"""Records in one message."""

IDS: Final = 256
"""Entries in each list of ids. What does not fit is told by the next message."""

REASON_CHARS: Final = 12_000
"""A device's error with its traceback; the middle is cut out of a longer one."""

REASON_BYTES: Final = 64 * 1024
"""The same as JSON, where one character may take twelve bytes."""

PROGRESS: Final = 8
"""Of so many commands a heartbeat tells how far they are: a line of text each."""

LABELS_BYTES: Final = 16 * 1024
"""All labels of a device, as JSON."""

ARRAY_DIMENSIONS: Final = 64
"""Source: numpy 2, NPY_MAXDIMS."""
