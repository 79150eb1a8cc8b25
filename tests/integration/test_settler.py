"""The settler between a pretended book and a real chain: what goes in is settled once, to the unit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.v1 import settlement_service_pb2 as public

from services.runtime.run import Closing, StartError
from services.settler import service
from services.settler.__main__ import SettlerSettings, main
from services.settler.contract import Chain, SettlementContract, Signer, account_key, load_abi
from services.settler.deploy import DirectTransact, ensure_clearbook, fund_faucet
from services.settler.keys import DEV_KEY
from services.settler.model import Change
from tests.backends import Backends
from tests.settlers import (
    ASSETS,
    FAUCET,
    SECOND_KEY,
    FakeBook,
    Node,
    Settler,
    SettlerProcess,
    assert_balances,
    assert_in_order,
    contract_of,
    devchain,
    eventually,
    fake_book,
    fund,
    running,
    settings,
    settler,
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(devchain(tmp_path_factory.mktemp("node"))) as started:
        yield started


@pytest.fixture
async def book() -> AsyncIterator[tuple[FakeBook, str]]:
    async with fake_book() as started:
        yield started


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/settler.sqlite"


async def test_trades_are_settled_final_once_and_balances_equal_a_naive_ledger(
    node: Node, book: tuple[FakeBook, str], database: str
) -> None:
    fake, address = book
    fake.open_market()
    async with settler(settings(database, address, node.url, settle_entries_max=40)) as running_settler:
        await running_settler.healthy()
        for _ in range(5):
            fake.trades(40)
            await asyncio.sleep(0.1)
        await running_settler.settled(fake)
        await assert_balances(fake, node.url, contract_of(database))
        assert_in_order(await running_settler.history(), len(fake.entries))
    assert [(d.deposit_index, d.account_id, d.asset, int(d.amount)) for d in fake.deposits] == [
        (place, FAUCET, symbol, 10**30) for place, symbol in enumerate(ASSETS, 1)
    ]
    assert fake.refused == []


@pytest.mark.backends
async def test_the_same_on_postgresql(node: Node, book: tuple[FakeBook, str], backends: Backends) -> None:
    fake, address = book
    fake.open_market()
    database = await backends.new_database()
    given = settings(database, address, node.url, settle_entries_max=40)
    async with settler(given) as running_settler:
        await running_settler.healthy()
        fake.trades(60)
        await running_settler.settled(fake)
        assert (await running_settler.get(market="BTC-USD", trade_id=60)).state == public.SETTLEMENT_STATE_FINAL
    fake.trades(20)
    async with settler(given) as running_settler:
        await running_settler.settled(fake)
        assert_in_order(await running_settler.history(), len(fake.entries))
    assert fake.refused == []


async def test_a_restart_goes_on_where_it_ended(node: Node, book: tuple[FakeBook, str], database: str) -> None:
    fake, address = book
    fake.open_market()
    given = settings(database, address, node.url)
    for _ in range(3):
        fake.trades(10)
        async with settler(given) as running_settler:
            await running_settler.settled(fake)
    await assert_balances(fake, node.url, contract_of(database))
    assert fake.refused == []


async def test_a_history_that_is_long_in_coming_is_whole(
    node: Node, book: tuple[FakeBook, str], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a test that has thousands of changes to read, on a busy machine, does not take a part of them for all."""
    fake, address = book
    fake.open_market(users=2)
    message, slow = service.Settler._message, [True]

    async def late(answering: service.Settler, change: Change) -> Any:
        if slow:
            slow.clear()
            await asyncio.sleep(2.1)
        return await message(answering, change)

    monkeypatch.setattr(service.Settler, "_message", late)
    async with settler(settings(database, address, node.url)) as running_settler:
        await running_settler.settled(fake)
        assert_in_order(await running_settler.history(), len(fake.entries))


