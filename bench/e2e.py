"""The whole exchange against its floors: orders a second and how long one takes, side by side in one run.

``python bench/e2e.py`` runs all processes of the suite, two bare servers (floors.py) and a load generator (load.py) on
this machine. For each way to place an order the load goes to the bare server and to the suite in turn, for a few
rounds. Every answer is checked, and at the end the journal is read: it must hold the orders that were answered, all of
them, each once, and no others.

``--production`` is on RabbitMQ, PostgreSQL and Anvil (scripts/services), else SQLite and the devchain. ``--quick``
takes half a minute, else it is two. ``--ways`` and ``--callers`` choose among the measurements; ``--profile FOLDER``
says where each process spends its CPU (sampler.py).
"""

import argparse
import asyncio
import datetime as dt
import os
import platform
import re
import signal
import socket
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import grpc
import msgspec
from clearbook.internal.v1 import journal_pb2
from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import order_service_pb2 as order_pb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.load import GO, IN_FLIGHT, READY, SEED, USERS, Job, Outcome
from services.book.journal import Journal
from services.cli.clients import Clients
from services.cli.welcome import engine_build
from tests.backends import Backends
from tests.suite import Suite, until, user

BENCH = Path(__file__).resolve().parent
CALLERS = (1, 16, 64)
DELTA_CALLERS = (1, 16)
BATCH_SIZES = (1, 16, 128)
BATCH_CALLERS = 8
BATCHED = ("placeorders", "trade")
PEER_CALLERS = (1, 64)
PEER_PYTHON = "MATCHING_ENGINE_PYTHON"
"""The environment variable that names a Python (3.12 or newer) with matching-engine[gateway]."""
PEER_START_SECONDS_MAX = 60.0
PEER_LOOK_SECONDS = 0.1
STREAM_ECHO = "bare grpcio stream echo"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
JOB_SECONDS_MAX = 60.0
METRICS_SECONDS_MAX = 5.0
WELCOME_SECONDS_MAX = 60.0
QUIET_LOOK_SECONDS = 0.1
QUIET_SECONDS_MAX = 5.0
QUIET_SHARE_MAX = 0.3
"""Of one core: below that the suite has nothing left to do but to keep the time."""


class Pace(NamedTuple):
    """How long."""

    rounds: int
    warm_seconds: float
    seconds: float


FULL, QUICK = Pace(3, 0.4, 1.1), Pace(1, 0.2, 0.6)


COUNTERS = {"row": (0, "book_commands", "book_rows"), "batch": (2, "gateway_submit_commands", "gateway_submit_batches")}
"""What travels together: commands in a row of the journal, and in a message to the book; by metrics port."""


class Way(NamedTuple):
    """One way to place an order, and what it is held against."""

    kind: str
    title: str
    floor: str
    callers: tuple[int, ...]
    """How many at once; or, of BATCHED ones, how many orders a message."""


WAYS = (
    Way("grpc", "PlaceOrder over gRPC, until it is durable and answered", "bare grpcio echo", CALLERS),
    Way("hmac", "The same, signed with HMAC-SHA256", "bare grpcio echo", CALLERS),
    Way("ed25519", "The same, signed with Ed25519", "bare grpcio echo", CALLERS),
    Way("rest", "POST /api/v1/order, until it is durable and answered", "bare FastAPI route", CALLERS),
    Way("placeorders", "PlaceOrders, by orders a call; eight callers", "bare grpcio echo", BATCH_SIZES),
    Way(
        "trade",
        "Trade (ACCEPTED), by orders a request; eight streams, each with --in-flight requests on their way",
        STREAM_ECHO,
        BATCH_SIZES,
    ),
    Way("delta", "PlaceOrder, until a StreamOrderBook reader has it", STREAM_ECHO, DELTA_CALLERS),
)


