"""What has been accepted once and may not come again while it is still fresh."""

import heapq

from services.errors import Reason, Rejected

REMEMBERED_PER_KEY_MAX = 100_000
"""Signed requests of one key within their windows: 20,000 a second with the default window."""


class Replays:
    """Remembers exactly as long as a request could be accepted again.

    A clock that is set back does not open a second life to what was forgotten: see `first`.
    """

    def __init__(self, per_key_max: int = REMEMBERED_PER_KEY_MAX) -> None:
        self._per_key_max = per_key_max
        self._once: dict[str, set[bytes]] = {}
        self._ends: list[tuple[int, str, bytes]] = []
        self._forgotten_before_ms = 0

    def __len__(self) -> int:
        return len(self._ends)

    def first(self, key_id: str, once: bytes, fresh_through_ms: int, now_ms: int) -> bool:
        """Whether this comes for the first time; from now on it no longer does.

        Args:
            key_id: whose.
            once: a nonce, or a hash of what was signed.
            fresh_through_ms: until when it must be remembered. False as well if such things have been forgotten.
            now_ms: since the epoch.

        Raises:
            Rejected: OVERLOADED: the key sends more than can be remembered.
        """
        self._forget(now_ms)
        if fresh_through_ms < self._forgotten_before_ms:
            return False
        known = self._once.setdefault(key_id, set())
        if once in known:
            return False
        if len(known) >= self._per_key_max:
            raise Rejected(Reason.OVERLOADED, "too many signed requests of one key; try again in a few seconds")
        known.add(once)
        heapq.heappush(self._ends, (fresh_through_ms, key_id, once))
        return True

    def _forget(self, now_ms: int) -> None:
        ends = self._ends
        while ends and ends[0][0] < now_ms:
            _, key_id, once = heapq.heappop(ends)
            known = self._once[key_id]
            known.discard(once)
            if not known:
                del self._once[key_id]
        self._forgotten_before_ms = max(self._forgotten_before_ms, now_ms)
