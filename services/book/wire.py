"""Between journal.proto and the engine's model.

What cannot be represented is refused by name (Rejected, INVALID_FIELD) before the engine sees it: a command of no kind
or of a kind that is the book's own, an enum value nobody knows, an amount that is no plain whole number, a text without
end. Everything else the engine decides, and what it refuses is journaled.

Commands and events are encoded one by one as elements of a CommandBatch or EventBatch, so that a row is their
concatenation and each can be compared by itself.
"""

import re
from collections.abc import Callable, Container
from typing import Any

from clearbook.internal.v1 import journal_pb2 as pb
from clearbook.internal.v1 import matching_service_pb2
from google.protobuf.message import DecodeError

from services import protobuf
from services.book import encoding, model
from services.command_ids import GATEWAYS_MAX
from services.errors import Reason, Rejected
from services.withdrawal_rules import AMOUNTS, WithdrawalRules

SUBMIT_COMMANDS_MAX = 1_024
AMOUNT_DIGITS_MAX = 78
"""Digits of 2^256 - 1, the largest amount of the chain."""

_AMOUNT = re.compile(rf"[0-9]{{1,{AMOUNT_DIGITS_MAX}}}", re.ASCII)

_SIDES = {model.SIDE_BUY, model.SIDE_SELL}
_TYPES = {model.ORDER_TYPE_LIMIT, model.ORDER_TYPE_MARKET}
_TIMES = range(model.TIME_IN_FORCE_GTC, model.TIME_IN_FORCE_DAY + 1)
_SELF_TRADES = range(model.SELF_TRADE_CANCEL_NEWEST, model.SELF_TRADE_ALLOW + 1)
_TRIGGERS = range(model.TRIGGER_UNSPECIFIED, model.TRIGGER_TRAILING + 1)
_TRIGGER_SOURCES = range(model.TRIGGER_SOURCE_LAST, model.TRIGGER_SOURCE_QUOTE + 1)
_ASKED_CAUSES = {
    *(model.CANCEL_CAUSE_UNSPECIFIED, model.CANCEL_CAUSE_USER),
    *(model.CANCEL_CAUSE_OPERATOR, model.CANCEL_CAUSE_DISCONNECT),
}
"""What an order may be canceled for on request."""
_DEBT_STATES = frozenset({model.DEBT_STATE_FROZEN, model.DEBT_STATE_PAID, model.DEBT_STATE_RESOLVED})
_STATES = range(model.MARKET_STATE_OPEN, model.MARKET_STATE_CLOSED + 1)

EncodedCommand = tuple[model.Command, bytes]
"""A command, and itself as an element of a CommandBatch."""


# Commands: from the wire.


def submitted(request: matching_service_pb2.SubmitRequest) -> list[EncodedCommand]:
    """The commands of a gateway.

    Raises:
        Rejected: INVALID_FIELD with the field to blame; nothing of the request may then be taken.
    """
    if not 1 <= len(request.commands) <= SUBMIT_COMMANDS_MAX:
        raise _invalid("commands", f"{len(request.commands)} commands, not 1 to {SUBMIT_COMMANDS_MAX}")
    request.DiscardUnknownFields()
    encoded = protobuf.elements(request.SerializeToString())  # a CommandBatch but for its name
    if not encoding.BY_HAND:
        return [_submitted(request, place, element) for place, element in enumerate(encoded)]
    each = zip(encoding.plain_orders(encoded), encoded, strict=True)
    return [
        _submitted(request, place, element) if plain is None else (plain, element)
        for place, (plain, element) in enumerate(each)
    ]


def _submitted(request: matching_service_pb2.SubmitRequest, place: int, element: bytes) -> EncodedCommand:
    try:
        return _command(request.commands[place], _SUBMITTED), element
    except Rejected as error:
        field = f"commands[{place}].{error.field}"
        raise Rejected(error.reason, f"{field}: {error.message}", field) from None


def decode_commands(data: bytes) -> list[model.Command]:
    """The commands of a journal row.

    Raises:
        ValueError: they cannot be read.
    """
    try:
        return [_command(message, _COMMANDS) for message in pb.CommandBatch.FromString(data).commands]
    except (DecodeError, Rejected) as error:
        raise ValueError(f"commands cannot be read: {error}") from error