@dataclass
class Figures:
    """All rounds of one measurement."""

    orders: int = 0
    sent: int = 0
    seconds: float = 0.0
    latencies_ns: list[int] = field(default_factory=list)
    cpu_ms: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome, cpu_ms: Counter[str], counts: Counter[str]) -> None:
        self.orders += len(outcome.latencies_ns)
        self.sent += outcome.sent
        self.seconds += outcome.seconds
        self.latencies_ns += outcome.latencies_ns
        self.cpu_ms.update(cpu_ms)
        self.counts.update(counts)

    @property
    def rate(self) -> float:
        """Orders a second."""
        return self.orders / self.seconds

    def quantile_ms(self, share: float) -> float:
        """The latency that `share` of the orders did not exceed."""
        ordered = sorted(self.latencies_ns)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] / 1e6

    def cpu_us(self) -> dict[str, float]:
        """Microseconds of CPU for one order, by process."""
        return {name: ms * 1e3 / self.sent for name, ms in self.cpu_ms.items()}

    def together(self) -> list[float]:
        """How many commands shared a row and a batch."""
        return [self.counts[of] / max(self.counts[each], 1) for _, of, each in COUNTERS.values()]


class Helper:
    """One of our own processes: it answers with a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def line(self) -> bytes:
        assert self._process.stdout is not None
        async with asyncio.timeout(JOB_SECONDS_MAX):
            found = await self._process.stdout.readline()
        assert found, "a helper of this benchmark ended: see its last words above"
        return found

    async def prepare(self, job: Job) -> None:
        """Returns when it is ready to perform a job."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        assert await self.line() == READY

    async def perform(self, job: Job) -> Outcome:
        """What it has been prepared for."""
        assert self._process.stdin is not None
        self._process.stdin.write(GO)
        outcome = msgspec.json.decode(await self.line(), type=Outcome)
        assert not outcome.wrong, "wrong answers, for example: " + "; ".join(outcome.wrong)
        assert outcome.latencies_ns, f"nothing was answered in time: {job}"
        return outcome

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


@asynccontextmanager
async def helper(script: str, *arguments: str) -> AsyncIterator[Helper]:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, str(BENCH / script), *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 28)
    made = Helper(process)
    try:
        yield made
    finally:
        await made.stop()


