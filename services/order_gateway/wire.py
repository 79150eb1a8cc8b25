"""Between the protos and the gateway's own values: journal events in, commands out, public requests in, answers out.

What a client sends is judged here field by field: whatever cannot be read is Rejected naming its field.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clearbook.internal.v1 import forward_service_pb2 as forward_pb
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import matching_service_pb2 as matching
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import order_service_pb2 as order_pb
from clearbook.v1 import settlement_service_pb2 as settlement_pb
from google.protobuf.timestamp_pb2 import Timestamp

from services import protobuf
from services.allow_list import AllowList
from services.errors import Reason, Rejected, no_such_market
from services.market_rules import MarketRules, MarketState
from services.order_gateway import encoding, model, terms_wire
from services.order_gateway.model import CancelCause, Execution, Order, OrderState, Placement, TimeInForce
from services.order_gateway.paging import NS_PER_SECOND
from services.order_gateway.views import Update
from services.records import replaced
from services.units import INT64_MAX, Asset, FixedPoint, Market, market_of
from services.withdrawal_rules import AMOUNTS, WithdrawalRules

CLIENT_ORDER_ID_CHARS_MAX = 64
SYMBOL_CHARS_MAX = 16
DECIMALS_DEFAULT = 18
DECIMALS_MAX = 36
AMOUNT_MAX = 2**256 - 1
"""No amount asked for is larger: the chain could not hold it."""

_is_client_order_id = re.compile(rf"[!-~]{{1,{CLIENT_ORDER_ID_CHARS_MAX}}}", re.ASCII).fullmatch
_SYMBOL = re.compile(rf"[A-Z0-9]{{1,{SYMBOL_CHARS_MAX}}}", re.ASCII)
_ORDER_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)

Markets = Mapping[str, Market]


def invalid(field: str, what: str) -> Rejected:
    """The refusal of a field; `what` is wrong with it follows its name."""
    return Rejected(Reason.INVALID_FIELD, f"{field} {what}", field)


def shown(text: str, chars_max: int = 40) -> str:
    """What a client sent, fit for a message."""
    return repr(text if len(text) <= chars_max else text[:chars_max] + "…")


# The journal, in.


def event_row(message: matching.StreamEventsResponse) -> model.EventRow:
    """One message of StreamEvents. Raises DecodeError: its events are damaged."""
    time_ns = message.time_ns
    read = _events_by_hand if encoding.BY_HAND else _events
    return model.EventRow(
        message.first_journal_sequence,
        message.last_journal_sequence,
        time_ns,
        message.incarnation,
        tuple(read(message.events, time_ns)),
    )


def _events(batch: bytes, time_ns: int) -> list[model.Event]:
    return [_event(event, time_ns) for event in journal.EventBatch.FromString(batch).events]


def _events_by_hand(batch: bytes, time_ns: int) -> list[model.Event]:
    """As _events; whatever is not plain is read there."""
    try:
        read = encoding.events(batch, time_ns)
        return [_events(event, time_ns)[0] if isinstance(event, bytes) else event for event in read]
    except (IndexError, ValueError):  # what is damaged: what to make of it is protobuf's to say
        return _events(batch, time_ns)


def _event(message: journal.Event, time_ns: int) -> model.Event:
    kind = message.WhichOneof("kind")
    assert kind is not None, f"event {message.journal_sequence} is of a kind unknown here: this gateway is too old"
    if kind == "order_placed":
        body: model.EventBody = _order_placed(message.order_placed, message.journal_sequence, time_ns)
    elif kind == "orders_changed":
        body = _orders_changed(message.orders_changed, message.journal_sequence, time_ns)
    else:
        read = _EVENTS.get(kind)
        body = read(getattr(message, kind)) if read is not None else model.Unrelated()
    return model.Event(message.journal_sequence, message.command_id, body)


def _order_placed(message: journal.OrderPlaced, sequence: int, time_ns: int) -> model.OrderPlaced:
    trades = tuple([_trade(trade) for trade in message.trades])
    order = _order(message.order, trades, sequence, time_ns)
    if order.terms:
        order = replaced(order, first=order.as_first())
    return model.OrderPlaced(order, trades)


def _orders_changed(message: journal.OrdersChanged, sequence: int, time_ns: int) -> model.OrdersChanged:
    steps = []
    for step in message.steps:
        trades = tuple([_trade(trade) for trade in step.trades])
        steps.append(model.OrderChanged(_order(step.order, trades, sequence, time_ns), trades))
    books = []
    for book in message.books:
        levels = [(level.side == journal.SIDE_BUY, level.price_ticks, level.lots) for level in book.levels]
        books.append(model.BookLevels(book.market_id, tuple(levels)))
    market = _market_changed(message.market) if message.HasField("market") else None
    return model.OrdersChanged(tuple(steps), tuple(books), message.refused.reason, market, message.more)


def _market_changed(message: journal.Market) -> model.MarketChanged:
    return model.MarketChanged(message.market_id, MarketState(message.state), _rules(message))


def _rules(m: journal.Market) -> MarketRules | None:
    rules = m.rules
    return (
        MarketRules(
            rules.quantity_min_lots,
            rules.quantity_max_lots,
            int(rules.notional_max or 0),
            rules.band_ppm,
            int(rules.notional_min or 0),
            rules.open_orders_max,
            rules.reference_age_max_seconds,
            rules.signed_orders,
        )
        if m.HasField("rules")
        else None
    )


def _order(m: journal.Order, trades: Sequence[model.Trade], sequence: int, time_ns: int) -> Order:
    """An order as an event tells it: as if it were new, with what these trades alone brought it."""
    budget = m.budget
    return Order(
        m.order_id,
        m.account_id,
        m.market_id,
        m.side == journal.SIDE_BUY,
        m.type == journal.ORDER_TYPE_LIMIT,
        _TIMES[m.time_in_force],
        m.post_only,
        m.price_ticks,
        m.quantity_lots,
        int(budget) if budget else 0,
        m.client_order_id,
        m.maker_fee_ppm,
        m.taker_fee_ppm,
        m.filled_lots,
        sum([trade.quote_amount for trade in trades]) if trades else 0,
        _STATES[m.state],
        _CAUSES[m.cancel_cause],
        int(m.lock_remaining or 0),
        sequence,
        time_ns,
        sequence,
        time_ns,
        0,
        terms_wire.read(m.terms) if m.HasField("terms") else None,
        None,
    )


def _trade(m: journal.Trade) -> model.Trade:
    return model.Trade(
        trade_id=m.trade_id,
        settlement_sequence=m.settlement_sequence,
        price_ticks=m.price_ticks,
        quantity_lots=m.quantity_lots,
        base_amount=int(m.base_amount),
        quote_amount=int(m.quote_amount),
        maker_order_id=m.maker_order_id,
        maker_account_id=m.maker_account_id,
        maker_fee=int(m.maker_fee or 0),
        taker_fee=int(m.taker_fee or 0),
        maker_remaining_lots=m.maker_remaining_lots,
        maker_lock=int(m.maker_lock_remaining or 0),
    )


def _market_created(message: journal.MarketCreated) -> model.MarketCreated:
    m = message.market
    return model.MarketCreated(
        market_id=m.market_id,
        symbol=m.symbol,
        base_asset_id=m.base_asset_id,
        quote_asset_id=m.quote_asset_id,
        tick_size=m.tick_size,
        lot_size=m.lot_size,
        notional_min=int(m.notional_min or 0),
        state=MarketState(m.state),
        rules=_rules(m),
    )


def _transferred(message: journal.Transferred) -> model.Transferred:
    m = message.transfer
    move = model.Transfer(m.transfer_id, m.from_account_id, m.to_account_id, m.asset_id, int(m.amount), m.reason)
    return model.Transferred(move, message.settlement_sequence)


def _deposited(message: journal.Deposited) -> model.Deposited:
    m = message.deposit
    account_id = message.credited_account_id or m.account_id
    return model.Deposited(
        m.deposit_index, account_id, message.asset_id, int(m.amount), m.transaction_hash, message.settlement_sequence
    )


def _withdrawal(message: journal.Withdrawal) -> tuple[int, model.RequestWithdrawal]:
    m = message.request
    asked = model.RequestWithdrawal(m.transfer_id, m.account_id, m.asset_id, int(m.amount), m.address)
    return message.withdrawal_id, asked


def _withdrawal_rules_set(message: journal.WithdrawalRulesSet) -> model.WithdrawalRulesSet:
    m = message.rules
    amounts = {name: int(getattr(m, name) or 0) for name in AMOUNTS}
    return model.WithdrawalRulesSet(message.asset_id, WithdrawalRules(**amounts, cooling_seconds=m.cooling_seconds))


def _allow_list_changed(m: journal.AllowListChanged) -> model.AllowListChanged:
    addresses = tuple((each.address, each.usable_ns) for each in m.addresses)
    return model.AllowListChanged(m.account_id, AllowList(addresses, m.only, m.off_ns))


def _claimed(message: journal.Claimed) -> model.Claimed:
    m = message.claim
    return model.Claimed(
        m.address, message.asset_id, int(m.amount), m.exit_account_id, m.claim_index, m.transaction_hash
    )


def _debt_noted(message: journal.DebtNoted) -> model.DebtNoted:
    m = message.note
    return model.DebtNoted(m.debt_id, model.DebtState(m.state), m.account_id, message.asset_id, int(m.amount), m.reason)


_EVENTS: dict[str, Callable[[Any], model.EventBody]] = {
    "order_canceled": lambda m: model.OrderCanceled(
        m.order.order_id, m.order.filled_lots, CancelCause(m.order.cancel_cause)
    ),
    "refused": lambda m: model.Refused(m.reason),
    "account_opened": lambda m: model.AccountOpened(m.account_id, m.name),
    "transferred": _transferred,
    "deposited": _deposited,
    "withdrawal_requested": lambda m: model.WithdrawalRequested(*_withdrawal(m.withdrawal), m.withdrawal.release_ns),
    "withdrawal_cleared": lambda m: model.WithdrawalCleared(m.withdrawal.withdrawal_id, m.withdrawal.release_ns),
    "withdrawal_rules_set": _withdrawal_rules_set,
    "allow_list_changed": _allow_list_changed,
    "withdrawal_approved": lambda m: model.WithdrawalApproved(*_withdrawal(m.withdrawal), m.settlement_sequence),
    "withdrawal_canceled": lambda m: model.WithdrawalCanceled(m.withdrawal.withdrawal_id, m.reason),
    "claimed": _claimed,
    "exit_requested": lambda m: model.ExitRequested(m.request.account_id, m.request.canceled),
    "debt_noted": _debt_noted,
    "settlement_finalized": lambda m: model.SettlementFinalized(m.through_settlement_sequence),
    "asset_created": lambda m: model.AssetCreated(Asset(m.asset.asset_id, m.asset.symbol, m.asset.decimals)),
    "market_created": _market_created,
    "market_changed": lambda m: _market_changed(m.market),
    "cancel_after_set": lambda m: model.CancelAfterSet(m.deadline_ns),
    "trading_defaults_set": lambda m: model.TradingDefaultsSet(m.account_id, model.SelfTradeMode(m.self_trade)),
    "reference_price_set": lambda m: model.ReferencePriceSet(m.market_id, m.price_ticks, m.observed_ns),
    "session_opened": lambda m: model.SessionOpened(m.gateway, m.epoch),
}


# Commands, out.


def submit_request(commands: Sequence[tuple[int, model.CommandBody]]) -> bytes:
    """One message of Submit, a serialized SubmitRequest, of (command_id, what is asked)."""
    if not encoding.BY_HAND:
        return b"".join([_command(*command) for command in commands])
    each = zip(commands, encoding.commands(commands), strict=True)
    return b"".join([_command(*command) if plain is None else plain for command, plain in each])


def _command(command_id: int, body: model.CommandBody) -> bytes:
    """As one of SubmitRequest.commands."""
    message = journal.Command(command_id=command_id)
    _COMMANDS[type(body)](message, body)
    return protobuf.element(message.SerializeToString())


def _write_place(message: journal.Command, body: model.PlaceOrder) -> None:
    _write_order(message.place_order, body)


def _write_group(message: journal.Command, body: model.PlaceGroup) -> None:
    part, exits = message.place_group, body.orders
    if body.has_entry:
        _write_order(part.entry, body.orders[0])
        exits = body.orders[1:]
    for order in exits:
        _write_order(part.exits.add(), order)


def _write_order(part: journal.PlaceOrder, body: model.PlaceOrder) -> None:
    asked = body.placement
    part.account_id = body.account_id
    part.market_id = asked.market.market_id
    part.side = journal.SIDE_BUY if asked.buys else journal.SIDE_SELL
    part.type = journal.ORDER_TYPE_LIMIT if asked.limit else journal.ORDER_TYPE_MARKET
    part.time_in_force = int(asked.time_in_force)  # type: ignore[assignment]  # the numbers are the proto's
    if asked.post_only:
        part.post_only = True
    part.price_ticks = asked.price_ticks
    part.quantity_lots = asked.quantity_lots
    if body.budget:
        part.budget = str(body.budget)
    part.client_order_id = body.client_order_id
    part.maker_fee_ppm = body.maker_fee_ppm
    part.taker_fee_ppm = body.taker_fee_ppm
    if asked.terms is not None:
        terms_wire.write(part.terms, asked.terms)


def _write_cancel(message: journal.Command, body: model.CancelOrder) -> None:
    message.cancel_order.account_id = body.account_id
    message.cancel_order.order_id = body.order_id
    message.cancel_order.cause = body.cause.value  # type: ignore[assignment]


def _write_cancels(message: journal.Command, body: model.CancelOrders) -> None:
    part = message.cancel_orders
    part.account_id = body.account_id
    part.market_id = body.market_id
    if body.buys is not None:
        part.side = journal.SIDE_BUY if body.buys else journal.SIDE_SELL
    part.cause = body.cause.value  # type: ignore[assignment]


def _write_replace(message: journal.Command, body: model.ReplaceOrder) -> None:
    part = message.replace_order
    part.account_id = body.account_id
    part.order_id = body.order_id
    part.price_ticks = body.price_ticks
    part.quantity_lots = body.quantity_lots
    part.growth_max = str(body.growth_max)
    part.client_order_id = body.client_order_id


def _write_cancel_after(message: journal.Command, body: model.CancelAfter) -> None:
    part = message.cancel_after
    part.account_id, part.market_id, part.seconds = body.account_id, body.market_id, body.seconds


def _write_defaults(message: journal.Command, body: model.SetTradingDefaults) -> None:
    message.set_trading_defaults.account_id = body.account_id
    message.set_trading_defaults.self_trade = body.self_trade.value  # type: ignore[assignment]


def _write_open(message: journal.Command, body: model.OpenAccount) -> None:
    message.open_account.name = body.name


def _write_transfer(message: journal.Command, body: model.Transfer) -> None:
    part = message.transfer
    part.transfer_id = body.transfer_id
    part.from_account_id = body.from_account_id
    part.to_account_id = body.to_account_id
    part.asset_id = body.asset_id
    part.amount = str(body.amount)
    part.reason = body.reason


def _write_withdrawal(message: journal.Command, body: model.RequestWithdrawal) -> None:
    part = message.request_withdrawal
    part.transfer_id = body.transfer_id
    part.account_id = body.account_id
    part.asset_id = body.asset_id
    part.amount = str(body.amount)
    part.address = body.address


def _write_approval(message: journal.Command, body: model.ApproveWithdrawal) -> None:
    message.approve_withdrawal.withdrawal_id = body.withdrawal_id


def _write_withdrawal_end(message: journal.Command, body: model.CancelWithdrawal) -> None:
    message.cancel_withdrawal.withdrawal_id = body.withdrawal_id
    message.cancel_withdrawal.reason = body.reason


def _write_release(message: journal.Command, body: model.ReleaseWithdrawal) -> None:
    message.release_withdrawal.withdrawal_id = body.withdrawal_id


def _write_withdrawal_rules(message: journal.Command, body: model.SetWithdrawalRules) -> None:
    part, asked = message.set_withdrawal_rules, body.rules
    part.asset_id, part.reason = body.asset_id, body.reason
    rules = part.rules
    for name in AMOUNTS:
        setattr(rules, name, str(getattr(asked, name)))
    rules.cooling_seconds = asked.cooling_seconds


def _write_allow_list(message: journal.Command, body: model.ChangeAllowList) -> None:
    part = message.change_allow_list
    part.account_id = body.account_id
    part.change = body.change.value  # type: ignore[assignment]
    part.address = body.address
    part.delay_seconds = body.delay_seconds


def _write_asset(message: journal.Command, body: model.CreateAsset) -> None:
    message.create_asset.asset.symbol = body.symbol
    message.create_asset.asset.decimals = body.decimals


def _write_market(message: journal.Command, body: model.CreateMarket) -> None:
    part, market = message.create_market.market, body.market
    part.symbol = market.symbol
    part.base_asset_id = market.base.asset_id
    part.quote_asset_id = market.quote.asset_id
    part.tick_size = market.format_price(1)
    part.lot_size = market.format_quantity(1)
    part.notional_min = str(market.notional_min)
    part.state = journal.MARKET_STATE_OPEN


def _write_reference(message: journal.Command, body: model.SetReferencePrice) -> None:
    part = message.set_reference_price
    part.market_id, part.price_ticks = body.market_id, body.price_ticks
    part.source, part.observed_ns = body.source, body.observed_ns


def _write_change(message: journal.Command, body: model.ChangeMarket) -> None:
    part = message.change_market
    part.market_id = body.market_id
    part.reason = body.reason
    if body.state is not None:
        part.state = body.state.value  # type: ignore[assignment]
    if body.rules is not None:
        rules, asked = part.rules, body.rules
        rules.SetInParent()
        rules.quantity_min_lots = asked.quantity_min_lots
        rules.quantity_max_lots = asked.quantity_max_lots
        rules.notional_max = str(asked.notional_max)
        rules.band_ppm = asked.band_ppm
        rules.notional_min = str(asked.notional_min)
        rules.open_orders_max = asked.open_orders_max
        rules.reference_age_max_seconds = asked.reference_age_max_seconds
        rules.signed_orders = asked.signed_orders


_COMMANDS: dict[type, Callable[[journal.Command, Any], None]] = {
    model.PlaceOrder: _write_place,
    model.CancelOrder: _write_cancel,
    model.CancelOrders: _write_cancels,
    model.PlaceGroup: _write_group,
    model.ReplaceOrder: _write_replace,
    model.CancelAfter: _write_cancel_after,
    model.SetTradingDefaults: _write_defaults,
    model.OpenAccount: _write_open,
    model.Transfer: _write_transfer,
    model.RequestWithdrawal: _write_withdrawal,
    model.ApproveWithdrawal: _write_approval,
    model.CancelWithdrawal: _write_withdrawal_end,
    model.ReleaseWithdrawal: _write_release,
    model.SetWithdrawalRules: _write_withdrawal_rules,
    model.ChangeAllowList: _write_allow_list,
    model.CreateAsset: _write_asset,
    model.CreateMarket: _write_market,
    model.ChangeMarket: _write_change,
    model.SetReferencePrice: _write_reference,
}


# OrderService.


_SIDES = frozenset({order_pb.SIDE_BUY, order_pb.SIDE_SELL})
_TYPES = frozenset({order_pb.ORDER_TYPE_LIMIT, order_pb.ORDER_TYPE_MARKET})
# What Enum's own call looks up in three times the time, once for every event.
_TIMES = {item.value: item for item in TimeInForce}
_STATES = {item.value: item for item in OrderState}
_CAUSES = {item.value: item for item in CancelCause}


def placement(request: order_pb.PlaceOrderRequest, markets: Markets) -> Placement:
    """What a PlaceOrder asks for.

    Raises:
        Rejected: MARKET_NOT_FOUND; INVALID_FIELD, INVALID_PRICE, INVALID_QUANTITY, NOTIONAL_TOO_SMALL and what
            terms_wire.terms raises, with the field.
    """
    if (text := request.client_order_id) and not _is_client_order_id(text):
        client_order_id(text)
    market = named_market(request.market, markets)
    side, kind, post_only, price = request.side, request.type, request.post_only, request.price
    if side not in _SIDES:
        raise invalid("side", f"must be SIDE_BUY or SIDE_SELL, not {side}")
    if kind not in _TYPES:
        raise invalid("type", f"must be ORDER_TYPE_LIMIT or ORDER_TYPE_MARKET, not {kind}")
    buys, limit = side == order_pb.SIDE_BUY, kind == order_pb.ORDER_TYPE_LIMIT
    time_in_force = _time_in_force(request.time_in_force, limit=limit)
    if post_only and not (limit and time_in_force not in terms_wire.IMMEDIATE):
        raise invalid("post_only", "is for limit orders that are GTC, GTD or DAY only")
    if price and not limit:
        raise invalid("price", "must be empty for a market order")
    quote_budget = request.quote_budget
    if quote_budget and (limit or not buys):
        raise invalid("quote_budget", "is for market buys only")
    quantity_lots = market.quantity_lots(request.quantity)
    price_ticks = market.price_ticks(price) if limit else 0
    if limit and market.notional_min and market.quote_amount(price_ticks, quantity_lots) < market.notional_min:
        least = f"{market.quote.format(market.notional_min)} {market.quote.symbol}"
        raise Rejected(Reason.NOTIONAL_TOO_SMALL, f"price x quantity is below {least}", "quantity")
    budget = positive_amount(quote_budget, "quote_budget", market.quote) if quote_budget else None
    terms = terms_wire.terms(request, market, time_in_force, quantity_lots, limit=limit)
    return Placement(market, buys, limit, time_in_force, post_only, price_ticks, quantity_lots, budget, terms)


def client_order_id(text: str, field: str = "client_order_id") -> str:
    """Checks the shape of a client's id."""
    if not _is_client_order_id(text):
        raise invalid(
            field,
            f"must be 1 to {CLIENT_ORDER_ID_CHARS_MAX} printable ASCII characters without spaces, not {shown(text)}",
        )
    return text


