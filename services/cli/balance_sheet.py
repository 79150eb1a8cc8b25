"""A balance sheet of several sides, and where they differ."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from services.units import (
    ADJUSTMENTS_ACCOUNT,
    FAUCET_ACCOUNT,
    FEES_ACCOUNT,
    INSURANCE_ACCOUNT,
    OUTSIDE_ACCOUNT,
    Asset,
)

EXIT_EQUAL, EXIT_DIFFERENT, EXIT_UNREADABLE = 0, 1, 2
CLASSES = {
    FEES_ACCOUNT: "fees",
    FAUCET_ACCOUNT: "faucet",
    INSURANCE_ACCOUNT: "insurance",
    ADJUSTMENTS_ACCOUNT: "adjustments",
    OUTSIDE_ACCOUNT: "outside",
}
USERS = "users"
DIFFERENCES_SHOWN_MAX = 50
TABLE_COLUMNS_MAX = 1_000
"""Characters: far more than any number has digits."""

Amounts = Mapping[Any, int]
"""Base units by (account_id, or the address of a wallet, and asset_id)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same amounts as several sides have them; equal sides are what is hoped for.

    Attributes:
        title: of the table.
        sides: by name.
    """

    title: str
    sides: Mapping[str, Amounts]

    def differences(self, assets: Mapping[int, Asset]) -> list[str]:
        """One line for each account and asset, and pair of sides, that differ."""
        found = []
        for key in sorted({key for side in self.sides.values() for key in side}, key=str):
            for (name, one), (other_name, other) in pairwise(self.sides.items()):
                amounts = one.get(key, 0), other.get(key, 0)
                if amounts[0] != amounts[1]:
                    asset = assets[key[1]]
                    found.append(
                        f"{self.title}, {_who(key[0])}, {asset.symbol}: {name} {asset.format(amounts[0])}, "
                        f"{other_name} {asset.format(amounts[1])}, difference {asset.format(amounts[1] - amounts[0])}"
                    )
        return found

    def lines(self, assets: Mapping[int, Asset]) -> Iterator[tuple[str, str, dict[str, str], str]]:
        """By asset and class of account: what each side has, and by how much the farthest differs from the first."""
        sums = {name: _classed(side) for name, side in self.sides.items()}
        for asset_id, class_name in sorted({key for side in sums.values() for key in side}):
            asset = assets[asset_id]
            amounts = {name: side.get((asset_id, class_name), 0) for name, side in sums.items()}
            first = next(iter(amounts.values()))
            off = max((amount - first for amount in amounts.values()), key=abs)
            shown = {name: asset.format(amount) for name, amount in amounts.items()}
            yield asset.symbol, class_name, shown, asset.format(off) if off else ""

    def table(self, assets: Mapping[int, Asset]) -> Table:
        """The lines, for people."""
        numbers = [Column(name, no_wrap=True) for name in [*self.sides, "difference"]]
        table = Table("asset", "accounts", *numbers, title=self.title, title_justify="left")
        for symbol, class_name, amounts, off in self.lines(assets):
            table.add_row(symbol, class_name, *amounts.values(), off or "0", style="red" if off else None)
        return table


@dataclass(slots=True)
class Sheet:
    """All comparisons of an audit, and whatever else was found wrong."""

    assets: Mapping[int, Asset]
    comparisons: list[Comparison] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What insurance had to answer for: no difference, but to be known."""

    def differences(self) -> list[str]:
        """All that is wrong, a line each."""
        return [*self.complaints, *(line for part in self.comparisons for line in part.differences(self.assets))]

    def show(self, console: Console) -> None:
        """Prints everything for people."""
        for comparison in self.comparisons:
            table = comparison.table(self.assets)
            width = console.measure(table, options=console.options.update(max_width=TABLE_COLUMNS_MAX)).maximum
            console.print(table, width=max(width, console.width), crop=False, no_wrap=True)  # numbers stay whole
        wrong = self.differences()
        for line in wrong[:DIFFERENCES_SHOWN_MAX]:
            console.print(line, style="red", soft_wrap=True)
        for line in self.notes[-DIFFERENCES_SHOWN_MAX:]:
            console.print(f"insurance: {line}", style="yellow", soft_wrap=True)
        console.print(f"{len(wrong)} differences")

    def as_json(self) -> str:
        """Everything for programs: one object, amounts as decimal strings in whole units."""
        comparisons = []
        for part in self.comparisons:
            keys = ("asset", "accounts", "amounts", "difference")
            lines = [dict(zip(keys, (*line[:3], line[3] or "0"), strict=True)) for line in part.lines(self.assets)]
            comparisons.append({"title": part.title, "lines": lines})
        return json.dumps({"comparisons": comparisons, "differences": self.differences(), "insurance": self.notes})


def _classed(side: Amounts) -> Mapping[tuple[int, str], int]:
    sums: Counter[tuple[int, str]] = Counter()
    for (who, asset_id), amount in side.items():
        sums[asset_id, _class(who)] += amount
    return sums


def _class(who: int | str) -> str:
    return "claimable" if isinstance(who, str) else CLASSES.get(who, USERS)


def _who(who: int | str) -> str:
    return who if isinstance(who, str) else f"account {who}" + (f" ({CLASSES[who]})" if who in CLASSES else "")


def nonzero(amounts: Amounts) -> Amounts:
    """Without what is nothing."""
    return {key: amount for key, amount in amounts.items() if amount}
