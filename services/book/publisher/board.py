"""All markets as they are published, and the journal entry that they are as of."""

from services.book.publisher.batch import Batch
from services.book.publisher.bell import Bell
from services.book.publisher.events import AssetEvent, BookEvent, MarketEvent, OrderEvent, ReferenceEvent, Row
from services.book.publisher.pace import Pace
from services.book.publisher.topic import LAG_CHANGES_MAX, Topic
from services.errors import Reason, Rejected, no_such_market
from services.units import Asset, market_of


class Board:
    """The fold of the journal into market data.

    Attributes:
        incarnation: the journal's; "" before its first entry.
        journal_sequence: the last entry applied.
        topics: by market_id.
        market_changes: how often a market came or changed its state or rules.
        market_bell: rings for each.
        time_ns: of the last row; 0 before the first.
        live: whether the journal is followed at its head. Without that no sign of life may be given.
        beats: how many heartbeat intervals have passed.
        beat_bell: rings for each.
        book_bell: rings for each row that changed any book.
        reference_bell: rings for each reference price.
        pulses: bells that ring for each pace that is not EACH.
    """

    def __init__(self, lag_changes_max: int = LAG_CHANGES_MAX) -> None:
        """Nothing yet."""
        self.incarnation = ""
        self.journal_sequence = 0
        self.topics: dict[int, Topic] = {}
        self.market_changes = 0
        self.market_bell = Bell()
        self.time_ns = 0
        self.live = False
        self.beats = 0
        self.beat_bell = Bell()
        self.book_bell = Bell()
        self.reference_bell = Bell()
        self.pulses = {Pace.TENTH: Bell(), Pace.SECOND: Bell()}
        self._pulse_count = 0
        self._assets: dict[int, Asset] = {}
        self._by_symbol: dict[str, Topic] = {}
        self._lag_changes_max = lag_changes_max

    def topic(self, symbol: str, field: str = "market") -> Topic:
        """A market by name, that stands in this field of a request.

        Raises:
            Rejected: MARKET_NOT_FOUND; INVALID_FIELD when there is no name.
        """
        if not symbol:
            raise Rejected(Reason.INVALID_FIELD, "market is missing", field)
        topic = self._by_symbol.get(symbol)
        if topic is None:
            raise no_such_market(symbol, field)
        return topic

    def by_symbol(self) -> list[Topic]:
        """All markets, by name."""
        return [self._by_symbol[symbol] for symbol in sorted(self._by_symbol)]

    def apply(self, row: Row, batch: Batch) -> None:
        """Takes the next row, all of it at once; notes in `batch` what to store."""
        assert row.first == self.journal_sequence + 1, f"row {row.first} does not follow {self.journal_sequence}"
        assert self.incarnation in {"", row.incarnation}, "another journal"
        self.incarnation = row.incarnation
        self.time_ns = row.time_ns
        touched: dict[int, Topic] = {}
        for event in row.events:
            if isinstance(event, (OrderEvent, BookEvent)):
                topic = touched[event.market_id] = self.topics[event.market_id]
                topic.fold.take(event)
            else:
                self._take(event, batch)
        for market_id, topic in touched.items():
            sealed = topic.seal(row.time_ns)
            batch.note(market_id, topic.event, topic.fold, sealed)
            if sealed.traded:
                batch.note_candles(market_id, topic.candles, row.time_ns)
        if touched:
            self.book_bell.ring()
        batch.events += row.last - self.journal_sequence
        self.journal_sequence = row.last
        batch.incarnation, batch.journal_sequence, batch.time_ns = self.incarnation, row.last, row.time_ns

    def beat(self) -> None:
        """The heartbeat interval has passed."""
        self.beats += 1
        self.beat_bell.ring()
        self.market_bell.beat()
        for topic in self.topics.values():
            topic.beat()

    def pulse(self) -> None:
        """A tenth of a second has passed."""
        self._pulse_count += 1
        paces = {pace for pace in self.pulses if self._pulse_count % pace.value == 0}
        for topic in self.topics.values():
            topic.pulse(paces)
        for pace in paces:
            self.pulses[pace].ring()

    def _take(self, event: AssetEvent | MarketEvent | ReferenceEvent, batch: Batch) -> None:
        if isinstance(event, AssetEvent):
            self.add_asset(event)
            batch.assets.append(event)
        elif isinstance(event, ReferenceEvent):
            self.topics[event.market_id].reference = batch.references[event.market_id] = event
            self.reference_bell.ring()
        else:
            topic = self.add_market(event)
            self.market_changes += 1
            self.market_bell.ring()
            batch.markets[event.market_id] = (event, topic.fold)

    def add_asset(self, event: AssetEvent) -> None:
        """An asset exists."""
        self._assets[event.asset_id] = Asset(event.asset_id, event.symbol, event.decimals)

    def add_market(self, event: MarketEvent) -> Topic:
        """A market exists, or has changed its state."""
        topic = self.topics.get(event.market_id)
        if topic is not None:
            topic.change(event)
            return topic
        base, quote = self._assets[event.base_asset_id], self._assets[event.quote_asset_id]
        market = market_of(
            event.market_id, event.symbol, base, quote, event.tick_size, event.lot_size, event.notional_min
        )
        topic = Topic(market, event, self._lag_changes_max)
        self.topics[event.market_id] = self._by_symbol[event.symbol] = topic
        return topic