def _command(message: pb.Command, kinds: dict[str, Callable[[Any], model.CommandBody]]) -> model.Command:
    kind = message.WhichOneof("kind")
    read = kinds.get(kind or "")
    if read is None:
        raise _invalid("kind", f"{kind} is the book's own" if kind else "a command of no kind, or of an unknown one")
    try:
        return model.Command(message.command_id, read(getattr(message, kind or "")))
    except Rejected as error:
        raise Rejected(error.reason, error.message, f"{kind}.{error.field}") from None


def _place_order(m: pb.PlaceOrder) -> model.PlaceOrder:
    return model.PlaceOrder(
        m.account_id,
        m.market_id,
        _enum(m.side, _SIDES, "side"),
        _enum(m.type, _TYPES, "type"),
        _enum(m.time_in_force, _TIMES, "time_in_force"),
        m.post_only,
        m.price_ticks,
        m.quantity_lots,
        _amount(m.budget, "budget") if m.budget else 0,
        _text(m.client_order_id, "client_order_id"),
        m.maker_fee_ppm,
        m.taker_fee_ppm,
        _terms(m.terms) if m.HasField("terms") else None,
    )


def _terms(m: pb.OrderTerms) -> model.Terms:
    return model.Terms(
        _enum(m.self_trade, _SELF_TRADES, "terms.self_trade"),
        m.expires_ns,
        m.minimum_lots,
        m.reprice,
        _enum(m.trigger, _TRIGGERS, "terms.trigger"),
        _enum(m.trigger_source, _TRIGGER_SOURCES, "terms.trigger_source"),
        m.trigger_ticks,
        m.trail_ticks,
        m.display_lots,
        _text(m.signed, "terms.signed"),
    )


def _transfer(m: pb.Transfer) -> model.Transfer:
    return model.Transfer(
        _text(m.transfer_id, "transfer_id"),
        m.from_account_id,
        m.to_account_id,
        m.asset_id,
        _amount(m.amount, "amount"),
        _text(m.reason, "reason"),
    )


def _request_withdrawal(m: pb.RequestWithdrawal) -> model.RequestWithdrawal:
    return model.RequestWithdrawal(
        _text(m.transfer_id, "transfer_id"),
        m.account_id,
        m.asset_id,
        _amount(m.amount, "amount"),
        _text(m.address, "address"),
    )


def _withdrawal_rules(m: pb.WithdrawalRules) -> WithdrawalRules:
    amounts = {name: _amount(getattr(m, name) or "0", f"rules.{name}") for name in AMOUNTS}
    return WithdrawalRules(**amounts, cooling_seconds=m.cooling_seconds)


def _claim_final(m: pb.ClaimFinal) -> model.ClaimFinal:
    return model.ClaimFinal(
        m.claim_index,
        _text(m.address, "address"),
        _text(m.asset, "asset"),
        _amount(m.amount, "amount"),
        _text(m.transaction_hash, "transaction_hash"),
        m.exit_account_id,
    )


def _exit_request_final(m: pb.ExitRequestFinal) -> model.ExitRequestFinal:
    return model.ExitRequestFinal(m.exit_index, m.account_id, m.canceled, _text(m.transaction_hash, "transaction_hash"))


def _note_debt(m: pb.NoteDebt) -> model.NoteDebt:
    return model.NoteDebt(
        m.note_index,
        m.debt_id,
        _enum(m.state, _DEBT_STATES, "state"),
        m.account_id,
        _text(m.asset, "asset"),
        _amount(m.amount, "amount"),
        _text(m.reason, "reason"),
        m.settlement_sequence,
    )


def _deposit_final(m: pb.DepositFinal) -> model.DepositFinal:
    return model.DepositFinal(
        m.deposit_index,
        m.account_id,
        _text(m.asset, "asset"),
        _amount(m.amount, "amount"),
        _text(m.transaction_hash, "transaction_hash"),
    )


def _asset(m: pb.Asset) -> model.Asset:
    return model.Asset(m.asset_id, _text(m.symbol, "asset.symbol"), m.decimals)


