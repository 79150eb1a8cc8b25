"""Batches: contiguous entries of the settlement sequence, netted per token and account. Pure and deterministic.

A batch moves nothing that its entries do not move: each trade's and transfer's moves sum to zero per asset, a
withdrawal's to minus what it lets an address claim; so every token's legs sum to minus its withdrawals. Amounts are
whole base units, accounts are ids, tokens are 0x-addresses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

FEES_ACCOUNT = 1
"""Receives the fees of every trade."""
INSURANCE_ACCOUNT = 3
"""Pays for those who cannot."""
LEGS_MAX = 200
"""Legs that the contract takes in one batch."""
WITHDRAWALS_MAX = 50
"""Withdrawals, one for each token and address, that the contract takes in one batch."""
SIGNED_TRADES_MAX = 25
"""Signed trades that the contract takes in one batch."""


@dataclass(frozen=True, slots=True)
class NewAsset:
    """An asset from here on: its token must be listed before this entry is settled. Moves nothing."""

    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade: base from seller to buyer, quote from buyer to seller, a fee out of what each receives.

    `buy_order` and `sell_order` are what their wallets signed (services/signed_orders.py): both, or neither.
    """

    market: str
    trade_id: int
    base: str
    quote: str
    buyer: int
    seller: int
    base_amount: int
    quote_amount: int
    buyer_fee: int
    seller_fee: int
    buy_order: str = ""
    sell_order: str = ""

    @property
    def is_signed(self) -> bool:
        """Whether it is settled with both orders' signatures."""
        return bool(self.buy_order and self.sell_order)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Funds from one account to another."""

    transfer_id: str
    sender: int
    receiver: int
    asset: str
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Funds of an account that an address may claim. `address` is 0x and 40 lower-case hexadecimal digits."""

    transfer_id: str
    account_id: int
    asset: str
    amount: int
    address: str


Body: TypeAlias = NewAsset | Trade | Transfer | Withdrawal


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that the chain must mirror."""

    settlement_sequence: int
    body: Body


class Move(NamedTuple):
    """`amount` base units of `asset` (signed) for an account."""

    asset: str
    account_id: int
    amount: int


class Released(NamedTuple):
    """What a batch lets an address claim of a token: more than zero, all withdrawals to it together."""

    token: str
    address: str
    amount: int


class Leg(NamedTuple):
    """What an account nets in a batch; never zero."""

    token: str
    account_id: int
    amount: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Entries `first` to `last`, their legs and withdrawals, in the contract's order.

    By token, then by account or address.
    """

    first: int
    last: int
    legs: tuple[Leg, ...]
    withdrawals: tuple[Released, ...] = ()


def moves(body: Body) -> tuple[Move, ...]:
    """What an entry moves between accounts; sums to zero per asset, but for a withdrawal, which takes away."""
    match body:
        case Trade():
            return (
                Move(body.base, body.seller, -body.base_amount),
                Move(body.base, body.buyer, body.base_amount - body.buyer_fee),
                Move(body.base, FEES_ACCOUNT, body.buyer_fee),
                Move(body.quote, body.buyer, -body.quote_amount),
                Move(body.quote, body.seller, body.quote_amount - body.seller_fee),
                Move(body.quote, FEES_ACCOUNT, body.seller_fee),
            )
        case Transfer():
            return (
                Move(body.asset, body.sender, -body.amount),
                Move(body.asset, body.receiver, body.amount),
            )
        case Withdrawal():
            return (Move(body.asset, body.account_id, -body.amount),)
        case NewAsset():
            return ()


class _Nets:
    """Running nets, and how many of them are not zero."""

    def __init__(self) -> None:
        self.amounts: dict[tuple[str, int], int] = {}
        self.released: dict[tuple[str, str], int] = {}
        self.legs = 0
        self.withdrawals = 0

    def add(self, body: Body, sign: int = 1) -> None:
        if isinstance(body, Withdrawal):
            before = self.released.get((body.asset, body.address), 0)
            after = before + sign * body.amount
            self.released[body.asset, body.address] = after
            self.withdrawals += (after != 0) - (before != 0)
        for asset, account_id, amount in moves(body):
            before = self.amounts.get((asset, account_id), 0)
            after = before + sign * amount
            self.amounts[asset, account_id] = after
            self.legs += (after != 0) - (before != 0)


