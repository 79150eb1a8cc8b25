"""Between the settler's own types and the protos: settlement messages in, commands and states out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import grpc
from clearbook.internal.v1 import journal_pb2, matching_service_pb2, matching_service_pb2_grpc, settlement_pb2
from clearbook.v1 import reconciliation_pb2, settlement_service_pb2
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services import journal_orders
from services.command_ids import gateway_of
from services.settler.batch import Body, Entry, NewAsset, Trade, Transfer, Withdrawal
from services.settler.liabilities import Credit, Payout
from services.settler.merkle_sums import Proof
from services.settler.model import (
    Change,
    ClaimSeen,
    Debt,
    DebtState,
    DepositSeen,
    ExitSeen,
    Item,
    Kind,
    Note,
    Owner,
    Shortfall,
)
from services.settler.reconciliation import Reconciliation
from services.signed_orders import of_text

if TYPE_CHECKING:
    from clearbook.internal.v1.matching_service_pb2_grpc import MatchingServiceAsyncStub

Stub: TypeAlias = "MatchingServiceAsyncStub"
"""The book's door."""

AMOUNT_DIGITS_MAX = 76
"""Fits the contract's int256."""
ACCOUNT_MAX = 2**63 - 1
SEQUENCE_MAX = 2**63 - 1
TEXT_CHARS_MAX = 256

_AMOUNT = re.compile(rf"[0-9]{{1,{AMOUNT_DIGITS_MAX}}}", re.ASCII)
_ADDRESS = re.compile(r"0x[0-9a-f]{40}", re.ASCII)
_SYMBOL = re.compile(r"[A-Z0-9]{1,16}", re.ASCII)


class Malformed(Exception):
    """A settlement message that cannot be read. One line."""


@dataclass(frozen=True, slots=True)
class Received:
    """An entry, what it is looked up by, and its bytes to be kept."""

    entry: Entry
    item: Item
    body: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """Contiguous entries of one journal."""

    shard: int
    incarnation: str
    received: tuple[Received, ...]

    @property
    def first(self) -> int:
        """Its first settlement sequence."""
        return self.received[0].entry.settlement_sequence

    @property
    def last(self) -> int:
        """Its last."""
        return self.received[-1].entry.settlement_sequence


def stub(channel: grpc.aio.Channel) -> Stub:
    """The book's door."""
    return matching_service_pb2_grpc.MatchingServiceStub(channel)


# Settlement messages


def message_of_bytes(body: bytes) -> Message:
    """A message as it lies on RabbitMQ. Raises Malformed."""
    try:
        return message_of(settlement_pb2.SettlementMessage.FromString(body))
    except DecodeError as error:
        raise Malformed(f"not a settlement message: {error}") from None


def message_of(message: settlement_pb2.SettlementMessage) -> Message:
    """A message, checked. Raises Malformed."""
    received = tuple(_received(entry) for entry in message.entries)
    if not received:
        raise Malformed("a settlement message without entries")
    first = received[0].entry.settlement_sequence
    if any(each.entry.settlement_sequence != first + place for place, each in enumerate(received)):
        raise Malformed(f"settlement sequences are not contiguous from {first} on")
    return Message(message.shard, message.incarnation, received)


def entry_of_bytes(body: bytes) -> Entry:
    """An entry that was kept."""
    return _received(settlement_pb2.SettlementEntry.FromString(body)).entry


def _received(entry: settlement_pb2.SettlementEntry) -> Received:
    sequence = entry.settlement_sequence
    if not 1 <= sequence <= SEQUENCE_MAX:
        raise Malformed(f"settlement sequence {sequence}")
    kind = entry.WhichOneof("kind")
    body: Body
    if kind == "trade":
        body = _trade(entry.trade)
        item = Item(sequence, Kind.TRADE, body.market, body.trade_id, "", "")
    elif kind == "transfer":
        body = _transfer(entry.transfer)
        item = Item(sequence, Kind.TRANSFER, "", 0, body.transfer_id, body.asset)
    elif kind == "withdrawal":
        body = _withdrawal(entry.withdrawal)
        item = Item(sequence, Kind.WITHDRAWAL, "", 0, body.transfer_id, body.asset)
    elif kind == "asset":
        body = NewAsset(_symbol(entry.asset.symbol), entry.asset.decimals)
        item = Item(sequence, Kind.ASSET, "", 0, "", body.symbol)
    else:
        raise Malformed(f"entry {sequence} is of no known kind")
    return Received(Entry(sequence, body), item, entry.SerializeToString(deterministic=True))