def named_market(symbol: str, markets: Markets) -> Market:
    """The market of that name. Raises Rejected: INVALID_FIELD if none is named, MARKET_NOT_FOUND."""
    if not symbol:
        raise invalid("market", "is missing")
    market = markets.get(symbol)
    if market is None:
        raise no_such_market(symbol)
    return market


def _time_in_force(number: int, *, limit: bool) -> TimeInForce:
    if number == order_pb.TIME_IN_FORCE_UNSPECIFIED:
        return TimeInForce.GTC if limit else TimeInForce.IOC
    found = _TIMES.get(number)
    if found is None:
        raise invalid("time_in_force", f"has no value {number}")
    if not limit and found not in terms_wire.IMMEDIATE:
        raise invalid("time_in_force", f"{found.name} is for limit orders only")
    return found


def positive_amount(text: str, field: str, asset: Asset) -> int:
    """An amount in whole units as base units. Raises Rejected: INVALID_FIELD unless it is more than zero."""
    amount = asset.parse(text, field)
    if not 0 < amount <= AMOUNT_MAX:
        raise invalid(field, f"must be more than zero and at most 2^256 - 1 base units, not {shown(text)}")
    return amount


def amount_or_zero(text: str, field: str, asset: Asset) -> int:
    """An amount in whole units as base units, zero too. Raises Rejected: INVALID_FIELD."""
    amount = asset.parse(text, field)
    if amount > AMOUNT_MAX:
        raise invalid(field, f"must be at most 2^256 - 1 base units, not {shown(text)}")
    return amount


