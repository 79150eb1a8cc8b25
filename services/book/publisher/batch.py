"""What one transaction of the store will write: everything between two cursors, each row of it once. Pure."""

from dataclasses import dataclass, field

from services.book.publisher.events import AssetEvent, MarketEvent
from services.book.publisher.fold import Change, Fold, Trade


@dataclass
class Batch:
    """Collected while the one before is being written.

    Attributes:
        incarnation: the journal's.
        journal_sequence: what is noted here is everything up to it.
        events: how many journal entries that were, those that do not concern us included.
        assets: new ones.
        markets: those that changed in any way; the fold is read when the batch is sealed.
        levels: (market_id, buys, price_ticks): lots, the last of many; 0: none any more.
        changes: (market_id, sequence, data).
        trades: (market_id, trade).
    """

    incarnation: str = ""
    journal_sequence: int = 0
    events: int = 0
    assets: list[AssetEvent] = field(default_factory=list)
    markets: dict[int, tuple[MarketEvent, Fold]] = field(default_factory=dict)
    levels: dict[tuple[int, bool, int], int] = field(default_factory=dict)
    changes: list[tuple[int, int, bytes]] = field(default_factory=list)
    trades: list[tuple[int, Trade]] = field(default_factory=list)

    def note(self, market_id: int, event: MarketEvent, fold: Fold, change: Change, data: bytes) -> None:
        """A market's book changed."""
        self.markets[market_id] = (event, fold)
        self.changes.append((market_id, change.sequence, data))
        for buys, levels in ((True, change.bids), (False, change.asks)):
            for price_ticks, lots in levels:
                self.levels[market_id, buys, price_ticks] = lots
        self.trades.extend((market_id, trade) for trade in change.trades)

    @property
    def rows(self) -> int:
        """How much there is to write; 0 if only the cursor moved."""
        return len(self.assets) + len(self.markets) + len(self.levels) + len(self.changes) + len(self.trades)
