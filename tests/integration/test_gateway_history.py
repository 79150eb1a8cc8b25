"""The lists: every query is one range of an index on both databases; pages and sums agree with what happened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import order_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.order_gateway.account import PostingKind
from services.order_gateway.history import KINDS, History
from services.order_gateway.ledger import Ledger
from services.order_gateway.paging import OLDEST, Page, Span
from services.order_gateway.store import MIGRATIONS, Store
from services.runtime.db import Database, Row, Value
from services.runtime.migrate import migrate
from services.units import FEES_ACCOUNT
from tests import gateways
from tests.backends import Backends
from tests.gateways import Exchange, limit, refused


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Backends | None:
    """None: SQLite needs none."""
    return request.getfixturevalue("backends") if request.param == "postgresql" else None


class Recorder:
    """Notes every query of the lists."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.queries: list[tuple[str, tuple[Value, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def fetch(self, query: str, *args: Value) -> list[Row]:
        self.queries.append((query, args))
        return await self._database.fetch(query, *args)


async def ask_everything(history: History) -> None:
    """Every list with every set of filters."""
    page = Page.of(10, "")
    for span in (Span(), Span(1, 2)):
        for market_id in (None, 1):
            for open_only in (False, True):
                await history.orders(1001, market_id, span, page, open_only=open_only)
            for order_id in (None, 7):
                await history.executions(1001, market_id, order_id, span, page)
        for asset_id in (None, 1):
            for kind in (None, *PostingKind):
                await history.entries(1001, asset_id, kind, span, page)
            for name in ("", *KINDS):
                await history.movements(1001, asset_id, KINDS.get(name), span, page)
    await history.accounts("", Page.of(10, "", first=OLDEST))
    await history.changed(1001, 5, 0, 10)


def by_its_client_id(sql: str, plan: str) -> bool:
    """Whether orders that are looked up by what their owner calls them are found by that: he may have a million."""
    return "FROM orders WHERE account_id = $1 AND client_order_id IN" not in sql or "orders_by_client" in plan


async def test_every_query_is_a_range_of_an_index(server: Backends | None, tmp_path: Path) -> None:
    url = await server.new_database() if server else f"sqlite:///{tmp_path}/gateway.sqlite"
    await migrate(url, "gateway", MIGRATIONS)
    async with await Database.open(url, "gateway") as database:
        recorder = Recorder(database)
        store = Store(recorder)  # type: ignore[arg-type]
        await ask_everything(History(store, Ledger()))
        await store.orders_by_client([(1001, "a"), (1001, "b")])
        assert len(recorder.queries) > 50
        if server is None:
            for sql, args in recorder.queries:
                plan = [row[3] for row in await database.fetch(f"EXPLAIN QUERY PLAN {sql}", *args)]
                assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan), (sql, plan)
                assert by_its_client_id(sql, "\n".join(plan)), (sql, plan)
            return
    connection = await asyncpg.connect(url)
    try:
        # Small tables are read whole whatever indexes there are: ask what can be done without.
        for setting in ("enable_seqscan = off", "enable_sort = off", "search_path = gateway"):
            await connection.execute(f"SET {setting}")
        for sql, args in recorder.queries:
            plan = [row[0] for row in await connection.fetch(f"EXPLAIN {sql}", *args)]
            text = "\n".join(plan)
            assert "Index" in text and "Seq Scan" not in text and "Sort" not in text, (sql, text)
            assert by_its_client_id(sql, text), (sql, text)
    finally:
        await connection.close()


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path) as running:
        yield running