def replacement(request: order_pb.ReplaceOrderRequest) -> model.Replacement:
    """What a ReplaceOrder asks for.

    Raises:
        Rejected: INVALID_FIELD with the field.
    """
    new_id = request.new_client_order_id
    if not request.price and not request.quantity and not new_id:
        raise invalid("quantity", "is missing, and so is price: at least one must be given")
    if new_id and client_order_id(new_id, "new_client_order_id") == request.client_order_id:
        raise invalid("new_client_order_id", "is what the order is called already")
    return model.Replacement(order_name(request), request.price, request.quantity, new_id)


def order_name(
    request: order_pb.CancelOrderRequest | order_pb.GetOrderRequest | order_pb.ReplaceOrderRequest,
) -> int | str:
    """Which order: our id as an int, or the client's as a str.

    Raises:
        Rejected: INVALID_FIELD unless exactly one of the two is given, well formed.
    """
    if bool(request.order_id) == bool(request.client_order_id):
        raise Rejected(Reason.INVALID_FIELD, "exactly one of order_id and client_order_id must be given", "order_id")
    if request.client_order_id:
        return client_order_id(request.client_order_id)
    return order_id(request.order_id)


def order_id(text: str) -> int:
    """Our id of an order."""
    if _ORDER_ID.fullmatch(text) is None or (number := int(text)) > INT64_MAX:
        raise invalid("order_id", f"is not one of ours: {shown(text)}")
    return number


