"""Random commands for the engine and for the naive one, side by side, compared after every command.

`body(pick)` draws a command by any means of picking from a sequence: a seeded random's choice here, hypothesis in
test_engine_naive.py. What must refer to the state is drawn relative to it and made absolute by `Pair`: a cancel's
order_id is an index into the orders placed so far, a withdrawal_id one into the withdrawals asked for; a deposit's or
claim's index, a final sequence and an expiry are distances.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, TypeVar

from services.book import model as m
from services.book.engine import Engine
from services.command_ids import command_id_of
from services.locks import lock
from services.withdrawal_rules import WithdrawalRules
from tests.property.naive import NaiveEngine, like

T = TypeVar("T")
Pick = Callable[[Sequence[T]], T]

ACCOUNTS = (1001, 1002, 1003)
OWNER = 0
"""The account of a cancel that is its order's owner's."""
CAUSES = (0, 0, m.CANCEL_CAUSE_USER, m.CANCEL_CAUSE_OPERATOR, m.CANCEL_CAUSE_DISCONNECT)
PRICES, LOTS = tuple(range(95, 106)), tuple(range(1, 7))
WRONG = (0, -1, 2**63, 99)
RATES_PPM = (0, 1, 333, 1_000, 2_500, 1_000_000)
ADDRESSES = ("0x" + "ab" * 20, "0x" + "ab" * 20, "0x" + "1f" * 20, "0x" + "AB" * 20, "0x" + "0" * 40, "0xab", "")
SCALES = ((10**3, 10**11), (2 * 10**4, 10**3))
"""base_per_lot and quote_per_tick_lot of the two markets, worked out by hand from what `prelude` creates."""
ASSETS_OF = ((1, 2), (3, 1))


def prelude() -> list[m.CommandBody]:
    """Two markets that feed each other, with steps that are no powers of ten in one, and three users."""
    return [
        m.LeaderStarted(1, "walk"),
        m.OpenSession(1),
        m.CreateAsset(m.Asset(0, "BTC", 8)),
        m.CreateAsset(m.Asset(0, "USD", 18)),
        m.CreateAsset(m.Asset(0, "ETH", 6)),
        m.CreateMarket(m.Market(0, "BTC-USD", 1, 2, "0.010", "0.00001", 0)),
        m.CreateMarket(m.Market(0, "ETH-BTC", 3, 1, "0.0005", "0.02", 100 * 10**3, m.MARKET_STATE_UNSPECIFIED)),
        *(m.OpenAccount(f"user-{account_id}") for account_id in ACCOUNTS),
    ]


def body(pick: Pick[Any]) -> m.CommandBody:
    """One command: mostly orders, a fifth cancels and replacements, now and then something else or something wrong."""
    kind = pick(range(30))
    if kind == 29:
        return m.ChangeMarket(pick((1, 2)), m.MARKET_STATE_OPEN) if pick(range(3)) else reference(pick)
    if kind > 26:
        return group(pick)
    if kind == 21:
        if pick(range(3)) == 0:
            return m.CancelAfter(pick((9, *ACCOUNTS)), pick((1, 2, 0, 0, 99)), pick((1, 2, 2, 0, 86_401)))
        return m.CancelOrders(pick((9, *ACCOUNTS)), pick((1, 2, 1, 2, 0, 99)), pick((1, 2, 1, 2, 0, 3)), pick(CAUSES))
    if 21 < kind < 25:
        return m.ReplaceOrder(
            pick((OWNER, OWNER, OWNER, OWNER, OWNER, *ACCOUNTS)),
            pick(range(20)),
            pick((0, *PRICES, -1)),
            pick((0, *LOTS, *LOTS, -1, 2**63)),
            pick(("", "newer")),
            pick((None, None, None, None, 0, 100 * SCALES[0][1])),
        )
    if kind < 14:
        return place(pick)
    if kind < 17:
        return m.CancelOrder(pick((OWNER, OWNER, OWNER, *ACCOUNTS)), pick(range(40)), pick(CAUSES))
    if kind == 17:
        return money(pick)
    return rare(pick) if kind != 20 else wrong_place(pick)


def place(pick: Pick[Any]) -> m.PlaceOrder:
    """An order that can be taken."""
    side, limit = pick((m.SIDE_BUY, m.SIDE_SELL)), pick(range(5)) > 0
    time_in_force = pick((1, 1, 1, 1, 2, 3, 4, 5) if limit else (2, 2, 3))
    special = time_in_force == m.TIME_IN_FORCE_GTD or pick(range(3)) == 0
    post_only = (
        limit
        and time_in_force in (m.TIME_IN_FORCE_GTC, m.TIME_IN_FORCE_GTD, m.TIME_IN_FORCE_DAY)
        and pick(range(4)) == 0
    )
    return m.PlaceOrder(
        account_id=pick(ACCOUNTS),
        market_id=pick((1, 1, 2)),
        side=side,
        type=m.ORDER_TYPE_LIMIT if limit else m.ORDER_TYPE_MARKET,
        time_in_force=time_in_force,
        post_only=post_only,
        price_ticks=pick(PRICES) if limit else 0,
        quantity_lots=pick(LOTS),
        budget=0 if limit or side == m.SIDE_SELL else pick((1, 99, 100, 250, 505, 1_000)) * pick(SCALES)[1],
        client_order_id=pick(("", "mine")),
        maker_fee_ppm=pick(RATES_PPM),
        taker_fee_ppm=pick(RATES_PPM),
        terms=terms(pick, time_in_force, post_only) if special else None,
    )


def terms(pick: Pick[Any], time_in_force: int, post_only: bool) -> m.Terms:
    """What an order may ask beyond the usual."""
    return m.Terms(
        self_trade=pick(range(5)),
        expires_ns=pick((1, 3, 5, 9, 20)) if time_in_force == m.TIME_IN_FORCE_GTD else 0,
        minimum_lots=pick(LOTS)
        if not post_only and time_in_force != m.TIME_IN_FORCE_FOK and pick(range(4)) == 0
        else 0,
        reprice=post_only and pick((True, False)),
        display_lots=pick((1, 1, 2, 2, 3, 9)) if pick(range(4)) == 0 else 0,
        **trigger(pick),
    )


def trigger(pick: Pick[Any]) -> dict[str, Any]:
    """What it may wait for; now and then what does not go together."""
    kind = pick((0, 0, m.TRIGGER_STOP, m.TRIGGER_TAKE_PROFIT, m.TRIGGER_TRAILING))
    if kind == 0:
        return {}
    if kind == m.TRIGGER_TRAILING:
        return {"trigger": kind, "trail_ticks": pick((1, 2, 3, 200))}
    return {"trigger": kind, "trigger_source": pick((0, 1)), "trigger_ticks": pick(PRICES)}


def group(pick: Pick[Any]) -> m.PlaceGroup:
    """Orders that belong together, most often ones that may."""
    entry = place(pick) if pick(range(3)) else None
    first = entry or place(pick)
    side = pick((m.SIDE_BUY, m.SIDE_SELL)) if pick(range(9)) == 0 or entry is None else 3 - entry.side
    exits: list[m.PlaceOrder] = []
    for _ in range(pick((1, 2, 2, 2))):
        order = like(place(pick), side=side, account_id=first.account_id, market_id=first.market_id)
        if not exits or pick(range(3)) == 0:
            waiting = {"trigger": pick((1, 2)), "trigger_ticks": pick(PRICES)}
            order = like(order, terms=like(order.terms or m.Terms(), trigger_source=0, trail_ticks=0, **waiting))
        if order.type == m.ORDER_TYPE_MARKET:
            order = like(order, budget=0 if side == m.SIDE_SELL else 505 * SCALES[0][1])
        exits.append(order)
    return m.PlaceGroup(entry, exits)


def late(pick: Pick[Any]) -> m.CommandBody:
    """A command among orders that are soon over and stops on the quotes: much ends in the one that releases a stop."""
    kind = pick(range(10))
    if kind < 2:
        return m.CancelOrders(pick(ACCOUNTS), pick((0, 1)), 0, 0)
    if kind == 2:
        return m.CancelAfter(pick(ACCOUNTS), 0, 1)
    if kind == 3:
        return m.AdvanceTime()
    side, waits = pick((m.SIDE_BUY, m.SIDE_SELL)), kind > 6
    far = PRICES[-3:] if (side == m.SIDE_BUY) == waits else PRICES[:3]
    near = PRICES[6:8] if side == m.SIDE_SELL else PRICES[3:5]
    return m.PlaceOrder(
        account_id=pick(ACCOUNTS),
        market_id=1,
        side=side,
        type=m.ORDER_TYPE_LIMIT,
        time_in_force=m.TIME_IN_FORCE_GTD,
        post_only=False,
        price_ticks=pick(far if waits else (*far, *near)),
        quantity_lots=pick(LOTS),
        terms=m.Terms(
            expires_ns=pick((5, 9, 20, 2 * 10**9)),
            trigger=m.TRIGGER_STOP if waits else 0,
            trigger_source=m.TRIGGER_SOURCE_QUOTE if waits else 0,
            trigger_ticks=pick(far) if waits else 0,
        ),
    )


NUMBERS_OF_TERMS = tuple(name for name in m.Terms.__match_args__ if name != "signed")


def wrong_place(pick: Pick[Any]) -> m.PlaceOrder:
    """An order with one field that may be wrong."""
    order = place(pick)
    if order.terms is not None and pick(range(3)) == 0:
        name = pick(NUMBERS_OF_TERMS)
        setattr(order.terms, name, not order.terms.reprice if name == "reprice" else pick((*WRONG, 5)))
        return order
    fields = ("account_id", "market_id", "side", "type", "time_in_force", "price_ticks", "quantity_lots", "budget")
    field = pick((*fields, "post_only", "maker_fee_ppm", "taker_fee_ppm"))
    setattr(order, field, not order.post_only if field == "post_only" else pick((*WRONG, 3, 1_000_001, 2**256)))
    return order


def rare(pick: Pick[Any]) -> m.CommandBody:
    """Everything that is not about orders; markets change most often, so that none stays halted for long."""
    account, other = pick((*ACCOUNTS, 1, 5, 6)), pick((*ACCOUNTS, 2, 2_000))
    amount = pick((1, 7, 10**30, 2**256 - 1, 0, -5, 2**256))
    asset = m.Asset(9, pick(("SOL", "TOOLONGASYMBOLXYZ", "sol", "", "A B", "É1")), pick((0, 36, 37)))
    symbol, base, quote = pick(
        (
            ("BTC-USD", 1, 2),
            ("ETH-USD", 3, 2),
            ("ETH-USD", 3, 2),
            ("USD-BTC", 2, 1),
            ("ETH-ETH", 3, 3),
            ("X-USD", 1, 2),
            ("X-Y", 1, 9),
        )
    )
    tick, lot = pick(
        (("0.01", "0.00001"), ("5", "0.1"), ("1", "1"), ("0", "1"), ("1", "1e3"), ("", "1"), ("0.1", "0.0000001"))
    )
    market = m.Market(9, symbol, base, quote, tick, lot, pick((0, 7, 7, 7, -1)), pick((0, 1, 2, 3)))
    bodies: tuple[m.CommandBody, ...] = (
        m.AdvanceTime(),
        m.SetTradingDefaults(account, pick((*range(5), 5))),
        m.OpenSession(pick((1, 1, 2, 0, 128))),
        m.OpenAccount(pick(("user-1001", "new", "newer", "", "fees", "x" * 257))),
        m.Transfer(pick(("t", "")), account, other, pick((1, 2, 99)), amount, pick(("", "why", "x" * 201))),
        m.DepositFinal(pick((1, 1, 1, 1, 1, 0, 2)), account, pick(("BTC", "USD", "USD", "NONE")), abs(amount), "0x"),
        m.SettlementFinal(pick((0, 1, 5, -1))),
        m.CreateAsset(asset),
        m.CreateMarket(market),
        m.ChangeMarket(
            pick((1, 2, 9)),
            pick((1, 2, 3, 3, 4, 0, 5)),
            pick((None, None, None, rules(pick))),
            pick(("", "", "news", "x" * 201)),
        ),
    )
    chosen: m.CommandBody = bodies[min(pick(range(len(bodies) + 4)), len(bodies) - 1)]
    return chosen


def rules(pick: Pick[Any]) -> m.MarketRules:
    """Rules of a market, seldom any that cannot be."""
    return m.MarketRules(
        quantity_min_lots=pick((0, 0, 0, 2, -1)),
        quantity_max_lots=pick((0, 0, 5)),
        notional_max=pick((0, 0, 500)) * SCALES[0][1],
        band_ppm=pick((0, 30_000, 50_000, 50_000, 10**6)),
        notional_min=pick((0, 0, 200, 200, -1)) * SCALES[0][1],
        open_orders_max=pick((0, 0, 3)),
        reference_age_max_seconds=pick((0, 0, 1, 1, 86_401)),
    )


def reference(pick: Pick[Any]) -> m.SetReferencePrice:
    """What a price is elsewhere, seen so long before now; now and then with one thing wrong."""
    return m.SetReferencePrice(
        pick((1, 1, 2, 9)),
        pick((*PRICES, 0)),
        pick(("elsewhere", "elsewhere", "", "x" * 65)),
        pick((0, 0, 99, 999, 999, -5, -5, 10**9)),
    )


def money(pick: Pick[Any]) -> m.CommandBody:
    """What goes out to the chain, and comes back from it; now and then with one thing wrong."""
    account, asset = pick((*ACCOUNTS, *ACCOUNTS, 4, 6)), pick((1, 2, 2, 99))
    amount, address = pick((1, 7, 10**30, 2**256 - 1, 0)), pick(ADDRESSES)
    bodies: tuple[m.CommandBody, ...] = (
        m.RequestWithdrawal(pick(("w", "w", "w", "")), account, asset, amount, address),
        m.RequestWithdrawal("w", pick(ACCOUNTS), pick((1, 2)), pick((1, 7)), ADDRESSES[0]),
        m.ApproveWithdrawal(pick(range(4))),
        m.CancelWithdrawal(pick(range(4)), pick(("", "why", "x" * 201))),
        m.ReleaseWithdrawal(pick(range(4))),
        limits(pick),
        limits(pick),
        m.ClaimFinal(pick((1, 1, 1, 1, 0, 2)), address, pick(("BTC", "BTC", "NONE")), amount, "0x"),
        m.ClaimFinal(1, ADDRESSES[0], "BTC", 7, "0x"),
        m.ClaimFinal(1, ADDRESSES[0], "BTC", 7, "0x", pick((1003, 1004, 1004, 3, 9999))),
        m.ExitRequestFinal(pick((1, 1, 1, 0, 2)), pick((1003, 1004, 1004, 3, 9999)), pick((False, False, True)), "0x"),
        m.Transfer("t", 2, account, pick((1, 2)), pick((1, 7)), pick(("", "why"))),
        m.NoteDebt(1, 0, 1, 1002, "BTC", 7),
        m.NoteDebt(1, pick((1, 1, 2)), pick((2, 3)), pick((1002, 1002, 3)), pick(("BTC", "NONE")), pick((7, 7, 8))),
        m.NoteDebt(pick((1, 0, 2)), 0, pick((1, 1, 2)), pick((1002, 3, 4, 9999)), "BTC", pick((7, 0)), "x" * 201),
        m.DepositFinal(1, pick((1003, 1004)), "BTC", 7, "0x"),
    )
    chosen: m.CommandBody = pick(bodies)
    return chosen


def limits(pick: Pick[Any]) -> m.CommandBody:
    """What withdrawals keep to; now and then with one thing wrong."""
    account, address = pick((*ACCOUNTS, *ACCOUNTS, 4, 9999)), pick((*ADDRESSES, "", ""))
    bodies: tuple[m.CommandBody, ...] = (
        m.SetWithdrawalRules(pick((1, 2, 2, 99)), withdrawal_rules(pick), pick(("", "why", "x" * 201))),
        m.ChangeAllowList(account, pick((1, 1, 2, 3, 4, 4, 0, 5)), address, pick((0, 1, 2_592_001))),
    )
    chosen: m.CommandBody = pick(bodies)
    return chosen


def withdrawal_rules(pick: Pick[Any]) -> WithdrawalRules:
    """Rules of an asset's withdrawals, seldom any that cannot be."""
    return WithdrawalRules(
        amount_min=pick((0, 0, 0, 2, 8, -1)),
        amount_max=pick((0, 0, 7, 10**30)),
        day_max=pick((0, 0, 20, 2**256)),
        unapproved_max=pick((0, 7, 14, 10**30)),
        cooling_seconds=pick((0, 0, 1, 2_592_001)),
    )