async def test_lookups_and_streams(node: Node, book: tuple[FakeBook, str], database: str) -> None:
    fake, address = book
    fake.open_market(users=2)
    transfer = fake.transfer(1001, 1002, "BTC", 5)
    async with settler(settings(database, address, node.url)) as running_settler:
        trade = fake.trade(1001, 1002, 10, 20)
        await running_settler.settled(fake)

        by_sequence = await running_settler.get(settlement_sequence=len(fake.entries))
        assert (by_sequence.market, by_sequence.trade_id) == ("BTC-USD", trade)
        assert by_sequence.state == public.SETTLEMENT_STATE_FINAL
        assert len(by_sequence.transaction_hash) == 66
        assert by_sequence.block_number > 0
        assert by_sequence.batch_id > 0
        assert by_sequence == await running_settler.get(market="BTC-USD", trade_id=trade)
        by_transfer = await running_settler.get(transfer_id=transfer)
        assert (by_transfer.kind, by_transfer.asset) == (public.SETTLEMENT_KIND_TRANSFER, "BTC")
        listed = await running_settler.get(settlement_sequence=1)
        assert (listed.kind, listed.asset) == (public.SETTLEMENT_KIND_ASSET, "BTC")

        history = await running_settler.history()
        last = history[-1].index
        assert [r.index for r in await running_settler.history(last - 2)] == [last - 1, last]
        stream = running_settler.stream(last)
        assert (await anext(stream)).index == last, "a reader who has everything is told so at once"
        fake.trade(1002, 1001, 10, 20)
        states: list[int] = []
        while not states or states[-1] != public.SETTLEMENT_STATE_FINAL:
            states += [each.state for each in (await anext(stream)).settlements]
        assert states == [1, 2, 3, 4, 5, 6]

        page = await running_settler.page(limit=3)
        assert [each.settlement_sequence for each in page] == list(range(len(fake.entries), len(fake.entries) - 3, -1))
        assert page[1] == by_sequence and by_sequence.HasField("nonce")
        assert page == [await running_settler.get(settlement_sequence=each.settlement_sequence) for each in page]
        before = await running_settler.page(before=page[-1].settlement_sequence, limit=500)
        assert [each.settlement_sequence for each in before] == list(range(len(fake.entries) - 3, 0, -1))
        assert [each.trade_id for each in await running_settler.page(market="BTC-USD")] == [trade + 1, trade]
        assert [each.trade_id for each in await running_settler.page(market="BTC-USD", before=trade + 1)] == [trade]
        assert await running_settler.page(market="ETH-USD") == []


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"settlement_sequence": 999}, "NOT_FOUND"),
    ({"settlement_sequence": 2**63}, "INVALID_ARGUMENT"),
    ({"market": "BTC-USD", "trade_id": 999}, "NOT_FOUND"),
    ({"transfer_id": "nobody's"}, "NOT_FOUND"),
    ({}, "INVALID_ARGUMENT"),
    ({"market": "BTC-USD"}, "INVALID_ARGUMENT"),
    ({"trade_id": 4}, "INVALID_ARGUMENT"),
    ({"settlement_sequence": 1, "transfer_id": "x"}, "INVALID_ARGUMENT"),
]


async def test_refusals(node: Node, book: tuple[FakeBook, str], database: str) -> None:
    async with settler(settings(database, book[1], node.url)) as running_settler:
        await running_settler.healthy()
        for how, code in REFUSALS:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await running_settler.get(**how)
            assert refused.value.code().name == code, how
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(running_settler.stream(after=1))
        assert refused.value.code().name == "FAILED_PRECONDITION"


# Starting


async def _starts(given: SettlerSettings) -> str:
    """What a settler says that refuses to start; "" if it starts."""
    closing = Closing()
    work = asyncio.create_task(main(closing, given))
    done, _ = await asyncio.wait([work], timeout=15)
    closing.set()
    if not done:
        await work
        return ""
    error = work.exception()
    assert isinstance(error, StartError), error
    assert "\n" not in str(error)
    return str(error)


@pytest.fixture
async def token_less(node: Node) -> str:
    """A contract whose admin is somebody else: the operator."""
    chain = await Chain.connect(node.url)
    admin, settles = Signer(SECOND_KEY), Signer(DEV_KEY).address
    transact = DirectTransact(chain, admin)
    address = await ensure_clearbook(chain, transact, admin.address, settler=settles, reuse=False)
    await chain.close()
    return address