def market_filter(symbol: str, markets: Markets) -> int | None:
    """The market_id that a request asks for; None: all."""
    return named_market(symbol, markets).market_id if symbol else None


def asset_filter(symbol: str, assets: Mapping[str, Asset]) -> int | None:
    """The asset_id that a request asks for; None: all."""
    return known_asset(symbol, assets, "asset").asset_id if symbol else None


def order(value: Order, market: Market) -> order_pb.Order:
    """An order as clients see it."""
    message = order_pb.Order(
        order_id=str(value.order_id),
        client_order_id=value.client_order_id,
        market=market.symbol,
        side=order_pb.SIDE_BUY if value.buys else order_pb.SIDE_SELL,
        type=order_pb.ORDER_TYPE_LIMIT if value.limit else order_pb.ORDER_TYPE_MARKET,
        time_in_force=value.time_in_force.value,  # type: ignore[arg-type]  # the numbers are the proto's
        post_only=value.post_only,
        price=market.format_price(value.price_ticks) if value.limit else "",
        quantity=market.format_quantity(value.quantity_lots),
        filled_quantity=market.format_quantity(value.filled_lots),
        quote_budget=market.quote.format(value.budget) if value.budget else "",
        filled_quote=market.quote.format(value.filled_quote),
        locked=value.lock_asset(market).format(value.lock),
        state=value.state.value,  # type: ignore[arg-type]
        cancel_cause=value.cause.value,  # type: ignore[arg-type]
    )
    set_time(message.create_time, value.create_ns)
    set_time(message.event_time, value.event_ns)
    terms_wire.tell(message, value, market)
    return message


