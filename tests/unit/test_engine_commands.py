"""The engine's commands beside orders, its numbers, its fees, and what it must never be asked: tables."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from services.book import model as m
from services.book.engine import SNAPSHOT_FORMAT, Engine
from services.book.engine import Session as GatewaySession
from services.book.snapshot import Outdated
from services.command_ids import SESSION_COMMANDS_MAX, command_id_of
from services.units import INT64_MAX
from tests.snapshots import of_format_1, of_format_2, of_format_3, of_format_4, of_format_5, of_format_6

OPEN, HALTED = m.MARKET_STATE_OPEN, m.MARKET_STATE_HALTED
BTC, USD = m.Asset(1, "BTC", 8), m.Asset(2, "USD", 18)
BTC_USD = m.Market(1, "BTC-USD", 1, 2, "0.01", "0.00001", 0, OPEN)
LARGEST = 2**256 - 1
DEPOSIT = m.DepositFinal(1, 1001, "BTC", 5, "0xab")
TRANSFER = m.Transfer("t1", 2, 1001, 2, 7)
ADJUSTMENT = m.Transfer("t1", 5, 1001, 2, 7, "x" * 200)
WALLET = "0x" + "ab" * 20
FIRST = command_id_of(1, 1, 1)
REQUEST = m.RequestWithdrawal("w1", 1001, 2, 7, WALLET)
WITHDRAWAL = m.Withdrawal(FIRST, REQUEST)
CLAIM = m.ClaimFinal(1, WALLET, "BTC", 5, "0xab")
EXIT = m.ExitRequestFinal(1, 1001, False, "0xab")


def request(**changes: object) -> m.RequestWithdrawal:
    fields = {name: getattr(REQUEST, name) for name in m.RequestWithdrawal.__match_args__}
    return m.RequestWithdrawal(**fields | changes)


OWES = m.NoteDebt(1, 1, m.DEBT_STATE_FROZEN, 1001, "BTC", 5, "why")


def exit_of(account_id: int) -> m.ClaimFinal:
    """The account's owner has left with 5 BTC."""
    return m.ClaimFinal(1, WALLET, "BTC", 5, "0xab", account_id)


def refusal_of(event: m.Event) -> str:
    assert isinstance(event.body, m.Refused), event
    return event.body.reason


def setup(edition: int = m.EDITION) -> Engine:
    """One leader, one session, BTC (8 decimals), USD (18), BTC-USD, ann (1001) and bob (1002)."""
    engine = Engine()
    bodies: list[m.CommandBody] = [
        m.LeaderStarted(1, "journal", edition),
        m.OpenSession(1),
        m.CreateAsset(BTC),
        m.CreateAsset(USD),
        m.CreateMarket(BTC_USD),
        m.OpenAccount("ann"),
        m.OpenAccount("bob"),
    ]
    for body in bodies:
        engine.apply(m.Command(0, body), 10)
    return engine


def limit(
    account_id: int, side: int, price_ticks: int, lots: int, maker_ppm: int = 0, taker_ppm: int = 0
) -> m.PlaceOrder:
    return m.PlaceOrder(
        account_id,
        1,
        side,
        m.ORDER_TYPE_LIMIT,
        m.TIME_IN_FORCE_GTC,
        False,
        price_ticks,
        lots,
        0,
        "",
        maker_ppm,
        taker_ppm,
    )


