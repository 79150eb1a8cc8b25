"""The JSON of messages, as schemas for OpenAPI: what json_proto.py reads and proto_json.py writes."""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway_http.json_proto import TIMESTAMP, short_names

Schema = dict[str, Any]

REFERENCE: Final = "#/components/schemas/"
_SIMPLE: Final[dict[int, Schema]] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer"},
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptor.TYPE_UINT64: {"type": "string", "format": "uint64"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "format": "byte"},
}
_WHOLE: Final = "^-?[0-9]+$"
_ALSO_READ: Final[dict[int, Schema]] = {
    FieldDescriptor.TYPE_STRING: {"type": ["string", "number"]},
    FieldDescriptor.TYPE_INT32: {"type": ["integer", "string"], "pattern": _WHOLE},
    FieldDescriptor.TYPE_UINT32: {"type": ["integer", "string"], "pattern": _WHOLE},
    FieldDescriptor.TYPE_INT64: {"type": ["string", "integer"], "pattern": _WHOLE},
    FieldDescriptor.TYPE_UINT64: {"type": ["string", "integer"], "pattern": _WHOLE},
}
"""Of requests: a decimal may be a number, a whole number may be text."""


def schema_of(message: Descriptor, *, asked: bool = False) -> Schema:
    """A message's JSON; messages within it by reference.

    Args:
        message: which.
        asked: as it is read; otherwise as it is written.

    Raises:
        KeyError: a field of a type that none of our messages has (floating point).
    """
    properties = {field.name: field_schema(field, asked=asked) for field in message.fields}
    return {"type": "object", "properties": properties} | ({"additionalProperties": False} if asked else {})


def components(messages: Iterable[Descriptor], *, asked: bool) -> dict[str, Schema]:
    """The schemas of messages, and of all that they refer to, by name."""
    found: dict[str, Schema] = {}
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.name not in found:
            found[message.name] = schema_of(message, asked=asked)
            waiting += [
                field.message_type
                for field in message.fields
                if field.message_type is not None and field.message_type.full_name != TIMESTAMP
            ]
    return found


def field_schema(field: FieldDescriptor, *, asked: bool) -> Schema:
    """The JSON of a field. Raises KeyError as `schema_of`."""
    one = _of_one(field, asked=asked)
    if field.is_repeated:
        one = {"type": "array", "items": one}
    return _or_null(one) if asked else one


def _of_one(field: FieldDescriptor, *, asked: bool) -> Schema:
    if field.message_type is not None:
        if field.message_type.full_name == TIMESTAMP:
            return {"type": "string", "format": "date-time"}
        return {"$ref": f"{REFERENCE}{field.message_type.name}"}
    if field.enum_type is not None:
        values = [value.name for value in field.enum_type.values if value.number]
        return {"type": "string", "enum": values + (list(short_names(field.enum_type)) if asked else [])}
    simple = _SIMPLE[field.type]
    return simple | _ALSO_READ.get(field.type, {}) if asked else simple


def _or_null(schema: Schema) -> Schema:
    """Null stands for a field that is not set."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    also: Schema = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": [*kinds, "null"]} | also