class Bench:
    """One run."""

    def __init__(
        self, suite: Suite, load: Helper, floors: dict[str, Helper], profiled: tuple[str, ...], in_flight: int
    ) -> None:
        self._suite, self._load, self._floors, self._profiled = suite, load, floors, profiled
        self._in_flight = in_flight
        self._addresses: dict[str, str] = {}
        self._jobs = 0
        self.figures: dict[tuple[str, int, bool], Figures] = defaultdict(Figures)
        self.half_load: dict[tuple[str, int], Figures] = defaultdict(Figures)
        self.peer = ""
        """Where the gateway of PyPI's matching-engine listens; "": it is not there."""
        self.peer_figures: dict[int, Figures] = defaultdict(Figures)
        self.acknowledged: set[str] = set()
        self._keys: dict[str, list[tuple[str, str]]] = {"hmac": [], "ed25519": []}

    async def prepare(self) -> None:
        """The floors listen, and every user has funds, an order and keys."""
        for name, floor in self._floors.items():
            self._addresses[name] = f"127.0.0.1:{int(await floor.line())}"
        async with self._suite.clients() as clients:
            for number in range(USERS):
                self.acknowledged.add(await welcomed(clients, number))
                await self._make_keys(clients, f"bench-{number}")

    async def _make_keys(self, clients: Clients, name: str) -> None:
        own = Ed25519PrivateKey.generate()
        kinds = account_pb.KeyKind
        for kind, number, public in (
            ("hmac", kinds.KEY_KIND_HMAC_SHA256, b""),
            ("ed25519", kinds.KEY_KIND_ED25519, own.public_key().public_bytes_raw()),
        ):
            request = account_pb.CreateApiKeyRequest(
                kind=number, scopes=[account_pb.SCOPE_TRADE], public_key=public, label="bench"
            )
            made = await clients.accounts.CreateApiKey(request, metadata=user(name), timeout=WELCOME_SECONDS_MAX)
            self._keys[kind].append((made.key.key_id, made.secret or own.private_bytes_raw().hex()))

    async def measure(self, ways: Sequence[Way], pace: Pace) -> None:
        """Each way, the floor and the suite in turn, for so many rounds."""
        for round_number in range(pace.rounds):
            for way in ways:
                for callers in way.callers:
                    for bare in (True, False):
                        figures = self.figures[way.kind, callers, bare]
                        await self._run(way, callers, bare, round_number, pace, figures)
                    if way.kind in BATCHED:
                        offered = self.figures[way.kind, callers, False].rate / 2
                        half = self.half_load[way.kind, callers]
                        await self._run(way, callers, False, round_number, pace, half, offered)
            if self.peer:
                for callers in PEER_CALLERS:
                    await self._run_peer(callers, round_number, pace)

    async def _run_peer(self, callers: int, round_number: int, pace: Pace) -> None:
        way = Way("peer", "", "", PEER_CALLERS)
        await self._run(way, callers, True, round_number, pace, self.peer_figures[callers])

    async def _run(
        self,
        way: Way,
        callers: int,
        bare: bool,
        round_number: int,
        pace: Pace,
        figures: Figures,
        orders_per_second: float = 0,
    ) -> None:
        """One job; of a closed loop, unless so many orders are to be offered in a second."""
        self._jobs += 1
        job = Job(
            kind=way.kind,  # type: ignore[arg-type]
            bare=bare,
            address=self._address(way.kind, bare),
            book=self._addresses["grpc"] if bare else self._suite.publisher,
            callers=BATCH_CALLERS if way.kind in BATCHED else callers,
            size=callers if way.kind in BATCHED else 1,
            warm_seconds=pace.warm_seconds,
            seconds=pace.seconds,
            tag=f"{way.kind}-{callers}-{round_number}" + ("-half" if orders_per_second else ""),
            in_flight=self._in_flight,
            orders_per_second=orders_per_second,
            seed=SEED + 1_000 * callers + round_number,
            keys=[] if bare else self._keys.get(way.kind, []),
        )
        await self._load.prepare(job)
        await self._quiet()
        counts, cpu = await self._counts(), self._cpu_ms()
        self._toggle_profiles(bare)
        outcome = await self._load.perform(job)
        self._toggle_profiles(bare)
        cpu, counts = _more(self._cpu_ms(), cpu), _more(await self._counts(), counts)
        cpu["load"] = int(outcome.cpu_ms)
        figures.add(outcome, cpu, counts)
        if not bare:
            self.acknowledged.update(f"{job.tag}-{number}" for number in range(outcome.sent))

    def _address(self, kind: str, bare: bool) -> str:
        if kind == "peer":
            return self.peer
        if kind == "rest":
            return self._addresses["http"] if bare else self._suite.http.removeprefix("http://")
        return self._addresses["grpc"] if bare else self._suite.gateway

    def _toggle_profiles(self, bare: bool) -> None:
        for name in () if bare else self._profiled:
            self._suite.signal(name, signal.SIGUSR2)

    async def _counts(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for place, *names in COUNTERS.values():
            url = f"http://127.0.0.1:{self._suite.plan.metrics_port + place}/metrics"
            text = (await asyncio.to_thread(urlopen, url, timeout=METRICS_SECONDS_MAX)).read().decode()
            for name in names:
                value = re.search(rf"^clearbook_{name}_total (\S+)$", text, re.MULTILINE)
                assert value is not None, f"no {name} among the metrics"
                found[name] = int(float(value[1]))
        return found

    def _cpu_ms(self) -> Counter[str]:
        pids = {name: self._suite.pid(name) for name in self._suite.names}
        pids |= {f"floor {name}": floor.pid for name, floor in self._floors.items()}
        return Counter({name: _cpu_ms(pid) for name, pid in pids.items()})

    async def _quiet(self) -> None:
        """Returns when the suite has done what the last job left it to do, QUIET_SECONDS_MAX at most."""
        clock = asyncio.get_running_loop().time
        give_up = clock() + QUIET_SECONDS_MAX
        pids = [self._suite.pid(name) for name in self._suite.names]
        while clock() < give_up:
            before = sum(map(_cpu_ms, pids))
            await asyncio.sleep(QUIET_LOOK_SECONDS)
            if sum(map(_cpu_ms, pids)) - before < QUIET_LOOK_SECONDS * 1e3 * QUIET_SHARE_MAX:
                return

    def report(self, ways: Sequence[Way]) -> None:
        for way in ways:
            print(f"\n{way.title}; floor: {way.floor}\n")
            first = "a message" if way.kind in BATCHED else "callers"
            _row(first, "orders/s", "p50 ms", "p99 ms", "floor/s", "p50 ms", "p99 ms", "ratio", "p50 ratio")
            for callers in way.callers:
                ours, floor = self.figures[way.kind, callers, False], self.figures[way.kind, callers, True]
                times = (ours.quantile_ms(0.5), ours.quantile_ms(0.99), floor.quantile_ms(0.5), floor.quantile_ms(0.99))
                p50, p99, bare_p50, bare_p99 = (f"{ms:.2f}" for ms in times)
                ratios = (f"{ours.rate / floor.rate:.2f}", f"{times[0] / times[2]:.1f}x")
                _row(callers, f"{ours.rate:,.0f}", p50, p99, f"{floor.rate:,.0f}", bare_p50, bare_p99, *ratios)
        self._report_half_load()
        self._report_peer()
        print("\nCPU, microseconds for one order, by process; what share a row and a batch; and the floor's CPU\n")
        names = [*self._suite.names, "load"]
        _row("", "callers", *names, *COUNTERS, "floor", "its load")
        for way in ways:
            for callers in way.callers:
                figures = self.figures[way.kind, callers, False]
                spent, together = figures.cpu_us(), (f"{commands:.1f}" for commands in figures.together())
                bare = self.figures[way.kind, callers, True].cpu_us()
                below = bare["floor http" if way.kind == "rest" else "floor grpc"]
                cells = (f"{spent[name]:.0f}" for name in names)
                _row(way.kind, callers, *cells, *together, f"{below:.0f}", f"{bare['load']:.0f}")

    def _report_half_load(self) -> None:
        if self.half_load:
            print("\nThe same in an open loop, offered half of that rate; milliseconds from when a message was due\n")
            _row("", "a message", "orders/s", "p50 ms", "p99 ms")
        for (kind, size), figures in self.half_load.items():
            times = (f"{figures.quantile_ms(share):.2f}" for share in (0.5, 0.99))
            _row(kind, size, f"{figures.rate:,.0f}", *times)

    def _report_peer(self) -> None:
        if not self.peer:
            print(f"\nPyPI's matching-engine, its durable HTTP gateway: not there ({PEER_PYTHON} names no Python)")
            return
        print(
            "\nPyPI's matching-engine, its durable HTTP gateway: POST of an order, until it is durable and answered\n"
        )
        _row("callers", "orders/s", "p50 ms", "p99 ms")
        for callers, figures in self.peer_figures.items():
            _row(callers, f"{figures.rate:,.0f}", *(f"{figures.quantile_ms(share):.2f}" for share in (0.5, 0.99)))


@asynccontextmanager
async def matching_engine(folder: Path) -> AsyncIterator[str]:
    """Where the gateway of PyPI's matching-engine listens, synced to disk like ours; "" where it is not installed."""
    python = os.environ.get(PEER_PYTHON)
    if not python:
        yield ""
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {"ME_MARKETS": "BTC-USD:0.01:0.00001", "ME_DATA_DIR": str(folder / "peer"), "PYTHONPATH": ""}
    with (folder / "peer.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            python, "-m", "matching_engine", "serve", "--port", str(port), env=env, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(PEER_START_SECONDS_MAX):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(PEER_LOOK_SECONDS)
        writer.close()
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def welcomed(clients: Clients, number: int) -> str:
    """A user has funds, and an order, whose id it returns."""
    request = order_pb.PlaceOrderRequest(
        client_order_id=f"welcome-{number}",
        market="BTC-USD",
        side=order_pb.SIDE_BUY,
        type=order_pb.ORDER_TYPE_LIMIT,
        price="1.00",
        quantity="1",
    )
    place = partial(_placed, clients.orders, request, user(f"bench-{number}"))
    await until(place, WELCOME_SECONDS_MAX, "a first order is taken")
    return request.client_order_id


async def _placed(orders: object, request: order_pb.PlaceOrderRequest, who: tuple[tuple[str, str], ...]) -> bool:
    """Whether it is in the book; False: not yet, the exchange is still starting."""
    try:
        response = await orders.PlaceOrder(request, metadata=who)  # type: ignore[attr-defined]
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return False
        raise
    assert response.order.state == order_pb.ORDER_STATE_OPEN, f"a first order became {response}"
    return True


def _more(now: Counter[str], before: Counter[str]) -> Counter[str]:
    return Counter({name: count - before[name] for name, count in now.items()})


def _cpu_ms(pid: int) -> int:
    """What a process has used so far, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000 // TICKS_PER_SECOND


def _row(*cells: object) -> None:
    print("".join(f"{cell!s:>11}" for cell in cells))


async def check_journal(url: str, acknowledged: set[str]) -> str:
    """Reads the whole journal, checking its hashes. Its orders must be those that were answered, each once."""
    found: list[str] = []
    last, last_hash = 0, b""
    async with await Journal.open(url, 0) as journal:
        while rows := await journal.page(last):
            for row in rows:
                row.check_after(last, last_hash or None)
                last, last_hash = row.last_sequence, row.hash
                events = journal_pb2.EventBatch.FromString(row.events).events
                found += [
                    event.order_placed.order.client_order_id for event in events if event.HasField("order_placed")
                ]
    lost, extra = acknowledged - set(found), set(found) - acknowledged
    assert not lost, f"{len(lost)} orders were answered and are not in the journal: {sorted(lost)[:3]}"
    assert not extra, f"{len(extra)} orders are in the journal and were never answered: {sorted(extra)[:3]}"
    assert len(found) == len(acknowledged), "the journal holds an order twice"
    return f"{len(acknowledged):,} orders answered, {len(found):,} in the journal, each once, hashes whole"


def profile(suite: Suite, folder: Path) -> tuple[str, ...]:
    """Makes the suite's own processes run under the sampler; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(name for name in suite.names if name != "devchain")
    for process in suite._specs.values():
        if process.name in names:
            process.argv = [sys.executable, str(BENCH / "sampler.py"), str(folder), *process.argv[3:]]
    return names


async def run(arguments: argparse.Namespace, folder: Path) -> None:
    if arguments.production:
        backends = await asyncio.to_thread(Backends.start)
        suite = await Suite.production(folder, backends)
        where = ", ".join((await backends.versions()).values())
    else:
        suite, where = Suite.embedded(folder), "SQLite, devchain"
    now = dt.datetime.now(dt.UTC)
    cpus = len(os.sched_getaffinity(0))
    print(f"{now:%Y-%m-%d %H:%M} UTC, {cpus} cores, Python {platform.python_version()}, grpcio {grpc.__version__}")
    print(
        f"{where}; the engine is {engine_build()}; load average {os.getloadavg()[0]:.1f} before the start", flush=True
    )
    ways = [way._replace(callers=arguments.callers or way.callers) for way in WAYS if way.kind in arguments.ways]
    profiled = profile(suite, arguments.profile) if arguments.profile else ()
    try:
        await suite.start_all()
        async with (
            helper("load.py") as load,
            helper("floors.py", "grpc") as echo,
            helper("floors.py", "http") as route,
            matching_engine(folder) as peer,
        ):
            bench = Bench(suite, load, {"grpc": echo, "http": route}, profiled, arguments.in_flight)
            bench.peer = peer
            await bench.prepare()
            await bench.measure(ways, QUICK if arguments.quick else FULL)
    finally:
        await suite.stop_all()
    bench.report(ways)
    url = suite.env["DATABASE_URL"] or f"sqlite:///{suite.plan.data / 'book'}.sqlite"
    print("\n" + await check_journal(url, bench.acknowledged))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--production", action="store_true")
    kinds = [way.kind for way in WAYS]
    parser.add_argument("--ways", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT, help="of a Trade stream")
    parser.add_argument("--callers", nargs="+", type=int, default=())
    parser.add_argument("--profile", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(arguments, Path(folder)))


if __name__ == "__main__":
    main()
