"""What one transaction of the store will write: everything between two cursors, each row of it once. Pure."""

from collections import defaultdict
from dataclasses import dataclass, field

from services.book.publisher.candles import Candles
from services.book.publisher.events import AssetEvent, MarketEvent, ReferenceEvent, Trade
from services.book.publisher.fold import Change, Fold, Sealed
from services.book.publisher.interval import NS_PER_SECOND


@dataclass
class Batch:
    """Collected while the one before is being written.

    Attributes:
        incarnation: the journal's.
        journal_sequence: what is noted here is everything up to it.
        time_ns: when that entry was.
        events: how many journal entries that were, those that do not concern us included.
        assets: new ones.
        markets: those that changed in any way; the fold is read when the batch is sealed.
        references: by market_id, the last one.
        levels: by (market_id, buys), by price_ticks: lots, the last of many; 0: none any more.
        changes: (market_id, change).
        trades: (market_id, trade).
        orders: by market_id, ids of orders that changed; the fold is read when the batch is sealed.
        candles: by market_id, candles that changed from this second on, since 1970.
    """

    incarnation: str = ""
    journal_sequence: int = 0
    time_ns: int = 0
    events: int = 0
    assets: list[AssetEvent] = field(default_factory=list)
    markets: dict[int, tuple[MarketEvent, Fold]] = field(default_factory=dict)
    references: dict[int, ReferenceEvent] = field(default_factory=dict)
    levels: dict[tuple[int, bool], dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    changes: list[tuple[int, Change]] = field(default_factory=list)
    trades: list[tuple[int, Trade]] = field(default_factory=list)
    orders: dict[int, dict[int, object]] = field(default_factory=lambda: defaultdict(dict))
    candles: dict[int, tuple[Candles, int]] = field(default_factory=dict)

    def note(self, market_id: int, event: MarketEvent, fold: Fold, sealed: Sealed) -> None:
        """A market's book changed."""
        change = sealed.change
        self.markets[market_id] = (event, fold)
        self.changes.append((market_id, change))
        self.levels[market_id, True].update(change.bids)
        self.levels[market_id, False].update(change.asks)
        self.trades.extend((market_id, trade) for trades in sealed.traded for trade in trades)
        self.orders[market_id].update(sealed.touched)

    def note_candles(self, market_id: int, candles: Candles, time_ns: int) -> None:
        """A market traded then."""
        self.candles.setdefault(market_id, (candles, time_ns // NS_PER_SECOND))

    @property
    def rows(self) -> int:
        """How much there is to write; 0 if only the cursor moved."""
        levels = sum(map(len, self.levels.values()))
        listed = len(self.assets) + len(self.markets) + len(self.references)
        return listed + levels + len(self.changes) + len(self.trades)
