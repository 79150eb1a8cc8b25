"""Between the protos and what moves money: requests in, balances and transfers out."""

import re
from collections.abc import Mapping

from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import admin_service_pb2 as admin_pb

from services.errors import Reason, Rejected
from services.order_gateway import transfer_ids
from services.order_gateway.ledger import Balance, Ledger
from services.order_gateway.model import Movement, MovementKind, MovementState
from services.order_gateway.wallet_address import checksummed
from services.order_gateway.wire import invalid, known_asset, positive_amount, set_time, shown
from services.units import INT64_MAX, Asset

TRANSFER_ID_CHARS_MAX = 64
REASON_CHARS_MAX = 200
ADDRESS_CHARS_SHOWN = 42
"""In a refusal: all of one."""

_TRANSFER_ID = re.compile(rf"[!-~]{{1,{TRANSFER_ID_CHARS_MAX}}}", re.ASCII)
_GRANT_ID = re.compile(rf"[ -~]{{1,{TRANSFER_ID_CHARS_MAX}}}", re.ASCII)
_WITHDRAWAL_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_ZERO_ADDRESS = "0x" + "0" * 40

Assets = Mapping[str, Asset]


# Requests, in.


def transfer_id(text: str) -> str:
    """Checks the shape of a mover's id."""
    if _TRANSFER_ID.fullmatch(text) is None:
        what = f"must be 1 to {TRANSFER_ID_CHARS_MAX} printable ASCII characters without spaces, not {shown(text)}"
        raise invalid("transfer_id", what)
    return text


def amount_of(asset: str, amount: str, assets: Assets) -> tuple[Asset, int]:
    """An asset's symbol and an amount in whole units, as the asset and base units.

    Raises:
        Rejected: ASSET_NOT_FOUND; INVALID_FIELD for what is not more than zero or finer than a base unit.
    """
    known = known_asset(asset, assets, "asset")
    return known, positive_amount(amount, "amount", known)


def grant(request: admin_pb.GrantFundsRequest, assets: Assets) -> tuple[Asset, int, str]:
    """What a GrantFunds moves, and why: the asset, base units, the reason. The user is judged elsewhere."""
    if _GRANT_ID.fullmatch(request.transfer_id) is None:
        what = f"must be 1 to {TRANSFER_ID_CHARS_MAX} printable ASCII characters, not {shown(request.transfer_id)}"
        raise invalid("transfer_id", what)
    return *amount_of(request.asset, request.amount, assets), reason(request.reason)


def address(text: str) -> str:
    """An address in lower case; "" for none.

    Raises:
        Rejected: INVALID_FIELD for another shape, for mixed case that is not EIP-55's, for the zero address.
    """
    if not text:
        return ""
    try:
        lower = checksummed(text).lower()
    except ValueError as error:
        raise invalid("address", f"{error}: {shown(text, ADDRESS_CHARS_SHOWN)}") from None
    if lower == _ZERO_ADDRESS:
        raise invalid("address", "must not be the zero address: nobody could claim it")
    return lower


def reason(text: str) -> str:
    """An operator's reason. Raises Rejected: INVALID_FIELD unless it is 1 to REASON_CHARS_MAX printable characters."""
    if not 1 <= len(text) <= REASON_CHARS_MAX or not text.isprintable() or text.isspace():
        raise invalid("reason", f"must be 1 to {REASON_CHARS_MAX} printable characters, not {shown(text)}")
    return text


def withdrawal_id(text: str) -> int:
    """An operator's name of a withdrawal. Raises Rejected: WITHDRAWAL_NOT_FOUND for what never was one."""
    if _WITHDRAWAL_ID.fullmatch(text) is None or (number := int(text)) > INT64_MAX:
        raise Rejected(Reason.WITHDRAWAL_NOT_FOUND, f"no such withdrawal: {shown(text)}", "withdrawal_id")
    return number


