"""What accounts have asked to withdraw within the last 24 hours, of assets that have rules. Pure."""

from typing import Any, Final

DAY_NS: Final = 24 * 3600 * 10**9
"""What was asked for at a time counts before that time and a day; at it, it does not count any more."""


class Withdrawn:
    """Sums that forget by themselves."""

    def __init__(self) -> None:
        """Nothing was asked for."""
        self._asked: dict[int, tuple[int, int, int, int]] = {}
        """By withdrawal_id, in the order of time: time_ns, account_id, asset_id, amount."""
        self._sums: dict[tuple[int, int], int] = {}

    def amount(self, account_id: int, asset_id: int, time_ns: int) -> int:
        """What the account has asked for of the asset in the 24 hours before that time, base units."""
        self._forget(time_ns)
        return self._sums.get((account_id, asset_id), 0)

    def add(self, withdrawal_id: int, time_ns: int, account_id: int, asset_id: int, amount: int) -> None:
        """A withdrawal is asked for, at a time that is not before that of the last one."""
        self._forget(time_ns)
        self._asked[withdrawal_id] = time_ns, account_id, asset_id, amount
        self._sums[account_id, asset_id] = self._sums.get((account_id, asset_id), 0) + amount

    def cancel(self, withdrawal_id: int) -> None:
        """A withdrawal was canceled: it does not count."""
        asked = self._asked.pop(withdrawal_id, None)
        if asked is not None:
            self._subtract(*asked[1:])

    def rows(self, time_ns: int) -> list[list[Any]]:
        """All that counts at that time, for a snapshot."""
        self._forget(time_ns)
        return [[withdrawal_id, *asked] for withdrawal_id, asked in self._asked.items()]

    def _forget(self, time_ns: int) -> None:
        while self._asked:
            withdrawal_id, asked = next(iter(self._asked.items()))
            if asked[0] + DAY_NS > time_ns:
                return
            del self._asked[withdrawal_id]
            self._subtract(*asked[1:])

    def _subtract(self, account_id: int, asset_id: int, amount: int) -> None:
        left = self._sums[account_id, asset_id] - amount
        if left:
            self._sums[account_id, asset_id] = left
        else:
            del self._sums[account_id, asset_id]