async def test_it_refuses_to_start_with_one_clear_line(
    node: Node, book: tuple[FakeBook, str], tmp_path: Path, token_less: str
) -> None:
    bare = tmp_path / "abi.json"
    bare.write_text('[{"type": "function", "name": "settle", "inputs": []}]')
    where = {"settlement_contract_address": token_less}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"chain_id": 5}, "is chain 31337, expected 5"),
        (
            {"settlement_contract_address": "0x" + "12" * 20},
            "no contract at 0x12121212",
        ),
        ({"settlement_contract_address": "0x12"}, "not a contract address"),
        ({"settlement_contract_abi": str(bare)}, "the contract's ABI lacks settle(uint64"),
        ({"settlement_contract_abi": str(tmp_path / "none.json")}, "SETTLEMENT_CONTRACT_ABI cannot be read"),
        ({"settlement_private_key": "0x1234"}, "the private key is not 32 bytes in hex"),
        ({"settlement_private_key": SECOND_KEY, **where}, "the contract's settler is 0xf39Fd6"),
        ({"clearbook_faucet": False}, "SETTLEMENT_CONTRACT_ADDRESS is not set"),
    ]
    for place, (more, words) in enumerate(cases):
        database = f"sqlite:///{tmp_path}/{place}.sqlite"
        assert words in await _starts(settings(database, book[1], node.url, **more)), more


async def test_the_process_says_why_and_exits_2_or_ends_in_order_and_exits_0(
    node: Node, book: tuple[FakeBook, str], tmp_path: Path
) -> None:
    wrong = SettlerProcess(tmp_path, settings(f"sqlite:///{tmp_path}/wrong.sqlite", book[1], node.url, chain_id=5))
    right = SettlerProcess(tmp_path, settings(f"sqlite:///{tmp_path}/right.sqlite", book[1], node.url))
    try:
        for process in (wrong, right):
            process.start()
        assert await wrong.ended() == 2
        last = wrong.log.splitlines()[-1]
        assert "is chain 31337, expected 5" in last
        assert "Traceback" not in wrong.log
        await eventually(lambda: "bound" in right.log)
        assert right.child is not None
        right.child.terminate()
        assert await right.ended() == 0
        assert DEV_KEY[2:] not in right.log + wrong.log
    finally:
        wrong.kill()
        right.kill()


async def test_it_refuses_another_chain_or_contract_than_it_remembers(
    node: Node, book: tuple[FakeBook, str], database: str, token_less: str, tmp_path: Path
) -> None:
    async with settler(settings(database, book[1], node.url)) as running_settler:
        await running_settler.healthy()
    known = contract_of(database)
    moved = settings(database, book[1], node.url, settlement_contract_address=token_less)
    assert f"this settler's database belongs to {known}" in await _starts(moved)
    with running(devchain(tmp_path / "other")) as other:
        assert f"no contract at {known}" in await _starts(settings(database, book[1], other.url))
    with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE meta SET content = '5' WHERE name = 'chain_id'")
    again = settings(database, book[1], node.url)
    assert "the node is chain 31337, this settler's database belongs to chain 5" in await _starts(again)


# Halts


async def test_a_leg_that_the_chain_refuses_halts_until_it_can_be_paid(
    node: Node, book: tuple[FakeBook, str], database: str
) -> None:
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url)) as running_settler:
        await running_settler.settled(fake)
        before = len(fake.entries)
        fake.transfer(1999, 1001, "USD", 7)  # 1999 has nothing on chain
        fake.trade(1001, 1002, 10, 20)
        await running_settler.healthy(False)
        assert (await running_settler.get(settlement_sequence=before + 1)).state == public.SETTLEMENT_STATE_MATCHED
        assert fake.final_through == before
        await fund(node.url, contract_of(database), 1999, "USD", 9)
        await running_settler.settled(fake)
        await running_settler.healthy()
        await eventually(lambda: len(fake.deposits) == 4)
    assert (fake.deposits[3].account_id, fake.deposits[3].asset, fake.deposits[3].amount) == (1999, "USD", "9")
    await assert_balances(fake, node.url, contract_of(database))


