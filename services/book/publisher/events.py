"""What the publisher reads in the journal, free of the wire. Pure."""

from typing import NamedTuple


class Fill(NamedTuple):
    """A trade as its event tells it."""

    trade_id: int
    price_ticks: int
    quantity_lots: int
    settlement_sequence: int


class OrderEvent(NamedTuple):
    """One command that changed one market's book: an order was placed or canceled.

    Attributes:
        market_id: which market.
        sequence: the market's; one more than that of the event before.
        buys: the order's side.
        fills: its trades as taker, in order.
        price_ticks: its limit price; 0 for a market order.
        rested_lots: what of it came to rest; 0: nothing.
        canceled_lots: what of it left the book; 0: nothing.
    """

    market_id: int
    sequence: int
    buys: bool
    fills: tuple[Fill, ...]
    price_ticks: int
    rested_lots: int
    canceled_lots: int


class BookEvent(NamedTuple):
    """One command that changed books in ways that no OrderEvent can tell: what it changed in one of them.

    Attributes:
        market_id: which market.
        sequence: the market's; one more than that of the event before.
        levels: (buys, price_ticks, what is shown there now): every level that it touched.
        fills: (whether the taker buys, the trade), in order.
    """

    market_id: int
    sequence: int
    levels: tuple[tuple[bool, int, int], ...]
    fills: tuple[tuple[bool, Fill], ...]


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
    halted: bool


Event = OrderEvent | BookEvent | AssetEvent | MarketEvent


class Row(NamedTuple):
    """One committed row of the journal. `events`: (journal_sequence, event) for those that concern us, some
    entries with several.
    """

    first: int
    last: int
    time_ns: int
    incarnation: str
    events: tuple[tuple[int, Event], ...]
