"""The database behind the fold: follows it in whole steps, loads it at the start, answers for what memory let go.

One transaction a flush carries postings, balances, orders, executions, accounts and the cursor together. The cursor's
row is guarded by its old value: of two writers one fails, and of a commit whose outcome is unknown the cursor tells.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.market_rules import MarketState, of_stored, stored
from services.order_gateway.ledger import UNSETTLED_TRANSFERS_MAX, Change, Ledger, Snapshot
from services.order_gateway.model import (
    AccountOpened,
    AssetCreated,
    CancelAfterSet,
    CancelCause,
    Execution,
    First,
    MarketChanged,
    MarketCreated,
    Movement,
    MovementKind,
    MovementState,
    Order,
    OrderCanceled,
    OrderPlaced,
    OrdersChanged,
    OrderState,
    Refused,
    SelfTradeMode,
    SessionOpened,
    Terms,
    TimeInForce,
    TradingDefaultsSet,
    Trigger,
    Unrelated,
)
from services.order_gateway.progress import Progress
from services.order_gateway.unsettled import Unsettled
from services.order_gateway.volumes import DAY_NS, DAYS_MAX, VOLUME_ASSET
from services.runtime import log, metrics
from services.runtime.db import Conflict, Database, Row, Statement, Unavailable, Value
from services.runtime.streams import Backoff
from services.units import INT64_MAX, Asset

MIGRATIONS = Path(__file__).parent / "migrations"
PENDING_EVENTS_MAX = 20_000
"""How far the fold may be ahead of the database; then it waits."""
FLUSH_SECONDS_MIN = 0.2
"""From one transaction to the next, unless somebody waits for it: what comes meanwhile goes together, and the fewer
transactions, the fewer pages of indexes are written again."""
UNAVAILABLE_SECONDS_MAX = 60.0
"""A database that is away for longer ends the process: a new one opens it afresh."""
EXECUTIONS_MAX = 1_000
"""Of one order, in an answer."""
PAGE_ROWS = 20_000
PASS_SECONDS_MAX = 5.0

_behind = metrics.gauge("gateway_store_behind_events", "Events folded and not yet stored.")

logger = log.get("store")

ORDER_COLUMNS = (
    "order_id, account_id, market_id, buys, is_limit, time_in_force, post_only, price_ticks, quantity_lots, budget, "
    "client_order_id, maker_fee_ppm, taker_fee_ppm, filled_lots, filled_quote, state, cause, lock_remaining, "
    "create_sequence, create_ns, event_sequence, event_ns, hidden_lots, terms, first_values"
)
ORDER_IS_OPEN = "state IN (1, 4)"
"""In the words of the indexes that have these, or all others."""
ORDER_HAS_CHANGED = "event_sequence > create_sequence"
"""In the words of the index that has these."""
EXECUTION_COLUMNS = (
    "order_id, trade_id, account_id, market_id, client_order_id, buys, price_ticks, quantity_lots, fee, is_maker, "
    "settlement_sequence, event_sequence, event_ns"
)
_TRACELESS = (Unrelated, SessionOpened, Refused, CancelAfterSet, TradingDefaultsSet)
"""What no list tells of."""
_ORDERLY = (OrderPlaced, OrderCanceled)
"""Of these all is said by what they do to orders and balances."""


def _parameters(count: int) -> str:
    return ", ".join(f"${i}" for i in range(1, count + 1))


_PUT_ORDER = (
    f"INSERT INTO orders ({ORDER_COLUMNS}) VALUES ({_parameters(25)}) ON CONFLICT (order_id) DO UPDATE SET "  # noqa: S608
    "price_ticks = excluded.price_ticks, quantity_lots = excluded.quantity_lots, budget = excluded.budget, "
    "client_order_id = excluded.client_order_id, hidden_lots = excluded.hidden_lots, "
    "first_values = excluded.first_values, "
    "filled_lots = excluded.filled_lots, filled_quote = excluded.filled_quote, state = excluded.state, "
    "cause = excluded.cause, lock_remaining = excluded.lock_remaining, "
    "event_sequence = excluded.event_sequence, event_ns = excluded.event_ns"
)
_ADD_EXECUTION = f"INSERT INTO executions ({EXECUTION_COLUMNS}) VALUES ({_parameters(13)})"  # noqa: S608
_ADD_POSTING = (
    "INSERT INTO postings (journal_sequence, line, account_id, asset_id, amount, kind, settlement_sequence) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7)"
)
_PUT_BALANCE = (
    "INSERT INTO balances (account_id, asset_id, total, held) VALUES ($1, $2, $3, $4) "
    "ON CONFLICT (account_id, asset_id) DO UPDATE SET total = excluded.total, held = excluded.held"
)
_ADD_MOMENT = "INSERT INTO moments (time_ns, journal_sequence) VALUES ($1, $2) ON CONFLICT (time_ns) DO NOTHING"
_ADD_ACCOUNT = "INSERT INTO accounts (account_id, name) VALUES ($1, $2)"
_ADD_ASSET = "INSERT INTO assets (asset_id, symbol, decimals) VALUES ($1, $2, $3)"
_ADD_MARKET = (
    "INSERT INTO markets (market_id, symbol, base_asset_id, quote_asset_id, tick_size, lot_size, notional_min, state, "
    "rules) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
)
_SET_MARKET = "UPDATE markets SET state = $2, rules = $3 WHERE market_id = $1"
MOVEMENT_COLUMNS = (
    "transfer_id, kind, state, from_account_id, to_account_id, asset_id, amount, create_sequence, create_ns, "
    "event_sequence, event_ns, settlement_sequence, withdrawal_id, address, reason, transaction_hash"
)
_PUT_MOVEMENT = (
    f"INSERT INTO movements ({MOVEMENT_COLUMNS}) VALUES ({_parameters(16)}) "  # noqa: S608
    "ON CONFLICT (create_sequence) DO UPDATE SET state = excluded.state, event_sequence = excluded.event_sequence, "
    "event_ns = excluded.event_ns, settlement_sequence = excluded.settlement_sequence, reason = excluded.reason"
)
_PUT_VOLUME = (
    "INSERT INTO volumes (asset, day, account_id, amount) VALUES ($1, $2, $3, $4) "
    "ON CONFLICT (asset, day, account_id) DO UPDATE SET amount = excluded.amount"
)
_PUT_PRICE = (
    "INSERT INTO prices (market_id, price_ticks) VALUES ($1, $2) "
    "ON CONFLICT (market_id) DO UPDATE SET price_ticks = excluded.price_ticks"
)
_PUT_NAME = (
    "INSERT INTO order_names (account_id, client_order_id, order_id, until_sequence, until_ns) "
    "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id, client_order_id) DO UPDATE SET "
    "order_id = excluded.order_id, until_sequence = excluded.until_sequence, until_ns = excluded.until_ns"
)
_PUT_DEFAULTS = (
    "INSERT INTO trading_defaults (account_id, self_trade) VALUES ($1, $2) "
    "ON CONFLICT (account_id) DO UPDATE SET self_trade = excluded.self_trade"
)
_NEW_CURSOR = (
    "INSERT INTO cursor (id, journal_sequence, time_ns, incarnation, final_through, unsettled_since) "
    "VALUES (1, 0, 0, '', 0, 1)"
)
_MOVE_CURSOR = (
    "UPDATE cursor SET journal_sequence = $1, time_ns = $2, incarnation = $3, final_through = $4, "
    "unsettled_since = $5 WHERE id = 1 AND journal_sequence = $6"
)


@dataclass(slots=True)
class _Pending:
    """What the database has yet to hear, up to the end of a journal row."""

    rows: dict[str, list[Sequence[Value]]] = field(default_factory=dict)
    """By statement, in the order of the events."""
    orders: dict[int, Order] = field(default_factory=dict)
    balances: set[tuple[int, int]] = field(default_factory=set)
    movements: dict[int, Movement] = field(default_factory=dict)
    """By create_sequence."""
    movements_by_id: dict[str, Movement] = field(default_factory=dict)
    markets: dict[int, MarketChanged] = field(default_factory=dict)
    defaults: dict[int, SelfTradeMode] = field(default_factory=dict)
    volumes: set[tuple[int, int]] = field(default_factory=set)
    """account_id, day."""
    events: int = 0

    def add(self, sql: str, row: Sequence[Value]) -> None:
        self.rows.setdefault(sql, []).append(row)


class Store:
    """The gateway's database.

    Args:
        database: opened, its schema migrated; closed by whoever opened it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._amount = database.amount
        self._pending = _Pending()
        self._writing = _Pending()
        self._moment_ns = -1
        """The last journal time that is noted as that of a sequence."""
        self._wake, self._hurry = asyncio.Event(), asyncio.Event()
        self._finished = False
        self._room = asyncio.Event()
        self._room.set()
        self.stored = Progress()

    @property
    def database(self) -> Database:
        """Where it all is, for those who only read, or keep tables of their own in it."""
        return self._database

    # Loading.

    async def load(self, ended_orders_max: int, volume_asset: str = VOLUME_ASSET) -> Snapshot:
        """What the fold continues from: all open orders, and of the ended ones the last `ended_orders_max`.

        Volumes are those counted in `volume_asset`: in an asset that is new here they count from now on.

        Raises:
            Unavailable: the database cannot be reached.
        """
        fetch = self._database.fetch
        rows = await fetch(
            "SELECT journal_sequence, time_ns, incarnation, final_through, unsettled_since FROM cursor WHERE id = 1"
        )
        if not rows:
            await self._database.write([Statement(_NEW_CURSOR)])
            return Snapshot()
        sequence, time_ns, incarnation, final_through, unsettled_since = rows[0]
        self.stored = Progress(sequence)
        assets = await fetch("SELECT asset_id, symbol, decimals FROM assets ORDER BY asset_id")
        markets = await fetch(
            "SELECT market_id, symbol, base_asset_id, quote_asset_id, tick_size, lot_size, notional_min, state, rules "
            "FROM markets ORDER BY market_id"
        )
        accounts = await fetch("SELECT account_id, name FROM accounts ORDER BY account_id")
        balances = await fetch("SELECT account_id, asset_id, total, held FROM balances")
        open_orders = await fetch(f"SELECT {ORDER_COLUMNS} FROM orders WHERE {ORDER_IS_OPEN}")  # noqa: S608
        ended = await fetch(
            f"SELECT {ORDER_COLUMNS} FROM orders WHERE NOT {ORDER_IS_OPEN} ORDER BY event_sequence DESC LIMIT $1",  # noqa: S608
            ended_orders_max,
        )
        withdrawals = await fetch(
            f"SELECT {MOVEMENT_COLUMNS} FROM movements WHERE withdrawal_id > 0 AND state IN ($1, $2)",  # noqa: S608
            MovementState.REQUESTED.value,
            MovementState.APPROVED.value,
        )
        volumes = await fetch(
            "SELECT account_id, day, amount FROM volumes WHERE asset = $1 AND day > $2",
            volume_asset,
            time_ns // DAY_NS - DAYS_MAX,
        )
        prices = await fetch("SELECT market_id, price_ticks FROM prices")
        defaults = await fetch("SELECT account_id, self_trade FROM trading_defaults")
        return Snapshot(
            sequence,
            time_ns,
            incarnation,
            tuple(Asset(*row) for row in assets),
            tuple(_market(row) for row in markets),
            tuple(AccountOpened(*row) for row in accounts),
            tuple((row[0], row[1], int(row[2]), int(row[3])) for row in balances),
            tuple(order_of(row) for row in [*open_orders, *ended]),
            tuple(movement_of(row) for row in withdrawals),
            final_through,
            await self._unsettled(final_through, unsettled_since),
            await self._transfers(final_through, unsettled_since),
            tuple((row[0], row[1], int(row[2])) for row in volumes),
            tuple((row[0], row[1]) for row in prices),
            tuple((row[0], SelfTradeMode(row[1])) for row in defaults),
        )

    async def _transfers(self, final_through: int, since: int) -> tuple[Movement, ...]:
        """The last transfers that are not final, oldest first: none was made before that event."""
        rows = await self._database.fetch(
            f"SELECT {MOVEMENT_COLUMNS} FROM movements WHERE create_sequence >= $1 AND settlement_sequence > $2 "  # noqa: S608
            "AND kind = $3 ORDER BY create_sequence DESC LIMIT $4",
            since,
            final_through,
            MovementKind.TRANSFER.value,
            UNSETTLED_TRANSFERS_MAX,
        )
        return tuple(movement_of(row) for row in reversed(rows))

    async def _unsettled(self, final_through: int, since: int) -> Unsettled:
        """What is behind finality, read page by page from that event on: in memory as when it was folded."""
        line, found = 0, Unsettled()
        while True:
            rows = await self._database.fetch(
                "SELECT settlement_sequence, journal_sequence, account_id, asset_id, amount, line FROM postings "
                "WHERE (journal_sequence > $1 OR (journal_sequence = $1 AND line >= $2)) "
                "ORDER BY journal_sequence, line LIMIT $3",
                since,
                line,
                PAGE_ROWS,
            )
            for number, sequence, account_id, asset_id, amount, _ in rows:
                if number > final_through:
                    found.add(number, sequence, (account_id, asset_id), int(amount))
            if len(rows) < PAGE_ROWS:
                return found
            since, line = rows[-1][1], rows[-1][5] + 1

    async def client_ids_ended_since(
        self, time_ns: int, before_sequence: int, rows_max: int
    ) -> tuple[list[tuple[int, str]], bool]:
        """(account_id, client_order_id) of orders that ended since then, and whether these are all.

        Args:
            time_ns: in journal time.
            before_sequence: only those that ended before this event.
            rows_max: how many rows to read, the last ended first.
        """
        found: list[tuple[int, str]] = []
        sequence = before_sequence
        for _ in range(0, rows_max, PAGE_ROWS):
            rows = await self._database.fetch(
                "SELECT account_id, client_order_id, event_ns, event_sequence FROM orders "  # noqa: S608
                f"WHERE NOT {ORDER_IS_OPEN} AND event_sequence < $1 ORDER BY event_sequence DESC LIMIT $2",
                sequence,
                PAGE_ROWS,
            )
            recent = [row for row in rows if row[2] >= time_ns]
            found += [(row[0], row[1]) for row in recent]
            if len(recent) < PAGE_ROWS:
                return found, True
            # A row more than once is no harm; a page may end within the orders of one event.
            sequence = recent[-1][3] + 1 if recent[-1][3] + 1 < sequence else recent[-1][3]
        return found, False

    async def former_names_since(self, time_ns: int, rows_max: int) -> tuple[list[tuple[int, str]], bool]:
        """(account_id, client_order_id) of orders before replaces that came since then, and whether these are all."""
        rows = await self._database.fetch(
            "SELECT account_id, client_order_id FROM order_names WHERE until_ns >= $1 "
            "ORDER BY until_sequence DESC LIMIT $2",
            time_ns,
            rows_max,
        )
        return [(row[0], row[1]) for row in rows], len(rows) < rows_max

    async def placed_as(self, order: Order) -> str:
        """The client_order_id under which an order was placed, whatever it was called later."""
        rows = await self._database.fetch(
            "SELECT client_order_id FROM order_names WHERE order_id = $1 ORDER BY until_sequence LIMIT 1",
            order.order_id,
        )
        return rows[0][0] if rows else order.client_order_id

    async def transfers_to(self, from_account_id: int, prefix: str) -> list[tuple[int, str]]:
        """(receiver, transfer_id) of all transfers from an account whose id begins with `prefix`."""
        rows = await self._database.fetch(
            "SELECT to_account_id, transfer_id FROM movements WHERE from_account_id = $1", from_account_id
        )
        return [(row[0], row[1]) for row in rows if row[1].startswith(prefix)]

    # Following the fold.

    def add(self, change: Change) -> None:
        """Notes what an event did. Written with the rest of its journal row."""
        pending, sequence, effects = self._pending, change.sequence, change.effects
        amount = self._amount
        if change.time_ns != self._moment_ns and not isinstance(change.body, _TRACELESS):
            self._moment_ns = change.time_ns
            pending.add(_ADD_MOMENT, (change.time_ns, sequence))
        for line, posting in enumerate(effects.postings):
            row = (sequence, line, posting.account_id, posting.asset_id, amount(posting.amount), posting.kind.value)
            pending.add(_ADD_POSTING, (*row, posting.settlement_sequence))
            pending.balances.add((posting.account_id, posting.asset_id))
        for execution in effects.executions:
            pending.add(_ADD_EXECUTION, _execution_row(execution, amount(execution.fee)))
            pending.volumes.add((execution.account_id, change.time_ns // DAY_NS))
        for order in effects.orders:
            pending.orders[order.order_id] = order
        for renamed in effects.renamed:
            pending.add(_PUT_NAME, (*renamed, sequence, change.time_ns))
        for movement in effects.movements:
            pending.movements[movement.create_sequence] = movement
            pending.balances.add((movement.from_account_id, movement.asset_id))
            pending.movements_by_id[movement.transfer_id] = movement
        if isinstance(change.body, _ORDERLY):
            return
        match change.body:
            case AccountOpened(account_id, name):
                pending.add(_ADD_ACCOUNT, (account_id, name))
            case TradingDefaultsSet(account_id, mode):
                pending.defaults[account_id] = mode
            case AssetCreated(asset):
                pending.add(_ADD_ASSET, (asset.asset_id, asset.symbol, asset.decimals))
            case MarketCreated() as made:
                pending.add(_ADD_MARKET, _market_row(made, amount(made.notional_min)))
            case MarketChanged() as changed:
                pending.markets[changed.market_id] = changed
            case OrdersChanged(market=MarketChanged() as changed):
                pending.markets[changed.market_id] = changed

    def row_ended(self, events: int) -> None:
        """A journal row has been folded: what is noted can be written."""
        self._pending.events += events
        _behind.set(self._pending.events)
        if self._pending.events >= PENDING_EVENTS_MAX:
            self._room.clear()
            self._hurry.set()
        self._wake.set()

    async def room(self) -> None:
        """Waits until the database is near enough for the fold to go on."""
        await self._room.wait()

    async def follow(self, ledger: Ledger, flushed: Callable[[], None]) -> None:
        """Writes what is noted, until `finish`; calls `flushed` after each transaction.

        Raises:
            Unavailable: for longer than UNAVAILABLE_SECONDS_MAX.
            Conflict: another process writes here.
        """
        while not self._finished or self._pending.events:
            await self._wake.wait()
            await self._collect()
            if not self._finished:
                self._wake.clear()
                self._hurry.clear()
            await self.flush(ledger)
            flushed()

    async def _collect(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS_MIN):
                await self._hurry.wait()
        except TimeoutError:
            return  # what has come is enough

    def finish(self) -> None:
        """Nothing more will be noted: `follow` writes what there is and returns."""
        self._finished = True
        self._wake.set()
        self._hurry.set()

    async def flush(self, ledger: Ledger) -> None:
        """Writes what is noted. Never called twice at once."""
        if not self._pending.events:
            return
        self._writing, self._pending = self._pending, _Pending()
        sequence, time_ns = ledger.sequence, ledger.time_ns
        statements = self._statements(self._writing, ledger)
        await self._write(statements, sequence)
        self._writing = _Pending()
        self.stored.advance(sequence)
        ledger.volumes.forget_old(time_ns)
        _behind.set(self._pending.events)
        self._room.set()

    def _statements(self, pending: _Pending, ledger: Ledger) -> list[Statement]:
        """Taken in one step, between two rows: so the balances are those of the cursor."""
        amount = self._amount
        since = ledger.unsettled.since(ledger.sequence)
        move = (ledger.sequence, ledger.time_ns, ledger.incarnation, ledger.final_through, since, self.stored.value)
        balances, markets = [], ledger.markets
        for order in pending.orders.values():
            pending.balances.add((order.account_id, order.lock_asset(markets[order.market_id]).asset_id))
        for account_id, asset_id in pending.balances:
            balance = ledger.balance(account_id, asset_id)
            balances.append((account_id, asset_id, amount(balance.total), amount(balance.held)))
        orders = [_order_row(order, amount) for order in pending.orders.values()]
        statements = [Statement(_MOVE_CURSOR, [move], expect=1)]
        statements += [Statement(sql, rows) for sql, rows in pending.rows.items()]
        if pending.markets:  # after the markets themselves, which may be as new
            changed = [(each.market_id, each.state.value, stored(each.rules)) for each in pending.markets.values()]
            statements.append(Statement(_SET_MARKET, changed))
        if pending.defaults:
            statements.append(Statement(_PUT_DEFAULTS, [(key, mode.value) for key, mode in pending.defaults.items()]))
        if balances:
            statements.append(Statement(_PUT_BALANCE, balances))
        if orders:
            statements.append(Statement(_PUT_ORDER, orders))
        if pending.movements:
            rows = [_movement_row(movement, amount(movement.amount)) for movement in pending.movements.values()]
            statements.append(Statement(_PUT_MOVEMENT, rows))
        if pending.volumes:
            volumes = ledger.volumes
            days = [(volumes.asset, day, who, amount(volumes.amount(who, day))) for who, day in pending.volumes]
            statements.append(Statement(_PUT_VOLUME, days))
            statements.append(Statement(_PUT_PRICE, list(volumes.prices.items())))
        return [statement for statement in statements if statement.rows]

    async def _write(self, statements: list[Statement], sequence: int) -> None:
        backoff, loop = Backoff(), asyncio.get_running_loop()
        give_up = loop.time() + UNAVAILABLE_SECONDS_MAX
        while True:
            try:
                return await self._database.write(statements)
            except Conflict:
                # Ours, if an attempt whose outcome was unknown did commit; else somebody else's.
                if backoff.failures and await self._cursor() == sequence:
                    return None
                raise
            except Unavailable as error:
                if loop.time() > give_up:
                    raise
                seconds = backoff.next_seconds()
                logger.warning("the database is away", why=str(error), delay_s=round(seconds, 3))
                await asyncio.sleep(seconds)

    async def _cursor(self) -> int:
        sequence: int = (await self._database.fetch("SELECT journal_sequence FROM cursor WHERE id = 1"))[0][0]
        return sequence

    # Questions.

    async def passed(self, sequence: int) -> None:
        """Waits until the database knows of an event that was folded, within PASS_SECONDS_MAX.

        Raises:
            Unavailable: it is too far behind.
        """
        if sequence > self.stored.value:
            self._hurry.set()
        try:
            async with asyncio.timeout(PASS_SECONDS_MAX):
                await self.stored.reach(sequence)
        except TimeoutError:
            raise Unavailable(f"the database is behind: it does not have event {sequence} yet") from None

    async def order(self, order_id: int) -> Order | None:
        """An order as it is in the database."""
        rows = await self._database.fetch(f"SELECT {ORDER_COLUMNS} FROM orders WHERE order_id = $1", order_id)  # noqa: S608
        return order_of(rows[0]) if rows else None

    async def orders_by_client(self, ids: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Order]:
        """The last order under each (account_id, client_order_id) that the database knows; all are of one account.

        What an order was called before a replace finds it, too.
        """
        assert len({account_id for account_id, _ in ids}) == 1, "of one account"
        marks = ", ".join(f"${place}" for place in range(2, len(ids) + 2))
        rows = await self._database.fetch(
            f"SELECT {ORDER_COLUMNS} FROM orders WHERE account_id = $1 AND client_order_id IN ({marks}) "  # noqa: S608
            "ORDER BY create_sequence",
            ids[0][0],
            *(client_order_id for _, client_order_id in ids),
        )
        found = {(order.account_id, order.client_order_id): order for order in map(order_of, rows)}
        columns = ", ".join(f"o.{column.strip()}" for column in ORDER_COLUMNS.split(","))
        former = await self._database.fetch(
            f"SELECT {columns}, n.client_order_id FROM order_names n JOIN orders o ON o.order_id = n.order_id "  # noqa: S608
            f"WHERE n.account_id = $1 AND n.client_order_id IN ({marks})",
            ids[0][0],
            *(client_order_id for _, client_order_id in ids),
        )
        for row in former:
            order, name = order_of(row), row[-1]
            known = found.get((order.account_id, name))
            if known is None or known.create_sequence < order.create_sequence:
                found[order.account_id, name] = order
        return found

    async def executions(self, order_id: int, *, through_sequence: int = INT64_MAX) -> list[Execution]:
        """What an order traded by then, oldest first: the last EXECUTIONS_MAX."""
        rows = await self._database.fetch(
            f"SELECT {EXECUTION_COLUMNS} FROM executions WHERE order_id = $1 AND event_sequence <= $2 "  # noqa: S608
            "ORDER BY trade_id DESC LIMIT $3",
            order_id,
            through_sequence,
            EXECUTIONS_MAX,
        )
        return [execution_of(row) for row in reversed(rows)]

    async def taken(self, order: Order) -> list[Execution]:
        """What an order traded at once when it was placed, oldest first: all of it, read page by page."""
        found: list[Execution] = []
        while True:
            rows = await self._database.fetch(
                f"SELECT {EXECUTION_COLUMNS} FROM executions WHERE order_id = $1 AND trade_id > $2 "  # noqa: S608
                "AND event_sequence = $4 ORDER BY trade_id LIMIT $3",
                order.order_id,
                found[-1].trade_id if found else 0,
                PAGE_ROWS,
                order.create_sequence,
            )
            found += [execution_of(row) for row in rows]
            if len(rows) < PAGE_ROWS:
                return found

    async def movement(self, transfer_id: str) -> Movement | None:
        """The movement of that id, as journaled, stored or not yet."""
        for pending in (self._pending, self._writing):
            if transfer_id in pending.movements_by_id:
                return pending.movements_by_id[transfer_id]
        rows = await self._database.fetch(
            f"SELECT {MOVEMENT_COLUMNS} FROM movements WHERE transfer_id = $1 "  # noqa: S608
            "ORDER BY create_sequence LIMIT 1",
            transfer_id,
        )
        return movement_of(rows[0]) if rows else None

    async def withdrawal(self, withdrawal_id: int) -> Movement | None:
        """The withdrawal of that id, stored or not yet."""
        for pending in (self._pending, self._writing):
            for movement in pending.movements.values():
                if movement.withdrawal_id == withdrawal_id:
                    return movement
        rows = await self._database.fetch(
            f"SELECT {MOVEMENT_COLUMNS} FROM movements WHERE withdrawal_id > 0 AND withdrawal_id = $1",  # noqa: S608
            withdrawal_id,
        )
        return movement_of(rows[0]) if rows else None

    async def withdrawals(
        self, state: MovementState | None, entries: tuple[int, int], *, before_sequence: int, limit: int
    ) -> list[Movement]:
        """Withdrawals of all accounts, newest first.

        Args:
            state: only those in it; None: all.
            entries: only those whose settlement_sequence lies between these two, both included.
            before_sequence: only those requested before this journal_sequence.
            limit: at most so many.
        """
        args: list[Value] = [*entries, before_sequence, limit]
        where = "withdrawal_id > 0 AND settlement_sequence >= $1 AND settlement_sequence <= $2 AND create_sequence < $3"
        if state is not None:
            args.append(state.value)
            where += " AND state = $5"
        rows = await self._database.fetch(
            f"SELECT {MOVEMENT_COLUMNS} FROM movements WHERE {where} ORDER BY create_sequence DESC LIMIT $4",  # noqa: S608
            *args,
        )
        return [movement_of(row) for row in rows]

    # Tokens of older versions: identity takes them over at the start.

    async def tokens(self) -> list[tuple[str, str, bool, int]]:
        """(hash, user, admin, create_ns) of all tokens."""
        rows = await self._database.fetch("SELECT hash, user_name, admin, create_ns FROM tokens")
        return [(row[0], row[1], bool(row[2]), row[3]) for row in rows]

    async def drop_tokens(self) -> None:
        """Forgets them. Raises Unavailable."""
        await self._database.write([Statement("DELETE FROM tokens")])


def _order_row(order: Order, amount: Any) -> Sequence[Value]:
    return (
        order.order_id,
        order.account_id,
        order.market_id,
        int(order.buys),
        int(order.limit),
        int(order.time_in_force),
        int(order.post_only),
        order.price_ticks,
        order.quantity_lots,
        amount(order.budget),
        order.client_order_id,
        order.maker_fee_ppm,
        order.taker_fee_ppm,
        order.filled_lots,
        amount(order.filled_quote),
        int(order.state),
        int(order.cause),
        amount(order.lock),
        order.create_sequence,
        order.create_ns,
        order.event_sequence,
        order.event_ns,
        order.hidden_lots,
        "" if order.terms is None else _numbers(order.terms),
        "" if order.first is None else _numbers(order.first),
    )


def _numbers(value: Terms | First) -> str:
    """Whole numbers in the order of the fields: few orders have any, and nothing is found by them."""
    return " ".join([str(int(part)) for part in value])


def _terms(text: str) -> Terms | None:
    if not text:
        return None
    mode, expires, minimum, reprice, trigger, quote, *ticks = [int(part) for part in text.split()]
    return Terms(SelfTradeMode(mode), expires, minimum, bool(reprice), Trigger(trigger), bool(quote), *ticks)


def _first(text: str) -> First | None:
    if not text:
        return None
    price_ticks, quantity_lots, budget, state, *rest = [int(part) for part in text.split()]
    return First(price_ticks, quantity_lots, budget, OrderState(state), *rest)


def order_of(row: Row) -> Order:
    """A row of ORDER_COLUMNS."""
    return Order(
        order_id=row[0],
        account_id=row[1],
        market_id=row[2],
        buys=bool(row[3]),
        limit=bool(row[4]),
        time_in_force=TimeInForce(row[5]),
        post_only=bool(row[6]),
        price_ticks=row[7],
        quantity_lots=row[8],
        budget=int(row[9]),
        client_order_id=row[10],
        maker_fee_ppm=row[11],
        taker_fee_ppm=row[12],
        filled_lots=row[13],
        filled_quote=int(row[14]),
        state=OrderState(row[15]),
        cause=CancelCause(row[16]),
        lock=int(row[17]),
        create_sequence=row[18],
        create_ns=row[19],
        event_sequence=row[20],
        event_ns=row[21],
        hidden_lots=row[22],
        terms=_terms(row[23]),
        first=_first(row[24]),
    )


def _execution_row(execution: Execution, fee: Value) -> Sequence[Value]:
    return (
        execution.order_id,
        execution.trade_id,
        execution.account_id,
        execution.market_id,
        execution.client_order_id,
        int(execution.buys),
        execution.price_ticks,
        execution.quantity_lots,
        fee,
        int(execution.is_maker),
        execution.settlement_sequence,
        execution.event_sequence,
        execution.event_ns,
    )


def execution_of(row: Row) -> Execution:
    """A row of EXECUTION_COLUMNS."""
    return Execution(
        order_id=row[0],
        trade_id=row[1],
        account_id=row[2],
        market_id=row[3],
        client_order_id=row[4],
        buys=bool(row[5]),
        price_ticks=row[6],
        quantity_lots=row[7],
        fee=int(row[8]),
        is_maker=bool(row[9]),
        settlement_sequence=row[10],
        event_sequence=row[11],
        event_ns=row[12],
    )


def _movement_row(movement: Movement, amount: Value) -> Sequence[Value]:
    return (
        movement.transfer_id,
        movement.kind.value,
        movement.state.value,
        movement.from_account_id,
        movement.to_account_id,
        movement.asset_id,
        amount,
        movement.create_sequence,
        movement.create_ns,
        movement.event_sequence,
        movement.event_ns,
        movement.settlement_sequence,
        movement.withdrawal_id,
        movement.address,
        movement.reason,
        movement.transaction_hash,
    )


def movement_of(row: Row) -> Movement:
    """A row of MOVEMENT_COLUMNS."""
    return Movement(
        transfer_id=row[0],
        kind=MovementKind(row[1]),
        state=MovementState(row[2]),
        from_account_id=row[3],
        to_account_id=row[4],
        asset_id=row[5],
        amount=int(row[6]),
        create_sequence=row[7],
        create_ns=row[8],
        event_sequence=row[9],
        event_ns=row[10],
        settlement_sequence=row[11],
        withdrawal_id=row[12],
        address=row[13],
        reason=row[14],
        transaction_hash=row[15],
    )


def _market_row(made: MarketCreated, notional_min: Value) -> Sequence[Value]:
    parts = (made.market_id, made.symbol, made.base_asset_id, made.quote_asset_id, made.tick_size, made.lot_size)
    return (*parts, notional_min, made.state.value, stored(made.rules))


def _market(row: Row) -> MarketCreated:
    market_id, symbol, base_asset_id, quote_asset_id, tick_size, lot_size, notional_min, state, rules = row
    parts = (market_id, symbol, base_asset_id, quote_asset_id, tick_size, lot_size)
    return MarketCreated(*parts, int(notional_min), MarketState(state), of_stored(rules))
