"""The gate: every call passes here before its handler, and the handler is given who came through."""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from services.errors import Reason, Rejected
from services.order_gateway.accounts import Accounts
from services.order_gateway.call import Call
from services.order_gateway.identity.authenticator import Authenticator
from services.order_gateway.identity.keyring import Keyring
from services.order_gateway.identity.who import Caller, Identity, Visitor
from services.order_gateway.limits import ONE_REQUEST, Limits, Weight
from services.order_gateway.methods import Access
from services.runtime.run import Closing

Admitted = Caller | Identity | Visitor | None


class Gate:
    """Admits calls.

    Args:
        authenticator: who is calling.
        keyring: until when they may.
        limits: how often.
        accounts: opens the account of somebody new.
        may_serve: whether what the fold says can be relied on: it has caught up with the book once, and adds up.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        keyring: Keyring,
        limits: Limits,
        accounts: Accounts,
        may_serve: Callable[[], bool],
    ) -> None:
        self._authenticator, self._keyring, self._limits = authenticator, keyring, limits
        self._accounts, self._may_serve = accounts, may_serve

    async def admit(self, call: Call, access: Access, weight: Weight = ONE_REQUEST) -> Admitted:
        """Who the handler acts for: see Access.

        Raises:
            Rejected: RATE_LIMITED, TOO_LARGE, NOT_TAKEN, UNAUTHENTICATED, PERMISSION_DENIED; what opening an account
                may raise.
        """
        self._limits.arrived(call)
        if access is Access.PUBLIC:
            return None
        if not self._may_serve():
            raise _does_not_serve()
        if access is Access.ANYBODY and call.session is None and not self._authenticator.names_somebody(call):
            return Visitor(None, call.peer)
        identity = await self.identify(call)
        if access is Access.ANYBODY:
            self._limits.identified(call, identity.user, weight)
            return Visitor(identity, call.peer)
        self._check(call, identity, access, weight)
        return await self._accounts.caller(identity, call.seconds) if access.of_account else identity

    def admit_at_once(
        self, call: Call, access: Access, weight: Weight = ONE_REQUEST
    ) -> Caller | Coroutine[Any, Any, Caller]:
        """As `admit`, to a method of an account; where something has to be waited for, that comes back to be awaited.

        Raises:
            Rejected: as `admit`.
        """
        self._limits.arrived(call)
        if not self._may_serve():
            raise _does_not_serve()
        identity = call.session or self._authenticator.identify_at_once(call)
        if identity is None:
            return self._admit_anew(call, access, weight)
        self._check(call, identity, access, weight)
        return self._accounts.caller_at_once(identity) or self._accounts.caller(identity, call.seconds)

    async def _admit_anew(self, call: Call, access: Access, weight: Weight) -> Caller:
        identity = await self._authenticator.identify_anew(call)
        self._check(call, identity, access, weight)
        return await self._accounts.caller(identity, call.seconds)

    def _check(self, call: Call, identity: Identity, access: Access, weight: Weight) -> None:
        """Refuses (RATE_LIMITED, TOO_LARGE, PERMISSION_DENIED) what this caller may not."""
        self._limits.identified(call, identity.user, weight)
        if not identity.may(access.scope):
            raise Rejected(Reason.PERMISSION_DENIED, f"the credential has not the scope {access.scope.name}")

    def count(self, call: Call, caller: Caller, weight: Weight) -> None:
        """Counts what comes on a stream after it was admitted.

        Raises:
            Rejected: RATE_LIMITED, TOO_LARGE, NOT_TAKEN.
        """
        if not self._may_serve():
            raise _does_not_serve()
        self._limits.identified(call, caller.user, weight)

    async def identify(self, call: Call) -> Identity:
        """Who calls. A signature is good once: who needs to know twice keeps the answer in `call.session`.

        Raises:
            Rejected: RATE_LIMITED, NOT_TAKEN, UNAUTHENTICATED, PERMISSION_DENIED.
        """
        return call.session or await self._authenticator.identify(call)

    @contextmanager
    def while_open(self, call: Call, who: Admitted) -> Iterator[Closing]:
        """While a stream is open, see `while_good`; one of somebody unknown counts for its address.

        Raises:
            Rejected: OVERLOADED, UNAUTHENTICATED.
        """
        if _identity(who) is None:
            with self._limits.stream(call):
                yield Closing()
            return
        with self.while_good(who) as closing:
            yield closing

    @contextmanager
    def while_good(self, who: Admitted) -> Iterator[Closing]:
        """While a stream is open: set as soon as the credential that opened it is no longer good."""
        identity = _identity(who)
        if identity is None or not identity.key_id:
            yield Closing()  # nothing to lose
            return
        with self._keyring.stream(identity.key_id) as closing:
            yield closing


def _identity(who: Admitted) -> Identity | None:
    return who.identity if isinstance(who, Caller | Visitor) else who


def _does_not_serve() -> Rejected:
    return Rejected(Reason.NOT_TAKEN, "the gateway does not serve now; send again with the same id")
