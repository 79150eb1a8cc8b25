"""What postings not yet final on chain have added to each balance. Pure.

Kept as runs of settlement sequences with their net effect: one run for each entry, so that any point of finality is
met exactly. Should the chain be far behind, what comes then is kept RUN_ENTRIES at a time: memory stays small, and an
amount counts as unsettled until the last entry of its run is final.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

RUNS_MAX = 20_000
"""Runs of a single entry; some 20 MB."""
RUN_ENTRIES = 1_000

Key = tuple[int, int]
"""account_id, asset_id."""


@dataclass(slots=True)
class _Run:
    """Entries up to `last`; the first of them was journaled as `journal_sequence`."""

    last: int
    journal_sequence: int
    nets: dict[Key, int] = field(default_factory=dict)


class Unsettled:
    """The postings behind finality, in the order of their settlement sequences."""

    def __init__(self) -> None:
        self._runs: deque[_Run] = deque()

    def add(self, settlement_sequence: int, journal_sequence: int, key: Key, amount: int) -> None:
        """Takes a posting. Sequences never run back."""
        run = self._runs[-1] if self._runs else None
        if run is None or not self._joins(run, settlement_sequence):
            run = _Run(settlement_sequence, journal_sequence)
            self._runs.append(run)
        run.last = settlement_sequence
        run.nets[key] = run.nets.get(key, 0) + amount

    def finalize(self, through: int) -> Iterator[tuple[Key, int]]:
        """Yields what is settled now: entries up to `through`, as far as their runs end there."""
        while self._runs and self._runs[0].last <= through:
            yield from self._runs.popleft().nets.items()

    def since(self, journal_sequence: int) -> int:
        """The event from which on there are unsettled postings; the one after `journal_sequence` if there are none."""
        return self._runs[0].journal_sequence if self._runs else journal_sequence + 1

    def nets(self) -> Iterator[tuple[Key, int]]:
        """All that is unsettled at the time of the call, in parts, however long the reading takes.

        Only the last run still grows, so that one is copied; a run that is final by now is read all the same.
        """
        runs = [run.nets for run in self._runs]
        if runs:
            runs[-1] = dict(runs[-1])
        return chain.from_iterable(nets.items() for nets in runs)

    def sums(self) -> dict[Key, int]:
        """All that is unsettled, counted afresh."""
        sums: dict[Key, int] = {}
        for key, amount in self.nets():
            sums[key] = sums.get(key, 0) + amount
        return sums

    def _joins(self, run: _Run, settlement_sequence: int) -> bool:
        assert settlement_sequence >= run.last, f"entry {settlement_sequence} after {run.last}"
        if settlement_sequence == run.last:
            return True
        return len(self._runs) >= RUNS_MAX and settlement_sequence // RUN_ENTRIES == run.last // RUN_ENTRIES
