"""The real book, the real relay, a real chain: orders in, balances on chain, finality back in the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import matching_service_pb2 as pb

from services.settler.contract import SettlementContract, account_key, load_abi
from tests import books
from tests.backends import Backends
from tests.settlers import Node, assert_in_order, contract_of, devchain, running, settings, settler

FUNDS = 10**25
ORDERS = 150


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(devchain(tmp_path_factory.mktemp("node"))) as started:
        yield started


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.backends)])
def broker(request: pytest.FixtureRequest) -> Backends | None:
    return None if request.param == "embedded" else request.getfixturevalue("backends")


async def test_orders_become_balances_on_chain(node: Node, tmp_path: Path, broker: Backends | None) -> None:
    uri = await broker.new_vhost() if broker else ""
    given_book = books.settings(f"sqlite:///{tmp_path}/book.sqlite", rabbitmq_uri=uri)
    async with books.running(given_book) as book, books.stub_to(book.port) as stub:
        given = settings(f"sqlite:///{tmp_path}/settler.sqlite", f"127.0.0.1:{book.port}", node.url, rabbitmq_uri=uri)
        async with settler(given) as one:
            gateway = books.Gateway(stub)
            opened = await gateway.open()
            await _finals(stub, deposits=3, through=3)
            transfers = [
                journal.Transfer(
                    transfer_id=f"t{to}{asset}", from_account_id=2, to_account_id=to, asset_id=asset, amount=str(FUNDS)
                )
                for to in (1001, 1002)
                for asset in (1, 3)
            ]
            people = [gateway.account(name) for name in ("alice", "bob")]
            moves = [gateway.command(transfer=transfer) for transfer in transfers]
            await gateway.submit(*people, *moves, *gateway.orders(ORDERS))
            events = await books.events_of(stub, 0, opened.journal_sequence + 6 + ORDERS)
            last, ledger = _ledger(events)
            assert last > 7 + 20, "there must be trades"
            await _finals(stub, deposits=3, through=last)
            await _assert_balances(node, str(tmp_path), ledger)
            assert_in_order(await one.history(), last)


async def _finals(stub: books.Stub, deposits: int, through: int) -> None:
    """Waits until the journal says that so much is final."""
    seen = final = 0
    call = stub.StreamEvents(pb.StreamEventsRequest(), timeout=60)
    async for message in call:
        for event in journal.EventBatch.FromString(message.events).events:
            seen += event.WhichOneof("kind") == "deposited"
            final = max(final, event.settlement_finalized.through_settlement_sequence)
        if seen >= deposits and final >= through:
            break
    call.cancel()


def _ledger(events: list[journal.Event]) -> tuple[int, Counter[tuple[int, str]]]:
    """The last settlement sequence, and naive balances by the journal alone."""
    names = {1: "BTC", 2: "ETH", 3: "USD"}
    balances: Counter[tuple[int, str]] = Counter()
    last = 0
    for event in events:
        kind = event.WhichOneof("kind")
        if kind == "asset_created":
            last = event.asset_created.settlement_sequence
        elif kind == "deposited":
            balances[event.deposited.deposit.account_id, event.deposited.deposit.asset] += int(
                event.deposited.deposit.amount
            )
        elif kind == "transferred":
            last, moved = event.transferred.settlement_sequence, event.transferred.transfer
            balances[moved.from_account_id, names[moved.asset_id]] -= int(moved.amount)
            balances[moved.to_account_id, names[moved.asset_id]] += int(moved.amount)
        elif kind == "order_placed":
            taker = event.order_placed.order
            for trade in event.order_placed.trades:
                last = trade.settlement_sequence
                buys = taker.side == journal.SIDE_BUY
                taker_gets, maker_gets = ("BTC", "USD") if buys else ("USD", "BTC")
                amounts = {"BTC": int(trade.base_amount), "USD": int(trade.quote_amount)}
                for account, gets, gives, fee in (
                    (taker.account_id, taker_gets, maker_gets, int(trade.taker_fee or 0)),
                    (trade.maker_account_id, maker_gets, taker_gets, int(trade.maker_fee or 0)),
                ):
                    balances[account, gets] += amounts[gets] - fee
                    balances[account, gives] -= amounts[gives]
                    balances[1, gets] += fee
    return last, balances


async def _assert_balances(node: Node, folder: str, ledger: Counter[tuple[int, str]]) -> None:
    address = contract_of(f"sqlite:///{folder}/settler.sqlite")
    contract = await SettlementContract.connect(node.url, address, load_abi())
    try:
        for (account, symbol), amount in ledger.items():
            token = await contract.token_of(symbol)
            assert token is not None
            assert await contract.balance(account_key(account), token) == amount, (account, symbol)
    finally:
        await contract.close()
