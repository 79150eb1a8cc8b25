"""The settler on Anvil behind a node that lies, stalls and forgets: whatever it does, each entry is settled once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from services.runtime.run import Closing, StartError
from services.settler import alarms, wallet, watcher
from services.settler import contract as chain_module
from services.settler.__main__ import main
from services.settler.contract import Chain, SendOutcome, Signer
from services.settler.deploy import DirectTransact
from services.settler.fees import Fees
from services.settler.keys import DEV_KEY
from services.settler.transactions import fees_of, unsigned
from tests.backends import Backends
from tests.rpc_proxy import (
    SEND,
    Fault,
    RpcProxy,
    body,
    delay,
    down,
    every,
    http_status,
    lost_reply,
    only,
    result,
    rpc_error,
    rpc_proxy,
    stale,
    swallowed,
)
from tests.settlers import (
    FakeBook,
    Node,
    Settler,
    anvil,
    assert_balances,
    assert_in_order,
    assert_one_nonce_one_batch,
    contract_of,
    eventually,
    fake_book,
    rows,
    running,
    settings,
    settler,
)

pytestmark = [pytest.mark.backends]

ROUNDS = 3
TRADES = 4


@pytest.fixture
def node(tmp_path: Path, backends: Backends) -> Iterator[Node]:
    with running(anvil(tmp_path, backends.directory)) as started:
        yield started


@pytest.fixture
async def proxy(node: Node) -> AsyncIterator[RpcProxy]:
    async with rpc_proxy(node.url) as started:
        yield started


@pytest.fixture
async def book() -> AsyncIterator[tuple[FakeBook, str]]:
    async with fake_book() as started:
        yield started


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/settler.sqlite"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds waits for less, so that a case takes one."""
    monkeypatch.setattr(wallet, "RESEND_SECONDS", 0.3)
    monkeypatch.setattr(chain_module, "REQUEST_TIMEOUT_SECONDS", 1)
    monkeypatch.setattr("services.settler.sender.HALT_RETRY_SECONDS", 0.1)
    monkeypatch.setattr("services.settler.sender.RPC_DELAY_SECONDS_MAX", 0.5)
    monkeypatch.setattr(watcher, "RPC_DELAY_SECONDS_MAX", 0.5)


FAULTS: list[tuple[str, Fault, int]] = [
    # what is wrong, and how often the settler meets it before it is mended
    ("down", down(), 6),
    ("slow", delay(0.15), 15),
    ("stalled", delay(1.5), 3),
    ("429", http_status(429), 6),
    ("500", http_status(500), 6),
    ("503 now and then", every(2, http_status(503)), 20),
    ("no JSON", body("<html>"), 6),
    ("half a JSON", body('{"jsonrpc": "2.0", "id": 1, "resu'), 6),
    ("an empty body", body(""), 6),
    ("not an object", body("[]"), 6),
    ("null", body("null"), 6),
    ("an object of nothing", body("{}"), 6),
    ("rate limited", rpc_error(-32005, "daily request count exceeded"), 6),
    ("header not found", rpc_error(-32000, "header not found"), 6),
    ("an answer of another kind", result({"what": "is this"}), 6),
    ("an empty answer", result("0x"), 6),
    ("all replies are lost", lost_reply(), 6),
    ("replies to sends are lost", only(SEND, lost_reply()), 2),
    ("a send answered by 500 though done", only(SEND, rpc_error(-32603, "internal error", after=True)), 2),
    ("already known", only(SEND, rpc_error(-32000, "already known", after=True)), 2),
    ("already imported", only(SEND, rpc_error(-32003, "transaction already imported", after=True)), 2),
    ("AlreadyKnown", only(SEND, rpc_error(-32010, "AlreadyKnown", after=True)), 2),
    ("nonce too low though taken", only(SEND, rpc_error(-32000, "nonce too low", after=True)), 2),
    ("underpriced, a lie", only(SEND, rpc_error(-32000, "replacement transaction underpriced", after=True)), 2),
    ("pool full", only(SEND, rpc_error(-32000, "txpool is full")), 2),
    ("what is sent is dropped", only(SEND, swallowed()), 2),
    ("receipts not indexed", only("eth_getTransactionReceipt", rpc_error(-32000, "indexing in progress")), 4),
    ("no receipts", only("eth_getTransactionReceipt", result(None)), 4),
    ("one block behind", stale(1), 20),
    ("three blocks behind", stale(3), 20),
]


