"""The audit log: written before and after, around every method that changes something; its table takes nothing back."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import admin_service_pb2 as pb
from google.protobuf import descriptor_pool
from google.protobuf.timestamp_pb2 import Timestamp

from services.errors import Reason, Rejected
from services.order_gateway import audit as audit_module
from services.order_gateway.audit import Audit, as_json
from services.order_gateway.identity.scopes import Scope
from services.order_gateway.identity.who import Identity
from services.order_gateway.methods import Access, Method
from services.order_gateway.paging import Page
from services.order_gateway.store import MIGRATIONS
from services.runtime.db import Database, Statement, Unavailable
from services.runtime.migrate import migrate
from tests import gateways
from tests.backends import Backends
from tests.gateways import Exchange, refused

OPERATOR = Identity("olga", frozenset({Scope.ADMIN}), "key-1", "10.0.0.1")
REQUEST = pb.CreateAssetRequest(symbol="SOL", decimals=9)


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Backends | None:
    """None: SQLite needs none."""
    return request.getfixturevalue("backends") if request.param == "postgresql" else None


@pytest.fixture
async def database(server: Backends | None, tmp_path: Path) -> AsyncIterator[Database]:
    url = await server.new_database() if server else f"sqlite:///{tmp_path}/gateway.sqlite"
    await migrate(url, "gateway", MIGRATIONS)
    async with await Database.open(url, "gateway") as opened:
        yield opened


async def call(audit: Audit, outcome: Any, request: Any = REQUEST) -> Any:
    async def handler(_who: Any, _request: Any, _seconds: float) -> Any:
        written = (await audit.page(Page.of(1, "")))[0]
        assert written.outcome == "UNKNOWN", "it is written before it is carried out"
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    (method,) = audit.around([Method("s", "CreateAsset", Access.ADMIN, pb.CreateAssetRequest, handler)])
    assert method.handler is not None
    return await method.handler(OPERATOR, request, 1.0)


async def test_an_entry_before_and_its_outcome_after(database: Database) -> None:
    audit = Audit(database)
    answer = pb.CreateAccountResponse(account_id="1001")
    assert await call(audit, answer) is answer
    with pytest.raises(Rejected):
        await call(audit, Rejected(Reason.ALREADY_EXISTS))
    with pytest.raises(ZeroDivisionError):
        await call(audit, ZeroDivisionError())
    found = await audit.page(Page.of(10, ""))
    assert [(e.index, e.outcome) for e in found] == [(3, "INTERNAL"), (2, "ALREADY_EXISTS"), (1, "OK")]
    assert [e.response for e in found] == ["", "", '{"account_id":"1001"}']
    first = found[-1]
    assert (first.user, first.key_id, first.peer, first.method) == ("olga", "key-1", "10.0.0.1", "CreateAsset")
    assert json.loads(first.request) == {"symbol": "SOL", "decimals": 9}
    assert await call(Audit(database), answer) is answer, "another process goes on"
    assert [e.index for e in await audit.page(Page.of(10, ""))] == [4, 3, 2, 1]


class Killed(BaseException):
    """What nobody catches."""


async def test_a_crash_in_between_leaves_the_outcome_unknown(database: Database) -> None:
    with pytest.raises(Killed):
        await call(Audit(database), Killed())
    assert [e.outcome for e in await Audit(database).page(Page.of(1, ""))] == ["UNKNOWN"]


class Away:
    """A database that loses the answers to some writes."""

    def __init__(self, database: Database, *faults: str) -> None:
        self._database, self._faults = database, list(faults)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write(self, statements: list[Statement]) -> None:
        fault = self._faults.pop(0) if self._faults else ""
        if fault == "before":
            raise Unavailable("away")
        await self._database.write(statements)
        if fault == "after":
            raise Unavailable("no answer")


@pytest.mark.parametrize(("faults", "indexes"), [(("before",), [1]), (("after",), [2, 1])])
async def test_what_cannot_be_written_is_not_carried_out(
    database: Database, faults: tuple[str, ...], indexes: list[int]
) -> None:
    audit = Audit(Away(database, *faults))  # type: ignore[arg-type]
    carried_out = []

    async def handler(*_: Any) -> pb.CreateAssetResponse:
        carried_out.append(1)
        return pb.CreateAssetResponse()

    (method,) = audit.around([Method("s", "CreateAsset", Access.ADMIN, pb.CreateAssetRequest, handler)])
    assert method.handler is not None
    with pytest.raises(Unavailable):
        await method.handler(OPERATOR, REQUEST, 1.0)
    assert not carried_out
    await method.handler(OPERATOR, REQUEST, 1.0)
    assert carried_out == [1]
    assert [e.index for e in await audit.page(Page.of(9, ""))] == indexes, "no gaps"


async def test_who_leaves_while_it_is_written_holds_up_nobody(database: Database) -> None:
    """A write goes on without its caller: the next entry may not take its place."""
    audit, reached, go_on = Audit(database), asyncio.Event(), asyncio.Event()
    write = database.write

    async def slow(statements: list[Statement]) -> None:
        reached.set()
        await go_on.wait()
        await write(statements)

    database.write = slow  # type: ignore[method-assign,assignment]
    answer = pb.CreateAssetResponse()
    assert await audit.page(Page.of(1, "")) == []
    left = asyncio.create_task(call(audit, answer))
    await reached.wait()
    database.write = write  # type: ignore[method-assign]
    row = "1, 1, 'olga', '', '', 'CreateAsset', '{}', 'UNKNOWN', ''"
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    await database.write([Statement(f"INSERT INTO audit VALUES ({row})")])  # what was on its way arrives all the same
    assert await call(audit, answer) is answer
    assert [e.index for e in await audit.page(Page.of(9, ""))] == [2, 1]


async def test_who_leaves_while_the_outcome_is_written_leaves_it_known(database: Database) -> None:
    audit, reached, go_on, written = Audit(database), asyncio.Event(), asyncio.Event(), asyncio.Event()
    write = database.write

    async def slow(statements: list[Statement]) -> None:
        if (await audit.page(Page.of(1, ""))) != []:
            reached.set()
            await go_on.wait()
        await write(statements)
        if reached.is_set():
            written.set()

    database.write = slow  # type: ignore[method-assign,assignment]
    left = asyncio.create_task(call(audit, pb.CreateAssetResponse()))
    async with asyncio.timeout(5):
        await reached.wait()
        left.cancel()
        await asyncio.wait([left])
        assert left.cancelled()
        go_on.set()
        await written.wait()
    assert [e.outcome for e in await audit.page(Page.of(1, ""))] == ["OK"]


async def test_an_outcome_that_cannot_be_written_takes_nothing_back(database: Database) -> None:
    audit = Audit(Away(database, "", "before"))  # type: ignore[arg-type]
    answer = pb.CreateAssetResponse()
    assert await call(audit, answer) is answer
    assert [e.outcome for e in await audit.page(Page.of(1, ""))] == ["UNKNOWN"]


TAMPERING = [
    "UPDATE audit SET outcome = 'OK' WHERE entry_index = 2",
    "UPDATE audit SET response = '{}' WHERE entry_index = 2",
    "UPDATE audit SET outcome = 'OK', user_name = 'eve' WHERE entry_index = 1",
    "UPDATE audit SET request = '[]' WHERE entry_index = 1",
    "UPDATE audit SET entry_index = 7 WHERE entry_index = 1",
    "UPDATE audit SET create_ns = 7 WHERE entry_index = 1",
    "UPDATE audit SET key_id = '', peer = '', method = '' WHERE entry_index = 1",
    "DELETE FROM audit WHERE entry_index = 1",
    "DELETE FROM audit",
    "TRUNCATE audit",
]


async def test_the_table_takes_nothing_back(database: Database) -> None:
    row = "1, 'olga', '', '', 'CreateAsset', '{}'"
    for index, outcome in ((1, "UNKNOWN"), (2, "NOT_FOUND")):
        await database.write([Statement(f"INSERT INTO audit VALUES ({index}, {row}, '{outcome}', '')")])
    before = await database.fetch("SELECT * FROM audit ORDER BY entry_index")
    for sql in TAMPERING:
        if database.dialect == "sqlite" and sql.startswith("TRUNCATE"):
            continue
        with pytest.raises((sqlite3.IntegrityError, asyncpg.RaiseError), match="append-only"):
            await database.write([Statement(sql)])
    assert await database.fetch("SELECT * FROM audit ORDER BY entry_index") == before
    await database.write([Statement("UPDATE audit SET outcome = 'OK' WHERE entry_index = 1")])


def test_requests_without_secrets_and_of_a_length() -> None:
    made = pb.CreateUserApiKeyRequest(
        user="alice",
        key=account_pb.CreateApiKeyRequest(label="bot", public_key=b"\1\2", expire_time=Timestamp(seconds=1)),
    )
    assert json.loads(as_json(made)) == {
        "user": "alice",
        "key": {
            "kind": "KEY_KIND_UNSPECIFIED",
            "scopes": [],
            "label": "bot",
            "public_key": "AQI=",
            "allowed_ips": [],
            "expire_time": "1970-01-01T00:00:01Z",
        },
    }
    shown = audit_module._shown({"a": [{"token": "x", "b": 1}], "secret": {"deep": "y"}})
    assert shown == {"a": [{"token": audit_module.HIDDEN, "b": 1}], "secret": audit_module.HIDDEN}
    long = as_json(pb.CreateAccountRequest(user="x" * 10**6))
    assert len(long) == audit_module.REQUEST_CHARS_MAX + 1


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path) as running:
        yield running


READS = {"ListAccounts", "ListWithdrawals", "ListFeeTiers", "ListAuditEntries", "ListUserApiKeys"}


JOURNALED = {"SetReferencePrice"}
"""Asked for once a second, and in the journal with its source."""


async def test_every_admin_method_is_in_the_log_but_those_that_read(exchange: Exchange) -> None:
    """Whatever the proto declares: an RPC that is added later is in the log too, whether it succeeds or not."""
    admin, eve = exchange.user("admin"), exchange.user("eve")
    service = descriptor_pool.Default().FindServiceByName("clearbook.v1.AdminService")
    for rpc in service.methods:
        request = getattr(pb, rpc.input_type.name)()
        assert (await refused(eve.administer(rpc.name, request)))[0] == "PERMISSION_DENIED"
        if rpc.name in READS:
            await admin.administer(rpc.name, request)
        else:
            await refused(admin.administer(rpc.name, request))
    await admin.administer("CreateAccount", pb.CreateAccountRequest(user="carol"))
    listed = await admin.administer("ListAuditEntries", pb.ListAuditEntriesRequest(page_size=500))
    entries = list(reversed(listed.entries))
    declared = [rpc.name for rpc in service.methods if rpc.name not in READS | JOURNALED]
    assert [entry.method for entry in entries] == [*declared, "CreateAccount"]
    assert [entry.index for entry in entries] == list(range(1, len(entries) + 1))
    assert {entry.outcome for entry in entries[:-1]} <= {"INVALID_FIELD", "WITHDRAWAL_NOT_FOUND", "KEY_NOT_FOUND"}
    last = entries[-1]
    assert (last.user, last.outcome, json.loads(last.request)) == ("admin", "OK", {"user": "carol"})
    assert last.peer == "127.0.0.1"
    assert last.create_time.seconds > 10**9


async def test_accounts(exchange: Exchange) -> None:
    admin = exchange.user("admin")
    for name in ("carol", "dave", "carol"):
        made = await admin.administer("CreateAccount", pb.CreateAccountRequest(user=name))
        assert int(made.account_id) == exchange.gateway.ledger.account_ids[name]
    refusal = await refused(admin.administer("CreateAccount", pb.CreateAccountRequest(user="fees")))
    assert refusal[1] == "PERMISSION_DENIED"
    found, token = [], ""
    while True:
        page = await admin.administer("ListAccounts", pb.ListAccountsRequest(page_size=2, page_token=token))
        found += page.accounts
        token = page.next_page_token
        if not token:
            break
        assert len(page.accounts) == 2
    names = [account.user for account in found]
    assert names[:5] == ["fees", "faucet", "insurance", "outside", "adjustments"]
    assert set(names[5:]) == {"carol", "dave"}
    assert [int(account.account_id) for account in found] == sorted(int(account.account_id) for account in found)
    assert {"BTC", "ETH", "USD"} <= {balance.asset for balance in found[1].balances}
    assert found[-1].fee_tier == "standard"
    for user, expected in (("dave", ["dave"]), ("nobody", [])):
        only = await admin.administer("ListAccounts", pb.ListAccountsRequest(user=user))
        assert [account.user for account in only.accounts] == expected
    wrong = pb.ListAccountsRequest(user="dave", page_token=(await _first_token(admin)))
    assert (await refused(admin.administer("ListAccounts", wrong)))[1:] == ("INVALID_FIELD", "page_token")


async def _first_token(admin: Any) -> str:
    page = await admin.administer("ListAccounts", pb.ListAccountsRequest(page_size=1))
    return str(page.next_page_token)
