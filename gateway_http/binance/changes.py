"""What has changed of a book since it was told last: several changes as one, by Binance's first and last update id."""

from collections.abc import Iterable

from clearbook.v1 import book_service_pb2 as book_pb


class Changes:
    """Changes that wait to be told together.

    Attributes:
        first: the number of the first change that is in it (Binance's U).
        last: the number of the last one (u).
    """

    def __init__(self, sequence: int) -> None:
        """Nothing has changed yet since the change of this number."""
        self.first, self.last = 0, sequence
        self._bids: dict[str, str] = {}
        self._asks: dict[str, str] = {}

    def add(self, message: book_pb.StreamOrderBookResponse) -> None:
        """The next message. A snapshot says that some were missed: readers see it by its number.

        Where its own would seem to follow, to whoever is at any number until now, the next change's shows it.
        """
        if message.HasField("snapshot"):
            sequence = message.snapshot.sequence
            self._bids, self._asks = {}, {}
            self.first = 0 if sequence <= self.last + 1 else sequence
            self.last = sequence
            return
        delta = message.delta
        if not self.waits:
            self.first = delta.previous_sequence + 1
        self.last = delta.sequence
        _set(self._bids, delta.bids)
        _set(self._asks, delta.asks)

    @property
    def waits(self) -> bool:
        """Whether there is something to tell."""
        return self.first > 0

    def take(self) -> tuple[int, int, dict[str, str], dict[str, str]]:
        """First and last number, and what is bid and asked now at the prices that changed; then nothing waits."""
        taken = self.first, self.last, self._bids, self._asks
        self.first, self._bids, self._asks = 0, {}, {}
        return taken


def _set(levels: dict[str, str], changed: Iterable[book_pb.Level]) -> None:
    levels.update((level.price, level.quantity) for level in changed)