async def pages(call: Any, request: Any, field: str, client: Any) -> list[Any]:
    found: list[Any] = []
    while True:
        page = await call(request, metadata=client.metadata, timeout=15)
        assert len(getattr(page, field)) <= request.page_size
        found += getattr(page, field)
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def test_lists_page_by_page(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    for number in range(3):
        await alice.place(limit("SELL", "30000.00", "0.3", f"s{number}"))
        await bob.place(limit("BUY", "30000.00", "0.5", f"b{number}"))
    await alice.place(limit("SELL", "2000.00", "1", "eth", market="ETH-USD"))
    everything = await pages(alice.orders.ListExecutions, pb.ListExecutionsRequest(page_size=2), "executions", alice)
    keys = [(e.event_time.ToNanoseconds(), e.trade_id) for e in everything]
    assert keys == sorted(keys, reverse=True) and len(set(keys)) == len(keys) >= 3
    assert sum(Decimal(e.quantity) for e in everything) == Decimal("0.9")
    assert not any(e.settled for e in everything)
    order = everything[0].order_id
    mine = pb.ListExecutionsRequest(page_size=1, order_id=order)
    assert await pages(alice.orders.ListExecutions, mine, "executions", alice) == [
        e for e in everything if e.order_id == order
    ]
    for who, name in ((bob, order), (alice, str(int(order) + 1)), (bob, everything[0].trade_id)):
        theirs = pb.ListExecutionsRequest(order_id=str(name))
        answer = await refused(who.orders.ListExecutions(theirs, metadata=who.metadata, timeout=15))
        assert answer == ("NOT_FOUND", "ORDER_NOT_FOUND", ""), "another's, or nobody's"
    unfilled = (await alice.get(client_order_id="eth")).order.order_id
    mine = pb.ListExecutionsRequest(page_size=1, order_id=unfilled)
    assert await pages(alice.orders.ListExecutions, mine, "executions", alice) == []
    middle: Timestamp = everything[1].event_time
    for filters, expected in (
        ({"market": "ETH-USD"}, []),
        ({"start_time": middle}, [e for e in everything if e.event_time.ToNanoseconds() >= middle.ToNanoseconds()]),
        ({"end_time": middle}, [e for e in everything if e.event_time.ToNanoseconds() < middle.ToNanoseconds()]),
    ):
        asked = pb.ListExecutionsRequest(page_size=1, **filters)
        assert await pages(alice.orders.ListExecutions, asked, "executions", alice) == expected
    first = await alice.orders.ListExecutions(
        pb.ListExecutionsRequest(page_size=1), metadata=alice.metadata, timeout=15
    )
    for wrong in ({"market": "BTC-USD"}, {"end_time": middle}):
        asked = pb.ListExecutionsRequest(page_token=first.next_page_token, **wrong)
        answer = await refused(alice.orders.ListExecutions(asked, metadata=alice.metadata, timeout=15))
        assert answer == ("INVALID_ARGUMENT", "INVALID_FIELD", "page_token")
    orders = await pages(alice.orders.ListOrders, pb.ListOrdersRequest(page_size=3), "orders", alice)
    assert [o.client_order_id for o in orders] == ["eth", "s2", "s1", "s0"]
    since = pb.ListOrdersRequest(page_size=1, start_time=orders[1].create_time, market="BTC-USD")
    assert [o.client_order_id for o in await pages(alice.orders.ListOrders, since, "orders", alice)] == ["s2"]
    grants = await pages(alice.accounts.ListTransfers, account_pb.ListTransfersRequest(page_size=2), "transfers", alice)
    assert len(grants) == 3 and {t.kind for t in grants} == {account_pb.TRANSFER_KIND_ADJUSTMENT}


async def test_fees_reconcile_with_trades_to_the_unit(exchange: Exchange, tmp_path: Path) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    for number, quantity in enumerate(("0.00001", "0.33333", "1.23457")):
        await alice.place(limit("SELL", f"3000{number}.07", quantity))
        await bob.place(limit("BUY", f"3000{number}.07", quantity))
    ledger = exchange.gateway.ledger
    charged: dict[str, int] = {}
    for who in (alice, bob):
        for side in await pages(who.orders.ListExecutions, pb.ListExecutionsRequest(page_size=2), "executions", who):
            charged[side.fee_asset] = charged.get(side.fee_asset, 0) + ledger.assets_by_symbol[side.fee_asset].parse(
                side.fee, "fee"
            )
    async with await Database.open(f"sqlite:///{tmp_path}/gateway.sqlite", "gateway") as database:
        sql = "SELECT asset_id, amount FROM postings WHERE account_id = $1 AND kind = $2"
        rows = await database.fetch(sql, FEES_ACCOUNT, PostingKind.FEE.value)
    posted: dict[str, int] = {}
    for asset_id, amount in rows:
        symbol = ledger.assets[asset_id].symbol
        posted[symbol] = posted.get(symbol, 0) + int(amount)
    assert posted == charged
    for symbol, amount in charged.items():
        assert ledger.balance(FEES_ACCOUNT, ledger.assets_by_symbol[symbol].asset_id).total == amount
