"""Demo funds: what every user is given once, out of account `faucet`, as soon as it has it.

A grant is a Transfer whose id is its name, `faucet:{account}:{asset}`: what the fold has seen of these ids is the
memory of what was given, so a grant is made exactly once, through restarts and lost sessions.
"""

import asyncio
from collections.abc import Container, Iterable, Mapping
from functools import partial

from services.errors import Reason, Rejected
from services.order_gateway.ledger import Change, Ledger, Reservation
from services.order_gateway.model import AccountOpened, AssetCreated, Deposited, ExitRequested, Transfer, Transferred
from services.order_gateway.session import Session, refusal
from services.order_gateway.transfer_ids import of_grant
from services.runtime import log, metrics
from services.units import FAUCET_ACCOUNT, FIRST_USER_ACCOUNT, Asset, FixedPoint

REASON = "demo funds"
"""As its owner sees it among the transfers."""
WAIT_SECONDS_MAX = 10.0
GRANTS_IN_FLIGHT_MAX = 256

_granted = metrics.counter("gateway_faucet_grants", "Grants of demo funds.", ["asset"])
_owed = metrics.gauge("gateway_faucet_owed", "Grants of demo funds yet to be made.")

logger = log.get("faucet")


def parse_grants(text: str) -> dict[str, str]:
    """Reads "BTC=100,USD=10000000" as amounts in whole units by asset symbol.

    Raises:
        ValueError: it is not of that form.
    """
    grants = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        symbol, equals, amount = item.partition("=")
        try:
            fine = bool(equals and symbol and FixedPoint.parse(amount, symbol).coefficient) and symbol not in grants
        except Rejected as error:
            raise ValueError(f'must be like "BTC=100,USD=10000000": {error.message}') from None
        if not fine:
            raise ValueError(f'must be like "BTC=100,USD=10000000", not "{text}"')
        grants[symbol] = amount
    return grants


