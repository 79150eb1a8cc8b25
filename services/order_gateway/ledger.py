"""The fold: everything that the journal says about money and orders, in memory, as of the last event applied.

No clock, no await, no I/O. Beside the fold it knows one thing that the journal does not: what commands now in flight
have reserved. For every account and asset `available = total - held - reserved`, and none of the four is ever negative
(but for account `outside`, whose total is minus what came in and has not left). `held` is what open orders lock and
requested withdrawals ask for.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import final

from mypy_extensions import mypyc_attr

from services.allow_list import AllowList
from services.depth import Depth
from services.market_rules import MarketRules, MarketState
from services.order_gateway import account, movements
from services.order_gateway.account import Effects, Posting
from services.order_gateway.model import (
    AccountOpened,
    AllowListChanged,
    AssetCreated,
    Claimed,
    DebtNoted,
    DebtState,
    Deposited,
    Event,
    EventBody,
    ExitRequested,
    MarketChanged,
    MarketCreated,
    Movement,
    MovementKind,
    MovementState,
    Order,
    OrderCanceled,
    OrderPlaced,
    OrdersChanged,
    ReferencePriceSet,
    SelfTradeMode,
    SettlementFinalized,
    TradingDefaultsSet,
    Transferred,
    WithdrawalApproved,
    WithdrawalCanceled,
    WithdrawalCleared,
    WithdrawalRequested,
    WithdrawalRulesSet,
)
from services.order_gateway.unsettled import Key, Unsettled
from services.order_gateway.volumes import VOLUME_ASSET, Volumes
from services.records import Record, replaced
from services.reference import is_fresh
from services.units import (
    ADJUSTMENTS_ACCOUNT,
    FAUCET_ACCOUNT,
    FEES_ACCOUNT,
    INSURANCE_ACCOUNT,
    MAY_OWE,
    OUTSIDE_ACCOUNT,
    Asset,
    Market,
    market_of,
)
from services.withdrawal_rules import WithdrawalRules

ENDED_ORDERS_MAX = 50_000
"""Ended orders that stay in memory though the database has them: the resent and the just canceled are among them."""
UNSETTLED_TRANSFERS_MAX = 50_000
"""Transfers that are remembered until they are final, some 30 MB. Of those before them streams tell no finality."""
FORMER_NAMES_MAX = 50_000
"""Former client_order_ids of replaced orders that stay in memory though the database has them."""
CLIENT_ID_WINDOW_NS = 24 * 3600 * 10**9
"""How long after an order's end its client_order_id stays taken, in journal time."""
SYSTEM_ACCOUNTS = {
    "fees": FEES_ACCOUNT,
    "faucet": FAUCET_ACCOUNT,
    "insurance": INSURANCE_ACCOUNT,
    "outside": OUTSIDE_ACCOUNT,
    "adjustments": ADJUSTMENTS_ACCOUNT,
}


@final
@mypyc_attr(acyclic=True)
class Balance(Record):
    """What an account has of an asset, in base units. The ledger changes its own.

    Attributes:
        unsettled: what postings not yet final on chain have added to `total`: information only.
    """

    __match_args__ = ("total", "held", "reserved", "unsettled")
    __slots__ = __match_args__

    def __init__(self, total: int = 0, held: int = 0, reserved: int = 0, unsettled: int = 0) -> None:
        self.total = total
        self.held = held
        self.reserved = reserved
        self.unsettled = unsettled

    @property
    def available(self) -> int:
        """Free to trade or to move."""
        return self.total - self.held - self.reserved

    @property
    def settled(self) -> int:
        """What the chain has for good."""
        return self.total - self.unsettled


@final
@mypyc_attr(acyclic=True)
class Reservation(Record):
    """What a command in flight needs, until its event says what came of it."""

    __match_args__ = ("account_id", "asset_id", "amount")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        asset_id: int,
        amount: int,
    ) -> None:
        self.account_id = account_id
        self.asset_id = asset_id
        self.amount = amount


