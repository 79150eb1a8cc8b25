"""A market's trades by page, either way, from any trade or moment on: out of the store and off the tape."""

from services.book.publisher.events import Trade
from services.book.publisher.interval import NS_PER_SECOND, Interval
from services.book.publisher.store import TRADES_PAGE_MAX, Store
from services.book.publisher.topic import Topic


async def newest_trades(topic: Topic, store: Store, before: int, n: int) -> list[Trade]:
    """The at most `n` trades with ids below `before`, newest first."""
    stored_before = min(before, topic.tape.tail + 1)
    trades = topic.tape.newest(before, n)
    if len(trades) < n and stored_before > 1:
        trades += await store.trades_before(topic.market.market_id, stored_before, n - len(trades))
    return trades


async def oldest_trades(topic: Topic, store: Store, after: int, n: int) -> list[Trade]:
    """The at most `n` trades with ids above `after`, oldest first."""
    tail = topic.tape.tail
    recent = [trade for entry in topic.tape.after(max(after, tail), n) for trade in entry.trades]
    stored = await store.trades_from(topic.market.market_id, after, min(n, tail - after)) if after < tail else []
    return [*stored, *(trade for trade in recent if trade.trade_id > after)][:n]


async def first_trade_from(topic: Topic, store: Store, time_ns: int) -> int:
    """The first trade that happened then or later; one more than the last if there is none."""
    second = time_ns // NS_PER_SECOND
    trade_id = await _first_of(topic, store, second)
    while trades := await oldest_trades(topic, store, trade_id - 1, TRADES_PAGE_MAX):
        for trade in trades:
            if trade.time_ns >= time_ns:
                return trade.trade_id
        trade_id = trades[-1].trade_id + 1
    return trade_id


async def _first_of(topic: Topic, store: Store, second: int) -> int:
    """The first trade of a second or of any after it; one more than the last if there is none."""
    tail = topic.candles.tail(Interval.SECOND_1)
    recent = topic.candles.since(Interval.SECOND_1, second)
    none = topic.tape.last_trade_id + 1
    if tail is not None and second >= tail:
        return recent[0].first_trade_id if recent else none
    stored = await store.first_trade_from(topic.market.market_id, second)
    return stored if stored is not None else none