def _trade(trade: settlement_pb2.SettlementTrade) -> Trade:
    if not 1 <= trade.trade_id <= SEQUENCE_MAX:
        raise Malformed(f"trade id {trade.trade_id}")
    return Trade(
        market=_text(trade.market),
        trade_id=trade.trade_id,
        base=_symbol(trade.base_asset),
        quote=_symbol(trade.quote_asset),
        buyer=_account(trade.buyer_account_id),
        seller=_account(trade.seller_account_id),
        base_amount=_amount(trade.base_amount),
        quote_amount=_amount(trade.quote_amount),
        buyer_fee=_amount(trade.buyer_fee),
        seller_fee=_amount(trade.seller_fee),
        buy_order=_signed(trade.buy_order),
        sell_order=_signed(trade.sell_order),
    )


def _signed(text: str) -> str:
    """An order as its wallet signed it; an empty string is none."""
    try:
        if text:
            of_text(text)
    except ValueError as error:
        raise Malformed(f"not a signed order: {error}") from None
    return text


def _transfer(transfer: settlement_pb2.SettlementTransfer) -> Transfer:
    return Transfer(
        transfer_id=_text(transfer.transfer_id),
        sender=_account(transfer.from_account_id),
        receiver=_account(transfer.to_account_id),
        asset=_symbol(transfer.asset),
        amount=_amount(transfer.amount),
    )


def _withdrawal(withdrawal: settlement_pb2.SettlementWithdrawal) -> Withdrawal:
    address, amount = withdrawal.address, _amount(withdrawal.amount)
    if _ADDRESS.fullmatch(address) is None or int(address, 16) == 0:
        raise Malformed(f"not an address: {address[:TEXT_CHARS_MAX]!r}")
    if amount == 0:
        raise Malformed("a withdrawal of nothing")
    return Withdrawal(
        transfer_id=_text(withdrawal.transfer_id),
        account_id=_account(withdrawal.account_id),
        asset=_symbol(withdrawal.asset),
        amount=amount,
        address=address,
    )


def _amount(text: str) -> int:
    """Base units; an empty string is none."""
    if not text:
        return 0
    if _AMOUNT.fullmatch(text) is None:
        raise Malformed(f"not an amount of base units: {text[:TEXT_CHARS_MAX]!r}")
    return int(text)


def _symbol(text: str) -> str:
    if _SYMBOL.fullmatch(text) is None:
        raise Malformed(f"not an asset symbol: {text[:TEXT_CHARS_MAX]!r}")
    return text


def _text(text: str) -> str:
    if not 1 <= len(text) <= TEXT_CHARS_MAX or "\0" in text:
        raise Malformed(f"not a name: {text[:TEXT_CHARS_MAX]!r}")
    return text


def _account(number: int) -> int:
    if not 1 <= number <= ACCOUNT_MAX:
        raise Malformed(f"account {number}")
    return number


def messages_request(after: int) -> matching_service_pb2.StreamSettlementMessagesRequest:
    """Asks the book for what follows a settlement sequence."""
    return matching_service_pb2.StreamSettlementMessagesRequest(after_settlement_sequence=after)


# The settler's session at the book


@dataclass(frozen=True, slots=True)
class Folded:
    """What some rows of the journal mean to the settler.

    Attributes:
        journal_sequence: the last of the rows' events.
        incarnation: the journal's.
        settlement_sequence: the highest in the rows; 0 if none.
        final_through: the last SettlementFinal that the book took; 0 if none.
        deposit_index: the last DepositFinal that the book took; 0 if none.
        claim_index: the last ClaimFinal that the book took; 0 if none.
        astray: (deposit index, account) of deposits for accounts that nobody has: insurance was credited.
        exit_index: the last ExitRequestFinal that the book took; 0 if none.
        late: (deposit index, account) of deposits told after the account had left: insurance is credited.
        note_index: the last note of a debt that the book took; 0 if none.
        debts: what it took of debts, in order.
        owners: of accounts that wallets opened for themselves: these are named by the wallet.
        deposited: deposits, as the journal has them.
        payouts: claims and exits, as the journal has them.
        outcomes: (command id, why refused or "") of this gateway's commands.
    """

    journal_sequence: int
    incarnation: str
    settlement_sequence: int
    final_through: int
    deposit_index: int
    outcomes: tuple[tuple[int, str], ...]
    claim_index: int = 0
    astray: tuple[tuple[int, int], ...] = ()
    exit_index: int = 0
    owners: tuple[Owner, ...] = ()
    deposited: tuple[Credit, ...] = ()
    payouts: tuple[Payout, ...] = ()
    late: tuple[tuple[int, int], ...] = ()
    note_index: int = 0
    debts: tuple[Debt, ...] = ()


