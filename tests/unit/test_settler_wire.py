"""What the settler takes for a settlement message, and what not."""

from __future__ import annotations

from typing import Any

import pytest
from clearbook.internal.v1 import journal_pb2, matching_service_pb2, settlement_pb2

from services.command_ids import command_id_of
from services.settler import wire
from services.settler.batch import NewAsset, Trade, Transfer, Withdrawal
from services.settler.liabilities import Credit, Payout
from services.settler.model import Change, Debt, DebtState, Item, Kind, Owner, Shortfall, State

TRADE = settlement_pb2.SettlementTrade(
    market="BTC-USD",
    trade_id=4,
    base_asset="BTC",
    quote_asset="USD",
    buyer_account_id=1001,
    seller_account_id=1002,
    base_amount="1" + "0" * 30,
    quote_amount="500",
    buyer_fee="1",
    seller_fee="",
)
TRANSFER = settlement_pb2.SettlementTransfer(
    transfer_id="t-1", from_account_id=2, to_account_id=1001, asset="USD", amount="77"
)


ADDRESS = "0x" + "ab" * 20


def withdrawal(**fields: object) -> settlement_pb2.SettlementWithdrawal:
    good = {"withdrawal_id": 9, "transfer_id": "w-1", "account_id": 1001, "asset": "USD", "amount": "77"}
    return settlement_pb2.SettlementWithdrawal(**({**good, "address": ADDRESS} | fields))  # type: ignore[arg-type]


def entry(sequence: int, **kind: object) -> settlement_pb2.SettlementEntry:
    return settlement_pb2.SettlementEntry(settlement_sequence=sequence, **kind)  # type: ignore[arg-type]


def message(*entries: settlement_pb2.SettlementEntry) -> bytes:
    return settlement_pb2.SettlementMessage(shard=3, incarnation="abc", entries=entries).SerializeToString()


def changed(of: settlement_pb2.SettlementTrade, **fields: object) -> settlement_pb2.SettlementTrade:
    copy = settlement_pb2.SettlementTrade.FromString(of.SerializeToString())
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


def test_a_message() -> None:
    asset = settlement_pb2.SettlementAsset(symbol="BTC", decimals=8)
    found = wire.message_of_bytes(
        message(
            entry(7, asset=asset),
            entry(8, trade=TRADE),
            entry(9, transfer=TRANSFER),
            entry(10, withdrawal=withdrawal()),
        )
    )
    assert (found.shard, found.incarnation, found.first, found.last) == (3, "abc", 7, 10)
    assert [each.entry.body for each in found.received] == [
        NewAsset("BTC", 8),
        Trade("BTC-USD", 4, "BTC", "USD", 1001, 1002, 10**30, 500, 1, 0),
        Transfer("t-1", 2, 1001, "USD", 77),
        Withdrawal("w-1", 1001, "USD", 77, ADDRESS),
    ]
    assert [each.item for each in found.received] == [
        Item(7, Kind.ASSET, "", 0, "", "BTC"),
        Item(8, Kind.TRADE, "BTC-USD", 4, "", ""),
        Item(9, Kind.TRANSFER, "", 0, "t-1", "USD"),
        Item(10, Kind.WITHDRAWAL, "", 0, "w-1", "USD"),
    ]
    assert [wire.entry_of_bytes(each.body) for each in found.received] == [each.entry for each in found.received]


MALFORMED = [
    ("not protobuf", b"\xff\xff\xff", "not a settlement message"),
    ("empty", message(), "without entries"),
    ("a gap inside", message(entry(1, trade=TRADE), entry(3, trade=TRADE)), "not contiguous"),
    ("sequence 0", message(entry(0, trade=TRADE)), "settlement sequence 0"),
    ("beyond int64", message(entry(2**63, trade=TRADE)), "settlement sequence"),
    ("no kind", message(entry(1)), "no known kind"),
    ("amount with a sign", message(entry(1, trade=changed(TRADE, base_amount="-1"))), "not an amount"),
    ("amount with an exponent", message(entry(1, trade=changed(TRADE, base_amount="1e9"))), "not an amount"),
    ("amount of other digits", message(entry(1, trade=changed(TRADE, base_amount="１２"))), "not an amount"),
    ("amount beyond int256", message(entry(1, trade=changed(TRADE, base_amount="9" * 77))), "not an amount"),
    ("no trade id", message(entry(1, trade=changed(TRADE, trade_id=0))), "trade id"),
    ("no account", message(entry(1, trade=changed(TRADE, buyer_account_id=0))), "account 0"),
    ("negative account", message(entry(1, trade=changed(TRADE, seller_account_id=-5))), "account -5"),
    ("no asset", message(entry(1, trade=changed(TRADE, base_asset=""))), "not an asset symbol"),
    ("lower case asset", message(entry(1, trade=changed(TRADE, base_asset="btc"))), "not an asset symbol"),
    ("a withdrawal of nothing", message(entry(1, withdrawal=withdrawal(amount="0"))), "of nothing"),
    ("a withdrawal of nobody", message(entry(1, withdrawal=withdrawal(account_id=0))), "account 0"),
    ("a withdrawal without an id", message(entry(1, withdrawal=withdrawal(transfer_id=""))), "not a name"),
    ("a withdrawal to nobody", message(entry(1, withdrawal=withdrawal(address="0x" + "0" * 40))), "not an address"),
    ("a checksummed address", message(entry(1, withdrawal=withdrawal(address="0x" + "AB" * 20))), "not an address"),
    ("a short address", message(entry(1, withdrawal=withdrawal(address="0xab"))), "not an address"),
    ("no market", message(entry(1, trade=changed(TRADE, market=""))), "not a name"),
    ("a market as long as a novel", message(entry(1, trade=changed(TRADE, market="X" * 257))), "not a name"),
]


