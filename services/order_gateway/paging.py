"""Pages of a list, newest first, and the opaque tokens that lead from one to the next. One for all lists. Pure.

A token holds where its page ended and a digest of what was asked: with other filters it is refused, so a list cannot
silently leave out or repeat what lies between two questions.
"""

import base64
import hashlib
from dataclasses import dataclass, replace
from typing import Self

from services.errors import Reason, Rejected
from services.units import INT64_MAX

PAGE_DEFAULT = 100
PAGE_MAX = 500
NS_PER_SECOND = 10**9
TOKEN_CHARS_MAX = 64
VERSION = b"\x02"
DIGEST_BYTES = 8
NUMBER_BYTES = 8
TOKEN_BYTES = len(VERSION) + DIGEST_BYTES + 2 * NUMBER_BYTES

Position = tuple[int, int]
"""Where an item stands in its list: a journal_sequence (or another number that grows), and a tie-breaker within it."""
NEWEST: Position = (INT64_MAX, INT64_MAX)
"""Before everything: where a list begins."""
OLDEST: Position = (0, 0)
"""Where a list begins whose numbers grow."""


@dataclass(frozen=True, slots=True)
class Span:
    """Journal times that a list is cut to, in nanoseconds: from `start_ns` until before `end_ns`. None: open."""

    start_ns: int | None = None
    end_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What one page of a list is to hold.

    Attributes:
        size: at most so many items.
        after: items older than this; for a list that grows, its numbers count from the other end.
        digest: of what was asked.
    """

    size: int
    after: Position
    digest: bytes

    @classmethod
    def of(cls, size: int, token: str, *filters: object, first: Position = NEWEST) -> Self:
        """Reads a request's page_size and page_token.

        Args:
            size: 0 for PAGE_DEFAULT.
            token: "" for the first page.
            filters: the list's name and all that narrows it, each with an exact `str`.
            first: where the list begins.

        Raises:
            Rejected: INVALID_FIELD page_size; INVALID_FIELD page_token for one that this question did not bring.
        """
        if not 0 <= size <= PAGE_MAX:
            raise Rejected(
                Reason.INVALID_FIELD,
                f"page_size must be 1 to {PAGE_MAX}, or 0 for {PAGE_DEFAULT}, not {size}",
                "page_size",
            )
        digest = hashlib.sha256("\0".join(str(part) for part in filters).encode()).digest()[:DIGEST_BYTES]
        page = cls(size or PAGE_DEFAULT, first, digest)
        return replace(page, after=page._position(token)) if token else page

    @property
    def limit(self) -> int:
        """How many items to look for: one more than the page holds tells whether another follows."""
        return self.size + 1

    def token(self, last: Position) -> str:
        """Leads to the page behind an item."""
        numbers = b"".join(number.to_bytes(NUMBER_BYTES, "big") for number in last)
        return base64.urlsafe_b64encode(VERSION + self.digest + numbers).decode().rstrip("=")

    def next_token(self, found: int, last: Position) -> str:
        """The token of the answer: "" if no more than a page was found.

        Args:
            found: how many items there were within `limit`.
            last: the position of the last one that the page holds.
        """
        return self.token(last) if found > self.size else ""

    def _position(self, token: str) -> Position:
        data = b""
        if len(token) <= TOKEN_CHARS_MAX and token.isascii():
            try:
                data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            except ValueError:
                data = b""
        if len(data) != TOKEN_BYTES or data[:1] != VERSION:
            raise Rejected(Reason.INVALID_FIELD, "page_token is not one of ours", "page_token")
        if data[1 : 1 + DIGEST_BYTES] != self.digest:
            raise Rejected(Reason.INVALID_FIELD, "page_token belongs to a request with other filters", "page_token")
        numbers = data[1 + DIGEST_BYTES :]
        sequence, tie = (int.from_bytes(part, "big") for part in (numbers[:NUMBER_BYTES], numbers[NUMBER_BYTES:]))
        if max(sequence, tie) > INT64_MAX or self.token((sequence, tie)) != token:
            raise Rejected(Reason.INVALID_FIELD, "page_token is not one of ours", "page_token")
        return sequence, tie


def instant(seconds: int, nanos: int, field: str) -> int:
    """A request's time in nanoseconds since the Unix epoch, held to what a journal's time can be.

    Raises:
        Rejected: INVALID_FIELD with the field, for nanoseconds beyond a second.
    """
    if not 0 <= nanos < NS_PER_SECOND:
        raise Rejected(Reason.INVALID_FIELD, f"{field} must have 0 to {NS_PER_SECOND - 1} nanoseconds", field)
    return min(max(seconds * NS_PER_SECOND + nanos, 0), INT64_MAX)
