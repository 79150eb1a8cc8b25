"""Commands per second of the engine, interpreted and compiled, beside the order books of PyPI that are installed.

``python bench/engine.py`` draws one seeded workload (70 % passive orders, 20 % cancels, 10 % crossing orders), plays it
to each in a process of its own with cyclic garbage collection frozen, checks that each traded the same lots, and prints
one table. Seconds are of CPU, so that what else runs here counts little. A slow book plays as much as it can in the
time it is given. The engine's figure counts `apply` with all that it does: validation, locks, fees, sequence numbers
and one event object for each command, all events kept.

``--commands N``, ``--depth N`` resting orders to begin with, ``--seconds N`` for each book. ``--shapes`` asks our two
builds alone what a command costs in books of 1, a thousand and a million orders, and beside orders that are not plain,
and what memory a resting order takes. Those are stops that no price of the workload hits, icebergs and exits of two far
below it: nothing of them ever happens, so what a command costs more in their market is what it takes to see that. An
order that rests or is canceled sees it at once; one that trades, a tenth of them, goes over the desk.

``--real`` plays recorded order flow to them (../shared/data; without it, a made-up feed): one order a level of the
feed, which comes, changes and goes as the level does, and the takers of its trades. The snapshots that recordings begin
with are not timed. Both builds must end in the same state.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import hatch_build
from bench.peers import PEERS
from services.book import model as m
from services.book.engine import Engine
from services.cli.recorded import steps as steps_of
from services.command_ids import command_id_of
from tests import generated_feed
from tests.real_flow import RealFlow
from tests.recordings import EXCHANGES, RECORDED, recorded

ROOT = Path(__file__).resolve().parent.parent
OURS = ("clearbook compiled", "clearbook interpreted")
MAKERS, FIRST_MAKER = 1_000, 1_001
TAKER = FIRST_MAKER + MAKERS
"""Takes only, and never rests: nobody meets himself, whom other books would let trade."""
MID_TICKS, SPREAD_TICKS, LOTS_MAX = 1_000_000, 50, 10
CHUNK = 1_000
"""Commands between two looks at the clock."""
RUN_SECONDS_MAX = 300
DEPTHS = (1, 1_000, 1_000_000)
SHAPE_COMMANDS = 50_000
PECULIAR = 3_000
"""Stops, icebergs and brackets, a thousand each, that lie beside a workload and are never reached."""
FAR_TICKS = 900_000
MEMORY_ORDERS, MEMORY_ORDERS_AT_A_PRICE = 1_000_000, 10
REAL_ROUNDS = 9
"""The best counts: a round takes some hundredths of a second."""
MADE_UP_GROUPS = 10_000
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Step(NamedTuple):
    """One command: a placing, or the cancel of the placing with that number."""

    cancel: int
    buys: bool
    price_ticks: int
    lots: int
    account_id: int


class Result(NamedTuple):
    """What one book did."""

    commands: int
    seconds: float
    traded: int
    digest: str = ""
    """Of the state at the end, where that is compared."""


def started() -> Engine:
    """One market, and a session for gateway 1."""
    engine = Engine()
    bodies: list[m.CommandBody] = [
        m.LeaderStarted(1, "bench"),
        m.OpenSession(1),
        m.CreateAsset(m.Asset(0, "BTC", 8)),
        m.CreateAsset(m.Asset(0, "USD", 18)),
        m.CreateMarket(m.Market(0, "BTC-USD", 1, 2, "0.01", "0.00001")),
        *(m.OpenAccount(f"user-{number}") for number in range(MAKERS + 1)),
    ]
    for body in bodies:
        engine.apply(m.Command(0, body), 0)
    return engine


class Translator:
    """Steps as the engine takes them: the nth step is the session's nth command."""

    def __init__(self) -> None:
        self._number = 0
        self.placed: list[tuple[int, int]] = []
        """Of each placing its order_id and its account."""

    def command(self, step: Step) -> m.Command:
        self._number += 1
        command_id = command_id_of(1, 1, self._number)
        if step.cancel >= 0:
            order_id, account_id = self.placed[step.cancel]
            return m.Command(command_id, m.CancelOrder(account_id, order_id))
        self.placed.append((command_id, step.account_id))
        place = m.PlaceOrder(
            step.account_id,
            1,
            m.SIDE_BUY if step.buys else m.SIDE_SELL,
            m.ORDER_TYPE_LIMIT,
            m.TIME_IN_FORCE_GTC,
            False,
            step.price_ticks,
            step.lots,
            maker_fee_ppm=1_000,
            taker_fee_ppm=2_000,
        )
        return m.Command(command_id, place)


