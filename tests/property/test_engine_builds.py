"""One engine, however it runs: interpreted, compiled, under any hash seed. And its checkers find what they should.

Everything here works on copies of the sources in a temporary folder, in processes of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import hatch_build
from services.book import engine
from tests import nested

ROOT = Path(__file__).resolve().parents[2]
TREE = "compiled" if engine.__file__.endswith(".so") else "interpreted"
"""How the engine of this process runs; the other build is made and tested here."""
SAME_TESTS = (
    "tests/test_build.py",
    "tests/unit/test_locks.py",
    "tests/unit/test_units.py",
    "tests/unit/test_gateway_encoding.py",
    "tests/unit/test_engine_commands.py",
    "tests/unit/test_engine_bounds.py",
    "tests/unit/test_engine_scenarios.py",
    "tests/property/test_engine_naive.py",
)
RUN_SECONDS_MAX, FAULTS_SECONDS_MAX = 120, 290
WALK = "from tests.property.walk import walk; print(walk(7, 500), walk(8, 100, restart=True))"
CHECK = """
from tests.property.walk import walk
from tests.unit import test_engine_bounds
from tests.unit.scenarios import play, scenarios
for scenario in scenarios():
    play(scenario)
    play(scenario, restart=True)
for seed in (1, 2):
    walk(seed, 1_000)
walk(3, 600, restart=True)
for name, check in vars(test_engine_bounds).items():
    if name.startswith("test_"):
        check()
