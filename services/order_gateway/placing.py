"""Orders on their way to the book that may come to rest there, by account and market. Pure."""


class Placing:
    """Counts them."""

    def __init__(self) -> None:
        """None yet."""
        self._counts: dict[int, dict[int, int]] = {}

    def count(self, account_id: int, market_id: int, change: int) -> None:
        """So many more (or fewer) are on their way."""
        mine = self._counts.setdefault(account_id, {})
        mine[market_id] = count = mine.get(market_id, 0) + change
        if not count:
            del mine[market_id]
            if not mine:
                del self._counts[account_id]

    def of(self, account_id: int) -> int:
        """How many an account has on their way."""
        return sum(self._counts.get(account_id, {}).values())

    def within(self, account_id: int, market_id: int) -> int:
        """How many it has on their way to one market."""
        return self._counts.get(account_id, {}).get(market_id, 0)
