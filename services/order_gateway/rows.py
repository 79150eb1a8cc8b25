"""Rows of the gateway's tables: what is written of orders, executions, movements, and how it is read. Compiled."""

from collections.abc import Callable, Iterable, Sequence

from services.market_rules import MarketState, of_stored, stored
from services.order_gateway.model import (
    CancelCause,
    Execution,
    First,
    MarketCreated,
    Movement,
    MovementKind,
    MovementState,
    Order,
    OrderState,
    SelfTradeMode,
    Terms,
    TimeInForce,
    Trigger,
)
from services.runtime.db import Row, Value

Amount = Callable[[int], Value]
"""What the driver takes for an Amount column."""

TERMS_NUMBERS = 9
"""Of an order's terms: all but what its wallet signed."""

ORDER_COLUMNS = (
    "order_id, account_id, market_id, buys, is_limit, time_in_force, post_only, price_ticks, quantity_lots, budget, "
    "client_order_id, maker_fee_ppm, taker_fee_ppm, filled_lots, filled_quote, state, cause, lock_remaining, "
    "create_sequence, create_ns, event_sequence, event_ns, hidden_lots, terms, first_values"
)
ORDER_IS_OPEN = "state IN (1, 4)"
ORDER_HAS_ENDED = f"NOT {ORDER_IS_OPEN}"
"""In the words of the indexes that have these alone."""
ORDER_HAS_CHANGED = "event_sequence > create_sequence"
"""In the words of the index that has these."""
EXECUTION_COLUMNS = (
    "order_id, trade_id, account_id, market_id, client_order_id, buys, price_ticks, quantity_lots, fee, is_maker, "
    "settlement_sequence, event_sequence, event_ns"
)
MOVEMENT_COLUMNS = (
    "transfer_id, kind, state, from_account_id, to_account_id, asset_id, amount, create_sequence, create_ns, "
    "event_sequence, event_ns, settlement_sequence, withdrawal_id, address, reason, transaction_hash, "
    "release_ns"
)


def placed_row(order: Order, amount: Amount) -> Sequence[Value]:
    """A limit order that came to rest and that nothing has happened to since, as `pending` adds it."""
    return (
        order.order_id,
        order.account_id,
        order.market_id,
        int(order.buys),
        int(order.time_in_force),
        int(order.post_only),
        order.price_ticks,
        order.quantity_lots,
        order.client_order_id,
        order.maker_fee_ppm,
        order.taker_fee_ppm,
        amount(order.lock),
        order.create_sequence,
        order.create_ns,
    )


def order_row(order: Order, amount: Amount) -> Sequence[Value]:
    """As ORDER_COLUMNS."""
    return (
        order.order_id,
        order.account_id,
        order.market_id,
        int(order.buys),
        int(order.limit),
        int(order.time_in_force),
        int(order.post_only),
        order.price_ticks,
        order.quantity_lots,
        amount(order.budget),
        order.client_order_id,
        order.maker_fee_ppm,
        order.taker_fee_ppm,
        order.filled_lots,
        amount(order.filled_quote),
        int(order.state),
        int(order.cause),
        amount(order.lock),
        order.create_sequence,
        order.create_ns,
        order.event_sequence,
        order.event_ns,
        order.hidden_lots,
        "" if order.terms is None else _text_of(order.terms),
        "" if order.first is None else _numbers(order.first),
    )


def _numbers(values: Iterable[int]) -> str:
    """Whole numbers in the order of the fields: few orders have any, and nothing is found by them."""
    return " ".join([str(int(part)) for part in values])


def _text_of(terms: Terms) -> str:
    """The numbers, and behind them what its wallet signed, if it did."""
    *numbers, signed = terms
    return f"{_numbers(numbers)} {signed}" if signed else _numbers(numbers)


def _terms(text: str) -> Terms | None:
    if not text:
        return None
    *parts, signed = text.split(" ", TERMS_NUMBERS) if text.count(" ") >= TERMS_NUMBERS else (*text.split(" "), "")
    mode, expires, minimum, reprice, trigger, quote, ticks, trail, display = [int(part) for part in parts]
    return Terms(
        *(SelfTradeMode(mode), expires, minimum, bool(reprice), Trigger(trigger), bool(quote), ticks, trail, display),
        signed,
    )


