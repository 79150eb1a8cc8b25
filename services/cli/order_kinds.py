"""The kinds of orders that the demo shows, far enough from the market that most of them rest or wait. Pure."""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from clearbook.v1 import order_service_pb2 as orders

from services.units import Market

SHOWN_LOTS: Final = 1_000
DATED_SECONDS: Final = 5
"""How long the order lives that is good till a date."""


class Kind(NamedTuple):
    """One of them: how it is called, and what is asked: a PlaceOrder or a PlaceGroup."""

    name: str
    request: orders.PlaceOrderRequest | orders.PlaceGroupRequest


def kinds(market: Market, middle_ticks: int, clock_ns: Callable[[], int], ids: Iterator[str]) -> Iterator[Kind]:
    """One of each, around a middle price, made when it is asked for."""

    def percent(of_middle: int) -> str:
        return market.format_price(middle_ticks * of_middle // 100)

    def order(side: orders.Side.ValueType, price: str = "", **more: Any) -> orders.PlaceOrderRequest:
        kind = orders.ORDER_TYPE_LIMIT if price else orders.ORDER_TYPE_MARKET
        request = orders.PlaceOrderRequest(market=market.symbol, side=side, type=kind, price=price, **more)
        request.client_order_id, request.quantity = next(ids), market.format_quantity(SHOWN_LOTS)
        return request

    buy, sell = orders.SIDE_BUY, orders.SIDE_SELL
    stop: dict[str, Any] = {"trigger": orders.TRIGGER_STOP, "trigger_price": percent(90)}
    profit: dict[str, Any] = {"trigger": orders.TRIGGER_TAKE_PROFIT, "trigger_price": percent(110)}
    yield Kind("stop", order(sell, **stop))
    yield Kind("take-profit-limit", order(sell, percent(109), **profit))
    yield Kind("trailing stop", order(sell, trigger=orders.TRIGGER_TRAILING, trail=percent(10)))
    yield Kind("iceberg", order(buy, percent(90), display_quantity=market.format_quantity(SHOWN_LOTS // 10)))
    reprice: dict[str, Any] = {"post_only": True, "post_only_mode": orders.POST_ONLY_MODE_REPRICE}
    yield Kind("post-only, repriced", order(buy, percent(101), **reprice))
    dated = order(buy, percent(89), time_in_force=orders.TIME_IN_FORCE_GTD)
    dated.expire_time.FromNanoseconds(clock_ns() + DATED_SECONDS * 10**9)
    yield Kind("good till date", dated)
    yield Kind("fill or kill", order(buy, percent(88), time_in_force=orders.TIME_IN_FORCE_FOK))
    exits = [order(sell, percent(111)), order(sell, **stop)]
    yield Kind("one cancels the other", orders.PlaceGroupRequest(exits=exits))
    entry, behind = order(buy, percent(87)), [order(sell, percent(112)), order(sell, **stop)]
    yield Kind("exits behind an entry", orders.PlaceGroupRequest(entry=entry, exits=behind))