class Pair:
    """Both engines in step.

    With `restart`, the real one comes out of its own snapshot before every command.
    """

    def __init__(self, restart: bool = False) -> None:
        self.real, self.naive, self.restart = Engine(), NaiveEngine(), restart
        self.epoch, self.number, self.time_ns = 1, 0, 0
        self.order_ids: list[tuple[int, int]] = []
        self.withdrawal_ids: list[int] = []
        self.locked: dict[int, int] = {}
        self.expires: dict[int, int] = {}
        self.history = sha256()
        for setup in prelude():
            self._apply(m.Command(0, setup))

    def say(self, drawn: m.CommandBody) -> m.Event:
        """Applies one drawn command to both, and compares all there is. Raises AssertionError."""
        asked = self._absolute(drawn)
        if isinstance(asked, m.AdvanceTime | m.OpenSession | m.LeaderStarted):
            event = self._apply(m.Command(0, asked))
            if isinstance(event.body, m.SessionOpened) and event.body.gateway == 1:
                self.epoch, self.number = event.body.epoch, 0
            return event
        self.number += 1
        command_id = command_id_of(1, self.epoch, self.number)
        if isinstance(asked, m.PlaceOrder):
            self.order_ids.append((command_id, asked.account_id))
        if isinstance(asked, m.PlaceGroup):
            self.order_ids += [(command_id + n, each.account_id) for n, each in enumerate(asked.orders())]
            self.number += len(asked.orders()) - 1
        if isinstance(asked, m.RequestWithdrawal):
            self.withdrawal_ids.append(command_id)
        return self._apply(m.Command(command_id, asked))

    def digest(self) -> str:
        """Of everything that happened and of where it led."""
        return f"{self.history.hexdigest()} {self.real.digest()}"

    def _absolute(self, drawn: m.CommandBody) -> m.CommandBody:
        if isinstance(drawn, m.PlaceOrder):
            return self._placed(drawn)
        if isinstance(drawn, m.PlaceGroup):
            entry = None if drawn.entry is None else self._placed(drawn.entry)
            return m.PlaceGroup(entry, [self._placed(each) for each in drawn.exits])
        if isinstance(drawn, m.CancelOrder):
            order_id, owner = self._order_id(drawn.order_id)
            return m.CancelOrder(drawn.account_id or owner, order_id, drawn.cause)
        if isinstance(drawn, m.ReplaceOrder):
            order_id, owner = self._order_id(drawn.order_id)
            return like(drawn, account_id=drawn.account_id or owner, order_id=order_id)
        if isinstance(drawn, m.DepositFinal):
            index = self.naive.deposits + drawn.deposit_index
            return m.DepositFinal(index, drawn.account_id, drawn.asset, drawn.amount, drawn.transaction_hash)
        if isinstance(drawn, m.ApproveWithdrawal):
            return m.ApproveWithdrawal(self._withdrawal_id(drawn.withdrawal_id))
        if isinstance(drawn, m.ReleaseWithdrawal):
            return m.ReleaseWithdrawal(self._withdrawal_id(drawn.withdrawal_id))
        if isinstance(drawn, m.CancelWithdrawal):
            return m.CancelWithdrawal(self._withdrawal_id(drawn.withdrawal_id), drawn.reason)
        if isinstance(drawn, m.ClaimFinal):
            index = self.naive.claims + drawn.claim_index
            return like(drawn, claim_index=index)
        if isinstance(drawn, m.ExitRequestFinal):
            return like(drawn, exit_index=self.naive.exits + drawn.exit_index)
        if isinstance(drawn, m.NoteDebt):
            index = len(self.naive.notes) + drawn.note_index
            return like(drawn, note_index=index, debt_id=index - drawn.debt_id)
        if isinstance(drawn, m.SettlementFinal):
            return m.SettlementFinal(self.naive.settlements - drawn.through_settlement_sequence)
        if isinstance(drawn, m.SetReferencePrice):
            return like(drawn, observed_ns=self.time_ns + 1 - drawn.observed_ns)
        return drawn

    def _placed(self, drawn: m.PlaceOrder) -> m.PlaceOrder:
        if drawn.terms is None or drawn.terms.expires_ns <= 0:
            return drawn
        return like(drawn, terms=like(drawn.terms, expires_ns=drawn.terms.expires_ns + self.time_ns))

    def _order_id(self, back: int) -> tuple[int, int]:
        """Most often one that is open."""
        live = [(each.order_id, each.place.account_id) for each in self.naive.open()]
        if live and back % 5:
            return live[back % len(live)]
        return self.order_ids[-1 - back % len(self.order_ids)] if self.order_ids else (7, 1001)

    def _withdrawal_id(self, back: int) -> int:
        return self.withdrawal_ids[-1 - back % len(self.withdrawal_ids)] if self.withdrawal_ids else 7

    def _apply(self, command: m.Command) -> m.Event:
        self.time_ns += 1
        if isinstance(command.body, m.AdvanceTime):
            soon = [*self.naive.switches.values(), *(each.release_ns for each in self.naive.waiting if each.release_ns)]
            self.time_ns = max(self.time_ns, min(soon, default=0))
        if self.restart:
            snapshot = self.real.snapshot()
            self.real = Engine.restore(snapshot)
            assert self.real.snapshot() == snapshot, "a snapshot is not what it restores"
        event, expected = self.real.apply(command, self.time_ns), self.naive.apply(command, self.time_ns)
        assert event == expected, f"{command}\nbecame   {event}\nand not  {expected}"
        self.real.validate()
        for market_id in self.real.books:
            assert list(self.real.open_orders(market_id)) == self.naive.open_orders(market_id), command
        assert self.real.locks() == self.naive.locks(), command
        self._check_money(event.body)
        self.history.update(repr(event).encode())
        return event

    def _check_money(self, happened: m.EventBody) -> None:
        """What trades move is whole, fees are rounded up, nobody pays more than was set aside, or trades too late."""
        if isinstance(happened, m.OrderPlaced):
            self._check_step(happened.order, happened.trades)
        elif isinstance(happened, m.OrderCanceled):
            self._check_step(happened.order, [])
        elif isinstance(happened, m.OrdersChanged):
            for step in happened.steps:
                self._check_step(step.order, step.trades)

    def _check_step(self, order: m.Order, trades: list[m.Trade]) -> None:
        place = order.place
        self.expires[order.order_id] = 0 if place.terms is None else place.terms.expires_ns
        for trade in trades:
            for order_id in (order.order_id, trade.maker_order_id):
                assert not 0 < self.expires[order_id] <= self.time_ns, f"{order_id} trades though its time is over"
        if place.market_id > len(SCALES):
            return
        buys, limit = place.side == m.SIDE_BUY, place.type == m.ORDER_TYPE_LIMIT
        base_per_lot, quote_per_tick_lot = SCALES[place.market_id - 1]
        whole = (buys, limit, place.price_ticks, place.quantity_lots, place.budget, base_per_lot, quote_per_tick_lot)
        aside = max(self.locked.get(order.order_id, 0), lock(*whole))
        paid = 0
        for trade in trades:
            assert trade.base_amount == trade.quantity_lots * base_per_lot > 0
            assert trade.quote_amount == trade.quantity_lots * trade.price_ticks * quote_per_tick_lot > 0
            received, given = trade.base_amount, trade.quote_amount
            if not buys:
                received, given = given, received
            check_fee(trade.taker_fee, received, place.taker_fee_ppm)
            assert 0 <= trade.maker_fee <= given
            aside_before = self.locked[trade.maker_order_id]  # 0: another of its group held it until now
            assert aside_before - received >= trade.maker_lock_remaining >= 0 or aside_before == 0
            self.locked[trade.maker_order_id] = trade.maker_lock_remaining
            paid += given
        assert paid + order.lock_remaining <= aside, "more was spent than set aside"
        assert sum(trade.quantity_lots for trade in trades) <= order.filled_lots <= place.quantity_lots
        if order.state in (m.ORDER_STATE_OPEN, m.ORDER_STATE_WAITING):
            self.locked[order.order_id] = order.lock_remaining
        else:
            assert order.lock_remaining == 0
            self.locked.pop(order.order_id, None)


def check_fee(fee: int, received: int, rate_ppm: int) -> None:
    """The smallest whole fee that is not less than the rate asks."""
    assert (fee - 1) * 10**6 < received * rate_ppm <= fee * 10**6
    assert 0 <= fee <= received


def walk(seed: int, commands: int, restart: bool = False, drawn: Callable[[Pick[Any]], m.CommandBody] = body) -> str:
    """Compares both engines over a random walk; the digest of it."""
    chance = random.Random(seed)
    pair = Pair(restart)
    for _ in range(commands):
        pair.say(drawn(chance.choice))
    return pair.digest()
