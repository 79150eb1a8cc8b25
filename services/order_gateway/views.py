"""What a reader of an account is told: the state, and what each event of the journal changes of it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from services.order_gateway.ledger import Balance, Change, Ledger
from services.order_gateway.model import Execution, Movement, Order
from services.records import replaced

PART_ITEMS_MAX = 250
"""Orders, executions, movements and balances together in one message of a stream; what is more follows in the next.

Whoever makes it, sends it on or reads it does so within milliseconds, and it is half a megabyte at the very most."""

_LISTS = ("balances", "orders", "executions", "movements")


@dataclass(frozen=True, slots=True)
class Update:
    """What one reader is told at once: what one journal entry changed, or a whole state.

    Attributes:
        sequence: the journal entry that the reader's state is as of, once he has it.
        balances: (asset_id, as it is then), without what commands in flight reserve: the journal does not know that.
        final_through: up to where settlement was final then.
    """

    sequence: int
    orders: tuple[Order, ...] = ()
    executions: tuple[Execution, ...] = ()
    balances: tuple[tuple[int, Balance], ...] = ()
    movements: tuple[Movement, ...] = ()
    final_through: int = 0
    snapshot: bool = False
    lagged: bool = False

    def parts(self) -> list["Update"]:
        """The same in updates of at most PART_ITEMS_MAX items each: the first of them says what it is."""
        items = [(name, item) for name in _LISTS for item in getattr(self, name)]
        if len(items) <= PART_ITEMS_MAX:
            return [self]
        parts = []
        for start in range(0, len(items), PART_ITEMS_MAX):
            cut = items[start : start + PART_ITEMS_MAX]
            lists: dict[str, Any] = {name: tuple(item for kind, item in cut if kind == name) for name in _LISTS}
            first = not start
            parts.append(replace(self, **lists, snapshot=self.snapshot and first, lagged=self.lagged and first))
        return parts


class View(Protocol):
    """What of an account a reader is told."""

    @property
    def account_id(self) -> int:
        """Whose."""

    def change(self, change: Change) -> Update | None:
        """What an event changed, asked right after it was folded; None: nothing of this."""

    def snapshot(self) -> Update:
        """All of it, now."""


@dataclass(frozen=True, slots=True)
class OrdersView:
    """An account's orders and what they trade, perhaps in one market only."""

    ledger: Ledger
    account_id: int
    market_id: int | None

    def change(self, change: Change) -> Update | None:
        """See View."""
        orders = tuple(order for order in change.effects.orders if self._concerns(order))
        if not orders:
            return None
        executions = tuple(execution for execution in change.effects.executions if self._concerns(execution))
        return Update(change.sequence, orders, executions)

    def snapshot(self) -> Update:
        """See View."""
        orders = tuple(order for order in self.ledger.open_orders(self.account_id).values() if self._concerns(order))
        return Update(self.ledger.sequence, orders, snapshot=True)

    def _concerns(self, item: Order | Execution) -> bool:
        return item.account_id == self.account_id and self.market_id in {None, item.market_id}


@dataclass(frozen=True, slots=True)
class AccountView:
    """A whole account: balances, orders, executions, movements of money."""

    ledger: Ledger
    account_id: int

    def change(self, change: Change) -> Update | None:
        """See View."""
        effects, mine = change.effects, self.account_id
        orders = tuple(order for order in effects.orders if order.account_id == mine)
        movements = tuple(item for item in (*effects.movements, *effects.final) if item.concerns(mine))
        assets = {posting.asset_id for posting in effects.postings if posting.account_id == mine}
        assets |= {order.lock_asset(self.ledger.markets[order.market_id]).asset_id for order in orders}
        assets |= {item.asset_id for item in movements if item.from_account_id == mine}
        assets |= {asset_id for account_id, asset_id in effects.settled if account_id == mine}
        if not (assets or orders or movements):
            return None
        executions = tuple(execution for execution in effects.executions if execution.account_id == mine)
        return Update(change.sequence, orders, executions, self._balances(assets), movements, self.ledger.final_through)

    def snapshot(self) -> Update:
        """See View."""
        return replace(self.since((), (), ()), orders=self._open_orders(), snapshot=True)

    def since(self, orders: Iterable[Order], executions: Iterable[Execution], movements: Iterable[Movement]) -> Update:
        """The state now, for who knows an older one: all that is small, and of the rest what changed.

        Args:
            orders: that changed, in any of their states since.
            executions: since, oldest first.
            movements: that changed, in any of their states since.
        """
        ledger, mine = self.ledger, self.account_id
        latest: dict[int, Order] = {}
        for order in orders:
            known = latest.get(order.order_id)
            if known is None or known.event_sequence < order.event_sequence:
                latest[order.order_id] = ledger.orders.get(order.order_id, order)
        moved: dict[int, Movement] = {}
        for item in (*movements, *ledger.open_withdrawals(mine).values()):
            before = moved.get(item.create_sequence)
            if before is None or before.event_sequence < item.event_sequence:
                moved[item.create_sequence] = item
        return Update(
            ledger.sequence,
            tuple(sorted(latest.values(), key=lambda order: order.create_sequence)),
            tuple(executions),
            self._balances(ledger.balances.get(mine, {})),
            tuple(moved[create_sequence] for create_sequence in sorted(moved)),
            ledger.final_through,
        )

    def _open_orders(self) -> tuple[Order, ...]:
        return tuple(self.ledger.open_orders(self.account_id).values())

    def _balances(self, assets: Iterable[int]) -> tuple[tuple[int, Balance], ...]:
        balance = self.ledger.balance
        return tuple(
            (asset_id, replaced(balance(self.account_id, asset_id), reserved=0)) for asset_id in sorted(assets)
        )