@final
class MarketBook:
    """What changes of a market: whether it takes orders, and which, its shape, and who has how many open in it.

    `reference` is what its price is elsewhere, None before it was first told.
    """

    __slots__ = ("depth", "open_orders", "reference", "rules", "state")

    def __init__(self, state: MarketState) -> None:
        """One without orders."""
        self.state = state
        self.rules: MarketRules | None = None
        self.depth = Depth()
        self.open_orders: dict[int, int] = {}
        self.reference: ReferencePriceSet | None = None

    def fresh_reference_ticks(self, time_ns: int) -> int:
        """What the price is elsewhere, if that still counts at that time; 0: nothing does."""
        told = self.reference
        age_max_seconds = 0 if self.rules is None else self.rules.reference_age_max_seconds
        if told is None or not is_fresh(told.observed_ns, age_max_seconds, time_ns):
            return 0
        return told.price_ticks


@final
@mypyc_attr(acyclic=True)
class Change(Record):
    """One event and what it did."""

    __match_args__ = ("sequence", "time_ns", "command_id", "body", "effects")
    __slots__ = __match_args__

    def __init__(
        self,
        sequence: int,
        time_ns: int,
        command_id: int,
        body: EventBody,
        effects: Effects,
    ) -> None:
        self.sequence = sequence
        self.time_ns = time_ns
        self.command_id = command_id
        self.body = body
        self.effects = effects


