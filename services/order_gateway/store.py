"""The database behind the fold: follows it in whole steps, loads it at the start, answers for what memory let go.

One transaction a flush carries postings, balances, orders, executions, accounts and the cursor together. The cursor's
row is guarded by its old value: of two writers one fails, and of a commit whose outcome is unknown the cursor tells.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from services import allow_list, withdrawal_rules
from services.order_gateway.ledger import UNSETTLED_TRANSFERS_MAX, Ledger, Snapshot
from services.order_gateway.model import (
    AccountOpened,
    DebtState,
    Execution,
    Movement,
    MovementKind,
    MovementState,
    Order,
    ReferencePriceSet,
    SelfTradeMode,
)
from services.order_gateway.pending import Pending
from services.order_gateway.progress import Progress
from services.order_gateway.rows import (
    EXECUTION_COLUMNS,
    MOVEMENT_COLUMNS,
    ORDER_COLUMNS,
    ORDER_HAS_ENDED,
    ORDER_IS_OPEN,
    execution_of,
    market_of,
    movement_of,
    order_of,
)
from services.order_gateway.unsettled import Unsettled
from services.order_gateway.volumes import DAY_NS, DAYS_MAX, VOLUME_ASSET
from services.runtime import log, metrics
from services.runtime.db import Conflict, Database, Statement, Unavailable, Value
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

_NEW_CURSOR = (
    "INSERT INTO cursor (id, journal_sequence, time_ns, incarnation, final_through, unsettled_since) "
    "VALUES (1, 0, 0, '', 0, 1)"
)


class Store:
    """The gateway's database.

    Args:
        database: opened, its schema migrated; closed by whoever opened it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.pending = Pending(database.amount)
        """Hears of every change, and is written at the end of a journal row."""
        self._writing = Pending(database.amount)
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
            f"SELECT {ORDER_COLUMNS} FROM orders WHERE {ORDER_HAS_ENDED} ORDER BY event_sequence DESC LIMIT $1",  # noqa: S608
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
        references = await fetch("SELECT market_id, price_ticks, observed_ns FROM reference_prices")
        leaving = await fetch("SELECT account_id FROM leaving WHERE canceled = 0")
        debtors = await fetch("SELECT debt_id, account_id FROM debts WHERE state < $1", DebtState.RESOLVED.value)
        rules = await fetch("SELECT asset_id, rules FROM withdrawal_rules")
        lists = await fetch("SELECT account_id, allowed FROM allow_lists")
        return Snapshot(
            sequence,
            time_ns,
            incarnation,
            tuple(Asset(*row) for row in assets),
            tuple(market_of(row) for row in markets),
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
            tuple(ReferencePriceSet(*row) for row in references),
            tuple(row[0] for row in leaving),
            tuple((row[0], row[1]) for row in debtors),
            tuple((row[0], withdrawal_rules.of_stored(row[1])) for row in rules),
            tuple((row[0], allow_list.of_stored(row[1])) for row in lists),
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
                f"WHERE {ORDER_HAS_ENDED} AND event_sequence < $1 ORDER BY event_sequence DESC LIMIT $2",
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

    def row_ended(self, events: int) -> None:
        """A journal row has been folded: what is noted can be written."""
        self.pending.events += events
        _behind.set(self.pending.events)
        if self.pending.events >= PENDING_EVENTS_MAX:
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
        while not self._finished or self.pending.events:
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
        if not self.pending.events:
            return
        amount = self._database.amount
        self._writing, self.pending = self.pending, Pending(amount, self.pending.moment_ns)
        sequence, time_ns = ledger.sequence, ledger.time_ns
        statements = self._writing.statements(ledger, self.stored.value)
        await self._write(statements, sequence)
        self._writing = Pending(amount)
        self.stored.advance(sequence)
        ledger.volumes.forget_old(time_ns)
        _behind.set(self.pending.events)
        self._room.set()

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
        """The last ended order under each (account_id, client_order_id) that the database knows; all of one account.

        What an order was called before a replace finds it, too, ended or not.
        """
        assert len({account_id for account_id, _ in ids}) == 1, "of one account"
        marks = ", ".join(f"${place}" for place in range(2, len(ids) + 2))
        # Not ordered there: for that SQLite would rather read all of the account's orders in their order.
        rows = await self._database.fetch(
            f"SELECT {ORDER_COLUMNS} FROM orders WHERE account_id = $1 AND client_order_id IN ({marks}) "  # noqa: S608
            f"AND {ORDER_HAS_ENDED}",
            ids[0][0],
            *(client_order_id for _, client_order_id in ids),
        )
        ended = sorted(map(order_of, rows), key=lambda order: order.create_sequence)
        found = {(order.account_id, order.client_order_id): order for order in ended}
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
        for pending in (self.pending, self._writing):
            if (found := pending.movement(transfer_id)) is not None:
                return found
        rows = await self._database.fetch(
            f"SELECT {MOVEMENT_COLUMNS} FROM movements WHERE transfer_id = $1 "  # noqa: S608
            "ORDER BY create_sequence LIMIT 1",
            transfer_id,
        )
        return movement_of(rows[0]) if rows else None

    async def withdrawal(self, withdrawal_id: int) -> Movement | None:
        """The withdrawal of that id, stored or not yet."""
        for pending in (self.pending, self._writing):
            if (found := pending.withdrawal(withdrawal_id)) is not None:
                return found
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
