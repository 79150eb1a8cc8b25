"""The gateway through its public API, beside a real book: orders, idempotency, balances, lists, streams, operators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.internal.v1 import forward_service_pb2, forward_service_pb2_grpc
from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import order_service_pb2 as pb
from clearbook.v1 import settlement_service_pb2 as settlement_pb
from google.rpc import status_pb2

from services.cli.health import serving
from services.order_gateway import accounts, faucet, views, watch
from services.order_gateway.call import ANSWER_SECONDS_MAX
from services.runtime import rpc
from services.runtime.run import StartError
from services.runtime.status import refusal_in
from tests import books, gateways
from tests.gateways import Exchange, limit, market, market_state, refused
from tests.ledgers import state
from tests.suite import free_ports
from tests.unit.test_gateway_wire import BAD


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path) as running:
        yield running
        await sound(running)


async def sound(running: Exchange) -> None:
    """The ledger adds up, and the database says the same."""
    from services.order_gateway.check import violations

    ledger = running.gateway.ledger
    assert violations(ledger) == []
    assert await serving(f"127.0.0.1:{running.gateway.port}")


# Orders.


async def test_the_life_of_two_orders(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    rests = (await alice.place(limit("SELL", "30000.00", "0.5", "s1"))).order
    assert (rests.state, rests.locked, rests.filled_quantity) == (pb.ORDER_STATE_OPEN, "0.5", "0")
    assert await alice.balances() == {
        "BTC": ("100", "99.5", "0.5"), "ETH": ("1000", "1000", "0"), "USD": ("10000000", "10000000", "0"),
    }  # fmt: skip
    taken = await bob.place(limit("BUY", "31000.00", "0.2", "b1"))
    assert taken.order.state == pb.ORDER_STATE_FILLED
    (execution,) = taken.executions
    assert (execution.price, execution.quantity, execution.fee, execution.fee_asset, execution.is_maker) == (
        "30000.00", "0.2", "0.0004", "BTC", False,
    )  # fmt: skip
    assert await bob.balances() == {
        "BTC": ("100.1996", "100.1996", "0"), "ETH": ("1000", "1000", "0"), "USD": ("9994000", "9994000", "0"),
    }  # fmt: skip
    now = await alice.get(order_id=rests.order_id)
    assert (now.order.filled_quantity, now.order.filled_quote, now.order.locked) == ("0.2", "6000", "0.3")
    assert [(e.fee, e.fee_asset, e.is_maker) for e in now.executions] == [("6", "USD", True)]
    ended = (await alice.cancel(client_order_id="s1")).order
    assert (ended.state, ended.cancel_cause, ended.locked) == (pb.ORDER_STATE_CANCELED, pb.CANCEL_CAUSE_USER, "0")
    assert (await alice.balances())["BTC"] == ("99.8", "99.8", "0")
    assert await refused(alice.cancel(client_order_id="s1")) == ("FAILED_PRECONDITION", "ORDER_ENDED", "")


async def test_an_order_that_ends_at_once_is_a_result(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await alice.place(limit("SELL", "30000.00", "0.1", "s"))
    cases: list[tuple[Any, int]] = [
        (limit("BUY", "29999.00", "1", time_in_force=pb.TIME_IN_FORCE_IOC), pb.CANCEL_CAUSE_IOC),
        (limit("BUY", "30000.00", "1", time_in_force=pb.TIME_IN_FORCE_FOK), pb.CANCEL_CAUSE_FOK),
        (limit("BUY", "30000.00", "1", post_only=True), pb.CANCEL_CAUSE_POST_ONLY),
        (market("BUY", "0.1", quote_budget="0.1"), pb.CANCEL_CAUSE_BUDGET),
    ]
    for request, cause in cases:
        order = (await bob.place(request)).order
        assert (order.state, order.cancel_cause, order.locked) == (pb.ORDER_STATE_CANCELED, cause, "0")
        assert order.client_order_id.startswith("cb-"), "the server made one"
    own = (await alice.place(limit("BUY", "30000.00", "0.1"))).order
    assert own.cancel_cause == pb.CANCEL_CAUSE_SELF_TRADE
    assert (await bob.balances())["USD"] == ("10000000", "10000000", "0")


async def test_market_orders(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    assert await refused(bob.place(market("BUY", "1"))) == ("FAILED_PRECONDITION", "EMPTY_BOOK", "")
    await alice.place(limit("SELL", "30000.00", "1"))
    await alice.place(limit("SELL", "40000.00", "1"))
    swept = await bob.place(market("BUY", "1.5"))
    assert (swept.order.state, swept.order.filled_quote) == (pb.ORDER_STATE_FILLED, "50000")
    assert swept.order.quote_budget == "52500", "5 % above what the book showed"
    more = await bob.place(market("BUY", "9"))
    assert (more.order.filled_quantity, more.order.cancel_cause) == ("0.5", pb.CANCEL_CAUSE_IOC)
    await alice.place(limit("BUY", "20000.00", "1"))
    sold = await bob.place(market("SELL", "0.5"))
    assert (sold.order.filled_quote, sold.order.state) == ("10000", pb.ORDER_STATE_FILLED)


async def test_funds(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    code, reason, _ = await refused(alice.place(limit("SELL", "30000.00", "100.00001")))
    assert (code, reason) == ("FAILED_PRECONDITION", "INSUFFICIENT_FUNDS")
    with pytest.raises(grpc.aio.AioRpcError, match=r"BTC: 100 available, 100\.00001 needed"):
        await alice.place(limit("SELL", "30000.00", "100.00001"))
    assert (await refused(alice.place(limit("BUY", "30000.01", "333.33333"))))[1] == "INSUFFICIENT_FUNDS"
    await alice.place(limit("SELL", "30000.00", "100"))
    assert (await refused(alice.place(limit("SELL", "30000.00", "0.00001"))))[1] == "INSUFFICIENT_FUNDS"


async def test_of_200_parallel_spends_of_one_balance_exactly_one_wins(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    await alice.balances()

    async def spend(number: int) -> str:
        try:
            await alice.place(limit("SELL", "30000.00", "100", f"spend-{number}"))
        except grpc.aio.AioRpcError as error:
            reason = rpc.rejected_from(error)
            assert reason is not None
            return reason.name
        return "won"

    answers = await asyncio.gather(*(spend(number) for number in range(200)))
    assert sorted(set(answers)) == ["INSUFFICIENT_FUNDS", "won"]
    assert answers.count("won") == 1
    assert (await alice.balances())["BTC"] == ("100", "0", "100")


async def test_bad_requests_over_the_wire(exchange: Exchange) -> None:
    """The whole table again, as it crosses the wire: never INTERNAL, always the field, and nothing has changed. (The
    market's steps differ.)
    """
    alice = exchange.user("alice")
    await alice.place(limit("SELL", "30000.00", "0.1", "mine"))
    before = state(exchange.gateway.ledger) | {"cursor": ""}
    for fields, reason, field in BAD:
        if reason in {"NOTIONAL_TOO_SMALL", "INVALID_QUANTITY"} or fields.get("quote_budget") == "1.0000001":
            continue
        code, got, named = await refused(alice.place(pb.PlaceOrderRequest(**fields)))
        assert (got, named) == (reason, field), fields
        assert code in {"INVALID_ARGUMENT", "NOT_FOUND"}
    for junk in (b"\xff" * 50, b"\x0a\x05\xff\xfe\xfd\xfc\xfb"):
        async with rpc.connect(f"127.0.0.1:{exchange.gateway.port}") as channel:
            call: Any = channel.unary_unary("/clearbook.v1.OrderService/PlaceOrder")
            assert await refused(call(junk, metadata=alice.metadata)) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST", "")
    assert state(exchange.gateway.ledger) | {"cursor": ""} == before


# Idempotency.

AGAIN: list[tuple[dict[str, Any], str]] = [
    # what is sent again, and what is answered
    ({}, "same"),
    ({"price": "30000", "quantity": "0.10"}, "same"),
    ({"time_in_force": pb.TIME_IN_FORCE_GTC}, "same"),
    ({"price": "30000.01"}, "CLIENT_ORDER_ID_REUSED"),
    ({"quantity": "0.2"}, "CLIENT_ORDER_ID_REUSED"),
    ({"side": pb.SIDE_BUY}, "CLIENT_ORDER_ID_REUSED"),
    ({"post_only": True}, "CLIENT_ORDER_ID_REUSED"),
    ({"market": "ETH-USD"}, "CLIENT_ORDER_ID_REUSED"),
    ({"client_order_id": "other"}, "new"),
]


@pytest.mark.parametrize("state", ["open", "traded", "canceled", "forgotten", "restarted"])
async def test_sent_again(tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if state == "forgotten":
        monkeypatch.setattr("services.order_gateway.ledger.ENDED_ORDERS_MAX", 0)
    async with gateways.exchange(tmp_path) as exchange:
        alice, bob = exchange.user("alice"), exchange.user("bob")
        await bob.place(limit("BUY", "30000.00", "0.04"))
        first = await alice.place(limit("SELL", "30000.00", "0.1", "again"))
        assert [e.quantity for e in first.executions] == ["0.04"]
        if state == "traded":
            await bob.place(limit("BUY", "30000.00", "0.05"))
        if state in {"canceled", "forgotten"}:
            await alice.cancel(client_order_id="again")
        if state == "forgotten":
            ledger = exchange.gateway.ledger
            await books.eventually(lambda: int(first.order.order_id) not in ledger.orders)
        if state != "restarted":
            await _send_again(alice, first)
            await sound(exchange)
    if state == "restarted":
        async with gateways.exchange(tmp_path, fund=False) as exchange:
            await _send_again(exchange.user("alice"), first)
            await sound(exchange)


async def _send_again(alice: Any, first: Any) -> None:
    for change, expected in AGAIN:
        request = limit("SELL", "30000.00", "0.1", "again")
        request.MergeFrom(pb.PlaceOrderRequest(**change))
        if expected == "same":
            assert await alice.place(request) == first
        elif expected == "new":
            assert (await alice.place(request)).order.order_id != first.order.order_id
        else:
            assert await refused(alice.place(request)) == ("ALREADY_EXISTS", expected, "client_order_id")
    assert (await alice.list(market="BTC-USD")).orders[-1] == (await alice.get(client_order_id="again")).order


async def test_sent_again_after_very_many_trades(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.order_gateway.store.PAGE_ROWS", 2)
    monkeypatch.setattr("services.order_gateway.orders.PLACED_EXECUTIONS_MAX", 3)
    alice, bob = exchange.user("alice"), exchange.user("bob")
    for number in range(1, 6):
        await bob.place(limit("BUY", "30000.00", f"0.0{number}"))
    request = limit("SELL", "30000.00", "1", "long")
    first = await alice.place(request)
    assert (first.order.filled_quantity, first.order.filled_quote, first.order.locked) == ("0.15", "4500", "0.85")
    assert [e.quantity for e in first.executions] == ["0.01", "0.02", "0.03"], "the first of them"
    assert await alice.place(request) == first
    await bob.place(limit("BUY", "30000.00", "0.5"))
    assert await alice.place(request) == first, "what it made later is not in it"
    assert (await alice.get(client_order_id="long")).order.filled_quantity == "0.65"


async def test_sent_at_the_same_time(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    answers = await asyncio.gather(*(alice.place(limit("SELL", "30000.00", "0.1", "twin")) for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert len((await alice.list()).orders) == 1
    other = await refused(alice.place(limit("SELL", "30000.00", "0.3", "twin")))
    assert other[1] == "CLIENT_ORDER_ID_REUSED"


async def test_a_refusal_does_not_use_the_id_up(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    admin = exchange.user("admin")
    request = limit("SELL", "30000.00", "100.5", "retry")
    assert (await refused(alice.place(request)))[1] == "INSUFFICIENT_FUNDS"
    await admin.administer("SetMarketState", market_state("HALTED"))
    assert (await refused(alice.place(limit("SELL", "1.00", "1", "retry"))))[1] == "MARKET_HALTED"
    await admin.administer("SetMarketState", market_state("OPEN"))
    assert (await alice.place(limit("SELL", "1.00", "1", "retry"))).order.state == pb.ORDER_STATE_OPEN


async def test_ids_are_each_accounts_own(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    hers = (await alice.place(limit("SELL", "30000.00", "0.1", "mine"))).order
    assert (await bob.place(limit("SELL", "30001.00", "0.2", "mine"))).order.order_id != hers.order_id
    for call in (bob.get, bob.cancel):
        assert await refused(call(order_id=hers.order_id)) == ("NOT_FOUND", "ORDER_NOT_FOUND", "")
        assert await refused(call(order_id="12345")) == ("NOT_FOUND", "ORDER_NOT_FOUND", "")
        assert await refused(call(client_order_id="hers")) == ("NOT_FOUND", "ORDER_NOT_FOUND", "")
    assert (await alice.get(order_id=hers.order_id)).order == hers


async def test_open_orders_are_limited(tmp_path: Path) -> None:
    async with gateways.exchange(tmp_path, open_orders_max=3) as exchange:
        alice = exchange.user("alice")
        await alice.balances()
        placing = [alice.place(limit("SELL", "30000.00", "0.1", f"c{n}")) for n in range(6)]
        answers = await asyncio.gather(*placing, return_exceptions=True)
        assert sum(isinstance(answer, pb.PlaceOrderResponse) for answer in answers) == 3
        assert (await refused(alice.place(limit("SELL", "30000.00", "0.1"))))[1] == "TOO_MANY_OPEN_ORDERS"
        await alice.cancel(client_order_id=(await alice.list()).orders[0].client_order_id)
        await alice.place(limit("SELL", "30000.00", "0.1"))


# Lists and streams.


async def test_pages(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    for number in range(7):
        await alice.place(limit("SELL", f"{30000 + number}.00", "0.1", f"c{number}"))
    await alice.place(limit("SELL", "2000.00", "1", "eth", market="ETH-USD"))
    for number in (1, 4):
        await alice.cancel(client_order_id=f"c{number}")

    async def pages(size: int, **filters: Any) -> list[str]:
        found, token = [], ""
        while True:
            answer = await alice.list(page_size=size, page_token=token, **filters)
            found += [order.client_order_id for order in answer.orders]
            assert len(answer.orders) <= size
            token = answer.next_page_token
            if not token:
                return found

    everything = ["eth", "c6", "c5", "c4", "c3", "c2", "c1", "c0"]
    for size in (1, 3, 4, 8, 100):
        assert await pages(size) == everything
    assert await pages(2, open_only=True) == ["eth", "c6", "c5", "c3", "c2", "c0"]
    assert await pages(2, market="ETH-USD") == ["eth"]
    assert await pages(2, market="BTC-USD", open_only=True) == ["c6", "c5", "c3", "c2", "c0"]
    assert (await exchange.user("bob").list()).orders == []
    token = (await alice.list(page_size=1)).next_page_token
    for wrong in ({"page_token": "x"}, {"page_token": token, "open_only": True}, {"page_size": 501}):
        code, reason, field = await refused(alice.list(**wrong))
        assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_FIELD") and field in wrong
    assert (await refused(alice.list(market="NO-NE")))[1:] == ("MARKET_NOT_FOUND", "market")


async def test_an_order_stream_shows_the_state_then_every_change(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await alice.place(limit("SELL", "30000.00", "0.5", "s1"))
    await alice.place(limit("SELL", "2000.00", "1", "eth", market="ETH-USD"))
    stream, eth = alice.stream(), alice.stream(market="ETH-USD")
    first = await stream.read()
    assert first.snapshot and [o.client_order_id for o in first.orders] == ["s1", "eth"]
    assert [o.client_order_id for o in (await eth.read()).orders] == ["eth"]
    await bob.place(limit("BUY", "30000.00", "0.2", "b1"))
    change = await stream.read()
    assert not change.snapshot and change.journal_sequence > first.journal_sequence
    assert [(o.client_order_id, o.filled_quantity) for o in change.orders] == [("s1", "0.2")]
    assert [(e.client_order_id, e.is_maker) for e in change.executions] == [("s1", True)], "not bob's side"
    await alice.cancel(client_order_id="s1")
    assert (await stream.read()).orders[0].state == pb.ORDER_STATE_CANCELED
    await alice.cancel(client_order_id="eth")
    assert (await eth.read()).orders[0].client_order_id == "eth"
    stream.cancel()
    eth.cancel()
    assert (await refused(alice.stream(market="NO-NE").read()))[1] == "MARKET_NOT_FOUND"


async def test_an_order_stream_beats(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT_SECONDS", 0.05)
    stream = exchange.user("alice").stream()
    assert (await stream.read()).snapshot
    beat = await stream.read()
    assert not beat.snapshot and not beat.orders and beat.journal_sequence > 0
    stream.cancel()


async def test_very_many_open_orders_come_in_several_messages(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "PART_ITEMS_MAX", 2)
    alice = exchange.user("alice")
    for number in range(5):
        await alice.place(limit("SELL", "30000.00", "0.1", f"c{number}"))
    stream = alice.stream()
    messages = [await stream.read() for _ in range(3)]
    assert [m.snapshot for m in messages] == [True, False, False]
    assert [[o.client_order_id for o in m.orders] for m in messages] == [["c0", "c1"], ["c2", "c3"], ["c4"]]
    stream.cancel()


# Identity.


async def test_who_calls(exchange: Exchange) -> None:
    nobody = exchange.user("alice")
    nobody.metadata = ()
    assert await refused(nobody.balances()) == ("UNAUTHENTICATED", "UNAUTHENTICATED", "")
    assert (await refused(exchange.user("fees").balances()))[:2] == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert (await refused(exchange.user("a b").balances()))[:2] == ("INVALID_ARGUMENT", "INVALID_FIELD")
    request = market_state("HALTED")
    assert (await refused(exchange.user("alice").administer("SetMarketState", request)))[0] == "PERMISSION_DENIED"


async def test_a_new_user_is_welcomed_once_however_many_ask(exchange: Exchange) -> None:
    carol = exchange.user("carol")
    answers = await asyncio.gather(*(carol.balances() for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["BTC"] == ("100", "100", "0")


# Demo funds.


async def test_demo_funds_wait_for_the_faucet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faucet, "WAIT_SECONDS_MAX", 0.3)
    async with gateways.exchange(tmp_path, fund=False) as exchange:
        alice, bob = exchange.user("alice"), exchange.user("bob")
        assert await refused(alice.balances()) == ("UNAVAILABLE", "FAUCET_EMPTY", "")
        monkeypatch.setattr(faucet, "WAIT_SECONDS_MAX", 30.0)
        async with asyncio.timeout(10):
            assert await alice.balances() == {}, "who has waited once does not wait again"
        await exchange.depositor.fund(BTC=1_000 * gateways.WHOLE)
        waiting = asyncio.create_task(bob.balances())
        await asyncio.sleep(0.05)
        assert not waiting.done(), "the others are still owed"
        await exchange.depositor.fund(ETH=10_000 * gateways.WHOLE, USD=10**8 * gateways.WHOLE)
        funded = {("100",) * 2 + ("0",), ("1000",) * 2 + ("0",), ("10000000",) * 2 + ("0",)}
        assert set((await waiting).values()) == funded
        assert set((await alice.balances()).values()) == funded, "what is owed stays owed"


async def test_what_is_owed_is_given_after_a_restart_and_only_once(tmp_path: Path) -> None:
    async with gateways.exchange(tmp_path, fund=False) as exchange:
        opening = asyncio.create_task(exchange.user("alice").balances())
        await books.eventually(lambda: "alice" in exchange.gateway.ledger.account_ids)
        opening.cancel()
        await exchange.depositor.fund(BTC=100 * gateways.WHOLE)
        ledger = exchange.gateway.ledger
        alice = ledger.account_ids["alice"]
        await books.eventually(lambda: ledger.balance(alice, 1).total == 100 * gateways.WHOLE)
    async with gateways.exchange(tmp_path, fund=False) as exchange:
        exchange.depositor.index = 1
        await exchange.depositor.fund(**gateways.DEPOSITS)
        ledger = exchange.gateway.ledger
        await books.eventually(lambda: ledger.balance(alice, 3).total > 0)
        assert (await exchange.user("alice").balances())["BTC"] == ("100", "100", "0")


async def test_an_amount_finer_than_the_asset_is_given_to_nobody(tmp_path: Path) -> None:
    async with gateways.exchange(tmp_path, faucet_grants="BTC=1,COIN=1.5") as exchange:
        admin = exchange.user("admin")
        await admin.administer("CreateAsset", admin_pb.CreateAssetRequest(symbol="COIN", decimals=0))
        assert await exchange.user("alice").balances() == {"BTC": ("1", "1", "0")}


# Operators.


async def test_operators_make_assets_and_markets(exchange: Exchange) -> None:
    admin, alice = exchange.user("admin"), exchange.user("alice")
    sol = admin_pb.CreateAssetRequest(symbol="SOL", decimals=9)
    made = admin_pb.CreateMarketRequest(market="SOL-USD", tick_size="0.010", lot_size="0.001", notional_min="1")
    assert (await refused(admin.administer("CreateMarket", made)))[1:] == ("ASSET_NOT_FOUND", "market")
    await asyncio.gather(*(admin.administer("CreateAsset", sol) for _ in range(5)))
    await asyncio.gather(*(admin.administer("CreateMarket", made) for _ in range(5)))
    same = admin_pb.CreateMarketRequest(market="SOL-USD", tick_size="0.01", lot_size="0.001", notional_min="1.0")
    await admin.administer("CreateMarket", same)
    for request in (
        admin_pb.CreateMarketRequest(market="SOL-USD", tick_size="0.1", lot_size="0.001", notional_min="1"),
        admin_pb.CreateMarketRequest(market="SOL-USD", tick_size="0.01", lot_size="0.001"),
    ):
        assert (await refused(admin.administer("CreateMarket", request)))[:2] == ("ALREADY_EXISTS", "ALREADY_EXISTS")
    other = admin_pb.CreateAssetRequest(symbol="SOL")
    assert (await refused(admin.administer("CreateAsset", other)))[:2] == ("ALREADY_EXISTS", "ALREADY_EXISTS")
    fine = admin_pb.CreateMarketRequest(market="SOL-BTC", tick_size="0.0000000001", lot_size="0.000000001")
    assert (await refused(admin.administer("CreateMarket", fine)))[:2] == ("FAILED_PRECONDITION", "INVALID_MARKET")
    order = (await alice.place(limit("BUY", "10.00", "1", market="SOL-USD"))).order
    assert (order.market, order.price) == ("SOL-USD", "10.00")
    small = await refused(alice.place(limit("BUY", "0.99", "1", market="SOL-USD")))
    assert small == ("INVALID_ARGUMENT", "NOTIONAL_TOO_SMALL", "quantity")


async def test_a_halted_market_takes_cancels_only(exchange: Exchange) -> None:
    admin, alice = exchange.user("admin"), exchange.user("alice")
    await alice.place(limit("SELL", "30000.00", "0.1", "c"))
    for _ in range(2):
        await admin.administer("SetMarketState", market_state("HALTED"))
    assert await refused(alice.place(limit("SELL", "30000.00", "0.1"))) == (
        "FAILED_PRECONDITION", "MARKET_HALTED", "market",
    )  # fmt: skip
    await alice.cancel(client_order_id="c")
    await admin.administer("SetMarketState", market_state("OPEN"))
    await alice.place(limit("SELL", "30000.00", "0.1"))


async def test_grants(exchange: Exchange) -> None:
    admin = exchange.user("admin")
    given = {"user": "dave", "asset": "BTC", "amount": "2.5", "reason": "a prize"}
    grant = admin_pb.GrantFundsRequest(transfer_id="g 1", **given)
    answers = await asyncio.gather(*(admin.administer("GrantFunds", grant) for _ in range(5)))
    assert len({answer.settlement_sequence for answer in answers}) == 1
    assert (await admin.administer("GrantFunds", grant)) == answers[0]
    assert (await exchange.user("dave").balances())["BTC"] == ("102.5", "102.5", "0")
    for change in ({"amount": "3"}, {"user": "erin"}, {"asset": "USD"}, {"reason": "another"}):
        other = admin_pb.GrantFundsRequest(transfer_id="g 1", **given | change)
        assert (await refused(admin.administer("GrantFunds", other)))[:2] == ("ALREADY_EXISTS", "ALREADY_EXISTS")
    much = admin_pb.GrantFundsRequest(transfer_id="g2", **given | {"amount": "9000000000000"})
    assert (await refused(admin.administer("GrantFunds", much)))[:2] == ("FAILED_PRECONDITION", "INSUFFICIENT_FUNDS")


# The other doors.


async def test_settlements_without_a_settler(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    asked = settlement_pb.GetSettlementRequest(settlement_sequence=1)
    assert await refused(alice.settlements.GetSettlement(asked)) == ("UNAVAILABLE", "UNAVAILABLE", "")
    stream = alice.settlements.StreamSettlements(settlement_pb.StreamSettlementsRequest())
    assert (await refused(stream.read()))[:2] == ("UNAVAILABLE", "UNAVAILABLE")
    others = settlement_pb.GetSettlementRequest(transfer_id="user:1001:rent")
    assert (await refused(alice.settlements.GetSettlement(others)))[1] == "SETTLEMENT_NOT_FOUND"
    nothing = settlement_pb.GetSettlementRequest()
    assert (await refused(alice.settlements.GetSettlement(nothing)))[2] == "settlement_sequence"


async def test_forwarded_calls(exchange: Exchange) -> None:
    def item(number: int, method: str, request: Any, user: str = "alice") -> forward_service_pb2.ForwardRequest:
        data = request if isinstance(request, bytes) else request.SerializeToString()
        metadata = {"x-clearbook-user": user} if user else {}
        return forward_service_pb2.ForwardRequest(id=number, method=method, request=data, metadata=metadata)

    orders = "/clearbook.v1.OrderService"
    items = [
        item(1, f"{orders}/PlaceOrder", limit("SELL", "30000.00", "0.1", "f1")),
        item(2, f"{orders}/PlaceOrder", limit("SELL", "30000.00", "0.1", "f2"), user=""),
        item(3, f"{orders}/PlaceOrder", limit("SELL", "x", "0.1", "f3")),
        item(4, f"{orders}/PlaceOrder", b"\xff\xff"),
        item(5, f"{orders}/Nonsense", b""),
        item(6, "/clearbook.v1.AccountService/ListBalances", account_pb.ListBalancesRequest()),
        *(item(100 + n, f"{orders}/PlaceOrder", limit("SELL", "30000.00", "0.01", f"m{n}")) for n in range(300)),
    ]
    items[0].more.extend([
        item(7, f"{orders}/PlaceOrder", limit("SELL", "30000.00", "0.1", "f1")),
        item(8, f"{orders}/PlaceOrder", limit("SELL", "30000.00", "0.2", "f1")),
        item(9, f"{orders}/PlaceOrder", limit("BUY", "20000.00", "0.1", "f9"), user="newcomer"),
        item(10, f"{orders}/PlaceOrder", b"\xff\xff"),
    ])  # fmt: skip
    items[0].more[2].brief = True
    async with rpc.connect(f"127.0.0.1:{exchange.gateway.forward_port}") as channel:
        stub: Any = forward_service_pb2_grpc.ForwardServiceStub(channel)
        answers = {
            answer.id: answer async for message in stub.Forward(iter(items)) for answer in (message, *message.more)
        }
    assert answers.keys() == {i.id for message in items for i in (message, *message.more)}
    assert answers[7].response == answers[1].response, "sent twice in one message"
    assert not answers[9].response and not answers[9].status, "brief, and the account had to be opened first"
    placed = pb.PlaceOrderResponse.FromString(answers[1].response)
    assert placed.order.client_order_id == "f1" and not answers[1].status
    reasons = {}
    for number in (2, 3, 4, 5, 8, 10):
        refusal = refusal_in(status_pb2.Status.FromString(answers[number].status))
        assert refusal is not None and not answers[number].response
        reasons[number] = (refusal.reason.name, refusal.field)
    assert reasons == {
        2: ("UNAUTHENTICATED", ""), 3: ("INVALID_FIELD", "price"), 4: ("MALFORMED_REQUEST", ""),
        5: ("MALFORMED_REQUEST", "method"), 8: ("CLIENT_ORDER_ID_REUSED", "client_order_id"),
        10: ("MALFORMED_REQUEST", ""),
    }  # fmt: skip
    assert len(account_pb.ListBalancesResponse.FromString(answers[6].response).balances) == 3
    assert all(not answers[100 + n].status for n in range(300))
    assert len((await exchange.user("alice").list(page_size=500)).orders) == 301


# Health.


async def test_a_ledger_that_does_not_add_up_stops_the_service(exchange: Exchange) -> None:
    alice, address = exchange.user("alice"), f"127.0.0.1:{exchange.gateway.port}"
    await alice.balances()
    balance = exchange.gateway.ledger.balance(exchange.gateway.ledger.account_ids["alice"], 1)
    balance.total += 1
    await _until(lambda: serving(address), False)
    assert (await refused(alice.place(limit("SELL", "30000.00", "0.1"))))[0] == "UNAVAILABLE"
    balance.total -= 1
    await _until(lambda: serving(address), True)
    await alice.place(limit("SELL", "30000.00", "0.1"))


async def test_without_the_book_nothing_is_taken_and_everything_can_be_read(tmp_path: Path) -> None:
    folder, (port,) = tmp_path, free_ports(1)
    book = books.settings(f"sqlite:///{folder}/book.sqlite", book_address=f"127.0.0.1:{port}")
    given = gateways.settings(f"sqlite:///{folder}/gateway.sqlite", port)
    away = AsyncExitStack()
    await away.enter_async_context(books.running(book))
    await gateways.Depositor(port).fund(**gateways.DEPOSITS)
    async with gateways.running(given) as gateway, gateways.clients(gateway.port) as user:
        alice, address = user("alice"), f"127.0.0.1:{gateway.port}"
        placed = await alice.place(limit("SELL", "30000.00", "0.1", "before"))
        await away.aclose()
        await _until(lambda: serving(address), False)
        assert await refused(alice.place(limit("SELL", "30000.00", "0.1", "c"))) == ("UNAVAILABLE", "NOT_TAKEN", "")
        assert await refused(alice.cancel(client_order_id="before")) == ("UNAVAILABLE", "NOT_TAKEN", "")
        assert await refused(user("new").balances()) == ("UNAVAILABLE", "NOT_TAKEN", "")
        assert (await alice.get(client_order_id="before")).order == placed.order
        assert (await alice.balances())["BTC"] == ("100", "99.9", "0.1")
        assert await alice.place(limit("SELL", "30000.00", "0.1", "before")) == placed
        async with books.running(book):
            await _until(lambda: serving(address), True)
            await alice.cancel(client_order_id="before")
            assert (await alice.balances())["BTC"] == ("100", "100", "0")


async def _until(state: Callable[[], Awaitable[bool]], wanted: bool) -> None:
    async with asyncio.timeout(books.STEP_SECONDS_MAX):
        while await state() is not wanted:
            await asyncio.sleep(0.02)


# Starting and stopping.


@pytest.mark.parametrize(
    ("more", "fine"),
    [
        ({"gateway_address": "0.0.0.0:50051"}, False),
        ({"forward_address": "0.0.0.0:50063"}, False),
        ({"gateway_listen": "0.0.0.0:50051"}, False),
        ({"gateway_address": "example.org:50051", "gateway_listen": "127.0.0.1:50051"}, True),
        ({"gateway_address": "0.0.0.0:50051", "clearbook_open_bind": True}, True),
        ({"gateway_address": "0.0.0.0:50051", "clearbook_auth": "required"}, True),
        ({"gateway_address": "[::1]:50051"}, True),
    ],
)
async def test_open_mode_stays_at_home(more: dict[str, Any], fine: bool) -> None:
    given = gateways.settings("sqlite:///nowhere", 1, **more)
    if fine:
        given.check_exposure()
    else:
        with pytest.raises(StartError, match="CLEARBOOK_OPEN_BIND"):
            given.check_exposure()


async def test_another_journal_is_refused(tmp_path: Path) -> None:
    async with gateways.exchange(tmp_path) as exchange:
        await exchange.user("alice").balances()
    (tmp_path / "book.sqlite").unlink()
    async with books.running(books.settings(f"sqlite:///{tmp_path}/other.sqlite")) as book:
        given = gateways.settings(f"sqlite:///{tmp_path}/gateway.sqlite", book.port)
        with pytest.raises(ExceptionGroup) as caught:
            async with gateways.running(given):
                pass
        assert caught.group_contains(StartError, match="journal")


async def test_a_taken_port_leaves_the_running_gateway_alone(exchange: Exchange, tmp_path: Path) -> None:
    given = gateways.settings(f"sqlite:///{tmp_path}/other.sqlite", exchange.book.port)
    taken = given.model_copy(update={"gateway_address": f"127.0.0.1:{exchange.gateway.port}"})
    with pytest.raises(StartError, match="taken"):
        async with gateways.running(taken):
            pass
    await exchange.user("alice").place(limit("SELL", "30000.00", "0.1"))


async def test_a_second_gateway_of_the_same_number_ends_the_first(tmp_path: Path) -> None:
    async with books.running(books.settings(f"sqlite:///{tmp_path}/book.sqlite")) as book:
        await gateways.Depositor(book.port).fund(**gateways.DEPOSITS)
        with pytest.raises(ExceptionGroup) as caught:
            await _two_of_one_number(tmp_path, book.port)
        assert caught.group_contains(StartError, match="GATEWAY_NUMBER")


async def _two_of_one_number(folder: Path, book_port: int) -> None:
    first = gateways.settings(f"sqlite:///{folder}/one.sqlite", book_port)
    second = gateways.settings(f"sqlite:///{folder}/two.sqlite", book_port)
    async with gateways.running(first) as old, gateways.clients(old.port) as user:
        await user("alice").balances()
        async with gateways.running(second) as new, gateways.clients(new.port) as other:
            assert (await other("alice").balances())["BTC"] == ("100", "100", "0")
            with pytest.raises(grpc.aio.AioRpcError):
                await user("alice").place(limit("SELL", "30000.00", "0.1"), timeout=3)
            assert (await other("alice").balances())["BTC"] == ("100", "100", "0")


async def test_it_ends_in_order_with_streams_told(tmp_path: Path) -> None:
    outliving = AsyncExitStack()
    async with gateways.exchange(tmp_path) as exchange:
        user = await outliving.enter_async_context(gateways.clients(exchange.gateway.port))
        alice = user("alice")
        placed = await alice.place(limit("SELL", "30000.00", "0.1", "last"))
        stream = alice.stream()
        await stream.read()
        ending = asyncio.create_task(refused(stream.read()))
        sequence = exchange.gateway.ledger.sequence
    assert (await ending)[:2] == ("UNAVAILABLE", "CLOSING")
    await outliving.aclose()
    async with gateways.exchange(tmp_path, fund=False) as exchange:
        assert exchange.gateway.ledger.sequence > sequence
        assert (await exchange.user("alice").get(client_order_id="last")).order == placed.order


def test_the_wait_for_an_answer_is_bounded() -> None:
    assert ANSWER_SECONDS_MAX <= 30
    assert accounts.ACCOUNTS_MAX < 10**7
