"""What accounts have done, read from the database page by page, newest first.

Journal time grows with the journal's sequence, so a time filter becomes a range of sequences by one look-up, and every
list is one range of one index. Whatever was answered before is in the database before a list is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.order_gateway.account import Entry, PostingKind
from services.order_gateway.ledger import SYSTEM_ACCOUNTS, Ledger
from services.order_gateway.model import Execution, Movement, MovementKind, Order
from services.order_gateway.paging import Page, Span
from services.order_gateway.rows import (
    EXECUTION_COLUMNS,
    MOVEMENT_COLUMNS,
    ORDER_COLUMNS,
    ORDER_HAS_CHANGED,
    ORDER_HAS_ENDED,
    ORDER_IS_OPEN,
    execution_of,
    movement_of,
    order_of,
)
from services.order_gateway.store import Store
from services.order_gateway.transfer_ids import USER_PREFIX
from services.runtime.db import Row, Value
from services.units import INT64_MAX

FREQUENT = (PostingKind.TRADE, PostingKind.FEE)
"""Kinds that an account has by the million: they are found on the way. All others have an index of their own."""


GIVER, RECEIVER = SIDES = ("from_account_id", "to_account_id")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of movement as an account sees it.

    Attributes:
        kind: as it is stored.
        side: the column in which the account must stand; "": either.
        users: whether a user made it; None: whoever did.
    """

    kind: MovementKind
    side: str = ""
    users: bool | None = None


KINDS = {
    "DEPOSIT": Kind(MovementKind.DEPOSIT),
    "WITHDRAWAL": Kind(MovementKind.WITHDRAWAL),
    "RECEIVED": Kind(MovementKind.TRANSFER, RECEIVER, users=True),
    "SENT": Kind(MovementKind.TRANSFER, GIVER, users=True),
    "ADJUSTMENT": Kind(MovementKind.TRANSFER, users=False),
}
"""By the public proto's names."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What of an account changed in a range of the journal; orders and movements perhaps in a later state."""

    orders: list[Order]
    executions: list[Execution]
    movements: list[Movement]


class _Query:
    """A SELECT that is put together with its parameters."""

    def __init__(self, columns: str, table: str) -> None:
        self._columns, self._table = columns, table
        self._where: list[str] = []
        self.args: list[Value] = []

    def where(self, condition: str, *values: Value) -> None:
        """One condition more; `?` stands for each value, in order."""
        for value in values:
            self.args.append(value)
            condition = condition.replace("?", f"${len(self.args)}", 1)
        self._where.append(condition)

    def sql(self, order: str, limit: int) -> str:
        self.args.append(limit)
        where = " AND ".join(self._where)
        return f"SELECT {self._columns} FROM {self._table} WHERE {where} ORDER BY {order} LIMIT ${len(self.args)}"  # noqa: S608 - our own words