def _market(m: pb.Market) -> model.Market:
    return model.Market(
        m.market_id,
        _text(m.symbol, "market.symbol"),
        m.base_asset_id,
        m.quote_asset_id,
        _text(m.tick_size, "market.tick_size"),
        _text(m.lot_size, "market.lot_size"),
        _amount(m.notional_min, "market.notional_min") if m.notional_min else 0,
        _enum(m.state or model.MARKET_STATE_OPEN, _STATES, "market.state"),
        _rules(m.rules, "market.rules") if m.HasField("rules") else None,
    )


def _rules(m: pb.MarketRules, field: str) -> model.MarketRules:
    notional_max = _amount(m.notional_max, f"{field}.notional_max") if m.notional_max else 0
    notional_min = _amount(m.notional_min, f"{field}.notional_min") if m.notional_min else 0
    return model.MarketRules(
        m.quantity_min_lots,
        m.quantity_max_lots,
        notional_max,
        m.band_ppm,
        notional_min,
        m.open_orders_max,
        m.reference_age_max_seconds,
        m.signed_orders,
    )


def _change_market(m: pb.ChangeMarket) -> model.ChangeMarket:
    rules = _rules(m.rules, "rules") if m.HasField("rules") else None
    state = int(m.state)
    if state != model.MARKET_STATE_UNSPECIFIED or rules is None:
        state = _enum(m.state, _STATES, "state")
    return model.ChangeMarket(m.market_id, state, rules, _text(m.reason, "reason"))


_SUBMITTED: dict[str, Callable[[Any], model.CommandBody]] = {
    "place_order": _place_order,
    "cancel_order": lambda m: model.CancelOrder(m.account_id, m.order_id, _enum(m.cause, _ASKED_CAUSES, "cause")),
    "place_group": lambda m: model.PlaceGroup(
        _place_order(m.entry) if m.HasField("entry") else None, [_place_order(each) for each in m.exits]
    ),
    "replace_order": lambda m: model.ReplaceOrder(
        m.account_id,
        m.order_id,
        m.price_ticks,
        m.quantity_lots,
        _text(m.client_order_id, "client_order_id"),
        _amount(m.growth_max, "growth_max") if m.HasField("growth_max") else None,
    ),
    "cancel_orders": lambda m: model.CancelOrders(
        m.account_id,
        m.market_id,
        _enum(m.side, _SIDES | {model.SIDE_UNSPECIFIED}, "side"),
        _enum(m.cause, _ASKED_CAUSES, "cause"),
    ),
    "cancel_after": lambda m: model.CancelAfter(m.account_id, m.market_id, m.seconds),
    "set_trading_defaults": lambda m: model.SetTradingDefaults(
        m.account_id, _enum(m.self_trade, _SELF_TRADES, "self_trade")
    ),
    "open_account": lambda m: model.OpenAccount(_text(m.name, "name")),
    "transfer": _transfer,
    "deposit_final": _deposit_final,
    "settlement_final": lambda m: model.SettlementFinal(m.through_settlement_sequence),
    "create_asset": lambda m: model.CreateAsset(_asset(m.asset)),
    "create_market": lambda m: model.CreateMarket(_market(m.market)),
    "change_market": _change_market,
    "set_reference_price": lambda m: model.SetReferencePrice(
        m.market_id, m.price_ticks, _text(m.source, "source"), m.observed_ns
    ),
    "request_withdrawal": _request_withdrawal,
    "approve_withdrawal": lambda m: model.ApproveWithdrawal(m.withdrawal_id),
    "release_withdrawal": lambda m: model.ReleaseWithdrawal(m.withdrawal_id),
    "set_withdrawal_rules": lambda m: model.SetWithdrawalRules(
        m.asset_id, _withdrawal_rules(m.rules), _text(m.reason, "reason")
    ),
    "change_allow_list": lambda m: model.ChangeAllowList(
        m.account_id, m.change, _text(m.address, "address"), m.delay_seconds
    ),
    "cancel_withdrawal": lambda m: model.CancelWithdrawal(m.withdrawal_id, _text(m.reason, "reason")),
    "claim_final": _claim_final,
    "exit_request_final": _exit_request_final,
    "note_debt": _note_debt,
}
_COMMANDS = _SUBMITTED | {
    "leader_started": lambda m: model.LeaderStarted(m.epoch, m.incarnation, m.edition),
    "advance_time": lambda _: model.AdvanceTime(),
    "open_session": lambda m: model.OpenSession(m.gateway),
}


