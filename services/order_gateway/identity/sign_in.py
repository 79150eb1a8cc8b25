"""Sign-in by wallet: a message to sign, and a session for whoever signed it.

Nothing is kept for a message that nobody has signed yet: its nonce holds a code that only this process can make of all
its fields. What is kept, for the minutes that it could come again, is which messages have been used.
"""

import datetime as dt
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from services.errors import Reason, Rejected
from services.order_gateway.accounts import Accounts
from services.order_gateway.identity.failures import Failures
from services.order_gateway.identity.issuer import Issued, Issuer
from services.order_gateway.identity.key_store import KeyStore, Link
from services.order_gateway.identity.replays import Replays
from services.order_gateway.identity.scopes import Scope
from services.order_gateway.identity.sign_in_counts import SignInCounts
from services.order_gateway.identity.sign_in_message import SignInMessage, parse
from services.order_gateway.identity.sign_ups import SignUps
from services.order_gateway.identity.wallet_signature import SIGNATURE_BYTES, signer
from services.order_gateway.identity.who import Visitor
from services.order_gateway.wallet_address import checksummed
from services.runtime.limits import of_ip

MESSAGE_SECONDS_MAX = 300
"""How long a message can be used."""
NONCE_BYTES = 8
CODE_BYTES = 16
NS_PER_SECOND, NS_PER_MS = 10**9, 10**6

