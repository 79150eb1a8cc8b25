"""The parameters of one request, each read by name; what nobody has read is refused, for it would be disregarded."""

import re
from collections.abc import Mapping
from typing import Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from gateway_http.binance.refusals import (
    EMPTY,
    ILLEGAL_CHARS,
    NOT_REQUIRED,
    TOO_MANY_PARAMETERS,
    UNREAD,
    Refused,
    missing,
    not_valid,
)

T = TypeVar("T")

FIELDS_MAX: Final = 100
NAME_CHARS_SHOWN_MAX: Final = 32
INTEGER_DIGITS_MAX: Final = 19
LIST_ITEMS_MAX: Final = 1_000
INT64_MAX: Final = 2**63 - 1
OF_REQUEST: Final = frozenset({"timestamp", "recvWindow", "signature", "apiKey", "returnRateLimits"})
"""Of the request and its signature, not of what it asks for."""

_DECIMAL: Final = re.compile(r"[0-9]{1,40}(?:\.[0-9]{1,40})?", re.ASCII)
_INTEGER: Final = re.compile(rf"[0-9]{{1,{INTEGER_DIGITS_MAX}}}", re.ASCII)
_CLIENT_ORDER_ID: Final = re.compile(r"[a-zA-Z0-9_.:/-]{1,36}", re.ASCII)
_texts = msgspec.json.Decoder(list[str])


def given(query: bytes, form: bytes) -> dict[str, str]:
    """The parameters of a query and of a form, decoded. Raises Refused for those that are there twice, or no text."""
    found: dict[str, str] = {}
    for part in (query, form):
        try:
            pairs = parse_qsl(part.decode("ascii"), True, errors="strict", max_num_fields=FIELDS_MAX)
        except ValueError:
            raise Refused(ILLEGAL_CHARS, "Illegal characters found in a parameter.") from None
        for name, value in pairs:
            if name in found:
                raise Refused(TOO_MANY_PARAMETERS, "Duplicate values for a parameter detected.")
            found[name] = value
    return found


class Params:
    """Parameters by their names. What is wrong with one is raised as Refused."""

    def __init__(self, given: Mapping[str, str]) -> None:
        """Those that a request has; the ones of its signature are none of ours."""
        self._given = given
        self._read = set(OF_REQUEST)

    def also(self, more: Mapping[str, str]) -> "Params":
        """The same, and what the route itself says."""
        made = Params({**self._given, **more})
        made._read |= self._read
        return made

    def __contains__(self, name: str) -> bool:
        """Whether it is there. Who asks has not read it yet."""
        return name in self._given

    def optional(self, name: str) -> str:
        """A text; "" if it is not there."""
        self._read.add(name)
        value = self._given.get(name, "")
        if not value and name in self._given:
            raise Refused(EMPTY, f"Parameter '{name}' was empty.")
        return value

    def text(self, name: str) -> str:
        """A text that has to be there."""
        if name not in self._given:
            raise missing(name)
        return self.optional(name)

    def client_order_id(self, name: str) -> str:
        """An id that the client chose; "" if there is none."""
        value = self.optional(name)
        if value and _CLIENT_ORDER_ID.fullmatch(value) is None:
            what = f"Illegal characters found in parameter '{name}'; legal range is '^[a-zA-Z0-9-_.:/]{{1,36}}$'."
            raise Refused(ILLEGAL_CHARS, what)
        return value

    def decimal(self, name: str) -> str:
        """A plain decimal number as it was written; "" if it is not there."""
        value = self.optional(name)
        if value and _DECIMAL.fullmatch(value) is None:
            legal = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
            raise Refused(ILLEGAL_CHARS, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")
        return value

    def integer(self, name: str, default: int = 0, least: int = 0, most: int = INT64_MAX) -> int:
        """A whole number between two, or what stands for it when it is not there."""
        value = self.optional(name)
        if not value:
            return default
        if _INTEGER.fullmatch(value) is None:
            what = f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
            raise Refused(ILLEGAL_CHARS, what)
        if not least <= int(value) <= most:
            raise not_valid(name)
        return int(value)

    def limit(self, default: int, most: int) -> int:
        """How many items: what is above the most that there can be counts as that, as at Binance."""
        return min(self.integer("limit", default, 1), most)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A truth value."""
        value = self.optional(name).lower()
        if value not in {"", "true", "false"}:
            raise not_valid(name)
        return value == "true" if value else default

    def choice(self, name: str, words: Mapping[str, T], default: T) -> T:
        """One of several words, and what it stands for."""
        value = self.optional(name)
        if not value:
            return default
        if value not in words:
            raise not_valid(name)
        return words[value]

    def texts(self, name: str) -> list[str]:
        """A JSON list of texts; empty if it is not there."""
        value = self.optional(name)
        if not value:
            return []
        try:
            found = _texts.decode(value)
        except msgspec.MsgspecError:
            raise not_valid(name) from None
        if not 0 < len(found) <= LIST_ITEMS_MAX:
            raise not_valid(name)
        return found

    def refuse(self, name: str, why: str) -> None:
        """Raises Refused if it is there: with what else was asked for it makes no sense, or we do not have it."""
        if name in self._given:
            raise Refused(NOT_REQUIRED, f"Parameter '{name}' sent when not required: {why}.")

    def done(self) -> None:
        """Raises Refused for parameters that nobody has read."""
        if left := self._given.keys() - self._read:
            shown = ", ".join(sorted(name[:NAME_CHARS_SHOWN_MAX] for name in left if name.isascii()))
            read = len(self._given) - len(left)
            what = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(self._given)}'"
            raise Refused(UNREAD, f"{what}: {shown}.")
