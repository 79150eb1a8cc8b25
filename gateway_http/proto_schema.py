"""The JSON of a message, as a schema for OpenAPI: what json_proto.py reads and proto_json.py writes."""

from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway_http.json_proto import TIMESTAMP, short_names

_SIMPLE: Final[dict[int, dict[str, Any]]] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer"},
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptor.TYPE_UINT64: {"type": "string", "format": "uint64"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "format": "byte"},
}


def schema_of(message: Descriptor) -> dict[str, Any]:
    """A message's JSON.

    Raises:
        KeyError: a field of a type that none of our messages has (floating point).
    """
    if message.full_name == TIMESTAMP:
        return {"type": "string", "format": "date-time"}
    return {"type": "object", "properties": {field.name: _of_field(field) for field in message.fields}}


def _of_field(field: FieldDescriptor) -> dict[str, Any]:
    if field.message_type is not None:
        one = schema_of(field.message_type)
    elif field.enum_type is not None:
        values = [value.name for value in field.enum_type.values if value.number]
        one = {
            "type": "string",
            "enum": values,
            "description": f"In requests also {', '.join(short_names(field.enum_type))}.",
        }
    else:
        one = _SIMPLE[field.type]
    return {"type": "array", "items": one} if field.is_repeated else one
