"""A journal row in the making: commands are applied one by one, at one time, and encoded at once. Compiled."""

from collections import deque
from collections.abc import Iterable
from typing import TypeVar, final

from services.book import encoding, wire
from services.book.engine import Engine
from services.book.journal import Row
from services.book.model import Command, Event

ROW_COMMANDS_MAX = 1_024
ROW_BYTES_MAX = 512 * 1024
"""Of events; one command more may carry a row beyond it, by as much as its own trades take."""


Owner = TypeVar("Owner")


@final
class Batch:
    """What one commit will hold.

    Args:
        engine: applies the commands.
        time_ns: when, for all of them; not before the engine's time.
    """

    def __init__(self, engine: Engine, time_ns: int) -> None:
        self._engine = engine
        self._time_ns = time_ns
        self._first_sequence = engine.journal_sequence + 1
        self._commands: list[bytes] = []
        self._events: list[bytes] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._commands)

    @property
    def full(self) -> bool:
        """Whether it should take no more."""
        return len(self._commands) >= ROW_COMMANDS_MAX or self._bytes >= ROW_BYTES_MAX

    def add(self, command: Command, encoded: bytes) -> Event:
        """Applies a command.

        Args:
            command: what is asked.
            encoded: the same as an element of a CommandBatch.
        """
        event = self._engine.apply(command, self._time_ns)
        element = encoding.event(event) if encoding.BY_HAND else None
        if element is None:
            element = wire.encode_event(event)
        self._commands.append(encoded)
        self._events.append(element)
        self._bytes += len(element)
        return event

    def fill(self, waiting: deque[tuple[Command, bytes, Owner]], through_sequence: int) -> list[tuple[Owner, Event]]:
        """Applies the first of those that wait, each with whose it is, until it is full; what became of them.

        None is applied once the engine is at `through_sequence`.
        """
        done = list[tuple[Owner, Event]]()
        engine = self._engine
        while waiting and not self.full and engine.journal_sequence < through_sequence:
            command, encoded, owner = waiting.popleft()
            event = self.add(command, encoded)
            done.append((owner, event))
        return done

    def add_all(self, commands: Iterable[Command]) -> list[Event]:
        """Applies commands that are not encoded yet."""
        return [self.add(command, wire.encode_command(command)) for command in commands]

    def events(self) -> bytes:
        """A serialized EventBatch."""
        return b"".join(self._events)

    def seal(self, previous_hash: bytes) -> Row:
        """The row, to be appended after the one with `previous_hash`."""
        assert self._commands, "a row holds at least one command"
        engine = self._engine
        row = Row(
            shard=engine.shard,
            first_sequence=self._first_sequence,
            last_sequence=engine.journal_sequence,
            epoch=engine.epoch,
            time_ns=self._time_ns,
            commands=b"".join(self._commands),
            events=self.events(),
            last_settlement_sequence=engine.settlement_sequence,
            previous_hash=previous_hash,
            hash=b"",
        )
        return row.hashed()
