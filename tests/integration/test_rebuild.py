"""`clearbook rebuild`: the live tables, those folded anew and those after a restart are the same."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import admin_service_pb2 as admin_pb
from rich.console import Console

from services.cli.rebuild import EXIT_DIFFERENT, EXIT_REFUSED, EXIT_SAME, Sources, rebuild
from services.order_gateway import projection
from services.order_gateway.ledger import Ledger
from services.order_gateway.store import MIGRATIONS, Store
from services.runtime.db import Database, Statement
from services.runtime.migrate import migrate
from tests import gateways
from tests.backends import Backends
from tests.gateways import Exchange, limit
from tests.ledgers import state

KEPT = {"alembic_version", "tokens", "fixed_tiers", "audit"}
"""Tables that rebuild leaves alone."""


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Backends | None:
    """None: SQLite needs none."""
    return request.getfixturevalue("backends") if request.param == "postgresql" else None


@pytest.fixture
async def url(server: Backends | None, tmp_path: Path) -> str:
    """The gateway's database; the book's is a file."""
    return await server.new_database() if server else f"sqlite:///{tmp_path}/gateway.sqlite"


async def busy(exchange: Exchange) -> None:
    """A bit of everything."""
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await bob.balances()
    for place in range(20):
        await alice.place(limit("BUY", f"{30_000 + place % 5}.00", "0.1", f"a{place}"))
        await bob.place(limit("SELL", f"{30_002 + place % 3}.00", "0.07", f"b{place}"))
    for place in range(0, 20, 3):
        order = await alice.get(client_order_id=f"a{place}")
        if order.order.state == gateways.pb.ORDER_STATE_OPEN:
            await alice.cancel(client_order_id=f"a{place}")
    await alice.place(limit("BUY", "20000.00", "0.1", "again"))
    for name, then in (("again", "then"), ("then", "last")):
        replaced = gateways.pb.ReplaceOrderRequest(client_order_id=name, new_client_order_id=then)
        await alice.orders.ReplaceOrder(replaced, metadata=alice.metadata, timeout=15)
    defaults = gateways.pb.SetTradingDefaultsRequest(self_trade_prevention=gateways.pb.SELF_TRADE_PREVENTION_NONE)
    await alice.orders.SetTradingDefaults(defaults, metadata=alice.metadata, timeout=15)
    reference = admin_pb.SetReferencePriceRequest(market="BTC-USD", price="30000.00", source="elsewhere")
    await exchange.user("admin").administer("SetReferencePrice", reference)
    request = account_pb.CreateTransferRequest(transfer_id="t", to_user="bob", asset="USD", amount="5")
    await alice.accounts.CreateTransfer(request, metadata=alice.metadata, timeout=15)
    leaver = exchange.user("carol")
    await leaver.balances()
    await exchange.depositor.leave(exchange.gateway.ledger.account_ids["carol"], 1)


async def folded(book: str, gateway: str) -> tuple[int, str]:
    """Exit code and output of a rebuild."""
    printed = io.StringIO()
    code = await asyncio.to_thread(rebuild, Sources(book, gateway), Console(file=printed, width=200))
    return code, printed.getvalue()


async def test_live_rebuilt_and_restarted_are_the_same(url: str, tmp_path: Path) -> None:
    book = f"sqlite:///{tmp_path}/book.sqlite"
    async with gateways.exchange(tmp_path, url) as exchange:
        await busy(exchange)
        running = asyncio.create_task(folded(book, url))
        code, said = await running
        assert (code, "a gateway runs" in said) == (EXIT_REFUSED, True), said
        ledger = exchange.gateway.ledger
    live = state(ledger)
    async with await Database.open(url, "gateway") as database:
        await database.write([Statement("INSERT INTO fixed_tiers (account_id, tier) VALUES (1001, 'gold')")])
        before = await projection.digest(database)
        assert state(Ledger(await Store(database).load(100))) == live
        code, said = await folded(book, url)
        assert code == EXIT_SAME, said
        assert before in said and "events/s" in said
        assert len(await database.fetch("SELECT * FROM fixed_tiers")) == 1, "what the journal does not know stays"
        assert (await database.fetch("SELECT journal_sequence FROM cursor"))[0][0] >= ledger.sequence
        await _damage(database)
    code, said = await folded(book, url)
    assert code == EXIT_DIFFERENT, said
    code, said = await folded(book, url)
    assert code == EXIT_SAME, said


async def _damage(database: Database) -> None:
    wrong = "UPDATE prices SET price_ticks = price_ticks + 1"
    await database.write([Statement(wrong)])


async def test_there_is_nothing_to_fold(tmp_path: Path) -> None:
    code, said = await folded(f"sqlite:///{tmp_path}/book.sqlite", f"sqlite:///{tmp_path}/gateway.sqlite")
    assert (code, "does not exist" in said) == (EXIT_REFUSED, True)
    assert not list(tmp_path.iterdir()), "nothing is made by asking"


async def test_every_table_is_either_folded_or_kept(url: str) -> None:
    """Who adds a table says which: see projection.TABLES."""
    await migrate(url, "gateway", MIGRATIONS)
    async with await Database.open(url, "gateway") as database:
        listing = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        if database.dialect == "postgresql":
            listing = "SELECT tablename FROM pg_tables WHERE schemaname = 'gateway'"
        assert {row[0] for row in await database.fetch(listing)} == projection.TABLES.keys() | KEPT
