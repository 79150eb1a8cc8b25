"""What the publisher reads in the journal, free of the wire. Pure."""

from typing import NamedTuple

from msgspec import Struct

from services.market_rules import MarketRules, MarketState


class Trade(NamedTuple):
    """A public trade. `sequence` is its command's: what one command traded belongs together.

    `maker_order_id` is only known of what the journal just told, and not stored with the trade.
    """

    trade_id: int
    sequence: int
    price_ticks: int
    quantity_lots: int
    taker_buys: bool
    settlement_sequence: int
    time_ns: int
    maker_order_id: int = 0


class OrderEvent(Struct, frozen=True, gc=False):
    """One command that changed one market's book: an order was placed or canceled.

    Attributes:
        market_id: which market.
        sequence: the market's; one more than that of the event before.
        buys: the order's side.
        trades: its trades as taker, in order.
        price_ticks: its limit price; 0 for a market order.
        lots: more of them at that price: what came to rest; less than 0: what left the book.
        order_id: the order's.
    """

    market_id: int
    sequence: int
    buys: bool
    trades: tuple[Trade, ...]
    price_ticks: int
    lots: int
    order_id: int


class Step(NamedTuple):
    """One order after one step of what a command did, and the trades in which it was the taker.

    `remaining_lots` is what it has yet to trade, shown or not, if it rests in the book; else 0. `display_lots` is how
    much an iceberg shows at once; 0: all.
    """

    order_id: int
    buys: bool
    price_ticks: int
    remaining_lots: int
    display_lots: int
    trades: tuple[Trade, ...]


class BookEvent(NamedTuple):
    """One command that changed books in ways that no OrderEvent can tell: what it changed in one of them.

    Attributes:
        market_id: which market.
        sequence: the market's; one more than that of the event before.
        levels: (buys, price_ticks, what is shown there now): every level that it touched.
        trades: in order.
        steps: the orders of this market that it touched, in order.
    """

    market_id: int
    sequence: int
    levels: tuple[tuple[bool, int, int], ...]
    trades: tuple[Trade, ...]
    steps: tuple[Step, ...] = ()


class AssetEvent(NamedTuple):
    """An asset exists."""

    asset_id: int
    symbol: str
    decimals: int


class MarketEvent(NamedTuple):
    """A market exists or changed; as it is now. `notional_min` in base units of the quote asset."""

    market_id: int
    symbol: str
    base_asset_id: int
    quote_asset_id: int
    tick_size: str
    lot_size: str
    notional_min: int
    state: MarketState
    rules: MarketRules | None


class ReferenceEvent(NamedTuple):
    """What a market's price is elsewhere, where that is, and when it was seen there."""

    market_id: int
    price_ticks: int
    source: str
    observed_ns: int


Event = OrderEvent | BookEvent | AssetEvent | MarketEvent | ReferenceEvent


class Row(NamedTuple):
    """One committed row of the journal, with those of its events that concern us."""

    first: int
    last: int
    time_ns: int
    incarnation: str
    events: list[Event]
