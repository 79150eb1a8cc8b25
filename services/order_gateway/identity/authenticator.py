"""Who is calling: from a call's credentials to an Identity, with one answer for all that are not good.

Every request passes here, without I/O unless its credential is not good.
"""

import time
from collections.abc import Callable

from services.errors import Reason, Rejected
from services.order_gateway.call import Call
from services.order_gateway.identity.failures import Failures
from services.order_gateway.identity.key import KeyKind
from services.order_gateway.identity.keyring import Keyring
from services.order_gateway.identity.proof import nobodys, token_hash
from services.order_gateway.identity.replays import Replays
from services.order_gateway.identity.scopes import ACCOUNT_SCOPES, Scope
from services.order_gateway.identity.signing import AHEAD_MS_MAX, API_KEY, Claim, grpc_claim, is_fresh, rest_claim
from services.order_gateway.identity.who import ADMIN_USER, Identity, checked_user
from services.runtime.limits import of_ip
from services.runtime.metadata import AUTHORIZATION_KEY, USER_KEY

NS_PER_MS = 10**6

_BEARER = "bearer "


class Authenticator:
    """Identifies callers.

    Args:
        keyring: the keys that are good.
        open_mode: believes whoever names a user and shows no credential: for one's own machine only.
        audience: what gRPC signatures must be meant for.
        failures: counts wrong credentials by address.
        clock: nanoseconds since the epoch. What was signed before it was first read is refused: whether it was used
            before is not known.
    """

    def __init__(
        self,
        keyring: Keyring,
        failures: Failures,
        *,
        open_mode: bool,
        audience: str,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._keyring, self._failures = keyring, failures
        self._open, self._audience, self._clock = open_mode, audience, clock
        self._replays, self._nobodys = Replays(), nobodys()
        self._started_ms = clock() // NS_PER_MS

    def seconds_to_wait(self) -> float:
        """Until what is signed from then on can be told from what an earlier process may have taken."""
        return max(self._started_ms + AHEAD_MS_MAX - self._clock() // NS_PER_MS, 0) / 1_000

    def offers_credential(self, call: Call) -> bool:
        """Whether the call shows something to be judged, and does not just name a user."""
        metadata = call.metadata
        if call.signed is not None or call.signature or API_KEY in metadata:
            return True
        given = metadata.get(AUTHORIZATION_KEY, "")
        return bool(given) and (not self._open or _bearer_token(given) != "")

    def names_somebody(self, call: Call) -> bool:
        """Whether the call says in any way who makes it."""
        return self.offers_credential(call) or (self._open and bool(call.metadata.get(USER_KEY)))

    async def identify(self, call: Call) -> Identity:
        """Who is calling.

        Raises:
            Rejected: UNAUTHENTICATED, with one answer for whatever is wrong; PERMISSION_DENIED for a good credential
                with another user's name; OVERLOADED for a wrong one from an address that has failed too often.
        """
        return self.identify_at_once(call) or await self.identify_anew(call)

    def identify_at_once(self, call: Call) -> Identity | None:
        """As `identify`; None: only `identify_anew` can tell, and nothing counted yet."""
        if not self.offers_credential(call):
            return self._named(call)
        identity = self._judged(call)
        return None if identity is None else self._used(call, identity)

    async def identify_anew(self, call: Call) -> Identity:
        """As `identify`, of a credential that is not good as far as memory knows."""
        return self._used(call, await self._judged_anew(call))

    def _used(self, call: Call, identity: Identity) -> Identity:
        self._keyring.use(identity.key_id, self._clock())
        # The shim always names one, the documented user_id: acting for another than it says would surprise.
        if call.metadata.get(USER_KEY) not in {None, "", identity.user}:
            raise Rejected(Reason.PERMISSION_DENIED, f"the credential is not of the user in {USER_KEY}", USER_KEY)
        return identity

    async def _judged_anew(self, call: Call) -> Identity:
        """Who shows a credential that is not known here, once the database has been asked.

        Who has failed too often has no look into it: one judgement in memory is all that a failure costs. It counts as
        a failure before the look: of one address only so many wait, however long the database takes.
        """
        address = of_ip(call.peer)
        self._failures.check(address)
        self._failures.note(address)
        identity = self._judged(call) if await self._keyring.look_again() else None
        if identity is None:
            raise Rejected(Reason.UNAUTHENTICATED)
        self._failures.take_back(address)
        return identity

    def _named(self, call: Call) -> Identity:
        """Open mode's way."""
        if not self._open:
            raise Rejected(Reason.UNAUTHENTICATED)
        name = call.metadata.get(USER_KEY, "")
        if not name:
            raise Rejected(Reason.UNAUTHENTICATED, f"metadata {USER_KEY} is missing: it names the user")
        scopes = ACCOUNT_SCOPES | {Scope.ADMIN} if name == ADMIN_USER else ACCOUNT_SCOPES
        return Identity(checked_user(name, USER_KEY), scopes, peer=call.peer)

    def _judged(self, call: Call) -> Identity | None:
        """Who shows a credential; None if it is not good."""
        if call.signed is not None:
            signed = call.signed
            return self._signed(
                rest_claim(signed.key_id, signed.payload, signed.query_bytes, signed.signature), call.peer
            )
        if call.signature or API_KEY in call.metadata:
            claim = grpc_claim(call.metadata, call.signature, call.method, call.request, self._audience)
            return self._signed(claim, call.peer)
        return self._shown(_bearer_token(call.metadata.get(AUTHORIZATION_KEY, "")), call.peer)

    def _signed(self, claim: Claim | None, peer: str) -> Identity | None:
        if claim is None:
            return None
        keyring, now_ns = self._keyring, self._clock()
        now_ms = now_ns // NS_PER_MS
        # All of it is worked out before any of it counts: how long it takes tells nothing of what is wrong.
        verify = keyring.verifier_of(claim.key_id, claim.kind)
        right = (verify or self._nobodys[claim.kind])(claim.signature, claim.payload)
        fresh = is_fresh(claim.timestamp_ms, claim.recv_window_ms, now_ms) and claim.timestamp_ms >= self._started_ms
        identity = self._identity(claim.key_id, now_ns, peer, claim.made_id())
        if verify is None or not right or not fresh or identity is None:
            return None
        if claim.timestamp_ms < self._started_ms + AHEAD_MS_MAX:
            # Its clock may be ahead: then the process before this one may have taken it.
            raise Rejected(Reason.NOT_TAKEN, "the gateway has just started; sign anew and send again")
        if not self._replays.first(claim.key_id, claim.once, claim.fresh_through_ms, now_ms):
            return None
        return identity

    def _shown(self, token: str, peer: str) -> Identity | None:
        proof = token_hash(token)
        key_id = self._keyring.shown(proof)
        key = self._keyring.get(key_id)
        # Found by its hash, compared in constant time: what can be timed tells nothing of a token.
        kind = key.kind if key is not None else KeyKind.BEARER
        verify = self._keyring.verifier_of(key_id, kind)
        right = (verify or self._nobodys[kind])(proof, b"")
        return self._identity(key_id, self._clock(), peer) if verify is not None and right else None

    def _identity(self, key_id: str, now_ns: int, peer: str, made_id: str = "") -> Identity | None:
        key = self._keyring.get(key_id)
        if key is None or not key.good(now_ns, peer):
            return None
        return Identity(key.user, key.scopes, key_id, peer, made_id)


def _bearer_token(authorization: str) -> str:
    """The token of `Bearer …`; "" for another scheme."""
    return authorization[len(_BEARER) :].strip() if authorization[: len(_BEARER)].lower() == _BEARER else ""
