"""Out of the ledger, onto the chain, into a wallet, back into the journal: the real book, a real chain, and kill -9."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import matching_service_pb2 as pb

from services.settler.contract import SettlementContract, account_key, load_abi
from services.settler.liabilities import Through
from services.settler.reconciliation import reconciliation_of
from tests import books
from tests.settlers import (
    SECOND_KEY,
    WALLET,
    Node,
    SettlerProcess,
    anvil,
    as_owner,
    claim,
    contract_of,
    deposit,
    devchain,
    eventually,
    rows,
    running,
    settings,
)

INSURANCE, FAUCET, ALICE, NOBODYS = 3, 2, 1001, 5555
BTC = 1
FUNDS = 10**20
WAIT_SECONDS_MAX = 60.0


@pytest.fixture(params=["devchain", pytest.param("anvil", marks=pytest.mark.backends)])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    if request.param == "devchain":
        made = devchain(tmp_path / "node")
    else:
        made = anvil(tmp_path, request.getfixturevalue("backends").directory)
    with running(made) as started:
        yield started


class Exchange:
    """A book, a settler that can be killed, and a user of the chain."""

    def __init__(self, folder: Path, node: Node, stub: books.Stub, process: SettlerProcess) -> None:
        self._folder, self.node, self.stub, self.settler = folder, node, stub, process
        self.gateway = books.Gateway(stub)

    async def until(self, holds: Callable[[list[journal.Event]], bool]) -> list[journal.Event]:
        """The journal, as soon as it is as it should be."""
        events: list[journal.Event] = []
        call = self.stub.StreamEvents(pb.StreamEventsRequest(), timeout=WAIT_SECONDS_MAX)
        async for message in call:
            events += journal.EventBatch.FromString(message.events).events
            if holds(events):
                break
        call.cancel()
        assert not [event for event in events if event.WhichOneof("kind") == "refused"], "a command was refused"
        return events

    async def withdraw(self, name: str, amount: int) -> int:
        """Requested and approved at once; returns its settlement sequence."""
        asked = journal.RequestWithdrawal(
            transfer_id=name, account_id=ALICE, asset_id=BTC, amount=str(amount), address=WALLET
        )
        requested = self.gateway.command(request_withdrawal=asked)
        approval = journal.ApproveWithdrawal(withdrawal_id=requested.command_id)
        await self.gateway.submit(requested, self.gateway.command(approve_withdrawal=approval))
        events = await self.until(lambda found: bool(approved(found)) and approved(found)[-1][0] == name)
        return approved(events)[-1][1]

    def contract_address(self) -> str:
        return contract_of(f"sqlite:///{self._folder}/settler.sqlite")

    @asynccontextmanager
    async def contract(self) -> AsyncIterator[tuple[SettlementContract, str]]:
        """The contract and the token of BTC."""
        contract = await SettlementContract.connect(self.node.url, self.contract_address(), load_abi())
        try:
            token = await contract.token_of("BTC")
            assert token is not None
            yield contract, token
        finally:
            await contract.close()

    async def reconciled(self, entries: int, deposits: int, claims: int) -> None:
        """Until ledger and chain were found equal, as of that; no difference was ever seen."""
        wanted = Through(entries, deposits, claims)
        query = "SELECT content FROM reconciliations ORDER BY idx DESC LIMIT 1"

        def newest() -> Through | None:
            found = rows(f"sqlite:///{self._folder}/settler.sqlite", query)
            return reconciliation_of(found[0][0]).through if found else None

        await eventually(lambda: newest() == wanted)
        assert "base units" not in self.settler.log, "the alarm names differences in these"

    async def balances(self, *accounts: int) -> list[int]:
        async with self.contract() as (contract, token):
            return [await contract.balance(account_key(account), token) for account in accounts]


def approved(events: list[journal.Event]) -> list[tuple[str, int]]:
    found = [event.withdrawal_approved for event in events if event.WhichOneof("kind") == "withdrawal_approved"]
    return [(each.withdrawal.request.transfer_id, each.settlement_sequence) for each in found]


def claims(events: list[journal.Event]) -> list[tuple[int, str, str, int]]:
    found = [event.claimed.claim for event in events if event.WhichOneof("kind") == "claimed"]
    return [(each.claim_index, each.address, each.asset, int(each.amount)) for each in found]


def deposits(events: list[journal.Event]) -> list[journal.Deposited]:
    return [event.deposited for event in events if event.WhichOneof("kind") == "deposited"]


def final(events: list[journal.Event]) -> int:
    return max((event.settlement_finalized.through_settlement_sequence for event in events), default=0)


def place_of(events: list[journal.Event], holds: Callable[[journal.Event], bool]) -> int:
    return next(place for place, event in enumerate(events) if holds(event))


@pytest.fixture
async def exchange(tmp_path: Path, node: Node) -> AsyncIterator[Exchange]:
    """Alice has FUNDS of BTC, final on chain."""
    given = books.settings(f"sqlite:///{tmp_path}/book.sqlite")
    async with books.running(given) as book, books.stub_to(book.port) as stub:
        where = f"127.0.0.1:{book.port}"
        process = SettlerProcess(tmp_path, settings(f"sqlite:///{tmp_path}/settler.sqlite", where, node.url))
        made = Exchange(tmp_path, node, stub, process)
        try:
            process.start()
            await made.gateway.open()
            await made.until(lambda events: len(deposits(events)) == 3)
            move = journal.Transfer(
                transfer_id="t", from_account_id=FAUCET, to_account_id=ALICE, asset_id=BTC, amount=str(FUNDS)
            )
            await made.gateway.submit(made.gateway.account("alice"), made.gateway.command(transfer=move))
            await made.until(lambda events: final(events) == 4)
            yield made
        finally:
            process.kill()


async def test_what_is_withdrawn_is_claimed_and_journaled_once_whatever_is_killed(exchange: Exchange) -> None:
    first = await exchange.withdraw("w1", 600)
    exchange.settler.kill()  # somewhere between the batch and its finality
    exchange.settler.start()
    await exchange.until(lambda events: final(events) >= first)
    exchange.settler.kill()
    assert await claim(exchange.node.url, exchange.contract_address(), SECOND_KEY, "BTC") == 600  # nobody looks
    second = await exchange.withdraw("w2", 30)
    third = await exchange.withdraw("w3", 1)
    exchange.settler.start()
    events = await exchange.until(lambda events: bool(claims(events)) and final(events) >= third)
    assert claims(events) == [(1, WALLET, "BTC", 600)]
    assert second == first + 1 == third - 1
    assert await claim(exchange.node.url, exchange.contract_address(), SECOND_KEY, "BTC") == 31, (
        "two withdrawals are claimed at once"
    )
    events = await exchange.until(lambda events: len(claims(events)) == 2)
    assert claims(events) == [(1, WALLET, "BTC", 600), (2, WALLET, "BTC", 31)]
    paid = place_of(events, lambda event: event.claimed.claim.claim_index == 2)
    assert final(events[:paid]) >= third, "the journal knows what was settled before it knows what was claimed"
    assert await exchange.balances(ALICE) == [FUNDS - 631]

    # A deposit for an account that nobody has, of what was claimed, goes to insurance, and holds nothing back.
    for account, amount in ((NOBODYS, 7), (ALICE, 5)):
        await deposit(exchange.node.url, exchange.contract_address(), SECOND_KEY, account, "BTC", amount)
    events = await exchange.until(lambda events: len(deposits(events)) == 5 and final(events) == third + 1)
    stray, after = deposits(events)[3:]
    moved = (stray.deposit.account_id, stray.credited_account_id, stray.settlement_sequence)
    assert moved == (NOBODYS, INSURANCE, third + 1)
    assert (after.deposit.account_id, after.credited_account_id, after.settlement_sequence) == (ALICE, 0, 0)
    assert await exchange.balances(NOBODYS, INSURANCE, ALICE) == [0, 7, FUNDS - 631 + 5]
    assert len(claims(events)) == 2, "nothing comes twice"
    await eventually(lambda: f"is for account {NOBODYS}" in exchange.settler.log)
    await exchange.reconciled(third + 1, deposits=5, claims=2)


async def test_an_owner_leaves_by_the_contract(exchange: Exchange, request: pytest.FixtureRequest) -> None:
    """Who signed in with a wallet: the account has its name. On Anvil, where time can be moved, to the end."""
    leaver, gateway = ALICE + 1, exchange.gateway
    await gateway.submit(gateway.account(WALLET))
    for turn in range(2):  # the settler may hear of the account after it has cut the first one's batch
        move = journal.Transfer(
            transfer_id=f"l{turn}", from_account_id=FAUCET, to_account_id=leaver, asset_id=BTC, amount="500"
        )
        await gateway.submit(gateway.command(transfer=move))
        await exchange.until(lambda events, turn=turn: final(events) == 5 + turn)  # type: ignore[misc]
    async with exchange.contract() as (contract, token):
        assert (await contract.owner(account_key(leaver)) or "").lower() == WALLET
        assert await contract.owner(account_key(ALICE)) is None, "she did not sign in with a wallet"
    where = exchange.node.url, exchange.contract_address(), SECOND_KEY
    for function in ("request_exit", "cancel_exit"):
        await as_owner(*where, function, account_key(leaver))
    await exchange.until(lambda events: len(exits(events)) == 2)
    exchange.settler.kill()
    # The book takes this: it was not told of the last request yet. Settled after the exit, it is insurance's on chain.
    late = journal.Transfer(transfer_id="late", from_account_id=FAUCET, to_account_id=leaver, asset_id=BTC, amount="7")
    await gateway.submit(gateway.command(transfer=late))
    await as_owner(*where, "request_exit", account_key(leaver))
    left = request.node.callspec.params["node"] != "devchain"
    if left:
        await pass_time(exchange.node.url, 3600)
        await as_owner(*where, "exit", account_key(leaver), token)
    exchange.settler.start()
    events = await exchange.until(lambda events: len(exits(events)) == 3)
    assert exits(events) == [(1, leaver, False), (2, leaver, True), (3, leaver, False)]
    if not left:
        return
    events = await exchange.until(lambda events: bool(claims(events)))
    assert claims(events) == [(1, WALLET, "BTC", 1000)]
    assert [event.claimed.claim.exit_account_id for event in events if event.WhichOneof("kind") == "claimed"] == [
        leaver
    ]
    await exchange.until(lambda events: final(events) == 7)
    assert await exchange.balances(leaver, INSURANCE) == [0, 7]
    await exchange.reconciled(7, deposits=3, claims=1)


def exits(events: list[journal.Event]) -> list[tuple[int, int, bool]]:
    found = [event.exit_requested.request for event in events if event.WhichOneof("kind") == "exit_requested"]
    return [(each.exit_index, each.account_id, each.canceled) for each in found]


async def pass_time(url: str, seconds: int) -> None:
    async with httpx.AsyncClient() as client:
        for method, params in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
            call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            assert "error" not in (await client.post(url, json=call)).json(), method