class History:
    """The lists.

    Args:
        store: the database, and how far it is.
        ledger: the fold.
    """

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger

    async def orders(
        self, account_id: int, market_id: int | None, span: Span, page: Page, *, open_only: bool
    ) -> list[Order]:
        """Orders, the last created first."""
        found: dict[int, Order] = {}
        # Each has an index of its own. The open ones first: one that ends between the two is in both, as it became.
        for which in (ORDER_IS_OPEN,) if open_only else (ORDER_IS_OPEN, ORDER_HAS_ENDED):
            query = _Query(ORDER_COLUMNS, "orders")
            query.where("account_id = ?", account_id)
            query.where(which)
            if market_id is not None:
                query.where("market_id = ?", market_id)
            await self._between(query, "create_sequence", span)
            query.where("create_sequence < ?", page.after[0])
            rows = await self._fetch(query, "create_sequence DESC", page)
            found.update((row[0], order_of(row)) for row in rows)
        return sorted(found.values(), key=lambda order: order.create_sequence, reverse=True)[: page.limit]

    async def executions(
        self, account_id: int, market_id: int | None, order_id: int | None, span: Span, page: Page
    ) -> list[Execution]:
        """Sides of trades, the last first."""
        query = _Query(EXECUTION_COLUMNS, "executions")
        query.where("account_id = ?", account_id)
        if market_id is not None:
            query.where("market_id = ?", market_id)
        await self._between(query, "event_sequence", span)
        if order_id is not None:  # within an order, and so within a market, trade ids grow with the journal
            query.where("order_id = ?", order_id)
            query.where("trade_id < ?", page.after[1])
            order = "trade_id DESC"
        else:
            sequence, rank = page.after
            query.where("(event_sequence, settlement_sequence, is_maker) < (?, ?, ?)", sequence, *divmod(rank, 2))
            order = "event_sequence DESC, settlement_sequence DESC, is_maker DESC"
        return [execution_of(row) for row in await self._fetch(query, order, page)]

    async def entries(
        self, account_id: int, asset_id: int | None, kind: PostingKind | None, span: Span, page: Page
    ) -> list[Entry]:
        """Postings, the last first."""
        time = "(SELECT time_ns FROM moments WHERE moments.journal_sequence <= postings.journal_sequence "
        time += "ORDER BY moments.journal_sequence DESC LIMIT 1)"
        query = _Query(f"journal_sequence, line, asset_id, amount, kind, {time}", "postings")
        query.where("account_id = ?", account_id)
        if asset_id is not None:
            query.where("asset_id = ?", asset_id)
        if kind is not None:
            query.where("kind = ?", kind.value)
            if kind not in FREQUENT:
                query.where("kind > 2")  # in the words of the partial index
        await self._between(query, "journal_sequence", span)
        query.where("(journal_sequence, line) < (?, ?)", *page.after)
        rows = await self._fetch(query, "journal_sequence DESC, line DESC", page)
        return [Entry(row[0], row[1], row[2], int(row[3]), PostingKind(row[4]), row[5]) for row in rows]

    async def movements(
        self, account_id: int, asset_id: int | None, kind: Kind | None, span: Span, page: Page
    ) -> list[Movement]:
        """Movements in and out, the last begun first."""
        found: list[Movement] = []
        for side in SIDES:
            if kind is not None and kind.side not in {"", side}:
                continue
            query = _Query(MOVEMENT_COLUMNS, "movements")
            query.where(f"{side} = ?", account_id)
            if asset_id is not None:
                query.where("asset_id = ?", asset_id)
            if kind is not None:
                query.where("kind = ?", kind.kind.value)
                if kind.users is not None:
                    query.where(f"transfer_id {'' if kind.users else 'NOT '}LIKE '{USER_PREFIX}%'")
            await self._between(query, "create_sequence", span)
            query.where("create_sequence < ?", page.after[0])
            found += [movement_of(row) for row in await self._fetch(query, "create_sequence DESC", page)]
        return sorted(found, key=lambda item: item.create_sequence, reverse=True)[: page.limit]

    async def accounts(self, user: str, page: Page) -> list[tuple[int, str]]:
        """Accounts by number, the system's own first, or only the one of a user: (account_id, name)."""
        if user:
            found = self._ledger.account_ids.get(user)
            return [] if found is None or found <= page.after[0] else [(found, user)]
        await self._store.passed(self._ledger.sequence)
        system = [(number, name) for name, number in SYSTEM_ACCOUNTS.items() if number > page.after[0]]
        rows = await self._store.database.fetch(
            "SELECT account_id, name FROM accounts WHERE account_id > $1 ORDER BY account_id LIMIT $2",
            page.after[0],
            page.limit,
        )
        return [*sorted(system), *((row[0], row[1]) for row in rows)][: page.limit]

    async def changed(self, account_id: int, after: int, through: int, items_max: int) -> Changed | None:
        """What changed after an event, up to another; None: more than `items_max` of a kind.

        Executions are oldest first, and none of them is beyond `through`.
        """
        await self._store.passed(through)
        fetch, since = self._store.database.fetch, "event_sequence > $2"
        orders: list[Row] = []
        for which in (  # the open ones first: one that ends between two of these is in both
            f"create_sequence > $2 AND {ORDER_IS_OPEN}",
            f"create_sequence > $2 AND {ORDER_HAS_ENDED}",
            f"create_sequence <= $2 AND {ORDER_HAS_CHANGED} AND {since}",
        ):
            orders += await fetch(
                f"SELECT {ORDER_COLUMNS} FROM orders WHERE account_id = $1 AND {which} LIMIT $3",  # noqa: S608 - our own words
                *(account_id, after, items_max + 1),
            )
        executions = await fetch(
            f"SELECT {EXECUTION_COLUMNS} FROM executions WHERE account_id = $1 AND {since} "  # noqa: S608
            "AND event_sequence <= $3 ORDER BY event_sequence, settlement_sequence, is_maker LIMIT $4",
            *(account_id, after, through, items_max + 1),
        )
        movements: list[Row] = []
        for side in SIDES:
            movements += await fetch(
                f"SELECT {MOVEMENT_COLUMNS} FROM movements WHERE {side} = $1 AND {since} "  # noqa: S608
                "ORDER BY event_sequence LIMIT $3",
                *(account_id, after, items_max + 1),
            )
        if max(len(orders), len(executions), len(movements)) > items_max:
            return None
        return Changed(
            [order_of(row) for row in orders],
            [execution_of(row) for row in executions],
            [movement_of(row) for row in movements],
        )

    async def _fetch(self, query: _Query, order: str, page: Page) -> Sequence[Row]:
        await self._store.passed(self._ledger.sequence)
        sql = query.sql(order, page.limit)
        return await self._store.database.fetch(sql, *query.args)

    async def _between(self, query: _Query, column: str, span: Span) -> None:
        """Cuts a query to a span of time."""
        if span.start_ns is not None:
            query.where(f"{column} >= ?", await self._first_since(span.start_ns))
        if span.end_ns is not None:
            query.where(f"{column} < ?", await self._first_since(span.end_ns))

    async def _first_since(self, time_ns: int) -> int:
        """The journal_sequence of the first event at or after a time that left a trace in any list."""
        await self._store.passed(self._ledger.sequence)
        rows = await self._store.database.fetch(
            "SELECT journal_sequence FROM moments WHERE time_ns >= $1 ORDER BY time_ns LIMIT 1", time_ns
        )
        return rows[0][0] if rows else INT64_MAX
