"""How quickly the gateway's tables are folded anew: ``clearbook rebuild`` over a journal of random trading.

``python bench/rebuild.py`` writes a journal of ``--events`` (50,000) orders, trades and cancels among a hundred users
into a SQLite file, in rows of 256, and runs the command twice: into an empty database, and over what that left there,
which must give the same digest.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

from rich.console import Console

from services.book import model as m
from services.book.batch import Batch
from services.book.engine import Engine
from services.book.journal import GENESIS_HASH, Journal
from services.cli.rebuild import EXIT_SAME, Sources, rebuild
from services.command_ids import command_id_of

USERS = range(1001, 1101)
ROW_COMMANDS = 256
FUNDS = 10**30
SEED = 7


def setup() -> list[m.CommandBody]:
    """Two assets, a market, and users with more than they can spend."""
    bodies: list[m.CommandBody] = [
        m.CreateAsset(m.Asset(0, "BTC", 18)),
        m.CreateAsset(m.Asset(0, "USD", 18)),
        m.CreateMarket(m.Market(0, "BTC-USD", 1, 2, "0.01", "0.00001", 0)),
        m.DepositFinal(1, 2, "BTC", FUNDS * len(USERS), "0x"),
        m.DepositFinal(2, 2, "USD", FUNDS * len(USERS), "0x"),
        *(m.OpenAccount(f"user-{user}") for user in USERS),
    ]
    bodies += [m.Transfer(f"t{user}-{asset}", 2, user, asset, FUNDS) for user in USERS for asset in (1, 2)]
    return bodies


def order(chance: random.Random, number: int) -> m.PlaceOrder:
    """Around one price, so that about half of them trade."""
    side, price = chance.choice((m.SIDE_BUY, m.SIDE_SELL)), chance.randint(2_999_950, 3_000_050)
    user, lots = chance.choice(USERS), chance.randint(1, 500)
    kind = m.ORDER_TYPE_LIMIT, m.TIME_IN_FORCE_GTC
    return m.PlaceOrder(user, 1, side, *kind, False, price, lots, 0, f"c{number}", 1_000, 2_000)


async def write(url: str, events: int) -> int:
    """A journal; returns how many events it holds."""
    chance, engine, number = random.Random(SEED), Engine(), 0
    waiting = setup()
    async with await Journal.open(url, 0) as journal:
        batch = Batch(engine, 1)
        batch.add_all([m.Command(0, m.LeaderStarted(1, "bench")), m.Command(0, m.OpenSession(1))])
        last = batch.seal(GENESIS_HASH)
        await journal.append(last)
        while engine.journal_sequence < events:
            batch = Batch(engine, engine.time_ns + 1_000_000)
            for _ in range(ROW_COMMANDS):
                number += 1
                resting = next(iter(engine.orders.values()), None) if number % 8 == 0 else None
                body: m.CommandBody = order(chance, number)
                if waiting:
                    body = waiting.pop(0)
                elif resting is not None:
                    body = m.CancelOrder(resting.place.account_id, resting.order_id)
                batch.add_all([m.Command(command_id_of(1, 1, number), body)])
            last = batch.seal(last.hash)
            await journal.append(last)
    return engine.journal_sequence


def main() -> None:
    """Writes, folds twice, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000)
    events = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        sources = Sources(f"sqlite:///{folder}/book.sqlite", f"sqlite:///{folder}/gateway.sqlite")
        started = perf_counter()
        written = asyncio.run(write(sources.book_url, events))
        sys.stdout.write(f"journal: {written} events in {perf_counter() - started:.1f} s\n")
        for _ in range(2):
            cpu = process_time()
            if rebuild(sources, Console(width=160)) != EXIT_SAME:
                raise SystemExit("the second fold is not the first")
            sys.stdout.write(f"CPU: {(process_time() - cpu) / written * 1e6:.0f} µs an event, digests included\n")
        size = Path(folder, "gateway.sqlite").stat().st_size
        sys.stdout.write(f"the gateway's database: {size / written:.0f} bytes an event\n")


if __name__ == "__main__":
    main()
