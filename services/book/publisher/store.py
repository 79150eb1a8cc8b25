"""What the publisher remembers: one durable transaction after the other, behind the fan-out and never in its way.

Each transaction moves the cursor and holds everything between two cursors, so whatever is killed whenever, the store is
the market data as of one journal entry, and the journal has the rest.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.book.publisher import sql
from services.book.publisher.batch import Batch
from services.book.publisher.board import Board
from services.book.publisher.candle import Candle, summed
from services.book.publisher.events import AssetEvent, MarketEvent, ReferenceEvent, Trade
from services.book.publisher.fold import Change, Fold
from services.book.publisher.interval import BASES, NS_PER_SECOND, SECONDS_PER_DAY, Interval
from services.book.publisher.resting import Resting
from services.book.publisher.topic import RESUME_CHANGES_MAX, Topic
from services.market_rules import MarketState, of_stored, stored
from services.runtime import log, metrics
from services.runtime.db import Conflict, Database, Row, Statement, Unavailable, Value
from services.runtime.rpc import Backoff
from services.runtime.run import Closed, Closing, StartError

MIGRATIONS = Path(__file__).parent / "migrations"
UNSTORED_ROWS_MAX = 5_000
"""The feed waits when so much is noted. Twice that (as much is being written) is less than windows and tapes hold:
what is not in the store yet is there."""
CURSOR_EVENTS_MAX = 1_000
"""A cursor that moves alone, the clock's ticks, is stored after so many events only."""
FLUSH_SECONDS_MIN = 0.25
"""From one transaction to the next: what comes meanwhile goes together, a level that changes often only once."""
TRADE_COLUMNS = len(Trade._fields) - 1
"""All but who made it."""
RETRY_SECONDS_MAX = 60.0
"""How long a database may be away before the process gives up."""
TRADES_PAGE_MAX = 1_000
ORDERS_CHANGED_MAX = 20_000
"""Orders are stored as what has changed since all were; once that is so many, and as many as there are, all are."""


class OrdersPart(msgspec.Struct, gc=False, array_like=True):
    """Orders as stored: those that are as they were not before, and those that are gone."""

    resting: list[Resting]
    gone: list[int]


_ENCODER, _DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Change)
_ORDERS_DECODER = msgspec.msgpack.Decoder(OrdersPart)

logger = log.get("store")

_unstored = metrics.gauge("publisher_unstored_events", "Journal entries that were published and are not stored yet.")


