"""Commands and events to the wire and back; what cannot be represented is refused by name."""

from typing import Any

import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import matching_service_pb2 as pb
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services import protobuf
from services.book import encoding, model, wire
from services.errors import Reason, Rejected

HUGE = 2**256 - 1
PLACE = model.PlaceOrder(1001, 1, 1, 2, 2, False, 0, 5, HUGE, "mine", 100, 200)
RESTS = model.PlaceOrder(1001, 1, 2, 1, 1, True, 300, 9, 0, "mine", 100, 200)
ORDER = model.Order(7, RESTS, 4, 3, 5, 12345678901234567890)
TRADE = model.Trade(1, 2, 300, 4, HUGE, 5, 6, 1002, 7, 8, 9, 10)
TERMS = model.Terms(model.SELF_TRADE_DECREMENT, 2**62, 3, True, 2, 1, 300, 7, 4)
SPECIAL = model.PlaceOrder(1001, 1, 2, 1, 1, False, 300, 5, terms=TERMS)
CHANGED = model.OrderChanged(model.Order(7, SPECIAL, 4, 1, 0, 5), [TRADE])
BOOK = model.BookChanged(1, 8, [model.LevelChanged(1, 300, 0), model.LevelChanged(2, 301, 2**62)])
MARKET = model.Market(1, "BTC-USD", 1, 2, "0.01", "0.00001", 10**30, 2)
RULES = model.MarketRules(1, 2**62, HUGE, 50_000, HUGE, 9, 60)
TRANSFER = model.Transfer("t1", 2, 1001, 1, HUGE, "why")
REQUEST = model.RequestWithdrawal("w1", 1001, 1, HUGE, "0x" + "ab" * 20)
WITHDRAWAL = model.Withdrawal(9, REQUEST)
CLAIM = model.ClaimFinal(1, "0x" + "ab" * 20, "BTC", HUGE, "0x" + "ab" * 32, 1001)
EXIT = model.ExitRequestFinal(1, 1001, True, "0x" + "ab" * 32)
NOTE = model.NoteDebt(3, 2, model.DEBT_STATE_PAID, 1001, "BTC", HUGE, "why", 2**62)
DEPOSIT = model.DepositFinal(1, 2, "BTC", HUGE, "0x" + "ab" * 32)

SUBMITTED: list[model.CommandBody] = [
    PLACE,
    model.PlaceOrder(1001, 1, 2, 1, 1, True, 300, 5),
    SPECIAL,
    model.CancelOrder(1001, 7),
    model.CancelOrder(1001, 7, model.CANCEL_CAUSE_DISCONNECT),
    model.PlaceGroup(PLACE, [SPECIAL, SPECIAL]),
    model.PlaceGroup(None, [SPECIAL]),
    model.ReplaceOrder(1001, 7, 300, 5, "newer"),
    model.ReplaceOrder(1001, 7, 300, 5, "", 0),
    model.CancelOrders(1001, 1, 2, model.CANCEL_CAUSE_OPERATOR),
    model.CancelOrders(1001),
    model.CancelAfter(1001, 2, 30),
    model.CancelAfter(1001, 0, 0),
    model.SetTradingDefaults(1001, 3),
    model.OpenAccount("Zoë"),
    TRANSFER,
    DEPOSIT,
    model.SettlementFinal(3),
    model.CreateAsset(model.Asset(0, "BTC", 18)),
    model.CreateMarket(MARKET),
    model.ChangeMarket(1, 2, None, "news"),
    model.ChangeMarket(1, 0, RULES),
    model.SetReferencePrice(1, 2**62, "elsewhere", 2**62),
    REQUEST,
    model.ApproveWithdrawal(9),
    model.CancelWithdrawal(9, "why"),
    CLAIM,
    NOTE,
    EXIT,
]
OWN: list[model.CommandBody] = [model.LeaderStarted(1, "name"), model.AdvanceTime(), model.OpenSession(1)]
EVENTS: list[model.EventBody] = [
    model.OrderPlaced(ORDER, [TRADE, TRADE]),
    model.OrderCanceled(ORDER),
    model.OrdersChanged([CHANGED, CHANGED], [BOOK]),
    model.OrdersChanged([CHANGED], [BOOK, BOOK], None, True, model.Market(1, "BTC-USD", 1, 2, "1", "1", 0, 3, RULES)),
    model.OrdersChanged([], [], model.Refused("ORDER_NOT_FOUND", model.Command(7, SPECIAL))),
    model.Refused("ORDER_NOT_FOUND", model.Command(7, model.CancelOrder(1, 2))),
    model.AccountOpened(1001, "Zoë"),
    model.Transferred(TRANSFER, 4),
    model.Deposited(DEPOSIT, 1),
    model.Deposited(DEPOSIT, 1, 3, 5),
    model.WithdrawalRequested(WITHDRAWAL),
    model.WithdrawalApproved(WITHDRAWAL, 4),
    model.WithdrawalCanceled(WITHDRAWAL, "why"),
    model.Claimed(CLAIM, 1),
    model.ExitRequested(EXIT),
    model.DebtNoted(NOTE, 1),
    model.SettlementFinalized(3),
    model.AssetCreated(model.Asset(1, "BTC", 18), 1),
    model.MarketCreated(MARKET),
    model.MarketChanged(MARKET),
    model.LeaderStarted(1, "name"),
    model.TimeAdvanced(),
    model.SessionOpened(1, 2),
    model.CancelAfterSet(1001, 2, 30),
    model.TradingDefaultsSet(1001, 3),
    model.ReferencePriceSet(1, 2**62, "elsewhere", 2**62),
]