IN_EVERY_RUN = {
    *("down", "stalled", "429", "half a JSON", "an answer of another kind", "replies to sends are lost"),
    *("already known", "what is sent is dropped", "no receipts", "one block behind"),
}
"""All of them with CLEARBOOK_SOAK=1."""
CASES = FAULTS if os.environ.get("CLEARBOOK_SOAK") == "1" else [row for row in FAULTS if row[0] in IN_EVERY_RUN]


@pytest.mark.parametrize(("fault", "hits"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
async def test_whatever_the_node_does_each_entry_is_settled_once(
    proxy: RpcProxy, book: tuple[FakeBook, str], database: str, fault: Fault, hits: int
) -> None:
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, proxy.url, settle_poll_ms=20)) as one:
        await one.settled(fake)
        proxy.fault = fault
        met = proxy.hurt.total()
        async with asyncio.timeout(30):
            while proxy.hurt.total() < met + hits:
                one.check()
                fake.trades(1, users=2)
                await asyncio.sleep(0.05)
        proxy.fault = None
        fake.trades(TRADES, users=2)
        await one.settled(fake)
        await one.healthy()
        assert_in_order(await one.history(), len(fake.entries))
    await assert_balances(fake, proxy.node, contract_of(database))
    assert_one_nonce_one_batch(database)
    assert fake.refused == []


async def test_a_wrong_chain_refuses_to_start(proxy: RpcProxy, book: tuple[FakeBook, str], database: str) -> None:
    fake, address = book
    fake.asset("BTC")
    async with settler(settings(database, address, proxy.url)) as one:
        await one.settled(fake)
    proxy.fault = only("eth_chainId", result("0x5"))
    for given, words in (
        (settings(database, address, proxy.url), "this settler's database belongs to chain 31337"),
        (settings(database, address, proxy.url, chain_id=31337), "is chain 5, expected 31337"),
    ):
        sent = proxy.seen[SEND]
        with pytest.raises(StartError, match=words):
            await main(Closing(), given)
        assert proxy.seen[SEND] == sent


# Fees, stuck and foreign transactions


def attempts(database: str) -> dict[int, list[bytes]]:
    """All signed transactions of batches, by nonce, in their order."""
    found: dict[int, list[bytes]] = {}
    query = (
        "SELECT a.nonce, a.raw FROM attempts a JOIN nonces n ON n.nonce = a.nonce AND n.address = a.address"
        " WHERE n.batch_id > 0 ORDER BY a.time_ns"
    )
    for nonce, raw in rows(database, query):
        found.setdefault(nonce, []).append(raw)
    return found


def alarms_of(kind: str) -> Callable[[], float]:
    """How many alarms of a kind were raised since now."""
    counted = alarms._count.labels(kind)._value
    before = counted.get()
    return lambda: counted.get() - before


async def _take_nonce(chain: Chain) -> None:
    """Somebody else's transaction, dear enough to push ours aside."""
    signer, fees = Signer(DEV_KEY), await chain.suggest_fees()
    dear = Fees(20 * fees.max_fee_wei, 20 * fees.max_priority_fee_wei)
    nonce = await chain.nonce_of(signer.address)
    signed = await signer.sign(chain.transaction("0x" + "12" * 20, b"", nonce=nonce, gas=21_000, fees=dear))
    assert await chain.send_raw(signed.raw) is SendOutcome.ACCEPTED


