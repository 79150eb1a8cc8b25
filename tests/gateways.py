"""A gateway under test, in this process or in one of its own, beside a real book; and clients to speak to it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    admin_service_pb2,
    admin_service_pb2_grpc,
    book_service_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    settlement_service_pb2_grpc,
)

from services.cli.health import serving
from services.order_gateway.__main__ import Gateway, GatewaySettings
from services.runtime import rpc
from services.runtime.run import Closing
from services.runtime.status import refusal_in, status_from
from tests import books, processes

if TYPE_CHECKING:
    from clearbook.v1.order_service_pb2 import PlaceOrderRequest, PlaceOrderResponse

    from services.book.__main__ import Book

pb = order_service_pb2
DEPOSITOR = 100
"""The gateway number of the test's stand-in for the settler."""
READY_SECONDS_MAX = 90.0
"""Of a process: its first start on PostgreSQL makes the schema, on a machine that does much else."""
WHOLE = 10**18
DEPOSITS = {"BTC": 10**9 * WHOLE, "ETH": 10**9 * WHOLE, "USD": 10**14 * WHOLE}


def settings(database_url: str, book_port: int, **more: Any) -> GatewaySettings:
    defaults = {
        "database_url": database_url,
        "book_address": f"127.0.0.1:{book_port}",
        "gateway_address": "127.0.0.1:0",
        "forward_address": "127.0.0.1:0",
        "settler_address": "127.0.0.1:1",
        "metrics_port": 0,
        "ledger_check_seconds": 0.2,
    }
    return GatewaySettings.load(**{**defaults, **more})


