"""Bytes that are made when the first one asks for them, once for everybody. Pure."""

from collections.abc import Callable


class Once:
    """A message that nobody may ever read: serializing it costs more than all else that is done with it."""

    __slots__ = ("_data", "_make")

    def __init__(self, make: Callable[[], bytes]) -> None:
        """`make` is called once at most, and forgotten with all that it holds."""
        self._make: Callable[[], bytes] | None = make
        self._data = b""

    @property
    def data(self) -> bytes:
        """The bytes."""
        if self._make is not None:
            self._data, self._make = self._make(), None
        return self._data