def _enum(value: int, known: Container[int], field: str) -> int:
    """Proto3 enums are open: 99 arrives as 99."""
    if value not in known:
        raise _invalid(field, f"{value} is not a value of this enum")
    return value


def _amount(text: str, field: str) -> int:
    if _AMOUNT.fullmatch(text) is None:
        raise _invalid(field, f"{text[:AMOUNT_DIGITS_MAX]!r} is not a whole number of base units")
    return int(text)


def _text(text: str, field: str) -> str:
    if len(text) > encoding.TEXT_CHARACTERS_MAX:
        raise _invalid(field, f"{len(text)} characters, at most {encoding.TEXT_CHARACTERS_MAX}")
    return text


def _invalid(field: str, what: str) -> Rejected:
    return Rejected(Reason.INVALID_FIELD, what, field)


def gateway_number(request: matching_service_pb2.OpenSessionRequest) -> int:
    """Which gateway asks. Raises Rejected(INVALID_FIELD) outside of 1 to GATEWAYS_MAX."""
    if not 1 <= request.gateway <= GATEWAYS_MAX:
        raise _invalid("gateway", f"gateway {request.gateway} is not 1 to {GATEWAYS_MAX}")
    return request.gateway


# Commands: to the wire.


def encode_command(command: model.Command) -> bytes:
    """A command as an element of a CommandBatch."""
    message = pb.Command()
    _write_command(message, command)
    return protobuf.element(message.SerializeToString())


def _write_command(message: pb.Command, command: model.Command) -> None:
    message.command_id = command.command_id
    body = command.body
    name, write = _COMMAND_WRITERS[type(body)]
    part = getattr(message, name)
    part.SetInParent()
    write(part, body)


def _copy(part: Any, body: Any) -> None:
    """Where names and types are the same."""
    for name in body.__match_args__:
        setattr(part, name, getattr(body, name))


def _write_place_order(part: pb.PlaceOrder, body: model.PlaceOrder) -> None:
    part.account_id = body.account_id
    part.market_id = body.market_id
    part.side = body.side  # type: ignore[assignment]
    part.type = body.type  # type: ignore[assignment]
    part.time_in_force = body.time_in_force  # type: ignore[assignment]
    part.post_only = body.post_only
    part.price_ticks = body.price_ticks
    part.quantity_lots = body.quantity_lots
    part.budget = str(body.budget) if body.budget else ""
    part.client_order_id = body.client_order_id
    part.maker_fee_ppm = body.maker_fee_ppm
    part.taker_fee_ppm = body.taker_fee_ppm
    if body.terms is not None:
        _write_terms(part.terms, body.terms)


def _write_place_group(part: pb.PlaceGroup, body: model.PlaceGroup) -> None:
    if body.entry is not None:
        _write_place_order(part.entry, body.entry)
    for place in body.exits:
        _write_place_order(part.exits.add(), place)


def _write_terms(part: pb.OrderTerms, terms: model.Terms) -> None:
    part.SetInParent()
    _copy(part, terms)


def _write_transfer(part: pb.Transfer, body: model.Transfer) -> None:
    part.transfer_id = body.transfer_id
    part.from_account_id = body.from_account_id
    part.to_account_id = body.to_account_id
    part.asset_id = body.asset_id
    part.amount = str(body.amount)
    part.reason = body.reason


def _write_request(part: pb.RequestWithdrawal, body: model.RequestWithdrawal) -> None:
    part.transfer_id = body.transfer_id
    part.account_id = body.account_id
    part.asset_id = body.asset_id
    part.amount = str(body.amount)
    part.address = body.address


def _write_withdrawal_rules(part: pb.WithdrawalRules, rules: WithdrawalRules) -> None:
    for name in AMOUNTS:
        setattr(part, name, str(getattr(rules, name)))
    part.cooling_seconds = rules.cooling_seconds


def _write_set_rules(part: pb.SetWithdrawalRules, body: model.SetWithdrawalRules) -> None:
    part.asset_id = body.asset_id
    part.reason = body.reason
    _write_withdrawal_rules(part.rules, body.rules)


def _write_replace_order(part: pb.ReplaceOrder, body: model.ReplaceOrder) -> None:
    part.account_id = body.account_id
    part.order_id = body.order_id
    part.price_ticks = body.price_ticks
    part.quantity_lots = body.quantity_lots
    part.client_order_id = body.client_order_id
    if body.growth_max is not None:
        part.growth_max = str(body.growth_max)