def execution(value: Execution, market: Market, final_through: int = 0) -> order_pb.Execution:
    """One's side of a trade as clients see it.

    Args:
        value: it.
        market: its market.
        final_through: up to where settlement is final; 0 for an answer that shows it as it was when it happened.
    """
    received = market.base if value.buys else market.quote
    message = order_pb.Execution(
        trade_id=value.trade_id,
        market=market.symbol,
        order_id=str(value.order_id),
        client_order_id=value.client_order_id,
        side=order_pb.SIDE_BUY if value.buys else order_pb.SIDE_SELL,
        price=market.format_price(value.price_ticks),
        quantity=market.format_quantity(value.quantity_lots),
        fee=received.format(value.fee),
        fee_asset=received.symbol,
        is_maker=value.is_maker,
        settlement_sequence=value.settlement_sequence,
        settled=value.settlement_sequence <= final_through,
    )
    set_time(message.event_time, value.event_ns)
    return message


def set_time(stamp: Timestamp, time_ns: int) -> None:
    """Writes nanoseconds since the Unix epoch."""
    stamp.seconds, stamp.nanos = divmod(time_ns, NS_PER_SECOND)


def placed(value: Order, executions: Sequence[Execution], market: Market) -> order_pb.PlaceOrderResponse:
    """The answer to PlaceOrder."""
    return order_pb.PlaceOrderResponse(
        order=order(value, market), executions=[execution(item, market) for item in executions]
    )