def folded(response: matching_service_pb2.StreamEventsResponse, gateway: int) -> Folded:
    """Reads what concerns the settler out of committed rows."""
    settlement = final = deposit = claim = leaving = noted = 0
    outcomes, astray, owners, late, debts = [], [], [], [], []
    deposited, payouts = list[Credit](), list[Payout]()
    batch = journal_orders.others(response.events) if journal_orders.BY_HAND else response.events
    for event in journal_pb2.EventBatch.FromString(batch).events:
        kind = event.WhichOneof("kind")
        if kind == "order_placed":
            trades = event.order_placed.trades
            if trades:
                settlement = trades[-1].settlement_sequence
        elif kind == "orders_changed":
            for step in event.orders_changed.steps:
                if step.trades:
                    settlement = step.trades[-1].settlement_sequence
        elif kind == "transferred":
            settlement = event.transferred.settlement_sequence
        elif kind == "asset_created":
            settlement = event.asset_created.settlement_sequence
        elif kind == "settlement_finalized":
            final = event.settlement_finalized.through_settlement_sequence
        elif kind == "withdrawal_approved":
            settlement = event.withdrawal_approved.settlement_sequence
        elif kind == "deposited":
            deposit = event.deposited.deposit.deposit_index
            deposited.append(_credit(event.deposited.deposit))
            if event.deposited.settlement_sequence:
                settlement = event.deposited.settlement_sequence
                astray.append((deposit, event.deposited.deposit.account_id))
            elif event.deposited.credited_account_id:
                late.append((deposit, event.deposited.deposit.account_id))
        elif kind == "claimed":
            claim = event.claimed.claim.claim_index
            payouts.append(_payout(event.claimed.claim))
        elif kind == "exit_requested":
            leaving = event.exit_requested.request.exit_index
        elif kind == "debt_noted":
            noted = event.debt_noted.note.note_index
            debts.append(_debt(event.debt_noted.note))
        elif kind == "account_opened" and _is_wallet(event.account_opened.name):
            owners.append(Owner(event.account_opened.account_id, event.account_opened.name))
        if gateway_of(event.command_id) == gateway:
            outcomes.append((event.command_id, event.refused.reason if kind == "refused" else ""))
    return Folded(
        response.last_journal_sequence,
        response.incarnation,
        settlement,
        final,
        deposit,
        tuple(outcomes),
        claim,
        tuple(astray),
        leaving,
        tuple(owners),
        tuple(deposited),
        tuple(payouts),
        tuple(late),
        noted,
        tuple(debts),
    )


def _credit(deposit: journal_pb2.DepositFinal) -> Credit:
    return Credit(deposit.deposit_index, deposit.account_id, deposit.asset, int(deposit.amount))


def _payout(claim: journal_pb2.ClaimFinal) -> Payout:
    return Payout(claim.claim_index, claim.address, claim.asset, int(claim.amount), claim.exit_account_id)


def _debt(note: journal_pb2.NoteDebt) -> Debt:
    owes = Shortfall(note.account_id, note.asset, int(note.amount), note.reason, note.settlement_sequence)
    return Debt(note.debt_id, 0, owes, DebtState(note.state))


def _is_wallet(name: str) -> bool:
    return _ADDRESS.fullmatch(name) is not None and int(name, 16) != 0


def session_request(gateway: int) -> matching_service_pb2.OpenSessionRequest:
    """Asks for a session."""
    return matching_service_pb2.OpenSessionRequest(gateway=gateway)


def events_request(after: int, incarnation: str) -> matching_service_pb2.StreamEventsRequest:
    """Asks for the journal from a cursor on."""
    return matching_service_pb2.StreamEventsRequest(
        after_journal_sequence=after, incarnation=incarnation if after else ""
    )


def deposit_command(number: int, seen: DepositSeen) -> journal_pb2.Command:
    """A DepositFinal."""
    return journal_pb2.Command(
        command_id=number,
        deposit_final=journal_pb2.DepositFinal(
            deposit_index=seen.deposit_index,
            account_id=seen.account,
            asset=seen.asset,
            amount=str(seen.amount),
            transaction_hash=seen.transaction_hash,
        ),
    )


