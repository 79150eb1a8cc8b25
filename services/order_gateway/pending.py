"""What the database has yet to hear of the fold, and the statements that tell it. Compiled.

An order that was placed and has rested since is told in fewer words than any other.
"""

from collections.abc import Sequence
from typing import final

from services import allow_list, withdrawal_rules
from services.market_rules import stored
from services.order_gateway.ledger import Change, Ledger
from services.order_gateway.model import (
    AccountOpened,
    AllowListChanged,
    AssetCreated,
    CancelAfterSet,
    DebtNoted,
    ExitRequested,
    MarketChanged,
    MarketCreated,
    Movement,
    Order,
    OrderCanceled,
    OrderPlaced,
    OrdersChanged,
    ReferencePriceSet,
    Refused,
    SelfTradeMode,
    SessionOpened,
    TradingDefaultsSet,
    Unrelated,
    WithdrawalRulesSet,
)
from services.order_gateway.rows import (
    EXECUTION_COLUMNS,
    MOVEMENT_COLUMNS,
    ORDER_COLUMNS,
    Amount,
    execution_row,
    market_row,
    movement_row,
    order_row,
    placed_row,
)
from services.order_gateway.volumes import DAY_NS
from services.runtime.db import Statement, Value

_TRACELESS = (
    *(Unrelated, SessionOpened, Refused, CancelAfterSet, TradingDefaultsSet, ReferencePriceSet, ExitRequested),
    *(WithdrawalRulesSet, AllowListChanged),
)
"""What no list tells of."""


def _parameters(count: int) -> str:
    return ", ".join(f"${i}" for i in range(1, count + 1))


_PUT_ORDER = (
    f"INSERT INTO orders ({ORDER_COLUMNS}) VALUES ({_parameters(25)}) ON CONFLICT (order_id) DO UPDATE SET "  # noqa: S608
    "price_ticks = excluded.price_ticks, quantity_lots = excluded.quantity_lots, budget = excluded.budget, "
    "client_order_id = excluded.client_order_id, hidden_lots = excluded.hidden_lots, "
    "first_values = excluded.first_values, "
    "filled_lots = excluded.filled_lots, filled_quote = excluded.filled_quote, state = excluded.state, "
    "cause = excluded.cause, lock_remaining = excluded.lock_remaining, "
    "event_sequence = excluded.event_sequence, event_ns = excluded.event_ns"
)
_ADD_PLACED = (
    f"INSERT INTO orders ({ORDER_COLUMNS}) VALUES "  # noqa: S608
    "($1, $2, $3, $4, 1, $5, $6, $7, $8, '0', $9, $10, $11, 0, '0', 1, 0, $12, $13, $14, $13, $14, 0, '', '')"
)
"""See `rows.placed_row`."""
_ADD_EXECUTION = f"INSERT INTO executions ({EXECUTION_COLUMNS}) VALUES ({_parameters(13)})"  # noqa: S608
_ADD_POSTING = (
    "INSERT INTO postings (journal_sequence, line, account_id, asset_id, amount, kind, settlement_sequence) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7)"
)
_PUT_BALANCE = (
    "INSERT INTO balances (account_id, asset_id, total, held) VALUES ($1, $2, $3, $4) "
    "ON CONFLICT (account_id, asset_id) DO UPDATE SET total = excluded.total, held = excluded.held"
)
_ADD_MOMENT = "INSERT INTO moments (time_ns, journal_sequence) VALUES ($1, $2) ON CONFLICT (time_ns) DO NOTHING"
_ADD_ACCOUNT = "INSERT INTO accounts (account_id, name) VALUES ($1, $2)"
_ADD_ASSET = "INSERT INTO assets (asset_id, symbol, decimals) VALUES ($1, $2, $3)"
_ADD_MARKET = (
    "INSERT INTO markets (market_id, symbol, base_asset_id, quote_asset_id, tick_size, lot_size, notional_min, state, "
    "rules) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
)
_SET_MARKET = "UPDATE markets SET state = $2, rules = $3 WHERE market_id = $1"
_PUT_MOVEMENT = (
    f"INSERT INTO movements ({MOVEMENT_COLUMNS}) VALUES ({_parameters(17)}) "  # noqa: S608
    "ON CONFLICT (create_sequence) DO UPDATE SET state = excluded.state, event_sequence = excluded.event_sequence, "
    "event_ns = excluded.event_ns, settlement_sequence = excluded.settlement_sequence, reason = excluded.reason, "
    "release_ns = excluded.release_ns"
)
_PUT_VOLUME = (
    "INSERT INTO volumes (asset, day, account_id, amount) VALUES ($1, $2, $3, $4) "
    "ON CONFLICT (asset, day, account_id) DO UPDATE SET amount = excluded.amount"
)
_PUT_PRICE = (
    "INSERT INTO prices (market_id, price_ticks) VALUES ($1, $2) "
    "ON CONFLICT (market_id) DO UPDATE SET price_ticks = excluded.price_ticks"
)
_PUT_NAME = (
    "INSERT INTO order_names (account_id, client_order_id, order_id, until_sequence, until_ns) "
    "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id, client_order_id) DO UPDATE SET "
    "order_id = excluded.order_id, until_sequence = excluded.until_sequence, until_ns = excluded.until_ns"
)
_PUT_DEFAULTS = (
    "INSERT INTO trading_defaults (account_id, self_trade) VALUES ($1, $2) "
    "ON CONFLICT (account_id) DO UPDATE SET self_trade = excluded.self_trade"
)
_PUT_REFERENCE = (
    "INSERT INTO reference_prices (market_id, price_ticks, observed_ns) VALUES ($1, $2, $3) "
    "ON CONFLICT (market_id) DO UPDATE SET price_ticks = excluded.price_ticks, observed_ns = excluded.observed_ns"
)
_PUT_LEAVING = (
    "INSERT INTO leaving (account_id, canceled) VALUES ($1, $2) "
    "ON CONFLICT (account_id) DO UPDATE SET canceled = excluded.canceled"
)
_PUT_DEBT = (
    "INSERT INTO debts (debt_id, account_id, asset_id, amount, state) VALUES ($1, $2, $3, $4, $5) "
    "ON CONFLICT (debt_id) DO UPDATE SET state = excluded.state"
)
_PUT_WITHDRAWAL_RULES = (
    "INSERT INTO withdrawal_rules (asset_id, rules) VALUES ($1, $2) "
    "ON CONFLICT (asset_id) DO UPDATE SET rules = excluded.rules"
)
_PUT_ALLOW_LIST = (
    "INSERT INTO allow_lists (account_id, allowed) VALUES ($1, $2) "
    "ON CONFLICT (account_id) DO UPDATE SET allowed = excluded.allowed"
)
_MOVE_CURSOR = (
    "UPDATE cursor SET journal_sequence = $1, time_ns = $2, incarnation = $3, final_through = $4, "
    "unsettled_since = $5 WHERE id = 1 AND journal_sequence = $6"
)