@asynccontextmanager
async def running(given: GatewaySettings) -> AsyncIterator[Gateway]:
    """A gateway in this process, ended in order afterwards."""
    gateway, closing = Gateway(given), Closing()
    work = asyncio.create_task(gateway.run(closing))
    ready = asyncio.create_task(gateway.ready.wait())
    try:
        async with asyncio.timeout(books.START_SECONDS_MAX):
            await asyncio.wait({work, ready}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        yield gateway
    finally:
        ready.cancel()
        closing.set()
        async with asyncio.timeout(books.STEP_SECONDS_MAX):
            await asyncio.wait([work])
    work.result()


class Depositor:
    """Stands in for the settler: says that money came in, that settlement is final, that something was claimed."""

    def __init__(self, port: int) -> None:
        self._port, self.index, self.claims = port, 0, 0

    async def fund(self, account_id: int = 2, **amounts: int) -> None:
        """Deposits base units by asset."""
        async with books.stub_to(self._port) as stub:
            session = books.Gateway(stub, DEPOSITOR)
            await session.open()
            commands = []
            for asset, amount in amounts.items():
                self.index += 1
                deposit = journal.DepositFinal(
                    deposit_index=self.index, account_id=account_id, asset=asset, amount=str(amount)
                )
                commands.append(session.command(deposit_final=deposit))
            await session.submit(*commands)

    async def finalize(self, through: int) -> None:
        """Settlement is final through an entry."""
        await self._say(settlement_final=journal.SettlementFinal(through_settlement_sequence=through))

    async def claim(self, address: str, asset: str, amount: int) -> None:
        """An address claimed base units."""
        self.claims += 1
        claim = journal.ClaimFinal(
            claim_index=self.claims, address=address, asset=asset, amount=str(amount), transaction_hash="0x" + "0" * 64
        )
        await self._say(claim_final=claim)

    async def leave(self, account_id: int, index: int, *, canceled: bool = False) -> None:
        """An account's owner leaves by the contract, or does not any more."""
        asked = journal.ExitRequestFinal(exit_index=index, account_id=account_id, canceled=canceled)
        await self._say(exit_request_final=asked)

    async def left(self, account_id: int, asset: str, amount: int) -> None:
        """It has taken base units."""
        self.claims += 1
        claim = journal.ClaimFinal(
            claim_index=self.claims,
            address="0x" + "ab" * 20,
            asset=asset,
            amount=str(amount),
            transaction_hash="0x" + "0" * 64,
            exit_account_id=account_id,
        )
        await self._say(claim_final=claim)

    async def note_debt(self, index: int, state: journal.DebtState.ValueType, account_id: int, amount: int) -> None:
        """What becomes of an account's debt, number 1, of BTC base units."""
        note = journal.NoteDebt(
            note_index=index, debt_id=1, state=state, account_id=account_id, asset="BTC", amount=str(amount)
        )
        await self._say(note_debt=note)

    async def _say(self, **kind: Any) -> None:
        async with books.stub_to(self._port) as stub:
            session = books.Gateway(stub, DEPOSITOR)
            await session.open()
            await session.submit(session.command(**kind))


class Client:
    """One user's calls."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        self.metadata = metadata
        self.orders: Any = order_service_pb2_grpc.OrderServiceStub(channel)
        self.accounts: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        self.admin: Any = admin_service_pb2_grpc.AdminServiceStub(channel)
        self.settlements: Any = settlement_service_pb2_grpc.SettlementServiceStub(channel)

    async def place(self, request: PlaceOrderRequest, timeout: float = 15.0) -> PlaceOrderResponse:
        answer: PlaceOrderResponse = await self.orders.PlaceOrder(request, metadata=self.metadata, timeout=timeout)
        return answer

    async def cancel(self, **name: str) -> pb.CancelOrderResponse:
        answer: pb.CancelOrderResponse = await self.orders.CancelOrder(
            pb.CancelOrderRequest(**name), metadata=self.metadata, timeout=15
        )
        return answer

    async def get(self, **name: str) -> pb.GetOrderResponse:
        answer: pb.GetOrderResponse = await self.orders.GetOrder(
            pb.GetOrderRequest(**name), metadata=self.metadata, timeout=15
        )
        return answer

    async def list(self, **filters: Any) -> pb.ListOrdersResponse:
        answer: pb.ListOrdersResponse = await self.orders.ListOrders(
            pb.ListOrdersRequest(**filters), metadata=self.metadata, timeout=15
        )
        return answer

    def stream(self, **filters: Any) -> Any:
        return self.orders.StreamOrders(pb.StreamOrdersRequest(**filters), metadata=self.metadata)

    async def balances(self) -> dict[str, tuple[str, str, str]]:
        """(total, available, held) by asset."""
        answer = await self.accounts.ListBalances(
            account_service_pb2.ListBalancesRequest(), metadata=self.metadata, timeout=15
        )
        return {item.asset: (item.total, item.available, item.held) for item in answer.balances}

    async def money(self, method: str, request: Any) -> Any:
        """A method of AccountService."""
        return await getattr(self.accounts, method)(request, metadata=self.metadata, timeout=15)

    async def administer(self, method: str, request: Any) -> Any:
        return await getattr(self.admin, method)(request, metadata=self.metadata, timeout=15)


@asynccontextmanager
async def clients(port: int) -> AsyncIterator[Any]:
    """Makes clients by user name."""
    async with rpc.connect(f"127.0.0.1:{port}") as channel:
        yield lambda user, **more: Client(channel, (("x-clearbook-user", user), *more.items()))


class Exchange:
    """A book and a gateway in this process, the faucet full."""

    def __init__(self, book: Book, gateway: Gateway, user: Any, depositor: Depositor) -> None:
        self.book, self.gateway, self.user, self.depositor = book, gateway, user, depositor


@asynccontextmanager
async def exchange(folder: Path, database_url: str = "", *, fund: bool = True, **more: Any) -> AsyncIterator[Exchange]:
    async with books.running(books.settings(f"sqlite:///{folder}/book.sqlite")) as book:
        depositor = Depositor(book.port)
        if fund:
            await depositor.fund(**DEPOSITS)
        given = settings(database_url or f"sqlite:///{folder}/gateway.sqlite", book.port, **more)
        async with running(given) as gateway, clients(gateway.port) as user:
            yield Exchange(book, gateway, user, depositor)


def limit(side: str, price: str, quantity: str, client_order_id: str = "", **more: Any) -> PlaceOrderRequest:
    """A limit order in BTC-USD."""
    return pb.PlaceOrderRequest(
        **{
            "client_order_id": client_order_id,
            "market": "BTC-USD",
            "side": pb.Side.Value(f"SIDE_{side}"),
            "type": pb.ORDER_TYPE_LIMIT,
            "price": price,
            "quantity": quantity,
            **more,
        }
    )


def market(side: str, quantity: str, client_order_id: str = "", **more: Any) -> PlaceOrderRequest:
    """A market order in BTC-USD."""
    return limit(side, "", quantity, client_order_id, type=pb.ORDER_TYPE_MARKET, **more)


def market_state(state: str, market: str = "BTC-USD") -> admin_service_pb2.SetMarketStateRequest:
    """An operator's wish for a market, for example HALTED."""
    value = book_service_pb2.MarketState.Value(f"MARKET_STATE_{state}")
    return admin_service_pb2.SetMarketStateRequest(market=market, state=value, reason="because")


async def refused(call: Any) -> tuple[str, str, str]:
    """(gRPC code, reason, field) of a call that must fail with a refusal of ours."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = status_from(caught.value)
    refusal = refusal_in(status) if status is not None else None
    assert refusal is not None, f"no refusal of ours: {caught.value.code()} {caught.value.details()}"
    return caught.value.code().name, refusal.reason.name, refusal.field


class GatewayProcess:
    """A gateway in a process of its own, on ports that stay the same."""

    def __init__(self, folder: Path, **env: str) -> None:
        self._log = folder / "gateway.log"
        self._env = {
            "METRICS_PORT": "0",
            "SETTLER_ADDRESS": "127.0.0.1:1",
            "LEDGER_CHECK_SECONDS": "0.5",
            "RABBITMQ_URI": "",
            **env,
        }
        self._child: processes.Child | None = None
        self.port = int(env["GATEWAY_ADDRESS"].rpartition(":")[2])

    @property
    def child(self) -> processes.Child:
        assert self._child is not None
        return self._child

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._child = processes.start([*processes.COMMAND, "gateway"], os.environ | self._env, log)

    async def ready(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                while not await serving(f"127.0.0.1:{self.port}"):
                    assert self.child.poll() is None, self.log()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(self.log()) from None

    async def up(self) -> None:
        self.start()
        await self.ready()

    async def kill(self) -> None:
        self.child.kill()
        await asyncio.to_thread(self.child.wait, books.STEP_SECONDS_MAX)

    def bugs(self) -> list[str]:
        """Lines of the log that tell of a bug."""
        return [line for line in self.log().splitlines() if re.search(r'"bug"|crashed|the ledger is wrong', line)]

    def clear(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()