class Session:
    """Speaks to an engine as gateway 1."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.number = engine, 0

    def say(self, body: m.CommandBody) -> m.Event:
        self.number += 1
        return self.engine.apply(m.Command(command_id_of(1, 1, self.number), body), 10)


def market(**changes: object) -> m.CreateMarket:
    asked = m.Market(0, "USD-BTC", 2, 1, "1", "0.1")
    for field, value in changes.items():
        setattr(asked, field, value)
    return m.CreateMarket(asked)


ETH = m.Asset(3, "ETH", 36)
USD_BTC = m.Market(2, "USD-BTC", 2, 1, "1", "0.1", 0, OPEN)
HALTED_BTC_USD = m.Market(1, "BTC-USD", 1, 2, "0.01", "0.00001", 0, HALTED)


@pytest.mark.parametrize(
    ("asked", "becomes"),
    [
        # What is asked, after `setup`                             what it becomes: an event, or the reason of a refusal
        (m.OpenAccount("cat"), m.AccountOpened(1003, "cat")),
        (m.OpenAccount("ann"), "ALREADY_EXISTS"),
        (m.OpenAccount("faucet"), "ALREADY_EXISTS"),
        (m.OpenAccount("Ann"), m.AccountOpened(1003, "Ann")),
        (m.OpenAccount("x" * 256), m.AccountOpened(1003, "x" * 256)),
        (m.OpenAccount("x" * 257), "INVALID_FIELD"),
        (m.OpenAccount(""), "INVALID_FIELD"),
        (TRANSFER, m.Transferred(TRANSFER, 3)),
        (m.Transfer("t1", 2, 1001, 2, LARGEST), m.Transferred(m.Transfer("t1", 2, 1001, 2, LARGEST), 3)),
        (m.Transfer("t1", 2, 1001, 2, LARGEST + 1), "INVALID_FIELD"),
        (m.Transfer("t1", 2, 1001, 2, 0), "INVALID_FIELD"),
        (m.Transfer("t1", 2, 1001, 2, -7), "INVALID_FIELD"),
        (m.Transfer("", 2, 1001, 2, 7), "INVALID_FIELD"),
        (m.Transfer("t1", 1001, 1001, 2, 7), "INVALID_FIELD"),
        (m.Transfer("t1", 4, 1001, 2, 7), "INVALID_FIELD"),
        (m.Transfer("t1", 1001, 4, 2, 7), "INVALID_FIELD"),
        (m.Transfer("t1", 5, 1001, 2, 7, "x" * 201), "INVALID_FIELD"),
        (ADJUSTMENT, m.Transferred(ADJUSTMENT, 3)),
        (m.Transfer("t1", 0, 1001, 2, 7), "ACCOUNT_NOT_FOUND"),
        (m.Transfer("t1", 6, 1001, 2, 7), "ACCOUNT_NOT_FOUND"),
        (m.Transfer("t1", 2, 1003, 2, 7), "ACCOUNT_NOT_FOUND"),
        (m.Transfer("t1", 2, 1000, 2, 7), "ACCOUNT_NOT_FOUND"),
        (m.Transfer("t1", 2, 1001, 3, 7), "ASSET_NOT_FOUND"),
        (DEPOSIT, m.Deposited(DEPOSIT, 1)),
        (m.DepositFinal(2, 1001, "BTC", 5), "OUT_OF_SEQUENCE"),
        (m.DepositFinal(0, 1001, "BTC", 5), "OUT_OF_SEQUENCE"),
        (m.DepositFinal(1, 999, "BTC", 5), m.Deposited(m.DepositFinal(1, 999, "BTC", 5), 1, 3, 3)),
        (m.DepositFinal(1, 4, "BTC", 5), m.Deposited(m.DepositFinal(1, 4, "BTC", 5), 1, 3, 3)),
        (m.DepositFinal(1, 0, "BTC", 5), "INVALID_FIELD"),
        (m.DepositFinal(1, 1001, "btc", 5), "ASSET_NOT_FOUND"),
        (m.DepositFinal(1, 1001, "BTC", 0), "INVALID_FIELD"),
        (m.DepositFinal(1, 1001, "BTC", LARGEST + 1), "INVALID_FIELD"),
        (REQUEST, m.WithdrawalRequested(WITHDRAWAL)),
        (request(amount=LARGEST), m.WithdrawalRequested(m.Withdrawal(FIRST, request(amount=LARGEST)))),
        (request(amount=LARGEST + 1), "INVALID_FIELD"),
        (request(amount=0), "INVALID_FIELD"),
        (request(amount=-7), "INVALID_FIELD"),
        (request(transfer_id=""), "INVALID_FIELD"),
        (request(account_id=1003), "ACCOUNT_NOT_FOUND"),
        (request(account_id=6), "ACCOUNT_NOT_FOUND"),
        (request(account_id=4), "INVALID_FIELD"),
        (request(account_id=1), m.WithdrawalRequested(m.Withdrawal(FIRST, request(account_id=1)))),
        (request(asset_id=3), "ASSET_NOT_FOUND"),
        (request(address=""), "INVALID_FIELD"),
        (request(address="0x" + "AB" * 20), "INVALID_FIELD"),
        (request(address="0X" + "ab" * 20), "INVALID_FIELD"),
        (request(address="ab" * 21), "INVALID_FIELD"),
        (request(address=WALLET[:-1]), "INVALID_FIELD"),
        (request(address=WALLET + "0"), "INVALID_FIELD"),
        (request(address="0x" + "ag" * 20), "INVALID_FIELD"),
        (request(address="0x" + "٣" * 40), "INVALID_FIELD"),
        (request(address="0x" + "0" * 40), "INVALID_FIELD"),
        (m.ApproveWithdrawal(FIRST), "WITHDRAWAL_NOT_FOUND"),
        (m.CancelWithdrawal(0), "WITHDRAWAL_NOT_FOUND"),
        (CLAIM, m.Claimed(CLAIM, 1)),
        (m.ClaimFinal(2, WALLET, "BTC", 5), "OUT_OF_SEQUENCE"),
        (m.ClaimFinal(0, WALLET, "BTC", 5), "OUT_OF_SEQUENCE"),
        (m.ClaimFinal(1, WALLET, "btc", 5), "ASSET_NOT_FOUND"),
        (m.ClaimFinal(1, WALLET, "BTC", 0), "INVALID_FIELD"),
        (m.ClaimFinal(1, WALLET, "BTC", LARGEST + 1), "INVALID_FIELD"),
        (m.ClaimFinal(1, "0x", "BTC", 5), "INVALID_FIELD"),
        (exit_of(1001), "OUT_OF_SEQUENCE"),
        (exit_of(1003), "INVALID_FIELD"),
        (exit_of(3), "INVALID_FIELD"),
        (exit_of(-1), "INVALID_FIELD"),
        (EXIT, m.ExitRequested(EXIT)),
        (m.ExitRequestFinal(1, 1002, True), m.ExitRequested(m.ExitRequestFinal(1, 1002, True))),
        (m.ExitRequestFinal(2, 1001), "OUT_OF_SEQUENCE"),
        (m.ExitRequestFinal(0, 1001), "OUT_OF_SEQUENCE"),
        (m.ExitRequestFinal(1, 1003), "INVALID_FIELD"),
        (m.ExitRequestFinal(1, 3), "INVALID_FIELD"),
        (OWES, m.DebtNoted(OWES, 1)),
        (m.NoteDebt(2, 2, 1, 1001, "BTC", 5), "OUT_OF_SEQUENCE"),
        (m.NoteDebt(0, 0, 1, 1001, "BTC", 5), "OUT_OF_SEQUENCE"),
        (m.NoteDebt(1, 2, 1, 1001, "BTC", 5), "INVALID_FIELD"),
        (m.NoteDebt(1, 1, 2, 1001, "BTC", 5), "INVALID_FIELD"),
        (m.NoteDebt(1, 1, 1, 1003, "BTC", 5), "INVALID_FIELD"),
        (m.NoteDebt(1, 1, 1, 3, "BTC", 5), "INVALID_FIELD"),
        (m.NoteDebt(1, 1, 1, 4, "BTC", 5), "INVALID_FIELD"),
        (m.NoteDebt(1, 1, 1, 1001, "btc", 5), "ASSET_NOT_FOUND"),
        (m.NoteDebt(1, 1, 1, 1001, "BTC", 0), "INVALID_FIELD"),
        (m.NoteDebt(1, 1, 1, 1001, "BTC", LARGEST + 1), "INVALID_FIELD"),
        (m.NoteDebt(1, 1, 1, 1001, "BTC", 5, "x" * 201), "INVALID_FIELD"),
        (m.SettlementFinal(1), m.SettlementFinalized(1)),
        (m.SettlementFinal(2), m.SettlementFinalized(2)),
        (m.SettlementFinal(3), "OUT_OF_SEQUENCE"),
        (m.SettlementFinal(0), "OUT_OF_SEQUENCE"),
        (m.CreateAsset(m.Asset(99, "ETH", 36)), m.AssetCreated(ETH, 3)),
        (m.CreateAsset(m.Asset(0, "ETH", 37)), "INVALID_FIELD"),
        (m.CreateAsset(m.Asset(0, "ETH", -1)), "INVALID_FIELD"),
        (m.CreateAsset(m.Asset(0, "BTC", 8)), "ALREADY_EXISTS"),
        (m.CreateAsset(m.Asset(0, "BTC", 9)), "ALREADY_EXISTS"),
        (m.CreateAsset(m.Asset(0, "", 8)), "INVALID_FIELD"),
        (m.CreateAsset(m.Asset(0, "eth", 8)), "INVALID_FIELD"),
        (m.CreateAsset(m.Asset(0, "E-TH", 8)), "INVALID_FIELD"),
        (m.CreateAsset(m.Asset(0, "١٢", 8)), "INVALID_FIELD"),
        (m.CreateAsset(m.Asset(0, "A" * 16, 0)), m.AssetCreated(m.Asset(3, "A" * 16, 0), 3)),
        (m.CreateAsset(m.Asset(0, "A" * 17, 0)), "INVALID_FIELD"),
        (market(), m.MarketCreated(USD_BTC)),
        (market(state=HALTED), m.MarketCreated(m.Market(2, "USD-BTC", 2, 1, "1", "0.1", 0, HALTED))),
        (market(state=5), "INVALID_FIELD"),
        (market(symbol="BTC-USD"), "ALREADY_EXISTS"),
        (market(symbol="BTC/USD"), "INVALID_FIELD"),
        (market(base_asset_id=3), "ASSET_NOT_FOUND"),
        (market(quote_asset_id=0), "ASSET_NOT_FOUND"),
        (market(symbol="BTC-BTC", base_asset_id=1), "INVALID_MARKET"),
        (market(tick_size="0"), "INVALID_FIELD"),
        (market(tick_size="1e-2"), "INVALID_FIELD"),
        (market(lot_size="-1"), "INVALID_FIELD"),
        (market(tick_size="0.0000001"), m.MarketCreated(m.Market(2, "USD-BTC", 2, 1, "0.0000001", "0.1", 0, OPEN))),
        (market(tick_size="0.00000001"), "INVALID_MARKET"),
        (market(notional_min=-1), "INVALID_FIELD"),
        (market(notional_min=LARGEST + 1), "INVALID_FIELD"),
        (m.ChangeMarket(1, HALTED), m.MarketChanged(HALTED_BTC_USD)),
        (m.ChangeMarket(1, OPEN), m.MarketChanged(BTC_USD)),
        (m.ChangeMarket(1, 0), "INVALID_FIELD"),
        (m.ChangeMarket(1, 5), "INVALID_FIELD"),
        (m.ChangeMarket(2, HALTED), "MARKET_NOT_FOUND"),
        (m.ChangeMarket(1, HALTED, None, "x" * 201), "INVALID_FIELD"),
        (m.ChangeMarket(1, 0, m.MarketRules(notional_min=-1)), "INVALID_FIELD"),
        (m.ChangeMarket(1, 0, m.MarketRules(open_orders_max=-1)), "INVALID_FIELD"),
        (m.ChangeMarket(1, 0, m.MarketRules(reference_age_max_seconds=-1)), "INVALID_FIELD"),
        (m.ChangeMarket(1, 0, m.MarketRules(reference_age_max_seconds=86_401)), "INVALID_FIELD"),
        (m.SetReferencePrice(1, 300, "there", 7), m.ReferencePriceSet(1, 300, "there", 7)),
        (m.SetReferencePrice(1, 300, "x" * 64, 12), m.ReferencePriceSet(1, 300, "x" * 64, 11)),  # not before its time
        (m.SetReferencePrice(2, 300, "there", 7), "MARKET_NOT_FOUND"),
        (m.SetReferencePrice(1, 0, "there", 7), "INVALID_PRICE"),
        (m.SetReferencePrice(1, 2**63, "there", 7), "INVALID_PRICE"),
        (m.SetReferencePrice(1, 300, "", 7), "INVALID_FIELD"),
        (m.SetReferencePrice(1, 300, "x" * 65, 7), "INVALID_FIELD"),
        (m.SetReferencePrice(1, 300, "there", 0), "INVALID_FIELD"),
        (m.CancelOrder(1001, 7), "ORDER_NOT_FOUND"),
    ],
    ids=str,
)
def test_a_command_becomes_one_event(asked: m.CommandBody, becomes: m.EventBody | str) -> None:
    engine = setup()
    command = m.Command(command_id_of(1, 1, 1), asked)
    before = engine.snapshot()
    event = engine.apply(command, 11)
    expected = m.Refused(becomes, command) if isinstance(becomes, str) else becomes
    assert event == m.Event(8, command.command_id, 0, expected)
    engine.validate()
    if isinstance(becomes, str):
        assert changed(before, engine) == {"journal_sequence", "sessions", "time_ns"}


@pytest.mark.parametrize(
    ("asked", "becomes", "lock", "settlements"),
    [
        # After REQUEST: what is asked, what it becomes, what ann's lock is then, how many entries the chain has
        ([], m.WithdrawalRequested(WITHDRAWAL), 7, 2),
        ([m.ApproveWithdrawal(FIRST)], m.WithdrawalApproved(WITHDRAWAL, 3), 0, 3),
        ([m.CancelWithdrawal(FIRST, "no")], m.WithdrawalCanceled(WITHDRAWAL, "no"), 0, 2),
        ([m.CancelWithdrawal(FIRST, "x" * 201)], "INVALID_FIELD", 7, 2),
        ([m.ApproveWithdrawal(FIRST + 1)], "WITHDRAWAL_NOT_FOUND", 7, 2),
        ([m.ApproveWithdrawal(FIRST), m.ApproveWithdrawal(FIRST)], "WITHDRAWAL_NOT_FOUND", 0, 3),
        ([m.ApproveWithdrawal(FIRST), m.CancelWithdrawal(FIRST)], "WITHDRAWAL_NOT_FOUND", 0, 3),
        ([m.CancelWithdrawal(FIRST), m.ApproveWithdrawal(FIRST)], "WITHDRAWAL_NOT_FOUND", 0, 2),
        ([m.CancelWithdrawal(FIRST), m.CancelWithdrawal(FIRST)], "WITHDRAWAL_NOT_FOUND", 0, 2),
        ([REQUEST], m.WithdrawalRequested(m.Withdrawal(FIRST + 1, REQUEST)), 14, 2),  # ids are the gateway's business
        ([REQUEST, m.ApproveWithdrawal(FIRST + 1)], m.WithdrawalApproved(m.Withdrawal(FIRST + 1, REQUEST), 3), 7, 3),
    ],
)
def test_a_withdrawal_waits_until_it_is_approved_or_canceled(
    asked: list[m.CommandBody], becomes: m.EventBody | str, lock: int, settlements: int
) -> None:
    session = Session(setup())
    event = session.say(REQUEST)
    for body in asked:
        event = session.say(body)
    assert event.body == (m.Refused(becomes, command_of(event)) if isinstance(becomes, str) else becomes)
    assert session.engine.locks() == ({(1001, 2): lock} if lock else {})
    assert session.engine.settlement_sequence == settlements
    session.engine.validate()
    copy = Engine.restore(session.engine.snapshot())
    assert (copy.locks(), copy.digest()) == (session.engine.locks(), session.engine.digest())


def test_a_withdrawal_and_an_order_lock_together() -> None:
    session = Session(setup())
    session.say(REQUEST)
    session.say(limit(1001, m.SIDE_BUY, 3, 1))
    assert session.engine.locks() == {(1001, 2): 7 + 3 * 10**11}


def test_an_order_is_its_owners_to_cancel() -> None:
    session = Session(setup())
    placed = session.say(limit(1001, m.SIDE_BUY, 3, 1)).body
    assert isinstance(placed, m.OrderPlaced)
    for account_id, becomes in ((1002, m.Refused), (1001, m.OrderCanceled), (1001, m.Refused)):
        assert isinstance(session.say(m.CancelOrder(account_id, placed.order.order_id)).body, becomes)


def changed(before: bytes, engine: Engine) -> set[str]:
    old, new = json.loads(before), json.loads(engine.snapshot())
    return {field for field in new if old[field] != new[field]}


@pytest.mark.parametrize(
    ("asked", "becomes"),
    [
        (m.AdvanceTime(), m.TimeAdvanced()),
        (m.LeaderStarted(2, "journal"), m.LeaderStarted(2, "journal")),
        (m.OpenSession(1), m.SessionOpened(1, 2)),
        (m.OpenSession(127), m.SessionOpened(127, 1)),
        (m.OpenSession(0), "INVALID_FIELD"),
        (m.OpenSession(128), "INVALID_FIELD"),
    ],
    ids=str,
)
def test_the_books_own_commands(asked: m.CommandBody, becomes: m.EventBody | str) -> None:
    engine, command = setup(), m.Command(0, asked)
    expected = m.Refused(becomes, command) if isinstance(becomes, str) else becomes
    assert engine.apply(command, 11) == m.Event(8, 0, 0, expected)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("account_id", 1003, "ACCOUNT_NOT_FOUND"),
        ("market_id", 2, "MARKET_NOT_FOUND"),
        ("side", 0, "INVALID_FIELD"),
        ("side", 3, "INVALID_FIELD"),
        ("type", 0, "INVALID_FIELD"),
        ("type", m.ORDER_TYPE_MARKET, "INVALID_FIELD"),
        ("type", 99, "INVALID_FIELD"),
        ("time_in_force", 0, "INVALID_FIELD"),
        ("time_in_force", 4, "INVALID_FIELD"),
        ("time_in_force", 6, "INVALID_FIELD"),
        ("price_ticks", 0, "INVALID_PRICE"),
        ("price_ticks", -1, "INVALID_PRICE"),
        ("price_ticks", INT64_MAX + 1, "INVALID_PRICE"),
        ("quantity_lots", 0, "INVALID_QUANTITY"),
        ("quantity_lots", -1, "INVALID_QUANTITY"),
        ("quantity_lots", INT64_MAX + 1, "INVALID_QUANTITY"),
        ("budget", 1, "INVALID_FIELD"),
        ("maker_fee_ppm", -1, "INVALID_FIELD"),
        ("maker_fee_ppm", 1_000_001, "INVALID_FIELD"),
        ("taker_fee_ppm", 1_000_001, "INVALID_FIELD"),
    ],
)
def test_an_order_with_one_wrong_field(field: str, value: int, reason: str) -> None:
    order = limit(1001, m.SIDE_BUY, 100, 5)
    setattr(order, field, value)
    event = Session(setup()).say(order)
    assert isinstance(event.body, m.Refused)
    assert event.body.reason == reason


@pytest.mark.parametrize(
    ("side", "kind", "time_in_force", "post_only", "price_ticks", "budget", "fits"),
    [
        (m.SIDE_BUY, m.ORDER_TYPE_LIMIT, m.TIME_IN_FORCE_GTC, True, 100, 0, True),
        (m.SIDE_BUY, m.ORDER_TYPE_LIMIT, m.TIME_IN_FORCE_IOC, True, 100, 0, False),
        (m.SIDE_BUY, m.ORDER_TYPE_LIMIT, m.TIME_IN_FORCE_FOK, True, 100, 0, False),
        (m.SIDE_SELL, m.ORDER_TYPE_LIMIT, m.TIME_IN_FORCE_IOC, False, 100, 9, False),
        (m.SIDE_BUY, m.ORDER_TYPE_MARKET, m.TIME_IN_FORCE_IOC, False, 0, 9, True),
        (m.SIDE_BUY, m.ORDER_TYPE_MARKET, m.TIME_IN_FORCE_FOK, False, 0, LARGEST, True),
        (m.SIDE_BUY, m.ORDER_TYPE_MARKET, m.TIME_IN_FORCE_IOC, False, 0, LARGEST + 1, False),
        (m.SIDE_BUY, m.ORDER_TYPE_MARKET, m.TIME_IN_FORCE_IOC, False, 0, 0, False),
        (m.SIDE_BUY, m.ORDER_TYPE_MARKET, m.TIME_IN_FORCE_GTC, False, 0, 9, False),
        (m.SIDE_BUY, m.ORDER_TYPE_MARKET, m.TIME_IN_FORCE_IOC, False, 100, 9, False),
        (m.SIDE_BUY, m.ORDER_TYPE_MARKET, m.TIME_IN_FORCE_IOC, True, 0, 9, False),
        (m.SIDE_SELL, m.ORDER_TYPE_MARKET, m.TIME_IN_FORCE_IOC, False, 0, 0, True),
        (m.SIDE_SELL, m.ORDER_TYPE_MARKET, m.TIME_IN_FORCE_IOC, False, 0, 9, False),
    ],
)
def test_which_fields_go_together(
    side: int, kind: int, time_in_force: int, post_only: bool, price_ticks: int, budget: int, fits: bool
) -> None:
    order = m.PlaceOrder(1001, 1, side, kind, time_in_force, post_only, price_ticks, 5, budget)
    event = Session(setup()).say(order)
    assert (
        isinstance(event.body, m.OrderPlaced) if fits else event.body == m.Refused("INVALID_FIELD", command_of(event))
    )


def command_of(event: m.Event) -> m.Command:
    assert isinstance(event.body, m.Refused)
    return event.body.command


@pytest.mark.parametrize(
    ("taker_side", "lots", "maker_ppm", "taker_ppm", "maker_fee", "taker_fee"),
    [
        # One lot is 1,000 units of BTC, at 3 ticks worth 3 x 10^11 of USD. The buyer pays in BTC, the seller in USD.
        (m.SIDE_BUY, 1, 0, 0, 0, 0),
        (m.SIDE_BUY, 1, 1_000, 2_000, 3 * 10**8, 2),
        (m.SIDE_SELL, 1, 1_000, 2_000, 1, 6 * 10**8),
        (m.SIDE_SELL, 1, 1, 1, 1, 3 * 10**5),  # a thousandth of a unit is a unit
        (m.SIDE_SELL, 1, 1_001, 0, 2, 0),  # one and a thousandth is two
        (m.SIDE_BUY, 7, 0, 333, 0, 3),  # 2.331
        (m.SIDE_BUY, 1, 1_000_000, 1_000_000, 3 * 10**11, 1_000),  # all of it
    ],
)
def test_fees_are_taken_from_what_is_received_and_rounded_up(
    taker_side: int, lots: int, maker_ppm: int, taker_ppm: int, maker_fee: int, taker_fee: int
) -> None:
    session = Session(setup())
    maker_side = m.SIDE_SELL if taker_side == m.SIDE_BUY else m.SIDE_BUY
    # The other rate of each order must not matter.
    session.say(limit(1001, maker_side, 3, lots, maker_ppm, 777_777))
    event = session.say(limit(1002, taker_side, 3, lots, 777_777, taker_ppm))
    assert isinstance(event.body, m.OrderPlaced)
    expected = m.Trade(
        1, 3, 3, lots, lots * 1_000, lots * 3 * 10**11, command_id_of(1, 1, 1), 1001, maker_fee, taker_fee, 0, 0
    )
    assert event.body.trades == [expected]


class Numbered(NamedTuple):
    """What one command is expected to count up."""

    body: m.CommandBody
    market_sequence: int
    trades: list[tuple[int, int]]


def test_what_counts_and_what_does_not() -> None:
    session = Session(setup())
    ioc = limit(1002, m.SIDE_BUY, 100, 3)
    ioc.time_in_force = m.TIME_IN_FORCE_IOC
    first = command_id_of(1, 1, 1)
    table = [
        Numbered(limit(1001, m.SIDE_SELL, 100, 2), 1, []),  # rests
        Numbered(limit(1001, m.SIDE_SELL, 100, 2), 2, []),
        Numbered(ioc, 3, [(1, 3), (2, 4)]),  # trades twice, filled
        Numbered(TRANSFER, 0, []),  # the next settlement sequence, 5
        Numbered(ioc, 4, [(3, 6)]),  # trades and is canceled
        Numbered(ioc, 0, []),  # neither trades nor rests
        Numbered(m.CancelOrder(1001, first), 0, []),  # refused
        Numbered(limit(1001, m.SIDE_SELL, 100, 2), 5, []),
        Numbered(m.ChangeMarket(1, HALTED), 0, []),
        Numbered(m.CancelOrder(1001, first + 7), 6, []),
    ]
    for journal_sequence, row in enumerate(table, 8):
        event = session.say(row.body)
        trades = event.body.trades if isinstance(event.body, m.OrderPlaced) else []
        assert (event.journal_sequence, event.market_sequence) == (journal_sequence, row.market_sequence), row
        assert [(trade.trade_id, trade.settlement_sequence) for trade in trades] == row.trades, row
    assert session.engine.settlement_sequence == 6


def test_every_market_counts_for_itself() -> None:
    session = Session(setup())
    session.say(market())
    session.say(limit(1001, m.SIDE_BUY, 100, 2))
    other = limit(1002, m.SIDE_SELL, 100, 2)
    other.market_id = 2
    assert session.say(other).market_sequence == 1
    assert session.engine.locks() == {(1001, 2): 200 * 10**11, (1002, 2): 2 * 10**17}
    for market_id, side in ((1, m.SIDE_BUY), (2, m.SIDE_SELL)):
        (open_order,) = session.engine.open_orders(market_id)
        assert (open_order.place.side, open_order.place.market_id) == (side, market_id)


@pytest.mark.parametrize(
    ("command", "time_ns"),
    [
        (m.Command(0, m.AdvanceTime()), 9),  # time runs back
        (m.Command(command_id_of(1, 1, 2), TRANSFER), 11),  # a number left out
        (m.Command(command_id_of(1, 1, 0), TRANSFER), 11),  # a number again
        (m.Command(command_id_of(1, 2, 1), TRANSFER), 11),  # a session that never was
        (m.Command(command_id_of(2, 1, 1), TRANSFER), 11),  # a gateway without one
        (m.Command(-1, TRANSFER), 11),
        (m.Command(0, limit(1001, m.SIDE_BUY, 100, 5)), 11),  # an order without an id
        (m.Command(0, REQUEST), 11),  # a withdrawal without an id
        (m.Command(0, m.LeaderStarted(1, "journal")), 11),  # a leader again
        (m.Command(0, m.LeaderStarted(3, "journal")), 11),  # one left out
        (m.Command(0, m.LeaderStarted(2, "another")), 11),  # another journal's
        (m.Command(0, m.LeaderStarted(2, "")), 11),
        (m.Command(command_id_of(1, 1, 1), m.LeaderStarted(2, "journal")), 11),  # a gateway as leader
        (m.Command(command_id_of(1, 1, 1), m.AdvanceTime()), 11),
        (m.Command(command_id_of(1, 1, 1), m.OpenSession(1)), 11),
    ],
    ids=str,
)
def test_what_must_never_come_crashes_and_changes_nothing(command: m.Command, time_ns: int) -> None:
    engine = setup()
    before = engine.snapshot()
    with pytest.raises(AssertionError):
        engine.apply(command, time_ns)
    assert engine.snapshot() == before


def test_an_old_session_ends_where_a_new_one_begins() -> None:
    engine = setup()
    engine.apply(m.Command(command_id_of(1, 1, 1), TRANSFER), 10)
    engine.apply(m.Command(0, m.OpenSession(1)), 10)
    with pytest.raises(AssertionError):
        engine.apply(m.Command(command_id_of(1, 1, 2), TRANSFER), 10)
    assert engine.apply(m.Command(command_id_of(1, 2, 1), TRANSFER), 10).journal_sequence == 10


def test_a_session_never_runs_into_the_next_one() -> None:
    engine = setup()
    engine.sessions[1].next_id = engine.sessions[1].last_id
    engine.apply(m.Command(command_id_of(1, 1, SESSION_COMMANDS_MAX), TRANSFER), 10)
    assert engine.sessions[1].last_number == SESSION_COMMANDS_MAX
    with pytest.raises(AssertionError):
        engine.apply(m.Command(command_id_of(1, 1, SESSION_COMMANDS_MAX + 1), TRANSFER), 10)


def test_an_int64_holds_every_command_id() -> None:
    assert command_id_of(127, (1 << 20) - 1, SESSION_COMMANDS_MAX) == INT64_MAX


COUNTERS = {"journal_sequence", "sessions"}
"""What every command changes."""


class TestSnapshot:
    def test_an_empty_one(self) -> None:
        engine = Engine(shard=3)
        assert Engine.restore(engine.snapshot()).snapshot() == engine.snapshot()
        assert Engine.restore(engine.snapshot()).shard == 3

    def test_a_full_one_goes_on_as_if_nothing_had_been(self) -> None:
        session = Session(setup())
        for side, price_ticks, lots in (
            (m.SIDE_BUY, 99, 2),
            (m.SIDE_BUY, 99, 3),
            (m.SIDE_BUY, 98, 1),
            (m.SIDE_SELL, 99, 1),
        ):
            session.say(limit(1001 + (side == m.SIDE_SELL), side, price_ticks, lots, 1, 2))
        engine = session.engine
        copy = Engine.restore(engine.snapshot())
        copy.validate()
        assert copy.digest() == engine.digest()
        assert list(copy.open_orders(1)) == list(engine.open_orders(1))
        command = m.Command(command_id_of(1, 1, 5), limit(1002, m.SIDE_SELL, 1, 9))
        assert copy.apply(command, 10) == engine.apply(command, 10)
        assert copy.digest() == engine.digest()

    def test_the_digest_sees_every_change(self) -> None:
        session, digests = Session(setup()), set[str]()
        for body in (
            limit(1001, m.SIDE_BUY, 99, 2),
            limit(1001, m.SIDE_BUY, 99, 2),
            DEPOSIT,
            m.SettlementFinal(1),
            REQUEST,
            CLAIM,
        ):
            session.say(body)
            state = json.loads(session.engine.snapshot())
            digests.add(json.dumps({field: state[field] for field in state if field not in COUNTERS}))
        assert len(digests) == 6

    def test_nobody_has_left_who_has_something_open(self) -> None:
        session = Session(setup())
        first, asked = session.say(limit(1001, m.SIDE_BUY, 99, 2)), session.say(REQUEST)
        for index, account_id in enumerate((1001, 1002), 1):
            session.say(m.ExitRequestFinal(index, account_id))
        assert refusal_of(session.say(exit_of(1001))) == "OUT_OF_SEQUENCE"
        session.say(m.CancelOrder(1001, first.command_id))
        assert refusal_of(session.say(exit_of(1001))) == "OUT_OF_SEQUENCE"
        assert isinstance(session.say(exit_of(1002)).body, m.Claimed)
        session.say(m.CancelWithdrawal(asked.command_id))
        left = m.ClaimFinal(2, WALLET, "BTC", 5, "0xab", 1001)
        assert session.say(left).body == m.Claimed(left, 1)

    def test_a_debt_is_frozen_then_paid_then_resolved_and_nothing_else(self) -> None:
        session = Session(setup())
        frozen, paid, resolved = m.DEBT_STATE_FROZEN, m.DEBT_STATE_PAID, m.DEBT_STATE_RESOLVED
        rows = [
            (1, frozen, 5, True), (1, frozen, 5, False), (1, paid, 6, False), (1, paid, 5, True), (1, frozen, 5, False),
            (1, paid, 5, False), (1, resolved, 5, True), (1, resolved, 5, False), (1, paid, 5, False),
            (4, frozen, 5, True), (4, resolved, 5, True),
        ]  # fmt: skip
        index = 1
        for debt_id, state, amount, taken in rows:
            event = session.say(m.NoteDebt(index, debt_id, state, 1001, "BTC", amount))
            assert isinstance(event.body, m.DebtNoted) is taken, (debt_id, state)
            index += taken
            session.engine = Engine.restore(session.engine.snapshot())
            assert session.engine.notes_through == index - 1
        assert not session.engine.debts

    @pytest.mark.parametrize(("edition", "credited"), [(1, 0), (2, 3)])
    def test_what_came_before_the_exit_and_is_told_afterwards_is_insurances(self, edition: int, credited: int) -> None:
        session = Session(setup(edition))
        session.say(m.ExitRequestFinal(1, 1001))
        session.say(exit_of(1001))
        session.engine = Engine.restore(session.engine.snapshot())
        for index, (account_id, asset) in enumerate([(1001, "BTC"), (1001, "USD"), (1002, "BTC")], 1):
            deposit = m.DepositFinal(index, account_id, asset, 5)
            to = credited if (account_id, asset) == (1001, "BTC") else 0
            asset_id = 1 if asset == "BTC" else 2
            assert session.say(deposit).body == m.Deposited(deposit, asset_id, to, 0)

    def test_one_of_format_6_does_not_say_who_has_taken_what(self) -> None:
        session = Session(setup())
        assert Engine.restore(of_format_6(session.engine)).snapshot() == session.engine.snapshot()
        session.say(m.ExitRequestFinal(1, 1001))
        assert Engine.restore(of_format_6(session.engine)).snapshot() == session.engine.snapshot()
        session.say(exit_of(1001))
        with pytest.raises(Outdated):
            Engine.restore(of_format_6(session.engine))

    def test_nothing_begins_in_an_account_whose_owner_leaves_until_he_stays(self) -> None:
        session = Session(setup())
        placed, waiting = session.say(limit(1001, m.SIDE_BUY, 99, 2)).command_id, session.say(REQUEST).command_id
        bid, ask = limit(1001, m.SIDE_BUY, 98, 2), limit(1001, m.SIDE_SELL, 120, 2)
        begins: list[m.CommandBody] = [
            bid,
            m.PlaceGroup(bid, [ask]),
            m.ReplaceOrder(1001, placed, quantity_lots=1),
            REQUEST,
            m.ApproveWithdrawal(waiting),
            m.Transfer("t1", 1001, 1002, 1, 5),
            m.Transfer("t2", 1002, 1001, 1, 5),
        ]
        session.say(m.ExitRequestFinal(1, 1001))
        session.engine = Engine.restore(session.engine.snapshot())
        for body in begins:
            assert refusal_of(session.say(body)) == "ACCOUNT_FROZEN"
            session.number += m.numbers_of(body) - 1
        assert isinstance(session.say(limit(1002, m.SIDE_BUY, 98, 2)).body, m.OrderPlaced)
        assert isinstance(session.say(m.DepositFinal(1, 1001, "BTC", 5, "0xab")).body, m.Deposited)
        session.say(m.ExitRequestFinal(2, 1001, True))
        for body in begins:
            assert not isinstance(session.say(body).body, m.Refused), body
            session.number += m.numbers_of(body) - 1

    def test_one_of_format_1_is_an_engine_without_withdrawals(self) -> None:
        engine = setup(edition=0)
        engine.apply(m.Command(command_id_of(1, 1, 1), limit(1001, m.SIDE_BUY, 99, 2)), 10)
        restored = Engine.restore(of_format_1(engine))
        restored.validate()
        assert restored.snapshot() == engine.snapshot()

    def test_one_of_format_5_is_an_engine_without_exits(self) -> None:
        engine = setup()
        assert Engine.restore(of_format_5(engine)).snapshot() == engine.snapshot()

    def test_one_of_format_4_is_an_engine_without_reference_prices(self) -> None:
        session = Session(setup())
        session.say(m.ChangeMarket(1, 0, m.MarketRules(band_ppm=5)))
        assert Engine.restore(of_format_4(session.engine)).snapshot() == session.engine.snapshot()

    def test_one_of_format_3_goes_by_the_rules_of_its_time_until_a_leader_of_today(self) -> None:
        restored = Engine.restore(of_format_3(setup(edition=0)))
        assert restored.snapshot() == setup(edition=0).snapshot()
        assert restored.edition == restored.books[1].edition == 0
        restored.apply(m.Command(0, m.LeaderStarted(2, "journal")), 10)
        assert restored.edition == restored.books[1].edition == m.EDITION

    @pytest.mark.parametrize("edition", [m.EDITION - 1, m.EDITION + 1])
    def test_a_leader_of_another_edition_is_none(self, edition: int) -> None:
        with pytest.raises(AssertionError, match=f"edition {edition}"):
            setup().apply(m.Command(0, m.LeaderStarted(2, "journal", edition)), 10)

    @pytest.mark.parametrize("epoch", [1, 2])
    def test_a_session_without_numbers_left_stays_so(self, epoch: int) -> None:
        for last_number in (0, 1, SESSION_COMMANDS_MAX - 1, SESSION_COMMANDS_MAX):
            restored = GatewaySession(1, epoch, last_number)
            assert restored.last_number == last_number
            assert restored.next_id - restored.last_id == last_number + 1 - SESSION_COMMANDS_MAX

    def test_one_of_format_2_is_too_old_once_there_was_a_trade(self) -> None:
        session = Session(setup(edition=0))
        session.say(limit(1001, m.SIDE_BUY, 99, 2))
        restored = Engine.restore(of_format_2(session.engine))
        assert restored.snapshot() == session.engine.snapshot()
        session.say(limit(1002, m.SIDE_SELL, 99, 1))
        with pytest.raises(Outdated):
            Engine.restore(of_format_2(session.engine))

    def test_one_of_format_1_with_a_user_called_adjustments_is_refused(self) -> None:
        engine = setup()
        engine.accounts["adjustments"] = 1003
        old = json.loads(of_format_1(engine))
        old["accounts"].append([1003, "adjustments"])
        with pytest.raises(ValueError, match="adjustments"):
            Engine.restore(json.dumps(old).encode())

    @pytest.mark.parametrize(
        "data", [b"", b"[]", b"{}", b'{"format":0}', b"\xff", b'{"format":%d}' % (SNAPSHOT_FORMAT + 1)]
    )
    def test_what_is_none_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            Engine.restore(data)