def signed_run(entries: Sequence[Entry], tokens: Mapping[str, str]) -> list[Trade]:
    """The signed trades that the first entries are, as many as the contract takes; none if the first is something else.

    It ends before an entry whose asset has no token yet.
    """
    found: list[Trade] = []
    for entry in entries[:SIGNED_TRADES_MAX]:
        body = entry.body
        if not isinstance(body, Trade) or not body.is_signed or waits_for(body, tokens) is not None:
            break
        found.append(body)
    return found


def cut(
    entries: Sequence[Entry],
    tokens: Mapping[str, str],
    *,
    entries_max: int,
    signed_apart: bool = True,
    legs_max: int = LEGS_MAX,
    withdrawals_max: int = WITHDRAWALS_MAX,
) -> Cut | None:
    """The batch that begins with the first entry: as many as fit, from the front.

    It ends before an entry whose asset has no token yet, before a signed trade, and before the one that would bring it
    past a limit.

    Args:
        entries: contiguous, in order.
        tokens: asset symbol to listed token.
        entries_max: at most so many entries.
        signed_apart: whether signed trades are settled as such, and not netted like all others.
        legs_max: at most so many legs; at least 6, what one trade can need.
        withdrawals_max: at most so many withdrawals by token and address; at least 1.

    Returns:
        None if there is nothing to cut: no entries, or the first one waits for a token, or is a signed trade.
    """
    nets = _Nets()
    taken = 0
    for entry in entries[:entries_max]:
        assert entry.settlement_sequence == entries[0].settlement_sequence + taken, "entries are not contiguous"
        if waits_for(entry.body, tokens) is not None:
            break
        if signed_apart and isinstance(entry.body, Trade) and entry.body.is_signed:
            break
        nets.add(entry.body)
        if nets.legs > legs_max or nets.withdrawals > withdrawals_max:
            nets.add(entry.body, sign=-1)
            break
        taken += 1
    if taken == 0:
        return None
    legs = [Leg(tokens[asset], account, amount) for (asset, account), amount in nets.amounts.items() if amount]
    legs.sort(key=_place)
    released = [Released(tokens[asset], to, amount) for (asset, to), amount in nets.released.items() if amount]
    released.sort(key=lambda each: (int(each.token, 16), int(each.address, 16)))
    last = entries[taken - 1].settlement_sequence
    return Cut(entries[0].settlement_sequence, last, tuple(legs), tuple(released))


def insured(cut: Cut, token: str, account_id: int, has: int) -> tuple[Cut, int]:
    """The batch in which an account pays of a leg what it has, and insurance the rest.

    Args:
        cut: with a leg of the account in that token.
        token: which.
        account_id: not insurance's.
        has: what the account has on chain, base units: less than the leg takes.

    Returns:
        The batch, with perhaps one leg more, and how much insurance pays.
    """
    assert account_id != INSURANCE_ACCOUNT, "insurance insures others"
    nets = {(leg.token, leg.account_id): leg.amount for leg in cut.legs}
    lacks = -nets[token, account_id] - has
    assert lacks > 0, f"account {account_id} has {has}, which is enough"
    nets[token, account_id] += lacks
    nets[token, INSURANCE_ACCOUNT] = nets.get((token, INSURANCE_ACCOUNT), 0) - lacks
    legs = [Leg(token, account, amount) for (token, account), amount in nets.items() if amount]
    legs.sort(key=_place)
    return replace(cut, legs=tuple(legs)), lacks


def _place(leg: Leg) -> tuple[int, int]:
    """Legs ascend by it."""
    return int(leg.token, 16), leg.account_id


def waits_for(body: Body, tokens: Mapping[str, str]) -> str | None:
    """The asset without whose token this entry cannot be settled, or None."""
    return next((asset for asset in assets(body) if asset not in tokens), None)


def assets(body: Body) -> tuple[str, ...]:
    """The symbols that an entry names."""
    match body:
        case Trade():
            return (body.base, body.quote)
        case Transfer() | Withdrawal():
            return (body.asset,)
        case NewAsset():
            return (body.symbol,)


def unlisted(entries: Sequence[Entry], tokens: Mapping[str, str]) -> dict[str, int | None]:
    """The assets that these entries name and that have no token yet, in order.

    With their decimals where they begin here, else None: then somebody has settled their beginning already.
    """
    found: dict[str, int | None] = {}
    for entry in entries:
        for symbol in assets(entry.body):
            if symbol not in tokens:
                found.setdefault(symbol, entry.body.decimals if isinstance(entry.body, NewAsset) else None)
    return found
