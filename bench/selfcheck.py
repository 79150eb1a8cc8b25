"""How long the gateway's self-check keeps the event loop to itself, and how long one takes beside other work.

``python bench/selfcheck.py`` makes a ledger of 100,000 accounts with 3 assets and an open order each, and 20,000
entries that are not final, does nothing, checks it at once, and checks it in slices (as the gateway does), and prints
for each how late a task which wants to run every millisecond came at the worst, in the best of three. ``--accounts N``.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable

from services.order_gateway.check import violations
from services.order_gateway.health import Health
from services.order_gateway.ledger import Ledger, Snapshot
from services.order_gateway.model import AccountOpened, CancelCause, MarketCreated, Order, OrderState, TimeInForce
from services.order_gateway.unsettled import Unsettled
from services.runtime.run import Closing
from services.units import FIRST_USER_ACCOUNT, OUTSIDE_ACCOUNT, Asset

ASSETS = (Asset(1, "BTC", 18), Asset(2, "USD", 18), Asset(3, "ETH", 18))
MARKET = MarketCreated(1, "BTC-USD", 1, 2, "0.01", "0.00001", 0)
TOTAL, LOCK, MOVED = 10**21, 10**18, 10**15
ENTRIES = 20_000
BEAT_SECONDS = 0.001
CHECKS = 3


def order(account_id: int) -> Order:
    """An open one that locks LOCK."""
    return Order(
        order_id=account_id,
        account_id=account_id,
        market_id=1,
        buys=True,
        limit=True,
        time_in_force=TimeInForce.GTC,
        post_only=False,
        price_ticks=10_000,
        quantity_lots=1_000,
        budget=0,
        client_order_id=f"c{account_id}",
        maker_fee_ppm=1_000,
        taker_fee_ppm=2_000,
        filled_lots=0,
        filled_quote=0,
        state=OrderState.OPEN,
        cause=CancelCause.NONE,
        lock=LOCK,
        create_sequence=1,
        create_ns=1,
        event_sequence=1,
        event_ns=1,
    )


def filled(accounts: int) -> Ledger:
    """A ledger with so many accounts."""
    ids = range(FIRST_USER_ACCOUNT, FIRST_USER_ACCOUNT + accounts)
    unsettled = Unsettled()
    for number in range(1, ENTRIES + 1):
        for account_id, sign in ((ids[number % accounts], 1), (ids[(number + 1) % accounts], -1)):
            unsettled.add(number, number, (account_id, 1), sign * MOVED)
    balances = [(one, asset.asset_id, TOTAL, LOCK if asset.asset_id == 2 else 0) for one in ids for asset in ASSETS]
    balances += [(OUTSIDE_ACCOUNT, asset.asset_id, -TOTAL * accounts, 0) for asset in ASSETS]
    return Ledger(
        Snapshot(
            sequence=1,
            assets=ASSETS,
            markets=(MARKET,),
            accounts=tuple(AccountOpened(one, f"user-{one}") for one in ids),
            balances=tuple(balances),
            orders=tuple(order(one) for one in ids),
            unsettled=unsettled,
        )
    )


async def measured(work: Callable[[], Awaitable[None]]) -> tuple[float, float, float]:
    """Seconds that it took, seconds of CPU, and the longest that a regular task came too late meanwhile."""
    late = 0.0

    async def beat() -> None:
        nonlocal late
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(BEAT_SECONDS)
            late = max(late, time.perf_counter() - asked - BEAT_SECONDS)

    beating = asyncio.create_task(beat())
    await asyncio.sleep(10 * BEAT_SECONDS)
    late, began, busy = 0.0, time.perf_counter(), time.process_time()
    await work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    await asyncio.sleep(2 * BEAT_SECONDS)
    beating.cancel()
    return seconds, cpu, late


async def run(accounts: int) -> None:
    """Prints one line for each way."""
    ledger = filled(accounts)
    health, closing = Health(ledger, _tell), Closing()

    async def nothing() -> None:
        await asyncio.sleep(1)

    async def at_once() -> None:
        assert violations(ledger) == []

    async def in_slices() -> None:
        assert await health.check_once(closing) == 0

    print(f"{accounts} accounts x {len(ASSETS)} assets, {len(ledger.open)} open orders, {ENTRIES} entries not final")
    for name, work in (("nothing", nothing), ("at once", at_once), ("in slices", in_slices)):
        found = [await measured(work) for _ in range(CHECKS)]
        seconds, cpu, late = (min(column) for column in zip(*found, strict=True))
        print(f"{name}: takes {seconds:.2f} s, {cpu:.2f} s of CPU; others wait {1000 * late:.1f} ms at the longest")


async def _tell(_serving: bool) -> None:
    """Nobody is told."""


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    asyncio.run(run(parser.parse_args().accounts))


if __name__ == "__main__":
    main()
