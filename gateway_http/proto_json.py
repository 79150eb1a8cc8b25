"""Messages as JSON, as protobuf's own mapping has them with the proto's names, for what is sent often and is long.

MessageToDict asks reflection about each field of each message, on the loop that serves everybody; here it is asked once
for each kind of message.
"""

import asyncio
import base64
from collections.abc import Callable, Iterator, MutableSequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from gateway_http.turns import STEPS_A_SLICE, Turns

Converter = Callable[[Any], Any]
Plan = tuple[tuple[str, bool, Converter | None], ...]
"""By field: its name, whether it tells if it is set, and what makes JSON of its value; None: it is JSON."""

EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - its text has no zone: Z is written behind it
SECONDS_CACHED_MAX: Final = 4_096
PART_ITEMS_MAX: Final = 250
"""Of what is made into JSON in one go: a millisecond or two, which is a slice of its own."""
PART_BYTES_MAX: Final = 4 * 1024
"""A serialized message up to this is no matter."""

_AS_IT_IS: Final = frozenset(
    {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32}
)
_AS_TEXT: Final = frozenset({FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64})
"""A double, which is what JSON's readers make of a number, does not hold them."""

_plans: dict[type[Message], Plan] = {}
_making: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""Held while a long message is made, of each loop."""


def json_value(message: Message) -> dict[str, Any]:
    """A message as what msgspec encodes: fields that are set, by their names in the proto.

    Raises:
        TypeError: a field of a type that none of our messages has (floating point, maps).
    """
    plan = _plan_of(message)
    found: dict[str, Any] = {}
    for name, tells, convert in plan:
        value = getattr(message, name)
        if message.HasField(name) if tells else value:
            found[name] = value if convert is None else convert(value)
    return found


async def long_json(message: Message, turns: Turns) -> bytes:
    """A message as JSON: a long one by parts, in turn with all else that is done for readers.

    Of long ones one is made at a time, however many are wanted.
    """
    if message.ByteSize() <= PART_BYTES_MAX:
        return msgspec.json.encode(json_value(message))
    text = bytearray()
    async with _making.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        for part in json_parts(message):
            text += part
            await turns.turn(STEPS_A_SLICE)
    return bytes(text)


def json_parts(message: Message) -> Iterator[bytes]:
    """The JSON of json_value, cut so that no part has more than PART_ITEMS_MAX of a message's items."""
    comma = b"{"
    for name, tells, convert in _plan_of(message):
        value = getattr(message, name)
        if not (message.HasField(name) if tells else value):
            continue
        yield comma + b'"' + name.encode() + b'":'
        comma = b","
        if convert is json_value and value.ByteSize() > PART_BYTES_MAX:
            yield from json_parts(value)
        elif convert is not None and isinstance(value, MutableSequence):
            yield from _list_parts(value, convert)
        else:
            yield msgspec.json.encode(value if convert is None else convert(value))
    yield b"{}" if comma == b"{" else b"}"


def _list_parts(items: MutableSequence[Any], convert: Converter) -> Iterator[bytes]:
    comma = b"["
    for first in range(0, len(items), PART_ITEMS_MAX):
        yield comma + msgspec.json.encode(convert(items[first : first + PART_ITEMS_MAX]))[1:-1]
        comma = b","
    yield b"]"


def _plan_of(message: Message) -> Plan:
    plan = _plans.get(type(message))
    if plan is None:
        plan = _plans[type(message)] = _plan(message)
    return plan


def _plan(message: Message) -> Plan:
    declared: Any = message.DESCRIPTOR.fields  # the stubs know two kinds of them
    fields = sorted(declared, key=lambda field: field.number)
    return tuple((field.name, field.has_presence, _converter(field)) for field in fields)


def _converter(field: FieldDescriptor) -> Converter | None:
    one = _of_one(field)
    if not field.is_repeated:
        return one
    return list if one is None else lambda values: [one(value) for value in values]


def _of_one(field: FieldDescriptor) -> Converter | None:
    if field.type in _AS_IT_IS:
        return None
    if field.type in _AS_TEXT:
        return str
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    if field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return lambda number: names.get(number, number)
    if field.message_type is not None and not field.message_type.GetOptions().map_entry:
        is_time = field.message_type.full_name == Timestamp.DESCRIPTOR.full_name
        return _time if is_time else json_value
    raise TypeError(f"{field.full_name} is of a type without a place in our JSON")


def _time(stamp: Timestamp) -> str:
    """RFC 3339 in UTC, with no, three, six or nine digits after the second."""
    whole, nanos = _whole(stamp.seconds), stamp.nanos
    if not nanos:
        return f"{whole}Z"
    digits = f"{nanos:09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{whole}.{digits}Z"


@lru_cache(maxsize=SECONDS_CACHED_MAX)
def _whole(seconds: int) -> str:
    """Seconds since the epoch without their fraction: what happens together is told together."""
    return (EPOCH + timedelta(seconds=seconds)).isoformat()