def _write_claim(part: pb.ClaimFinal, body: model.ClaimFinal) -> None:
    part.claim_index = body.claim_index
    part.address = body.address
    part.asset = body.asset
    part.amount = str(body.amount)
    part.transaction_hash = body.transaction_hash
    part.exit_account_id = body.exit_account_id


def _write_note(part: pb.NoteDebt, body: model.NoteDebt) -> None:
    part.note_index = body.note_index
    part.debt_id = body.debt_id
    part.state = pb.DebtState.ValueType(body.state)
    part.account_id = body.account_id
    part.asset = body.asset
    part.amount = str(body.amount)
    part.reason = body.reason
    part.settlement_sequence = body.settlement_sequence


def _write_deposit(part: pb.DepositFinal, body: model.DepositFinal) -> None:
    part.deposit_index = body.deposit_index
    part.account_id = body.account_id
    part.asset = body.asset
    part.amount = str(body.amount)
    part.transaction_hash = body.transaction_hash


def _write_market(part: pb.Market, market: model.Market) -> None:
    part.market_id = market.market_id
    part.symbol = market.symbol
    part.base_asset_id = market.base_asset_id
    part.quote_asset_id = market.quote_asset_id
    part.tick_size = market.tick_size
    part.lot_size = market.lot_size
    part.notional_min = str(market.notional_min)
    part.state = market.state  # type: ignore[assignment]
    if market.rules is not None:
        _write_rules(part.rules, market.rules)


def _write_rules(part: pb.MarketRules, rules: model.MarketRules) -> None:
    part.SetInParent()
    part.quantity_min_lots = rules.quantity_min_lots
    part.quantity_max_lots = rules.quantity_max_lots
    part.notional_max = str(rules.notional_max)
    part.band_ppm = rules.band_ppm
    part.notional_min = str(rules.notional_min) if rules.notional_min else ""
    part.open_orders_max = rules.open_orders_max
    part.reference_age_max_seconds = rules.reference_age_max_seconds
    part.signed_orders = rules.signed_orders


def _write_change_market(part: pb.ChangeMarket, body: model.ChangeMarket) -> None:
    part.market_id = body.market_id
    part.state = body.state  # type: ignore[assignment]
    if body.rules is not None:
        _write_rules(part.rules, body.rules)
    part.reason = body.reason


_COMMAND_WRITERS: dict[type, tuple[str, Callable[[Any, Any], None]]] = {
    model.PlaceOrder: ("place_order", _write_place_order),
    model.CancelOrder: ("cancel_order", _copy),
    model.PlaceGroup: ("place_group", _write_place_group),
    model.ReplaceOrder: ("replace_order", _write_replace_order),
    model.CancelOrders: ("cancel_orders", _copy),
    model.CancelAfter: ("cancel_after", _copy),
    model.SetTradingDefaults: ("set_trading_defaults", _copy),
    model.OpenAccount: ("open_account", _copy),
    model.Transfer: ("transfer", _write_transfer),
    model.DepositFinal: ("deposit_final", _write_deposit),
    model.SettlementFinal: ("settlement_final", _copy),
    model.CreateAsset: ("create_asset", lambda part, body: _copy(part.asset, body.asset)),
    model.CreateMarket: ("create_market", lambda part, body: _write_market(part.market, body.market)),
    model.ChangeMarket: ("change_market", _write_change_market),
    model.SetReferencePrice: ("set_reference_price", _copy),
    model.RequestWithdrawal: ("request_withdrawal", _write_request),
    model.ApproveWithdrawal: ("approve_withdrawal", _copy),
    model.CancelWithdrawal: ("cancel_withdrawal", _copy),
    model.ReleaseWithdrawal: ("release_withdrawal", _copy),
    model.SetWithdrawalRules: ("set_withdrawal_rules", _write_set_rules),
    model.ChangeAllowList: ("change_allow_list", _copy),
    model.ClaimFinal: ("claim_final", _write_claim),
    model.ExitRequestFinal: ("exit_request_final", _copy),
    model.NoteDebt: ("note_debt", _write_note),
    model.LeaderStarted: ("leader_started", _copy),
    model.AdvanceTime: ("advance_time", _copy),
    model.OpenSession: ("open_session", _copy),
}


