"""A field of a message as one cell of a table or of a CSV file: exact, and the same for ever."""

import re
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What begins so, spreadsheets run: and some texts are others' (a transfer's reason, who it came from)."""
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)


def cell(message: Any, name: str) -> str:
    """Decimals as they came, enums without their prefix, times in RFC 3339 (UTC), true and false; absent: empty.

    Of a repeated field all values, joined by spaces.
    """
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    if field.is_repeated:
        return " ".join(_scalar(field, item) for item in value)
    if isinstance(value, Timestamp):
        return value.ToJsonString() if message.HasField(name) else ""
    return _scalar(field, value)


def _scalar(field: FieldDescriptor, value: Any) -> str:
    if field.enum_type is not None:
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", field.enum_type.name).upper() + "_"
        known = field.enum_type.values_by_number.get(value)
        return known.name.removeprefix(prefix) if known is not None else str(value)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true" if value else "false"
    return str(value)


def csv_cell(message: Any, name: str) -> str:
    """The same for a file that a spreadsheet may open: a text that it would run has an apostrophe before it."""
    text = cell(message, name)
    return f"'{text}" if text.startswith(FORMULAS) and not _NUMBER.fullmatch(text) else text
