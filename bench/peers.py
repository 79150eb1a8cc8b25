"""Order books from PyPI behind one face, for bench/engine.py. Each is imported only when it is asked for.

`place` returns the lots that traded; `cancel` takes the number of the placing. Orders of a type of their own are made
before the clock starts, as our commands are.
"""

from __future__ import annotations

import logging
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from typing import Any, Protocol


class Peer(Protocol):
    """What the bench drives. `prepare` sees all orders beforehand: buys, price and lots of each placing, in order."""

    def prepare(self, orders: list[tuple[bool, int, int]]) -> None: ...
    def place(self, number: int) -> int: ...
    def cancel(self, number: int) -> None: ...


class Litebook:
    """litebook: a book in Rust, price in ticks, quantities as floats."""

    def __init__(self) -> None:
        self._library: Any = import_module("litebook")
        self._book = self._library.OrderBook(tick_size=1.0)

    def prepare(self, orders: list[tuple[bool, int, int]]) -> None:
        kinds, order = self._library.OrderType, self._library.Order
        self._orders = [order(kinds.Buy if buys else kinds.Sell, price, float(lots)) for buys, price, lots in orders]
        self._ids = [made.id for made in self._orders]

    def place(self, number: int) -> int:
        return int(sum(fill.quantity for fill in self._book.add(self._orders[number])))

    def cancel(self, number: int) -> None:
        self._book.cancel(self._ids[number])


class LightMatchingEngine:
    """lightmatchingengine: the best known small one, pure Python."""

    def __init__(self) -> None:
        self._engine: Any = import_module("lightmatchingengine.lightmatchingengine").LightMatchingEngine()
        self._ids: dict[int, int] = {}

    def prepare(self, orders: list[tuple[bool, int, int]]) -> None:
        self._orders = [(price, lots, 1 if buys else 2) for buys, price, lots in orders]

    def place(self, number: int) -> int:
        order, _ = self._engine.add_order("M", *self._orders[number])
        self._ids[number] = order.order_id
        return int(order.cum_qty)

    def cancel(self, number: int) -> None:
        self._engine.cancel_order(self._ids[number], "M")


class Pyorderbook:
    """pyorderbook: heaps of levels, Decimal prices."""

    def __init__(self) -> None:
        logging.disable(logging.CRITICAL)
        self._book: Any = import_module("pyorderbook.book").Book()
        order: Any = import_module("pyorderbook.order")
        self._bid, self._ask = order.bid, order.ask

    def prepare(self, orders: list[tuple[bool, int, int]]) -> None:
        self._orders = [(self._bid if buys else self._ask)("M", price, lots) for buys, price, lots in orders]

    def place(self, number: int) -> int:
        order = self._orders[number]
        before = order.quantity
        self._book.match(order)
        return int(before - order.quantity)

    def cancel(self, number: int) -> None:
        self._book.cancel(self._orders[number])


class OrderMatching:
    """order-matching: dataclasses, one batch to a match."""

    def __init__(self) -> None:
        engine: Any = import_module("order_matching.matching_engine")
        import_module("loguru").logger.remove()
        self._engine = engine.MatchingEngine(seed=1)
        self._side: Any = import_module("order_matching.enums").Side
        self._limit: Any = import_module("order_matching.order").LimitOrder
        self._batch: Any = import_module("order_matching.orders").Orders
        self._now = datetime(2023, 1, 1)  # noqa: DTZ001 - as its own examples

    def prepare(self, orders: list[tuple[bool, int, int]]) -> None:
        self._orders = [
            self._limit(
                side=self._side.BUY if buys else self._side.SELL,
                price=float(price),
                size=float(lots),
                timestamp=self._now,
                order_id=str(number),
                trader_id="t",
            )
            for number, (buys, price, lots) in enumerate(orders)
        ]

    def place(self, number: int) -> int:
        self._engine.place(self._batch([self._orders[number]]))
        return int(sum(trade.size for trade in self._engine.match(self._now).trades))

    def cancel(self, number: int) -> None:
        self._engine.cancel_order(str(number))


class CythonOrderbook:
    """cython-orderbook: heaps of levels in Cython, Decimal prices."""

    def __init__(self) -> None:
        self._library: Any = import_module("cython_orderbook")
        self._book = self._library.OrderBook()

    def prepare(self, orders: list[tuple[bool, int, int]]) -> None:
        sides, order = self._library.OrderSide, self._library.Order
        self._orders = [
            order(side=sides.BID if buys else sides.ASK, price=Decimal(price), original_quantity=lots)
            for buys, price, lots in orders
        ]
        self._ids = [made.order_id for made in self._orders]

    def place(self, number: int) -> int:
        order = self._orders[number]
        self._book.add_limit_order(order)
        return int(order.original_quantity - order.remaining_quantity)

    def cancel(self, number: int) -> None:
        self._book.cancel_order(self._ids[number])


class OrderlyChaos:
    """orderly-chaos: a book in C++ behind ctypes. Says the quantity that traded, and makes no object of a trade."""

    def __init__(self) -> None:
        library: Any = import_module("orderly_chaos")
        self._book, self._side = library.LimitOrderBook(), library.Side

    def prepare(self, orders: list[tuple[bool, int, int]]) -> None:
        sides = (self._side.SELL, self._side.BUY)
        self._orders = [(sides[buys], number, lots, price) for number, (buys, price, lots) in enumerate(orders)]

    def place(self, number: int) -> int:
        return int(self._book.limit(*self._orders[number]))

    def cancel(self, number: int) -> None:
        self._book.cancel(number)


PEERS: dict[str, type[Peer]] = {
    "litebook": Litebook,
    "cython-orderbook": CythonOrderbook,
    "orderly-chaos": OrderlyChaos,
    "lightmatchingengine": LightMatchingEngine,
    "pyorderbook": Pyorderbook,
    "order-matching": OrderMatching,
}
