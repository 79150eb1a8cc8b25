"""Twenty accounts trade three assets in a triangle until thousands of trades are FINAL: ledger and chain then agree.

What one market pays is spent in the next. Everything is asked through public RPCs; balances on chain are read from the
contract itself, which is found by the transaction that settled a trade.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from clearbook.v1 import account_service_pb2 as accounts
from clearbook.v1 import book_service_pb2 as book
from clearbook.v1 import order_service_pb2 as orders
from clearbook.v1 import settlement_service_pb2 as settlements
from eth_typing import HexStr
from web3 import HTTPProvider, Web3

from services.errors import Reason
from services.settler.contract import SettlementContract, account_key, load_abi
from services.units import FixedPoint, format_fixed, format_plain
from tests.suite import Clients, Suite, fresh, user

ACCOUNTS = 20
CALL_SECONDS_MAX = 30.0
SETTLED_SECONDS_MAX = 120.0
DECIMALS = 18
BTC_GIVEN = 100 * 10**DECIMALS
"""What the faucet gives each new user."""


@dataclass(frozen=True)
class Pair:
    """A market and what is asked there, in its own steps."""

    name: str
    price_decimals: int
    quantity_decimals: int
    middle_ticks: int
    spread_ticks: int
    maker_lots: int
    taker_lots: int


PAIRS = (
    Pair("BTC-USD", 2, 5, 3_000_000, 500, 3_000_000, 200_000),
    Pair("ETH-USD", 2, 4, 200_000, 50, 3_000_000, 200_000),
    Pair("ETH-BTC", 6, 4, 66_667, 20, 3_000_000, 200_000),
)


@dataclass
class Trading:
    """What the accounts did."""

    goal_trades: int
    trades: int = 0
    refused: int = 0
    paid_btc: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Base units by user, as taker in ETH-BTC."""


ROUND = ((PAIRS[0], True), (PAIRS[2], True), (PAIRS[1], False))
"""USD buy BTC, these buy ETH, these buy USD: what one market pays is spent in the next."""
ROUNDERS = 4
ROUND_SIZE = 4
"""Times the orders of the others."""
ORDERS_A_CALL = 9


def orders_of(rng: random.Random, turns: Iterator[tuple[Pair, bool]] | None) -> Iterator[orders.PlaceOrderRequest]:
    """One account's: a few large ones that rest, many that take; or, with `turns`, those of one that goes round."""
    while True:
        if turns is not None:
            (pair, buys), rests = next(turns), False
        else:
            pair, buys, rests = rng.choice(PAIRS), rng.random() < 0.5, rng.random() < 0.2
        away = rng.randint(1, pair.spread_ticks)
        ticks = pair.middle_ticks + (away if buys != rests else -away)
        lots = rng.randint(1, pair.maker_lots if rests else pair.taker_lots) * (1 if turns is None else ROUND_SIZE)
        yield orders.PlaceOrderRequest(
            market=pair.name,
            side=orders.SIDE_BUY if buys else orders.SIDE_SELL,
            type=orders.ORDER_TYPE_LIMIT,
            time_in_force=orders.TIME_IN_FORCE_GTC if rests else orders.TIME_IN_FORCE_IOC,
            price=format_fixed(ticks, pair.price_decimals),
            quantity=format_plain(lots, pair.quantity_decimals),
        )


async def trade(clients: Clients, name: str, seed: int, trading: Trading) -> None:
    """One account, one call at a time."""
    source = orders_of(random.Random(seed), itertools.cycle(ROUND) if seed < ROUNDERS else None)
    while trading.trades < trading.goal_trades:
        several = list(itertools.islice(source, ORDERS_A_CALL))
        request = orders.PlaceOrdersRequest(orders=several)
        answer = await clients.orders.PlaceOrders(request, metadata=user(name), timeout=CALL_SECONDS_MAX)
        for order, outcome in zip(several, answer.outcomes, strict=True):
            if outcome.HasField("refusal"):
                assert outcome.refusal.reason == Reason.INSUFFICIENT_FUNDS.name, outcome
                trading.refused += 1
                continue
            trading.trades += len(outcome.placed.executions)
            if order.market == "ETH-BTC" and order.side == orders.SIDE_BUY:
                trading.paid_btc[name] += sum(
                    units(execution.price) * units(execution.quantity) // 10**DECIMALS
                    for execution in outcome.placed.executions
                )


def units(text: str) -> int:
    """Base units of a decimal string."""
    found = FixedPoint.parse(text, "amount").scaled(DECIMALS)
    assert found is not None
    return found


async def cancel_all(clients: Clients, name: str) -> None:
    request = orders.CancelAllOrdersRequest()
    await clients.orders.CancelAllOrders(request, metadata=user(name), timeout=CALL_SECONDS_MAX)
    left = orders.ListOrdersRequest(open_only=True, page_size=1)
    page = await clients.orders.ListOrders(left, metadata=user(name), timeout=CALL_SECONDS_MAX)
    assert not page.orders


