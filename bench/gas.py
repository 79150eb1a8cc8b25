"""Gas of the settlement contract: per batch size, first touch against warm, per leg; withdrawals; links and exits; per
trade, where many trades among few accounts are netted, and where each is settled with two signed orders; the
contracts' sizes.

``python bench/gas.py`` runs on a chain in memory. Gas is what the receipt says, calldata included.
"""

import asyncio
import random
import tempfile
import time
from pathlib import Path

from eth_keys.datatypes import PrivateKey

from services.cli.devchain import DEV_KEY, serve
from services.settler.batch import Entry, Trade, cut
from services.settler.contract import (
    Chain,
    Delta,
    Link,
    SettlementContract,
    Signer,
    Withdrawal,
    account_key,
    artifact,
    load_abi,
    settle_gas_limit,
)
from services.settler.deploy import DirectTransact, ensure_clearbook, fund_faucet
from services.settler.signed import LEGS_PER_TRADE, signed_calldata
from services.signed_orders import Authorization, Domain, SignedOrder, order_hash, text_of

FAUCET = account_key(2)
WITHDRAWALS = (1, 10, 50)
LEGS = (2, 4, 10, 20, 50, 100, 200)
LINKS = (1, 10, 50)
TRADES = (1, 10, 50, 100, 500)
SIGNED = (1, 5, 25)
TRADERS = [*range(5001, 5021)]


async def measure(
    contract: SettlementContract, transact: DirectTransact, token: str, legs: int, first: int
) -> list[int]:
    """Three batches over the same accounts: balances from nothing, then warm, then all down to nothing again."""
    accounts = [account_key(first * 1000 + n) for n in range(legs - 1)]
    gas = []
    for number, amount in enumerate((5, 1, -6)):
        deltas = [Delta(FAUCET, token, -amount * len(accounts)), *(Delta(a, token, amount) for a in accounts)]
        data = contract.settle_calldata(0, first + number, first + number, deltas)
        gas.append((await transact(contract.address, data, settle_gas_limit(legs))).gas_used)
    return gas


async def withdraw(
    contract: SettlementContract, transact: DirectTransact, token: str, to: str, number: int, first: int
) -> int:
    """One batch of so many withdrawals, the first of them to `to`."""
    wallets = [to, *(f"0x{number:030x}{n:010x}" for n in range(1, number))]
    out = [Withdrawal(token, wallet, 5) for wallet in wallets]
    data = contract.settle_calldata(0, first, first, [Delta(FAUCET, token, -5 * number)], out)
    return (await transact(contract.address, data, settle_gas_limit(1 + number))).gas_used


async def link(contract: SettlementContract, transact: DirectTransact, number: int, first: int) -> int:
    """One batch that gives so many accounts their owner."""
    links = [Link(account_key(1001 + first * 100 + n), f"0x{number:030x}{n + 1:010x}") for n in range(number)]
    data = contract.settle_calldata(0, first, first, [], [], links)
    return (await transact(contract.address, data, settle_gas_limit(number))).gas_used


async def trade(
    contract: SettlementContract, transact: DirectTransact, tokens: dict[str, str], trades: int, first: int
) -> int:
    """One batch of so many trades, each between two of TRADERS."""
    dice = random.Random(first)
    entries = []
    for number in range(trades):
        buyer, seller = dice.sample(TRADERS, 2)
        body = Trade("BTC-USD", number, "BTC", "USD", buyer, seller, dice.randint(1, 99), dice.randint(1, 99), 1, 1)
        entries.append(Entry(first + number, body))
    batch = cut(entries, tokens, entries_max=trades)
    assert batch is not None
    assert batch.last == entries[-1].settlement_sequence, "all of it fits one batch"
    deltas = [Delta(account_key(leg.account_id), leg.token, leg.amount) for leg in batch.legs]
    data = contract.settle_calldata(0, batch.first, batch.last, deltas)
    return (await transact(contract.address, data, settle_gas_limit(len(deltas)))).gas_used


