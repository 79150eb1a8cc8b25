"""What the chain must mirror, out of the journal: each new asset, trade, transfer and withdrawal, complete by itself.

The same messages go to RabbitMQ and to StreamSettlementMessages.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from clearbook.internal.v1 import journal_pb2, settlement_pb2

from services.book.engine import Engine
from services.book.journal import Row
from services.book.tail import Tail

MESSAGE_ENTRIES_MAX = 256
"""Entries are small (every text and amount in them is bounded), so this bounds a message to some 200 kB."""


async def messages(
    tail: Tail, engine: Engine, after_settlement_sequence: int
) -> AsyncGenerator[settlement_pb2.SettlementMessage, None]:
    """Contiguous entries after a settlement sequence, then live; whatever is committed by now goes into one message.

    Args:
        tail: the committed rows.
        engine: names assets and markets, which never change once they exist.
        after_settlement_sequence: at most the tail's last.

    Raises:
        Rejected: CLOSING, when the tail is closed.
        Damaged: the journal.
    """
    last = after_settlement_sequence
    async with aclosing(tail.pages(await tail.before_settlement(last))) as pages:
        async for rows in pages:
            waiting = [entry for row in rows for entry in entries(row, engine, last)]
            for start in range(0, len(waiting), MESSAGE_ENTRIES_MAX):
                part = waiting[start : start + MESSAGE_ENTRIES_MAX]
                assert part[0].settlement_sequence == last + 1, f"entry {last + 1} is missing"
                last = part[-1].settlement_sequence
                yield settlement_pb2.SettlementMessage(shard=engine.shard, incarnation=engine.incarnation, entries=part)


def entries(row: Row, engine: Engine, after_settlement_sequence: int) -> list[settlement_pb2.SettlementEntry]:
    """The entries of a row that come after a settlement sequence."""
    if row.last_settlement_sequence <= after_settlement_sequence:
        return []
    found: list[settlement_pb2.SettlementEntry] = []
    for event in journal_pb2.EventBatch.FromString(row.events).events:
        for entry in _of_event(event, engine):
            if entry.settlement_sequence > after_settlement_sequence:
                entry.journal_sequence = event.journal_sequence
                entry.time_ns = row.time_ns
                found.append(entry)
    return found


def _of_event(event: journal_pb2.Event, engine: Engine) -> Iterable[settlement_pb2.SettlementEntry]:
    match event.WhichOneof("kind"):
        case "order_placed":
            placed = event.order_placed
            return [_trade(placed.order, trade, engine) for trade in placed.trades]
        case "orders_changed":
            steps = event.orders_changed.steps
            return [_trade(step.order, trade, engine) for step in steps for trade in step.trades]
        case "transferred":
            return [_transfer(event.transferred, engine)]
        case "withdrawal_approved":
            return [_withdrawal(event.withdrawal_approved, engine)]
        case "deposited" if event.deposited.settlement_sequence:
            return [_moved_deposit(event.deposited)]
        case "asset_created":
            created = event.asset_created
            asset = settlement_pb2.SettlementAsset(symbol=created.asset.symbol, decimals=created.asset.decimals)
            return [settlement_pb2.SettlementEntry(settlement_sequence=created.settlement_sequence, asset=asset)]
        case _:
            return []


def _trade(taker: journal_pb2.Order, trade: journal_pb2.Trade, engine: Engine) -> settlement_pb2.SettlementEntry:
    market = engine.books[taker.market_id].market
    entry = settlement_pb2.SettlementEntry(settlement_sequence=trade.settlement_sequence)
    settled = entry.trade
    settled.market = market.symbol
    settled.trade_id = trade.trade_id
    settled.base_asset = engine.assets[market.base_asset_id].symbol
    settled.quote_asset = engine.assets[market.quote_asset_id].symbol
    settled.base_amount = trade.base_amount
    settled.quote_amount = trade.quote_amount
    if taker.side == journal_pb2.SIDE_BUY:
        settled.buyer_account_id, settled.buyer_fee = taker.account_id, trade.taker_fee
        settled.seller_account_id, settled.seller_fee = trade.maker_account_id, trade.maker_fee
    else:
        settled.buyer_account_id, settled.buyer_fee = trade.maker_account_id, trade.maker_fee
        settled.seller_account_id, settled.seller_fee = taker.account_id, trade.taker_fee
    if trade.maker_signed and taker.terms.signed:
        orders = (taker.terms.signed, trade.maker_signed)
        settled.buy_order, settled.sell_order = orders if taker.side == journal_pb2.SIDE_BUY else orders[::-1]
    return entry


def _transfer(transferred: journal_pb2.Transferred, engine: Engine) -> settlement_pb2.SettlementEntry:
    transfer = transferred.transfer
    entry = settlement_pb2.SettlementEntry(settlement_sequence=transferred.settlement_sequence)
    entry.transfer.transfer_id = transfer.transfer_id
    entry.transfer.from_account_id = transfer.from_account_id
    entry.transfer.to_account_id = transfer.to_account_id
    entry.transfer.asset = engine.assets[transfer.asset_id].symbol
    entry.transfer.amount = transfer.amount
    return entry


def _withdrawal(approved: journal_pb2.WithdrawalApproved, engine: Engine) -> settlement_pb2.SettlementEntry:
    asked = approved.withdrawal.request
    entry = settlement_pb2.SettlementEntry(settlement_sequence=approved.settlement_sequence)
    entry.withdrawal.withdrawal_id = approved.withdrawal.withdrawal_id
    entry.withdrawal.transfer_id = asked.transfer_id
    entry.withdrawal.account_id = asked.account_id
    entry.withdrawal.asset = engine.assets[asked.asset_id].symbol
    entry.withdrawal.amount = asked.amount
    entry.withdrawal.address = asked.address
    return entry


def _moved_deposit(deposited: journal_pb2.Deposited) -> settlement_pb2.SettlementEntry:
    """It lies at an account that nobody has: from there to the one that was credited."""
    deposit = deposited.deposit
    entry = settlement_pb2.SettlementEntry(settlement_sequence=deposited.settlement_sequence)
    entry.transfer.transfer_id = f"deposit:{deposit.deposit_index}"
    entry.transfer.from_account_id = deposit.account_id
    entry.transfer.to_account_id = deposited.credited_account_id
    entry.transfer.asset = deposit.asset
    entry.transfer.amount = deposit.amount
    return entry
