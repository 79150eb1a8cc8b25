"""What operators do: assets, markets, grants, tokens."""

import asyncio
import time

from services.errors import Reason, Rejected
from services.order_gateway.accounts import Accounts
from services.order_gateway.auth import TokenAuthenticator, new_token, token_hash
from services.order_gateway.budget import insufficient
from services.order_gateway.ledger import Ledger, Reservation
from services.order_gateway.model import (
    ChangeMarket,
    CommandBody,
    CreateAsset,
    CreateMarket,
    Transfer,
    Transferred,
)
from services.order_gateway.session import Session, outcome, refusal
from services.order_gateway.store import Store, StoredTransfer
from services.units import FAUCET_ACCOUNT, Asset, Market

OPERATOR = -1
"""On whose behalf operators' commands count as in flight."""


class Admin:
    """AdminService without its wire.

    Args:
        tokens: learns of new tokens; None where identity needs none.
    """

    def __init__(
        self,
        ledger: Ledger,
        session: Session,
        store: Store,
        accounts: Accounts,
        tokens: TokenAuthenticator | None,
    ) -> None:
        self._ledger, self._session, self._store, self._accounts = ledger, session, store, accounts
        self._tokens = tokens
        self._grants: dict[str, tuple[Transfer, asyncio.Task[int]]] = {}
        """On their way, the look into the database included: so that two of one id cannot both find nothing there."""

    async def create_asset(self, asked: CreateAsset, seconds: float) -> None:
        """Makes an asset. Raises Rejected: ALREADY_EXISTS if there is another of that symbol."""
        if not self._has_asset(asked):
            try:
                await self._run(asked, seconds)
            except Rejected as rejected:
                if rejected.reason is not Reason.ALREADY_EXISTS or not self._has_asset(asked):
                    raise

    def _has_asset(self, asked: CreateAsset) -> bool:
        known = self._ledger.assets_by_symbol.get(asked.symbol)
        if known is not None and known.decimals != asked.decimals:
            raise Rejected(Reason.ALREADY_EXISTS, f"{known.symbol} exists with {known.decimals} decimals", "decimals")
        return known is not None

    async def create_market(self, asked: Market, seconds: float) -> None:
        """Makes a market. Raises Rejected: ALREADY_EXISTS if there is another of that symbol."""
        if not self._has_market(asked):
            try:
                await self._run(CreateMarket(asked), seconds)
            except Rejected as rejected:
                if rejected.reason is not Reason.ALREADY_EXISTS or not self._has_market(asked):
                    raise

    def _has_market(self, asked: Market) -> bool:
        known = self._ledger.markets_by_symbol.get(asked.symbol)
        if known is None:
            return False
        if (known.tick, known.lot, known.notional_min) != (asked.tick, asked.lot, asked.notional_min):
            raise Rejected(
                Reason.ALREADY_EXISTS,
                f"{known.symbol} exists with tick size {known.format_price(1)}, lot size {known.format_quantity(1)} "
                f"and least notional {known.quote.format(known.notional_min)}",
                "market",
            )
        return True

    async def set_market_state(self, market: Market, seconds: float, *, halted: bool) -> None:
        """Halts or opens a market."""
        if self._ledger.books[market.market_id].halted != halted:
            await self._run(ChangeMarket(market.market_id, halted), seconds)

    async def grant(self, transfer_id: str, user: str, asset: Asset, amount: int, seconds: float) -> int:
        """Moves funds from the faucet to a user; returns the settlement_sequence.

        Raises:
            Rejected: INSUFFICIENT_FUNDS (the faucet's), ALREADY_EXISTS if the id moved something else.
        """
        account_id = await self._accounts.open(user, seconds)
        move = Transfer(transfer_id, FAUCET_ACCOUNT, account_id, asset.asset_id, amount)
        if transfer_id not in self._grants:
            making = asyncio.create_task(self._make_grant(move, asset), name="grant")
            self._grants[transfer_id] = (move, making)
            making.add_done_callback(lambda _: self._grants.pop(transfer_id))
            making.add_done_callback(lambda made: made.cancelled() or made.exception())  # perhaps nobody waits
        asked, making = self._grants[transfer_id]
        if asked != move:
            raise _reused(transfer_id)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(making)
        except TimeoutError:
            raise Rejected(Reason.DEADLINE) from None

    async def _make_grant(self, move: Transfer, asset: Asset) -> int:
        """Finds the transfer, or makes it; returns its settlement_sequence."""
        done = await self._store.transfer(move.transfer_id)
        if done is not None:
            return _same(done, move).settlement_sequence
        available = self._ledger.balance(FAUCET_ACCOUNT, asset.asset_id).available
        if available < move.amount:
            raise insufficient(asset, move.amount, available)
        flight = self._session.submit(move, OPERATOR, Reservation(FAUCET_ACCOUNT, asset.asset_id, move.amount))
        change = await asyncio.shield(flight.done)  # however long: an outcome that is not known yet is still one grant
        refused = refusal(change)
        if refused is not None:
            raise refused
        assert isinstance(change.body, Transferred), f"{change.body} answers a Transfer"
        return change.body.settlement_sequence

    async def create_token(self, user: str, *, admin: bool) -> str:
        """A new bearer token. Durable, and good from now on."""
        token = new_token()
        hashed = token_hash(token)
        await self._store.add_token(hashed, user, admin=admin, create_ns=time.time_ns())
        if self._tokens is not None:
            self._tokens.learn(hashed, user, admin=admin)
        return token

    async def _run(self, body: CommandBody, seconds: float) -> None:
        await outcome(self._session.submit(body, OPERATOR), seconds)


def _same(done: StoredTransfer, asked: Transfer) -> StoredTransfer:
    if done.transfer != asked:
        raise _reused(asked.transfer_id)
    return done


def _reused(transfer_id: str) -> Rejected:
    return Rejected(Reason.ALREADY_EXISTS, f"transfer {transfer_id} has moved something else", "transfer_id")