# Events: to the wire.


def encode_event(event: model.Event) -> bytes:
    """An event as an element of an EventBatch. (Plain orders' are the same as `encoding.event` writes them.)"""
    message = pb.Event()
    message.journal_sequence = event.journal_sequence
    message.command_id = event.command_id
    message.market_sequence = event.market_sequence
    body = event.body
    name, write = _EVENT_WRITERS[type(body)]
    part = getattr(message, name)
    part.SetInParent()
    write(part, body)
    return protobuf.element(message.SerializeToString())


def _write_order(part: pb.Order, order: model.Order) -> None:
    place = order.place
    part.order_id = order.order_id
    part.account_id = place.account_id
    part.market_id = place.market_id
    part.side = place.side  # type: ignore[assignment]
    part.type = place.type  # type: ignore[assignment]
    part.time_in_force = place.time_in_force  # type: ignore[assignment]
    part.post_only = place.post_only
    part.price_ticks = place.price_ticks
    part.quantity_lots = place.quantity_lots
    part.filled_lots = order.filled_lots
    part.budget = str(place.budget) if place.budget else ""
    part.client_order_id = place.client_order_id
    part.maker_fee_ppm = place.maker_fee_ppm
    part.taker_fee_ppm = place.taker_fee_ppm
    part.state = order.state  # type: ignore[assignment]
    part.cancel_cause = order.cancel_cause  # type: ignore[assignment]
    part.lock_remaining = str(order.lock_remaining)
    if place.terms is not None:
        _write_terms(part.terms, place.terms)


def _write_trade(part: pb.Trade, trade: model.Trade) -> None:
    part.trade_id = trade.trade_id
    part.settlement_sequence = trade.settlement_sequence
    part.price_ticks = trade.price_ticks
    part.quantity_lots = trade.quantity_lots
    part.base_amount = str(trade.base_amount)
    part.quote_amount = str(trade.quote_amount)
    part.maker_order_id = trade.maker_order_id
    part.maker_account_id = trade.maker_account_id
    part.maker_fee = str(trade.maker_fee)
    part.taker_fee = str(trade.taker_fee)
    part.maker_remaining_lots = trade.maker_remaining_lots
    part.maker_lock_remaining = str(trade.maker_lock_remaining)
    part.maker_signed = trade.maker_signed


def _write_order_placed(part: pb.OrderPlaced, body: model.OrderPlaced) -> None:
    _write_order(part.order, body.order)
    for trade in body.trades:
        _write_trade(part.trades.add(), trade)


def _write_orders_changed(part: pb.OrdersChanged, body: model.OrdersChanged) -> None:
    for step in body.steps:
        changed = part.steps.add()
        _write_order(changed.order, step.order)
        for trade in step.trades:
            _write_trade(changed.trades.add(), trade)
    for book in body.books:
        written = part.books.add()
        written.market_id = book.market_id
        written.market_sequence = book.market_sequence
        for level in book.levels:
            written.levels.add(side=level.side, price_ticks=level.price_ticks, lots=level.lots)
    if body.refused is not None:
        _write_refused(part.refused, body.refused)
    part.more = body.more
    if body.market is not None:
        _write_market(part.market, body.market)


def _write_refused(part: pb.Refused, body: model.Refused) -> None:
    part.reason = body.reason
    _write_command(part.command, body.command)


def _write_transferred(part: pb.Transferred, body: model.Transferred) -> None:
    _write_transfer(part.transfer, body.transfer)
    part.settlement_sequence = body.settlement_sequence


def _write_deposited(part: pb.Deposited, body: model.Deposited) -> None:
    _write_deposit(part.deposit, body.deposit)
    part.asset_id = body.asset_id
    part.credited_account_id = body.credited_account_id
    part.settlement_sequence = body.settlement_sequence


def _write_withdrawal(part: pb.Withdrawal, withdrawal: model.Withdrawal) -> None:
    part.withdrawal_id = withdrawal.withdrawal_id
    _write_request(part.request, withdrawal.request)
    part.release_ns = withdrawal.release_ns


def _write_rules_set(part: pb.WithdrawalRulesSet, body: model.WithdrawalRulesSet) -> None:
    part.asset_id = body.asset_id
    _write_withdrawal_rules(part.rules, body.rules)


