"""What the settler remembers of batches and their states. Pure."""

from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """Where an entry stands; the numbers are the public enum's."""

    MATCHED = 1
    BATCHED = 2
    SUBMITTED = 3
    MINED = 4
    CONFIRMED = 5
    FINAL = 6
    REORGED = 7
    FAILED = 8


class Kind(IntEnum):
    """What an entry is; the numbers are the public enum's."""

    ASSET = 1
    TRADE = 2
    TRANSFER = 3
    WITHDRAWAL = 4


class NonceState(IntEnum):
    """What became of a nonce. OPEN: one of its transactions may yet be mined."""

    OPEN = 1
    MINED = 2
    REVERTED = 3
    LOST = 4
    """Used by a transaction that is not ours."""


WAITING = frozenset({State.BATCHED, State.SUBMITTED, State.FAILED})
"""States of a batch that is not on chain."""
ON_CHAIN = frozenset({State.MINED, State.CONFIRMED, State.FINAL})
"""States of a batch that is."""

FOLLOWS = {
    State.BATCHED: frozenset({State.SUBMITTED, State.MINED, State.FAILED}),
    State.SUBMITTED: frozenset({State.SUBMITTED, State.MINED, State.FAILED}),
    State.FAILED: frozenset({State.BATCHED, State.SUBMITTED, State.MINED, State.FAILED}),
    State.MINED: frozenset({State.CONFIRMED, State.REORGED}),
    State.CONFIRMED: frozenset({State.FINAL, State.REORGED}),
    State.REORGED: frozenset({State.SUBMITTED, State.MINED}),
}
"""What may follow a batch's state. BATCHED to MINED: another settler sent the same batch. FAILED to BATCHED: it is
made anew. FINAL stays."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A stored batch: never cut again.

    Attributes:
        batch_id: from 1.
        first: settlement sequence of its first entry.
        last: of its last.
        calldata: of `settle`; empty if another settler made the batch.
        chained: the contract's batch hash after it.
        legs: how many, withdrawals and links among them; a signed trade counts for LEGS_PER_TRADE of them.
        state: any but MATCHED and REORGED.
        transaction_hash: of the newest attempt, or of the one that was mined; empty before SUBMITTED.
        block_number: 0 before MINED.
        block_hash: empty before MINED.
    """

    batch_id: int
    first: int
    last: int
    calldata: bytes
    chained: bytes
    legs: int
    state: State = State.BATCHED
    transaction_hash: str = ""
    block_number: int = 0
    block_hash: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Entries `first` to `last` reached a state together. `reason`: why, if it is FAILED."""

    index: int
    first: int
    last: int
    state: State
    batch_id: int
    transaction_hash: str
    block_number: int
    time_ns: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """What the look-ups know of an entry."""

    settlement_sequence: int
    kind: Kind
    market: str
    trade_id: int
    transfer_id: str
    asset: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """A nonce of ours and the signed transactions that carry it: all with the same calldata.

    Attributes:
        nonce: of the key's address.
        batch_id: what it settles; 0 for another transaction (a deployment, a listing).
        hashes: of all its transactions.
        raw: the newest of them, signed.
        state: what became of it.
    """

    nonce: int
    batch_id: int
    hashes: tuple[str, ...]
    raw: bytes
    state: NonceState = NonceState.OPEN


@dataclass(frozen=True, slots=True)
class DepositSeen:
    """A deposit that is final on chain. `account` is the contract's 32-byte key as an int."""

    deposit_index: int
    account: int
    asset: str
    amount: int
    block_number: int
    transaction_hash: str


@dataclass(frozen=True, slots=True)
class ClaimSeen:
    """A claim that is final on chain.

    Attributes:
        claim_index: the contract's number.
        address: who claimed, in lower case.
        asset: the symbol.
        amount: base units.
        block_number: where.
        transaction_hash: by which transaction.
        settled_through: what the contract had settled when the claim was seen: the book is told of that first.
        exit_account: the account that left, and had that amount; 0: a claim.
    """

    claim_index: int
    address: str
    asset: str
    amount: int
    block_number: int
    transaction_hash: str
    settled_through: int
    exit_account: int = 0


@dataclass(frozen=True, slots=True)
class ExitSeen:
    """An owner's request to leave by the contract, or that it was taken back, final on chain."""

    exit_index: int
    account: int
    canceled: bool
    block_number: int
    transaction_hash: str


class DebtState(IntEnum):
    """What has become of a debt; the numbers are the journal's."""

    STORED = 0
    """Not journaled yet."""
    FROZEN = 1
    PAID = 2
    RESOLVED = 3


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What an account lacks for a leg that the contract refuses: base units of an asset, that insurance pays.

    `settlement_sequence` is the last entry of the batch in which it does.
    """

    account_id: int
    asset: str
    amount: int
    reason: str
    settlement_sequence: int


@dataclass(frozen=True, slots=True)
class Debt:
    """A shortfall that a stored batch settles against insurance.

    Attributes:
        debt_id: the number of its first note.
        batch_id: which batch; 0: the journal alone remembers it.
        shortfall: whose, and how much.
        state: the last that was noted of it here.
    """

    debt_id: int
    batch_id: int
    shortfall: Shortfall
    state: DebtState


@dataclass(frozen=True, slots=True)
class Note:
    """What the journal is to be told of a debt; numbered from 1 without gaps."""

    note_index: int
    debt_id: int
    state: DebtState
    shortfall: Shortfall


@dataclass(frozen=True, slots=True)
class Owner:
    """The wallet (0x and 40 lower-case hexadecimal digits) that opened an account, and so owns it on chain."""

    account_id: int
    address: str
