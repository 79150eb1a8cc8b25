"""A strategy of freqtrade's that is always in the market, and ends the bot after some round trips."""

import signal
from typing import Any

from freqtrade.persistence import Trade
from freqtrade.strategy import IStrategy
from pandas import DataFrame

ROUND_TRIPS = 2


class RoundTrips(IStrategy):  # type: ignore[misc]  # freqtrade is not in mypy's environment
    """Enters at once, leaves as soon as its stop rests on the exchange, and begins again."""

    INTERFACE_VERSION = 3
    timeframe = "1m"
    startup_candle_count = 0
    minimal_roi: dict[str, float] = {}
    stoploss = -0.2
    order_types = {"entry": "limit", "exit": "market", "stoploss": "limit", "stoploss_on_exchange": True}

    def populate_indicators(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:  # noqa: ARG002
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:  # noqa: ARG002
        dataframe["enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:  # noqa: ARG002
        return dataframe

    def custom_exit(self, pair: str, trade: Trade, *_: Any, **__: Any) -> str | None:  # noqa: ARG002
        return "the stop rests" if trade.has_open_sl_orders else None

    def confirm_trade_entry(self, *_: Any, **__: Any) -> bool:
        return not self.done()

    def bot_loop_start(self, *_: Any, **__: Any) -> None:
        for pair in self.dp.current_whitelist():
            self.unlock_pair(pair)  # else it waits for the next minute after each exit
        if self.done():
            signal.raise_signal(signal.SIGTERM)  # what an operator sends it

    def done(self) -> bool:
        return len(Trade.get_trades_proxy(is_open=False)) >= ROUND_TRIPS
