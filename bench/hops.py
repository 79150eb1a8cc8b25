"""Where an order's time goes, hop by hop: ``python bench/hops.py --orders 128`` sends orders through everything that
the gateway, the book and the publisher do with them, in one process and without sockets, and says what CPU it takes.

Messages are serialized and parsed as between processes, the gateway's tables are written to SQLite; what gRPC and the
journal's commit cost, e2e.py shows beside it. CPU of all threads, so it may be read on a busy machine too; best of so
many rounds.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from clearbook.internal.v1 import matching_service_pb2 as matching_pb
from clearbook.v1 import order_service_pb2 as order_pb

from services.book import model as book_model
from services.book import wire as book_wire
from services.book.batch import Batch
from services.book.engine import Engine
from services.book.journal import Row
from services.book.publisher import wire as publisher_wire
from services.book.publisher.batch import Batch as PublisherBatch
from services.book.publisher.board import Board
from services.cli.welcome import engine_build
from services.command_ids import command_id_of
from services.order_gateway import batch_wire, trade_wire, wire
from services.order_gateway.chain_domain import ChainDomain
from services.order_gateway.executions import Executions
from services.order_gateway.fees import Rates
from services.order_gateway.ledger import ENDED_ORDERS_MAX, Ledger
from services.order_gateway.model import OpenAccount
from services.order_gateway.orders import Orders
from services.order_gateway.outcomes import outcomes
from services.order_gateway.session import Session
from services.order_gateway.store import MIGRATIONS, Store
from services.order_gateway.tiers import Schedule, parse_tiers
from services.runtime import log
from services.runtime.db import Database
from services.runtime.migrate import migrate
from services.runtime.run import freeze_gc

SEED = 20_240_607
GATEWAY, DEPOSITOR = 1, 100
MESSAGES = 40
"""A round; the store is written after every fourth."""
FUNDS = 10**30
BAND_TICKS, MIDDLE_TICKS = 500, 3_000_000
SECONDS_MAX = 10.0


class Hops:
    """One order gateway, one book, one publisher, hand in hand."""

    def __init__(self, database: Database) -> None:
        self.store = Store(database)
        self.engine = Engine()
        self.board = Board()
        self.spent: dict[str, float] = defaultdict(float)
        self._time_ns = 1
        self._dice, self._number = random.Random(SEED), 0

    @contextmanager
    def hop(self, name: str) -> Iterator[None]:
        """Counts the CPU of its body."""
        started = time.process_time()
        yield
        self.spent[name] += time.process_time() - started

    async def prepare(self) -> None:
        """A market, a user, funds."""
        self.ledger = Ledger(await self.store.load(ENDED_ORDERS_MAX))
        self.session = Session(self.ledger, GATEWAY)
        self.executions = Executions(self.ledger, self.session, self.store)
        schedule = Schedule(parse_tiers("", Rates(1_000, 2_000)), self.ledger)
        self.orders = Orders(self.ledger, self.session, self.store, schedule, 10**9, ChainDomain())
        market = book_model.Market(0, "BTC-USD", 1, 2, "0.01", "0.00001", 0, book_model.MARKET_STATE_OPEN)
        self._own(
            book_model.LeaderStarted(1, "hops"),
            *(book_model.CreateAsset(book_model.Asset(0, symbol, 18)) for symbol in ("BTC", "USD")),
            book_model.CreateMarket(market),
            book_model.OpenSession(GATEWAY),
            book_model.OpenSession(DEPOSITOR),
        )
        self.session.open(1, 10**6)
        self.session.submit(OpenAccount("maker"), 0)
        self._fold(self._row(self._taken(await self._submit())))
        self.account_id = self.ledger.account_ids["maker"]
        deposits = [
            book_model.Command(
                command_id_of(DEPOSITOR, 1, number),
                book_model.DepositFinal(number, self.account_id, symbol, FUNDS, ""),
            )
            for number, symbol in enumerate(("BTC", "USD"), 1)
        ]
        self._fold(self._row([(deposit, book_wire.encode_command(deposit)) for deposit in deposits]))
        await self.store.flush(self.ledger)

    def _own(self, *bodies: book_model.CommandBody) -> None:
        commands = [book_model.Command(0, body) for body in bodies]
        self._fold(self._row([(command, book_wire.encode_command(command)) for command in commands]))

    async def _submit(self) -> bytes:
        commands = await self.session.batch()
        return wire.submit_request([(command.command_id, command.body) for command in commands])

    def _taken(self, data: bytes) -> list[book_wire.EncodedCommand]:
        return book_wire.submitted(matching_pb.SubmitRequest.FromString(data))

    def _row(self, commands: Sequence[book_wire.EncodedCommand]) -> bytes:
        self._time_ns += 1
        batch = Batch(self.engine, self._time_ns)
        for command, encoded in commands:
            batch.add(command, encoded)
        return self._sent(batch.seal(b"\0" * 32))

    def _sent(self, row: Row) -> bytes:
        return matching_pb.StreamEventsResponse(
            first_journal_sequence=row.first_sequence,
            last_journal_sequence=row.last_sequence,
            time_ns=row.time_ns,
            events=row.events,
            incarnation="hops",
        ).SerializeToString()

    def _fold(self, data: bytes) -> None:
        self.executions.fold(wire.event_row(matching_pb.StreamEventsResponse.FromString(data)))
        self._show(data)

    def _show(self, data: bytes) -> None:
        self.board.apply(publisher_wire.row(matching_pb.StreamEventsResponse.FromString(data)), PublisherBatch())

    def _request(self, count: int) -> list[order_pb.PlaceOrderRequest]:
        made = []
        for _ in range(count):
            self._number += 1
            buys = self._dice.random() < 0.5
            ticks = MIDDLE_TICKS + (-1 if buys else 1) * self._dice.randint(1, BAND_TICKS)
            made.append(
                order_pb.PlaceOrderRequest(
                    client_order_id=f"hop-{self._number}",
                    market="BTC-USD",
                    side=order_pb.SIDE_BUY if buys else order_pb.SIDE_SELL,
                    type=order_pb.ORDER_TYPE_LIMIT,
                    price=f"{ticks // 100}.{ticks % 100:02}",
                    quantity=f"0.000{self._dice.randint(1, 99):02}",
                )
            )
        return made

    async def message(self, count: int) -> None:
        """One Trade request of so many orders, there and back."""
        orders = self._request(count)
        with self.hop("client: serialize"):
            data = order_pb.TradeRequest(orders=orders, ack=order_pb.ACK_LEVEL_ACCEPTED).SerializeToString()
        with self.hop("gateway: parse and check"):
            request = order_pb.TradeRequest.FromString(data)
            trade_wire.check(request)
            found = batch_wire.wanted(request, "", self.ledger.markets_by_symbol)
            wanted = [item for item in found if not isinstance(item, Exception)]
        with self.hop("gateway: identify, hold, number"):
            promises = self.orders.begin(self.account_id, wanted).promises
        with self.hop("gateway: commands to the book"):
            submitted = await self._submit()
        with self.hop("book: parse commands"):
            commands = self._taken(submitted)
        with self.hop("book: match, encode, hash"):
            sent = self._row(commands)
        with self.hop("gateway: parse events"):
            row = wire.event_row(matching_pb.StreamEventsResponse.FromString(sent))
        with self.hop("gateway: fold"):
            self.executions.fold(row)
        with self.hop("gateway: answer"):
            response = order_pb.TradeResponse()
            known = [item for item in await outcomes(promises, SECONDS_MAX) if not isinstance(item, Exception)]
            told_of = trade_wire.Outcomes(None, (), (), known, ())
            trade_wire.add_answer(response, 1, order_pb.ACK_LEVEL_ACCEPTED, told_of, self.ledger.markets)
            answer = response.SerializeToString()
        with self.hop("client: parse"):
            told = order_pb.TradeResponse.FromString(answer).answers[0].orders
        assert [outcome.client_order_id for outcome in told] == [order.client_order_id for order in orders], told
        with self.hop("publisher: parse and fold"):
            self._show(sent)


async def run(count: int, rounds: int) -> None:
    """Prints a table: microseconds of CPU for one order, the best round of each hop."""
    log.configure("hops", "warning")
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/gateway.sqlite"
        await migrate(url, "gateway", MIGRATIONS)
        async with await Database.open(url, "gateway") as database:
            hops = Hops(database)
            await hops.prepare()
            freeze_gc()
            for _ in range(rounds):
                hops.spent.clear()
                for number in range(MESSAGES):
                    await hops.message(count)
                    if number % 4 == 3:
                        with hops.hop("gateway: tables"):
                            await hops.store.flush(hops.ledger)
                best = {name: min(spent, best.get(name, spent)) for name, spent in hops.spent.items()}
    print(f"{count} orders a message, the engine is {engine_build()}: microseconds of CPU an order\n")
    each = {name: seconds * 1e6 / MESSAGES / count for name, seconds in best.items()}
    for name, microseconds in each.items():
        print(f"{name:34}{microseconds:8.1f}")
    for process in ("client", "gateway", "book", "publisher"):
        print(f"{process:34}{sum(value for name, value in each.items() if name.startswith(process)):8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=128, help="in one message")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.orders, arguments.rounds))


if __name__ == "__main__":
    main()
