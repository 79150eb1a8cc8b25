"""The rules of trading: what one event of the journal does to balances and orders. Pure. (movements.py has the rest.)

Every rule gives postings in double entry: for each asset they sum to zero. A disagreement with the engine about an
amount is a bug somewhere, so it is an assertion: the process stops before it believes a wrong sum.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, final

from mypy_extensions import mypyc_attr

from services.order_gateway.fees import net_of_fee
from services.order_gateway.model import (
    CancelCause,
    Execution,
    Movement,
    Order,
    OrderCanceled,
    OrderPlaced,
    OrdersChanged,
    OrderState,
    SelfTradeMode,
    Trade,
)
from services.records import Record, replaced
from services.units import FEES_ACCOUNT, Market


class PostingKind(IntEnum):
    """What a posting is part of. The numbers are stored, and those of the public proto."""

    TRADE = 1
    FEE = 2
    TRANSFER = 3
    DEPOSIT = 4
    WITHDRAWAL = 5


_TRADE: Final = PostingKind.TRADE
_FEE: Final = PostingKind.FEE
_OPEN: Final = OrderState.OPEN
_FILLED: Final = OrderState.FILLED
_CANCELED: Final = OrderState.CANCELED
_NO_CAUSE: Final = CancelCause.NONE
"""To look a member of an Enum up takes longer than all that is done with it here."""


@final
@mypyc_attr(acyclic=True)
class Posting(Record):
    """So much more (or less) of an asset in an account, in base units.

    Attributes:
        settlement_sequence: under which the chain mirrors it; 0: it came from there.
    """

    __match_args__ = ("account_id", "asset_id", "amount", "kind", "settlement_sequence")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        asset_id: int,
        amount: int,
        kind: PostingKind,
        settlement_sequence: int = 0,
    ) -> None:
        self.account_id = account_id
        self.asset_id = asset_id
        self.amount = amount
        self.kind = kind
        self.settlement_sequence = settlement_sequence


@dataclass(frozen=True, slots=True)
class Entry:
    """A posting as it was written: which event's, in which place among its postings, from 0, and when."""

    journal_sequence: int
    line: int
    asset_id: int
    amount: int
    kind: PostingKind
    time_ns: int


class Renamed(NamedTuple):
    """A replace gave an order another client_order_id: what it was called before."""

    account_id: int
    client_order_id: str
    order_id: int


@final
@mypyc_attr(acyclic=True)
class Effects(Record):
    """What one event does: postings; orders and movements as they are after it; both sides of each trade.

    Attributes:
        settled: (account_id, asset_id) of the balances whose unsettled part changed because entries became final.
        final: open withdrawals and transfers whose entry became final.
    """

    __match_args__ = ("postings", "orders", "executions", "movements", "settled", "final", "renamed")
    __slots__ = __match_args__

    def __init__(
        self,
        postings: Sequence[Posting] = (),
        orders: Sequence[Order] = (),
        executions: Sequence[Execution] = (),
        movements: Sequence[Movement] = (),
        settled: Sequence[tuple[int, int]] = (),
        final: Sequence[Movement] = (),
        renamed: Sequence[Renamed] = (),
    ) -> None:
        self.postings = postings
        self.orders = orders
        self.executions = executions
        self.movements = movements
        self.settled = settled
        self.final = final
        self.renamed = renamed

    def order(self, order_id: int) -> Order | None:
        """An order as it is after the event; None if the event has nothing of it."""
        return next((order for order in self.orders if order.order_id == order_id), None)

    def traded(self, order_id: int) -> Iterator[Execution]:
        """An order's sides of the event's trades."""
        return (execution for execution in self.executions if execution.order_id == order_id)


def placed(event: OrderPlaced, market: Market, resting: Mapping[int, Order]) -> Effects:
    """An order was taken, with all of its trades.

    Args:
        event: with the taker after all trades.
        market: the order's.
        resting: open orders by id, the makers among them.
    """
    taker = event.order
    assert taker.is_open or taker.lock == 0, f"{taker} ended and still locks"
    if not event.trades:
        assert taker.filled_lots == 0, f"{taker} does not add up"
        return Effects((), (taker,))
    assert sum([trade.quantity_lots for trade in event.trades]) == taker.filled_lots, f"{taker} does not add up"
    assert taker.filled_lots <= taker.quantity_lots, f"{taker} is overfilled"
    moved = _Moved([], [])
    makers: dict[int, Order] = {}
    for trade in event.trades:
        maker = makers.get(trade.maker_order_id) or resting[trade.maker_order_id]
        assert trade.price_ticks == maker.price_ticks, f"{trade} is not at the maker's price {maker.price_ticks}"
        makers[maker.order_id] = _trade(moved, trade, taker, maker, market)
    return Effects(moved.postings, (*makers.values(), taker), moved.executions)


