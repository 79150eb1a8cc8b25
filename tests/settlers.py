"""A settler under test: in this process or in one of its own, a book that only pretends, and a chain to settle on."""

# ruff: noqa: ARG002 (gRPC's methods take a context)

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import asyncpg
import grpc
import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import matching_service_pb2 as pb
from clearbook.internal.v1 import (
    matching_service_pb2_grpc,
    settlement_pb2,
    settler_service_pb2,
    settler_service_pb2_grpc,
)
from clearbook.v1 import settlement_service_pb2 as public
from clearbook.v1.reconciliation_pb2 import Reconciliation

from services.cli.devchain import DEV_KEY
from services.cli.health import serving
from services.errors import Reason, Rejected
from services.runtime import rpc
from services.runtime.run import Closing
from services.settler.__main__ import SettlerSettings, main
from services.settler.contract import LegRefused, SettlementContract, Signer, account_key, load_abi
from services.settler.deploy import DirectTransact
from tests import processes
from tests.suite import free_ports

START_SECONDS_MAX = 60.0
STEP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.05
AHEAD = (1 << 63) - 1
"""An index that no change has."""
FAUCET, FEES = 2, 1
ASSETS = ("BTC", "ETH", "USD")
SECOND_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
"""The second key of "test test … junk": funded on every development chain."""
WALLET = Signer(SECOND_KEY).address.lower()
"""Its address."""
State = public.SettlementState