def stream_orders(update: Update, markets: Mapping[int, Market]) -> order_pb.StreamOrdersResponse:
    """One message of StreamOrders."""
    return order_pb.StreamOrdersResponse(
        snapshot=update.snapshot,
        orders=[order(item, markets[item.market_id]) for item in update.orders],
        executions=[execution(item, markets[item.market_id]) for item in update.executions],
        journal_sequence=update.sequence,
        lagged=update.lagged,
    )


# AdminService.


def new_asset(request: admin_pb.CreateAssetRequest) -> model.CreateAsset:
    """The asset that a request asks for."""
    if _SYMBOL.fullmatch(request.symbol) is None:
        what = f"must be 1 to {SYMBOL_CHARS_MAX} upper-case ASCII letters and digits, not {shown(request.symbol)}"
        raise invalid("symbol", what)
    decimals = request.decimals if request.HasField("decimals") else DECIMALS_DEFAULT
    if decimals > DECIMALS_MAX:
        raise invalid("decimals", f"must be 0 to {DECIMALS_MAX}, not {decimals}")
    return model.CreateAsset(request.symbol, decimals)


def new_market(request: admin_pb.CreateMarketRequest, assets: Mapping[str, Asset]) -> Market:
    """The market that a request asks for, with market_id 0.

    Raises:
        Rejected: INVALID_FIELD with the field, ASSET_NOT_FOUND, INVALID_MARKET.
    """
    base_symbol, hyphen, quote_symbol = request.market.partition("-")
    if not hyphen or not all(_SYMBOL.fullmatch(symbol) for symbol in (base_symbol, quote_symbol)):
        raise invalid("market", f"must be two symbols joined by a hyphen, like BTC-USD, not {shown(request.market)}")
    if base_symbol == quote_symbol:
        raise invalid("market", f"must join two different assets, not {request.market}")
    base, quote = known_asset(base_symbol, assets, "market"), known_asset(quote_symbol, assets, "market")
    notional = request.notional_min
    if notional and FixedPoint.parse(notional, "notional_min").coefficient:
        notional_min = positive_amount(notional, "notional_min", quote)
    else:
        notional_min = 0
    return market_of(0, request.market, base, quote, request.tick_size, request.lot_size, notional_min)