"""


def copy_sources(to: Path) -> Path:
    """The sources alone: what was compiled in the tree stays there."""
    shutil.copytree(ROOT / "services", to / "services", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return to


def compile_or_reuse(root: Path) -> None:
    """Compiles a copy, unless these very sources were compiled here before: it takes most of a minute."""
    if hatch_build.up_to_date(ROOT):
        hatch_build.compile_copy(root)
        return
    kept = ROOT / "build" / "tested-engine" / f"{sys.implementation.cache_tag}-{hatch_build.digest(root)}"
    if not kept.exists():
        made = hatch_build.compile_copy(root)
        assert made, "mypyc does not compile the engine"
        shutil.rmtree(kept.parent, ignore_errors=True)
        for path in made:
            place = kept.with_suffix(".new") / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        kept.with_suffix(".new").rename(kept)
    shutil.copytree(kept, root, dirs_exist_ok=True)


def run_in(
    root: Path, *arguments: str, seconds_max: int = RUN_SECONDS_MAX, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Python with the services of a copy and the tests of the tree."""
    path = os.pathsep.join((str(root), str(ROOT), str(ROOT / "gen")))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env=nested.environment(PYTHONPATH=path, PYTHONPYCACHEPREFIX=str(root / "pycache"), **environment),
        capture_output=True,
        text=True,
        timeout=seconds_max,
        check=False,
    )


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A copy of each build, by name."""
    if hatch_build.compiler() is None:
        pytest.skip("no C compiler: there is one build only")
    copies = {name: copy_sources(tmp_path_factory.mktemp(name)) for name in ("interpreted", "compiled")}
    compile_or_reuse(copies["compiled"])
    yield copies
    for copy in copies.values():
        shutil.rmtree(copy)


@pytest.mark.slow
def test_the_other_build_passes_the_same_tests(builds: dict[str, Path]) -> None:
    other = "interpreted" if TREE == "compiled" else "compiled"
    root = builds[other]
    path = f"pythonpath={root} {ROOT} {ROOT / 'gen'}"
    options = (
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-o",
        path,
        f"--rootdir={ROOT}",
        "-c",
        str(ROOT / "pyproject.toml"),
    )
    tests = [str(ROOT / name) for name in SAME_TESTS]
    ran = run_in(root, "-m", "pytest", *options, *tests, CLEARBOOK_ENGINE=other)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    assert " skipped" not in ran.stdout


@pytest.mark.slow
def test_both_builds_and_every_hash_seed_end_in_one_digest(builds: dict[str, Path]) -> None:
    runs = [run_in(builds["interpreted"], "-c", WALK, PYTHONHASHSEED=seed) for seed in ("0", "1", "4242")]
    runs.append(run_in(builds["compiled"], "-c", WALK, PYTHONHASHSEED="7"))
    assert [run.stderr for run in runs if run.returncode] == []
    assert len({run.stdout for run in runs}) == 1
    assert len(runs[0].stdout.split()) == 4


class Fault(NamedTuple):
    """A change of one place in the source that makes the engine wrong."""

    name: str
    file: str
    old: str
    new: str


MATCHING, SIDE, ENGINE = "services/book/matching.py", "services/book/side.py", "services/book/engine.py"
AUCTION, CROSSING = "services/book/auction.py", "services/crossing.py"
TRIGGERS = "services/book/triggers.py"
DESK, EXPIRIES, TURN = "services/book/desk.py", "services/book/expiries.py", "services/book/turn.py"
SWITCHES, OWNERS = "services/book/switches.py", "services/book/owners.py"
SNAPSHOT, RULES, FEES = "services/book/snapshot.py", "services/book/rules.py", "services/fees.py"
REFERENCE = "services/reference.py"
FAULTS = (
    Fault("the newest trades first", MATCHING, "maker = level.oldest", "maker = level.newest"),
    Fault("a new order goes to the front", SIDE, "newest.newer = resting", "newest.older = resting"),
    Fault(
        "a partial fill is forgotten",
        SIDE,
        "else:\n            resting.remaining_lots -= lots",
        "else:\n            resting.remaining_lots -= 0",
    ),
    Fault(
        "a level's total is forgotten",
        SIDE,
        "level.total_lots -= lots\n\n    def shrink",
        "level.total_lots -= 0\n\n    def shrink",
    ),
    Fault(
        "a level's total forgets what was shrunk",
        SIDE,
        "level.total_lots -= lots\n\n    def lots_at",
        "pass\n\n    def lots_at",
    ),
    Fault("the worst price is the next best", SIDE, "self.levels[keys[-1]] if keys", "self.levels[keys[0]] if keys"),
    Fault("asks are ranked like bids", SIDE, "key = price_ticks if self.buys else -price_ticks", "key = price_ticks"),
    Fault(
        "a limit stops before its price",
        MATCHING,
        "limited and level.key < limit_key):",
        "limited and level.key <= limit_key):",
    ),
    Fault("a limit does not stop", MATCHING, "limited and level.key < limit_key):", "False):"),
    Fault(
        "one trades with oneself",
        MATCHING,
        "self_trade_of(place) != SELF_TRADE_ALLOW:\n                remaining",
        "False:\n                remaining",
    ),
    Fault("fill or kill counts one's own", MATCHING, "mode != SELF_TRADE_ALLOW:", "False:"),
    Fault("fill or kill forgets what it loses to its own", MATCHING, "remaining -= self.left(maker)", "remaining -= 0"),
    Fault("the older goes on", MATCHING, "return remaining, mode == SELF_TRADE_CANCEL_BOTH", "return remaining, True"),
    Fault(
        "what is lost to one's own is traded", MATCHING, "turn.decremented_lots += lots", "turn.decremented_lots += 0"
    ),
    Fault("a decremented maker is told nothing", MATCHING, "turn.consequence(self.order_now(resting))", "pass"),
    Fault("an exit behind its entry never expires", MATCHING, "        if self.edition > 0:\n", "        if False:\n"),
    Fault(
        "the auction goes by the older one's mode",
        AUCTION,
        "self_trade_of(newer.place) if",
        "self_trade_of(older.place) if",
    ),
    Fault("what is over trades", MATCHING, "turn.overdue and is_over(maker.place, turn.time_ns)", "False"),
    Fault("what is over is in the way", DESK, "if turn.overdue and not book.collects():", "if False:"),
    Fault("what is over trades once released", DESK, "if turn.overdue and is_over(place, turn.time_ns):", "if False:"),
    Fault("what is over trades in the auction", AUCTION, "if turn.overdue and is_over", "if False and is_over"),
    Fault(
        "fill or kill counts what is over", MATCHING, "if over_ns > 0 and is_over(maker.place, over_ns):", "if False:"
    ),
    Fault(
        "fill or kill counts what hides and is over",
        MATCHING,
        "not (over_ns > 0 and is_over(maker.place, over_ns))",
        "True",
    ),
    Fault(
        "fill or kill forgets what groups cost",
        MATCHING,
        "room -= 1 + self._linked(maker.order_id)\n                    continue\n                room",
        "room -= 1\n                    continue\n                room",
    ),
    Fault("stops that trail behind entries do not count", RULES, "trailing += len(book.held_trails)", "trailing += 0"),
    Fault("an auction never tires", AUCTION, "walks == AUCTION_WALKS_MAX and", "False and"),
    Fault("exits begin in an auction", DESK, "if book.edition > 0 and book.auction_ticks > 0:", "if False:"),
    Fault("what came in an auction can be spent", MATCHING, "self.edition == 0 or self.auction_ticks == 0", "True"),
    Fault("a snapshot forgets whose exits are to begin", SNAPSHOT, "        book.ended.append(group)", "        pass"),
    Fault("exits outlive their entry", ENGINE, "before != group.entry_id and before not in group.exits", "True"),
    Fault(
        "an account's orders are forgotten",
        MATCHING,
        "if self.owners.followed:",
        "if False:",
    ),
    Fault("a stop trades with what is over", ENGINE, "end_expired(book, turn)  #", "pass  #"),
    Fault("who has orders is followed no more", OWNERS, "if owned.tidy(orders)}", "if not owned.tidy(orders)}"),
    Fault("a new leader goes by the old rules", ENGINE, "book.adopt(leader.edition)", "pass"),
    Fault("an old journal is decided by new rules", ENGINE, "self.owners, self.edition", "self.owners, EDITION"),
    Fault("an order with terms is told its own way", DESK, "turn.add(order, trades)", "turn.add(order, [])"),
    Fault("a quote's stop sleeps", TRIGGERS, "self.quoted += heap_number >= ASK_RISES", "self.quoted += 0"),
    Fault("a plain order passes what is due", MATCHING, "expires_ns == 0 or expires_ns > time_ns", "True"),
    Fault("an exit is canceled alone", MATCHING, "and resting.order_id not in self.groups", "and True"),
    Fault("nobody expires", DESK, "resting = book.expiries.pop(", "resting = None and book.expiries.pop("),
    Fault("a switch runs out too late", SWITCHES, "self._earliest <= time_ns", "self._earliest < time_ns"),
    Fault("a switch of one market is of all", SWITCHES, "(place.account_id, place.market_id) in over", "False"),
    Fault("a switch that was disarmed runs out", SWITCHES, "self.deadlines.pop(", "self.deadlines.get("),
    Fault("one expires too late", EXPIRIES, "first > time_ns", "first >= time_ns"),
    Fault("a minimum is waived", DESK, "if minimum_lots > 0 and", "if minimum_lots > 1 and"),
    Fault("a minimum is asked of what was moved", DESK, "is None or anew else", "is None else"),
    Fault("a repriced order stays at the best price", DESK, "best.price_ticks - 1", "best.price_ticks"),
    Fault("moved to fewer it loses its place", DESK, "place.quantity_lots <= old.quantity_lots:", "False:"),
    Fault(
        "moved to more it keeps its place",
        DESK,
        "price_ticks == old.price_ticks and place.quantity_lots <= old.quantity_lots",
        "price_ticks == old.price_ticks",
    ),
    Fault("a moved order forgets what it traded", DESK, "place, filled_lots, anew=True", "place, 0, anew=True"),
    Fault(
        "a moved order may trade though it is post-only",
        DESK,
        "if place.post_only and book.would_trade",
        "if False and book.would_trade",
    ),
    Fault("a moved order is repriced too late", DESK, "place = repriced(book, place)  # first", "pass  # first"),
    Fault("all of both sides end", ENGINE, "asked.side in (SIDE_UNSPECIFIED, resting.place.side)", "True"),
    Fault("a stop takes profit", TRIGGERS, "rises = buys == (", "rises = buys != ("),
    Fault("a stop is hit too late", TRIGGERS, "elif entry[0] > reached:", "elif entry[0] >= reached:"),
    Fault(
        "the newest stop goes first",
        TRIGGERS,
        "-trigger_ticks, arrival, order_id)",
        "-trigger_ticks, -arrival, order_id)",
    ),
    Fault("the quotes are confused", TRIGGERS, "ASK_RISES if buys else BID_RISES", "BID_RISES if buys else ASK_RISES"),
    Fault("a trailing stop stays where it is", TRIGGERS, "self.add(order_id, place, arrival, last_ticks)", "pass"),
    Fault("a trailing stop leads", TRIGGERS, "best_ticks + trail_ticks if", "best_ticks - trail_ticks if"),
    Fault(
        "stops set off nothing",
        DESK,
        "set_aside(book, turn)\n        collect(book)",
        "set_aside(book, turn)\n        pass",
    ),
    Fault(
        "what waits sets nothing aside",
        MATCHING,
        "state in (ORDER_STATE_OPEN, ORDER_STATE_WAITING)",
        "state in (ORDER_STATE_OPEN,)",
    ),
    Fault("a snapshot forgets the last price", SNAPSHOT, 'book.last_price_ticks = state["last_price_ticks"]', "pass"),
    Fault("a snapshot forgets how far a trail has come", SNAPSHOT, "arrival, best_ticks)", "arrival, 0)"),
    Fault("an iceberg shows all at once", MATCHING, "min(hidden_lots, maker.place.terms.display_lots)", "hidden_lots"),
    Fault("an iceberg forgets what is hidden", MATCHING, "self._show_more(maker, side, turn)", "False"),
    Fault(
        "what is hidden sets nothing aside",
        MATCHING,
        "resting.place, self.left(resting))\n\n    def _lock",
        "resting.place, resting.remaining_lots)\n\n    def _lock",
    ),
    Fault("fill or kill sees no icebergs", MATCHING, "if unseen > 0:", "if False:"),
    Fault(
        "both of two trade",
        MATCHING,
        "                self.part(maker.order_id, turn)\n            trade",
        "                pass\n            trade",
    ),
    Fault("one released leaves the other", DESK, "book.part(order_id, turn)\n        waiting", "waiting"),
    Fault(
        "one ended leaves the other", MATCHING, "0, True)\n            self.part(resting.order_id, turn)", "0, True)"
    ),
    Fault("both of two lock", MATCHING, "if group is not None and not group.holds(order_id):", "if False:"),
    Fault("the smaller lock is for both", DESK, "-max(locks)[1]))", "-min(locks)[1]))"),
    Fault("exits forget the fee", MATCHING, "received - trade.maker_fee,", "received,"),
    Fault(
        "exits are larger than what came",
        MATCHING,
        "min(place.quantity_lots, received // self.base_per_lot)",
        "place.quantity_lots",
    ),
    Fault(
        "what an entry brought can be spent",
        DESK,
        "set_aside(book, turn)\n        collect(book)",
        "pass\n        collect(book)",
    ),
    Fault("the cheaper exit sets aside", DESK, "group.holder_id = -max(locks)[1]", "group.holder_id = -min(locks)[1]"),
    Fault(
        "exits begin before the entry has ended",
        MATCHING,
        "        if ended:\n            del self.groups",
        "        if amount:\n            del self.groups",
    ),
    Fault(
        "a group takes one number",
        ENGINE,
        "next_id += numbers_of(body)",
        "next_id += 1",
    ),
    Fault("a snapshot forgets what an entry brought", SNAPSHOT, "holder_id, received))", "holder_id, 0))"),
    Fault("the auction is where least trades", CROSSING, "rank > best:", "rank < best:"),
    Fault(
        "the auction is not at one price",
        AUCTION,
        "trade_of(maker, book.auction_ticks,",
        "trade_of(maker, maker.place.price_ticks,",
    ),
    Fault("the auction's newer is the maker", AUCTION, "older, newer = seller, buyer", "older, newer = buyer, seller"),
    Fault(
        "one trades with oneself in the auction", AUCTION, "self_trade_of(newer.place) != SELF_TRADE_ALLOW:", "False:"
    ),
    Fault("orders trade before the opening", DESK, "if book.collects():", "if False:"),
    Fault("the day never ends", MATCHING, "if place.time_in_force == TIME_IN_FORCE_DAY:", "if False:"),
    Fault("nobody is told who canceled", ENGINE, "asked.cause or CANCEL_CAUSE_USER", "CANCEL_CAUSE_USER"),
    Fault("the rules' least worth is the market's", MATCHING, "if market.rules is None else", "if True else"),
    Fault(
        "exits end for their group in a halted market", DESK, "CANCEL_CAUSE_MARKET, turn", "CANCEL_CAUSE_LINKED, turn"
    ),
    Fault("the band is too wide", MATCHING, "(PPM + rules.band_ppm)", "(PPM + rules.band_ppm + PPM)"),
    Fault("a stale reference counts", REFERENCE, "now_ns - observed_ns <=", "0 <="),
    Fault("the band is around the last price alone", MATCHING, "middle = reference.price_ticks", "middle += 0"),
    Fault(
        "a clock that is fast makes a reference last",
        ENGINE,
        "min(asked.observed_ns, self.time_ns)",
        "asked.observed_ns",
    ),
    Fault("an older reference takes a newer one's place", RULES, "asked.observed_ns < stands.observed_ns", "False"),
    Fault("a snapshot forgets the reference", SNAPSHOT, 'if state["reference"] is not None:', "if False:"),
    Fault("large orders pass", RULES, "if 0 < rules.quantity_max_lots <", "if 0 > rules.quantity_max_lots >"),
    Fault("a level is not told", TURN, "self.touched[market_id, side, price_ticks] = None", "pass"),
    Fault(
        "fill or kill fills in part",
        MATCHING,
        "TIME_IN_FORCE_FOK and not self.fills(place, remaining, remaining, turn, time_ns)",
        "99",
    ),
    Fault(
        "fill or kill has any budget", MATCHING, "lots = min(lots, budget // lot_price)\n                    if", "if"
    ),
    Fault("a budget is overspent", MATCHING, "lots = min(lots, affordable)", "lots = min(lots, 9)"),
    Fault("a budget is not spent", MATCHING, "budget -= trade.quote_amount", "budget -= 0"),
    Fault("post-only takes", MATCHING, "if place.post_only:", "if False:"),
    Fault(
        "a filled order stays in the index",
        MATCHING,
        "if maker.remaining_lots == 0 and not (self.hidden",
        "if self.hidden and not (self.hidden",
    ),
    Fault("the fees change sides", MATCHING, "if order.side == SIDE_SELL:", "if order.side == SIDE_BUY:"),
    Fault(
        "the maker pays the taker's rate",
        MATCHING,
        "order.maker_fee_ppm),\n            fee",
        "order.taker_fee_ppm),\n            fee",
    ),
    Fault("fees are rounded down", FEES, "rest * rate_ppm + PPM - 1", "rest * rate_ppm"),
    Fault("fees are rounded to the nearest", FEES, "rest * rate_ppm + PPM - 1", "rest * rate_ppm + PPM // 2"),
    Fault("a lock is forgotten", MATCHING, "self._lock_now(order_id, place, remaining_lots) if", "0 if"),
    Fault("an immediate order rests", MATCHING, "cause = CANCEL_CAUSE_IOC", "cause = CANCEL_CAUSE_UNSPECIFIED"),
    Fault("a trade leaves the sequence alone", ENGINE, "elif trades:", "elif False:"),
    Fault(
        "settlement sequences repeat",
        ENGINE,
        "self.settlement_sequence += len(trades)",
        "self.settlement_sequence += 0",
    ),
    Fault("anybody may cancel", ENGINE, " or resting.place.account_id != cancel.account_id", ""),
    Fault("a deposit counts twice", ENGINE, "self.deposits_through += 1", "self.deposits_through += 0"),
    Fault("a claim counts twice", ENGINE, "self.claims_through += 1", "self.claims_through += 0"),
    Fault(
        "a withdrawal is approved twice",
        ENGINE,
        "del self.withdrawals[withdrawal.withdrawal_id]",
        "assert withdrawal.withdrawal_id in self.withdrawals",
    ),
    Fault("a list binds nobody", ENGINE, "if allowed is None else", "if allowed is not None else"),
    Fault("a withdrawal locks nothing", ENGINE, "get(key, 0) + asked.amount", "get(key, 0)"),
    Fault(
        "a snapshot forgets withdrawals",
        ENGINE,
        "engine.withdrawals[withdrawal.withdrawal_id] = withdrawal",
        "pass",
    ),
    Fault(
        "halted markets trade",
        RULES,
        "if state == MARKET_STATE_HALTED:\n        return MARKET_HALTED",
        "if state == MARKET_STATE_HALTED:\n        return ''",
    ),
    Fault("the least notional is too small", RULES, "< book.notional_min", "<= book.notional_min"),
    Fault(
        "a snapshot forgets fills",
        SNAPSHOT,
        "terms_state(place.terms), resting.remaining_lots",
        "terms_state(place.terms), place.quantity_lots",
    ),
    Fault(
        "a snapshot forgets the queue",
        SNAPSHOT,
        "for resting in level.orders()]",
        "for resting in reversed([*level.orders()])]",
    ),
)


def test_the_checkers_pass_what_is_right(tmp_path: Path) -> None:
    ran = run_in(copy_sources(tmp_path), "-c", CHECK)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What the checkers said of each fault that was asked for, by its name."""
    asked = [item.callspec.params.get("fault") for item in request.session.items if hasattr(item, "callspec")]
    faults = [fault for fault in asked if isinstance(fault, Fault)]
    root = copy_sources(tmp_path_factory.mktemp("planted"))
    rows = [
        (fault.file.removesuffix(".py").replace("/", "."), str(root / fault.file), fault.old, fault.new)
        for fault in faults
    ]
    ran = run_in(root, str(ROOT / "tests/property/planted.py"), json.dumps(rows), CHECK, seconds_max=FAULTS_SECONDS_MAX)
    assert ran.returncode == 0, ran.stderr
    return {fault.name: tuple(said) for fault, said in zip(faults, json.loads(ran.stdout), strict=True)}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found(fault: Fault, found: dict[str, tuple[int, str]]) -> None:
    source = (ROOT / fault.file).read_text(encoding="utf-8")
    assert source.count(fault.old) == 1, "the fault has no place of its own in the source any more"
    code, said = found[fault.name]
    assert code == 1, said or "nobody noticed, or it went on for ever"
    last = said.splitlines()[-1]
    assert not last.startswith(("SyntaxError", "IndentationError", "NameError", "ImportError")), said
