"""Withdrawals under rules through the public API, beside a real book: by themselves, approved, canceled, listed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb

from services.order_gateway.check import violations
from tests import books, gateways
from tests.backends import Backends
from tests.gateways import Client, Exchange, refused
from tests.settlers import eventually as until

WALLET, OTHER = "0x" + "ab" * 20, "0x" + "cd" * 20


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.backends)])
def server(request: pytest.FixtureRequest) -> Backends | None:
    return request.getfixturevalue("backends") if request.param == "postgresql" else None


@pytest.fixture
async def exchange(server: Backends | None, tmp_path: Path) -> AsyncIterator[Exchange]:
    url = await server.new_database() if server else ""
    async with gateways.exchange(tmp_path, url, withdrawal_address_delay_seconds=1) as running:
        for name in ("alice", "bob"):
            await running.user(name).balances()
        yield running
        assert violations(running.gateway.ledger) == []


async def set_rules(exchange: Exchange, **rules: Any) -> None:
    asked = admin_pb.SetWithdrawalRulesRequest(asset="BTC", reason="because", **rules)
    await exchange.user("admin").administer("SetWithdrawalRules", asked)


async def ask(client: Client, name: str, amount: str, address: str = WALLET) -> pb.Transfer:
    asked = pb.CreateWithdrawalRequest(transfer_id=name, asset="BTC", amount=amount, address=address)
    answer: pb.Transfer = (await client.money("CreateWithdrawal", asked)).transfer
    return answer


async def stands(client: Client, name: str) -> pb.Transfer:
    listed = await client.money("ListTransfers", pb.ListTransfersRequest())
    (found,) = (each for each in listed.transfers if each.transfer_id == name)
    return found  # type: ignore[no-any-return]


async def gone(exchange: Exchange, count: int) -> None:
    """Waits until so many are on their way to the chain."""
    await until(lambda: sum(not w.release_ns and w.settlement_sequence > 0 for w in waiting(exchange)) == count)


def waiting(exchange: Exchange) -> list[Any]:
    return list(exchange.gateway.ledger.withdrawals.values())


async def test_small_ones_go_by_themselves_and_large_ones_when_they_are_approved(exchange: Exchange) -> None:
    alice, admin = exchange.user("alice"), exchange.user("admin")
    await set_rules(exchange, amount_min="0.1", amount_max="20", day_max="30", unapproved_max="2")
    (told,) = (await alice.money("ListWithdrawalRules", pb.ListWithdrawalRulesRequest())).rules
    assert told == pb.WithdrawalRules(asset="BTC", amount_min="0.1", amount_max="20", day_max="30", unapproved_max="2")
    small = await ask(alice, "small", "2")
    assert small.state == pb.TRANSFER_STATE_REQUESTED and small.HasField("release_time")
    await gone(exchange, 1)
    large = await ask(alice, "large", "20")
    assert large.state == pb.TRANSFER_STATE_REQUESTED and not large.HasField("release_time")
    for amount, reason in (("0.09", "TOO_SMALL"), ("20.1", "TOO_LARGE"), ("8.1", "LIMIT_EXCEEDED")):
        assert await refused(ask(alice, f"w{amount}", amount)) == (
            "FAILED_PRECONDITION", f"WITHDRAWAL_{reason}", "amount",
        )  # fmt: skip
    (listed,) = (
        await admin.administer("ListWithdrawals", admin_pb.ListWithdrawalsRequest(state=pb.TRANSFER_STATE_REQUESTED))
    ).withdrawals
    approve = admin_pb.ApproveWithdrawalRequest(withdrawal_id=listed.withdrawal_id)
    assert (await admin.administer("ApproveWithdrawal", approve)).settlement_sequence
    assert (await stands(alice, "large")).state == pb.TRANSFER_STATE_APPROVED
    assert (await alice.balances())["BTC"] == ("78", "78", "0")
    await set_rules(exchange, day_max="0", amount_min="0")  # what is not named stays as it is
    (told,) = (await alice.money("ListWithdrawalRules", pb.ListWithdrawalRulesRequest())).rules
    assert told == pb.WithdrawalRules(asset="BTC", amount_max="20", unapproved_max="2")


async def test_a_cooling_off_in_which_it_may_be_canceled(exchange: Exchange) -> None:
    alice, admin = exchange.user("alice"), exchange.user("admin")
    await set_rules(exchange, unapproved_max="5", cooling_seconds=3600)
    for name in ("mine", "theirs"):
        assert (await ask(alice, name, "2")).HasField("release_time")
    large = await ask(alice, "large", "10")
    assert not large.HasField("release_time")
    rows = {w.transfer_id.rpartition(":")[2]: str(w.withdrawal_id) for w in waiting(exchange)}
    approve = admin_pb.ApproveWithdrawalRequest(withdrawal_id=rows["large"])
    answers = await asyncio.gather(*(admin.administer("ApproveWithdrawal", approve) for _ in range(5)))
    assert {each.settlement_sequence for each in answers} == {0}
    assert len({each.release_time.seconds for each in answers}) == 1
    assert (await stands(alice, "large")).release_time == answers[0].release_time
    assert (await alice.balances())["BTC"] == ("100", "86", "14")
    for name in ("mine", "large"):
        ended = (await alice.money("CancelWithdrawal", pb.CancelWithdrawalRequest(transfer_id=name))).transfer
        assert ended.state == pb.TRANSFER_STATE_CANCELED and not ended.HasField("release_time")
    reject = admin_pb.RejectWithdrawalRequest(withdrawal_id=rows["theirs"], reason="no")
    await admin.administer("RejectWithdrawal", reject)
    assert (await stands(alice, "theirs")).state == pb.TRANSFER_STATE_CANCELED
    assert (await alice.balances())["BTC"] == ("100", "100", "0")


async def test_a_frozen_account_waits_on(exchange: Exchange) -> None:
    """The cooling-off goes by; what waits goes once the account may again."""
    alice, admin = exchange.user("alice"), exchange.user("admin")
    await set_rules(exchange, unapproved_max="5", cooling_seconds=1)
    await ask(alice, "w", "2")
    await admin.administer("FreezeAccount", admin_pb.FreezeAccountRequest(user="alice", reason="hold on"))
    (due,) = (w.release_ns for w in waiting(exchange))
    await until(lambda: exchange.gateway.ledger.time_ns > due + 10**9)
    assert (await alice.balances())["BTC"] == ("100", "98", "2")
    await admin.administer("UnfreezeAccount", admin_pb.UnfreezeAccountRequest(user="alice", reason="it was fine"))
    await gone(exchange, 1)
    assert (await alice.balances())["BTC"] == ("98", "98", "0")


async def test_funds_leave_to_listed_addresses_only(exchange: Exchange) -> None:
    alice = exchange.user("alice")

    async def change(method: str, request: Any) -> pb.WithdrawalAddresses:
        answer: pb.WithdrawalAddresses = (await alice.money(method, request)).addresses
        return answer

    added = await change("AddWithdrawalAddress", pb.AddWithdrawalAddressRequest(address=WALLET))
    assert [each.address for each in added.addresses] == [WALLET] and not added.only
    again = await change("AddWithdrawalAddress", pb.AddWithdrawalAddressRequest(address=WALLET))
    assert again == added
    switch = await change("SetWithdrawalAddressesOnly", pb.SetWithdrawalAddressesOnlyRequest(only=True))
    assert switch.only
    assert (await refused(ask(alice, "w1", "1", OTHER)))[1:] == ("ADDRESS_NOT_ALLOWED", "address")
    assert (await refused(ask(alice, "w2", "1")))[1] == "ADDRESS_TOO_NEW"
    await until(lambda: exchange.gateway.ledger.time_ns > usable_ns(exchange))
    assert (await ask(alice, "w3", "1")).state == pb.TRANSFER_STATE_REQUESTED
    off = await change("SetWithdrawalAddressesOnly", pb.SetWithdrawalAddressesOnlyRequest(only=False))
    assert off.only and off.off_time.seconds > 0
    assert (await refused(ask(alice, "w4", "1", OTHER)))[1] == "ADDRESS_NOT_ALLOWED"
    removed = await change("RemoveWithdrawalAddress", pb.RemoveWithdrawalAddressRequest(address=WALLET))
    assert not removed.addresses
    assert (await refused(ask(alice, "w5", "1")))[1] == "ADDRESS_NOT_ALLOWED"
    theirs = await exchange.user("bob").money("GetWithdrawalAddresses", pb.GetWithdrawalAddressesRequest())
    assert theirs.addresses == pb.WithdrawalAddresses()
    nothing = alice.money("SetWithdrawalAddressesOnly", pb.SetWithdrawalAddressesOnlyRequest())
    assert await refused(nothing) == ("INVALID_ARGUMENT", "INVALID_FIELD", "only")
    for wrong in ("", "0x12", "0x" + "0" * 40):
        asked = alice.money("AddWithdrawalAddress", pb.AddWithdrawalAddressRequest(address=wrong))
        assert await refused(asked) == ("INVALID_ARGUMENT", "INVALID_FIELD", "address")


def usable_ns(exchange: Exchange) -> int:
    (allowed,) = exchange.gateway.ledger.allow_lists.values()
    return allowed.addresses[0][1]


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"asset": "NONE"}, "ASSET_NOT_FOUND", "asset"),
    ({"asset": ""}, "INVALID_FIELD", "asset"),
    ({"reason": ""}, "INVALID_FIELD", "reason"),
    ({"amount_min": "x"}, "INVALID_FIELD", "amount_min"),
    ({"day_max": f"0.{'0' * 30}1"}, "INVALID_FIELD", "day_max"),
    ({"amount_min": "2", "amount_max": "1"}, "INVALID_FIELD", "amount_min"),
    ({"cooling_seconds": 2_592_001}, "INVALID_FIELD", "cooling_seconds"),
]


async def test_rules_that_cannot_be(exchange: Exchange) -> None:
    admin = exchange.user("admin")
    for fields, reason, field in BAD:
        asked = admin_pb.SetWithdrawalRulesRequest(**{"asset": "BTC", "reason": "because", **fields})
        assert (await refused(admin.administer("SetWithdrawalRules", asked)))[1:] == (reason, field)
    asked = admin_pb.SetWithdrawalRulesRequest(asset="BTC", reason="because")
    assert (await refused(exchange.user("alice").administer("SetWithdrawalRules", asked)))[0] == "PERMISSION_DENIED"
    await admin.administer("SetWithdrawalRules", asked)
    assert exchange.gateway.ledger.withdrawal_rules, "none of them is set, and counted from now on"


async def test_a_gateway_that_starts_again_goes_on(tmp_path: Path) -> None:
    async with books.running(books.settings(f"sqlite:///{tmp_path}/book.sqlite")) as book:
        await gateways.Depositor(book.port).fund(**gateways.DEPOSITS)
        given = gateways.settings(f"sqlite:///{tmp_path}/gateway.sqlite", book.port)
        async with gateways.running(given) as first, gateways.clients(first.port) as user:
            alice = user("alice")
            await alice.balances()
            rules = admin_pb.SetWithdrawalRulesRequest(asset="BTC", reason="x", unapproved_max="5", cooling_seconds=1)
            await user("admin").administer("SetWithdrawalRules", rules)
            await alice.money("AddWithdrawalAddress", pb.AddWithdrawalAddressRequest(address=WALLET))
            await ask(alice, "small", "2")
            await ask(alice, "large", "10")
            await stands(alice, "large")  # it is in the database now, as it was asked for
            large = next(str(w.withdrawal_id) for w in first.ledger.withdrawals.values() if not w.release_ns)
            await user("admin").administer("ApproveWithdrawal", admin_pb.ApproveWithdrawalRequest(withdrawal_id=large))
        async with gateways.running(given) as second:
            assert second.ledger.allow_lists == first.ledger.allow_lists != {}
            assert second.ledger.withdrawal_rules == first.ledger.withdrawal_rules != {}
            await until(lambda: all(w.settlement_sequence for w in second.ledger.withdrawals.values()))
            assert len(second.ledger.withdrawals) == 2
