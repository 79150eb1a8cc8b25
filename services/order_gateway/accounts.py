"""From an identity to a caller with an account: opened at the first request, in the journal, with its demo funds."""

from services.errors import Reason, Rejected
from services.order_gateway.faucet import Faucet
from services.order_gateway.identity.who import Caller, Identity
from services.order_gateway.ledger import SYSTEM_ACCOUNTS, Ledger
from services.order_gateway.model import OpenAccount
from services.order_gateway.session import Awaited, Session, outcome

NOBODY = 0
"""On whose behalf accounts are opened: all new users share one limit of commands in flight."""
ACCOUNTS_MAX = 1_000_000

assert NOBODY not in SYSTEM_ACCOUNTS.values(), "nobody has an account"


class Accounts:
    """Opens accounts."""

    def __init__(self, ledger: Ledger, session: Session, faucet: Faucet) -> None:
        self._ledger, self._session, self._faucet = ledger, session, faucet
        self._opening: dict[str, Awaited] = {}

    async def caller(self, identity: Identity, seconds: float) -> Caller:
        """The caller with its account.

        Raises:
            Rejected: NOT_TAKEN, OVERLOADED, DEADLINE; FAUCET_EMPTY while there are no demo funds for a new user.
        """
        account_id = self._ledger.account_ids.get(identity.user)
        if account_id is None:
            account_id = await self.open(identity.user, seconds)
        await self._faucet.funded(account_id)
        return Caller(identity, account_id)

    def caller_at_once(self, identity: Identity) -> Caller | None:
        """As `caller`; None where something has to be waited for."""
        account_id = self._ledger.account_ids.get(identity.user)
        return Caller(identity, account_id) if account_id is not None and self._faucet.is_funded(account_id) else None

    def has(self, user: str) -> bool:
        """Whether a user's account is open."""
        return user in self._ledger.account_ids

    async def open(self, user: str, seconds: float) -> int:
        """The account of a user, opened if need be: once, however many ask at the same time."""
        account_id = self._ledger.account_ids.get(user)
        if account_id is not None:
            return account_id
        flight = self._opening.get(user)
        if flight is None or flight.done.done():
            if len(self._ledger.account_ids) >= ACCOUNTS_MAX:
                raise Rejected(Reason.OVERLOADED, "no more accounts can be opened")
            flight = self._opening[user] = self._session.submit(OpenAccount(user), NOBODY)
            flight.done.add_done_callback(lambda _: self._opening.pop(user, None))
        try:
            await outcome(flight, seconds)
        except Rejected as rejected:
            if rejected.reason is not Reason.ALREADY_EXISTS:  # then somebody else opened it, and the fold has it
                raise
        return self._ledger.account_ids[user]
