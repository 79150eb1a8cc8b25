"""The ledger beside the real engine: whatever random commands do, the invariants of money hold after every event.

The commands go in as a gateway sends them: several at once, each with what it needs reserved before it is sent. A plain
second ledger, which knows nothing of holds, counts every balance by itself, and what of it the chain has yet to make
final; the chain itself is a list of what was approved and what was claimed.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from clearbook.internal.v1 import matching_service_pb2 as pb
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.book import model as m
from services.book import wire as book_wire
from services.book.engine import Engine
from services.book.switches import NS_PER_SECOND
from services.command_ids import command_id_of
from services.locks import lock
from services.order_gateway import account, check, wire
from services.order_gateway.check import violations
from services.order_gateway.ledger import Change, Ledger, Reservation
from services.order_gateway.model import CancelCause, Execution, MovementState, Order
from services.order_gateway.replaces import growth
from services.order_gateway.store import MIGRATIONS, Store
from services.records import replaced
from services.runtime.db import Database
from services.runtime.migrate import migrate
from services.units import FAUCET_ACCOUNT
from services.withdrawal_rules import WithdrawalRules
from tests.ledgers import state
from tests.property.naive import like

ACCOUNTS = (1001, 1002, 1003, 1004)
CAUSES = (m.CANCEL_CAUSE_USER, m.CANCEL_CAUSE_OPERATOR, m.CANCEL_CAUSE_DISCONNECT)
SYSTEM = (1, 2, 3, 5)
ADDRESSES = ("0x" + "a1" * 20, "0x" + "b2" * 20)
WHOLE = 10**18
FUNDS = {1: 40 * 10**5, 2: 900 * 10**18, 3: 30 * 10**6}
"""Of each user, in base units by asset: little enough that many orders cannot be paid for."""


class Exchange:
    """Engine, ledger and the second ledger in step."""

    def __init__(self, seed: int, store: Store | None = None) -> None:
        self.chance = random.Random(seed)
        self.engine, self.ledger = Engine(), Ledger()
        self.number = self.time_ns = self.deposits = self.claims = self.settled = 0
        self.plain: dict[tuple[int, int], int] = defaultdict(int)
        self.pending: list[tuple[int, tuple[int, int], int]] = []
        """settlement_sequence, (account, asset), amount: not final."""
        self.approved: list[tuple[int, m.Withdrawal]] = []
        """settlement_sequence, withdrawal: not claimed."""
        self.claimed: dict[int, list[m.Withdrawal]] = {}
        """By claim: what it takes, from when it is drawn."""
        self.ended: dict[int, MovementState] = {}
        """Of withdrawals: how."""
        self.heard: Callable[[Change], None] = lambda _: None
        self.store = store
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
        first = self.number + 1
        self.number += m.numbers_of(body)
        return m.Command(command_id_of(1, 1, first), body)

    def deposit(self, account_id: int, symbol: str, amount: int) -> m.DepositFinal:
        self.deposits += 1
        return m.DepositFinal(self.deposits, account_id, symbol, amount, "0x")

    def transfer(self, giver: int, receiver: int, asset_id: int, amount: int) -> m.Transfer:
        return m.Transfer(f"t{self.number}", giver, receiver, asset_id, amount)

    # What a gateway does before it sends.

    def draw(self) -> tuple[m.Command, Reservation | None] | None:
        """A command and what it reserves; None if it cannot be paid for."""
        pick, kind = self.chance.choice, self.chance.randrange(24)
        if kind < 4 and self.ledger.open:
            order = pick(list(self.ledger.open.values()))
            owner = order.account_id if kind else pick(ACCOUNTS)
            return self.command(m.CancelOrder(owner, order.order_id, pick(CAUSES))), None
        if kind == 4:
            asset_id = pick((1, 2, 3))
            giver, receiver = self.chance.sample((*ACCOUNTS, *SYSTEM), 2)
            amount = self.chance.randint(1, FUNDS[asset_id] // 4)
            return self.paid(self.transfer(giver, receiver, asset_id, amount), Reservation(giver, asset_id, amount))
        if kind == 5:
            symbol, amount = pick((("BTC", FUNDS[1] // 4), ("USD", FUNDS[2] // 4), ("ETH", FUNDS[3] // 4), ("NONE", 7)))
            deposit = m.DepositFinal(self.deposits + 1, pick((*ACCOUNTS, 9_999)), symbol, amount, "0x")
            self.deposits += symbol != "NONE"
            return self.command(deposit), None
        if kind < 9:
            return self.withdrawal(kind)
        if kind == 9:
            return self.chain()
        if kind == 20 and self.ledger.open:
            return self.replacement()
        if kind == 21:
            return self.group()
        if kind == 22:
            asset_id = pick((1, 2, 3))
            rare: tuple[m.CommandBody, ...] = (
                m.CancelOrders(pick(ACCOUNTS), pick((0, 1, 2)), pick((0, 1, 2)), pick(CAUSES)),
                m.CancelAfter(pick(ACCOUNTS), pick((0, 1, 2)), 1),
                m.SetTradingDefaults(pick(ACCOUNTS), pick(range(5))),
                m.SetWithdrawalRules(
                    asset_id, WithdrawalRules(unapproved_max=FUNDS[asset_id], cooling_seconds=pick((0, 1)))
                ),
                m.ChangeAllowList(pick(ACCOUNTS), pick((1, 2)), pick(ADDRESSES), 0),
                m.ChangeAllowList(pick(ACCOUNTS), pick((3, 4)), "", 0),
                m.ChangeMarket(pick((1, 2)), pick((m.MARKET_STATE_OPEN, m.MARKET_STATE_PRE_OPEN))),
                m.ChangeMarket(pick((1, 2)), m.MARKET_STATE_OPEN),
                m.ChangeMarket(pick((1, 2)), pick((m.MARKET_STATE_HALTED, m.MARKET_STATE_CLOSED)), None, "news"),
            )
            return self.command(pick(rare)), None
        if kind == 23:
            self.time_ns += pick((0, 0, NS_PER_SECOND))
            return m.Command(0, m.AdvanceTime()), None
        return self.order()

    def replacement(self) -> tuple[m.Command, Reservation | None] | None:
        """An open order gets another price or quantity; what it may set aside more is reserved, and the book told."""
        order = self.chance.choice(list(self.ledger.open.values()))
        market = self.ledger.markets[order.market_id]
        price = self.chance.choice((order.price_ticks, self.chance.randint(95, 105))) if order.limit else 0
        lots = self.chance.choice((order.quantity_lots, self.chance.randint(1, 60)))
        more = growth(order, price, lots, market)
        names = order.account_id, order.order_id
        asked = m.ReplaceOrder(*names, price, lots, self.chance.choice(("", "newer")), more)
        return self.paid(asked, Reservation(order.account_id, order.lock_asset(market).asset_id, more))

    def group(self) -> tuple[m.Command, Reservation | None] | None:
        """Two exits, perhaps behind an entry: what is needed is what the entry needs, or the dearer exit."""
        first, entry = self.place(), self.place() if self.chance.random() < 0.6 else None
        exits = []
        for number in range(self.chance.choice((1, 2)) if entry else 2):
            exit_ = self.place()
            if number == 0:
                exit_ = like(exit_, terms=m.Terms(trigger=m.TRIGGER_STOP, trigger_ticks=self.chance.randint(95, 105)))
            side = 3 - entry.side if entry else first.side
            exits.append(like(exit_, account_id=first.account_id, market_id=first.market_id, side=side))
        if entry is not None:
            entry = like(entry, account_id=first.account_id, market_id=first.market_id)
        orders = [
            like(order, client_order_id=f"g{self.number}-{number}", budget=self.budget(order))
            for number, order in enumerate(([entry] if entry else []) + exits)
        ]
        body = m.PlaceGroup(orders[0] if entry else None, orders[1:] if entry else orders)
        needed = [self.needs(order) for order in (orders[:1] if entry else orders)]
        return self.paid(body, max(needed, key=lambda each: each.amount))

    def budget(self, order: m.PlaceOrder) -> int:
        """What fits the kind of order."""
        if order.type == m.ORDER_TYPE_LIMIT or order.side == m.SIDE_SELL:
            return 0
        return order.budget or 100 * order.quantity_lots * self.ledger.markets[order.market_id].quote_per_tick_lot

    def withdrawal(self, kind: int) -> tuple[m.Command, Reservation | None] | None:
        """A request, an approval or an end; now and then of a withdrawal that has ended or never was."""
        pick = self.chance.choice
        if kind == 6:
            account_id, asset_id = pick(ACCOUNTS), pick((1, 2, 3))
            amount = self.chance.randint(1, FUNDS[asset_id] // 4)
            asked = m.RequestWithdrawal(f"w{self.number}", account_id, asset_id, amount, pick(ADDRESSES))
            return self.paid(asked, Reservation(account_id, asset_id, amount))
        known = [*self.engine.withdrawals, *list(self.ended)[-2:], 77]
        number = pick(known)
        goes: m.CommandBody = pick((m.ApproveWithdrawal(number), m.ReleaseWithdrawal(number)))
        body = goes if kind == 7 else m.CancelWithdrawal(number, "because")
        return self.command(body), None

    def chain(self) -> tuple[m.Command, Reservation | None] | None:
        """The chain settles a little more; some of that is final, or somebody claims all that is there."""
        self.settled = self.chance.randint(self.settled, self.engine.settlement_sequence)
        if self.chance.random() < 0.5:
            through = self.chance.randint(self.engine.final_through, self.settled)
            return self.command(m.SettlementFinal(through)), None
        taken = [item for items in self.claimed.values() for item in items]
        there = [item for number, item in self.approved if number <= self.settled and item not in taken]
        if not there:
            return None
        asked = self.chance.choice(there).request
        key = (asked.address, asked.asset_id)
        mine = [item for item in there if (item.request.address, item.request.asset_id) == key]
        amount = sum(item.request.amount for item in mine)
        self.claimed[self.claims + 1] = mine
        self.claims += 1
        symbol = {1: "BTC", 2: "USD", 3: "ETH"}[asked.asset_id]
        return self.command(m.ClaimFinal(self.claims, asked.address, symbol, amount, "0x")), None

    def order(self) -> tuple[m.Command, Reservation | None] | None:
        place = self.place()
        return self.paid(place, self.needs(place))

    def needs(self, place: m.PlaceOrder) -> Reservation:
        """What an order sets aside."""
        market, buys = self.ledger.markets[place.market_id], place.side == m.SIDE_BUY
        limit, scales = place.type == m.ORDER_TYPE_LIMIT, (market.base_per_lot, market.quote_per_tick_lot)
        needed = lock(buys, limit, place.price_ticks, place.quantity_lots, place.budget, *scales)
        return Reservation(place.account_id, (market.quote if buys else market.base).asset_id, needed)

    def place(self) -> m.PlaceOrder:
        pick, market_id = self.chance.choice, self.chance.choice((1, 1, 2))
        market = self.ledger.markets[market_id]
        buys, limit = pick((True, False)), self.chance.random() < 0.8
        time_in_force = pick((1, 1, 1, 2, 3, 4, 5)) if limit else pick((2, 2, 3))
        rests = time_in_force in (1, 4, 5)
        post_only = limit and rests and self.chance.random() < 0.1
        price, lots = (self.chance.randint(95, 105) if limit else 0), self.chance.randint(1, 60)
        budget = 0 if limit or not buys else self.chance.randint(1, 110 * lots) * market.quote_per_tick_lot
        terms = None
        if time_in_force == 4 or self.chance.random() < 0.35:
            waits = self.chance.random() < 0.3
            terms = m.Terms(
                self_trade=pick(range(5)),
                expires_ns=self.time_ns + self.chance.randint(1, 200) if time_in_force == 4 else 0,
                minimum_lots=0 if post_only or time_in_force == 3 else pick((0, 0, 1, lots)),
                reprice=post_only and pick((True, False)),
                trigger=pick((1, 2)) if waits else 0,
                trigger_source=pick((0, 1)) if waits else 0,
                trigger_ticks=self.chance.randint(95, 105) if waits else 0,
                display_lots=pick((0, max(lots // 3, 1))) if limit and rests and lots > 1 else 0,
            )
        return m.PlaceOrder(
            pick(ACCOUNTS),
            market_id,
            m.SIDE_BUY if buys else m.SIDE_SELL,
            m.ORDER_TYPE_LIMIT if limit else m.ORDER_TYPE_MARKET,
            time_in_force,
            post_only,
            price,
            lots,
            budget,
            f"c{self.number}",
            pick((0, 1, 1_000, 1_000, 1_000, 333_333, 1_000_000)),
            pick((0, 1, 2_000, 2_000, 2_000, 333_333, 1_000_000)),
            terms,
        )

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
        if self.store is not None:
            self.store.pending.add(change)
            self.store.row_ended(1)
        self.count(event.body)
        self.check(change)

    def count(self, body: m.EventBody) -> None:
        """The second ledger."""
        match body:
            case m.Deposited():
                credited = body.credited_account_id or body.deposit.account_id
                self.move(4, credited, body.asset_id, body.deposit.amount, body.settlement_sequence)
            case m.Transferred():
                move = body.transfer
                number = body.settlement_sequence
                self.move(move.from_account_id, move.to_account_id, move.asset_id, move.amount, number)
            case m.WithdrawalApproved():
                asked, number = body.withdrawal.request, body.settlement_sequence
                self.move(asked.account_id, 4, asked.asset_id, asked.amount, number)
                self.approved.append((number, body.withdrawal))
            case m.WithdrawalCanceled():
                self.ended[body.withdrawal.withdrawal_id] = MovementState.CANCELED
            case m.Claimed():
                mine = self.claimed.pop(body.claim.claim_index)
                self.approved = [(number, item) for number, item in self.approved if item not in mine]
                self.ended |= {item.withdrawal_id: MovementState.DONE for item in mine}
            case m.SettlementFinalized():
                through = body.through_settlement_sequence
                self.pending = [item for item in self.pending if item[0] > through]
            case m.OrderPlaced():
                self.count_trades(body.order, body.trades)
            case m.OrdersChanged():
                for step in body.steps:
                    self.count_trades(step.order, step.trades)

    def count_trades(self, order: m.Order, trades: list[m.Trade]) -> None:
        base, quote = {1: (1, 2), 2: (3, 1)}[order.place.market_id]
        sign = 1 if order.place.side == m.SIDE_BUY else -1
        for trade in trades:
            taker, maker, number = order.place.account_id, trade.maker_account_id, trade.settlement_sequence
            self.move(maker, taker, base, sign * trade.base_amount, number)
            self.move(taker, maker, quote, sign * trade.quote_amount, number)
            taker_gets, maker_gets = (base, quote) if sign > 0 else (quote, base)
            self.move(taker, 1, taker_gets, trade.taker_fee, number)
            self.move(maker, 1, maker_gets, trade.maker_fee, number)

    def move(self, giver: int, receiver: int, asset_id: int, amount: int, number: int) -> None:
        for key, change in (((giver, asset_id), -amount), ((receiver, asset_id), amount)):
            self.plain[key] += change
            if number:
                self.pending.append((number, key, change))

    def check(self, change: Change) -> None:
        ledger, engine = self.ledger, self.engine
        assert violations(ledger) == []
        held = {
            (account_id, asset_id): balance.held
            for account_id, mine in ledger.balances.items()
            for asset_id, balance in mine.items()
            if balance.held
        }
        locks = {key: amount for key, amount in engine.locks().items() if amount}  # 0: another of its group holds
        assert held == locks, "the ledger holds what the engine locks"
        totals = {
            (account_id, asset_id): balance.total
            for account_id, mine in ledger.balances.items()
            for asset_id, balance in mine.items()
            if balance.total
        }
        assert totals == {key: amount for key, amount in self.plain.items() if amount}
        unsettled: dict[tuple[int, int], int] = defaultdict(int)
        for _, key, amount in self.pending:
            unsettled[key] += amount
        assert {key: amount for key, amount in unsettled.items() if amount} == {
            (account_id, asset_id): balance.unsettled
            for account_id, mine in ledger.balances.items()
            for asset_id, balance in mine.items()
            if balance.unsettled
        }
        assert ledger.open.keys() == engine.orders.keys()
        self.check_withdrawals(change)
        for execution in change.effects.executions:
            order = next(order for order in change.effects.orders if order.order_id == execution.order_id)
            assert 0 < execution.quantity_lots <= order.filled_lots <= order.quantity_lots
        self.check_shape()
        self.heard(change)

    def check_withdrawals(self, change: Change) -> None:
        states = {key: item.state for key, item in self.ledger.withdrawals.items()}
        assert {key for key, state in states.items() if state is MovementState.REQUESTED} == set(
            self.engine.withdrawals
        )
        approved = {key for key, state in states.items() if state is MovementState.APPROVED}
        assert approved == {item.withdrawal_id for _, item in self.approved}
        for movement in change.effects.movements:
            if movement.withdrawal_id and movement.has_ended:
                assert self.ended[movement.withdrawal_id] is movement.state

    def check_shape(self) -> None:
        for market_id, book in self.ledger.books.items():
            levels: dict[tuple[bool, int], int] = defaultdict(int)
            sides = self.engine.books[market_id]
            for buys, side in ((True, sides.bids), (False, sides.asks)):
                for level in side.levels_best_first():
                    levels[buys, level.price_ticks] = level.total_lots
            for order in self.engine.open_orders(market_id):
                known = self.ledger.open[order.order_id]
                assert (known.filled_lots, known.lock) == (order.filled_lots, order.lock_remaining)
                assert (known.price_ticks, known.quantity_lots) == (order.place.price_ticks, order.place.quantity_lots)
                assert (known.state.value, known.client_order_id) == (order.state, order.place.client_order_id)
                assert known.hidden_lots == sides.hidden.get(order.order_id, 0), known
            seen = {(buys, ticks): lots for buys in (True, False) for ticks, lots in book.depth.all(buys)}
            assert seen == dict(levels)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
@example(754497)  # what a part-filled entry had received was spent before its exits began
def test_money_is_conserved_and_nobody_goes_below_zero(seed: int) -> None:
    """Some ten thousand commands in all."""
    exchange = Exchange(seed)
    for _ in range(60):
        exchange.step()


def test_a_long_walk_with_everything_in_it() -> None:
    exchange = Exchange(20)
    seen: set[str] = set()
    exchange.heard = lambda change: seen.update(
        order.state.name if order.is_open else order.cause.name for order in change.effects.orders
    )
    for _ in range(300):
        exchange.step()
    assert seen == {"OPEN", "WAITING", *CancelCause.__members__} - {"BAND", "MARKET"}
    assert set(exchange.ended.values()) == {MovementState.DONE, MovementState.CANCELED}
    assert exchange.ledger.final_through and exchange.pending and exchange.ledger.withdrawals
    assert exchange.plain[3, 2], "something came for an account that nobody has"


def test_an_iceberg_repriced_to_where_it_rests_shows_what_the_ledger_thinks() -> None:
    """By its price alone, as the ledger knows it, it has kept its place; so it must not show a slice anew."""
    exchange = Exchange(22)
    terms = m.Terms(reprice=True, display_lots=5)

    def say(body: m.PlaceOrder | m.ReplaceOrder) -> int:
        paid = exchange.paid(body, Reservation(body.account_id, 2, 0))
        assert paid is not None
        exchange.say(*paid)
        return paid[0].command_id

    def trade(account_id: int, side: int, price_ticks: int, lots: int) -> None:
        name = f"c{exchange.number}"
        say(m.PlaceOrder(account_id, 1, side, m.ORDER_TYPE_LIMIT, 1, False, price_ticks, lots, client_order_id=name))

    trade(1002, m.SIDE_SELL, 100, 2)
    iceberg = say(
        m.PlaceOrder(1001, 1, m.SIDE_BUY, m.ORDER_TYPE_LIMIT, 1, True, 99, 15, client_order_id="i", terms=terms)
    )
    trade(1003, m.SIDE_SELL, 99, 2)
    say(m.ReplaceOrder(1001, iceberg, 101, 15))
    trade(1003, m.SIDE_SELL, 99, 5)
    assert exchange.ledger.open[iceberg].shown_lots == 3, "of five, two have traded"


async def test_a_ledger_that_is_loaded_again_and_again_is_the_same(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/gateway.sqlite"
    await migrate(url, "gateway", MIGRATIONS)
    async with await Database.open(url, "gateway") as database:
        store = Store(database)
        exchange = Exchange(21, store)
        await store.load(100)
        for _ in range(15):
            for _ in range(12):
                exchange.step()
            await store.flush(exchange.ledger)
            before, store = exchange.ledger, Store(database)
            exchange.ledger, exchange.store = Ledger(await store.load(10)), store
            assert state(exchange.ledger) == state(before)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
@example(1)  # an exit that comes while its entry trades
def test_orders_as_placed_stay_known_when_makers_trade_on(seed: int) -> None:
    """The same as above, but asked only after everything else has happened."""
    exchange = Exchange(seed)
    placed: list[tuple[Order, list[Execution]]] = []
    exchange.heard = lambda change: placed.extend(_answers(change))
    for _ in range(60):
        exchange.step()
    assert placed
    for order, taken in placed:
        now = exchange.ledger.orders[order.order_id]
        was = replaced(order, client_order_id=now.client_order_id, hidden_lots=0, first=now.first)
        then = now.as_placed(taken, exchange.ledger.markets[order.market_id])
        assert replaced(then, hidden_lots=0) == was


def _answers(change: Change) -> list[tuple[Order, list[Execution]]]:
    """Every order that is new, as it was placed."""
    new = [order for order in change.effects.orders if order.create_sequence == change.sequence]
    return [(order, list(change.effects.traded(order.order_id))) for order in new]


FOUND_IN_SLICES: dict[str, Callable[[Ledger], None]] = {
    "money out of nothing": lambda ledger: _changes(ledger, "total"),
    "a hold that nothing asks for": lambda ledger: _changes(ledger, "held"),
    "finality that no entry has": lambda ledger: _changes(ledger, "unsettled"),
}


def _changes(ledger: Ledger, field: str) -> None:
    """One balance is wrong by one, of an account whose turn comes early."""
    (balance, *_) = ledger.balances[ledger.holders[1]].values()
    setattr(balance, field, getattr(balance, field) + 1)


@pytest.mark.parametrize("fault", ["", *FOUND_IN_SLICES])
def test_a_check_in_slices_finds_what_is_wrong_and_nothing_else(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exchange goes on between any two of its steps."""
    monkeypatch.setattr(check, "STEP_ITEMS", 1)
    found: list[list[str]] = []
    for seed in range(1 if fault else 8):
        exchange = Exchange(seed)
        for _ in range(30):
            exchange.step()
        if fault:
            monkeypatch.setattr(exchange, "check", lambda _change: None)  # which looks at all of it after each event
            FOUND_IN_SLICES[fault](exchange.ledger)
        moment = exchange.ledger.remember()
        for lines in check.steps(exchange.ledger, moment):
            found.append(lines)
            if not fault or len(found) < 20:
                exchange.step()
        exchange.ledger.forget(moment)
        assert len(found) > 40
    assert any(found) == bool(fault)


if not account.__file__.endswith(".so"):  # what is compiled cannot be given faults: the interpreted run has this

    @pytest.mark.parametrize("fault", ["forgotten_lock", "wrong_fee", "self_made_money"])
    def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The checks above count only if they can fail."""
        real, maker_after = account._exchange, account._maker_after
        if fault == "forgotten_lock":
            forgets = lambda maker, *more: replaced(maker_after(maker, *more), lock=maker.lock)  # noqa: E731
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