@dataclass(eq=False, slots=True)
class Moment:
    """The ledger at one moment, to be read while it goes on: what has changed since, as it was then.

    Attributes:
        holders: how many accounts had a balance: the first so many of `Ledger.holders`.
        open_counts: all accounts' open orders and withdrawals that had not ended: how many.
        nets: what was unsettled, in parts.
        balances: those that have changed since.
        counts: of accounts of which it has changed since, as `open_counts`.
    """

    holders: int
    open_counts: tuple[int, int]
    nets: Iterator[tuple[Key, int]]
    balances: dict[Key, Balance] = field(default_factory=dict)
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a ledger is loaded from."""

    sequence: int = 0
    time_ns: int = 0
    incarnation: str = ""
    assets: tuple[Asset, ...] = ()
    markets: tuple[MarketCreated, ...] = ()
    accounts: tuple[AccountOpened, ...] = ()
    balances: tuple[tuple[int, int, int, int], ...] = ()
    """account_id, asset_id, total, held."""
    orders: tuple[Order, ...] = ()
    """All open ones, and ended ones in the order in which they ended."""
    withdrawals: tuple[Movement, ...] = ()
    """All that have not ended."""
    final_through: int = 0
    unsettled: Unsettled = field(default_factory=Unsettled)
    """The postings behind it. The ledger that is loaded takes it over."""
    transfers: tuple[Movement, ...] = ()
    """The last UNSETTLED_TRANSFERS_MAX that are not final, oldest first."""
    volumes: tuple[tuple[int, int, int], ...] = ()
    """account_id, day, amount."""
    prices: tuple[tuple[int, int], ...] = ()
    """market_id, price_ticks: see Volumes."""
    self_trade_modes: tuple[tuple[int, SelfTradeMode], ...] = ()
    """By account_id."""
    references: tuple[ReferencePriceSet, ...] = ()
    """The last of each market."""
    leaving: tuple[int, ...] = ()
    """Accounts whose owners leave, or have left, by the contract."""
    debtors: tuple[tuple[int, int], ...] = ()
    """debt_id, account_id of debts that are not resolved."""
    withdrawal_rules: tuple[tuple[int, WithdrawalRules], ...] = ()
    """By asset_id."""
    allow_lists: tuple[tuple[int, AllowList], ...] = ()
    """By account_id."""


class Ledger:
    """Balances, orders, markets, accounts and traded volumes as of `sequence`."""

    def __init__(self, snapshot: Snapshot | None = None, volume_asset: str = VOLUME_ASSET) -> None:
        loaded = snapshot or Snapshot()
        self.sequence, self.time_ns, self.incarnation = loaded.sequence, loaded.time_ns, loaded.incarnation
        self.final_through = loaded.final_through
        self.assets: dict[int, Asset] = {}
        self.assets_by_symbol: dict[str, Asset] = {}
        self.markets: dict[int, Market] = {}
        self.markets_by_symbol: dict[str, Market] = {}
        self.books: dict[int, MarketBook] = {}
        self.account_ids: dict[str, int] = dict(SYSTEM_ACCOUNTS)
        self.account_names = {account_id: name for name, account_id in SYSTEM_ACCOUNTS.items()}
        self.balances: dict[int, dict[int, Balance]] = {}
        self.holders: list[int] = []
        """The accounts that have balances, in the order in which they came to them. Only grows."""
        self.orders: dict[int, Order] = {}
        self.open: dict[int, Order] = {}
        self.open_by_account: dict[int, dict[int, Order]] = {}
        self.withdrawals: dict[int, Movement] = {}
        """Those that have not ended, by withdrawal_id."""
        self.withdrawals_by_account: dict[int, dict[int, Movement]] = {}
        self.transfers: deque[Movement] = deque(loaded.transfers, UNSETTLED_TRANSFERS_MAX)
        """Those that are not final, oldest first."""
        self.unsettled = loaded.unsettled
        self.volumes = Volumes(volume_asset, self.markets_by_symbol, loaded.volumes, loaded.prices)
        self.self_trade_modes = dict(loaded.self_trade_modes)
        """By account: what orders do that do not say so themselves. Whoever is not here never said."""
        self.leaving = set(loaded.leaving)
        """Accounts whose owners leave, or have left, by the contract: they are frozen."""
        self.debtors = dict(loaded.debtors)
        """By the id of each debt that is not resolved: the account, which is frozen."""
        self.withdrawal_rules = dict(loaded.withdrawal_rules)
        """By asset, of those that have some."""
        self.allow_lists = dict(loaded.allow_lists)
        """By account, of those that ever had one."""
        self._claimable: dict[tuple[str, int], dict[int, Movement]] = {}
        """The approved ones, oldest first, by address and asset."""
        self._by_client: dict[tuple[int, str], int] = {}
        self._former: dict[tuple[int, str], tuple[int, int]] = {}
        """What replaced orders were called before: order_id, and the event since which they are not. Oldest first."""
        self._former_of: dict[int, dict[tuple[int, str], None]] = {}
        self._ended: dict[int, None] = {}
        self._moments: list[Moment] = []
        self._load(loaded)

    # What is asked of it.

    def balance(self, account_id: int, asset_id: int) -> Balance:
        """The balance; one of nothing if the account never held the asset."""
        return self.balances.get(account_id, {}).get(asset_id) or Balance()

    def open_orders(self, account_id: int) -> dict[int, Order]:
        """The account's open orders by id, oldest first. Not to be changed."""
        return self.open_by_account.get(account_id, {})

    def open_withdrawals(self, account_id: int) -> dict[int, Movement]:
        """The account's withdrawals that have not ended, by id. Not to be changed."""
        return self.withdrawals_by_account.get(account_id, {})

    def self_trade_mode(self, account_id: int) -> SelfTradeMode:
        """What happens when an order of the account meets another one, unless the order says."""
        return self.self_trade_modes.get(account_id, SelfTradeMode.CANCEL_NEWEST)

    def open_counts(self, account_id: int) -> tuple[int, int]:
        """How many open orders the account has, and how many withdrawals that have not ended."""
        return len(self.open_orders(account_id)), len(self.open_withdrawals(account_id))

    def remember(self) -> Moment:
        """This moment, to be read a little at a time until `forget` is called."""
        counts = len(self.open), len(self.withdrawals)
        moment = Moment(len(self.holders), counts, self.unsettled.nets())
        self._moments.append(moment)
        return moment

    def forget(self, moment: Moment) -> None:
        """Nobody reads that moment any more."""
        self._moments.remove(moment)

    def order_by_client(self, key: tuple[int, str]) -> Order | None:
        """The last order under that account_id and client_order_id which is in memory."""
        order_id = self._by_client.get(key)
        if order_id is not None:
            return self.orders[order_id]
        former = self._former.get(key) if self._former else None
        return None if former is None else self.orders.get(former[0])

    def holds_client_id(self, order: Order) -> bool:
        """Whether the order still takes up its client_order_id."""
        return order.is_open or self.time_ns - order.event_ns < CLIENT_ID_WINDOW_NS

    def reserve(self, reservation: Reservation) -> None:
        """Sets funds aside for a command in flight. The caller has looked at what is available."""
        balance = self._balance(reservation.account_id, reservation.asset_id)
        balance.reserved += reservation.amount
        assert balance.available >= 0, f"{reservation} overdraws {balance}"

    def release(self, reservation: Reservation) -> None:
        """Undoes `reserve`."""
        balance = self._balance(reservation.account_id, reservation.asset_id)
        balance.reserved -= reservation.amount
        assert balance.reserved >= 0, f"{reservation} was released twice"

    # What the journal tells it.

    def apply(self, event: Event, time_ns: int) -> Change:
        """Takes the next event. What it says of orders and money becomes true at once."""
        assert event.sequence == self.sequence + 1, f"event {event.sequence} after {self.sequence}"
        self.sequence, self.time_ns = event.sequence, time_ns
        effects = self._effects(event)
        touched = []
        if effects.postings:
            assert account.sums_to_zero(effects.postings), f"event {event.sequence} makes money: {effects.postings}"
            touched = [self._post(posting) for posting in effects.postings]
        for order in effects.orders:
            if (held := self._put(order)) is not None:
                touched.append(held)
        for movement in effects.movements:
            if (held := self._move(movement)) is not None:
                touched.append(held)
        for account_id, balance in touched:
            if balance.held < 0 or balance.total < balance.held + balance.reserved:
                _check(account_id, balance, event.sequence)
        return Change(event.sequence, time_ns, event.command_id, event.body, effects)

    def forget_ended(self, stored_sequence: int) -> Iterator[Order]:
        """Drops and yields the longest-ended orders beyond ENDED_ORDERS_MAX that the database has.

        What they were called before is for `forget_former`.
        """
        while len(self._ended) > ENDED_ORDERS_MAX:
            order = self.orders[next(iter(self._ended))]
            if order.event_sequence > stored_sequence:
                return
            del self._ended[order.order_id], self.orders[order.order_id]
            if self._by_client.get(key := (order.account_id, order.client_order_id)) == order.order_id:
                del self._by_client[key]
            yield order

    def forget_former(self, stored_sequence: int, ended: Iterable[Order] = ()) -> Iterator[tuple[int, str]]:
        """Drops and yields former names: those of these orders, which were forgotten, and the oldest beyond
        FORMER_NAMES_MAX that the database has.
        """
        for order in ended if self._former_of else ():
            for key in list(self._former_of.get(order.order_id, ())):
                self._forget_name(key)
                yield key
        while len(self._former) > FORMER_NAMES_MAX:
            key, (_, sequence) = next(iter(self._former.items()))
            if sequence > stored_sequence:
                return
            self._forget_name(key)
            yield key

    def _forget_name(self, key: tuple[int, str]) -> None:
        former = self._former.pop(key, None)
        if former is not None:
            mine = self._former_of[former[0]]
            del mine[key]
            if not mine:
                del self._former_of[former[0]]

    # The rules.

    def _effects(self, event: Event) -> Effects:
        match event.body:
            case OrderPlaced() as body:
                order, trades = body.order, body.trades
                market = self.markets[order.market_id]
                effects = account.placed(body, market, self.open)
                depth = self.books[order.market_id].depth
                if trades:
                    self.volumes.traded(market, effects.executions, self.time_ns)
                    for trade in trades:
                        depth.take(order.buys, trade.price_ticks, trade.quantity_lots)
                if order.rests:
                    depth.rest(order.buys, order.price_ticks, order.quantity_lots - order.filled_lots)
                return effects
            case OrderCanceled() as body:
                before = self.open[body.order_id]
                if before.rests:
                    self.books[before.market_id].depth.cancel(before.buys, before.price_ticks, before.shown_lots)
                return account.canceled(body, before, event.sequence, self.time_ns)
            case OrdersChanged() as body:
                return self._orders_changed(body)
            case TradingDefaultsSet(account_id, mode):
                self.self_trade_modes[account_id] = mode
            case AccountOpened(account_id, name):
                assert name not in self.account_ids, f"account {name} was opened twice"
                self.account_ids[name], self.account_names[account_id] = account_id, name
            case SettlementFinalized(through):
                return self._finalize(through)
            case AssetCreated(asset):
                self._add_asset(asset)
            case MarketCreated() as body:
                self._add_market(body)
            case MarketChanged() as body:
                self._change_market(body)
            case ReferencePriceSet() as body:
                self.books[body.market_id].reference = body
            case _:
                return self._movement_effects(event)
        return Effects()

    def _orders_changed(self, body: OrdersChanged) -> Effects:
        effects = account.changed(body, self.markets, self.open)
        for account_id, client_order_id, order_id in effects.renamed:
            key = account_id, client_order_id
            self._forget_name(key)  # so that it is the youngest
            self._former[key] = order_id, self.sequence
            self._former_of.setdefault(order_id, {})[key] = None
        for market_id, sides in groupby(effects.executions, lambda execution: execution.market_id):
            self.volumes.traded(self.markets[market_id], sides, self.time_ns)
        for market_id, levels in body.books:
            for level in levels:
                self.books[market_id].depth.put(*level)
        if body.market is not None:
            self._change_market(body.market)
        return effects

    def _movement_effects(self, event: Event) -> Effects:
        sequence, time_ns = event.sequence, self.time_ns
        match event.body:
            case Transferred() as body:
                return movements.transferred(body, sequence, time_ns)
            case Deposited() as body:
                return movements.deposited(body, sequence, time_ns)
            case WithdrawalRequested() as body:
                assert body.withdrawal_id not in self.withdrawals, f"{body} was requested twice"
                return movements.requested(body, sequence, time_ns)
            case WithdrawalApproved() as body:
                return movements.approved(body, self.withdrawals[body.withdrawal_id], sequence, time_ns)
            case WithdrawalCleared() as body:
                return movements.cleared(body, self.withdrawals[body.withdrawal_id], sequence, time_ns)
            case WithdrawalRulesSet(asset_id, rules):
                self.withdrawal_rules[asset_id] = rules
            case AllowListChanged(account_id, allowed):
                self.allow_lists[account_id] = allowed
            case WithdrawalCanceled() as body:
                return movements.canceled(body, self.withdrawals[body.withdrawal_id], sequence, time_ns)
            case Claimed() as body if body.exit_account_id:
                total = self.balance(body.exit_account_id, body.asset_id).total
                return movements.exited(body, total, sequence, time_ns)
            case ExitRequested(account_id, canceled):
                (self.leaving.discard if canceled else self.leaving.add)(account_id)
            case DebtNoted() as body:
                return self._note_debt(body, sequence)
            case Claimed() as body:
                waiting = self._claimable.get((body.address, body.asset_id), {})
                return movements.claimed(body, waiting.values(), sequence, time_ns)
        return Effects()

    def _note_debt(self, noted: DebtNoted, sequence: int) -> Effects:
        if noted.state is DebtState.RESOLVED:
            del self.debtors[noted.debt_id]
            return Effects()
        self.debtors[noted.debt_id] = noted.account_id
        return movements.insured(noted, sequence, self.time_ns) if noted.state is DebtState.PAID else Effects()

    def is_frozen(self, account_id: int) -> bool:
        """Whether the journal says that nothing may begin in the account: its owner leaves, or it owes insurance."""
        return account_id in self.leaving or (bool(self.debtors) and account_id in self.debtors.values())

    def _post(self, posting: Posting) -> tuple[int, Balance]:
        balance = self._balance(posting.account_id, posting.asset_id)
        balance.total += posting.amount
        if number := posting.settlement_sequence:
            assert number > self.final_through, f"entry {number} of event {self.sequence} is final already"
            self.unsettled.add(number, self.sequence, (posting.account_id, posting.asset_id), posting.amount)
            balance.unsettled += posting.amount
        return posting.account_id, balance

    def _finalize(self, through: int) -> Effects:
        before, self.final_through = self.final_through, through
        assert through > before, f"final through {through} after {before}"
        settled = []
        for (account_id, asset_id), amount in self.unsettled.finalize(through):
            self._balance(account_id, asset_id).unsettled -= amount
            settled.append((account_id, asset_id))
        final = [item for item in self.withdrawals.values() if before < item.settlement_sequence <= through]
        while self.transfers and self.transfers[0].settlement_sequence <= through:
            final.append(self.transfers.popleft())
        return Effects(settled=settled, final=final)

    def _move(self, movement: Movement) -> tuple[int, Balance] | None:
        """Makes `movement` the present state of a withdrawal, and of what it holds."""
        if not movement.withdrawal_id:
            if movement.kind is MovementKind.TRANSFER and movement.settlement_sequence:
                self.transfers.append(movement)
            return None
        account_id = movement.from_account_id
        self._note_counts(account_id)
        mine = self.withdrawals_by_account.setdefault(account_id, {})
        before = self.withdrawals.pop(movement.withdrawal_id, None)
        mine.pop(movement.withdrawal_id, None)
        key = (movement.address, movement.asset_id)
        if not movement.has_ended:
            self.withdrawals[movement.withdrawal_id] = mine[movement.withdrawal_id] = movement
        if not mine:
            del self.withdrawals_by_account[account_id]
        if movement.state is MovementState.APPROVED:
            self._claimable.setdefault(key, {})[movement.withdrawal_id] = movement
        elif movement.state is MovementState.DONE:
            del self._claimable[key][movement.withdrawal_id]
            if not self._claimable[key]:
                del self._claimable[key]
        change = _held(movement) - (_held(before) if before is not None else 0)
        if not change:
            return None
        balance = self._balance(account_id, movement.asset_id)
        balance.held += change
        return account_id, balance

    def _note_counts(self, account_id: int) -> None:
        """The account's open orders or withdrawals are about to change."""
        for moment in self._moments:
            moment.counts.setdefault(account_id, self.open_counts(account_id))

    def _put(self, order: Order) -> tuple[int, Balance] | None:
        """Makes `order` the present state of its id, and of what it holds."""
        order_id, account_id = order.order_id, order.account_id
        if self._moments:
            self._note_counts(account_id)
        before = self.open.get(order_id)
        self.orders[order_id] = order
        mine = self.open_by_account.get(account_id)
        if order.is_open:
            if mine is None:
                mine = self.open_by_account[account_id] = {}
            self.open[order_id] = mine[order_id] = order
            if before is None:
                self._count_open(order, 1)
        else:
            self._ended[order_id] = None
            if before is not None:
                assert mine is not None, f"{before} is open, and its account has no open orders"
                del self.open[order_id], mine[order_id]
                self._count_open(order, -1)
                if not mine:
                    del self.open_by_account[account_id]
        if before is None:
            self._by_client[account_id, order.client_order_id] = order_id
        elif before.client_order_id != order.client_order_id:
            self._by_client[order.account_id, order.client_order_id] = order.order_id
            if self._by_client.get(key := (order.account_id, before.client_order_id)) == order.order_id:
                del self._by_client[key]
        change = order.lock - (before.lock if before is not None else 0)
        if not change:
            return None
        balance = self._balance(account_id, order.lock_asset(self.markets[order.market_id]).asset_id)
        balance.held += change
        return account_id, balance

    def _count_open(self, order: Order, change: int) -> None:
        counts = self.books[order.market_id].open_orders
        counts[order.account_id] = count = counts.get(order.account_id, 0) + change
        if not count:
            del counts[order.account_id]

    def _balance(self, account_id: int, asset_id: int) -> Balance:
        """A balance that is about to change."""
        mine = self.balances.get(account_id)
        if mine is None:
            mine = self.balances[account_id] = {}
            self.holders.append(account_id)
        balance = mine.get(asset_id)
        if balance is None:
            balance = mine[asset_id] = Balance()
        for moment in self._moments:
            if (account_id, asset_id) not in moment.balances:
                moment.balances[account_id, asset_id] = replaced(balance)
        return balance

    def _add_asset(self, asset: Asset) -> None:
        self.assets[asset.asset_id] = self.assets_by_symbol[asset.symbol] = asset

    def _add_market(self, made: MarketCreated) -> None:
        base, quote = self.assets[made.base_asset_id], self.assets[made.quote_asset_id]
        market = market_of(made.market_id, made.symbol, base, quote, made.tick_size, made.lot_size, made.notional_min)
        self.markets[made.market_id] = self.markets_by_symbol[made.symbol] = market
        self.books[made.market_id] = MarketBook(made.state)
        self._change_market(MarketChanged(made.market_id, made.state, made.rules))

    def _change_market(self, changed: MarketChanged) -> None:
        book = self.books[changed.market_id]
        book.state = changed.state
        if changed.rules is not None and changed.rules != book.rules:
            book.rules = changed.rules
            market = replace(self.markets[changed.market_id], notional_min=changed.rules.notional_min)
            self.markets[changed.market_id] = self.markets_by_symbol[market.symbol] = market

    def _load(self, loaded: Snapshot) -> None:
        for asset in loaded.assets:
            self._add_asset(asset)
        for market in loaded.markets:
            self._add_market(market)
        for reference in loaded.references:
            self.books[reference.market_id].reference = reference
        self.account_ids.update((opened.name, opened.account_id) for opened in loaded.accounts)
        self.account_names.update((opened.account_id, opened.name) for opened in loaded.accounts)
        for account_id, asset_id, total, _ in loaded.balances:
            self._balance(account_id, asset_id).total = total
        for order in sorted(loaded.orders, key=lambda order: order.event_sequence):
            self._put(order)
        for order in self.open.values():
            if order.rests:
                self.books[order.market_id].depth.rest(order.buys, order.price_ticks, order.shown_lots)
        for movement in sorted(loaded.withdrawals, key=lambda item: item.settlement_sequence):
            self._move(movement)
        for (account_id, asset_id), amount in self.unsettled.nets():
            self._balance(account_id, asset_id).unsettled += amount
        self._load_client_ids(loaded.orders)
        for account_id, asset_id, _, held in loaded.balances:
            balance = self._balance(account_id, asset_id)
            assert balance.held == held, (
                f"account {account_id}: orders and withdrawals hold {balance.held}, the database has {held}"
            )
            _check(account_id, balance, loaded.sequence)

    def _load_client_ids(self, orders: Iterable[Order]) -> None:
        """Of several orders under one id the last placed counts."""
        for order in sorted(orders, key=lambda order: order.create_sequence):
            self._by_client[order.account_id, order.client_order_id] = order.order_id
        for mine in self.open_by_account.values():
            oldest_first = sorted(mine.items(), key=lambda item: item[1].create_sequence)
            mine.clear()
            mine.update(oldest_first)


def _held(movement: Movement) -> int:
    return movement.amount if movement.state is MovementState.REQUESTED else 0


def _check(account_id: int, balance: Balance, sequence: int) -> None:
    assert balance.held >= 0, f"account {account_id} holds {balance} after event {sequence}"
    if account_id not in MAY_OWE:
        assert balance.available >= 0, f"account {account_id} has {balance} after event {sequence}"
