"""A local book of each order (L3), kept from BookService's stream: snapshot, then deltas, each checked. No I/O.

As `clearbook.book`, with orders in the place of levels: an order that is told replaces the one with its id; "0" removes
it; orders of one price stand in line by their priority. The checksum is over all orders of the ten best prices.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from zlib import crc32

from clearbook.v1 import book_service_pb2 as book_pb

from clearbook.book import CHECKSUM_LEVELS, Followed, OutOfStep, decimals_of, scaled


class _Side:
    """The orders of one side: by id, and by price in lines."""

    def __init__(self, price_decimals: int, *, buys: bool) -> None:
        self._decimals, self._sign = price_decimals, -1 if buys else 1
        self._orders: dict[str, book_pb.BookOrder] = {}
        self._prices: list[int] = []
        self._lines: dict[int, dict[str, int]] = {}
        """By price: order id to priority."""

    def replace(self, orders: Iterable[book_pb.BookOrder]) -> None:
        self._orders, self._prices, self._lines = {}, [], {}
        self.apply(orders)

    def apply(self, orders: Iterable[book_pb.BookOrder]) -> None:
        for order in orders:
            before = self._orders.get(order.order_id)
            if before is not None:
                self._remove(before)
            elif order.quantity == "0":
                raise OutOfStep(f"order {order.order_id} is not here to be removed")
            if order.quantity != "0":
                self._add(order)

    def best(self, prices: int | None = None) -> list[book_pb.BookOrder]:
        """The orders of so many best prices, in their order."""
        found = []
        for price in self._prices[:prices]:
            line = self._lines[price]
            found += [self._orders[order_id] for order_id in sorted(line, key=line.__getitem__)]
        return found

    def _add(self, order: book_pb.BookOrder) -> None:
        price = self._price(order)
        if price not in self._lines:
            self._lines[price] = {}
            insort(self._prices, price)
        self._lines[price][order.order_id] = order.priority
        self._orders[order.order_id] = order

    def _remove(self, order: book_pb.BookOrder) -> None:
        price = self._price(order)
        del self._orders[order.order_id]
        del self._lines[price][order.order_id]
        if not self._lines[price]:
            del self._lines[price]
            del self._prices[bisect_left(self._prices, price)]

    def _price(self, order: book_pb.BookOrder) -> int:
        return self._sign * scaled(order.price, self._decimals)


class LocalOrders(Followed):
    """One market's book by orders (L3)."""

    def __init__(self, market: book_pb.Market) -> None:
        """An empty book of a market as listed."""
        super().__init__()
        self._decimals = decimals_of(market.tick_size), decimals_of(market.lot_size)
        self._bids = _Side(self._decimals[0], buys=True)
        self._asks = _Side(self._decimals[0], buys=False)

    @property
    def bids(self) -> list[book_pb.BookOrder]:
        """Best (highest) price first, then by place."""
        return self._bids.best()

    @property
    def asks(self) -> list[book_pb.BookOrder]:
        """Best (lowest) price first, then by place."""
        return self._asks.best()

    def checksum(self) -> int:
        """CRC32 of all orders of the ten best asks, then of the ten best bids, each line in its order."""
        orders = [*self._asks.best(CHECKSUM_LEVELS), *self._bids.best(CHECKSUM_LEVELS)]
        price, quantity = self._decimals
        text = "".join([f"{scaled(each.price, price)}{scaled(each.quantity, quantity)}" for each in orders])
        return crc32(text.encode("ascii"))

    def _replace(self, snapshot: book_pb.BookSnapshot) -> None:
        self._bids.replace(snapshot.bid_orders)
        self._asks.replace(snapshot.ask_orders)

    def _change(self, delta: book_pb.BookDelta) -> None:
        self._bids.apply(delta.bid_orders)
        self._asks.apply(delta.ask_orders)
