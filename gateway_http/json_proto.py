"""JSON to messages, with the proto's names, as protobuf's own mapping has it, and somewhat more.

An enum's value may be written without what all of them begin with ("buy" for SIDE_BUY); a decimal may be a JSON number,
which stays as exact as it was written. Whatever is wrong is INVALID_FIELD with the field's place ("orders[3].price").
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final, TypeVar

import msgspec
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from gateway_http.decimals import NULL, NUMBER_BYTES_MAX, decimal
from services.errors import Reason, Rejected

M = TypeVar("M", bound=Message)
T = TypeVar("T")
Reader = Callable[[bytes, str], Any]
"""(JSON, the field's place) → value."""

USER_FIELD: Final = "user_id"
UNSPECIFIED: Final = "UNSPECIFIED"
FLAGS: Final = frozenset({"true", "false"})
TIMESTAMP: Final = Timestamp.DESCRIPTOR.full_name
_INTEGERS: Final = frozenset(
    {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64}
)

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it cannot decode."""

_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
_lists = msgspec.json.Decoder(list[msgspec.Raw])
_texts = msgspec.json.Decoder(str)


def read_as(kind: type[T], raw: bytes) -> T | None:
    """What stayed raw until now, and so was not looked into; None if it is something else, no UTF-8, or too deep."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNREADABLE:
        return None


def request_in(kind: type[M], body: bytes) -> tuple[M, str]:
    """A body as a message, and the `user_id` beside its fields.

    Raises:
        Rejected: MALFORMED_REQUEST if it is no JSON object, INVALID_FIELD otherwise.
    """
    try:
        fields = _objects.decode(body)
    except msgspec.ValidationError:
        raise Rejected(Reason.MALFORMED_REQUEST, "the body is not a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(Reason.MALFORMED_REQUEST, f"the body is not JSON: {error}") from None
    user_id = _text(bytes(fields.pop(USER_FIELD, msgspec.Raw(b'""'))), USER_FIELD)
    if not user_id:
        raise _invalid(USER_FIELD, "is missing")
    message = kind()
    _fill(message, fields, "")
    return message, user_id


def query_in(kind: type[M], given: Iterable[tuple[str, str]]) -> M:
    """Parameters of a URL as a message: a field that is a list is there once for each of its items.

    Raises:
        Rejected: MALFORMED_REQUEST for one that is there twice, INVALID_FIELD otherwise.
    """
    fields, known = dict[str, msgspec.Raw](), _readers(kind.DESCRIPTOR)
    lists: dict[str, list[str]] = {}
    for name, text in given:
        field = known.get(name)
        if field is not None and field.is_repeated:
            lists.setdefault(name, []).append(text)
        elif name in fields:
            raise Rejected(Reason.MALFORMED_REQUEST, "a parameter is there twice", name[:NUMBER_BYTES_MAX])
        else:
            plain = field is not None and field.type == FieldDescriptor.TYPE_BOOL and text in FLAGS
            fields[name] = msgspec.Raw(text.encode() if plain else msgspec.json.encode(text))
    message = kind()
    _fill(message, fields | {name: msgspec.Raw(msgspec.json.encode(texts)) for name, texts in lists.items()}, "")
    return message


def fill(message: Message, fields: dict[str, msgspec.Raw]) -> None:
    """Sets fields of a message. Raises Rejected(INVALID_FIELD)."""
    _fill(message, fields, "")


def short_names(enum: EnumDescriptor) -> dict[str, int]:
    """The values of an enum by their names without what all begin with, in lower case; without the unspecified one."""
    prefix = enum.values_by_number[0].name.removesuffix(UNSPECIFIED)
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}


def _fill(message: Message, fields: dict[str, msgspec.Raw], place: str) -> None:
    readers = _readers(message.DESCRIPTOR)
    for name, raw in fields.items():
        field = readers.get(name)
        if field is None:
            shown = name[:NUMBER_BYTES_MAX]
            raise _invalid(f"{place}{shown}", "is no field here")
        value = bytes(raw)
        if value != NULL:
            _set(message, field, value, f"{place}{name}")


def _set(message: Message, field: FieldDescriptor, raw: bytes, place: str) -> None:
    target = getattr(message, field.name)
    nested = field.message_type is not None and field.message_type.full_name != TIMESTAMP
    read = _reader(field)
    try:
        if field.is_repeated:
            for number, item in enumerate(_decoded(_lists, raw, place, "a list")):
                each = f"{place}[{number}]"
                if nested:
                    _fill(target.add(), _decoded(_objects, bytes(item), each, "an object"), f"{each}.")
                else:
                    target.append(read(bytes(item), each))
        elif nested:
            target.SetInParent()
            _fill(target, _decoded(_objects, raw, place, "an object"), f"{place}.")
        elif field.message_type is not None:
            _set_time(target, _text(raw, place), place)
        else:
            setattr(message, field.name, read(raw, place))
    except (ValueError, OverflowError):  # what protobuf says of a number that does not fit
        raise _invalid(place, "is out of range") from None


def _set_time(target: Timestamp, text: str, place: str) -> None:
    try:
        target.FromJsonString(text)
    except (ValueError, OverflowError):
        raise _invalid(place, "is no time of RFC 3339, like 2026-11-24T12:00:00Z") from None


@cache
def _readers(kind: Descriptor) -> dict[str, FieldDescriptor]:
    return dict(kind.fields_by_name)


@cache
def _reader(field: FieldDescriptor) -> Reader:
    """What makes a value of JSON; of those without one, `_set` knows."""
    if field.enum_type is not None:
        names = {value.name: value.number for value in field.enum_type.values}
        short = short_names(field.enum_type)
        return lambda raw, place: _named(names, short, raw, place)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _flag
    if field.type in _INTEGERS:
        return _integer
    if field.type == FieldDescriptor.TYPE_STRING or field.message_type is not None:
        return _text_or_number
    raise TypeError(f"{field.full_name} is of a type without a place in our JSON")


def _named(names: dict[str, int], short: dict[str, int], raw: bytes, place: str) -> int:
    text = _text(raw, place)
    number = names.get(text, short.get(text.lower()))
    if number is None:
        raise _invalid(place, f"must be one of {', '.join(short)}")
    return number


def _flag(raw: bytes, place: str) -> bool:
    if raw not in {b"true", b"false"}:
        raise _invalid(place, "must be true or false")
    return raw == b"true"


def _integer(raw: bytes, place: str) -> int:
    """A whole number, or one in a string: that is how JSON has the large ones."""
    text = _text(raw, place) if raw.startswith(b'"') else raw.decode()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= NUMBER_BYTES_MAX):
        raise _invalid(place, "must be a whole number")
    return int(text)


def _text_or_number(raw: bytes, place: str) -> str:
    return _text(raw, place) if raw.startswith(b'"') else decimal(raw, place)


def _text(raw: bytes, place: str) -> str:
    return str(_decoded(_texts, raw, place, "a string"))


def _decoded(decoder: "msgspec.json.Decoder[Any]", raw: bytes, place: str, what: str) -> Any:
    try:
        return decoder.decode(raw)
    except UNREADABLE:
        raise _invalid(place, f"must be {what}") from None


def _invalid(field: str, what: str) -> Rejected:
    return Rejected(Reason.INVALID_FIELD, f"{field} {what}", field)