class Faucet:
    """Gives what is owed. Hears every change of the fold.

    Args:
        ledger: the fold.
        session: the way into the book.
        grants: amounts in whole units by asset symbol; empty: no demo funds.
        given: ids of the grants that the journal holds already.
    """

    def __init__(
        self, ledger: Ledger, session: Session, grants: Mapping[str, str], given: Iterable[tuple[int, str]] = ()
    ) -> None:
        self._ledger, self._session = ledger, session
        self._grants = dict(grants)
        self._owed: dict[str, dict[int, None]] = {symbol: {} for symbol in grants}
        """By asset, whom it is owed, in the order in which they came; not those in flight."""
        self._flying: set[tuple[str, int]] = set()
        self._welcomed: set[int] = set()
        """Those who have had something, or have waited for it: they do not wait again."""
        self._waiting: dict[int, asyncio.Event] = {}
        self._wake = asyncio.Event()
        done = set(given)
        self._welcomed.update(account_id for account_id, _ in done)
        for account_id in ledger.account_ids.values():
            if account_id >= FIRST_USER_ACCOUNT:
                self._owe(account_id, done)

    # What it hears.

    def tell(self, change: Change) -> None:
        """Learns of accounts, assets, deposits and grants."""
        if not self._grants:
            return
        match change.body:
            case AccountOpened(account_id):
                self._owe(account_id)
            case Transferred(move):
                self._made(move)
            case Deposited() | AssetCreated() | ExitRequested():
                self._wake.set()

    def session_changed(self, is_open: bool) -> None:
        """A new session: what the last one lost is tried again."""
        if is_open:
            self._wake.set()

    def _owe(self, account_id: int, done: Container[tuple[int, str]] = ()) -> None:
        for symbol, owed in self._owed.items():
            if (account_id, of_grant(account_id, symbol)) not in done:
                owed[account_id] = None
                _owed.inc()
        self._wake.set()

    def _made(self, move: Transfer) -> None:
        """A transfer of whatever kind is in the journal: perhaps a grant, perhaps more for the faucet."""
        if move.to_account_id == FAUCET_ACCOUNT:
            self._wake.set()
        symbol = self._ledger.assets[move.asset_id].symbol
        account_id = move.to_account_id
        if symbol not in self._grants or move.transfer_id != of_grant(account_id, symbol):
            return
        if (symbol, account_id) in self._flying or account_id in self._owed[symbol]:
            _owed.dec()
        self._flying.discard((symbol, account_id))
        self._owed[symbol].pop(account_id, None)
        _granted.labels(symbol).inc()
        if account_id in self._waiting and not self._owes(account_id):
            self._waiting.pop(account_id).set()

    # What it does.

    def is_funded(self, account_id: int) -> bool:
        """Whether `funded` would return at once."""
        return account_id in self._welcomed or not self._grants

    async def funded(self, account_id: int) -> None:
        """Waits until a new user has the demo funds of all assets that there are; returns at once for others.

        Raises:
            Rejected: FAUCET_EMPTY when that takes longer than WAIT_SECONDS_MAX. What is owed stays owed, and is not
                waited for again: the user may have funds from elsewhere.
        """
        if self.is_funded(account_id):
            return
        if self._owes(account_id):
            funded = self._waiting.setdefault(account_id, asyncio.Event())
            try:
                async with asyncio.timeout(WAIT_SECONDS_MAX):
                    await funded.wait()
            except TimeoutError:
                self._welcomed.add(account_id)
                raise Rejected(Reason.FAUCET_EMPTY) from None
            self._waiting.pop(account_id, None)
        self._welcomed.add(account_id)

    async def run(self) -> None:
        """Makes grants as they can be made, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for symbol, owed in list(self._owed.items()):
                asset = self._ledger.assets_by_symbol.get(symbol)
                if asset is not None and owed:
                    self._pay(asset, owed)

    def _pay(self, asset: Asset, owed: dict[int, None]) -> None:
        """Submits what the faucet can pay of one asset now."""
        try:
            amount = asset.parse(self._grants[asset.symbol], "FAUCET_GRANTS")
        except Rejected as rejected:
            self._give_up(asset.symbol, rejected.message)
            return
        balance = self._ledger.balance(FAUCET_ACCOUNT, asset.asset_id)
        while owed and balance.available >= amount and len(self._flying) < GRANTS_IN_FLIGHT_MAX:
            account_id = next((each for each in owed if each not in self._ledger.leaving), None)
            if account_id is None:
                return  # those who are left leave: nothing begins in their accounts
            grant = (asset.symbol, account_id)
            name = of_grant(account_id, asset.symbol)
            move = Transfer(name, FAUCET_ACCOUNT, account_id, asset.asset_id, amount, REASON)
            try:
                flight = self._session.submit(move, FAUCET_ACCOUNT, Reservation(FAUCET_ACCOUNT, asset.asset_id, amount))
            except Rejected as rejected:
                logger.info("grants wait", why=rejected.reason.name, asset=asset.symbol, owed=len(owed))
                return
            del owed[account_id]
            self._flying.add(grant)
            flight.done.add_done_callback(partial(self._landed, grant))

    def _give_up(self, symbol: str, why: str) -> None:
        """An amount that is no whole number of this asset's base units: nobody is given any, nobody waits for it."""
        logger.error("no demo funds of this asset", asset=symbol, why=why)
        _owed.dec(len(self._owed[symbol]))
        del self._grants[symbol], self._owed[symbol]
        for account_id, funded in self._waiting.items():
            if not self._owes(account_id):
                funded.set()

    def _landed(self, grant: tuple[str, int], done: "asyncio.Future[Change]") -> None:
        """A grant is no longer in flight; `tell` has heard of it if it was made."""
        self._wake.set()
        if grant not in self._flying:
            return
        self._flying.discard(grant)
        if not done.cancelled() and done.exception() is None:
            refused = refusal(done.result())
            logger.error("the book refused a grant", grant=grant, why=refused and refused.reason.name)
            return
        symbol, account_id = grant
        self._owed[symbol][account_id] = None

    def _owes(self, account_id: int) -> bool:
        """Whether something of the assets that there are is still owed."""
        return any(
            symbol in self._ledger.assets_by_symbol and (account_id in owed or (symbol, account_id) in self._flying)
            for symbol, owed in self._owed.items()
        )