def changed(event: OrdersChanged, markets: Mapping[int, Market], known: Mapping[int, Order]) -> Effects:
    """Orders changed, one because of another: each step in turn, all of it as one.

    Args:
        event: each order in it as new, with what the step alone brought it.
        markets: all of them, by id.
        known: open orders by id.
    """
    moved, now, renamed, asked = _Moved([], []), dict[int, Order](), list[Renamed](), dict[int, Order]()
    for step in event.steps:
        said, trades = step.order, step.trades
        before = now.get(said.order_id) or known.get(said.order_id)
        if before is not None and before.client_order_id != said.client_order_id:
            renamed.append(Renamed(before.account_id, before.client_order_id, before.order_id))
        if before is None:
            asked[said.order_id] = said
        taker = _after_step(said, before, trades)
        # Who rests already trades in an auction, at one price for all.
        auction = before is not None and before.rests and before.price_ticks == taker.price_ticks
        for trade in trades:
            maker = now.get(trade.maker_order_id) or known[trade.maker_order_id]
            assert auction or trade.price_ticks == maker.price_ticks, f"{trade} is not at the price of {maker}"
            now[maker.order_id] = _trade(moved, trade, taker, maker, markets[taker.market_id])
        now[taker.order_id] = taker
    orders = [
        replaced(order, first=order.as_first(asked[order.order_id])) if order.order_id in asked else order
        for order in now.values()
    ]
    return Effects(moved.postings, orders, moved.executions, renamed=renamed)


def canceled(event: OrderCanceled, before: Order, sequence: int, time_ns: int) -> Effects:
    """An order was canceled on request: it keeps what it traded and sets nothing aside any more."""
    assert before.filled_lots == event.filled_lots, f"{before} was canceled with {event.filled_lots} lots filled"
    after = before.changed(before.filled_lots, before.filled_quote, _CANCELED, event.cause, 0, 0, sequence, time_ns)
    return Effects(orders=(after,))


def sums_to_zero(postings: Iterable[Posting]) -> bool:
    """Whether each asset's postings cancel out."""
    sums: dict[int, int] = {}
    for posting in postings:
        sums[posting.asset_id] = sums.get(posting.asset_id, 0) + posting.amount
    return not any(sums.values())


def _after_step(said: Order, before: Order | None, trades: Iterable[Trade]) -> Order:
    """An order after a step: what the event says of it, and what it was before."""
    lots = sum([trade.quantity_lots for trade in trades])
    assert said.filled_lots <= said.quantity_lots, f"{said} is overfilled"
    assert said.is_open or said.lock == 0, f"{said} ended and still locks"
    if before is None:
        assert lots == said.filled_lots, f"{said} does not add up"
        return replaced(said, hidden_lots=_hidden(said, None, lots))
    assert before.filled_lots + lots == said.filled_lots, f"{said} does not add up with {before}"
    whose = (before.account_id, before.market_id, before.buys, before.limit, before.terms)
    assert whose == (said.account_id, said.market_id, said.buys, said.limit, said.terms), f"{said} was {before}"
    first = before.first
    if first is None and (before.price_ticks, before.quantity_lots) != (said.price_ticks, said.quantity_lots):
        first = before.as_open()
    return replaced(
        said,
        filled_quote=before.filled_quote + said.filled_quote,
        create_sequence=before.create_sequence,
        create_ns=before.create_ns,
        hidden_lots=_hidden(said, before, lots),
        first=first,
    )


def _hidden(said: Order, before: Order | None, traded_lots: int) -> int:
    """What an iceberg does not show after a step."""
    if said.terms is None or not said.terms.display_lots or not said.rests:
        return 0
    if before is not None and before.rests and before.price_ticks == said.price_ticks:
        if traded_lots:  # in an auction
            return _hidden_after(before, traded_lots)
        if said.quantity_lots <= before.quantity_lots:  # it keeps its place, and loses what is hidden first
            return max(before.hidden_lots - (before.quantity_lots - said.quantity_lots), 0)
    return max(said.remaining_lots - said.terms.display_lots, 0)


def _hidden_after(before: Order, traded_lots: int) -> int:
    """What an iceberg does not show after a part of what it showed has traded: once that is all gone, it shows more."""
    if not before.hidden_lots or before.shown_lots > traded_lots:
        return before.hidden_lots
    assert before.terms is not None, f"{before} hides something and is no iceberg"
    assert before.shown_lots == traded_lots, f"{before} cannot trade {traded_lots} lots at once"
    return max(before.hidden_lots - before.terms.display_lots, 0)


class _Moved(NamedTuple):
    """What trades move, so far."""

    postings: list[Posting]
    executions: list[Execution]


