"""The chain over JSON-RPC: deploy, fund, settle, on the devchain and on a real node; and the devchain after kill -9."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_utils.crypto import keccak
from typer.testing import CliRunner

from services.cli.devchain import DEV_ADDRESSES, DEV_KEY
from services.cli.main import app
from services.settler.contract import (
    CallReverted,
    Chain,
    ChainMisconfigured,
    ChainUnavailable,
    Delta,
    Deposit,
    LegRefused,
    NotNext,
    Receipt,
    SendOutcome,
    SendRefused,
    SettlementContract,
    Signer,
    account_key,
    asset_key,
    chained_hash,
    load_abi,
    settle_gas_limit,
)
from services.settler.deploy import (
    DeployFailed,
    DirectTransact,
    ensure_clearbook,
    ensure_token,
    find_deployed,
    fund_faucet,
)
from services.settler.fees import Fees

ROOT = Path(__file__).resolve().parents[2]
RUN = """import sys; from pathlib import Path; from services.cli.devchain import main
main(int(sys.argv[1]), Path(sys.argv[2]))"""
FAUCET, ALICE, BOB = (account_key(n) for n in (2, 1001, 1002))
MILLION = 10**24


async def deposits_of(contract: SettlementContract, first_block: int, last_block: int) -> list[Deposit]:
    money = await contract.money_in_and_out(first_block, last_block)
    assert (money.claims, money.exits) == ([], [])
    return money.deposits


class Devchain:
    """`clearbook devchain` in a process of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-c", RUN, str(self.port), str(self.data)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("devchain http://127.0.0.1:"), line
        self.port = int(line.rpartition(":")[2])

    def stop(self, by: signal.Signals) -> int:
        assert self._process is not None
        with self._process as process:
            process.send_signal(by)
            return process.wait(30)

    def kill_and_restart(self) -> None:
        self.stop(signal.SIGKILL)
        self.start()


@pytest.fixture
def devchain(tmp_path: Path) -> Iterator[Devchain]:
    """One to kill."""
    chain = Devchain(tmp_path / "chain")
    chain.start()
    yield chain
    assert chain.stop(signal.SIGTERM) in {0, -signal.SIGTERM}


@pytest.fixture(scope="module")
def shared_devchain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devchain]:
    """One to talk to; each test deploys a contract of its own."""
    chain = Devchain(tmp_path_factory.mktemp("shared") / "chain")
    chain.start()
    yield chain
    assert chain.stop(signal.SIGTERM) in {0, -signal.SIGTERM}


@pytest.fixture(params=["devchain", pytest.param("node", marks=pytest.mark.backends)])
def eth_url(request: pytest.FixtureRequest) -> str:
    if request.param == "devchain":
        return str(request.getfixturevalue("shared_devchain").url)
    return os.environ.get("ETH_TESTNET_URL") or str(request.getfixturevalue("backends").eth_url)


@pytest.fixture
async def chain(eth_url: str) -> AsyncIterator[Chain]:
    opened = await Chain.connect(eth_url)
    yield opened
    await opened.close()


@pytest.fixture
def signer() -> Signer:
    return Signer(DEV_KEY)


@pytest.fixture
async def contract(chain: Chain, signer: Signer) -> SettlementContract:
    transact = DirectTransact(chain, signer)
    address = await ensure_clearbook(chain, transact, signer.address, reuse=False)
    return await SettlementContract.on(chain, address, load_abi())


async def settle(contract: SettlementContract, signer: Signer, first: int, last: int, *deltas: Delta) -> Receipt:
    data = contract.settle_calldata(0, first, last, deltas)
    assert await contract.simulate(data, signer.address) is None
    return await DirectTransact(contract.chain, signer)(contract.address, data, settle_gas_limit(len(deltas)))


async def test_from_deployment_to_a_settled_batch(contract: SettlementContract, signer: Signer) -> None:
    transact = DirectTransact(contract.chain, signer)
    start = await contract.chain.block_number()
    token = await fund_faucet(contract, transact, signer.address, "BTC", 18, FAUCET, MILLION)
    assert await contract.token_of("BTC") == token
    assert await contract.token_of("ETH") is None
    (deposit,) = await deposits_of(contract, start, await contract.chain.block_number())
    assert (deposit.index, deposit.account, deposit.token, deposit.amount) == (1, FAUCET, token, MILLION)
    assert await contract.chain.block_hash(deposit.block_number) == deposit.block_hash

    deltas = [Delta(FAUCET, token, -7), Delta(ALICE, token, 5), Delta(BOB, token, 2)]
    receipt = await settle(contract, signer, 1, 3, *deltas)
    assert [await contract.balance(who, token) for who in (FAUCET, ALICE, BOB)] == [MILLION - 7, 5, 2]
    assert await contract.settled_through(0) == 3
    assert await contract.settled_through(0, receipt.block_number - 1) == 0
    assert await contract.batch_hash(0) == chained_hash(bytes(32), 0, 1, 3, deltas)
    assert await contract.chain.block_hash(receipt.block_number) == receipt.block_hash


