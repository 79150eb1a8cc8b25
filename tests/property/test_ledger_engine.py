"""The ledger beside the real engine: whatever random commands do, the invariants of money hold after every event.

The commands go in as a gateway sends them: several at once, each with its lock reserved before it is sent. A plain
second ledger, which knows nothing of holds, counts every balance by itself.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import pytest
from clearbook.internal.v1 import matching_service_pb2 as pb
from hypothesis import given, settings
from hypothesis import strategies as st

from services.book import model as m
from services.book import wire as book_wire
from services.book.engine import Engine
from services.command_ids import command_id_of
from services.locks import lock
from services.order_gateway import account, wire
from services.order_gateway.check import violations
from services.order_gateway.ledger import Change, Ledger, Reservation
from services.order_gateway.model import Execution, Order, OrderPlaced
from services.units import FAUCET_ACCOUNT

ACCOUNTS = (1001, 1002, 1003, 1004)
WHOLE = 10**18
FUNDS = {1: 40 * 10**5, 2: 900 * 10**18, 3: 30 * 10**6}
"""Of each user, in base units by asset: little enough that many orders cannot be paid for."""


class Exchange:
    """Engine, ledger and the second ledger in step."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.engine, self.ledger = Engine(), Ledger()
        self.number = self.time_ns = self.deposits = 0
        self.plain: dict[tuple[int, int], int] = defaultdict(int)
        self.heard: Callable[[Change], None] = lambda _: None
        setup: tuple[m.CommandBody, ...] = (
            m.LeaderStarted(1, "walk"),
            m.OpenSession(1),
            m.CreateAsset(m.Asset(0, "BTC", 8)),
            m.CreateAsset(m.Asset(0, "USD", 18)),
            m.CreateAsset(m.Asset(0, "ETH", 6)),
            m.CreateMarket(m.Market(0, "BTC-USD", 1, 2, "0.010", "0.00001", 0)),
            m.CreateMarket(m.Market(0, "ETH-BTC", 3, 1, "0.0005", "0.02", 0)),
            *(m.OpenAccount(f"user-{account_id}") for account_id in ACCOUNTS),
        )
        for body in setup:
            self.say(m.Command(0, body))
        for asset_id, symbol in ((1, "BTC"), (2, "USD"), (3, "ETH")):
            self.say(self.command(self.deposit(FAUCET_ACCOUNT, symbol, 10 * len(ACCOUNTS) * FUNDS[asset_id])))
            for account_id in ACCOUNTS:
                self.say(self.command(self.transfer(FAUCET_ACCOUNT, account_id, asset_id, FUNDS[asset_id])))

    def command(self, body: m.CommandBody) -> m.Command:
        self.number += 1
        return m.Command(command_id_of(1, 1, self.number), body)

    def deposit(self, account_id: int, symbol: str, amount: int) -> m.DepositFinal:
        self.deposits += 1
        return m.DepositFinal(self.deposits, account_id, symbol, amount, "0x")

    def transfer(self, giver: int, receiver: int, asset_id: int, amount: int) -> m.Transfer:
        return m.Transfer(f"t{self.number}", giver, receiver, asset_id, amount)

    # What a gateway does before it sends.

    def draw(self) -> tuple[m.Command, Reservation | None] | None:
        """A command and what it reserves; None if it cannot be paid for."""
        pick, kind = self.chance.choice, self.chance.randrange(20)
        if kind < 4 and self.ledger.open:
            order = pick(list(self.ledger.open.values()))
            owner = order.account_id if kind else pick(ACCOUNTS)
            return self.command(m.CancelOrder(owner, order.order_id)), None
        if kind == 4:
            asset_id = pick((1, 2, 3))
            giver, receiver = self.chance.sample((*ACCOUNTS, FAUCET_ACCOUNT), 2)
            amount = self.chance.randint(1, FUNDS[asset_id] // 4)
            return self.paid(self.transfer(giver, receiver, asset_id, amount), Reservation(giver, asset_id, amount))
        if kind == 5:
            symbol, amount = pick((("BTC", FUNDS[1] // 4), ("USD", FUNDS[2] // 4), ("ETH", FUNDS[3] // 4), ("NONE", 7)))
            deposit = m.DepositFinal(self.deposits + 1, pick(ACCOUNTS), symbol, amount, "0x")
            self.deposits += symbol != "NONE"
            return self.command(deposit), None
        return self.order()

    def order(self) -> tuple[m.Command, Reservation | None] | None:
        pick, market_id = self.chance.choice, self.chance.choice((1, 1, 2))
        market = self.ledger.markets[market_id]
        buys, limit = pick((True, False)), self.chance.random() < 0.8
        time_in_force = pick((1, 1, 1, 2, 3)) if limit else pick((2, 2, 3))
        price, lots = (self.chance.randint(95, 105) if limit else 0), self.chance.randint(1, 60)
        budget = 0 if limit or not buys else self.chance.randint(1, 110 * lots) * market.quote_per_tick_lot
        account_id = pick(ACCOUNTS)
        place = m.PlaceOrder(
            account_id,
            market_id,
            m.SIDE_BUY if buys else m.SIDE_SELL,
            m.ORDER_TYPE_LIMIT if limit else m.ORDER_TYPE_MARKET,
            time_in_force,
            limit and time_in_force == 1 and self.chance.random() < 0.1,
            price,
            lots,
            budget,
            f"c{self.number}",
            pick((0, 1, 1_000, 1_000, 1_000, 333_333, 1_000_000)),
            pick((0, 1, 2_000, 2_000, 2_000, 333_333, 1_000_000)),
        )
        needed = lock(buys, limit, price, lots, budget, market.base_per_lot, market.quote_per_tick_lot)
        asset = market.quote if buys else market.base
        return self.paid(place, Reservation(account_id, asset.asset_id, needed))

    def paid(self, body: m.CommandBody, reservation: Reservation) -> tuple[m.Command, Reservation] | None:
        balance = self.ledger.balance(reservation.account_id, reservation.asset_id)
        if balance.available < reservation.amount:
            return None
        self.ledger.reserve(reservation)
        return self.command(body), reservation

    # What happens then.

    def step(self) -> None:
        """Several commands at once, all reserved before the first is taken; now and then a market halts."""
        drawn = [item for _ in range(self.chance.randint(1, 8)) if (item := self.draw()) is not None]
        for command, reservation in drawn:
            self.say(command, reservation)
        if self.chance.random() < 0.02:
            market_id = self.chance.choice((1, 2))
            self.say(self.command(m.ChangeMarket(market_id, self.chance.choice((1, 1, 2)))))

    def say(self, command: m.Command, reservation: Reservation | None = None) -> None:
        self.time_ns += 1
        event = self.engine.apply(command, self.time_ns)
        sequence = event.journal_sequence
        row = wire.event_row(
            pb.StreamEventsResponse(
                first_journal_sequence=sequence,
                last_journal_sequence=sequence,
                time_ns=self.time_ns,
                events=book_wire.encode_event(event),
            )
        )
        if reservation is not None:
            self.ledger.release(reservation)
        change = self.ledger.apply(row.events[0], row.time_ns)
        self.count(event.body)
        self.check(change)

    def count(self, body: m.EventBody) -> None:
        """The second ledger."""
        plain = self.plain
        match body:
            case m.Deposited():
                plain[4, body.asset_id] -= body.deposit.amount
                plain[body.deposit.account_id, body.asset_id] += body.deposit.amount
            case m.Transferred():
                move = body.transfer
                plain[move.from_account_id, move.asset_id] -= move.amount
                plain[move.to_account_id, move.asset_id] += move.amount
            case m.OrderPlaced():
                base, quote = {1: (1, 2), 2: (3, 1)}[body.order.market_id]
                sign = 1 if body.order.side == m.SIDE_BUY else -1
                for trade in body.trades:
                    taker, maker = body.order.account_id, trade.maker_account_id
                    plain[taker, base] += sign * trade.base_amount
                    plain[maker, base] -= sign * trade.base_amount
                    plain[taker, quote] -= sign * trade.quote_amount
                    plain[maker, quote] += sign * trade.quote_amount
                    taker_gets, maker_gets = (base, quote) if sign > 0 else (quote, base)
                    plain[taker, taker_gets] -= trade.taker_fee
                    plain[maker, maker_gets] -= trade.maker_fee
                    plain[1, taker_gets] += trade.taker_fee
                    plain[1, maker_gets] += trade.maker_fee

    def check(self, change: Change) -> None:
        ledger, engine = self.ledger, self.engine
        assert violations(ledger) == []
        held = {
            (account_id, asset_id): balance.held
            for account_id, mine in ledger.balances.items()
            for asset_id, balance in mine.items()
            if balance.held
        }
        assert held == engine.locks(), "the ledger holds what the engine locks"
        totals = {
            (account_id, asset_id): balance.total
            for account_id, mine in ledger.balances.items()
            for asset_id, balance in mine.items()
            if balance.total
        }
        assert totals == {key: amount for key, amount in self.plain.items() if amount}
        assert ledger.open.keys() == engine.orders.keys()
        for execution in change.effects.executions:
            order = next(order for order in change.effects.orders if order.order_id == execution.order_id)
            assert 0 < execution.quantity_lots <= order.filled_lots <= order.quantity_lots
        self.check_shape()
        self.heard(change)

    def check_shape(self) -> None:
        for market_id, book in self.ledger.books.items():
            levels: dict[tuple[bool, int], int] = defaultdict(int)
            for order in self.engine.open_orders(market_id):
                buys = order.side == m.SIDE_BUY
                levels[buys, order.price_ticks] += order.quantity_lots - order.filled_lots
                known = self.ledger.open[order.order_id]
                assert (known.filled_lots, known.lock) == (order.filled_lots, order.lock_remaining)
            seen = {(buys, ticks): lots for buys in (True, False) for ticks, lots in book.depth.all(buys)}
            assert seen == dict(levels)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_money_is_conserved_and_nobody_goes_below_zero(seed: int) -> None:
    exchange = Exchange(seed)
    for _ in range(40):
        exchange.step()


def test_a_long_walk_with_everything_in_it() -> None:
    exchange = Exchange(20)
    seen: set[str] = set()
    for _ in range(300):
        exchange.step()
    for order in exchange.ledger.orders.values():
        seen.add(order.state.name if order.is_open else order.cause.name)
    assert seen == {"OPEN", "NONE", "USER", "IOC", "FOK", "POST_ONLY", "SELF_TRADE", "BUDGET"}


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
def test_orders_as_placed_stay_known_when_makers_trade_on(seed: int) -> None:
    """The same as above, but asked only after everything else has happened."""
    exchange = Exchange(seed)
    placed: list[tuple[Order, list[Execution]]] = []
    exchange.heard = lambda change: placed.append(_answer(change)) if isinstance(change.body, OrderPlaced) else None
    for _ in range(60):
        exchange.step()
    assert placed
    for order, taken in placed:
        now = exchange.ledger.orders[order.order_id]
        assert now.as_placed(taken, exchange.ledger.markets[order.market_id]) == order


def _answer(change: Change) -> tuple[Order, list[Execution]]:
    assert isinstance(change.body, OrderPlaced)
    return change.body.order, [item for item in change.effects.executions if not item.is_maker]


@pytest.mark.parametrize("fault", ["forgotten_lock", "wrong_fee", "self_made_money"])
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks above count only if they can fail."""
    real, maker_after = account._exchange, account._maker_after
    if fault == "forgotten_lock":
        forgets = lambda maker, *more: replace(maker_after(maker, *more), lock=maker.lock)  # noqa: E731
        monkeypatch.setattr(account, "_maker_after", forgets)
    elif fault == "wrong_fee":
        monkeypatch.setattr(account, "net_of_fee", lambda amount, ppm: (0, amount * ppm // 10**6))
    else:
        monkeypatch.setattr(account, "_exchange", lambda *args: real(*args)[:1])
    with pytest.raises(AssertionError):
        _walk(1)


def _walk(seed: int) -> None:
    exchange = Exchange(seed)
    for _ in range(60):
        exchange.step()