def _write_allow_list(part: pb.AllowListChanged, body: model.AllowListChanged) -> None:
    part.account_id = body.account_id
    part.only = body.allowed.only
    part.off_ns = body.allowed.off_ns
    for address, usable_ns in body.allowed.addresses:
        part.addresses.add(address=address, usable_ns=usable_ns)


def _write_approved(part: pb.WithdrawalApproved, body: model.WithdrawalApproved) -> None:
    _write_withdrawal(part.withdrawal, body.withdrawal)
    part.settlement_sequence = body.settlement_sequence


def _write_withdrawal_canceled(part: pb.WithdrawalCanceled, body: model.WithdrawalCanceled) -> None:
    _write_withdrawal(part.withdrawal, body.withdrawal)
    part.reason = body.reason


def _write_claimed(part: pb.Claimed, body: model.Claimed) -> None:
    _write_claim(part.claim, body.claim)
    part.asset_id = body.asset_id


def _write_debt_noted(part: pb.DebtNoted, body: model.DebtNoted) -> None:
    _write_note(part.note, body.note)
    part.asset_id = body.asset_id


def _write_asset_created(part: pb.AssetCreated, body: model.AssetCreated) -> None:
    _copy(part.asset, body.asset)
    part.settlement_sequence = body.settlement_sequence


_EVENT_WRITERS: dict[type, tuple[str, Callable[[Any, Any], None]]] = {
    model.OrderPlaced: ("order_placed", _write_order_placed),
    model.OrderCanceled: ("order_canceled", lambda part, body: _write_order(part.order, body.order)),
    model.OrdersChanged: ("orders_changed", _write_orders_changed),
    model.Refused: ("refused", _write_refused),
    model.AccountOpened: ("account_opened", _copy),
    model.Transferred: ("transferred", _write_transferred),
    model.Deposited: ("deposited", _write_deposited),
    model.SettlementFinalized: ("settlement_finalized", _copy),
    model.AssetCreated: ("asset_created", _write_asset_created),
    model.MarketCreated: ("market_created", lambda part, body: _write_market(part.market, body.market)),
    model.MarketChanged: ("market_changed", lambda part, body: _write_market(part.market, body.market)),
    model.WithdrawalRequested: (
        "withdrawal_requested",
        lambda part, body: _write_withdrawal(part.withdrawal, body.withdrawal),
    ),
    model.WithdrawalCleared: (
        "withdrawal_cleared",
        lambda part, body: _write_withdrawal(part.withdrawal, body.withdrawal),
    ),
    model.WithdrawalRulesSet: ("withdrawal_rules_set", _write_rules_set),
    model.AllowListChanged: ("allow_list_changed", _write_allow_list),
    model.WithdrawalApproved: ("withdrawal_approved", _write_approved),
    model.WithdrawalCanceled: ("withdrawal_canceled", _write_withdrawal_canceled),
    model.Claimed: ("claimed", _write_claimed),
    model.ExitRequested: ("exit_requested", lambda part, body: _copy(part.request, body.request)),
    model.DebtNoted: ("debt_noted", _write_debt_noted),
    model.LeaderStarted: ("leader_started", _copy),
    model.TimeAdvanced: ("time_advanced", _copy),
    model.SessionOpened: ("session_opened", _copy),
    model.CancelAfterSet: ("cancel_after_set", _copy),
    model.TradingDefaultsSet: ("trading_defaults_set", _copy),
    model.ReferencePriceSet: ("reference_price_set", _copy),
}


# Events: from the wire.


def elements(data: bytes) -> list[bytes]:
    """The events of a row one by one, each as `encode_event` gives it.

    Raises:
        ValueError: they cannot be read.
    """
    try:
        return [protobuf.element(message.SerializeToString()) for message in pb.EventBatch.FromString(data).events]
    except DecodeError as error:
        raise ValueError(f"events cannot be read: {error}") from error


def events_after(data: bytes, journal_sequence: int) -> bytes:
    """A serialized EventBatch without what is not after `journal_sequence`."""
    batch = pb.EventBatch.FromString(data)
    kept = [event for event in batch.events if event.journal_sequence > journal_sequence]
    return pb.EventBatch(events=kept).SerializeToString()