@pytest.mark.parametrize(("body", "why"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
def test_malformed(body: bytes, why: str) -> None:
    with pytest.raises(wire.Malformed, match=why):
        wire.message_of_bytes(body)


def event(**kind: Any) -> journal_pb2.Event:
    return journal_pb2.Event(**kind)


STRAY = {"deposit_index": 4, "account_id": 9, "asset": "BTC", "amount": "1"}


def test_what_rows_of_the_journal_mean() -> None:
    ours, theirs = command_id_of(100, 2, 5), command_id_of(99, 2, 6)
    events = [
        event(command_id=1, order_placed={"trades": [{"settlement_sequence": 4}, {"settlement_sequence": 5}]}),
        event(
            command_id=ours, deposited={"deposit": {"deposit_index": 3, "account_id": 7, "asset": "BTC", "amount": "5"}}
        ),
        event(command_id=theirs, refused={"reason": "OUT_OF_SEQUENCE"}),
        event(command_id=ours + 1, refused={"reason": "ASSET_NOT_FOUND"}),
        event(settlement_finalized={"through_settlement_sequence": 2}),
        event(transferred={"settlement_sequence": 6}),
        event(withdrawal_requested={}),
        event(withdrawal_approved={"settlement_sequence": 7}),
        event(deposited={"deposit": STRAY, "settlement_sequence": 8}),
        event(claimed={"claim": {"claim_index": 2, "address": "0x1", "asset": "BTC", "amount": "3"}}),
        event(exit_requested={"request": {"exit_index": 6}}),
        event(
            deposited={
                "deposit": {"deposit_index": 5, "account_id": 8, "asset": "BTC", "amount": "2"},
                "credited_account_id": 3,
            }
        ),
        event(
            debt_noted={
                "note": {
                    "note_index": 7,
                    "debt_id": 6,
                    "state": 2,
                    "account_id": 9,
                    "amount": "5",
                    "settlement_sequence": 3,
                }
            }
        ),
        event(account_opened={"account_id": 1001, "name": "0x" + "ab" * 20}),
        event(account_opened={"account_id": 1002, "name": "0x" + "AB" * 20}),
        event(account_opened={"account_id": 1003, "name": "0x" + "0" * 40}),
        event(account_opened={"account_id": 1004, "name": "alice"}),
        event(order_placed={}),
        event(orders_changed={"steps": [{"trades": [{"settlement_sequence": 9}]}, {}]}),
    ]
    response = matching_service_pb2.StreamEventsResponse(
        last_journal_sequence=40, incarnation="abc", events=journal_pb2.EventBatch(events=events).SerializeToString()
    )
    outcomes = ((ours, ""), (ours + 1, "ASSET_NOT_FOUND"))
    owners = (Owner(1001, "0x" + "ab" * 20),)
    money = (
        (Credit(3, 7, "BTC", 5), Credit(4, 9, "BTC", 1), Credit(5, 8, "BTC", 2)),
        (Payout(2, "0x1", "BTC", 3),),
    )
    debts = (Debt(6, 0, Shortfall(9, "", 5, "", 3), DebtState.PAID),)
    folded = wire.Folded(40, "abc", 9, 2, 5, outcomes, 2, ((4, 9),), 6, owners, *money, ((5, 8),), 7, debts)
    assert wire.folded(response, 100) == folded


def test_a_command_id() -> None:
    assert command_id_of(1, 0, 0) == 1 << 56
    assert command_id_of(127, 3, 9) == 127 << 56 | 3 << 36 | 9


def test_a_settlement() -> None:
    change = Change(9, 1, 20, State.MINED, 5, "0xabc", 77, 1_700_000_000_123_456_789)
    found = wire.settlement_of(Item(8, Kind.TRADE, "BTC-USD", 4, "", ""), change, 0)
    assert (found.settlement_sequence, found.kind, found.market, found.trade_id) == (8, 2, "BTC-USD", 4)
    assert (found.state, found.batch_id, found.transaction_hash, found.block_number) == (4, 5, "0xabc", 77)
    assert found.event_time.ToNanoseconds() == change.time_ns
    assert (found.HasField("nonce"), found.nonce) == (True, 0)
    assert not wire.settlement_of(Item(8, Kind.TRADE, "BTC-USD", 4, "", ""), change, None).HasField("nonce")
