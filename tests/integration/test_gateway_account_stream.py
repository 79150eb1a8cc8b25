"""StreamAccount over gRPC: the state, each change, what was missed since an index, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.v1 import account_service_pb2 as pb

from services.order_gateway import watch as watch_module
from services.runtime import rpc
from tests import gateways
from tests.gateways import Client, Exchange, limit

SECONDS_MAX = 10


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path) as running:
        yield running


class Stream:
    """A stream being read."""

    def __init__(self, client: Client, after_index: int = 0) -> None:
        self.call = client.accounts.StreamAccount(
            pb.StreamAccountRequest(after_index=after_index), metadata=client.metadata
        )

    async def next(self) -> pb.StreamAccountResponse:
        message = await asyncio.wait_for(self.call.read(), SECONDS_MAX)
        assert message is not grpc.aio.EOF, await self.call.code()
        found: pb.StreamAccountResponse = message
        return found

    async def until(self, field: str) -> pb.StreamAccountResponse:
        """The next message that has this."""
        while not getattr(message := await self.next(), field):
            assert not message.snapshot
        return message


def _send(client: Client, **fields: Any) -> Any:
    asked = {"transfer_id": "t", "to_user": "bob", "asset": "BTC", "amount": "1", **fields}
    return client.money("CreateTransfer", pb.CreateTransferRequest(**asked))


async def test_the_state_then_every_change(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await bob.balances()
    placed = (await alice.place(limit("SELL", "30000.00", "0.5", "s1"))).order
    stream = Stream(alice)
    first = await stream.next()
    assert first.snapshot and first.account_id and not first.lagged and not first.executions
    assert list(first.orders) == [placed]
    assert {item.asset: item.held for item in first.balances} == {"BTC": "0.5", "ETH": "0", "USD": "0"}
    await bob.place(limit("BUY", "30000.00", "0.2", "b1"))
    change = await stream.until("executions")
    assert not change.snapshot and change.index > first.index
    assert [(item.filled_quantity, item.locked) for item in change.orders] == [("0.2", "0.3")]
    assert [(item.quantity, item.is_maker) for item in change.executions] == [("0.2", True)]
    assert {item.asset: item.total for item in change.balances} == {"BTC": "99.8", "USD": "10005994"}
    moved = (await _send(alice)).transfer
    told = await stream.until("transfers")
    assert list(told.transfers) == [moved] and moved.state == pb.TRANSFER_STATE_PENDING
    assert told.settled_through < moved.settlement_sequence
    await exchange.depositor.finalize(moved.settlement_sequence)
    final = await stream.until("transfers")
    assert {(item.transfer_id, item.state) for item in final.transfers} >= {("t", pb.TRANSFER_STATE_SETTLED)}
    assert final.settled_through == moved.settlement_sequence >= change.executions[0].settlement_sequence
    stream.call.cancel()


async def test_who_was_away_is_told_what_changed_since(exchange: Exchange, tmp_path: Path) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await bob.balances()
    await alice.place(limit("SELL", "30000.00", "0.5", "s1"))
    stream = Stream(alice)
    index = (await stream.next()).index
    stream.call.cancel()
    moved = (await _send(alice)).transfer
    await bob.place(limit("BUY", "30000.00", "0.2", "b1"))
    await alice.place(limit("SELL", "40000.00", "0.1", "s2"))
    await exchange.depositor.finalize(moved.settlement_sequence)
    async with asyncio.timeout(SECONDS_MAX):
        while exchange.gateway.ledger.final_through < moved.settlement_sequence:
            await asyncio.sleep(0.01)
    again = Stream(alice, index)
    missed = await again.next()
    assert not missed.snapshot and index < missed.index <= exchange.gateway.ledger.sequence
    assert [item.client_order_id for item in missed.orders] == ["s1", "s2"]
    assert [item.quantity for item in missed.executions] == ["0.2"]
    assert [(item.transfer_id, item.state) for item in missed.transfers] == [("t", pb.TRANSFER_STATE_SETTLED)]
    assert missed.settled_through == moved.settlement_sequence
    await bob.place(limit("BUY", "30000.00", "0.3", "b2"))
    assert [item.quantity for item in (await again.until("executions")).executions] == ["0.3"], "and on"
    again.call.cancel()
    ahead = Stream(alice, exchange.gateway.ledger.sequence + 10**6)
    assert (await ahead.next()).snapshot, "an index that is none of ours"
    ahead.call.cancel()


async def test_a_quiet_stream_has_a_pulse(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "HEARTBEAT_SECONDS", 0.05)
    alice = exchange.user("alice")
    stream = Stream(alice)
    index = (await stream.next()).index
    pulse = await stream.next()
    assert pulse.index >= index and not (pulse.orders or pulse.balances or pulse.transfers or pulse.snapshot)
    stream.call.cancel()


async def _all_end(streams: list[Stream]) -> None:
    for stream in streams:  # the gateway has ended, the channel is open
        assert await asyncio.wait_for(stream.call.code(), SECONDS_MAX) is grpc.StatusCode.UNAVAILABLE


async def test_streams_are_cut_off_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "WATCHES_ACCOUNT_MAX", 2)
    async with AsyncExitStack() as after, gateways.exchange(tmp_path) as exchange:
        channel = await after.enter_async_context(rpc.connect(f"127.0.0.1:{exchange.gateway.port}"))
        alice, bob = (Client(channel, (("x-clearbook-user", name),)) for name in ("alice", "bob"))
        streams = [Stream(alice), Stream(alice), Stream(bob)]
        for stream in streams:
            assert (await stream.next()).snapshot
        one_more = Stream(alice)
        assert await asyncio.wait_for(one_more.call.code(), SECONDS_MAX) is grpc.StatusCode.RESOURCE_EXHAUSTED
        after.push_async_callback(_all_end, streams)