def withdrawal_filter(number: int, final_through: int) -> tuple[MovementState | None, tuple[int, int]]:
    """What a list of withdrawals asks for: a state (None: any), and between which two settlement sequences.

    Raises:
        Rejected: INVALID_FIELD for a state that no withdrawal has.
    """
    anything = 0, INT64_MAX
    if number == account_pb.TRANSFER_STATE_UNSPECIFIED:
        return None, anything
    if number == account_pb.TRANSFER_STATE_APPROVED:
        return MovementState.APPROVED, (final_through + 1, INT64_MAX)
    if number == account_pb.TRANSFER_STATE_SETTLED:
        return MovementState.APPROVED, (1, final_through)
    if number not in {MovementState.REQUESTED, MovementState.DONE, MovementState.CANCELED}:
        raise invalid("state", f"has no value {number} for a withdrawal")
    return MovementState(number), anything


# Answers, out.


def balance(asset: Asset, value: Balance) -> account_pb.Balance:
    """A balance as its owner sees it. What a command in flight has reserved counts as held."""
    return account_pb.Balance(
        asset=asset.symbol,
        total=asset.format(value.total),
        available=asset.format(value.available),
        held=asset.format(value.held + value.reserved),
        unsettled=asset.format(value.unsettled),
    )


def balances(account_id: int, ledger: Ledger) -> account_pb.ListBalancesResponse:
    """The answer to ListBalances, by symbol."""
    mine = ledger.balances.get(account_id, {})
    rows = [balance(ledger.assets[asset_id], value) for asset_id, value in mine.items()]
    return account_pb.ListBalancesResponse(
        account_id=str(account_id),
        balances=sorted(rows, key=lambda row: row.asset),
        journal_sequence=ledger.sequence,
    )


def transfer(value: Movement, account_id: int, ledger: Ledger, final_through: int | None = None) -> account_pb.Transfer:
    """A movement as the owner of one of its two accounts sees it, now or when settlement was final up to there."""
    outgoing = value.from_account_id == account_id
    other = value.to_account_id if outgoing else value.from_account_id
    asset = ledger.assets[value.asset_id]
    message = account_pb.Transfer(
        transfer_id=transfer_ids.shown(value.transfer_id),
        kind=_kind(value, outgoing=outgoing),
        state=state(value, ledger.final_through if final_through is None else final_through),
        asset=asset.symbol,
        amount=asset.format(value.amount),
        counterparty=ledger.account_names[other] if value.kind is MovementKind.TRANSFER else "",
        address=value.address,
        reason=value.reason,
        settlement_sequence=value.settlement_sequence,
        transaction_hash=value.transaction_hash,
        outgoing=outgoing,
    )
    set_time(message.create_time, value.create_ns)
    set_time(message.event_time, value.event_ns)
    if value.release_ns:
        set_time(message.release_time, value.release_ns)
    return message


def user_withdrawal(value: Movement, ledger: Ledger) -> admin_pb.UserWithdrawal:
    """A withdrawal as operators see it."""
    return admin_pb.UserWithdrawal(
        withdrawal_id=str(value.withdrawal_id),
        user=ledger.account_names[value.from_account_id],
        transfer=transfer(value, value.from_account_id, ledger),
    )


def _kind(value: Movement, *, outgoing: bool) -> account_pb.TransferKind.ValueType:
    if value.kind is MovementKind.DEPOSIT:
        return account_pb.TRANSFER_KIND_DEPOSIT
    if value.kind is MovementKind.WITHDRAWAL:
        return account_pb.TRANSFER_KIND_WITHDRAWAL
    if not transfer_ids.is_users(value.transfer_id):
        return account_pb.TRANSFER_KIND_ADJUSTMENT
    return account_pb.TRANSFER_KIND_SENT if outgoing else account_pb.TRANSFER_KIND_RECEIVED


def state(value: Movement, final_through: int) -> account_pb.TransferState.ValueType:
    """Where a movement stands, finality included."""
    if value.state in {MovementState.APPROVED, MovementState.MOVED} and value.settlement_sequence <= final_through:
        return account_pb.TRANSFER_STATE_SETTLED
    return value.state.value  # type: ignore[return-value]  # the numbers are the proto's