async def test_a_simulation_names_the_leg(contract: SettlementContract, signer: Signer) -> None:
    token = await fund_faucet(contract, DirectTransact(contract.chain, signer), signer.address, "BTC", 8, FAUCET, 100)
    broke = contract.settle_calldata(0, 1, 1, [Delta(ALICE, token, -1), Delta(BOB, token, 1)])
    assert await contract.simulate(broke, signer.address) == LegRefused(ALICE, token)
    late = contract.settle_calldata(0, 2, 2, [])
    with pytest.raises(NotNext) as not_next:
        await contract.simulate(late, signer.address)
    assert (not_next.value.expected, not_next.value.first) == (1, 2)
    with pytest.raises(CallReverted, match="not the settler"):
        await contract.simulate(contract.settle_calldata(0, 1, 1, []), token)
    with pytest.raises(DeployFailed, match="reverted"):  # what is not simulated is mined, and fails
        await DirectTransact(contract.chain, signer)(contract.address, late, 200_000)
    assert await contract.settled_through(0) == 0


async def test_a_node_says_what_it_thinks_of_a_transaction(contract: SettlementContract, signer: Signer) -> None:
    chain = contract.chain
    nonce, fees = await chain.nonce_of(signer.address), await chain.suggest_fees()
    data = contract.settle_calldata(0, 1, 1, [])

    async def signed(nonce: int, *, gas: int = 200_000, fees: Fees = fees) -> bytes:
        return (await signer.sign(chain.transaction(contract.address, data, nonce=nonce, gas=gas, fees=fees))).raw

    assert await chain.send_raw(await signed(nonce - 1)) is SendOutcome.NONCE_TOO_LOW
    assert await chain.send_raw(await signed(nonce, fees=Fees(1, 1))) is SendOutcome.UNDERPRICED
    assert await chain.send_raw(await signed(nonce, fees=Fees(10**24, 1))) is SendOutcome.INSUFFICIENT_FUNDS
    with pytest.raises(SendRefused, match="intrinsic gas"):
        await chain.send_raw(await signed(nonce, gas=100))
    assert await chain.nonce_of(signer.address) == nonce
    sent = await signer.sign(chain.transaction(contract.address, data, nonce=nonce, gas=200_000, fees=fees))
    assert await chain.receipt(sent.hash) is None
    assert await chain.send_raw(sent.raw) is SendOutcome.ACCEPTED
    async with asyncio.timeout(10):
        while (receipt := await chain.receipt(sent.hash)) is None:  # a real node mines a moment later
            await asyncio.sleep(0.05)
    assert receipt.succeeded
    assert await chain.send_raw(sent.raw) in {SendOutcome.ALREADY_KNOWN, SendOutcome.NONCE_TOO_LOW}
    assert await contract.settled_through(0) == 1


async def test_signing_is_deterministic_and_silent(chain: Chain, signer: Signer) -> None:
    transaction = chain.transaction(None, b"\x00", nonce=1, gas=60_000, fees=Fees(2, 1))
    assert await signer.sign(transaction) == await signer.sign(transaction)
    assert DEV_KEY[2:] not in repr(signer)
    with pytest.raises(ChainMisconfigured) as refused:
        Signer("0xdeadbeef")
    assert "deadbeef" not in str(refused.value)


async def test_fees_respect_the_cap(chain: Chain) -> None:
    fees = await chain.suggest_fees()
    assert fees.max_fee_wei > fees.max_priority_fee_wei >= 0
    assert await chain.suggest_fees(cap_wei=7) == Fees(7, min(7, fees.max_priority_fee_wei))


