"""What the journal's events make of everybody's money, counted afresh: for the audit, beside the gateway's own fold.

Two sums from one reading: what accounts have, and what the contract must hold for them at some settlement sequence.
"""

from collections import Counter, deque
from dataclasses import dataclass

from clearbook.internal.v1 import journal_pb2 as journal

from services.units import FEES_ACCOUNT, INSURANCE_ACCOUNT, OUTSIDE_ACCOUNT, Asset

Key = tuple[int, int]
"""account_id, asset_id."""
ClaimKey = tuple[str, int]
"""address, asset_id."""


@dataclass(frozen=True, slots=True)
class OnChain:
    """What the contract must hold.

    Attributes:
        balances: by account and asset.
        claimable: by address and asset.
    """

    balances: dict[Key, int]
    claimable: dict[ClaimKey, int]


class JournalMoney:
    """The sums as of the last event applied.

    Attributes:
        totals: what each account has of each asset; `outside` owes what came in.
        assets: by id.
        final_through: the last settlement sequence that is final.
        deposits_through: the contract's number of the last deposit.
        claims_through: the contract's number of the last claim.
        notes: a line for whatever insurance had to answer for.
    """

    def __init__(self) -> None:
        self.totals: Counter[Key] = Counter()
        self.assets: dict[int, Asset] = {}
        self.final_through = self.settlement_sequence = self.deposits_through = self.claims_through = 0
        self.notes: list[str] = []
        self._markets: dict[int, Key] = {}
        self._chain: Counter[Key] = Counter()
        self._behind: deque[tuple[int, Key, int]] = deque()
        """settlement_sequence, account and asset, amount: in `_chain` and not final."""
        self._deposits: list[tuple[int, Key, int]] = []
        self._withdrawals: list[tuple[int, ClaimKey, int]] = []
        self._claims: list[tuple[int, ClaimKey, int]] = []
        self._exits: list[tuple[int, Key, int]] = []
        self._fallen: dict[Key, Key] = {}
        """Of accounts that have left: to whom falls what they have still to settle."""
        self._approved: dict[ClaimKey, deque[int]] = {}
        """What is withdrawn and not claimed, oldest first."""

    def apply(self, event: journal.Event) -> None:
        """Takes the next event."""
        kind = event.WhichOneof("kind")
        if kind == "order_placed":
            for trade in event.order_placed.trades:
                self._trade(event.order_placed.order, trade)
        elif kind == "orders_changed":
            for step in event.orders_changed.steps:
                for trade in step.trades:
                    self._trade(step.order, trade)
        elif kind == "transferred":
            move = event.transferred.transfer
            giver, receiver = (move.from_account_id, move.asset_id), (move.to_account_id, move.asset_id)
            self._move(giver, receiver, int(move.amount), event.transferred.settlement_sequence)
        elif kind == "deposited":
            self._deposit(event.deposited)
        elif kind == "withdrawal_approved":
            self._withdraw(event.withdrawal_approved)
        elif kind == "claimed":
            self._claim(event.claimed)
        elif kind == "debt_noted":
            self._note_debt(event.debt_noted)
        elif kind == "settlement_finalized":
            self.final_through = event.settlement_finalized.through_settlement_sequence
            while self._behind and self._behind[0][0] <= self.final_through:
                self._behind.popleft()
        elif kind == "asset_created":
            asset = event.asset_created.asset
            self.assets[asset.asset_id] = Asset(asset.asset_id, asset.symbol, asset.decimals)
        elif kind == "market_created":
            market = event.market_created.market
            self._markets[market.market_id] = market.base_asset_id, market.quote_asset_id

    def on_chain(self, through: int, deposits: int, claims: int) -> OnChain:
        """What the contract must hold once it has settled `through`, and taken so many deposits and claims.

        Args:
            through: not before `final_through`.
            deposits: a count of the contract's.
            claims: likewise.
        """
        assert through >= self.final_through, f"{through} is behind {self.final_through}"
        balances = Counter(self._chain)
        for number, key, amount in self._behind:
            if number > through:
                balances[self._fallen.get(key, key)] -= amount
        for index, key, amount in reversed(self._deposits):
            if index <= deposits:
                break
            balances[key] -= amount
        for index, key, amount in reversed(self._exits):
            if index <= claims:
                break
            balances[key] += amount
        claimable: Counter[ClaimKey] = Counter()
        for number, claim_key, amount in self._withdrawals:
            claimable[claim_key] += amount if number <= through else 0
        for index, claim_key, amount in self._claims:
            claimable[claim_key] -= amount if index <= claims else 0
        return OnChain(dict(balances), dict(claimable))

    def _trade(self, taker: journal.Order, trade: journal.Trade) -> None:
        base, quote = self._markets[taker.market_id]
        mine, theirs, number = taker.account_id, trade.maker_account_id, trade.settlement_sequence
        buys = taker.side == journal.SIDE_BUY
        buyer, seller = (mine, theirs) if buys else (theirs, mine)
        self._move((seller, base), (buyer, base), int(trade.base_amount), number)
        self._move((buyer, quote), (seller, quote), int(trade.quote_amount), number)
        gets, they_get = (base, quote) if buys else (quote, base)
        self._move((mine, gets), (FEES_ACCOUNT, gets), int(trade.taker_fee or 0), number)
        self._move((theirs, they_get), (FEES_ACCOUNT, they_get), int(trade.maker_fee or 0), number)

    def _deposit(self, event: journal.Deposited) -> None:
        """The chain credits whom the depositor named; if nobody has that account, an entry moves it on.

        Without an entry: the named account had taken it by the contract before, and insurance owed it since.
        """
        deposit, asset_id, amount = event.deposit, event.asset_id, int(event.deposit.amount)
        named = deposit.account_id, asset_id
        credited = event.credited_account_id or deposit.account_id, asset_id
        self.deposits_through = deposit.deposit_index
        if event.credited_account_id and not event.settlement_sequence:
            self._note(f"deposit {deposit.deposit_index} is told after account {named[0]} has left", amount, asset_id)
            named = credited
        self._deposits.append((deposit.deposit_index, named, amount))
        self.totals[OUTSIDE_ACCOUNT, asset_id] -= amount
        self.totals[credited] += amount
        self._chain[named] += amount
        if event.settlement_sequence:
            self._mirror(named, -amount, event.settlement_sequence)
            self._mirror(credited, amount, event.settlement_sequence)

    def _withdraw(self, event: journal.WithdrawalApproved) -> None:
        asked, number = event.withdrawal.request, event.settlement_sequence
        key, amount = (asked.account_id, asked.asset_id), int(asked.amount)
        self.totals[key] -= amount
        self.totals[OUTSIDE_ACCOUNT, asked.asset_id] += amount
        self._mirror(key, -amount, number)
        self._withdrawals.append((number, (asked.address, asked.asset_id), amount))
        self._approved.setdefault((asked.address, asked.asset_id), deque()).append(amount)

    def _claim(self, event: journal.Claimed) -> None:
        """A claim; or an exit: then what the account had still to settle is insurance's."""
        claim, asset_id, amount = event.claim, event.asset_id, int(event.claim.amount)
        self.claims_through = claim.claim_index
        if not claim.exit_account_id:
            self._claims.append((claim.claim_index, (claim.address, asset_id), amount))
            self._back(claim, asset_id, amount)
            return
        key, insurance = (claim.exit_account_id, asset_id), (INSURANCE_ACCOUNT, asset_id)
        rest, self.totals[key] = self.totals[key] - amount, 0
        self.totals[insurance] += rest
        self.totals[OUTSIDE_ACCOUNT, asset_id] += amount
        self._exits.append((claim.claim_index, key, amount))
        self._fallen[key] = insurance
        self._chain[key] -= amount + rest
        self._chain[insurance] += rest

    def _back(self, claim: journal.ClaimFinal, asset_id: int, left: int) -> None:
        """Takes the oldest withdrawals that the claim can be. What it is more is insurance's."""
        waiting = self._approved.get((claim.address, asset_id), deque())
        while waiting and waiting[0] <= left:
            left -= waiting.popleft()
        if left:
            self._note(f"claim {claim.claim_index} by {claim.address} is of what no withdrawal backs", left, asset_id)
            self.totals[INSURANCE_ACCOUNT, asset_id] -= left
            self.totals[OUTSIDE_ACCOUNT, asset_id] += left
            self._chain[INSURANCE_ACCOUNT, asset_id] -= left

    def _note_debt(self, event: journal.DebtNoted) -> None:
        """Insurance has paid on chain, by a batch that is final, what the account there could not."""
        note, asset_id = event.note, event.asset_id
        if note.state != journal.DEBT_STATE_PAID:
            return
        amount = int(note.amount)
        self._note(f"debt {note.debt_id}: insurance has paid for account {note.account_id}", amount, asset_id)
        for key, change in (((INSURANCE_ACCOUNT, asset_id), -amount), ((note.account_id, asset_id), amount)):
            self.totals[key] += change
            self._chain[key] += change

    def _note(self, what: str, amount: int, asset_id: int) -> None:
        asset = self.assets.get(asset_id)
        self.notes.append(
            f"{what}: {amount} units" if asset is None else f"{what}: {asset.format(amount)} {asset.symbol}"
        )

    def _move(self, giver: Key, receiver: Key, amount: int, number: int) -> None:
        for key, change in ((giver, -amount), (receiver, amount)):
            self.totals[key] += change
            self._mirror(key, change, number)

    def _mirror(self, key: Key, change: int, number: int) -> None:
        self.settlement_sequence = number
        self._chain[key] += change
        self._behind.append((number, key, change))
