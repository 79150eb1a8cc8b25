"""What the journal's events make of everybody's money, counted afresh: for the audit, beside the gateway's own fold.

Two sums from one reading: what accounts have, and what the contract must hold for them at some settlement sequence.
"""

from collections import Counter, deque
from dataclasses import dataclass

from clearbook.internal.v1 import journal_pb2 as journal

from services.units import FEES_ACCOUNT, OUTSIDE_ACCOUNT, Asset

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
    """

    def __init__(self) -> None:
        self.totals: Counter[Key] = Counter()
        self.assets: dict[int, Asset] = {}
        self.final_through = self.settlement_sequence = self.deposits_through = self.claims_through = 0
        self._markets: dict[int, Key] = {}
        self._chain: Counter[Key] = Counter()
        self._behind: deque[tuple[int, Key, int]] = deque()
        """settlement_sequence, account and asset, amount: in `_chain` and not final."""
        self._deposits: list[tuple[int, Key, int]] = []
        self._withdrawals: list[tuple[int, ClaimKey, int]] = []
        self._claims: list[tuple[int, ClaimKey, int]] = []

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
            claim = event.claimed.claim
            self.claims_through = claim.claim_index
            self._claims.append((claim.claim_index, (claim.address, event.claimed.asset_id), int(claim.amount)))
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
                balances[key] -= amount
        for index, key, amount in reversed(self._deposits):
            if index <= deposits:
                break
            balances[key] -= amount
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
        """The chain credits whom the depositor named; if nobody has that account, an entry moves it on."""
        deposit, asset_id, amount = event.deposit, event.asset_id, int(event.deposit.amount)
        named = deposit.account_id, asset_id
        credited = event.credited_account_id or deposit.account_id, asset_id
        self.deposits_through = deposit.deposit_index
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

    def _move(self, giver: Key, receiver: Key, amount: int, number: int) -> None:
        for key, change in ((giver, -amount), (receiver, amount)):
            self.totals[key] += change
            self._mirror(key, change, number)

    def _mirror(self, key: Key, change: int, number: int) -> None:
        self.settlement_sequence = number
        self._chain[key] += change
        self._behind.append((number, key, change))