_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Site:
    """What wallets are told that they sign in to."""

    domain: str
    uri: str
    chain_id: int


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody signed in."""

    issued: Issued
    user: str
    account_id: int


class SignIns:
    """Runs sign-ins.

    Args:
        site: as the messages name it.
        failures: counts wrong signatures by address. To look at one may cost milliseconds: unlike a key's, one from an
            address that has failed too often is not looked at.
        counts: counts all sign-ins, by address and by wallet.
        sign_ups: counts the accounts that strangers open.
        clock: nanoseconds since the epoch.
    """

    def __init__(
        self,
        site: Site,
        store: KeyStore,
        issuer: Issuer,
        accounts: Accounts,
        failures: Failures,
        counts: SignInCounts,
        sign_ups: SignUps,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._site, self._store, self._issuer, self._accounts = site, store, issuer, accounts
        self._failures, self._counts, self._sign_ups, self._clock = failures, counts, sign_ups, clock
        self._secret = secrets.token_bytes(32)
        self._used = Replays()

    def begin(self, address: str) -> tuple[str, int]:
        """The message to sign, and until when it can be used, in nanoseconds since the epoch.

        Raises:
            Rejected: INVALID_FIELD: no address.
        """
        wallet = _wallet(address)
        now = self._clock() // NS_PER_SECOND
        expires = now + MESSAGE_SECONDS_MAX
        site = self._site
        blank = SignInMessage(site.domain, wallet, site.uri, site.chain_id, "", _text(now), _text(expires))
        nonce = secrets.token_hex(NONCE_BYTES)
        return replace(blank, nonce=nonce + self._code(blank, nonce)).text(), expires * NS_PER_SECOND

    def _code(self, message: SignInMessage, nonce: str) -> str:
        blank = replace(message, nonce=nonce)
        return hmac.digest(self._secret, blank.text().encode(), "sha256")[:CODE_BYTES].hex()

    async def end(self, visitor: Visitor, text: str, signature: bytes, seconds: float) -> Session:
        """A session for whoever signed the message.

        Raises:
            Rejected: UNAUTHENTICATED, with one answer for whatever is wrong; ALREADY_EXISTS: the wallet is another's,
                or the account has another; PERMISSION_DENIED: the credential beside it may not link wallets, or
                the wallet was taken away; OVERLOADED: too many sign-ins, wrong ones, or new accounts.
        """
        asking = visitor.identity
        if asking is not None and not (asking.may(Scope.TRADE) and asking.may(Scope.WITHDRAW)):
            # Whoever signs in with the wallet later on may do both.
            raise Rejected(Reason.PERMISSION_DENIED, "to link a wallet takes the scopes TRADE and WITHDRAW")
        self._failures.check(of_ip(visitor.peer))
        self._counts.from_address(of_ip(visitor.peer))
        try:
            wallet = self._signer(text, signature)
        except Rejected:
            self._failures.note(of_ip(visitor.peer))
            raise
        self._counts.of_wallet(wallet)
        known = await self._store.link_of(wallet)
        if known is None and asking is None and await self._store.was_unlinked(wallet):
            raise Rejected(Reason.PERMISSION_DENIED, "the wallet was unlinked: link it again with a credential")
        user = asking.user if asking is not None else known.user if known is not None else wallet
        account_id = await self._account(user, asking is None, visitor.peer, seconds)
        link = known or Link(user, asking.key_id if asking is not None else "")
        if link.user != user or (known is None and not await self._store.link(wallet, link, self._clock())):
            raise Rejected(Reason.ALREADY_EXISTS, "the wallet is another account's, or the account has another wallet")
        granted = frozenset({Scope.READ, Scope.TRADE})
        if known is not None and visitor.peer:
            granted |= {Scope.WITHDRAW}
        issued = await self._issuer.open_session(user, granted, visitor.peer, asking, link.linked_by)
        if await self._store.link_of(wallet) != link:  # it was taken away meanwhile, and its sessions were ended
            await self._issuer.revoke(issued.key.key_id, user, alone=False)
            raise Rejected(Reason.UNAUTHENTICATED)
        return Session(issued, user, account_id)

    async def _account(self, user: str, stranger: bool, peer: str, seconds: float) -> int:
        """The account, opened if need be: for strangers, only so many a day."""
        if not stranger or self._accounts.has(user):
            return await self._accounts.open(user, seconds)
        address = of_ip(peer)
        self._sign_ups.take(address)
        try:
            return await self._accounts.open(user, seconds)
        except Rejected as rejected:
            if rejected.reason is not Reason.DEADLINE:  # then it may be opened yet
                self._sign_ups.give_back(address)
            raise

    async def unlink(self, user: str) -> str:
        """Takes a user's wallet away and ends the user's sessions; the wallet, in lower case.

        It signs in to nothing then, not even to an account of its own name, until somebody links it with a credential.

        Raises:
            Rejected: WALLET_NOT_FOUND.
        """
        wallet = await self._store.wallet_of(user)
        if wallet is None or not await self._store.unlink(wallet, user, self._clock()):
            raise Rejected(Reason.WALLET_NOT_FOUND)
        await self._issuer.end_sessions(user)
        return wallet

    def _signer(self, text: str, signature: bytes) -> str:
        """Who signed a message of ours, for the first time: an address in lower case.

        Only a right signature uses it up: what is remembered of a wallet is of its owner's making.
        """
        message = parse(text)
        if message is None or len(signature) != SIGNATURE_BYTES:
            raise Rejected(Reason.UNAUTHENTICATED)
        nonce, code = message.nonce[: 2 * NONCE_BYTES], message.nonce[2 * NONCE_BYTES :]
        if not hmac.compare_digest(code, self._code(message, nonce)):
            raise Rejected(Reason.UNAUTHENTICATED)
        expires_ms, now_ms = _milliseconds(message.expires_at), self._clock() // NS_PER_MS
        if now_ms >= expires_ms or signer(text, signature) != message.address:
            raise Rejected(Reason.UNAUTHENTICATED)
        wallet = message.address.lower()
        if not self._used.first(wallet, message.nonce.encode(), expires_ms, now_ms):
            raise Rejected(Reason.UNAUTHENTICATED)
        return wallet


def _wallet(text: str) -> str:
    try:
        return checksummed(text)
    except ValueError as error:
        raise Rejected(Reason.INVALID_FIELD, f"address {error}", "address") from None


def _text(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime(_TIME)


def _milliseconds(text: str) -> int:
    return int(dt.datetime.strptime(text, _TIME).replace(tzinfo=dt.UTC).timestamp()) * 1_000
