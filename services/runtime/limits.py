"""Limits as settings, and as callers are told of them: the same names over REST and gRPC."""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Annotated, Final

from pydantic import AfterValidator

from services.buckets import NS_PER_SECOND, Buckets, Rate, Verdict
from services.errors import Reason, Rejected
from services.runtime.metadata import RETRY_KEY

LIMIT_KEY: Final = "x-ratelimit-limit"
REMAINING_KEY: Final = "x-ratelimit-remaining"
RESET_KEY: Final = "x-ratelimit-reset"
GENEROUS: Final = "100000/200000"
"""The default: more than one process can serve, so that nobody on a machine of his own is held back."""
IPS_CACHED_MAX: Final = 10_000
NETWORK_BITS: Final = 64
"""Of an IPv6 address: what is beyond them, whoever has a network chooses as he likes."""

_RATE = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", re.ASCII)


def rate_of(text: str) -> Rate:
    """A rate as settings have it: "50/100" is 50 a second, and 100 at once. Raises ValueError."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f'must be "RATE/BURST", as "50/100" (a second / at once), not "{text}"')
    return Rate(int(match[1]), int(match[2]))


def _checked(text: str) -> str:
    rate_of(text)
    return text


RateText = Annotated[str, AfterValidator(_checked)]
"""A setting of the form "RATE/BURST", checked; still a str."""


@lru_cache(maxsize=IPS_CACHED_MAX)
def of_ip(peer: str) -> str:
    """Whom an address counts for: itself, or for IPv6 its network."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address.packed, NETWORK_BITS), strict=False))


def seconds(nanoseconds: int) -> int:
    """Whole seconds, rounded up."""
    return -(-nanoseconds // NS_PER_SECOND)


def told(verdict: Verdict) -> dict[str, str]:
    """What callers are told of a bucket: its size, what remains, in how many seconds it is full, when to come again."""
    words = {
        LIMIT_KEY: str(verdict.limit),
        REMAINING_KEY: str(verdict.remaining),
        RESET_KEY: str(seconds(verdict.reset_ns)),
    }
    return words if verdict.taken else words | {RETRY_KEY: str(seconds(verdict.retry_ns))}


class Limit:
    """Buckets that refuse.

    Attributes:
        rate: of each bucket.

    Args:
        what: as in "orders of this account", for the refusal.
        rate: of each bucket.
        clock: nanoseconds that never go back.
    """

    def __init__(self, what: str, rate: str, clock: Callable[[], int]) -> None:
        self._what, self._clock = what, clock
        self.rate = rate_of(rate)
        self._buckets = Buckets(self.rate)

    def take(self, key: str, words: dict[str, str], count: int = 1) -> None:
        """So many more of `key`, all or none; `words` takes what the caller is told.

        Raises:
            Rejected: RATE_LIMITED; TOO_LARGE for more than may ever come at once, which counts as one.
        """
        too_large = count > self.rate.burst
        verdict = self._buckets.hit(key, self._clock(), 1 if too_large else count)
        words.update(told(verdict))
        if not verdict.taken:
            wait_seconds = seconds(verdict.retry_ns)
            what = f"too many {self._what}; wait {wait_seconds} s"
            raise Rejected(Reason.RATE_LIMITED, what, retry_after_seconds=wait_seconds)
        if too_large:
            raise Rejected(Reason.TOO_LARGE, f"{count} {self._what} at once, at most {self.rate.burst} may come")


class Open:
    """What is open at once, of everybody and of each address.

    Args:
        what: as in "sockets", for the refusal.
        total_max: of everybody.
        per_ip_max: of one address, an IPv6 one counting for its network.
    """

    def __init__(self, what: str, total_max: int, per_ip_max: int) -> None:
        self._what, self._total_max, self._per_ip_max = what, total_max, per_ip_max
        self._by_ip: Counter[str] = Counter()
        self._total = 0

    @contextmanager
    def one(self, peer: str) -> Iterator[None]:
        """One more of an address, until the block ends.

        Raises:
            Rejected: OVERLOADED.
        """
        address = of_ip(peer)
        if self._total >= self._total_max:
            raise Rejected(Reason.OVERLOADED, f"{self._total_max} {self._what} are open already")
        if self._by_ip[address] >= self._per_ip_max:
            raise Rejected(Reason.OVERLOADED, f"{self._per_ip_max} {self._what} are open from this address already")
        self._by_ip[address] += 1
        self._total += 1
        try:
            yield
        finally:
            self._total -= 1
            self._by_ip[address] -= 1
            if not self._by_ip[address]:
                del self._by_ip[address]