def known_asset(symbol: str, assets: Mapping[str, Asset], field: str) -> Asset:
    """The asset of that symbol. Raises Rejected: INVALID_FIELD if none is named, ASSET_NOT_FOUND."""
    if not symbol:
        raise invalid(field, "is missing")
    asset = assets.get(symbol)
    if asset is None:
        raise Rejected(Reason.ASSET_NOT_FOUND, f"no such asset: {shown(symbol)}", field)
    return asset


# SettlementService.


def check_settlement_name(request: settlement_pb.GetSettlementRequest) -> None:
    """Refuses (INVALID_FIELD) whatever does not name one entry in exactly one way."""
    ways = [
        bool(request.settlement_sequence),
        bool(request.market) or bool(request.trade_id),
        bool(request.transfer_id),
    ]
    if ways.count(True) != 1:
        raise Rejected(
            Reason.INVALID_FIELD,
            "exactly one of settlement_sequence, market with trade_id, and transfer_id must be given",
            "settlement_sequence",
        )
    if ways[1] and not request.market:
        raise invalid("market", "is missing beside trade_id")
    if ways[1] and not request.trade_id:
        raise invalid("trade_id", "is missing beside market")


# ForwardService.


def forward_response(answers: Sequence[tuple[int, bytes, bytes, Mapping[str, str]]]) -> forward_pb.ForwardResponse:
    """Answers, at least one, in one message.

    Each: the item's id, a serialized response or a serialized google.rpc.Status, and what is told beside it.
    """
    (item_id, response, status, trailer), *others = answers
    message = forward_pb.ForwardResponse(id=item_id, response=response, status=status, trailer=trailer)
    for item_id, response, status, trailer in others:
        message.more.add(id=item_id, response=response, status=status, trailer=trailer)
    return message