class Store:
    """The publisher's database. `batch` is where the feed notes what to write; `run` writes it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._stored_sequence = 0
        self._noted, self._plenty, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._finishing = Closing()
        self._orders_changed: dict[int, int] = {}
        self.batch = Batch()

    async def load(self, board: Board) -> None:
        """Fills an empty board with what was stored.

        Raises:
            StartError: the store is not what it was written as.
        """
        ((board.incarnation, board.journal_sequence, board.time_ns),) = await self._db.fetch(sql.CURSOR)
        self._stored_sequence = board.journal_sequence
        self.batch = Batch(board.incarnation, board.journal_sequence, board.time_ns)
        for asset in await self._db.fetch(sql.ASSETS):
            board.add_asset(AssetEvent(*asset))
        for row in await self._db.fetch(sql.MARKETS):
            topic = board.add_market(_market_event(row))
            sequence, checksum, time_ns, last_trade_id = row[9:]
            fold = Fold(topic.market, topic.event.state)
            await self._load_levels(fold)
            await self._load_orders(fold)
            if fold.top_checksum() != checksum or not fold.orders.fit(fold.depth):
                raise StartError(f"the stored book of {topic.market.symbol} is damaged: start once with --rebuild")
            fold.restore(sequence, checksum, time_ns, last_trade_id)
            for trade in await self.trades_before(topic.market.market_id, last_trade_id + 1, 1):
                fold.last_trade, fold.last_price_ticks = trade, trade.price_ticks
                await self._load_candles(topic, trade.time_ns)
            changes = await self._load_changes(topic.market.market_id)
            followed = [change.previous_sequence for change in changes[1:]] + [sequence]
            if changes and [change.sequence for change in changes] != followed:
                raise StartError(f"the stored changes of {topic.market.symbol} have gaps: start once with --rebuild")
            topic.restore(fold, changes)
        for row in await self._db.fetch(sql.REFERENCES):
            reference = ReferenceEvent(*row)
            board.topics[reference.market_id].reference = reference

    async def _load_levels(self, fold: Fold) -> None:
        for buys, price_ticks, lots in await self._db.fetch(sql.LEVELS, fold.market.market_id):
            fold.depth.put(bool(buys), price_ticks, lots)

    async def _load_orders(self, fold: Fold) -> None:
        market_id, changed = fold.market.market_id, 0
        for whole, data in await self._db.fetch(sql.ORDERS, market_id):
            part = _ORDERS_DECODER.decode(data)
            for order_id in part.gone:
                fold.orders.resting.pop(order_id, None)
            fold.orders.resting.update((order.order_id, order) for order in part.resting)
            changed += 0 if whole else len(part.resting) + len(part.gone)
        self._orders_changed[market_id] = changed

    async def _load_candles(self, topic: Topic, time_ns: int) -> None:
        """The candles of now, when the last trade was, and the last day's."""
        market_id, second = topic.market.market_id, time_ns // NS_PER_SECOND
        now: dict[Interval, Candle] = {}
        for interval in Interval:
            start = interval.start_of(second)
            (now[interval],) = summed(interval, await self.candles(market_id, interval.base, start, second + 1))
        day = Interval.MINUTE_1.start_of(second - SECONDS_PER_DAY)
        minutes = await self.candles(market_id, Interval.MINUTE_1, day, second + 1)
        before = await self._db.fetch(sql.LAST_CANDLE, market_id, Interval.MINUTE_1.value, day)
        first = await self._first_candle(market_id, 0)
        assert first is not None, f"{topic.market.symbol}: trades without candles"
        topic.candles.restore(first.start, now, [*map(_candle, before), *minutes])

    async def _load_changes(self, market_id: int) -> list[Change]:
        return [_DECODER.decode(data) for (data,) in await self._db.fetch(sql.CHANGES, market_id)]

    async def wipe(self) -> None:
        """Forgets everything: the journal will be read from its first entry."""
        await self._db.write([Statement(text) for text in sql.WIPE])

    async def noted(self) -> None:
        """To be called after each row that was noted in `batch`: waits, if need be, until there is room for more."""
        _unstored.set(self.batch.journal_sequence - self._stored_sequence)
        if self.batch.rows or self.batch.events >= CURSOR_EVENTS_MAX:
            self._noted.set()
        if self.batch.rows > UNSTORED_ROWS_MAX // 2:
            self._plenty.set()
        while self.batch.rows > UNSTORED_ROWS_MAX:
            self._room.clear()
            await self._room.wait()

    async def run(self) -> None:
        """Writes what is noted until `finish`, and then the rest.

        Raises:
            StartError: another publisher writes to this store.
            Unavailable: the database was away for too long.
        """
        while True:
            try:
                async with self._finishing.guard():
                    await self._noted.wait()
                    await self._collect()
            except Closed:
                break
            await self._flush()
        await self._flush()

    async def _collect(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS_MIN):
                await self._plenty.wait()
        except TimeoutError:
            return  # what has come is enough

    def finish(self) -> None:
        """Nothing more will be noted: `run` writes the rest and returns."""
        self._finishing.set()

    async def _flush(self) -> None:
        batch, self.batch = self.batch, Batch(self.batch.incarnation, self.batch.journal_sequence, self.batch.time_ns)
        self._noted.clear()
        self._plenty.clear()
        self._room.set()
        if batch.journal_sequence > self._stored_sequence:
            await self._write(self._statements(batch), batch.journal_sequence)

    async def _write(self, statements: Sequence[Statement], journal_sequence: int) -> None:
        """Writes until it is known to be written: a failed write may have been done all the same."""
        backoff, clock = Backoff(), asyncio.get_running_loop().time
        gives_up = clock() + RETRY_SECONDS_MAX
        while True:
            try:
                ((_, now, _),) = await self._db.fetch(sql.CURSOR)
                if now != journal_sequence:
                    await self._db.write(statements)
                break
            except Conflict:
                raise StartError(
                    "another publisher writes to this store: give each a PUBLISHER_SCHEMA of its own"
                ) from None
            except Unavailable as error:
                logger.warning("not stored", why=str(error))
                if clock() > gives_up:
                    raise
                if await self._finishing.sleep(backoff.next_seconds()):
                    return  # nothing is lost: the journal has it
        self._stored_sequence = journal_sequence
        _unstored.set(self.batch.journal_sequence - journal_sequence)

    def _statements(self, batch: Batch) -> list[Statement]:
        # First the guard: of two publishers on one store the second writer conflicts, and dies of it.
        moved = (batch.incarnation, batch.journal_sequence, batch.time_ns, self._stored_sequence)
        statements = [Statement(sql.MOVE_CURSOR, [moved], expect=1)]
        touched = [(*side, *level) for side, sums in batch.levels.items() for level in sums.items()]
        levels, gone = [level for level in touched if level[-1]], [level[:-1] for level in touched if not level[-1]]
        oldest = {market_id: fold.sequence - RESUME_CHANGES_MAX for market_id, (_, fold) in batch.markets.items()}
        pruned = [(market_id, sequence) for market_id, sequence in oldest.items() if sequence > 0]
        changes = [
            (market_id, change.sequence, _ENCODER.encode(change))
            for market_id, change in batch.changes
            if change.sequence > oldest[market_id]
        ]
        written: tuple[tuple[str, Sequence[Sequence[Value]]], ...] = (
            (sql.INSERT_ASSET, batch.assets),
            (sql.UPSERT_MARKET, [self._market(event, fold) for event, fold in batch.markets.values()]),
            (sql.UPSERT_REFERENCE, [*batch.references.values()]),
            (sql.UPSERT_LEVEL, levels),
            (sql.DELETE_LEVEL, gone),
            (sql.INSERT_CHANGE, changes),
            (sql.PRUNE_CHANGES, pruned),
            (sql.INSERT_TRADE, [(market_id, *trade[:TRADE_COLUMNS]) for market_id, trade in batch.trades]),
            (sql.UPSERT_CANDLE, self._candles_of(batch)),
            *self._orders_of(batch),
        )
        for text, rows in written:
            if rows:
                statements.append(Statement(text, rows))
        return statements

    def _market(self, event: MarketEvent, fold: Fold) -> Sequence[Value]:
        told: tuple[Value, ...] = event[:6]
        state = (
            self._db.amount(event.notional_min),
            event.state.value,
            stored(event.rules),
            fold.sequence,
            fold.checksum,
            fold.time_ns,
            fold.last_trade_id,
        )
        return (*told, *state)

    def _candles_of(self, batch: Batch) -> list[Sequence[Value]]:
        amount = self._db.amount
        return [
            (
                *(market_id, base.value, candle.start, candle.open_ticks, candle.high_ticks, candle.low_ticks),
                *(candle.close_ticks, amount(candle.lots), amount(candle.tick_lots), candle.trades),
                *(amount(candle.taker_lots), amount(candle.taker_tick_lots), candle.first_trade_id),
            )
            for market_id, (candles, second) in batch.candles.items()
            for base in BASES
            for candle in candles.since(base, base.start_of(second))
        ]

    def _orders_of(self, batch: Batch) -> list[tuple[str, list[Sequence[Value]]]]:
        """What has changed of orders; and once that has become much, all of them."""
        parts: list[Sequence[Value]] = []
        replaced: list[Sequence[Value]] = []
        for market_id, ids in batch.orders.items():
            resting = batch.markets[market_id][1].orders.resting
            changed = self._orders_changed.get(market_id, 0) + len(ids)
            whole = changed > max(ORDERS_CHANGED_MAX, len(resting))
            if whole:
                part = OrdersPart(list(resting.values()), [])
                replaced.append((market_id, batch.journal_sequence))
            else:
                now = [resting.get(order_id) for order_id in ids]
                part = OrdersPart([order for order in now if order], [each for each in ids if each not in resting])
            self._orders_changed[market_id] = 0 if whole else changed
            parts.append((market_id, batch.journal_sequence, whole, _ENCODER.encode(part)))
        return [(sql.INSERT_ORDERS, parts), (sql.DELETE_ORDERS, replaced)]

    async def candles(self, market_id: int, base: Interval, start: int, end: int) -> list[Candle]:
        """The stored candles of a length that begin from one second on, before another, in order."""
        return [_candle(row) for row in await self._db.fetch(sql.CANDLES, market_id, base.value, start, end)]

    async def close_before(self, market_id: int, base: Interval, start: int) -> int:
        """The close, in ticks, of the last stored candle of a length that begins before then; 0: there is none."""
        rows = await self._db.fetch(sql.LAST_CANDLE, market_id, base.value, start)
        return _candle(rows[0]).close_ticks if rows else 0

    async def _first_candle(self, market_id: int, start: int) -> Candle | None:
        rows = await self._db.fetch(sql.FIRST_CANDLE, market_id, Interval.SECOND_1.value, start)
        return _candle(rows[0]) if rows else None

    async def first_trade_from(self, market_id: int, second: int) -> int | None:
        """The first stored trade of that second or of any after it; None: there is none."""
        candle = await self._first_candle(market_id, second)
        return None if candle is None else candle.first_trade_id

    async def trades_from(self, market_id: int, after: int, n: int) -> list[Trade]:
        """The at most `n` stored trades with ids above `after`, oldest first."""
        return [_trade(row) for row in await self._db.fetch(sql.TRADES_FROM, market_id, after, n)]

    async def trades_before(self, market_id: int, before: int, n: int) -> list[Trade]:
        """The at most `n` stored trades with ids below `before`, newest first."""
        rows = await self._db.fetch(sql.TRADES_BEFORE, market_id, before, n)
        return [_trade(row) for row in rows]

    async def trades_after(self, market_id: int, after: int) -> list[list[Trade]]:
        """Stored trades with ids above `after`, by command, oldest first: about a page, whole commands always."""
        rows = await self._db.fetch(sql.TRADES_AFTER, market_id, after, TRADES_PAGE_MAX)
        commands: dict[int, list[Trade]] = defaultdict(list)
        for row in rows:
            trade = _trade(row)
            commands[trade.sequence].append(trade)
        return list(commands.values())


def _market_event(row: Row) -> MarketEvent:
    market_id, symbol, base, quote, tick_size, lot_size, notional_min, state, rules, *_ = row
    parts = (market_id, symbol, base, quote, tick_size, lot_size)
    return MarketEvent(*parts, int(notional_min), MarketState(state), of_stored(rules))


def _candle(row: Row) -> Candle:
    return Candle(*map(int, row))


def _trade(row: Row) -> Trade:
    trade_id, sequence, price_ticks, quantity_lots, taker_buys, settlement_sequence, time_ns = row
    return Trade(trade_id, sequence, price_ticks, quantity_lots, bool(taker_buys), settlement_sequence, time_ns)