async def _opened(one: Settler, fake: FakeBook) -> None:
    fake.open_market(users=2)
    await one.settled(fake)


def assert_replaced_rightly(sent: list[bytes]) -> None:
    """The same nonce, receiver and calldata, each time at least an eighth dearer in both fees."""
    without_fees = [{name: value for name, value in unsigned(raw).items() if "Fee" not in name} for raw in sent]
    assert all(each == without_fees[0] for each in without_fees)
    for before, after in zip(map(fees_of, sent), map(fees_of, sent[1:]), strict=False):
        assert after.max_fee_wei * 8 >= before.max_fee_wei * 9
        assert after.max_priority_fee_wei * 8 >= before.max_priority_fee_wei * 9


async def test_a_base_fee_that_leaps_is_followed_by_replacements(
    node: Node, book: tuple[FakeBook, str], database: str
) -> None:
    fake, address = book
    given = settings(database, address, node.url, settle_fee_raise_seconds=1)
    async with settler(given) as one:
        await _opened(one, fake)
        node.rpc("evm_setAutomine", False)
        fake.trades(TRADES, users=2)
        await eventually(lambda: len(rows(database, "SELECT 1 FROM nonces WHERE state = 1")) == 1)
        node.rpc("anvil_setNextBlockBaseFeePerGas", hex(50 * 10**9))
        (nonce,) = (nonce for (nonce,) in rows(database, "SELECT nonce FROM nonces WHERE state = 1"))
        async with asyncio.timeout(30):
            while fake.final_through < len(fake.entries):
                node.rpc("anvil_setNextBlockBaseFeePerGas", hex(50 * 10**9))
                node.rpc("anvil_mine", "0x1")
                await asyncio.sleep(0.3)
    sent = attempts(database)[nonce]
    assert len(sent) >= 2
    assert_replaced_rightly(sent)
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)


async def test_a_cap_holds_and_what_waits_below_it_goes_on_when_the_chain_is_cheaper(
    node: Node, book: tuple[FakeBook, str], database: str
) -> None:
    fake, address = book
    given = settings(database, address, node.url, settle_fee_raise_seconds=1, settle_fee_max_gwei=20)
    async with settler(given) as one:
        await _opened(one, fake)
        node.rpc("evm_setAutomine", False)
        node.rpc("anvil_setNextBlockBaseFeePerGas", hex(30 * 10**9))
        node.rpc("anvil_mine", "0x1")
        fake.trades(TRADES, users=2)
        await eventually(lambda: len(attempts(database)[max(attempts(database))]) >= 1)
        for _ in range(6):
            node.rpc("anvil_setNextBlockBaseFeePerGas", hex(30 * 10**9))
            node.rpc("anvil_mine", "0x1")
            await asyncio.sleep(0.3)
        assert fake.final_through < len(fake.entries), "more than the cap was paid"
        node.rpc("anvil_setNextBlockBaseFeePerGas", hex(10**9))
        node.rpc("evm_setAutomine", True)
        node.rpc("anvil_mine", "0x1")
        await one.settled(fake)
    assert all(fees_of(raw).max_fee_wei <= 20 * 10**9 for each in attempts(database).values() for raw in each)
    await assert_balances(fake, node.url, contract_of(database))


async def test_whichever_of_a_nonces_transactions_is_mined_counts(
    proxy: RpcProxy, node: Node, book: tuple[FakeBook, str], database: str
) -> None:
    """The first one is mined after it was replaced: the dearer one never reaches the node."""
    fake, address = book
    async with settler(settings(database, address, proxy.url, settle_fee_raise_seconds=1)) as one:
        await _opened(one, fake)
        node.rpc("evm_setAutomine", False)
        fake.trades(TRADES, users=2)
        sends = proxy.seen[SEND]
        await eventually(lambda: proxy.seen[SEND] > sends)
        proxy.fault = only(SEND, swallowed())
        await eventually(lambda: len(attempts(database)[max(attempts(database))]) > 1)
        node.rpc("evm_setAutomine", True)
        node.rpc("anvil_mine", "0x1")
        await one.settled(fake)
        proxy.fault = None
        fake.trades(TRADES, users=2)
        await one.settled(fake)
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)


