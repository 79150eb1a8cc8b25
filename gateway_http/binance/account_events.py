"""What StreamAccount tells, as the events of Binance's user data stream: executionReport and the like."""

from collections.abc import Iterable
from typing import Any, Final

from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import order_service_pb2 as order_pb

from gateway_http.binance.numbers import padded, product, total
from gateway_http.binance.order_words import (
    NO_LIST,
    ended_how,
    prevention_of,
    side_of,
    status_of,
    time_of,
    type_of,
)
from gateway_http.binance.symbols import Symbols

NO_TRADE: Final = -1
ZERO: Final = padded("")
MOVED: Final = {
    account_pb.TRANSFER_KIND_DEPOSIT: account_pb.TRANSFER_STATE_DONE,
    account_pb.TRANSFER_KIND_WITHDRAWAL: account_pb.TRANSFER_STATE_APPROVED,
    account_pb.TRANSFER_KIND_RECEIVED: account_pb.TRANSFER_STATE_PENDING,
    account_pb.TRANSFER_KIND_SENT: account_pb.TRANSFER_STATE_PENDING,
    account_pb.TRANSFER_KIND_ADJUSTMENT: account_pb.TRANSFER_STATE_PENDING,
}
"""By kind of transfer, the state in which it is told that the balance has changed: once."""

Words = dict[str, Any]


class AccountEvents:
    """One reader's account: what was open when it was told last, so that each change can be told as what it is."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._open: dict[str, order_pb.Order] = {}
        self._pending = account_pb.StreamAccountResponse()

    def of(self, message: account_pb.StreamAccountResponse, symbols: Symbols, now: int) -> list[Words]:
        """The events of the next message; none for the state at the beginning, and while the rest of one is to come.

        Args:
            message: of StreamAccount.
            symbols: the markets' symbols.
            now: milliseconds since the epoch.
        """
        self._pending.MergeFrom(message)
        if not message.index and (message.orders or message.balances or message.executions or message.transfers):
            return []
        whole, self._pending = self._pending, account_pb.StreamAccountResponse()
        if whole.snapshot:
            self._open = {order.order_id: order for order in whole.orders}
            return []
        events = [event for order in whole.orders for event in self._changed(order, whole.executions, symbols, now)]
        events += _balances(whole, now)
        return events

    def _changed(
        self, order: order_pb.Order, executions: Iterable[order_pb.Execution], symbols: Symbols, now: int
    ) -> Iterable[Words]:
        """What became of one order, step by step: it was taken, it traded, it ended."""
        before = self._open.pop(order.order_id, None)
        ended = order.state in {order_pb.ORDER_STATE_FILLED, order_pb.ORDER_STATE_CANCELED}
        if not ended:
            self._open[order.order_id] = order
        filled, quote = (before.filled_quantity, before.filled_quote) if before is not None else ("0", "0")
        words = _report(order, symbols, now)
        traded = [part for part in executions if part.order_id == order.order_id]
        if before is None:
            yield words | _step("NEW", "NEW", filled, quote)
        elif not (traded or ended):
            released = before.state != order.state
            yield words | _step("NEW" if released else "REPLACED", status_of(order), filled, quote)
        for part in sorted(traded, key=lambda part: part.trade_id):
            filled, quote = total(filled or "0", part.quantity), total(quote or "0", product(part.price, part.quantity))
            whole = filled == padded(order.quantity)
            yield words | _step("TRADE", "FILLED" if whole else "PARTIALLY_FILLED", filled, quote) | _trade(part)
        if order.state == order_pb.ORDER_STATE_CANCELED:
            how = ended_how(order)
            kind = "CANCELED" if how == "CANCELED" else "TRADE_PREVENTION" if how == "EXPIRED_IN_MATCH" else "EXPIRED"
            yield words | _step(kind, how, order.filled_quantity, order.filled_quote)


def _report(order: order_pb.Order, symbols: Symbols, now: int) -> Words:
    """What all reports of an order have in common."""
    waits = order.state == order_pb.ORDER_STATE_WAITING
    report = {
        "e": "executionReport",
        "E": now,
        "s": symbols.symbol(order.market),
        "c": order.client_order_id,
        "S": side_of(order.side),
        "o": type_of(order),
        "f": time_of(order),
        "q": padded(order.quantity),
        "p": padded(order.price),
        "P": padded(order.trigger_price),
        "F": padded(order.display_quantity),
        "g": NO_LIST,
        "C": order.client_order_id if order.state == order_pb.ORDER_STATE_CANCELED else "",
        "r": "NONE",
        "i": int(order.order_id),
        "T": order.event_time.ToMilliseconds(),
        "I": int(order.order_id),
        "w": order.state == order_pb.ORDER_STATE_OPEN,
        "M": False,
        "O": order.create_time.ToMilliseconds(),
        "Q": padded(order.quote_budget),
        "V": prevention_of(order),
    }
    return report if waits else report | {"W": order.create_time.ToMilliseconds()}


def _step(kind: str, status: str, filled: str, quote: str) -> Words:
    """What happened, and how much had traded by then."""
    nothing = {"l": ZERO, "L": ZERO, "n": "0", "N": None, "t": NO_TRADE, "m": False, "Y": ZERO}
    return {"x": kind, "X": status, "z": padded(filled), "Z": padded(quote), **nothing}


def _trade(part: order_pb.Execution) -> Words:
    return {
        "l": padded(part.quantity),
        "L": padded(part.price),
        "n": padded(part.fee),
        "N": part.fee_asset,
        "t": part.trade_id,
        "m": part.is_maker,
        "Y": product(part.price, part.quantity),
        "T": part.event_time.ToMilliseconds(),
    }


def _balances(message: account_pb.StreamAccountResponse, now: int) -> Iterable[Words]:
    if message.balances:
        balances = [{"a": each.asset, "f": padded(each.available), "l": padded(each.held)} for each in message.balances]
        yield {"e": "outboundAccountPosition", "E": now, "u": now, "B": balances}
    for transfer in message.transfers:
        if MOVED.get(transfer.kind) == transfer.state:
            amount = padded(transfer.amount)
            yield {
                "e": "balanceUpdate",
                "E": now,
                "a": transfer.asset,
                "d": f"-{amount}" if transfer.outgoing else amount,
                "T": transfer.event_time.ToMilliseconds(),
            }