async def eventually(holds: Callable[[], Any], seconds: float = STEP_SECONDS_MAX) -> None:
    """Waits until `holds()`, a plain function, is true."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(POLL_SECONDS)


class FakeBook(matching_service_pb2_grpc.MatchingServiceServicer):
    """Numbers entries like a book, takes deposits and finality like one, and keeps a naive ledger beside."""

    def __init__(self, seed: int = 0, shard: int = 0) -> None:
        self.shard = shard
        self.random = random.Random(seed)
        self.incarnation = f"journal-{seed}"
        self.entries: list[settlement_pb2.SettlementEntry] = []
        self.events: list[journal.Event] = []
        self.ledger: Counter[tuple[int, str]] = Counter()
        self.deposits: list[journal.DepositFinal] = []
        self.claims: list[journal.ClaimFinal] = []
        self.exits: list[journal.ExitRequestFinal] = []
        self.notes: list[journal.NoteDebt] = []
        self.claimable: Counter[tuple[str, str]] = Counter()
        """By address and asset, claims not taken off."""
        self.final_through = 0
        self.epoch = 0
        self.refused: list[str] = []
        self.hidden: set[int] = set()
        """Settlement sequences that StreamSettlementMessages holds back."""
        self.news = asyncio.Event()
        self.overstates = 0
        """By how much the journal has deposits larger than they are."""
        self.deaf = False
        """Takes no commands."""
        self._trades = 0
        self._append(leader_started=journal.LeaderStarted(epoch=1, incarnation=self.incarnation))

    # What happens in the market

    def asset(self, symbol: str, decimals: int = 18) -> None:
        self._entry(asset=settlement_pb2.SettlementAsset(symbol=symbol, decimals=decimals))
        sequence = len(self.entries)
        asset = journal.Asset(symbol=symbol, decimals=decimals)
        self._append(asset_created=journal.AssetCreated(asset=asset, settlement_sequence=sequence))

    def transfer(self, giver: int, taker: int, asset: str, amount: int) -> str:
        name = f"transfer-{len(self.entries) + 1}"
        self._entry(
            transfer=settlement_pb2.SettlementTransfer(
                transfer_id=name, from_account_id=giver, to_account_id=taker, asset=asset, amount=str(amount)
            )
        )
        self.ledger[giver, asset] -= amount
        self.ledger[taker, asset] += amount
        self._append(transferred=journal.Transferred(settlement_sequence=len(self.entries)))
        return name

    def withdraw(self, account: int, asset: str, amount: int, address: str) -> str:
        """An approved withdrawal; returns its transfer id."""
        name = f"withdrawal-{len(self.entries) + 1}"
        self._entry(
            withdrawal=settlement_pb2.SettlementWithdrawal(
                transfer_id=name, account_id=account, asset=asset, amount=str(amount), address=address
            )
        )
        self.ledger[account, asset] -= amount
        self.claimable[address, asset] += amount
        self._append(withdrawal_approved=journal.WithdrawalApproved(settlement_sequence=len(self.entries)))
        return name

    def trade(self, buyer: int, seller: int, base: int, quote: int, fee_ppm: int = 1000) -> int:
        """BTC for USD; returns the trade's id."""
        self._trades += 1
        buyer_fee, seller_fee = -(-base * fee_ppm // 10**6), -(-quote * fee_ppm // 10**6)
        self._entry(
            trade=settlement_pb2.SettlementTrade(
                market="BTC-USD",
                trade_id=self._trades,
                base_asset="BTC",
                quote_asset="USD",
                buyer_account_id=buyer,
                seller_account_id=seller,
                base_amount=str(base),
                quote_amount=str(quote),
                buyer_fee=str(buyer_fee),
                seller_fee=str(seller_fee),
            )
        )
        for account, asset, amount in (
            (buyer, "BTC", base - buyer_fee),
            (seller, "BTC", -base),
            (FEES, "BTC", buyer_fee),
            (buyer, "USD", -quote),
            (seller, "USD", quote - seller_fee),
            (FEES, "USD", seller_fee),
        ):
            self.ledger[account, asset] += amount
        trade = journal.Trade(settlement_sequence=len(self.entries), trade_id=self._trades)
        self._append(order_placed=journal.OrderPlaced(trades=[trade]))
        return self._trades

    def open_market(self, users: int = 8) -> None:
        """Three assets, and users with funds of the faucet."""
        for symbol in ASSETS:
            self.asset(symbol)
        for user in range(1001, 1001 + users):
            for symbol in ASSETS:
                self.transfer(FAUCET, user, symbol, 10**24)

    def trades(self, count: int, users: int = 8) -> None:
        for _ in range(count):
            buyer, seller = self.random.sample(range(1001, 1001 + users), 2)
            self.trade(buyer, seller, self.random.randint(1, 10**18), self.random.randint(1, 10**18))

    def messages(self, first: int, last: int, size: int = 5) -> list[settlement_pb2.SettlementMessage]:
        return [self.message(start, min(start + size - 1, last)) for start in range(first, last + 1, size)]

    def message(self, first: int, last: int) -> settlement_pb2.SettlementMessage:
        return settlement_pb2.SettlementMessage(
            shard=self.shard, incarnation=self.incarnation, entries=self.entries[first - 1 : last]
        )

    def _entry(self, **kind: Any) -> None:
        sequence = len(self.entries) + 1
        self.entries.append(
            settlement_pb2.SettlementEntry(settlement_sequence=sequence, journal_sequence=len(self.events) + 1, **kind)
        )

    def _append(self, command_id: int = 0, **kind: Any) -> None:
        self.events.append(journal.Event(journal_sequence=len(self.events) + 1, command_id=command_id, **kind))
        self._tell()

    def _tell(self) -> None:
        event, self.news = self.news, asyncio.Event()
        event.set()

    # What the settler asks

    async def OpenSession(self, request: pb.OpenSessionRequest, context: Any) -> pb.OpenSessionResponse:
        self.epoch += 1
        self._append(session_opened=journal.SessionOpened(gateway=request.gateway, epoch=self.epoch))
        return pb.OpenSessionResponse(
            epoch=self.epoch, journal_sequence=len(self.events), window_commands=100, incarnation=self.incarnation
        )

    async def Submit(self, request_iterator: AsyncIterator[pb.SubmitRequest], context: Any) -> pb.SubmitResponse:
        mine, taken = self.epoch, 0
        async for request in request_iterator:
            if mine != self.epoch:
                raise Rejected(Reason.SESSION_SUPERSEDED)
            while self.deaf:
                await asyncio.sleep(POLL_SECONDS)
            for command in request.commands:
                taken += 1
                assert command.command_id & ((1 << 36) - 1) == taken, "command numbers are not contiguous"
                assert (command.command_id >> 36) & ((1 << 20) - 1) == mine
                self._apply(command)
        return pb.SubmitResponse(taken_commands=taken)

    def _apply(self, command: journal.Command) -> None:
        if command.WhichOneof("kind") == "deposit_final":
            deposit = command.deposit_final
            if deposit.deposit_index != len(self.deposits) + 1:
                self._refuse(command)
                return
            deposit.amount = str(int(deposit.amount) + self.overstates)
            self.deposits.append(deposit)
            self.ledger[deposit.account_id, deposit.asset] += int(deposit.amount)
            self._append(command.command_id, deposited=journal.Deposited(deposit=deposit))
        elif command.WhichOneof("kind") == "claim_final":
            claim = command.claim_final
            if claim.claim_index != len(self.claims) + 1:
                self._refuse(command)
                return
            self.claims.append(claim)
            self._append(command.command_id, claimed=journal.Claimed(claim=claim))
        elif command.WhichOneof("kind") == "note_debt":
            note = command.note_debt
            if note.note_index != len(self.notes) + 1:
                self._refuse(command)
                return
            self.note(note, command.command_id)
        elif command.WhichOneof("kind") == "exit_request_final":
            asked = command.exit_request_final
            if asked.exit_index != len(self.exits) + 1:
                self._refuse(command)
                return
            self.exits.append(asked)
            self._append(command.command_id, exit_requested=journal.ExitRequested(request=asked))
        else:
            through = command.settlement_final.through_settlement_sequence
            if not self.final_through < through <= len(self.entries):
                self._refuse(command)
                return
            self.final_through = through
            finalized = journal.SettlementFinalized(through_settlement_sequence=through)
            self._append(command.command_id, settlement_finalized=finalized)

    def note(self, note: journal.NoteDebt, command_id: int = 0) -> None:
        """What became of a debt is journaled."""
        self.notes.append(note)
        if note.state == journal.DEBT_STATE_PAID:
            self.ledger[3, note.asset] -= int(note.amount)
            self.ledger[note.account_id, note.asset] += int(note.amount)
        self._append(command_id, debt_noted=journal.DebtNoted(note=note))

    def _refuse(self, command: journal.Command) -> None:
        self.refused.append(str(command))
        self._append(command.command_id, refused=journal.Refused(reason="OUT_OF_SEQUENCE"))

    async def StreamEvents(
        self, request: pb.StreamEventsRequest, context: Any
    ) -> AsyncIterator[pb.StreamEventsResponse]:
        after = request.after_journal_sequence
        if request.incarnation not in {"", self.incarnation} or after > len(self.events):
            raise Rejected(Reason.INCARNATION_MISMATCH)
        while True:
            news, events = self.news, self.events[after : after + 50]
            if not events:
                await news.wait()
                continue
            yield pb.StreamEventsResponse(
                first_journal_sequence=after + 1,
                last_journal_sequence=after + len(events),
                events=journal.EventBatch(events=events).SerializeToString(),
                incarnation=self.incarnation,
            )
            after += len(events)

    async def StreamSettlementMessages(
        self, request: pb.StreamSettlementMessagesRequest, context: Any
    ) -> AsyncIterator[pb.StreamSettlementMessagesResponse]:
        after = request.after_settlement_sequence
        while True:
            news = self.news
            if after >= len(self.entries) or after + 1 in self.hidden:
                await news.wait()
                continue
            last = min(after + 20, len(self.entries))
            yield pb.StreamSettlementMessagesResponse(message=self.message(after + 1, last))
            after = last


@asynccontextmanager
async def fake_book(seed: int = 0, port: int = 0, book: FakeBook | None = None) -> AsyncIterator[tuple[FakeBook, str]]:
    """A pretended book (a new one, or `book` again) and its address."""
    book = book or FakeBook(seed)
    server = rpc.Server(f"127.0.0.1:{port}")
    server.add(
        matching_service_pb2_grpc.add_MatchingServiceServicer_to_server, book, "clearbook.internal.v1.MatchingService"
    )
    port = await server.start()
    try:
        yield book, f"127.0.0.1:{port}"
    finally:
        await server.stop(0.2)


class Node:
    """A chain in a process of its own."""

    def __init__(self, argv: Callable[[int], list[str]], folder: Path, chain_id: int = 31337) -> None:
        self._argv, self._folder, self.chain_id = argv, folder, chain_id
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._child: processes.Child | None = None

    def start(self) -> None:
        with (self._folder / "node.log").open("ab") as log:
            self._child = processes.start(self._argv(self.port), os.environ, log)
        for _ in range(600):
            try:
                self.rpc("eth_chainId")
            except OSError:
                assert self._child.poll() is None, (self._folder / "node.log").read_text()
                time.sleep(POLL_SECONDS)
            else:
                return
        raise AssertionError("the node does not answer")

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self._child is not None:
            self._child.send_signal(how)
            self._child.wait(30)
            self._child = None

    def rpc(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        with urlopen(Request(self.url, body, {"content-type": "application/json"}), timeout=30) as answer:
            reply = json.load(answer)
        assert "error" not in reply, reply
        return reply["result"]


def devchain(folder: Path) -> Node:
    folder.mkdir(parents=True, exist_ok=True)
    data = str(folder / "devchain")
    return Node(lambda port: [*processes.COMMAND, "devchain", "--port", str(port), "--data", data], folder)


def anvil(folder: Path, directory: Path, *more: str) -> Node:
    """An Anvil of the test's own, by the program that scripts/services has installed in `directory`."""
    binary = next((directory / "node").glob("node_modules/@foundry-rs/anvil-*/bin/anvil"))
    return Node(lambda port: [str(binary), "--host", "127.0.0.1", "--port", str(port), "--silent", *more], folder)


@contextmanager
def running(node: Node) -> Iterator[Node]:
    node.start()
    try:
        yield node
    finally:
        node.stop()


def settings(database_url: str, book: str, node_url: str, **more: Any) -> SettlerSettings:
    """Settings of a settler with a faucet; `more` wins."""
    defaults: dict[str, Any] = {
        "database_url": database_url,
        "book_address": book,
        "settler_address": f"127.0.0.1:{free_ports(1)[0]}",
        "metrics_port": 0,
        "eth_testnet_url": node_url,
        "clearbook_faucet": True,
        "settlement_private_key": DEV_KEY,
        "settlement_contract_address": "",
        "settlement_contract_abi": "",
        "rabbitmq_uri": "",
        "settle_age_ms": 50,
        "settle_poll_ms": 50,
        "reconcile_seconds": 0.1,
        "settle_lease_ms": 100,
        "log_level": "debug",
    }
    return SettlerSettings.load(**{**defaults, **more})


@asynccontextmanager
async def settler(given: SettlerSettings, seconds: float = START_SECONDS_MAX) -> AsyncIterator[Settler]:
    """A settler in this process, ended in order afterwards. Its crash is the body's."""
    closing = Closing()
    task = asyncio.current_task()
    assert task is not None
    work = asyncio.create_task(main(closing, given))
    async with rpc.connect(given.settler_address) as channel:
        try:
            yield Settler(given, channel, work)
        finally:
            closing.set()
            await asyncio.wait([work], timeout=seconds)
    work.result()


class Settler:
    """What a client sees of a settler."""

    def __init__(self, given: SettlerSettings, channel: grpc.aio.Channel, work: asyncio.Task[None] | None) -> None:
        self.settings = given
        self.work = work
        self._stub = settler_service_pb2_grpc.SettlerServiceStub(channel)

    async def healthy(self, wanted: bool = True) -> None:
        async with asyncio.timeout(STEP_SECONDS_MAX):
            while await serving(self.settings.settler_address) is not wanted:
                self.check()
                await asyncio.sleep(POLL_SECONDS)

    def check(self) -> None:
        if self.work is not None and self.work.done():
            self.work.result()

    async def get(self, **how: Any) -> public.Settlement:
        request = settler_service_pb2.GetSettlementRequest(request=public.GetSettlementRequest(**how))
        return (await self._stub.GetSettlement(request, timeout=10)).response.settlement

    async def page(self, market: str = "", before: int = 1 << 62, limit: int = 100) -> list[public.Settlement]:
        request = settler_service_pb2.ListSettlementsRequest(market=market, before=before, limit=limit)
        return list((await self._stub.ListSettlements(request, timeout=10)).settlements)

    async def reconciliation(self, index: int = 0) -> Reconciliation:
        request = settler_service_pb2.GetReconciliationRequest(request=public.GetReconciliationRequest(index=index))
        return (await self._stub.GetReconciliation(request, timeout=10)).response.reconciliation

    async def reconciled(self, entries: int, deposits: int = 0, claims: int = 0) -> Reconciliation:
        """The newest, once it is as of that."""
        async with asyncio.timeout(STEP_SECONDS_MAX):
            while True:
                self.check()
                found = await self._newest()
                if found and (entries, deposits, claims) == (
                    *(found.settlement_sequence, found.deposit_index, found.claim_index),
                ):
                    return found
                await asyncio.sleep(POLL_SECONDS)

    async def _newest(self) -> Reconciliation | None:
        try:
            return await self.reconciliation()
        except grpc.aio.AioRpcError as error:
            if rpc.rejected_from(error) is Reason.RECONCILIATION_NOT_FOUND:
                return None
            raise

    async def proof(self, account_id: int) -> public.GetLiabilityProofResponse:
        request = settler_service_pb2.GetLiabilityProofRequest(account_id=account_id)
        return (await self._stub.GetLiabilityProof(request, timeout=10)).response

    async def proof_refused(self, account_id: int) -> Reason | None:
        try:
            await self.proof(account_id)
        except grpc.aio.AioRpcError as error:
            return rpc.rejected_from(error)
        return None

    async def stream(self, after: int = 0) -> AsyncIterator[public.StreamSettlementsResponse]:
        request = public.StreamSettlementsRequest(after_index=after)
        async for message in self._stub.StreamSettlements(
            settler_service_pb2.StreamSettlementsRequest(request=request)
        ):
            yield message.response

    async def history(self, after: int = 0) -> list[public.StreamSettlementsResponse]:
        """All changes there are by now, however long they take to read."""
        found: list[public.StreamSettlementsResponse] = []
        last = await self._last_index()
        async with asyncio.timeout(STEP_SECONDS_MAX):
            async for response in self.stream(after):
                found += [response] if response.settlements else []
                if response.index >= last:
                    break
        return found

    async def _last_index(self) -> int:
        """The last change's: whoever asks for more is told it."""
        try:
            async for _ in self.stream(after=AHEAD):
                break
        except grpc.aio.AioRpcError as error:
            if rpc.rejected_from(error) is not Reason.OUT_OF_SEQUENCE:
                raise
            return int((error.details() or "").rpartition(" ")[2])
        raise AssertionError(f"there is no change {AHEAD}")

    async def settled(self, book: FakeBook, claims: int = 0, seconds: float = STEP_SECONDS_MAX) -> None:
        """Waits until everything is final at the book, and it has heard of so many claims."""
        async with asyncio.timeout(seconds):
            while book.final_through < len(book.entries) or len(book.claims) < claims:
                self.check()
                await asyncio.sleep(POLL_SECONDS)


class SettlerProcess:
    """`clearbook settler`."""

    def __init__(self, folder: Path, given: SettlerSettings) -> None:
        self.settings = given
        self.log_file = folder / f"settler-{given.settler_address.rpartition(':')[2]}.log"
        names = SettlerSettings.model_fields
        self._env = {
            name.upper(): _text(getattr(given, name))
            for name in names
            if getattr(given, name) is not None and name != "data"
        }
        self._folder = folder
        self.child: processes.Child | None = None

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.child = processes.start([*processes.COMMAND, "settler"], os.environ | self._env, log)

    def kill(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait(30)
            self.child = None

    async def ended(self, seconds: float = START_SECONDS_MAX) -> int:
        assert self.child is not None
        return await asyncio.to_thread(self.child.wait, seconds)

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def lying(monkeypatch: pytest.MonkeyPatch, lies: int) -> None:
    """A node that says so often of what it will refuse that it would pass."""
    left, simulate = [lies], SettlementContract.simulate

    async def simulated(contract: SettlementContract, data: bytes, sender: str, block: Any) -> LegRefused | None:
        refused = await simulate(contract, data, sender, block)
        if refused is not None and left[0]:
            left[0] -= 1
            return None
        return refused

    monkeypatch.setattr(SettlementContract, "simulate", simulated)


async def fund(node_url: str, address: str, account: int, symbol: str, amount: int) -> None:
    """A deposit from outside, of tokens made for it, by the settler's key: it must not be sending."""
    async with _contract(node_url, address) as contract:
        token, signer = await contract.token_of(symbol), Signer(DEV_KEY)
        assert token is not None
        mint = bytes.fromhex("40c10f19") + account_key(int(signer.address, 16)) + account_key(amount)
        await DirectTransact(contract.chain, signer)(token, mint, 200_000)
    await deposit(node_url, address, DEV_KEY, account, symbol, amount)


async def deposit(node_url: str, address: str, key: str, account: int, symbol: str, amount: int) -> None:
    """A deposit of what the wallet has."""
    async with _contract(node_url, address) as contract:
        token, transact = await contract.token_of(symbol), DirectTransact(contract.chain, Signer(key))
        assert token is not None
        approve = bytes.fromhex("095ea7b3") + account_key(int(address, 16)) + account_key(amount)
        await transact(token, approve, 200_000)
        await transact(address, contract.calldata("deposit", account_key(account), token, amount), 300_000)


@asynccontextmanager
async def _contract(node_url: str, address: str) -> AsyncIterator[SettlementContract]:
    contract = await SettlementContract.connect(node_url, address, load_abi())
    try:
        yield contract
    finally:
        await contract.close()


async def as_owner(node_url: str, address: str, key: str, function: str, *args: Any) -> None:
    """A call of the contract by the wallet itself."""
    async with _contract(node_url, address) as contract:
        data = contract.calldata(function, *args)
        await DirectTransact(contract.chain, Signer(key))(address, data, 200_000)


async def claim(node_url: str, address: str, key: str, symbol: str) -> int:
    """A claim by the wallet itself; returns what it had to claim."""
    async with _contract(node_url, address) as contract:
        token, signer = await contract.token_of(symbol), Signer(key)
        assert token is not None
        waiting = await contract.claimable(signer.address, token)
        await DirectTransact(contract.chain, signer)(address, contract.calldata("claim", token), 200_000)
        assert await contract.claimable(signer.address, token) == 0
        return waiting


async def assert_balances(book: FakeBook, node_url: str, address: str) -> None:
    """The contract's balances are the naive ledger's, account by account, none negative."""
    contract = await SettlementContract.connect(node_url, address, load_abi())
    try:
        assert await contract.settled_through(book.shard) == len(book.entries)
        tokens = {symbol: await contract.token_of(symbol) for symbol in {asset for _, asset in book.ledger}}
        for (account, symbol), amount in sorted(book.ledger.items()):
            token = tokens[symbol]
            assert token is not None
            assert await contract.balance(account_key(account), token) == amount, (account, symbol)
            assert amount >= 0
        for (wallet, symbol), amount in book.claimable.items():
            token = tokens[symbol]
            assert token is not None
            claims = (int(claim.amount) for claim in book.claims if (claim.address, claim.asset) == (wallet, symbol))
            assert await contract.claimable(wallet, token) == amount - sum(claims), (wallet, symbol)
    finally:
        await contract.close()


def assert_in_order(history: list[public.StreamSettlementsResponse], entries: int) -> None:
    """Indexes without gaps, and each entry through all states once, in order (crashes may repeat SUBMITTED)."""
    first = history[0].index if history else 1
    assert [response.index for response in history] == list(range(first, first + len(history)))
    seen: dict[int, list[int]] = {}
    for response in history:
        assert len({each.state for each in response.settlements}) == 1
        for each in response.settlements:
            seen.setdefault(each.settlement_sequence, []).append(each.state)
    assert sorted(seen) == list(range(1, entries + 1))
    for sequence, states in seen.items():
        assert states == sorted(states), (sequence, states)
        assert [s for s in states if s != State.SETTLEMENT_STATE_SUBMITTED] == [1, 2, 4, 5, 6], (sequence, states)
        assert State.SETTLEMENT_STATE_SUBMITTED in states


def rows(database: str, query: str) -> list[Any]:
    """What a settler's database says."""
    if database.startswith("postgresql://"):
        with ThreadPoolExecutor(1) as beside:  # the caller's loop is running
            return beside.submit(asyncio.run, _postgres_rows(database, query)).result()
    with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
        return connection.execute(query).fetchall()


async def _postgres_rows(url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(url, server_settings={"search_path": "settler"})
    try:
        return [tuple(record) for record in await connection.fetch(query)]
    finally:
        await connection.close()


def contract_of(database: str) -> str:
    """The contract that a settler found or deployed."""
    return str(rows(database, "SELECT content FROM meta WHERE name = 'contract_address'")[0][0])


def assert_one_nonce_one_batch(database: str, *, strictly: bool = True) -> None:
    """Each nonce carries one calldata; and each batch needed one nonce only, unless somebody interfered."""
    assert rows(database, "SELECT nonce FROM nonces WHERE batch_id > 0 GROUP BY nonce HAVING count(*) > 1") == []
    if strictly:
        assert (
            rows(database, "SELECT batch_id FROM nonces WHERE batch_id > 0 GROUP BY batch_id HAVING count(*) > 1") == []
        )
        assert rows(database, "SELECT count(*) FROM nonces WHERE state <> 2") == [(0,)]