async def test_on_a_chain_that_mines_by_the_clock(
    book: tuple[FakeBook, str], database: str, tmp_path: Path, backends: Backends
) -> None:
    fake, address = book
    with running(anvil(tmp_path, backends.directory, "--block-time", "1")) as node:
        given = settings(database, address, node.url, settle_fee_raise_seconds=5, settle_final_blocks=2)
        async with settler(given) as one:
            await _opened(one, fake)
            for _ in range(ROUNDS):
                fake.trades(TRADES, users=2)
                await asyncio.sleep(0.7)
            await one.settled(fake)
            assert_in_order(await one.history(), len(fake.entries))
        await assert_balances(fake, node.url, contract_of(database))
        assert_one_nonce_one_batch(database)


def pooled(node: Node) -> int:
    """Transactions that wait in the node's pool."""
    return int(node.rpc("txpool_status")["pending"], 16)


async def test_a_dropped_transaction_is_sent_again(node: Node, book: tuple[FakeBook, str], database: str) -> None:
    fake, address = book
    async with settler(settings(database, address, node.url)) as one:
        await _opened(one, fake)
        node.rpc("evm_setAutomine", False)
        for _ in range(ROUNDS):
            fake.trades(TRADES, users=2)
            await eventually(lambda: pooled(node) == 1)
            node.rpc("anvil_dropAllTransactions")
            assert pooled(node) == 0
            await eventually(lambda: pooled(node) == 1)
            node.rpc("anvil_mine", "0x1")
            await one.settled(fake)
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)


async def test_a_foreign_transaction_on_the_key_is_told_and_overcome(
    node: Node, book: tuple[FakeBook, str], database: str
) -> None:
    fake, address = book
    chain = await Chain.connect(node.url)
    foreign = DirectTransact(chain, Signer(DEV_KEY))
    told = alarms_of("foreign")
    async with settler(settings(database, address, node.url)) as one:
        await _opened(one, fake)
        assert told() == 0
        await foreign("0x" + "12" * 20, b"", 21_000)  # before the next batch: its nonce is skipped
        fake.trades(TRADES, users=2)
        await one.settled(fake)
        assert told() == 1
        # in place of a batch: it takes the nonce that was signed already
        node.rpc("evm_setAutomine", False)
        fake.trades(TRADES, users=2)
        await eventually(lambda: rows(database, "SELECT 1 FROM nonces WHERE state = 1") != [])
        await _take_nonce(chain)
        node.rpc("evm_setAutomine", True)
        node.rpc("anvil_mine", "0x1")
        await one.settled(fake)
        assert told() >= 2
    await chain.close()
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database, strictly=False)


USUAL_GAS = 50_000


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        pytest.param(result(hex(21_000)), USUAL_GAS, id="less than usual"),
        pytest.param(result(hex(100_000)), 125_000, id="more: a quarter above it"),
        pytest.param(rpc_error(3, "execution reverted"), USUAL_GAS, id="it would revert, now"),
        pytest.param(rpc_error(-32601, "the method does not exist"), USUAL_GAS, id="a node without the method"),
    ],
)
async def test_a_limit_is_raised_where_the_chain_prices_gas_higher(node: Node, said: Fault, limit: int) -> None:
    """Found on geth 1.17, whose developer chain has prices that our limits had not heard of."""
    async with rpc_proxy(node.url) as proxy:
        proxy.fault = only("eth_estimateGas", said)
        chain = await Chain.connect(proxy.url)
        try:
            assert await chain.gas_limit(Signer(DEV_KEY).address, "0x" + "12" * 20, b"", USUAL_GAS) == limit
        finally:
            await chain.close()
