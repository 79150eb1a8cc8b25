"""How often something came of each, in a time that begins with the first of it."""

from collections import OrderedDict
from collections.abc import Callable

from services.errors import Reason, Rejected

KEYS_MAX = 100_000
"""Remembered at once; the one that began first is forgotten for a new one."""


class Tally:
    """Counts by key, from the first one on for a window; then anew.

    Args:
        clock: milliseconds, from anywhere, never back.
        window_ms: how long a count lasts.
        most: that may come of one key in a window.
    """

    def __init__(self, clock: Callable[[], int], window_ms: int, most: int) -> None:
        self._clock, self._window_ms, self._most = clock, window_ms, most
        self._counts: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """By key, the oldest window first: when it began, how many came."""

    def __len__(self) -> int:
        return len(self._counts)

    def wait_seconds(self, key: str) -> int:
        """Until one more may come, rounded up; 0: it may now."""
        began, count = self._counts.get(key, (0, 0))
        wait_ms = began + self._window_ms - self._clock()
        return -(-wait_ms // 1_000) if count >= self._most and wait_ms > 0 else 0

    def check(self, key: str, what: str) -> None:
        """Refuses one more.

        Args:
            what: as in "sign-ins of this wallet".

        Raises:
            Rejected: OVERLOADED, with the seconds to wait in its message.
        """
        seconds = self.wait_seconds(key)
        if seconds:
            raise Rejected(Reason.OVERLOADED, f"too many {what}; wait {seconds} s", retry_after_seconds=seconds)

    def note(self, key: str) -> None:
        """One more has come."""
        now = self._clock()
        began, count = self._counts.get(key, (now, 0))
        if now >= began + self._window_ms:
            del self._counts[key]
            began, count = now, 0
        self._counts[key] = (began, count + 1)
        if len(self._counts) > KEYS_MAX:
            self._counts.popitem(last=False)

    def take_back(self, key: str) -> None:
        """One that was noted does not count after all."""
        if key in self._counts:
            began, count = self._counts[key]
            self._counts[key] = (began, max(count - 1, 0))