async def last_trade(clients: Clients, market: str) -> int:
    request = book.ListTradesRequest(market=market, page_size=1)
    page = await clients.book.ListTrades(request, timeout=CALL_SECONDS_MAX)
    return page.trades[0].trade_id if page.trades else 0


async def tape(clients: Clients, market: str, after: int, through: int) -> list[book.Trade]:
    """The trades of a market from its stream."""
    found: list[book.Trade] = []
    request = book.StreamTradesRequest(market=market, after_trade_id=after)
    stream = clients.book.StreamTrades(request, timeout=CALL_SECONDS_MAX)
    async for message in stream:
        found += message.trades
        if found and found[-1].trade_id >= through:
            stream.cancel()
            break
    return found


Entry = tuple[str, int]
"""A trade's market and id."""


async def finals(clients: Clients, wanted: set[Entry]) -> list[settlements.Settlement]:
    """Reads all changes from the first until every wanted trade is FINAL; returns the FINAL ones of trades."""
    found: list[settlements.Settlement] = []
    last: dict[int, int] = {}
    index = 0
    missing = set(wanted)
    stream = clients.settlements.StreamSettlements(settlements.StreamSettlementsRequest(), timeout=SETTLED_SECONDS_MAX)
    async for message in stream:
        assert message.index > index or not message.settlements, "indexes grow"
        index = message.index
        for item in message.settlements:
            assert item.state > last.get(item.settlement_sequence, 0), "states go forward, each once"
            last[item.settlement_sequence] = item.state
            if item.state == settlements.SETTLEMENT_STATE_FINAL and item.kind == settlements.SETTLEMENT_KIND_TRADE:
                found.append(item)
                missing.discard((item.market, item.trade_id))
        if not missing:
            stream.cancel()
            break
    assert not missing, f"{len(missing)} trades are not FINAL"
    return found


async def contract_of(suite: Suite, transaction_hash: str) -> SettlementContract:
    """The contract that a settlement's transaction was sent to."""
    sent = Web3(HTTPProvider(suite.eth_url)).eth.get_transaction(HexStr(transaction_hash))
    return await SettlementContract.connect(suite.eth_url, sent["to"], load_abi())


async def compare_balances(clients: Clients, contract: SettlementContract, names: list[str]) -> int:
    """Ledger against chain, for every account and asset; returns how many were compared."""
    compared = 0
    tokens: dict[str, str] = {}
    for name in names:
        answer = await clients.accounts.ListBalances(
            accounts.ListBalancesRequest(), metadata=user(name), timeout=CALL_SECONDS_MAX
        )
        for balance in answer.balances:
            assert units(balance.total) == units(balance.available) + units(balance.held)
            token = tokens.get(balance.asset) or await contract.token_of(balance.asset)
            assert token is not None
            tokens[balance.asset] = token
            on_chain = await contract.balance(account_key(int(answer.account_id)), token)
            assert on_chain == units(balance.total), (name, balance.asset)
            compared += 1
    return compared


async def run(suite: Suite, goal_trades: int) -> None:
    async with suite.clients() as clients:
        before = {pair.name: await last_trade(clients, pair.name) for pair in PAIRS}
        names = [fresh(f"trader-{number}") for number in range(ACCOUNTS)]
        trading = Trading(goal_trades)
        async with asyncio.TaskGroup() as group:
            for number, name in enumerate(names):
                group.create_task(trade(clients, name, number, trading))
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(cancel_all(clients, name))
        traded: dict[Entry, book.Trade] = {}
        for pair in PAIRS:
            first, last = before[pair.name], await last_trade(clients, pair.name)
            found = await tape(clients, pair.name, first, last)
            assert [item.trade_id for item in found] == list(range(first + 1, last + 1))
            assert len(found) > goal_trades // 10, f"{pair.name} took part"
            traded |= {(pair.name, item.trade_id): item for item in found}
        assert len(traded) == trading.trades >= goal_trades, "every trade that a taker was told of is on the tape"

        settled = await finals(clients, set(traded))
        ours = {(item.market, item.trade_id): item for item in settled if (item.market, item.trade_id) in traded}
        assert len({(item.market, item.trade_id) for item in settled}) == len(settled), "each trade is FINAL once"
        assert len({item.settlement_sequence for item in settled}) == len(settled)
        assert {entry: item.settlement_sequence for entry, item in ours.items()} == {
            entry: item.settlement_sequence for entry, item in traded.items()
        }
        assert {item.batch_id: item.transaction_hash for item in settled}.keys() == {i.batch_id for i in settled}
        contract = await contract_of(suite, settled[-1].transaction_hash)
        try:
            assert await compare_balances(clients, contract, names) == ACCOUNTS * 3
        finally:
            await contract.close()
    paid = max(trading.paid_btc.values()) / BTC_GIVEN
    assert paid > 1 or goal_trades < 10_000, f"nobody paid more BTC than it was given: {paid:.2f} times at most"


@pytest.mark.slow
async def test_ten_thousand_trades_on_the_real_backends(production: Suite) -> None:
    await run(production, 10_000)


@pytest.mark.slow
async def test_a_thousand_trades_embedded(embedded: Suite) -> None:
    await run(embedded, 1_000)