def _first(text: str) -> First | None:
    if not text:
        return None
    price_ticks, quantity_lots, budget, state, *rest = [int(part) for part in text.split()]
    return First(price_ticks, quantity_lots, budget, OrderState(state), *rest)


def order_of(row: Row) -> Order:
    """A row of ORDER_COLUMNS."""
    return Order(
        order_id=row[0],
        account_id=row[1],
        market_id=row[2],
        buys=bool(row[3]),
        limit=bool(row[4]),
        time_in_force=TimeInForce(row[5]),
        post_only=bool(row[6]),
        price_ticks=row[7],
        quantity_lots=row[8],
        budget=int(row[9]),
        client_order_id=row[10],
        maker_fee_ppm=row[11],
        taker_fee_ppm=row[12],
        filled_lots=row[13],
        filled_quote=int(row[14]),
        state=OrderState(row[15]),
        cause=CancelCause(row[16]),
        lock=int(row[17]),
        create_sequence=row[18],
        create_ns=row[19],
        event_sequence=row[20],
        event_ns=row[21],
        hidden_lots=row[22],
        terms=_terms(row[23]),
        first=_first(row[24]),
    )


def execution_row(execution: Execution, fee: Value) -> Sequence[Value]:
    """As EXECUTION_COLUMNS."""
    return (
        execution.order_id,
        execution.trade_id,
        execution.account_id,
        execution.market_id,
        execution.client_order_id,
        int(execution.buys),
        execution.price_ticks,
        execution.quantity_lots,
        fee,
        int(execution.is_maker),
        execution.settlement_sequence,
        execution.event_sequence,
        execution.event_ns,
    )


def execution_of(row: Row) -> Execution:
    """A row of EXECUTION_COLUMNS."""
    return Execution(
        order_id=row[0],
        trade_id=row[1],
        account_id=row[2],
        market_id=row[3],
        client_order_id=row[4],
        buys=bool(row[5]),
        price_ticks=row[6],
        quantity_lots=row[7],
        fee=int(row[8]),
        is_maker=bool(row[9]),
        settlement_sequence=row[10],
        event_sequence=row[11],
        event_ns=row[12],
    )


def movement_row(movement: Movement, amount: Value) -> Sequence[Value]:
    """As MOVEMENT_COLUMNS."""
    return (
        movement.transfer_id,
        movement.kind.value,
        movement.state.value,
        movement.from_account_id,
        movement.to_account_id,
        movement.asset_id,
        amount,
        movement.create_sequence,
        movement.create_ns,
        movement.event_sequence,
        movement.event_ns,
        movement.settlement_sequence,
        movement.withdrawal_id,
        movement.address,
        movement.reason,
        movement.transaction_hash,
        movement.release_ns,
    )


def movement_of(row: Row) -> Movement:
    """A row of MOVEMENT_COLUMNS."""
    return Movement(
        transfer_id=row[0],
        kind=MovementKind(row[1]),
        state=MovementState(row[2]),
        from_account_id=row[3],
        to_account_id=row[4],
        asset_id=row[5],
        amount=int(row[6]),
        create_sequence=row[7],
        create_ns=row[8],
        event_sequence=row[9],
        event_ns=row[10],
        settlement_sequence=row[11],
        withdrawal_id=row[12],
        address=row[13],
        reason=row[14],
        transaction_hash=row[15],
        release_ns=row[16],
    )


def market_row(made: MarketCreated, notional_min: Value) -> Sequence[Value]:
    """A market as it was made."""
    parts = (made.market_id, made.symbol, made.base_asset_id, made.quote_asset_id, made.tick_size, made.lot_size)
    return (*parts, notional_min, made.state.value, stored(made.rules))


def market_of(row: Row) -> MarketCreated:
    """A market, by a row of all its columns."""
    market_id, symbol, base_asset_id, quote_asset_id, tick_size, lot_size, notional_min, state, rules = row
    parts = (market_id, symbol, base_asset_id, quote_asset_id, tick_size, lot_size)
    return MarketCreated(*parts, int(notional_min), MarketState(state), of_stored(rules))