async def test_a_wrong_setting_is_one_clear_line(eth_url: str, contract: SettlementContract, signer: Signer) -> None:
    token = await ensure_token(contract, DirectTransact(contract.chain, signer), "BTC", 18)
    lacking = [entry for entry in load_abi() if entry.get("name") != "settledThrough"]
    rows: list[tuple[dict[str, Any], str]] = [
        ({"expected_chain_id": 1}, "is chain 31337, expected 1"),
        ({"contract_address": "0x" + "01" * 20}, "no contract at 0x01"),
        ({"contract_address": "0x1234"}, "not a contract address"),
        ({"contract_address": token}, "not a settlement contract"),
        ({"abi": lacking}, r"ABI lacks settledThrough\(uint64\)$"),
        ({"abi": [1]}, "not a contract ABI"),
    ]
    for wrong, message in rows:
        settings: dict[str, Any] = {"url": eth_url, "contract_address": contract.address, "abi": load_abi()}
        with pytest.raises(ChainMisconfigured, match=message) as refused:
            await SettlementContract.connect(**(settings | wrong))
        assert "\n" not in str(refused.value)
    opened = await SettlementContract.connect(eth_url, contract.address, load_abi(), expected_chain_id=31337)
    await opened.close()


class Crash(Exception):
    pass


class CrashingTransact:
    """Does the first ``steps`` transactions, then the process is gone."""

    def __init__(self, transact: DirectTransact, steps: int) -> None:
        self._transact = transact
        self.steps = steps

    async def __call__(self, to: str | None, data: bytes, gas: int) -> Receipt:
        if self.steps == 0:
            raise Crash
        self.steps -= 1
        return await self._transact(to, data, gas)


@pytest.mark.parametrize("steps", range(6))
async def test_the_faucet_deposits_once_whatever_crashes(
    contract: SettlementContract, signer: Signer, steps: int
) -> None:
    start = await contract.chain.block_number()
    transact = DirectTransact(contract.chain, signer)
    arguments = (signer.address, "BTC", 18, FAUCET, MILLION)
    crashing = CrashingTransact(transact, steps)
    try:
        await fund_faucet(contract, crashing, *arguments)
    except Crash:
        assert steps < 5
    else:
        assert crashing.steps == steps - 5  # deploy, list, mint, approve, deposit
    for _ in range(2):
        token = await fund_faucet(contract, transact, *arguments)
    deposits = await deposits_of(contract, start, await contract.chain.block_number())
    assert [(d.token, d.amount) for d in deposits] == [(token, MILLION)]
    await settle(contract, signer, 1, 1, Delta(FAUCET, token, -MILLION), Delta(ALICE, token, MILLION))
    await fund_faucet(contract, CrashingTransact(transact, 0), *arguments)  # empty now, and still not filled again


async def test_a_deployed_contract_is_found_again(devchain: Devchain, signer: Signer) -> None:
    chain = await Chain.connect(devchain.url)
    transact = DirectTransact(chain, signer)
    assert await find_deployed(chain, signer.address, "Clearbook") is None
    address = await ensure_clearbook(chain, transact, signer.address)
    devchain.kill_and_restart()
    assert await ensure_clearbook(chain, CrashingTransact(transact, 0), signer.address) == address
    assert await ensure_clearbook(chain, CrashingTransact(transact, 0), signer.address, address=address) == address
    with pytest.raises(ChainMisconfigured, match="no contract at"):
        await ensure_clearbook(chain, transact, signer.address, address="0x" + "01" * 20)
    await chain.close()