class Workload:
    """Draws steps while it watches a book of its own, so that passive orders rest and cancels find their order."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._engine, self._translator = started(), Translator()
        self._makers = itertools.cycle(range(FIRST_MAKER, FIRST_MAKER + MAKERS))
        self._mid_ticks = MID_TICKS
        self._live: list[int] = []
        self.steps: list[Step] = []
        self.traded: list[int] = []
        """Lots traded up to each step, it included."""

    def deepen(self, orders: int) -> None:
        """Adds resting orders behind the busy prices, ten to a price."""
        for _ in range(orders):
            self._passive(SPREAD_TICKS + 1 + self._chance.randrange(orders // 10 + 1))

    def draw(self, commands: int) -> None:
        """Adds so many commands."""
        for _ in range(commands):
            kind = self._chance.random()
            self._mid_ticks += self._chance.choice((-1, 0, 1))
            if kind < 0.2 and self._cancel():
                continue
            if kind < 0.3 and self._crossing():
                continue
            self._passive(1 + self._chance.randrange(SPREAD_TICKS))

    def _passive(self, distance_ticks: int) -> None:
        book, buys = self._engine.books[1], self._chance.random() < 0.5
        bid, ask = book.bids.best, book.asks.best
        price_ticks = self._mid_ticks - distance_ticks if buys else self._mid_ticks + distance_ticks
        if buys and ask is not None:
            price_ticks = min(price_ticks, ask.price_ticks - 1)
        if not buys and bid is not None:
            price_ticks = max(price_ticks, bid.price_ticks + 1)
        self._live.append(len(self._translator.placed))
        self._add(Step(-1, buys, price_ticks, self._chance.randint(1, LOTS_MAX), next(self._makers)))

    def _crossing(self) -> bool:
        book, buys = self._engine.books[1], self._chance.random() < 0.5
        wanted, reached, price_ticks = self._chance.randint(1, LOTS_MAX), 0, 0
        for level in (book.asks if buys else book.bids).levels_best_first():
            reached, price_ticks = reached + level.total_lots, level.price_ticks
            if reached >= wanted:
                break
        if reached:
            self._add(Step(-1, buys, price_ticks, min(wanted, reached), TAKER))
        return reached > 0

    def _cancel(self) -> bool:
        while self._live:
            place = self._chance.randrange(len(self._live))
            self._live[place], self._live[-1] = self._live[-1], self._live[place]
            number = self._live.pop()
            if self._translator.placed[number][0] in self._engine.orders:
                self._add(Step(number, False, 0, 0, 0))
                return True
        return False

    def _add(self, step: Step) -> None:
        body = self._engine.apply(self._translator.command(step), 1).body
        trades = body.trades if isinstance(body, m.OrderPlaced) else []
        assert isinstance(body, m.OrderPlaced | m.OrderCanceled), body
        assert body.order.place.account_id != TAKER or body.order.state == m.ORDER_STATE_FILLED, "the taker would rest"
        self.steps.append(step)
        self.traded.append(sum(trade.quantity_lots for trade in trades) + (self.traded[-1] if self.traded else 0))


def freeze() -> None:
    """What the services do: nothing that is made here is ever part of a cycle."""
    gc.collect()
    gc.freeze()
    gc.disable()


def place_peculiar(engine: Engine, market_id: int) -> None:
    """Orders that are not plain, far below a workload's prices, by gateway 2."""
    engine.apply(m.Command(0, m.OpenSession(2)), 0)
    numbers = itertools.count(1)

    def buy(price_ticks: int, terms: m.Terms | None) -> m.PlaceOrder:
        kind, time_in_force = m.ORDER_TYPE_LIMIT, m.TIME_IN_FORCE_GTC
        return m.PlaceOrder(TAKER, market_id, m.SIDE_BUY, kind, time_in_force, False, price_ticks, 5, terms=terms)

    for far in range(PECULIAR // 3):
        ticks = MID_TICKS - FAR_TICKS + far
        stop = m.Terms(trigger=m.TRIGGER_STOP, trigger_ticks=MID_TICKS + FAR_TICKS + far)
        bodies: list[m.CommandBody] = [buy(ticks, stop), buy(ticks, m.Terms(display_lots=1))]
        for body in bodies:
            engine.apply(m.Command(command_id_of(2, 1, next(numbers)), body), 0)
        group = m.PlaceGroup(None, [buy(ticks, None), buy(ticks, stop)])
        engine.apply(m.Command(command_id_of(2, 1, next(numbers)), group), 0)
        next(numbers)


def resident_bytes() -> int:
    """What this process has in memory now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES


def bytes_an_order() -> Result:
    """What a plain resting order takes, its level, its index entry and what it asks included."""
    engine = started()
    freeze()
    before = resident_bytes()
    for number in range(MEMORY_ORDERS):
        ticks = MID_TICKS + number // MEMORY_ORDERS_AT_A_PRICE
        place = m.PlaceOrder(FIRST_MAKER, 1, m.SIDE_SELL, m.ORDER_TYPE_LIMIT, m.TIME_IN_FORCE_GTC, False, ticks, 5)
        engine.apply(m.Command(command_id_of(1, 1, number + 1), place), 0)
    return Result(0, 0, (resident_bytes() - before) // MEMORY_ORDERS)


def run_ours(steps: list[Step], depth: int, peculiar: str = "") -> Result:
    """Plays everything; every event is kept. What is `peculiar` lies in the "same" market, or in "another"."""
    engine, translator = started(), Translator()
    if peculiar:
        engine.apply(m.Command(0, m.CreateMarket(m.Market(0, "USD-BTC", 2, 1, "1", "1"))), 0)
        place_peculiar(engine, 1 if peculiar == "same" else 2)
    commands = [translator.command(step) for step in steps]
    for command in commands[:depth]:
        engine.apply(command, 1)
    timed = commands[depth:]
    freeze()
    apply = engine.apply
    start = time.process_time_ns()
    events = [apply(command, 1) for command in timed]
    seconds = (time.process_time_ns() - start) / 10**9
    engine.validate()
    bodies = [event.body for event in events]
    traded = sum(trade.quantity_lots for body in bodies if isinstance(body, m.OrderPlaced) for trade in body.trades)
    return Result(len(timed), seconds, traded)


def real_flow() -> tuple[list[m.Command], list[m.Command]]:
    """What comes before the clock starts, the snapshots included, and what then comes."""
    if RECORDED.exists():
        feed = [step for exchange in EXCHANGES for step in recorded(exchange)]
    else:
        feed = list(steps_of(generated_feed.coinbase(1, MADE_UP_GROUPS, markets=10).lines))
    flow = RealFlow(feed)
    before = list(flow.opening())
    timed: list[m.Command] = []
    for snapshots in (True, False):
        for step in feed:
            if step.snapshot == snapshots:
                (before if snapshots else timed).extend(flow.commands(step))
    return before, timed


def run_real() -> Result:
    """Plays real flow to a new engine in each round; the best counts."""
    before, timed = real_flow()
    best = Result(len(timed), math.inf, 0)
    for _ in range(REAL_ROUNDS):
        engine = Engine()
        for command in before:
            engine.apply(command, 1)
        freeze()
        apply = engine.apply
        start = time.process_time_ns()
        events = [apply(command, 1) for command in timed]
        seconds = (time.process_time_ns() - start) / 10**9
        bodies = [event.body for event in events]
        assert not any(isinstance(body, m.Refused) for body in bodies), "the flow is not the feed's"
        traded = sum(trade.quantity_lots for body in bodies if isinstance(body, m.OrderPlaced) for trade in body.trades)
        best = min(best, Result(len(timed), seconds, traded, engine.digest()), key=lambda result: result.seconds)
    return best


def run_peer(name: str, steps: list[Step], depth: int, seconds_max: float) -> Result:
    """Plays as much as there is time for."""
    peer = PEERS[name]()
    peer.prepare([(step.buys, step.price_ticks, step.lots) for step in steps if step.cancel < 0])
    number, traded = 0, 0
    while number < depth:
        peer.place(number)
        number += 1
    freeze()
    done, began = depth, time.perf_counter_ns()
    start = time.process_time_ns()
    while done < len(steps) and time.perf_counter_ns() - began < seconds_max * 10**9:
        for step in steps[done : done + CHUNK]:
            if step.cancel >= 0:
                peer.cancel(step.cancel)
            else:
                traded += peer.place(number)
                number += 1
        done = min(done + CHUNK, len(steps))
    seconds = (time.process_time_ns() - start) / 10**9
    return Result(done - depth, seconds, traded)


def child(name: str, file: str, depth: int, seconds_max: float, peculiar: str) -> None:
    """One book in a process of its own; the result on stdout."""
    steps = [Step(*row) for row in json.loads(Path(file).read_text(encoding="utf-8"))]
    compiled = sys.modules["services.book.engine"].__file__.endswith(".so")  # type: ignore[union-attr]
    if name in OURS:
        assert compiled == (name == OURS[0]), "this is not the build that was asked for"
        alone = {"memory": bytes_an_order, "real": run_real}.get(peculiar)
        result = alone() if alone else run_ours(steps, depth, peculiar)
    else:
        result = run_peer(name, steps, depth, seconds_max)
    print(json.dumps(result))


def builds(folder: Path) -> dict[str, Path]:
    """Copies of the sources: interpreted, and compiled where there is a compiler."""
    roots = {name: folder / name.split()[1] for name in OURS}
    for root in roots.values():
        shutil.copytree(ROOT / "services", root / "services", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    if not hatch_build.compile_copy(roots[OURS[0]]):
        print("not compiled here: interpreted only")
        del roots[OURS[0]]
    return roots


def measure(name: str, root: Path, file: Path, options: argparse.Namespace) -> Result | None:
    """Runs a child; None if the book is not installed or fails, saying so."""
    path = os.pathsep.join((str(root), str(ROOT), str(ROOT / "gen")))
    arguments = ["--child", name, str(file), "--depth", str(options.depth), "--seconds", str(options.seconds)]
    arguments += ["--peculiar", options.peculiar]
    ran = subprocess.run(
        [sys.executable, "-m", "bench.engine", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    if ran.returncode != 0:
        print(f"{name:<24} {ran.stderr.strip().splitlines()[-1]}")
        return None
    return Result(*json.loads(ran.stdout.splitlines()[-1]))


def report(results: dict[str, Result], traded: list[int], depth: int) -> None:
    """One line a book, the best figure first."""
    best_peer = max((r.commands / r.seconds for name, r in results.items() if name in PEERS), default=0)
    print(f"{'':<24}{'commands/s':>12}{'commands':>10}{'us each':>9}{'of best peer':>14}  lots traded")
    for name, result in sorted(results.items(), key=lambda item: -item[1].commands / item[1].seconds):
        rate = result.commands / result.seconds
        ratio = f"{rate / best_peer:.2f}" if best_peer else "-"
        before = traded[depth - 1] if depth else 0
        expected = traded[depth + result.commands - 1] - before
        verdict = "equal" if result.traded == expected else f"{result.traded}, not {expected}"
        print(f"{name:<24}{rate:>12,.0f}{result.commands:>10,}{10**6 / rate:>9.2f}{ratio:>14}  {verdict}")
        if name in OURS and result.traded != expected:
            raise SystemExit("our own engine traded something else")


def shapes(roots: dict[str, Path], place: Path, options: argparse.Namespace) -> None:
    """What a command costs our two builds by the shape of the book: each shape twice, the better one counts."""
    print(f"{'us a command (CPU)':<44}" + "".join(f"{name.split()[1]:>14}" for name in roots))
    rows = [(depth, "") for depth in DEPTHS] + [(DEPTHS[1], "another"), (DEPTHS[1], "same")]
    drawn = -1
    for depth, peculiar in rows:
        if depth != drawn:
            workload, drawn = Workload(options.seed), depth
            workload.deepen(depth)
            workload.draw(SHAPE_COMMANDS)
            place.write_text(json.dumps(workload.steps), encoding="utf-8")
        options.depth, options.peculiar = depth, peculiar
        told = f"{depth:,} resting orders"
        told += f", {PECULIAR:,} idle stops etc. in {peculiar} market" if peculiar else ""
        costs = []
        for name, root in roots.items():
            results = [measure(name, root, place, options) for _ in range(2)]
            traded = workload.traded[-1] - workload.traded[depth - 1]
            assert all(result and result.traded == traded for result in results), (name, results, traded)
            costs.append(min(result.seconds / result.commands for result in results if result))
        print(f"{told:<44}" + "".join(f"{cost * 10**6:>14.2f}" for cost in costs))
    options.peculiar = "memory"
    found = [measure(name, root, place, options) for name, root in roots.items()]
    print(f"{'bytes a resting order':<44}" + "".join(f"{result.traded if result else 0:>14}" for result in found))


def real(roots: dict[str, Path], place: Path, options: argparse.Namespace) -> None:
    """Real flow in our two builds, which must do the same."""
    place.write_text("[]", encoding="utf-8")
    options.peculiar = "real"
    results = {name: measure(name, root, place, options) for name, root in roots.items()}
    print(f"{'real flow' if RECORDED.exists() else 'made-up flow':<24}{'commands/s':>12}{'commands':>10}{'us each':>9}")
    for name, result in results.items():
        assert result, name
        cost = result.seconds / result.commands
        print(f"{name:<24}{1 / cost:>12,.0f}{result.commands:>10,}{cost * 10**6:>9.2f}  {result.digest[:12]}")
    if len({(result.commands, result.traded, result.digest) for result in results.values() if result}) != 1:
        raise SystemExit("the two builds did not do the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=200_000)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shapes", action="store_true")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--peculiar", default="", help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, file = options.child
        child(name, file, options.depth, options.seconds, options.peculiar)
        return
    if options.shapes or options.real:
        with tempfile.TemporaryDirectory() as folder:
            (shapes if options.shapes else real)(builds(Path(folder)), Path(folder) / "steps.json", options)
        return
    workload = Workload(options.seed)
    workload.deepen(options.depth)
    workload.draw(options.commands)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "steps.json"
        place.write_text(json.dumps(workload.steps), encoding="utf-8")
        roots = builds(Path(folder))
        found = {name: measure(name, root, place, options) for name, root in roots.items()}
        found |= {name: measure(name, roots[OURS[1]], place, options) for name in PEERS}
    report({name: result for name, result in found.items() if result}, workload.traded, options.depth)


if __name__ == "__main__":
    main()
