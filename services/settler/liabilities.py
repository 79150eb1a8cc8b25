"""What the vault owes to whom, by the ledger: everything journaled, up to what the chain had settled. Pure.

Folded from three numbered rows of things, each without gaps: settled entries, deposits, and claims (exits among them).
At a block the contract tells how far it is in each of them; folded up to there, amount by amount, both must be equal.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from services.settler.batch import Entry, NewAsset, Withdrawal, moves

INSURANCE_ACCOUNT = "3"
"""To whom falls what an account that has left had still to settle."""


class Owed(NamedTuple):
    """Whose, and of what.

    Attributes:
        holder: an account's number, or the address (0x and 40 lower-case hexadecimal digits) that may claim.
        asset: its symbol.
    """

    holder: str
    asset: str

    @property
    def claimable(self) -> bool:
        """Whether it has left its account, and lies in the vault to be claimed."""
        return self.holder.startswith("0x")


class Through(NamedTuple):
    """How far: the last settlement sequence, and the contract's numbers of the last deposit and claim."""

    entries: int = 0
    deposits: int = 0
    claims: int = 0


NOTHING = Through()


@dataclass(frozen=True, slots=True)
class Credit:
    """A deposit as the journal has it."""

    index: int
    account_id: int
    asset: str
    amount: int


@dataclass(frozen=True, slots=True)
class Payout:
    """A claim by an address, or the exit of an account (then `exit_account` is not 0), as the journal has it."""

    index: int
    address: str
    asset: str
    amount: int
    exit_account: int = 0


class Liabilities:
    """Amounts in base units, and how far they go.

    Attributes:
        amounts: what is owed; what was once owed may be 0.
        through: how far.
        closed: accounts that have left by the contract.
        changed: what changed since it was last emptied.
    """

    def __init__(
        self, amounts: Mapping[Owed, int] | None = None, through: Through = NOTHING, closed: Collection[str] = ()
    ) -> None:
        self.amounts = dict(amounts or {})
        self.through = through
        self.closed = set(closed)
        self.changed: set[Owed] = set()

    def settle(self, entries: Iterable[Entry]) -> None:
        """Takes the entries that follow, in order."""
        for entry in entries:
            assert entry.settlement_sequence == self.through.entries + 1, "an entry is missing"
            body = entry.body
            if not isinstance(body, NewAsset):
                for move in moves(body):
                    self._add(Owed(str(move.account_id), move.asset), move.amount)
            if isinstance(body, Withdrawal):
                self._add(Owed(body.address, body.asset), body.amount)
            self.through = self.through._replace(entries=entry.settlement_sequence)

    def insure(self, account_id: int, asset: str, amount: int) -> None:
        """Takes what insurance has paid for an account that lacked it, in entries that are settled."""
        self._add(Owed(str(account_id), asset), amount)
        self._add(Owed(INSURANCE_ACCOUNT, asset), -amount)

    def credit(self, deposits: Iterable[Credit]) -> None:
        """Takes the deposits that follow, in order. The chain credits whom the depositor named."""
        for each in deposits:
            assert each.index == self.through.deposits + 1, "a deposit is missing"
            self._add(Owed(str(each.account_id), each.asset), each.amount)
            self.through = self.through._replace(deposits=each.index)

    def pay(self, payouts: Iterable[Payout]) -> None:
        """Takes the claims and exits that follow, in order."""
        for each in payouts:
            assert each.index == self.through.claims + 1, "a claim is missing"
            holder = str(each.exit_account) if each.exit_account else each.address
            self._add(Owed(holder, each.asset), -each.amount)
            if each.exit_account:
                self.closed.add(holder)
            self.through = self.through._replace(claims=each.index)

    def keep(self, owed: Owed, amount: int) -> None:
        """Says what a closed account has left on chain: the rest has fallen to insurance."""
        assert owed.holder in self.closed, "the account is open"
        rest = self.amounts.get(owed, 0) - amount
        self._add(owed, -rest)
        self._add(Owed(INSURANCE_ACCOUNT, owed.asset), rest)

    def by_holder(self, assets: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Who is owed anything, and how much of each of the assets."""
        places = {asset: place for place, asset in enumerate(assets)}
        found: dict[str, list[int]] = {}
        for owed, amount in self.amounts.items():
            if amount:
                found.setdefault(owed.holder, [0] * len(places))[places[owed.asset]] = amount
        return {holder: tuple(amounts) for holder, amounts in found.items()}

    def _add(self, owed: Owed, amount: int) -> None:
        if amount:
            self.amounts[owed] = self.amounts.get(owed, 0) + amount
            self.changed.add(owed)