async def test_without_a_faucet_a_token_is_waited_for(
    node: Node, book: tuple[FakeBook, str], database: str, token_less: str
) -> None:
    fake, address = book
    fake.asset("BTC")
    given = settings(database, address, node.url, clearbook_faucet=False, settlement_contract_address=token_less)
    async with settler(given) as running_settler:
        await running_settler.healthy(False)
        chain = await Chain.connect(node.url)
        signer = Signer(SECOND_KEY)
        contract = await SettlementContract.on(chain, token_less, load_abi())
        await fund_faucet(
            contract, DirectTransact(chain, signer), signer.address, "BTC", 18, account_key(FAUCET), 10**30
        )
        await chain.close()
        await running_settler.settled(fake)
        await running_settler.healthy()
        await eventually(lambda: len(fake.deposits) == 1)
        fake.transfer(FAUCET, 1001, "BTC", 5)
        await running_settler.settled(fake)
    await assert_balances(fake, node.url, token_less)


async def test_a_journal_of_another_name_halts(node: Node, book: tuple[FakeBook, str], database: str) -> None:
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url)) as running_settler:
        await running_settler.settled(fake)
    async with fake_book(seed=1) as (other, elsewhere):
        other.open_market(users=3)
        async with settler(settings(database, elsewhere, node.url)) as running_settler:
            await running_settler.healthy(False)
            await asyncio.sleep(0.5)
            assert other.final_through == 0
            assert other.deposits == []


async def test_a_chain_ahead_of_the_journal_halts(
    node: Node, book: tuple[FakeBook, str], database: str, tmp_path: Path
) -> None:
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url)) as running_settler:
        await running_settler.settled(fake)
    async with fake_book(seed=1) as (other, elsewhere):  # the journal was lost, and settler's database with it
        other.asset("BTC")
        fresh = f"sqlite:///{tmp_path}/fresh.sqlite"
        known = contract_of(database)
        given = settings(fresh, elsewhere, node.url, settlement_contract_address=known)
        async with settler(given) as running_settler:
            await running_settler.healthy(False)
            await asyncio.sleep(0.5)
            assert other.final_through == 0


async def test_a_lost_database_is_rebuilt_from_journal_and_chain(
    node: Node, book: tuple[FakeBook, str], database: str, tmp_path: Path
) -> None:
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url, settle_entries_max=4)) as running_settler:
        fake.trades(10, users=2)
        await running_settler.settled(fake)
        final = fake.final_through
    fake.trades(10, users=2)
    fresh = f"sqlite:///{tmp_path}/fresh.sqlite"
    given = settings(fresh, address, node.url, settlement_contract_address=contract_of(database))
    async with settler(given) as running_settler:
        await running_settler.settled(fake)
        settled = await running_settler.get(settlement_sequence=final)
        assert settled.state == public.SETTLEMENT_STATE_FINAL
        assert len(settled.transaction_hash) == 66
    await assert_balances(fake, node.url, contract_of(database))
    assert fake.refused == []


async def test_two_settlers_at_once_settle_nothing_twice(
    node: Node, book: tuple[FakeBook, str], database: str, tmp_path: Path
) -> None:
    fake, address = book
    fake.open_market()
    given = settings(database, address, node.url)
    async with settler(given) as first:
        await first.settled(fake)
        contract = contract_of(database)
        rival = settings(
            f"sqlite:///{tmp_path}/rival.sqlite",
            address,
            node.url,
            settlement_contract_address=contract,
            settler_gateway=101,
        )
        async with settler(rival) as second:
            for _ in range(10):
                fake.trades(10)
                await asyncio.sleep(0.15)
            await first.settled(fake)
            await second.settled(fake)
            for each in (first, second):
                await _all_final(each, len(fake.entries))
    await assert_balances(fake, node.url, contract)


async def _all_final(one: Settler, entries: int) -> None:
    async with asyncio.timeout(30):
        for sequence in range(1, entries + 1):
            while (await one.get(settlement_sequence=sequence)).state != public.SETTLEMENT_STATE_FINAL:
                await asyncio.sleep(0.05)
