"""What each account traded, by day of journal time, counted in one asset: what fee tiers follow. Pure; of the fold.

A trade counts for both of its sides. In a market quoted in the asset it counts its quote amount; where the base is the
asset, its base amount. In any other market its base amount is valued at the last price of the market BASE-<asset>,
rounded down; while there is no such market, or no trade in it, the trade counts nothing.
"""

from collections.abc import Iterable, Mapping

from services.order_gateway.model import Execution
from services.units import Market

VOLUME_ASSET = "USD"
"""Unless the settings say another."""
DAY_NS = 24 * 3600 * 10**9
DAYS_MAX = 30
"""That count: today and those before."""


class Volumes:
    """Traded amounts, base units of the asset.

    Args:
        asset: the symbol of what is counted in.
        markets: all markets by symbol, as they come.
        amounts: (account_id, day, amount) to begin with.
        prices: (market_id, price_ticks) likewise.
    """

    def __init__(
        self,
        asset: str,
        markets: Mapping[str, Market],
        amounts: Iterable[tuple[int, int, int]] = (),
        prices: Iterable[tuple[int, int]] = (),
    ) -> None:
        self.asset, self._markets = asset, markets
        self.prices: dict[int, int] = dict(prices)
        """The last price of each market, in ticks."""
        self._days: dict[int, dict[int, int]] = {}
        self._forgotten = 0
        """The last day that was dropped."""
        for account_id, day, amount in amounts:
            self._days.setdefault(account_id, {})[day] = amount

    def traded(self, market: Market, executions: Iterable[Execution], time_ns: int) -> None:
        """Counts sides of trades."""
        day = time_ns // DAY_NS
        for execution in executions:
            self.prices[market.market_id] = execution.price_ticks
            value = self._value(market, execution)
            if value:
                self._count(execution.account_id, day, value)

    def amount(self, account_id: int, day: int) -> int:
        """Traded on that day."""
        return self._days.get(account_id, {}).get(day, 0)

    def volume(self, account_id: int, time_ns: int) -> int:
        """Traded in the DAYS_MAX days up to a time."""
        since = time_ns // DAY_NS - DAYS_MAX
        return sum(amount for day, amount in self._days.get(account_id, {}).items() if day > since)

    def forget_old(self, time_ns: int) -> None:
        """Drops the days that do not count any more at a time, once a day: whoever stores them has them."""
        since = time_ns // DAY_NS - DAYS_MAX
        if since == self._forgotten:
            return
        self._forgotten = since
        for account_id, days in list(self._days.items()):
            kept = {day: amount for day, amount in days.items() if day > since}
            if kept:
                self._days[account_id] = kept
            else:
                del self._days[account_id]

    def _count(self, account_id: int, day: int, value: int) -> None:
        days = self._days.setdefault(account_id, {})
        days[day] = days.get(day, 0) + value

    def _value(self, market: Market, execution: Execution) -> int:
        if market.quote.symbol == self.asset:
            return market.quote_amount(execution.price_ticks, execution.quantity_lots)
        base_amount = market.base_amount(execution.quantity_lots)
        if market.base.symbol == self.asset:
            return base_amount
        direct = self._markets.get(f"{market.base.symbol}-{self.asset}")
        if direct is None:
            return 0
        ticks = self.prices.get(direct.market_id, 0)
        return base_amount * ticks * direct.quote_per_tick_lot // direct.base_per_lot