def claim_command(number: int, seen: ClaimSeen) -> journal_pb2.Command:
    """A ClaimFinal."""
    return journal_pb2.Command(
        command_id=number,
        claim_final=journal_pb2.ClaimFinal(
            claim_index=seen.claim_index,
            address=seen.address,
            asset=seen.asset,
            amount=str(seen.amount),
            transaction_hash=seen.transaction_hash,
            exit_account_id=seen.exit_account,
        ),
    )


def exit_command(number: int, seen: ExitSeen) -> journal_pb2.Command:
    """An ExitRequestFinal."""
    return journal_pb2.Command(
        command_id=number,
        exit_request_final=journal_pb2.ExitRequestFinal(
            exit_index=seen.exit_index,
            account_id=seen.account,
            canceled=seen.canceled,
            transaction_hash=seen.transaction_hash,
        ),
    )


def note_command(number: int, note: Note) -> journal_pb2.Command:
    """A NoteDebt."""
    owes = note.shortfall
    return journal_pb2.Command(
        command_id=number,
        note_debt=journal_pb2.NoteDebt(
            note_index=note.note_index,
            debt_id=note.debt_id,
            state=journal_pb2.DebtState.ValueType(note.state),
            account_id=owes.account_id,
            asset=owes.asset,
            amount=str(owes.amount),
            reason=owes.reason,
            settlement_sequence=owes.settlement_sequence,
        ),
    )


def final_command(number: int, through: int) -> journal_pb2.Command:
    """A SettlementFinal."""
    return journal_pb2.Command(
        command_id=number, settlement_final=journal_pb2.SettlementFinal(through_settlement_sequence=through)
    )


def submit_request(commands: Sequence[journal_pb2.Command]) -> matching_service_pb2.SubmitRequest:
    """Commands in order."""
    return matching_service_pb2.SubmitRequest(commands=commands)


# States


def settlement_of(item: Item, change: Change, nonce: int | None) -> settlement_service_pb2.Settlement:
    """An entry's settlement as it was at a change. `nonce`: of the change's transaction, if it is ours."""
    when = Timestamp()
    when.FromNanoseconds(change.time_ns)
    return settlement_service_pb2.Settlement(
        settlement_sequence=item.settlement_sequence,
        kind=settlement_service_pb2.SettlementKind.ValueType(item.kind),
        market=item.market,
        trade_id=item.trade_id,
        transfer_id=item.transfer_id,
        asset=item.asset,
        state=settlement_service_pb2.SettlementState.ValueType(change.state),
        batch_id=change.batch_id,
        transaction_hash=change.transaction_hash,
        block_number=change.block_number,
        event_time=when,
        nonce=nonce,
        reason=change.reason,
    )


def contract_of(meta: Mapping[str, str]) -> settlement_service_pb2.GetContractResponse | None:
    """The contract as the settler remembers it; None before it is bound to one."""
    address = meta.get("contract_address")
    if address is None:
        return None
    return settlement_service_pb2.GetContractResponse(chain_id=int(meta["chain_id"]), contract=address)


# Reconciliations


def reconciliation_of(found: Reconciliation) -> reconciliation_pb2.Reconciliation:
    """A reconciliation as it is published."""
    when = Timestamp()
    when.FromNanoseconds(found.time_ns)
    return reconciliation_pb2.Reconciliation(
        index=found.index,
        previous=found.previous.hex(),
        digest=found.digest.hex(),
        chain_id=found.chain_id,
        contract=found.contract,
        shard=found.shard,
        block_number=found.block_number,
        block_hash=found.block_hash,
        settlement_sequence=found.through.entries,
        deposit_index=found.through.deposits,
        claim_index=found.through.claims,
        leaves=found.leaves,
        root=found.root.hex(),
        reserves=[
            reconciliation_pb2.Reserve(
                asset=each.asset, token=each.token, liabilities=str(each.liabilities), reserves=str(each.reserves)
            )
            for each in found.reserves
        ],
        time_ns=found.time_ns,
        event_time=when,
    )


def liability_proof_of(proof: Proof) -> reconciliation_pb2.LiabilityProof:
    """A proof as its owner is given it."""
    return reconciliation_pb2.LiabilityProof(
        holder=proof.leaf.holder,
        salt=proof.leaf.salt.hex(),
        amounts=[str(amount) for amount in proof.leaf.amounts],
        leaf_index=proof.place,
        path=[
            reconciliation_pb2.ProofNode(digest=node.digest.hex(), sums=[str(amount) for amount in node.sums])
            for node in proof.path
        ],
    )