def test_deploy_prints_what_env_is_to_say_and_deploys_once(
    devchain: Devchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETH_TESTNET_URL", devchain.url)
    env = tmp_path / "env"
    env.write_text("A=1\n#SETTLEMENT_CONTRACT_ADDRESS=\nCHAIN_ID=5\nB=2\n")

    def deploy(*options: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["contract", "deploy", *options])
        return done.exit_code, done.stdout, done.stderr

    assert deploy() == (2, "", "clearbook: who settles? Set SETTLEMENT_PRIVATE_KEY, or give --settler\n")
    monkeypatch.setenv("SETTLEMENT_PRIVATE_KEY", DEV_KEY)
    once = deploy("--env", str(env), "--abi", str(tmp_path / "abi.json"))
    assert once == deploy("--env", str(env), "--abi", str(tmp_path / "abi.json"))
    status, printed, _ = once
    roles, chain_id, address, start, abi = printed.splitlines()
    assert (status, chain_id, start) == (0, "CHAIN_ID=31337", "SETTLEMENT_START_BLOCK=1")
    assert roles.endswith("exits after 3600 s, tokens after 0 s")
    assert env.read_text().splitlines() == ["A=1", address, chain_id, "B=2", start, abi]
    assert load_abi(tmp_path / "abi.json") == load_abi()
    status, _, said = deploy("--exit-delay", "7200")
    assert (status, said.endswith("is there already, and its exit delay is 3600, not 7200\n")) == (2, True)
    monkeypatch.setenv("CHAIN_ID", "1")
    assert deploy()[0] == 2


async def test_a_contract_of_another_version_is_refused_by_name(chain: Chain, signer: Signer) -> None:
    """A stand-in for the first version: it answers 0 to everything, and reverts at `VERSION()`, which it has not."""
    version = keccak(text="VERSION()")[:4].hex()
    runtime = f"5f3560e01c63{version}1460125760205ff35b5f80fd"
    first = bytes.fromhex(f"60{len(runtime) // 2:02x}8060095f395ff3" + runtime)
    receipt = await DirectTransact(chain, signer)(None, first, 200_000)
    assert receipt.contract_address is not None
    with pytest.raises(ChainMisconfigured, match="is of version 1, this settler needs version 3"):
        await SettlementContract.on(chain, receipt.contract_address, load_abi())


async def picture(contract: SettlementContract, token: str, receipts: list[Receipt]) -> list[Any]:
    """All that a client can see: the head, every block, receipt, balance, log, nonce."""
    chain = contract.chain
    head = await chain.block_number()
    return [
        head,
        [await chain.block_hash(number) for number in range(head + 1)],
        [await chain.receipt(receipt.transaction_hash) for receipt in receipts],
        [await contract.balance(who, token) for who in (FAUCET, ALICE, BOB)],
        [await contract.settled_through(0, number) for number in range(receipts[0].block_number, head + 1)],
        await contract.batch_hash(0),
        await deposits_of(contract, 0, head),
        [await chain.nonce_of(address) for address in DEV_ADDRESSES],
        [await chain.balance_wei(address) for address in DEV_ADDRESSES],
    ]


async def test_the_devchain_survives_kill_9(devchain: Devchain, signer: Signer) -> None:
    chain = await Chain.connect(devchain.url)
    address = await ensure_clearbook(chain, DirectTransact(chain, signer), signer.address)
    contract = await SettlementContract.on(chain, address, load_abi())
    token = await fund_faucet(contract, DirectTransact(chain, signer), signer.address, "BTC", 18, FAUCET, MILLION)
    receipts: list[Receipt] = []
    for number in range(1, 4):
        receipts.append(
            await settle(contract, signer, number, number, Delta(FAUCET, token, -1), Delta(ALICE, token, 1))
        )
        before = await picture(contract, token, receipts)
        devchain.kill_and_restart()
        assert await picture(contract, token, receipts) == before
    devchain.stop(signal.SIGTERM)
    devchain.start()
    assert await picture(contract, token, receipts) == before
    await chain.close()


async def test_what_was_answered_before_a_kill_is_there(devchain: Devchain, signer: Signer) -> None:
    """Kills in the middle of a stream of transactions: acknowledged ones are mined, the unknown one can be resent."""
    chain = await Chain.connect(devchain.url)
    address = await ensure_clearbook(chain, DirectTransact(chain, signer), signer.address)
    contract = await SettlementContract.on(chain, address, load_abi())
    fees, nonce = await chain.suggest_fees(), await chain.nonce_of(signer.address)
    first = 1
    for delay in (0.0, 0.07, 0.2):
        killing = asyncio.create_task(kill_later(devchain, delay))
        while not killing.done():
            data = contract.settle_calldata(0, first, first, [])
            signed = await signer.sign(chain.transaction(address, data, nonce=nonce, gas=200_000, fees=fees))
            try:
                outcome = await chain.send_raw(signed.raw)
            except ChainUnavailable:
                await killing
                outcome = await chain.send_raw(signed.raw)
            assert outcome in {SendOutcome.ACCEPTED, SendOutcome.ALREADY_KNOWN}
            nonce, first = nonce + 1, first + 1
        assert await contract.settled_through(0) == first - 1
        assert await chain.nonce_of(signer.address) == nonce
    assert first > 3  # one before the first kill, one after each
    await chain.close()


async def kill_later(devchain: Devchain, delay: float) -> None:
    await asyncio.sleep(delay)
    await asyncio.to_thread(devchain.kill_and_restart)


async def test_a_second_devchain_on_the_same_data_is_refused(devchain: Devchain) -> None:
    for port, words in (("0", b"is another devchain running on it?"), (str(devchain.port), b"Address already in use")):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUN, port, str(devchain.data), cwd=ROOT, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 1
        assert words in errors
        assert errors.count(b"\n") == 1


async def test_the_devchain_answers_nonsense_with_errors(devchain: Devchain) -> None:
    async with httpx.AsyncClient(base_url=devchain.url) as http:

        async def ask(method: str, *params: Any) -> Any:
            sent = {"jsonrpc": "2.0", "id": 5, "method": method, "params": params}
            reply = (await http.post("/", json=sent)).json()
            assert reply["id"] == 5
            return reply.get("result", reply.get("error", {}).get("code"))

        rows: list[tuple[str, list[Any], Any]] = [
            ("eth_chainId", [], "0x7a69"),
            ("eth_nothing", [], -32601),
            ("eth_getBalance", [], -32602),
            ("eth_getBalance", ["zz"], -32602),
            ("eth_getBalance", ["0x01"], -32602),
            ("eth_getCode", [12], -32602),
            ("eth_getBlockByNumber", ["0xffff", False], None),
            ("eth_getBlockByNumber", ["nonsense", False], None),
            ("eth_getBlockByHash", ["0x" + "00" * 32, False], None),
            ("eth_getTransactionReceipt", ["0x" + "00" * 32], None),
            ("eth_getTransactionReceipt", ["0x00"], None),
            ("eth_sendRawTransaction", ["0x"], -32602),
            ("eth_sendRawTransaction", ["0x02c0"], -32602),
            ("eth_call", [{}, "latest"], "0x"),
            ("eth_call", [[], "latest"], -32602),
            ("eth_getLogs", [{"fromBlock": "0x5"}], -32000),
            ("eth_getLogs", [{"topics": [None, ["0x00"]], "address": []}], []),
            ("eth_feeHistory", ["0x4", "latest", [50]], ...),
            ("evm_mine", [], "0x0"),
            ("eth_blockNumber", [], "0x1"),
        ]
        for method, params, expected in rows:
            got = await ask(method, *params)
            assert expected is ... or got == expected, method
        foreign = Account.from_key(DEV_KEY).sign_transaction(
            {
                "chainId": 1,
                "nonce": 0,
                "gas": 21000,
                "maxFeePerGas": 9,
                "maxPriorityFeePerGas": 1,
                "value": 0,
                "to": b"\1" * 20,
            }
        )
        assert await ask("eth_sendRawTransaction", "0x" + foreign.raw_transaction.hex()) == -32000
        batch = [{"jsonrpc": "2.0", "id": n, "method": "net_version"} for n in range(3)]
        assert [r["result"] for r in (await http.post("/", json=batch)).json()] == ["31337"] * 3
        for body, code in ((b"{", -32700), (b"[]", -32600), (b"7", -32600), (b"[" * 100_000, -32700)):
            reply = await http.post("/", content=body, headers={"content-type": "application/json"})
            assert reply.json()["error"]["code"] == code
        assert (await http.post("/", content=b"{}", headers={"content-type": "text/plain"})).status_code == 415
        big = b" " * (3 << 20)
        assert (await http.post("/", content=big, headers={"content-type": "application/json"})).status_code == 413


async def test_logs_are_filtered_by_address_topic_and_block(devchain: Devchain, signer: Signer) -> None:
    chain = await Chain.connect(devchain.url)
    transact = DirectTransact(chain, signer)
    contract = await SettlementContract.on(
        chain, await ensure_clearbook(chain, transact, signer.address), load_abi(), log_blocks_max=10_000
    )
    tokens = [await fund_faucet(contract, transact, signer.address, s, 18, FAUCET, 10) for s in ("BTC", "ETH", "USD")]
    head = await chain.block_number()
    found = await deposits_of(contract, 0, head)
    assert [(d.index, d.token) for d in found] == list(enumerate(tokens, 1))
    for deposit in found:
        assert await deposits_of(contract, deposit.block_number, deposit.block_number) == [deposit]
    assert await deposits_of(contract, found[0].block_number + 1, found[1].block_number - 1) == []
    assert await chain.logs(contract.address, [None, None, "0x" + asset_key("BTC").hex()], 0, head) == []
    listed = await chain.logs(contract.address, [None, "0x" + asset_key("ETH").hex()], 0, head)
    assert len(listed) == 1
    await chain.close()