def _trade(moved: _Moved, trade: Trade, taker: Order, maker: Order, market: Market) -> Order:
    """Notes what a trade moves; returns the maker after it."""
    _check(trade, taker, maker, market)
    moved.postings.extend(_exchange(trade, taker, maker, market))
    moved.executions.append(_execution(trade, taker, trade.taker_fee, taker, is_maker=False))
    moved.executions.append(_execution(trade, maker, trade.maker_fee, taker, is_maker=True))
    return _maker_after(maker, trade, taker)


def _exchange(trade: Trade, taker: Order, maker: Order, market: Market) -> list[Posting]:
    """The seller gives base, the buyer quote; each receives the other, less a fee of what it receives."""
    buyer, seller = (taker, maker) if taker.buys else (maker, taker)
    buyer_fee, seller_fee = (trade.taker_fee, trade.maker_fee) if taker.buys else (trade.maker_fee, trade.taker_fee)
    base, quote, number = market.base.asset_id, market.quote.asset_id, trade.settlement_sequence
    postings = [
        Posting(seller.account_id, base, -trade.base_amount, _TRADE, number),
        Posting(buyer.account_id, base, trade.base_amount - buyer_fee, _TRADE, number),
        Posting(buyer.account_id, quote, -trade.quote_amount, _TRADE, number),
        Posting(seller.account_id, quote, trade.quote_amount - seller_fee, _TRADE, number),
    ]
    if buyer_fee:
        postings.append(Posting(FEES_ACCOUNT, base, buyer_fee, _FEE, number))
    if seller_fee:
        postings.append(Posting(FEES_ACCOUNT, quote, seller_fee, _FEE, number))
    return postings


def _check(trade: Trade, taker: Order, maker: Order, market: Market) -> None:
    """What must hold of every trade, whoever says so."""
    lots, ticks = trade.quantity_lots, trade.price_ticks
    assert lots > 0, f"trade {trade.trade_id} of {market.symbol} has no quantity"
    assert maker.account_id == trade.maker_account_id, f"{trade}: order {maker.order_id} is of {maker.account_id}"
    if maker.account_id == taker.account_id:
        assert taker.self_trade is SelfTradeMode.ALLOW, f"{trade} is a self-trade"
    assert maker.market_id == taker.market_id, f"{trade} joins two markets"
    assert maker.buys != taker.buys, f"{trade} joins two orders of one side"
    assert maker.rests, f"{trade} is with an order that is not in the book"
    assert ticks <= maker.price_ticks if maker.buys else ticks >= maker.price_ticks, f"{trade} is beyond {maker}"
    assert maker.remaining_lots - lots == trade.maker_remaining_lots >= 0, f"{trade} does not fit {maker}"
    if taker.limit:
        assert ticks <= taker.price_ticks if taker.buys else ticks >= taker.price_ticks, f"{trade} is beyond {taker}"
    assert trade.base_amount == market.base_amount(lots), f"{trade} has another base amount"
    assert trade.quote_amount == market.quote_amount(ticks, lots), f"{trade} has another quote amount"
    of_taker, of_maker = (
        (trade.base_amount, trade.quote_amount) if taker.buys else (trade.quote_amount, trade.base_amount)
    )
    assert net_of_fee(of_taker, taker.taker_fee_ppm)[1] == trade.taker_fee, f"{trade} has another taker fee"
    assert net_of_fee(of_maker, maker.maker_fee_ppm)[1] == trade.maker_fee, f"{trade} has another maker fee"


def _maker_after(maker: Order, trade: Trade, taker: Order) -> Order:
    filled = trade.maker_remaining_lots == 0
    assert not (filled and trade.maker_lock), f"{trade} leaves a lock on a filled order"
    return maker.changed(
        maker.filled_lots + trade.quantity_lots,
        maker.filled_quote + trade.quote_amount,
        _FILLED if filled else _OPEN,
        _NO_CAUSE,
        trade.maker_lock,
        _hidden_after(maker, trade.quantity_lots) if maker.hidden_lots else 0,
        taker.event_sequence,
        taker.event_ns,
    )


def _execution(trade: Trade, mine: Order, fee: int, taker: Order, *, is_maker: bool) -> Execution:
    return Execution(
        trade_id=trade.trade_id,
        market_id=mine.market_id,
        order_id=mine.order_id,
        account_id=mine.account_id,
        client_order_id=mine.client_order_id,
        buys=mine.buys,
        price_ticks=trade.price_ticks,
        quantity_lots=trade.quantity_lots,
        fee=fee,
        is_maker=is_maker,
        settlement_sequence=trade.settlement_sequence,
        event_sequence=taker.event_sequence,
        event_ns=taker.event_ns,
    )