@final
class Pending:
    """What the database has yet to hear, up to the end of a journal row.

    Args:
        amount: see Database.amount.
        moment_ns: the last journal time that is noted already as that of a sequence.
    """

    def __init__(self, amount: Amount, moment_ns: int = -1) -> None:
        self._amount = amount
        self.moment_ns = moment_ns
        self._rows: dict[str, list[Sequence[Value]]] = {}
        """By statement, in the order of the events."""
        self._orders: dict[int, Order] = {}
        self._balances: set[tuple[int, int]] = set()
        self._movements: dict[int, Movement] = {}
        """By create_sequence."""
        self._movements_by_id: dict[str, Movement] = {}
        self._markets: dict[int, MarketChanged] = {}
        self._defaults: dict[int, SelfTradeMode] = {}
        self._references: dict[int, ReferencePriceSet] = {}
        self._leaving: dict[int, bool] = {}
        self._debts: dict[int, DebtNoted] = {}
        self._volumes: set[tuple[int, int]] = set()
        """account_id, day."""
        self.events = 0
        """How many, up to the last journal row that has ended."""

    def movement(self, transfer_id: str) -> Movement | None:
        """The movement of that id, if it is here."""
        return self._movements_by_id.get(transfer_id)

    def withdrawal(self, withdrawal_id: int) -> Movement | None:
        """The withdrawal of that id, if it is here."""
        return next((each for each in self._movements.values() if each.withdrawal_id == withdrawal_id), None)

    def add(self, change: Change) -> None:
        """Notes what an event did."""
        sequence, effects, body = change.sequence, change.effects, change.body
        if change.time_ns != self.moment_ns and not isinstance(body, _TRACELESS):
            self.moment_ns = change.time_ns
            self._add(_ADD_MOMENT, (change.time_ns, sequence))
        if effects.postings:
            self._add_postings(change)
        for order in effects.orders:
            self._orders[order.order_id] = order
        if isinstance(body, OrderPlaced | OrderCanceled):
            return  # of these all is said by what they do to orders and balances
        for renamed in effects.renamed:
            self._add(_PUT_NAME, (*renamed, sequence, change.time_ns))
        for movement in effects.movements:
            self._movements[movement.create_sequence] = movement
            self._balances.add((movement.from_account_id, movement.asset_id))
            self._movements_by_id[movement.transfer_id] = movement
        if isinstance(body, AccountOpened):
            self._add(_ADD_ACCOUNT, (body.account_id, body.name))
        elif isinstance(body, TradingDefaultsSet):
            self._defaults[body.account_id] = body.self_trade
        elif isinstance(body, ExitRequested):
            self._leaving[body.account_id] = body.canceled
        elif isinstance(body, WithdrawalRulesSet):
            self._add(_PUT_WITHDRAWAL_RULES, (body.asset_id, withdrawal_rules.stored(body.rules)))
        elif isinstance(body, AllowListChanged):
            self._add(_PUT_ALLOW_LIST, (body.account_id, allow_list.stored(body.allowed)))
        elif isinstance(body, DebtNoted):
            self._debts[body.debt_id] = body
        elif isinstance(body, ReferencePriceSet):
            self._references[body.market_id] = body
        elif isinstance(body, AssetCreated):
            self._add(_ADD_ASSET, (body.asset.asset_id, body.asset.symbol, body.asset.decimals))
        elif isinstance(body, MarketCreated):
            self._add(_ADD_MARKET, market_row(body, self._amount(body.notional_min)))
        elif isinstance(body, MarketChanged):
            self._markets[body.market_id] = body
        elif isinstance(body, OrdersChanged) and body.market is not None:
            self._markets[body.market.market_id] = body.market

    def _add(self, sql: str, row: Sequence[Value]) -> None:
        rows = self._rows.get(sql)
        if rows is None:
            rows = self._rows[sql] = []
        rows.append(row)

    def _add_postings(self, change: Change) -> None:
        """Postings, and the executions that they are part of."""
        amount, day = self._amount, change.time_ns // DAY_NS
        for line, posting in enumerate(change.effects.postings):
            told = amount(posting.amount)
            kind, number = int(posting.kind), posting.settlement_sequence
            row = (change.sequence, line, posting.account_id, posting.asset_id, told, kind, number)
            self._add(_ADD_POSTING, row)
            self._balances.add((posting.account_id, posting.asset_id))
        for execution in change.effects.executions:
            self._add(_ADD_EXECUTION, execution_row(execution, amount(execution.fee)))
            self._volumes.add((execution.account_id, day))

    def statements(self, ledger: Ledger, stored_sequence: int) -> list[Statement]:
        """All of it, in one step between two rows: so the balances are those of the cursor.

        Args:
            ledger: what was folded.
            stored_sequence: where the cursor is.
        """
        amount = self._amount
        since = ledger.unsettled.since(ledger.sequence)
        move = (ledger.sequence, ledger.time_ns, ledger.incarnation, ledger.final_through, since, stored_sequence)
        statements = [Statement(_MOVE_CURSOR, [move], expect=1)]
        statements += [Statement(sql, rows) for sql, rows in self._rows.items()]
        if self._markets:  # after the markets themselves, which may be as new
            changed = [(each.market_id, each.state.value, stored(each.rules)) for each in self._markets.values()]
            statements.append(Statement(_SET_MARKET, changed))
        if self._defaults:
            modes = [(account_id, mode.value) for account_id, mode in self._defaults.items()]
            statements.append(Statement(_PUT_DEFAULTS, modes))
        if self._leaving:
            statements.append(Statement(_PUT_LEAVING, [(who, int(stays)) for who, stays in self._leaving.items()]))
        if self._debts:
            debts = [
                (d.debt_id, d.account_id, d.asset_id, amount(d.amount), int(d.state)) for d in self._debts.values()
            ]
            statements.append(Statement(_PUT_DEBT, debts))
        if self._references:
            told = [(each.market_id, each.price_ticks, each.observed_ns) for each in self._references.values()]
            statements.append(Statement(_PUT_REFERENCE, told))
        if self._orders:
            statements += self._orders_and_holds(ledger, stored_sequence)
        if self._balances:
            statements.append(Statement(_PUT_BALANCE, self._balance_rows(ledger)))
        if self._movements:
            moved = [movement_row(movement, amount(movement.amount)) for movement in self._movements.values()]
            statements.append(Statement(_PUT_MOVEMENT, moved))
        if self._volumes:
            volumes = ledger.volumes
            days = [(volumes.asset, day, who, amount(volumes.amount(who, day))) for who, day in self._volumes]
            statements.append(Statement(_PUT_VOLUME, days))
            statements.append(Statement(_PUT_PRICE, list(volumes.prices.items())))
        return [statement for statement in statements if statement.rows]

    def _orders_and_holds(self, ledger: Ledger, stored_sequence: int) -> list[Statement]:
        """The orders; what they hold of is among the balances from here on."""
        placed, others = list[Sequence[Value]](), list[Sequence[Value]]()
        amount, balances, markets = self._amount, self._balances, ledger.markets
        for order in self._orders.values():
            market = markets[order.market_id]
            balances.add((order.account_id, (market.quote if order.buys else market.base).asset_id))
            if order.create_sequence > stored_sequence and order.is_as_placed:
                placed.append(placed_row(order, amount))
            else:
                others.append(order_row(order, amount))
        return [Statement(_ADD_PLACED, placed), Statement(_PUT_ORDER, others)]

    def _balance_rows(self, ledger: Ledger) -> list[Sequence[Value]]:
        amount, found = self._amount, list[Sequence[Value]]()
        for account_id, asset_id in self._balances:
            balance = ledger.balance(account_id, asset_id)
            found.append((account_id, asset_id, amount(balance.total), amount(balance.held)))
        return found