async def trades_table(contract: SettlementContract, transact: DirectTransact, token: str, owner: str) -> None:
    """Warm: everybody has some of both tokens before."""
    first = await contract.settled_through(0) + 1
    usd = await fund_faucet(contract, transact, owner, "USD", 6, FAUCET, 10**24)
    tokens, given = {"BTC": token, "USD": usd}, 10**9
    deltas = [Delta(account_key(n), each, given) for n in (*TRADERS, 1) for each in tokens.values()]
    deltas += [Delta(FAUCET, each, -given * (len(TRADERS) + 1)) for each in tokens.values()]
    data = contract.settle_calldata(0, first, first, deltas)
    await transact(contract.address, data, settle_gas_limit(len(deltas)))
    first += 1
    row("trades", f"{len(TRADERS)} traders", "per trade")
    for trades in TRADES:
        gas = await trade(contract, transact, tokens, trades, first)
        row(trades, gas, gas // trades)
        first += trades
    await signed_table(contract, transact, first)


async def signed_table(contract: SettlementContract, transact: DirectTransact, first: int) -> None:
    """Orders and their owners' links for the first time; then more of the same orders, all balances warm."""
    domain = Domain(contract.chain.chain_id, contract.address)
    row("signed", "new orders", "each", "again", "each", "", "gas limit")
    for number in SIGNED:
        traders = [*zip(TRADERS, TRADERS[1:] + TRADERS[:1], strict=True)] * 2
        trades = [signed_trade(domain, f"{number}-{n}", *traders[n]) for n in range(number)]
        accounts = {account for trade in trades for account in (trade.buyer, trade.seller)}
        links = [Link(account_key(account), key(account).public_key.to_checksum_address()) for account in accounts]
        gas, limit = [], settle_gas_limit(LEGS_PER_TRADE * number + len(links))
        for owners in (links, []):
            data = signed_calldata(contract, 0, first, trades, owners)
            gas.append((await transact(contract.address, data, limit)).gas_used)
            first += number
        row(number, gas[0], gas[0] // number, gas[1], gas[1] // number, "", limit)


def key(account: int) -> PrivateKey:
    return PrivateKey(account.to_bytes(32, "big"))


def signed_trade(domain: Domain, name: str, buyer: int, seller: int) -> Trade:
    """A half of two orders."""
    signed = []
    for account, buys in ((buyer, True), (seller, False)):
        order = SignedOrder(account, "BTC", "USD", buys, 10, 100, 2_000, 2**40, name)
        signature = key(account).sign_msg_hash(order_hash(order, domain)).to_bytes()
        signed.append(text_of(Authorization(*order[4:], signature)))
    return Trade("BTC-USD", 1, "BTC", "USD", buyer, seller, 5, 50, 1, 1, *signed)


def row(*cells: object) -> None:
    print("".join(f"{cell!s:>12}" for cell in cells))


async def table(url: str) -> None:
    chain, signer = await Chain.connect(url), Signer(DEV_KEY)
    transact = DirectTransact(chain, signer)
    contract = await SettlementContract.on(chain, await ensure_clearbook(chain, transact, signer.address), load_abi())
    token = await fund_faucet(contract, transact, signer.address, "BTC", 18, FAUCET, 10**24)
    await transact(contract.address, contract.settle_calldata(0, 1, 1, []), 200_000)
    empty = await transact(contract.address, contract.settle_calldata(0, 2, 2, []), 200_000)
    row("legs", "first touch", "per leg", "warm", "per leg", "to zero", "gas limit", "ms")
    row(0, "", "", empty.gas_used, "", "", settle_gas_limit(0), "")
    first = 3
    for legs in LEGS:
        start = time.perf_counter_ns()
        cold, warm, zero = await measure(contract, transact, token, legs, first)
        ms = (time.perf_counter_ns() - start) // 3_000_000
        row(legs, cold, cold // legs, warm, warm // legs, zero, settle_gas_limit(legs), ms)
        first += 3
    row("withdrawals", "first touch", "each", "again", "each", "", "gas limit", "claim")
    for number in WITHDRAWALS:
        gas = [await withdraw(contract, transact, token, signer.address, number, first + turn) for turn in range(2)]
        first += 2
        claimed = await transact(contract.address, contract.calldata("claim", token), 200_000)
        limit = settle_gas_limit(1 + number)
        row(number, gas[0], gas[0] // number, gas[1], gas[1] // number, "", limit, claimed.gas_used)
    row("links", "", "each", "", "", "", "gas limit")
    for number in LINKS:
        gas_used = await link(contract, transact, number, first)
        row(number, gas_used, gas_used // number, "", "", "", settle_gas_limit(number))
        first += 1
    await trades_table(contract, transact, token, signer.address)
    await chain.close()
    for name in ("Clearbook", "TestToken"):
        built = artifact(name)
        print(f"{name}: {len(built['runtime']) // 2 - 1} bytes deployed (the limit is 24576)")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(serve(0, Path(folder), port.set_result))
        try:
            await table(f"http://127.0.0.1:{await port}")
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
