"""Gas of the settlement contract: per batch size, first touch against warm, per leg; withdrawals; the contracts' sizes.

``python bench/gas.py`` runs on a chain in memory. Gas is what the receipt says, calldata included.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from services.cli.devchain import DEV_KEY, serve
from services.settler.contract import (
    Chain,
    Delta,
    SettlementContract,
    Signer,
    Withdrawal,
    account_key,
    artifact,
    load_abi,
    settle_gas_limit,
)
from services.settler.deploy import DirectTransact, ensure_clearbook, fund_faucet

FAUCET = account_key(2)
WITHDRAWALS = (1, 10, 50)
LEGS = (2, 4, 10, 20, 50, 100, 200)


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
