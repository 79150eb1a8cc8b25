"""How protobuf writes messages, as far as we write and read the commonest ones by hand. Pure, and compiled.

A message is its fields in order, each a tag (its number and kind) and a value; what is zero or empty is left out.
"""

from typing import Final

INT64_MAX: Final = (1 << 63) - 1

_LOW: Final = 1 << 14
"""Two bytes of a varint hold less than this."""
SHORT: Final = [bytes([n]) if n < 0x80 else bytes([n & 0x7F | 0x80, n >> 7]) for n in range(_LOW)]
"""Varints of at most two bytes."""
MORE: Final = [bytes([n & 0x7F | 0x80, n >> 7 | 0x80]) for n in range(_LOW)]
"""Two bytes of a varint that goes on."""


def varint(number: int) -> bytes:
    """A number from 0 on, as protobuf writes it."""
    assert number >= 0, f"{number} is no count"
    if number < _LOW:
        return SHORT[number]
    rest = number >> 14
    if rest < _LOW:
        return MORE[number & (_LOW - 1)] + SHORT[rest]
    parts = [MORE[number & (_LOW - 1)]]
    while rest >= _LOW:
        parts.append(MORE[rest & (_LOW - 1)])
        rest >>= 14
    parts.append(SHORT[rest])
    return b"".join(parts)


def read(data: bytes, place: int) -> tuple[int, int]:
    """The varint there, and the place behind it. Raises IndexError: the data ends before it does."""
    value, shift = 0, 0
    while (byte := data[place]) >= 0x80:
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | byte << shift, place + 1


def fields(data: bytes, place: int, end: int, numbers: list[int], texts: list[bytes]) -> bool:
    """Reads a message's numbers and texts, each to the place of its field's number; whether that is all there is."""
    most = len(numbers)
    while place < end:
        tag, place = read(data, place)
        value, place = read(data, place)
        number = tag >> 3
        if number >= most:
            return False
        kind = tag & 0x07
        if kind == 2:
            texts[number] = data[place : place + value]
            place += value
        elif kind or value > INT64_MAX:
            return False
        else:
            numbers[number] = value
    return place == end


def element(body: bytes) -> bytes:
    """A message as an element of a repeated field 1: batches of commands and of events are nothing else."""
    return b"\x0a" + varint(len(body)) + body


def element_at(batch: bytes, start: int) -> tuple[int, int]:
    """Of the element that begins there: where its message begins, and the place behind it.

    Raises:
        ValueError, IndexError: there is no whole element.
    """
    length, place = read(batch, start + 1)
    behind = place + length
    if batch[start] != 0x0A or behind > len(batch):
        raise ValueError(f"no whole element at byte {start} of {len(batch)}")
    return place, behind


def elements(batch: bytes) -> list[bytes]:
    """A batch, cut into its elements.

    Raises:
        ValueError, IndexError: it is not made of whole elements, and of nothing else.
    """
    found = []
    start, end = 0, len(batch)
    while start < end:
        _, behind = element_at(batch, start)
        found.append(batch[start:behind])
        start = behind
    return found


def bodies(message: bytes, number: int) -> list[bytes] | None:
    """The elements of a repeated field of messages, without tag and length, of a well-formed message.

    None: there is a group in it, which protobuf still passes over, but we do not.
    """
    found = []
    place, end, wanted = 0, len(message), number << 3 | 2
    while place < end:
        tag, place = read(message, place)
        kind = tag & 0x07
        if kind == 0:
            _, place = read(message, place)
        elif kind == 1:
            place += 8
        elif kind == 5:
            place += 4
        elif kind != 2:
            return None
        else:
            length, place = read(message, place)
            if tag == wanted:
                found.append(message[place : place + length])
            place += length
    return found