def name_of(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize("body", SUBMITTED + OWN, ids=name_of)
def test_a_command_comes_back_as_it_went(body: model.CommandBody) -> None:
    command = model.Command(1 << 56 | 1, body)
    assert wire.decode_commands(wire.encode_command(command)) == [command]


@pytest.mark.parametrize("body", SUBMITTED, ids=name_of)
def test_a_submitted_command_is_journaled_as_it_was_read(body: model.CommandBody) -> None:
    command = model.Command(1 << 56 | 1, body)
    request = pb.SubmitRequest.FromString(wire.encode_command(command))
    ((taken, encoded),) = wire.submitted(request)
    assert taken == command
    assert wire.decode_commands(encoded) == [command]


def test_a_field_that_nobody_knows_is_not_journaled() -> None:
    command = journal.Command(command_id=1, open_account=journal.OpenAccount(name="a"))
    strange = command.SerializeToString() + b"\xf8\x3f\x01"  # field 1023
    request = pb.SubmitRequest.FromString(b"\x0a" + bytes([len(strange)]) + strange)
    ((_, encoded),) = wire.submitted(request)
    assert encoded == wire.encode_command(model.Command(1, model.OpenAccount("a")))


@pytest.mark.parametrize("body", EVENTS, ids=name_of)
def test_an_event_says_everything(body: model.EventBody) -> None:
    data = wire.encode_event(model.Event(5, 7, 3, body))
    (event,) = journal.EventBatch.FromString(data).events
    assert (event.journal_sequence, event.command_id, event.market_sequence) == (5, 7, 3)
    kind = event.WhichOneof("kind")
    assert kind is not None
    assert kind.replace("_", "") == type(body).__name__.lower()
    says_the_same(getattr(event, kind), body)


counts, amounts = st.integers(0, 2**63 - 1), st.integers(0, HUGE)
positive, small = st.integers(1, 2**63 - 1), st.integers(1, 127)
places = st.builds(
    model.PlaceOrder,
    *(positive, st.integers(1, 2**32 - 1), small, small, small, st.booleans(), counts, positive, amounts),
    *(st.text(max_size=256), *[st.integers(0, 2**32 - 1)] * 2),
)
orders = st.builds(model.Order, positive, places, counts, small, st.integers(0, 127), amounts)
trades = st.builds(
    model.Trade, *[positive] * 4, *[amounts] * 2, *[positive] * 2, *[amounts] * 2, counts, st.integers(0, HUGE)
)
bodies = st.builds(model.OrderPlaced, orders, st.lists(trades, max_size=3)) | st.builds(model.OrderCanceled, orders)


@given(st.builds(model.Event, positive, counts, counts, bodies))
@settings(deadline=None)
def test_what_is_encoded_by_hand_is_what_protobuf_writes(event: model.Event) -> None:
    by_hand = encoding.event(event)
    assert by_hand is not None
    (read,) = journal.EventBatch.FromString(by_hand).events
    assert journal.EventBatch(events=[read]).SerializeToString(deterministic=True) == by_hand
    said = (read.journal_sequence, read.command_id, read.market_sequence)
    assert said == (event.journal_sequence, event.command_id, event.market_sequence)
    says_the_same(getattr(read, read.WhichOneof("kind") or ""), event.body)


placed = st.builds(
    journal.PlaceOrder,
    account_id=st.integers(-1, 2**63 - 1),
    market_id=st.integers(0, 2**32 - 1),
    side=st.integers(0, 3),
    type=st.integers(0, 2),
    time_in_force=st.integers(0, 6),
    post_only=st.booleans(),
    price_ticks=st.sampled_from([0, 1, 300]) | st.integers(-(2**63), 2**63 - 1),
    quantity_lots=counts,
    budget=st.sampled_from(["", "5", "x"]),
    client_order_id=st.text(max_size=300),
    maker_fee_ppm=st.integers(0, 2**32 - 1),
    taker_fee_ppm=st.integers(0, 2**32 - 1),
    terms=st.none() | st.just(journal.OrderTerms()),
)


@given(st.integers(-1, 2**63 - 1), placed)
@example(1, journal.PlaceOrder(account_id=1, market_id=1, side=1, type=1, time_in_force=1, client_order_id="é" * 256))  # type: ignore[arg-type]
@settings(deadline=None)
def test_a_plain_order_is_read_by_hand_as_by_protobuf_and_any_other_is_not(
    command_id: int, order: journal.PlaceOrder
) -> None:
    batch = pb.SubmitRequest(commands=[journal.Command(command_id=command_id, place_order=order)]).SerializeToString()
    (by_hand,) = encoding.plain_orders([batch])
    plain = command_id > 0 and order.type == 1 and not order.budget and not order.HasField("terms")
    if by_hand is not None:
        assert [by_hand] == wire.decode_commands(batch)
    elif plain and min(order.account_id, order.price_ticks) >= 0:
        with pytest.raises(ValueError, match=r"not a value|characters"):
            wire.decode_commands(batch)


@pytest.mark.parametrize("body", SUBMITTED, ids=name_of)
def test_what_is_no_plain_order_is_not_read_by_hand(body: model.CommandBody) -> None:
    (read,) = encoding.plain_orders([wire.encode_command(model.Command(7, body))])
    plain = isinstance(body, model.PlaceOrder) and body.type == 1 and body.terms is None
    assert read == (model.Command(7, body) if plain else None)


def test_a_batch_is_its_elements() -> None:
    batch = pb.SubmitRequest(
        commands=[
            journal.Command(open_account=journal.OpenAccount(name="x" * size))
            for size in (0, 1, 120, 127, 128, 129, 16_370, 16_384, 2_100_000)
        ]
    )
    found = protobuf.elements(batch.SerializeToString())
    assert found == [protobuf.element(command.SerializeToString()) for command in batch.commands]
    assert protobuf.elements(b"") == []


def says_the_same(message: object, record: object) -> None:
    """Field by field, by name: amounts are strings, records nest."""
    for name in record.__match_args__:  # type: ignore[attr-defined]
        value: Any = getattr(record, name)
        said: Any = message if isinstance(value, model.PlaceOrder) else getattr(message, name)  # an order is flat there
        if value is None:
            assert not message.HasField(name), name  # type: ignore[attr-defined]
        elif isinstance(value, model.Command):
            kind = said.WhichOneof("kind")
            assert said.command_id == value.command_id
            says_the_same(getattr(said, kind), value.body)
        elif hasattr(value, "__match_args__"):  # a record
            says_the_same(said, value)
        elif isinstance(value, list):
            assert len(said) == len(value)
            for one, other in zip(said, value, strict=True):
                says_the_same(one, other)
        elif isinstance(said, str) and isinstance(value, int):
            assert int(said or "0") == value, name
        else:
            assert said == value, name


def submitted(**kind: object) -> pb.SubmitRequest:
    fine = journal.Command(command_id=1, open_account=journal.OpenAccount(name="a"))
    return pb.SubmitRequest(commands=[fine, journal.Command(command_id=2, **kind)])  # type: ignore[arg-type]


def place(**fields: object) -> pb.SubmitRequest:
    good = {"account_id": 1001, "market_id": 1, "side": 1, "type": 1, "time_in_force": 1, "quantity_lots": 1}
    return submitted(place_order=journal.PlaceOrder(**(good | fields)))  # type: ignore[arg-type]


def transfer(amount: str) -> pb.SubmitRequest:
    return submitted(transfer=journal.Transfer(transfer_id="t", amount=amount))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.SubmitRequest(), "commands"),
        (pb.SubmitRequest(commands=[journal.Command(command_id=1)] * 1025), "commands"),
        (submitted(), "commands[1].kind"),
        (submitted(leader_started=journal.LeaderStarted(epoch=1)), "commands[1].kind"),
        (submitted(advance_time=journal.AdvanceTime()), "commands[1].kind"),
        (submitted(open_session=journal.OpenSession(gateway=1)), "commands[1].kind"),
        (place(side=0), "commands[1].place_order.side"),
        (place(side=99), "commands[1].place_order.side"),
        (place(type=3), "commands[1].place_order.type"),
        (place(terms=journal.OrderTerms(self_trade=5)), "commands[1].place_order.terms.self_trade"),  # type: ignore[arg-type]
        (place(terms=journal.OrderTerms(trigger=4)), "commands[1].place_order.terms.trigger"),  # type: ignore[arg-type]
        (
            place(terms=journal.OrderTerms(trigger_source=2)),  # type: ignore[arg-type]
            "commands[1].place_order.terms.trigger_source",
        ),
        (submitted(cancel_orders=journal.CancelOrders(side=3)), "commands[1].cancel_orders.side"),  # type: ignore[arg-type]
        (place(time_in_force=-1), "commands[1].place_order.time_in_force"),
        (place(budget="1.5"), "commands[1].place_order.budget"),
        (place(client_order_id="x" * 257), "commands[1].place_order.client_order_id"),
        (transfer(""), "commands[1].transfer.amount"),
        (transfer("-1"), "commands[1].transfer.amount"),
        (transfer("1e9"), "commands[1].transfer.amount"),
        (transfer("1_000"), "commands[1].transfer.amount"),
        (transfer(" 1"), "commands[1].transfer.amount"),
        (transfer("１"), "commands[1].transfer.amount"),
        (transfer("9" * 79), "commands[1].transfer.amount"),
        (
            submitted(request_withdrawal=journal.RequestWithdrawal(amount="1.5")),
            "commands[1].request_withdrawal.amount",
        ),
        (
            submitted(request_withdrawal=journal.RequestWithdrawal(amount="1", address="x" * 257)),
            "commands[1].request_withdrawal.address",
        ),
        (
            submitted(cancel_withdrawal=journal.CancelWithdrawal(reason="x" * 257)),
            "commands[1].cancel_withdrawal.reason",
        ),
        (submitted(claim_final=journal.ClaimFinal(amount="")), "commands[1].claim_final.amount"),
        (
            submitted(exit_request_final=journal.ExitRequestFinal(transaction_hash="x" * 257)),
            "commands[1].exit_request_final.transaction_hash",
        ),
        (submitted(change_market=journal.ChangeMarket(market_id=1, state=7)), "commands[1].change_market.state"),  # type: ignore[arg-type]
        (
            submitted(change_market=journal.ChangeMarket(state=journal.MARKET_STATE_OPEN, reason="x" * 257)),
            "commands[1].change_market.reason",
        ),
        (submitted(cancel_order=journal.CancelOrder(cause=journal.CANCEL_CAUSE_IOC)), "commands[1].cancel_order.cause"),
        (submitted(cancel_orders=journal.CancelOrders(cause=99)), "commands[1].cancel_orders.cause"),  # type: ignore[arg-type]
        (submitted(open_account=journal.OpenAccount(name="n" * 257)), "commands[1].open_account.name"),
        (
            submitted(set_reference_price=journal.SetReferencePrice(source="x" * 257)),
            "commands[1].set_reference_price.source",
        ),
    ],
)
def test_what_cannot_be_represented_is_refused_by_name(request_: pb.SubmitRequest, field: str) -> None:
    with pytest.raises(Rejected) as refused:
        wire.submitted(request_)
    assert refused.value.reason is Reason.INVALID_FIELD
    assert refused.value.field == field


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\xff", wire.encode_command(model.Command(1, PLACE))[:-1]])
def test_commands_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        wire.decode_commands(data)


def test_a_row_is_the_concatenation_of_its_events() -> None:
    encoded = [wire.encode_event(model.Event(n, 0, 0, body)) for n, body in enumerate(EVENTS, 1)]
    many = wire.encode_event(model.Event(99, 0, 0, model.OrderPlaced(ORDER, [TRADE] * 500)))
    assert len(many) > 0x4000, "a length of three bytes"
    data = b"".join([*encoded, many])
    assert len(journal.EventBatch.FromString(data).events) == len(encoded) + 1
    assert wire.elements(data) == [*encoded, many]


@pytest.mark.parametrize("cursor", range(len(EVENTS) + 1))
def test_a_row_is_cut_at_a_cursor(cursor: int) -> None:
    encoded = [wire.encode_event(model.Event(n, 0, 0, body)) for n, body in enumerate(EVENTS, 1)]
    assert wire.events_after(b"".join(encoded), cursor) == b"".join(encoded[cursor:])


@pytest.mark.parametrize("gateway", [0, 128, 2**32 - 1])
def test_gateways_have_small_numbers(gateway: int) -> None:
    with pytest.raises(Rejected):
        wire.gateway_number(pb.OpenSessionRequest(gateway=gateway))
